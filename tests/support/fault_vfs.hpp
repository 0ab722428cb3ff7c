#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace coordinator {

/// A disk in memory that SQLite uses through a VFS of its own, and that knows what was synced and what was not.
/// It stands for one machine's disk and page cache, so that a power failure, a dying process, a failing or a full disk
/// can be played between any two operations. The same seed and the same calls give the same outcome; it has no threads
/// and no clock. Any number of disks may exist in a process, all used from one thread.
///
/// What it models:
/// - a write or truncation is in the page cache until its file is synced. A power failure keeps any mixture of
///   what was not synced, torn at sectors of 512 bytes and out of order;
/// - a name that was created or removed is durable once the directory is synced, which SQLite does with the
///   first sync of a journal or WAL that it created, as its own VFS for Unix does; a rename is durable with both names
///   or not at all;
/// - a sync that fails loses what it should have made durable, though it can still be read, and the next sync
///   reports success: what Linux does.
class fault_disk {
 public:
  /// Registers the VFS `name`, which no other living disk may have. SQLite's own random numbers, of which it
  /// keeps one row for the whole process, start again from `seed`.
  fault_disk(std::string name, std::uint64_t seed);
  ~fault_disk();
  fault_disk(const fault_disk&) = delete;
  fault_disk& operator=(const fault_disk&) = delete;

  /// What to give to SQLite.
  const std::string& vfs() const;

  /// Changing operations so far: each write, truncation, sync, creation and removal is one.
  std::uint64_t operations() const;
  /// Reads so far.
  std::uint64_t reads() const;
  /// Lets `n` more changing operations happen and then fails everything, as in a process that was killed.
  void stop_after(std::uint64_t n);
  void stop();
  bool stopped() const;

  /// The process died, and the machine goes on: all that was written can be read. Connections from before get
  /// errors only and may be closed at any time; new ones can be opened. Faults that were ordered and have not come are
  /// called off.
  void restart();
  /// The power failed: what was synced is there, and of the rest what the seed says. Otherwise as `restart`.
  void crash();

  /// The n-th write from now (1 is the next) fails and leaves a part of itself behind.
  void fail_write(std::uint64_t n);
  /// The n-th sync from now fails, and what it should have made durable is lost.
  void fail_sync(std::uint64_t n);
  /// While true, writes that lengthen a file fail for want of space.
  void set_full(bool full);
  /// Until it is called again with false, every sync says that it worked and does nothing: a disk that lies.
  void set_lying(bool lying);

  /// What is done to the directory rather than to a file, each a changing operation. They throw database_error in a
  /// process that died, and syncing when it was ordered to fail. Removing what is not there is fine.
  void rename(const std::string& from, const std::string& to);
  void remove(const std::string& path);
  void sync_directory();

  std::vector<std::string> files() const;
  std::string read(const std::string& path) const;
  /// Puts a whole file there, synced.
  void write(const std::string& path, const std::string& contents);
  /// Changes what is on the disk behind SQLite's back.
  void flip_bit(const std::string& path, std::size_t byte, unsigned bit);

  class implementation;

 private:
  std::unique_ptr<implementation> impl_;
};

}  // namespace coordinator
