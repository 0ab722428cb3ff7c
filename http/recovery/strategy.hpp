#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace coordinator::recovery {

using std::chrono::milliseconds;

/// What Raft by itself does not mend. The words are those of metrics and events.
enum class strategy : std::uint8_t {
  process_crash,
  network_partition,
  database_corruption,
  log_corruption,
  split_brain,
  term_divergence,
  state_divergence,
  deadlock,
  resource_exhaustion,
  slow_follower,
};

inline constexpr std::array<std::string_view, 10> strategy_words{
    "process_crash",    "network_partition", "database_corruption", "log_corruption", "split_brain", "term_divergence",
    "state_divergence", "deadlock",          "resource_exhaustion", "slow_follower"};

constexpr std::string_view word(strategy x) {
  return strategy_words[static_cast<std::size_t>(x)];
}

/// What can be done about it.
enum class verb : std::uint8_t {
  report,         ///< Say it, and change nothing.
  keep_evidence,  ///< Store what can be read of the nodes, and raise an alarm.
  hand_over,      ///< Ask the leader to let another node lead.
  shed,           ///< Enable maintenance: no new tasks are taken.
  unshed,         ///< Disable it again.
  resync,         ///< Give a follower the state of the leader.
  start,          ///< Start a process that does not run.
  restart,        ///< End a process, and start it again.
  rebuild,        ///< The same, and in between set its state aside, so that it is made anew from the log or a peer.
  replace,        ///< Set the data directory aside, start anew, and let the node join as a learner.
  demote,         ///< Take the node out, and let it join anew as a learner.
};

inline constexpr std::array<std::string_view, 11> verb_words{"report",  "keep_evidence", "hand_over", "shed",
                                                             "unshed",  "resync",        "start",     "restart",
                                                             "rebuild", "replace",       "demote"};

constexpr std::string_view word(verb x) {
  return verb_words[static_cast<std::size_t>(x)];
}

/// Whether the daemon has to hold the cluster's lease for it.
enum class lease_need : std::uint8_t {
  none,
  /// Yes, unless no node of the cluster can grant it: what is done then touches a process that takes no part anyway.
  where_possible,
  always,
};

struct remedy {
  verb act = verb::report;
  /// Since the failure was noticed, the action before, or the last progress.
  milliseconds after{0};
  bool allowed = true;
  std::string_view permission{};  ///< The field of `allow` that would allow it.
  lease_need lease = lease_need::where_possible;
};

/// A failure as one look shows it, with what may be done about it, the least invasive remedy first.
struct symptom {
  strategy what = strategy::process_crash;
  std::string node{};         ///< Or, where it concerns two, both: `a-b`.
  std::string seen{};         ///< One line for people.
  milliseconds hold{0};       ///< For how long it has to be seen before it counts.
  std::int64_t progress = 0;  ///< Any change of it restarts the patience with the node.
  std::vector<remedy> remedies{};
  bool at_once = false;  ///< One look is enough.
};

}  // namespace coordinator::recovery
