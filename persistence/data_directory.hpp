#pragma once

#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>

#include "persistence/node_files.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// Why a data directory cannot be used: one line that names the path, what is wrong and what would do.
class data_directory_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What a data directory was found to hold, before anything in it was changed.
enum class directory_condition {
  empty,      ///< Nothing of a node, or a raft.db whose creation was cut short before anybody acted on it.
  node,       ///< A node's raft.db.
  lost_disk,  ///< No usable raft.db beside other files of a node: not a new node, but one that lost its memory.
};

/// A node's data directory, held for as long as this object lives: no second process can open it meanwhile.
class data_directory {
 public:
  /// Creates the directory (mode 0700, with its parents) when it is absent, locks it, makes sure that it is
  /// writable, finishes a replacement of raft.db that was cut short, and judges it. Else nothing but the file `lock` is
  /// written.
  ///
  /// Throws data_directory_error when it is unwritable, not a directory, held by another process (whose pid
  /// is named), of another node than `node`, or of another cluster than `cluster_id` where one is expected.
  /// Likewise for a `node` that `mark_removed` has noted as removed from its cluster.
  /// A raft.db that cannot be read as one makes it a `lost_disk`, and `damage` says why. Without `node`, anybody's
  /// will do.
  data_directory(const std::filesystem::path& path, const std::optional<node_id>& node,
                 const std::optional<std::string>& cluster_id = std::nullopt);
  ~data_directory();
  data_directory(const data_directory&) = delete;
  data_directory& operator=(const data_directory&) = delete;

  directory_condition condition() const { return condition_; }
  /// Whose files were found; none when that cannot be told.
  const std::optional<node_id>& found_node() const { return found_node_; }
  /// None also for a node that never became part of a cluster.
  const std::optional<std::string>& found_cluster() const { return found_cluster_; }
  /// For a lost disk: one line that says what was found instead of a sound raft.db.
  const std::string& damage() const { return damage_; }

  /// Notes durably that the node was taken out of its cluster: nobody opens the directory for a node again.
  /// Throws data_directory_error.
  void mark_removed();

  std::string raft_path() const { return (path_ / "raft.db").string(); }
  /// Of the state file that a new node begins with; which one is present is in raft.db.
  std::string state_path() const { return (path_ / "state.db").string(); }
  const std::filesystem::path& path() const { return path_; }

  /// The files in it, for as long as this object lives.
  node_files& files() { return files_; }

 private:
  void create();
  void lock();
  void judge_raft_file();
  std::string find_remains() const;
  void judge();
  void judge_state_files();

  std::filesystem::path path_;
  real_files files_;
  int lock_fd_ = -1;
  directory_condition condition_ = directory_condition::empty;
  std::optional<node_id> found_node_;
  std::optional<std::string> found_cluster_;
  std::string damage_;
};

}  // namespace coordinator
