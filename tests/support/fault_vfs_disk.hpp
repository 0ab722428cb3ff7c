#pragma once

#include <sqlite3.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/fault_vfs.hpp"

// What fault_disk is made of; for its two source files only.
namespace coordinator::fault_vfs {

// SplitMix64: small, and the same everywhere.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    auto z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }

 private:
  std::uint64_t state_;
};

// A write, or a truncation when `data` is empty.
struct change {
  std::size_t offset = 0;
  std::string data;
};

// What a file holds, apart from its name.
struct file_node {
  std::string contents;  // As a process reads it.
  std::string durable;   // As it is after a power failure, but for what of `unsynced` got there.
  std::vector<change> unsynced;

  std::set<const void*> shared;  // Handles that hold a SHARED lock or more.
  const void* reserved = nullptr;
  const void* pending = nullptr;
  const void* exclusive = nullptr;

  void write(std::size_t offset, std::string_view data);
  void truncate(std::size_t size);
  void sync();
  void lose_unsynced(random_source& random);
  void unlock_all() {
    shared.clear();
    reserved = pending = exclusive = nullptr;
  }
};

using node_pointer = std::shared_ptr<file_node>;

// The WAL index that the connections to one database share.
struct shared_index {
  std::vector<std::unique_ptr<char[]>> regions;
  std::array<std::set<const void*>, SQLITE_SHM_NLOCK> shared;
  std::array<const void*, SQLITE_SHM_NLOCK> exclusive{};
};

/// What SQLite calls, with the disk as its argument.
void set_methods(sqlite3_vfs& vfs);

}  // namespace coordinator::fault_vfs

namespace coordinator {

class fault_disk::implementation {
 public:
  implementation(std::string name, std::uint64_t seed);
  ~implementation() { sqlite3_vfs_unregister(&vfs); }

  // Counts a changing operation; false when the process is dead by now.
  bool begin_change() {
    if (stopped)
      return false;
    ++operations;
    if (left && (*left)-- == 0)
      stopped = true;
    return !stopped;
  }
  fault_vfs::node_pointer find(const std::string& path) const {
    auto found = names.find(path);
    return found == names.end() ? nullptr : found->second;
  }
  void sync_directory() {
    durable_names = names;
    changed_names.clear();
    renames.clear();
  }
  void set_name(const std::string& path, fault_vfs::node_pointer node) {
    if (node)
      names[path] = node;
    else
      names.erase(path);
    changed_names[path].push_back(std::move(node));
  }
  void rename(const std::string& from, const std::string& to) {
    set_name(to, find(from));
    set_name(from, nullptr);
    renames.push_back({from, changed_names[from].size(), to, changed_names[to].size()});
  }
  void end_process() {
    ++generation;
    stopped = false;
    left.reset();
    failing_write = failing_sync = 0;
    indexes.clear();
    for (auto& [path, node] : names)
      node->unlock_all();
  }
  void lose_unsynced();

  // The changes of two names that a file system makes together or not at all; each is the how-manieth of its name.
  struct rename_pair {
    std::string from;
    std::size_t from_change;
    std::string to;
    std::size_t to_change;
  };

  std::string name;
  fault_vfs::random_source random;
  sqlite3_vfs vfs{};
  std::map<std::string, fault_vfs::node_pointer> names, durable_names;
  // For each name, what it stood for after each change since the directory was synced.
  std::map<std::string, std::vector<fault_vfs::node_pointer>> changed_names;
  std::vector<rename_pair> renames;  // Since then.
  std::map<std::string, std::shared_ptr<fault_vfs::shared_index>> indexes;
  std::uint64_t operations = 0;
  std::uint64_t reads = 0;
  std::uint64_t generation = 0;
  std::optional<std::uint64_t> left;
  bool stopped = false;
  std::uint64_t failing_write = 0, failing_sync = 0;
  bool full = false, lying = false;
  std::int64_t clock_ms = 210866760000000;  // 1970 in SQLite's Julian days; advances by being asked.
};

}  // namespace coordinator
