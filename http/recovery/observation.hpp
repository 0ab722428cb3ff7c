#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace coordinator::recovery {

using std::chrono::milliseconds;

/// What can be seen of a node's process and disk on its own machine. Negative: unknown.
struct process_look {
  bool here = false;    ///< This machine is the node's; else nothing below is known.
  int pid = 0;          ///< 0: no process runs.
  char state = '?';     ///< As /proc/PID/stat has it: `T` is stopped, `D` waits for a disk.
  milliseconds age{0};  ///< Since the process was started.
  std::int64_t open_files = -1;
  std::int64_t open_files_limit = -1;
  std::int64_t memory_bytes = -1;
  std::int64_t disk_free_bytes = -1;
  bool removed = false;                  ///< The node has noted that it was taken out of its cluster.
  bool held = false;                     ///< The operator has asked to leave the node alone.
  std::vector<std::string> set_aside{};  ///< Names of state files that the node set aside as damaged.
};

/// /api/status, as far as it decides something.
struct status_look {
  std::string role{};
  std::string leader{};
  std::int64_t term = 0;
  std::int64_t commit_index = 0;
  std::int64_t last_applied = 0;
  std::int64_t last_log_index = 0;
  std::string cluster_id{};
  std::string waiting_for{};
  std::string disk_error{};
  std::string state_error{};
  std::int64_t snapshot_received = -1;  ///< Bytes of a state that is on its way; negative: none is.
  bool storage_full = false;
  bool maintenance = false;
};

struct checksum_look {
  std::int64_t index = 0;
  std::string value{};
};

struct node_look {
  std::string name{};
  bool answers = false;  ///< It said something over HTTP.
  bool live = false;     ///< /livez is well.
  bool ready = false;
  std::string failure{};   ///< Why it did not answer.
  std::string stranger{};  ///< The id of another node that answers at this one's URL; empty: it is the right one.
  std::vector<std::string> not_ready{};  ///< What /readyz found wrong.
  std::optional<status_look> status{};
  std::map<std::string, bool> links{};  ///< Whether it reaches each peer.
  std::optional<checksum_look> checksum{};
  std::int64_t open_files = -1;
  std::int64_t open_files_limit = -1;
  std::int64_t memory_bytes = -1;
  std::int64_t disk_free_bytes = -1;
  process_look process{};
};

struct member_look {
  std::string name{};
  bool voter = false;
};

/// One look at all nodes. Nodes are in the order of the configuration.
struct observation {
  std::vector<node_look> nodes{};
  std::vector<member_look> members{};  ///< As the leader has them; empty: no leader said.
};

}  // namespace coordinator::recovery
