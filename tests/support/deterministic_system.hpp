#pragma once

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/atom.hpp>
#include <caf/exit_reason.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/send.hpp>
#include <chrono>
#include <functional>
#include <vector>

#include "actors/clock.hpp"

namespace coordinator {

/// An actor system on CAF's test scheduler: one thread, virtual time, the same order in every run.
class deterministic_system {
 public:
  /// `more` may add to the configuration.
  explicit deterministic_system(const std::function<void(caf::actor_system_config&)>& more = {})
      : system_(configure(config_, more)) {
    scheduler_ = dynamic_cast<caf::scheduler::test_coordinator*>(&system_.scheduler());
  }

  /// Ends every actor given to `own`: one that re-arms a timer would keep the system from ending.
  ~deterministic_system() { kill_all(); }

  caf::actor_system& system() { return system_; }

  template <class Handle>
  Handle own(Handle handle) {
    owned_.push_back(caf::actor_cast<caf::strong_actor_ptr>(handle));
    return handle;
  }

  void kill_all() {
    for (auto& each : owned_)
      caf::anon_send_exit(each, caf::exit_reason::kill);
    run();
    owned_.clear();
    run();
  }

  /// Handles messages until none is left; no time passes.
  void run() { handled_ += scheduler_->run(); }

  /// Messages that `run` and `pass` have handled.
  std::size_t handled() const { return handled_; }

  /// Handles one message; false if there is none.
  bool run_one() { return scheduler_->try_run_once(); }

  /// Lets time pass in small steps, handling messages after each.
  void pass(std::chrono::milliseconds time) {
    constexpr std::chrono::milliseconds step{10};
    for (run(); time.count() > 0; time -= step) {
      scheduler_->advance_time(std::min(time, step));
      run();
    }
  }

  bool has_timer() const { return scheduler_->has_pending_timeout(); }

  std::chrono::milliseconds now() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(scheduler_->clock().now().time_since_epoch());
  }

  node_clock clock() {
    return {[this] { return now(); }, [this] { return 1'700'000'000'000 + now().count(); }};
  }

 private:
  static caf::actor_system_config& configure(caf::actor_system_config& config,
                                             const std::function<void(caf::actor_system_config&)>& more) {
    config.set("scheduler.policy", caf::atom("testing"));
    if (more)
      more(config);
    return config;
  }

  caf::actor_system_config config_;
  caf::actor_system system_;
  caf::scheduler::test_coordinator* scheduler_ = nullptr;
  std::vector<caf::strong_actor_ptr> owned_;
  std::size_t handled_ = 0;
};

}  // namespace coordinator
