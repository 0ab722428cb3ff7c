#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/commands.hpp"

namespace coordinator {

enum class attempt_change : std::uint8_t { assigned, running, ended };

struct attempt_event {
  attempt_ref attempt;
  std::string worker_id;
  attempt_change change = attempt_change::assigned;
  attempt_outcome outcome = attempt_outcome::none;  ///< When ended.
  std::int64_t timeout_ms = 0;                      ///< The task's; 0: none.
};

/// A worker's standing in the applied state. `said` is what it last said of itself: idle, running or busy.
struct worker_standing {
  std::string worker_id;
  worker_status said = worker_status::idle;
  bool draining = false;
  bool offline = false;
};

enum class worker_change : std::uint8_t { registered, changed, removed };

struct worker_event {
  worker_standing worker;
  worker_change change = worker_change::registered;
};

/// What the leader's fleet follows.
using fleet_event = std::variant<attempt_event, worker_event>;

struct task_event {
  std::string task_id;
  std::string run_id;
  std::string worker_id;  ///< Of the present or last attempt, or empty.
  task_status status = task_status::pending;
};

/// What one entry changed, in the order in which it changed it. For those who wait for work, for the leader's fleet
/// and for whoever streams events; nothing in it is needed to keep the state.
struct state_events {
  std::vector<task_event> tasks;
  std::vector<fleet_event> fleet;
  /// Tasks became pending, or a worker has room again or may claim no more: look at the claims that wait.
  bool work_available = false;
  std::optional<bool> maintenance;
  std::vector<std::uint64_t> closed_sessions;
};

/// An attempt that is assigned or running.
struct active_attempt {
  attempt_ref attempt;
  std::string worker_id;
  bool running = false;
  std::int64_t timeout_ms = 0;
};

/// What a new leader's fleet starts from: all workers and all active attempts, as applied.
struct fleet_view {
  std::vector<worker_standing> workers;
  std::vector<active_attempt> attempts;
};

}  // namespace coordinator
