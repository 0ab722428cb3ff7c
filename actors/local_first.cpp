#include "actors/local_first.hpp"

#include <caf/actor_system_config.hpp>
#include <caf/scheduler/coordinator.hpp>
#include <cstddef>

namespace coordinator {

thread_local local_first* local_first::running = nullptr;

local_first::~local_first() = default;

void local_first::push(coordinator_data& shared, caf::resumable* job) {
  sleeper* woken;
  {
    std::lock_guard lock{shared.mutex};
    shared.queue.push_back(job);
    woken = shared.somebody();
  }
  if (woken)
    woken->wake();
}

caf::resumable* local_first::take(coordinator_data& shared) {
  std::unique_lock lock{shared.mutex};
  if (next_)
    shared.queue.push_back(std::exchange(next_, nullptr));
  while (shared.queue.empty()) {
    shared.idle.push_back(&sleeper_);
    lock.unlock();
    sleeper_.sleep();
    lock.lock();
    shared.waking = false;
  }
  auto job = shared.queue.front();
  shared.queue.pop_front();
  auto woken = shared.queue.empty() ? nullptr : shared.somebody();
  lock.unlock();
  if (woken)
    woken->wake();
  return job;
}

void use_local_first(caf::actor_system_config& config) {
  config.load<caf::scheduler::coordinator<local_first>>();
  config.set("scheduler.max-throughput", std::size_t{1});
}

}  // namespace coordinator
