#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace coordinator {

/// The directory of one node, real or simulated: what is done to files by name rather than through SQLite. Names are
/// those within the directory. All throw database_error.
struct node_files {
  virtual ~node_files() = default;

  virtual std::string path(const std::string& name) const = 0;
  /// Of all files, in any order.
  virtual std::vector<std::string> names() const = 0;
  /// Durable once `sync` returned; until then a power failure may leave either name, never both or none.
  virtual void rename(const std::string& from, const std::string& to) = 0;
  /// Fine when it is not there. Durable once `sync` returned.
  virtual void remove(const std::string& name) = 0;
  /// Makes all renaming and removing so far durable.
  virtual void sync() = 0;
  /// The SQLite VFS to reach `path` through; empty is the system's own.
  virtual const std::string& vfs() const = 0;

  bool has(const std::string& name) const;
};

/// A directory of the system's.
class real_files : public node_files {
 public:
  explicit real_files(std::string directory, std::string vfs = {});

  std::string path(const std::string& name) const override;
  std::vector<std::string> names() const override;
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& name) override;
  void sync() override;
  const std::string& vfs() const override { return vfs_; }

 private:
  std::string directory_;
  std::string vfs_;
};

/// Renames a database that is not open, with its -wal and -shm, to `<name>.damaged-<time>`, the time in UTC such as
/// 20261123T101500Z, with a number added where that name is taken. Durable when it returns. Never deletes or
/// overwrites. A part alone, left by one that was cut short, is set aside too. Gives the new name, or none if there was
/// nothing.
std::string set_aside(node_files& files, const std::string& name, std::chrono::system_clock::time_point time);

/// For the start, once raft.db was read: deletes the state and snapshot files that nothing names, so that a crash at
/// any point of an installation leaves the old state or the new one. What was set aside stays,
/// and a -wal that was left behind then follows it.
void remove_unnamed(node_files& files, const std::string& present_state_file);

/// Whether it is the name of a file of a state or a snapshot, or of one's -wal, -shm or journal; not of what was set
/// aside.
bool is_state_file(const std::string& name);

}  // namespace coordinator
