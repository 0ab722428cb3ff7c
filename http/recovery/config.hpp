#pragma once

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "http/client/endpoint.hpp"

namespace coordinator::recovery {

using std::chrono::milliseconds;

/// One line: the field by its path, what is wrong with it, and what would do.
class config_error : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// How a node's process is started again; exactly one of `command` and `systemd_unit` is given.
struct restart_way {
  std::vector<std::string> command{};  ///< The program and its arguments; no shell reads them.
  std::string working_directory{};     ///< Empty: that of the daemon.
  std::string log{};                   ///< File that its output is appended to; empty: /dev/null.
  std::string pid_file{};              ///< Empty: the process is found by the lock of its data directory.
  std::string systemd_unit{};
};

struct watched_node {
  std::string name{};  ///< Its --node-id.
  endpoint http{};
  std::string data_dir{};  ///< Its --data-dir, as seen by the daemon of its host.
  std::string host{};      ///< The machine it runs on; empty: that of every daemon with this file.
  restart_way restart{};
};

/// What the operator allows. Whatever is not allowed is only reported, with what the operator can do.
struct permissions {
  bool start_crashed = true;       ///< Start a process that is gone.
  bool restart_damaged = true;     ///< Restart a node that does not rebuild its state by itself.
  bool restart_stuck = false;      ///< Restart a node that does not move.
  bool restart_term = false;       ///< Restart a node that stays in another term than its leader.
  bool restart_exhausted = false;  ///< Restart a node that runs out of descriptors or memory.
  bool replace_lost = false;       ///< Let a node whose raft.db is lost join anew.
  bool shed_load = false;          ///< Enable maintenance while a node's resources run out.
  bool demote_slow = false;  ///< Take a follower out that falls behind for good, and let it join anew as a learner.
};

struct action_limits {
  int restarts = 5;                    ///< Of one node, until it has been well for `forgive_after`.
  milliseconds restart_pause{60'000};  ///< Between two of one node.
  milliseconds forgive_after{600'000};
  /// Between two actions of one strategy upon one node that are not restarts; a report is repeated as often.
  milliseconds action_pause{60'000};
  /// How long a node may take to be well after an action before another node may be touched.
  milliseconds settle{60'000};
  milliseconds stop_grace{10'000};  ///< From SIGTERM to SIGKILL.
  /// How long `--once` goes on at most.
  milliseconds once{120'000};
};

/// When something counts as a failure.
struct thresholds {
  milliseconds interval{2'000};  ///< From one look at the nodes to the next.
  milliseconds probe_timeout{1'500};
  int confirm_looks = 3;                  ///< In a row that have to show a failure, or its end.
  milliseconds hang_after{15'000};        ///< Without an answer, or without progress.
  milliseconds start_patience{60'000};    ///< A process younger than this may be silent.
  milliseconds rebuild_patience{60'000};  ///< Without progress of a node that rebuilds its state.
  std::int64_t term_jump = 10;            ///< Terms that pass within `term_window`.
  milliseconds term_window{60'000};
  milliseconds term_patience{30'000};
  milliseconds checksum_interval{10'000};
  std::int64_t slow_lag = 10'000;  ///< Entries that a follower is behind.
  milliseconds slow_after{60'000};
  std::int64_t disk_free_bytes = 256 << 20;
  std::int64_t memory_bytes = 0;  ///< Of one node's process; 0: no bound.
  int open_files_percent = 90;
};

struct recovery_config {
  std::vector<watched_node> nodes{};
  std::string state_dir{};           ///< The daemon's own: log, evidence, marks of the operator.
  std::string cluster_token_file{};  ///< Empty: the nodes take what needs a token from loopback.
  std::string systemctl = "systemctl";
  milliseconds lease{15'000};
  permissions allow{};
  action_limits limits{};
  thresholds when{};
};

/// Reads the text of `file`, whose name is in each error. Throws config_error for text that is no JSON, an unknown or
/// repeated field, a wrong type, a value out of its range, or fields at odds with each other. Nothing is defaulted
/// silently but what has a default above.
recovery_config parse_recovery_config(std::string_view text, const std::string& file);
recovery_config read_recovery_config(const std::string& file);

}  // namespace coordinator::recovery
