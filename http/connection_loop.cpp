#include "http/connection_loop.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "http/connection_session.hpp"
#include "http/problem.hpp"

namespace coordinator {
namespace {

using namespace std::chrono_literals;

/// How many new connections are taken before those that are there have their turn again.
constexpr int most_accepts = 64;
/// Out of descriptors or memory, a connection stays in the backlog for so long.
constexpr auto accept_pause = 20ms;
constexpr std::uint64_t listener_id = 0;
constexpr std::uint64_t inbox_id = 1;

}  // namespace

connection_loop::connection_loop(settings s, socket_t listener, request_handler& handler, threads t)
    : settings_(std::move(s)),
      listener_(listener),
      handler_(handler),
      threads_(std::move(t)),
      poll_(::epoll_create1(EPOLL_CLOEXEC)),
      inbox_(std::make_shared<inbox>()),
      last_id_(inbox_id) {
  ::fcntl(listener_, F_SETFL, ::fcntl(listener_, F_GETFL) | O_NONBLOCK);
  listen(true);
  // At edges, so that nobody has to read what was written to it.
  epoll_event wanted{EPOLLIN | EPOLLET, {}};
  wanted.data.u64 = inbox_id;
  ::epoll_ctl(poll_, EPOLL_CTL_ADD, inbox_->descriptor(), &wanted);
}

void connection_loop::start() {
  thread_ = std::thread{[this] { run(); }};
}

connection_loop::~connection_loop() {
  inbox_->push(inbox::order::quit);
  if (thread_.joinable())
    thread_.join();
  for_each([this](session& s) { close(s); });
  listen(false);
  ::close(poll_);
}

void connection_loop::drain() {
  stopping_ = true;
  inbox_->push(inbox::order::drain);
}

void connection_loop::break_off() {
  inbox_->push(inbox::order::break_off);
  std::unique_lock lock{ended_mutex_};
  ended_.wait(lock, [this] { return broken_off_; });
}

void connection_loop::await_end(std::chrono::milliseconds longest) {
  std::unique_lock lock{ended_mutex_};
  ended_.wait_for(lock, longest, [this] { return count_ == 0; });
}

// -- the loop --------------------------------------------------------------------------

void connection_loop::run() {
  std::array<epoll_event, 256> events;
  for (;;) {
    for (auto& x : inbox_->take()) {
      if (auto* order = std::get_if<inbox::order>(&x)) {
        if (*order == inbox::order::quit)
          return;
        *order == inbox::order::drain ? stop_idle() : end_all();
        continue;
      }
      auto made = std::get_if<inbox::made>(&x);
      auto found = sessions_.find(made ? made->session : std::get<inbox::returned>(x).session);
      if (found == sessions_.end())
        continue;
      if (!made)
        on_returned(*found->second, std::get<inbox::returned>(x).keep_alive);
      else if (made->asked == found->second->asked)
        on_made(*found->second, made->make);
    }
    expire();
    closed_.clear();
    const bool may_sleep = unfinished_.empty() && inbox_->may_sleep();
    auto n = ::epoll_wait(poll_, events.data(), static_cast<int>(events.size()), may_sleep ? patience() : 0);
    if (n > 1)
      handler_.gather();
    for (int i = 0; i < n; ++i) {
      auto& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == listener_id)
        accept_some();
      else if (auto found = sessions_.find(event.data.u64); found != sessions_.end())
        on_event(*found->second, event.events);
    }
    go_on();
    if (n > 1)
      handler_.hand_over();
  }
}

/// For epoll_wait, in milliseconds.
int connection_loop::patience() const {
  auto next = std::min(next_deadline_, accept_again_);
  if (next == clock::time_point::max())
    return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(next - clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

void connection_loop::until(session& s, clock::time_point deadline) {
  s.deadline = deadline;
  next_deadline_ = std::min(next_deadline_, deadline);
}

/// Deadlines mostly move away before they pass, so that a look at all of them is rarely needed.
void connection_loop::expire() {
  auto now = clock::now();
  if (now >= accept_again_) {
    accept_again_ = clock::time_point::max();
    if (!stopping_)
      listen(true);
  }
  if (now < next_deadline_)
    return;
  std::vector<std::uint64_t> due;
  next_deadline_ = clock::time_point::max();
  for (auto& [id, s] : sessions_) {
    if (s->deadline <= now)
      due.push_back(id);
    else
      next_deadline_ = std::min(next_deadline_, s->deadline);
  }
  for (auto id : due)
    if (auto found = sessions_.find(id); found != sessions_.end())
      on_time(*found->second);
}

void connection_loop::on_time(session& s) {
  switch (s.now) {
    case session::phase::idle:
    case session::phase::lingering:
      return close(s);
    case session::phase::head:
      return refuse(s, request_late("head"));
    case session::phase::body:
      return refuse(s, request_late("body"));
    case session::phase::answering:
      if (s.ended && s.needs_client)
        return close(s);
      return on_made(s, [&s] { return s.give_up(false); });
    default:
      s.deadline = clock::time_point::max();
  }
}

void connection_loop::for_each(const std::function<void(session&)>& act) {
  std::vector<session*> all;
  for (auto& [id, s] : sessions_)
    all.push_back(s.get());
  for (auto* s : all)
    act(*s);
}

void connection_loop::stop_idle() {
  listen(false);
  ::close(std::exchange(listener_, -1));
  for_each([this](session& s) {
    if (s.now == session::phase::idle)
      close(s);
    else if (s.now == session::phase::answering && s.long_poll)
      on_made(s, [&s] { return s.give_up(true); });
  });
}

void connection_loop::end_all() {
  for_each([this](session& s) {
    if (s.now == session::phase::away)
      ::shutdown(s.client.socket(), SHUT_RDWR);
    else
      close(s);
  });
  std::lock_guard lock{ended_mutex_};
  broken_off_ = true;
  ended_.notify_all();
}

// -- connections -----------------------------------------------------------------------

void connection_loop::listen(bool wanted) {
  epoll_event event{EPOLLIN, {}};
  event.data.u64 = listener_id;
  if (listener_ >= 0)
    ::epoll_ctl(poll_, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener_, &event);
}

void connection_loop::accept_some() {
  for (int i = 0; i < most_accepts; ++i) {
    auto socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket >= 0) {
      open(socket);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      // Out of descriptors or memory: the connection stays in the backlog until one is free.
      listen(false);
      accept_again_ = clock::now() + accept_pause;
      return;
    }
  }
}

void connection_loop::open(socket_t socket) {
  auto id = ++last_id_;
  bool spare = regular_ >= settings_.most_connections;
  auto& s = *sessions_.emplace(id, std::make_unique<session>(id, socket, settings_.limits, spare)).first->second;
  ++count_;
  if (spare) {
    if (!send_away(s, [this, &s] {
          threads_.serve_probe(s.client);
          return false;
        }))
      refuse(s, too_many_connections());
    return;
  }
  ++regular_;
  until(s, clock::now() + settings_.limits.head_timeout);
  epoll_event wanted{EPOLLIN | EPOLLRDHUP | EPOLLET, {}};
  wanted.data.u64 = id;
  if (::epoll_ctl(poll_, EPOLL_CTL_ADD, socket, &wanted) != 0)
    close(s);
}

void connection_loop::close(session& s) {
  if (s.now == session::phase::closed)
    return;
  s.now = session::phase::closed;
  ::close(s.client.socket());
  if (!s.spare)
    --regular_;
  auto found = sessions_.find(s.id);
  closed_.push_back(std::move(found->second));
  sessions_.erase(found);
  std::lock_guard lock{ended_mutex_};
  if (--count_ == 0)
    ended_.notify_all();
}

}  // namespace coordinator
