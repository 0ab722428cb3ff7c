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
  std::optional<bool> storage_full;
  std::vector<std::uint64_t> closed_sessions;
};

/// What of the applied state waits for time to pass, or for room on the disk: the leader's fleet sees to it.
struct fleet_conditions {
  bool has_timed_rows = false;          ///< Rows exist that end with time: somebody has to see to it that entries come.
  bool storage_full = false;            ///< New tasks are refused for want of room.
  std::int64_t oldest_finished_ms = 0;  ///< When the first of the finished tasks finished; 0: there is none.
  std::uint64_t retire_steps = 0;       ///< retire_tasks applied since the node's start.
  std::int64_t applied_time_ms = 0;

  /// Whether the fleet would do anything else than it does by `told`. Time alone is told once a second, and only while
  /// something waits for it.
  bool differ_from(const fleet_conditions& told) const {
    return has_timed_rows != told.has_timed_rows || storage_full != told.storage_full ||
           oldest_finished_ms != told.oldest_finished_ms || retire_steps != told.retire_steps ||
           (oldest_finished_ms > 0 && applied_time_ms - told.applied_time_ms >= 1'000);
  }
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
