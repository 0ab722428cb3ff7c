#include "actors/local_first.hpp"

#include <algorithm>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scheduler/coordinator.hpp>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <thread>

namespace coordinator {

namespace {

using namespace std::chrono_literals;
using time_point = worker_clock::time_point;

// Bounds how late a tick comes while the thread that should see to it is busy: less than the shortest election time-out
// leaves beside the interval of heartbeats.
constexpr auto longest_sleep = 100ms;
// Nobody else is woken for so few that fell due together.
constexpr std::size_t most_own = 4;

/// CAF's coordinator with the clock of the policy. The thread of the other clock, which has nothing to do, sleeps.
class local_coordinator : public caf::scheduler::coordinator<local_first> {
 public:
  using super = caf::scheduler::coordinator<local_first>;
  using super::super;

  static caf::actor_system::module* make(caf::actor_system& system, caf::detail::type_list<>) {
    return new local_coordinator(system);
  }

 protected:
  void stop() override {
    super::stop();
    data().clock.cancel_all();
  }

  caf::detail::thread_safe_actor_clock& clock() noexcept override { return data().clock; }
};

}  // namespace

thread_local local_first* local_first::running = nullptr;

local_first::~local_first() = default;

// -- sleeping and waking ----------------------------------------------------------------

void local_first::sleeper::sleep() {
  // A signal is no reason to get up.
  while (::sem_wait(&woken_) != 0) {
  }
}

bool local_first::sleeper::sleep_until(time_point until) {
  auto since = std::max(until.time_since_epoch(), time_point::duration::zero());
  auto whole = std::chrono::duration_cast<std::chrono::seconds>(since);
  const ::timespec at{whole.count(), static_cast<long>((since - whole) / 1ns)};
  for (;;) {
    if (::sem_clockwait(&woken_, CLOCK_MONOTONIC, &at) == 0)
      return true;
    if (errno == ETIMEDOUT)
      return false;
  }
}

local_first::coordinator_data::coordinator_data(caf::scheduler::abstract_coordinator*)
    : clock{[this](time_point due) { watch(*this, due); }} {}

local_first::sleeper* local_first::coordinator_data::somebody() {
  if (waking || idle.empty())
    return nullptr;
  waking = true;
  auto first_due = std::min_element(idle.begin(), idle.end(), [](auto a, auto b) { return a->until < b->until; });
  auto chosen = idle.size() > 1 && first_due == idle.end() - 1 ? idle.end() - 2 : idle.end() - 1;
  auto x = *chosen;
  idle.erase(chosen);
  return x;
}

bool local_first::coordinator_data::is_watched(time_point due) const {
  return std::any_of(idle.begin(), idle.end(), [due](auto x) { return x->until <= due; });
}

/// Something is due sooner than all else: somebody must get up in time.
void local_first::watch(coordinator_data& shared, time_point due) {
  // A worker looks itself before it sleeps.
  if (running && running->shared_ == &shared)
    return;
  sleeper* woken;
  {
    std::lock_guard lock{shared.mutex};
    woken = shared.is_watched(due) ? nullptr : shared.somebody();
  }
  if (woken)
    woken->wake();
}

// -- the common queue -----------------------------------------------------------------

void local_first::push(coordinator_data& shared, caf::resumable* job) {
  sleeper* woken = nullptr;
  const bool own = running && running->shipping_ && running->shared_ == &shared;
  {
    std::lock_guard lock{shared.mutex};
    shared.queue.push_back(job);
    if (own && running->own_ < most_own)
      ++running->own_;
    else
      woken = shared.somebody();
  }
  if (woken)
    woken->wake();
}

void local_first::ship_due(coordinator_data& shared) {
  auto now = worker_clock::clock_type::now();
  if (shared.clock.next() > now)
    return;
  shipping_ = true;
  shared.clock.ship_due(now);
  shipping_ = false;
}

/// Sleeps, with the lock released, until there may be something in the queue.
void local_first::rest(coordinator_data& shared, std::unique_lock<std::mutex>& lock, bool again) {
  own_ = 0;
  sleeper_.until = worker_clock::clock_type::now() + longest_sleep;
  if (auto due = shared.clock.next(); due < sleeper_.until && !shared.is_watched(due))
    sleeper_.until = due;
  // Who found nothing to do is no warmer for it.
  shared.idle.insert(again ? shared.idle.begin() : shared.idle.end(), &sleeper_);
  lock.unlock();
  bool woken = sleeper_.sleep_until(sleeper_.until);
  lock.lock();
  // Who has been taken from the list meanwhile is being woken.
  if (!woken && std::erase(shared.idle, &sleeper_) == 0) {
    lock.unlock();
    sleeper_.sleep();
    lock.lock();
    woken = true;
  }
  if (woken)
    shared.waking = false;
}

caf::resumable* local_first::take(coordinator_data& shared) {
  ship_due(shared);
  std::unique_lock lock{shared.mutex};
  if (next_)
    shared.queue.push_back(std::exchange(next_, nullptr));
  for (bool again = false; shared.queue.empty(); again = true) {
    rest(shared, lock, again);
    lock.unlock();
    ship_due(shared);
    lock.lock();
  }
  auto job = shared.queue.front();
  shared.queue.pop_front();
  if (own_ > 0)
    --own_;
  auto woken = shared.queue.size() <= own_ ? nullptr : shared.somebody();
  lock.unlock();
  if (woken)
    woken->wake();
  return job;
}

void use_local_first(caf::actor_system_config& config) {
  config.load<local_coordinator>();
  config.set("scheduler.max-throughput", std::size_t{1});
  // A node's actors form a few chains. With more threads than processors, those of one chain would push each other
  // aside.
  config.set("scheduler.max-threads", std::size_t{std::clamp(std::thread::hardware_concurrency(), 2U, 4U)});
}

}  // namespace coordinator
