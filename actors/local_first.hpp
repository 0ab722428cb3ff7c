#pragma once

#include <semaphore.h>

#include <caf/policy/unprofiled.hpp>
#include <caf/resumable.hpp>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "actors/worker_clock.hpp"

namespace caf {
class actor_system_config;
namespace scheduler {
class abstract_coordinator;
}
}  // namespace caf

namespace coordinator {

/// How CAF's worker threads share the actors that have something to do: an actor to which the running one sends goes
/// on next, on the same thread, and of all other work one sleeping thread is told at a time.
///
/// A write passes from actor to actor, and each of them works for some microseconds. With CAF's own policies every
/// such step wakes a thread, which takes longer than the work: "sharing" wakes one for each message while the queue is
/// locked, and "stealing" polls. Here a chain of short steps stays where it is. What else became ready goes to the
/// common queue; the thread that is woken for it wakes the next one if there is more.
///
/// There is no thread for delayed messages either: of the sleeping threads one sleeps until the next is due, delivers
/// all that are, and goes on with their receivers. Threads that are awake look before they take from the common queue.
///
/// Never keeps an actor waiting behind more than one message of the one that sent to it (`scheduler.max-throughput`
/// is 1), nor the common queue behind more than a few turns of such a chain. A delayed message waits for that turn of
/// the thread that has to see to it; should the thread hang, another one sees to it after `longest_sleep`.
class local_first : public caf::policy::unprofiled {
 public:
  /// A worker's bed. std::binary_semaphore would yield the processor several times before it sleeps.
  class sleeper {
   public:
    sleeper() { ::sem_init(&woken_, 0, 0); }
    sleeper(const sleeper&) = delete;
    sleeper& operator=(const sleeper&) = delete;
    ~sleeper() { ::sem_destroy(&woken_); }

    using time_point = worker_clock::time_point;

    void wake() { ::sem_post(&woken_); }
    /// Until it is woken.
    void sleep();
    /// Until it is woken, or `until`. Whether it was woken.
    bool sleep_until(time_point until);

    time_point until;  ///< When it gets up by itself; with the coordinator's mutex held.

   private:
    ::sem_t woken_;
  };

  struct coordinator_data {
    explicit coordinator_data(caf::scheduler::abstract_coordinator*);

    worker_clock clock;
    std::mutex mutex;
    std::deque<caf::resumable*> queue;
    std::vector<sleeper*> idle;  ///< The last one to fall asleep is woken first: its caches are warm.
    bool waking = false;         ///< One was woken and has not yet looked at the queue.

    /// The one to wake, if any; with the mutex held. Not one that is to see to the next delayed message, if there is
    /// another one.
    sleeper* somebody();
    /// Whether one of those who sleep gets up for what is due then; with the mutex held.
    bool is_watched(worker_clock::time_point due) const;
  };

  struct worker_data {
    explicit worker_data(caf::scheduler::abstract_coordinator*) {}
  };

  ~local_first() override;

  template <class Coordinator>
  void central_enqueue(Coordinator* self, caf::resumable* job) {
    push(d(self), job);
  }

  template <class Worker>
  void external_enqueue(Worker* self, caf::resumable* job) {
    push(d(self->parent()), job);
  }

  template <class Worker>
  void internal_enqueue(Worker* self, caf::resumable* job) {
    if (running != this || next_)
      push(d(self->parent()), job);
    else
      next_ = job;
  }

  /// Behind all others; this thread comes for it itself unless it has something else to do first.
  template <class Worker>
  void resume_job_later(Worker* self, caf::resumable* job) {
    auto& shared = d(self->parent());
    if (next_) {
      push(shared, job);
    } else {
      std::lock_guard lock{shared.mutex};
      shared.queue.push_back(job);
    }
  }

  template <class Worker>
  caf::resumable* dequeue(Worker* self) {
    running = this;
    shared_ = &d(self->parent());
    if (next_ && ++turns_ < turns_in_a_row)
      return std::exchange(next_, nullptr);
    turns_ = 0;
    return take(*shared_);
  }

  template <class Worker>
  void before_shutdown(Worker* self) {
    if (next_)
      push(d(self->parent()), std::exchange(next_, nullptr));
  }

  template <class Worker, class F>
  void foreach_resumable(Worker*, F) {}

  template <class Coordinator, class F>
  void foreach_central_resumable(Coordinator* self, F f) {
    auto& shared = d(self);
    std::unique_lock lock{shared.mutex};
    auto jobs = std::exchange(shared.queue, {});
    // What ends here may send once more.
    lock.unlock();
    for (auto job : jobs)
      f(job);
  }

 private:
  static constexpr unsigned turns_in_a_row = 8;

  static void push(coordinator_data& shared, caf::resumable* job);
  static void watch(coordinator_data& shared, worker_clock::time_point due);
  caf::resumable* take(coordinator_data& shared);
  void rest(coordinator_data& shared, std::unique_lock<std::mutex>& lock, bool again);
  void ship_due(coordinator_data& shared);

  /// Of the worker that runs on this thread.
  static thread_local local_first* running;

  coordinator_data* shared_ = nullptr;  ///< Of the system whose worker it is, once it runs.
  caf::resumable* next_ = nullptr;
  unsigned turns_ = 0;
  bool shipping_ = false;
  /// Of what it has delivered from the clock, so many may still be in the common queue. They are short, and fall due
  /// together all the time: waking another thread for them would take longer than they do.
  std::size_t own_ = 0;
  sleeper sleeper_;
};

/// Has the actor system scheduled so.
void use_local_first(caf::actor_system_config& config);

}  // namespace coordinator
