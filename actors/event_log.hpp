#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "actors/keeper_messages.hpp"
#include "actors/messages.hpp"
#include "actors/state_events.hpp"

namespace coordinator {

/// A leader was found, or there is none any more.
struct leadership_event {
  node_id leader;  ///< Empty: none is known.
  term_number term;
  node_role role = node_role::unformed;  ///< This node's own.
};

/// A peer can be reached from here, or no longer.
struct node_health_event {
  node_id node;
  bool healthy = false;
  std::string reason;  ///< Why not.
};

struct membership_event {
  membership members;
};

/// Something was done to mend a failure.
struct recovery_event {
  std::string strategy;  ///< One of recovery_strategies.
  std::string target;    ///< The node it was done to.
  std::string outcome;
  std::string detail;
};

struct maintenance_event {
  bool enabled = false;
};

using cluster_event = std::variant<leadership_event, node_health_event, membership_event, recovery_event,
                                   maintenance_event, task_event, worker_event>;

struct recorded_event {
  std::uint64_t number = 0;  ///< From 1, without a gap; anew with each process.
  std::int64_t at_ms = 0;
  cluster_event what;
};

/// The latest events that this node has seen, for those who stream them. Holds a bounded number of bytes however many
/// readers there are: a reader keeps nothing but its place, and one that falls behind the oldest event has lost its
/// place. Thread-safe; adding never waits for a reader.
class event_log {
 public:
  static constexpr std::size_t most_events = 32'768;
  static constexpr std::size_t most_bytes = 16 << 20;
  /// Of those that are neither tasks' nor workers', and so are worth a longer memory.
  static constexpr std::size_t most_notable = 200;

  void add(std::int64_t at_ms, std::vector<cluster_event> events);

  /// The number of the newest event; 0: there is none.
  std::uint64_t last() const;

  struct page {
    bool lost = false;  ///< The event after `number` is no longer here, or never was.
    std::vector<recorded_event> events;
  };
  /// The events after `number`, at most `most`. Waits up to `patience` for the first one.
  page after(std::uint64_t number, std::size_t most, std::chrono::milliseconds patience) const;

  /// The latest events but those of tasks and workers, the oldest first.
  std::vector<recorded_event> notable() const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable grown_;
  std::deque<recorded_event> events_;
  std::deque<recorded_event> notable_;
  std::size_t bytes_ = 0;
  std::uint64_t last_ = 0;
};

}  // namespace coordinator
