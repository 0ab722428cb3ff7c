#include "http/connection_threads.hpp"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

namespace coordinator {

struct connection_threads::shared {
  explicit shared(settings s) : options(s) {}

  const settings options;
  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable ended;
  std::deque<std::function<void()>> queue;  ///< Never longer than the number of idle threads.
  std::size_t threads = 0;
  std::size_t idle = 0;
  bool closing = false;
};

namespace {

struct start {
  std::shared_ptr<void> shared;
  std::function<void()> task;
};

}  // namespace

connection_threads::connection_threads(settings s) : shared_(std::make_shared<shared>(s)) {}

connection_threads::~connection_threads() {
  std::unique_lock lock{shared_->mutex};
  shared_->closing = true;
  shared_->work.notify_all();
  shared_->ended.wait(lock, [this] { return shared_->threads == 0; });
}

bool connection_threads::run(std::function<void()> task) {
  {
    std::lock_guard lock{shared_->mutex};
    if (shared_->idle > shared_->queue.size()) {
      shared_->queue.push_back(std::move(task));
      shared_->work.notify_one();
      return true;
    }
    if (shared_->threads >= shared_->options.limit)
      return false;
    ++shared_->threads;
  }
  auto argument = std::make_unique<start>(start{shared_, std::move(task)});
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, shared_->options.stack_bytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  auto failed = pthread_create(&thread, &attributes, &connection_threads::entry, argument.get()) != 0;
  pthread_attr_destroy(&attributes);
  if (failed) {
    std::lock_guard lock{shared_->mutex};
    --shared_->threads;
    shared_->ended.notify_all();
    return false;
  }
  (void)argument.release();
  return true;
}

std::size_t connection_threads::size() const {
  std::lock_guard lock{shared_->mutex};
  return shared_->threads;
}

void* connection_threads::entry(void* argument) {
  std::unique_ptr<start> s{static_cast<start*>(argument)};
  work(std::static_pointer_cast<shared>(s->shared), std::move(s->task));
  return nullptr;
}

void connection_threads::work(const std::shared_ptr<shared>& s, std::function<void()> task) {
  for (;;) {
    task();
    task = nullptr;
    std::unique_lock lock{s->mutex};
    ++s->idle;
    s->work.wait_for(lock, s->options.keep_idle, [&] { return s->closing || !s->queue.empty(); });
    --s->idle;
    if (s->queue.empty()) {
      --s->threads;
      s->ended.notify_all();
      return;
    }
    task = std::move(s->queue.front());
    s->queue.pop_front();
  }
}

}  // namespace coordinator
