#pragma once

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/message.hpp>
#include <caf/monitorable_actor.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

#include "tests/simulation/chance.hpp"

namespace coordinator::simulation {

using microseconds = std::chrono::microseconds;

/// An address without an actor behind it: what is sent to it is handed to a function, at once.
class tap final : public caf::monitorable_actor {
 public:
  using handler = std::function<void(caf::mailbox_element_ptr)>;
  tap(caf::actor_config& config, handler on_message)
      : caf::monitorable_actor(config), on_message_(std::move(on_message)) {}

  using caf::monitorable_actor::enqueue;
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) override {
    if (what)
      on_message_(std::move(what));
  }

 private:
  handler on_message_;
};

/// The actor system of one history: one thread, virtual time, and chance decides which of the ready actors runs next,
/// for one message. Time goes on only when no actor can run.
class machine_room {
 public:
  /// Who an actor is, for holding it back and for looking at what it did.
  struct owner {
    unsigned node = 0;
    unsigned role = 0;
  };

  explicit machine_room(chance& random);
  /// Ends all that is left.
  ~machine_room();
  machine_room(const machine_room&) = delete;
  machine_room& operator=(const machine_room&) = delete;

  caf::actor_system& system() { return *system_; }
  microseconds now() const;
  std::uint64_t steps() const { return steps_; }

  caf::strong_actor_ptr make_tap(tap::handler on_message);
  void adopt(const caf::strong_actor_ptr& actor, owner who);
  /// Ends these actors at once; nobody else runs meanwhile, and they handle nothing more.
  void kill(const std::vector<caf::strong_actor_ptr>& actors);

  void after(microseconds delay, std::function<void()> what);
  void deliver(microseconds delay, caf::strong_actor_ptr to, caf::message what);

  /// The actor does not run before that moment, whatever waits for it.
  void hold(const owner& who, microseconds until);
  void release_all() { held_.clear(); }

  /// Runs one actor for one message, or lets time pass to the next event. Calls `ran` with who ran. False: nothing is
  /// left to happen.
  bool step(const std::function<void(owner)>& ran);

 private:
  static std::uint32_t key(const owner& x) { return x.node * 16 + x.role; }
  std::size_t pick();

  chance& random_;
  caf::actor_system_config config_;
  std::unique_ptr<caf::actor_system> system_;
  caf::scheduler::test_coordinator* scheduler_ = nullptr;
  caf::strong_actor_ptr director_;
  std::map<std::uint64_t, std::function<void()>> events_;
  std::uint64_t last_event_ = 0;
  std::unordered_map<const caf::resumable*, owner> owners_;  // Only ever looked up.
  std::map<std::uint32_t, microseconds> held_;
  std::vector<std::size_t> ready_;
  std::uint64_t steps_ = 0;
};

}  // namespace coordinator::simulation
