#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "persistence/node_files.hpp"
#include "persistence/raft_store.hpp"

namespace coordinator {

/// What is wrong with a raft.db: a row of the log by its index, or another table (index 0).
struct log_damage {
  log_index index;
  std::string what;
};

/// Reads the raft.db of a stopped node, sound or not, and changes nothing. Throws database_error when it cannot be read
/// at all, damaged_error when SQLite finds it malformed, refused_error when it is another program's or a newer
/// version's.
class log_inspector {
 public:
  explicit log_inspector(const std::string& path, const std::string& vfs = {});
  ~log_inspector();
  log_inspector(const log_inspector&) = delete;
  log_inspector& operator=(const log_inspector&) = delete;

  /// Whose it is, term and vote, base, founding and state file; `terms`, `memberships` and `tail` stay empty. Where a
  /// table is damaged, its part is left empty and `problems` says so.
  const raft_contents& contents() const;
  const std::vector<log_damage>& problems() const;

  /// Gives the entries from `from` to `to`, both included, and each damaged or missing row by its index instead.
  void each(log_index from, log_index to, const std::function<void(const log_entry&)>& entry,
            const std::function<void(const log_damage&)>& damage);
  /// Everything that is wrong with the file; nothing when it is sound.
  std::vector<log_damage> verify();

 private:
  class implementation;
  std::unique_ptr<implementation> impl_;
};

/// Who a cluster of one node is made of.
struct lone_member {
  std::string cluster_id;  ///< The new one, 32 hexadecimal digits.
  std::string http_address;
  std::string cluster_address;
};

/// Rewrites a stopped node's raft.db, in one transaction, so that it is a cluster of its own: with a new cluster id,
/// one term further, and at the end of the log a membership of this node alone. Entries that were not committed become
/// so; the founding of the old cluster leaves the log, so that nodes that join get the state. Empty addresses are taken
/// from the present membership. Gives that membership. Throws as `raft_store::open` does.
membership force_new(node_files& files, const node_id& node, const lone_member& alone);

/// Makes a node of its own cluster from a snapshot: the file `snapshot` (a path of the system's, or of `snapshot_vfs`)
/// is copied and verified, and a raft.db is made whose base is the snapshot's index. The last step makes it one: cut
/// short before, the directory holds a node that was never part of a cluster, and it can be done again. Throws
/// refused_error when the directory holds a node, damaged_error for a damaged snapshot.
void create_from_snapshot(node_files& files, const node_id& node, incarnation_id incarnation,
                          const std::string& snapshot, const lone_member& alone, std::uint64_t nonce,
                          const std::string& snapshot_vfs = {});

}  // namespace coordinator
