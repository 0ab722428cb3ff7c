#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace coordinator {

/// A file that is written and read in pieces, through SQLite's VFS, so that it is on the same disk as the databases in
/// tests too. For copies of a state.db on their way between nodes. Used by one thread at a time.
///
/// Never to be opened on a database that a connection of this process has open: closing it would drop that
/// connection's locks, as POSIX has it.
///
/// All throw database_error.
class snapshot_file {
 public:
  /// Creates an empty file. One that is there already is an error.
  static std::unique_ptr<snapshot_file> create(const std::string& path, const std::string& vfs = {});
  /// Opens one that is there.
  static std::unique_ptr<snapshot_file> open(const std::string& path, const std::string& vfs = {});
  /// Removes it, and syncs the directory. Fine when it is not there.
  static void remove(const std::string& path, const std::string& vfs = {});
  static bool exists(const std::string& path, const std::string& vfs = {});

  ~snapshot_file();
  snapshot_file(const snapshot_file&) = delete;
  snapshot_file& operator=(const snapshot_file&) = delete;

  void write(std::uint64_t offset, std::string_view bytes);
  /// Up to `max_bytes`; fewer at the end of the file, and none beyond it.
  std::string read(std::uint64_t offset, std::size_t max_bytes);
  std::uint64_t size();
  void truncate(std::uint64_t size);
  /// Returns when all that was written, and the file's name, are on the disk. After it threw, nothing is known of the
  /// file any more: it is to be removed.
  void sync();

 private:
  class implementation;
  explicit snapshot_file(std::unique_ptr<implementation> impl);
  std::unique_ptr<implementation> impl_;
};

}  // namespace coordinator
