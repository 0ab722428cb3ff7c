#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "actors/keeper_messages.hpp"
#include "actors/messages.hpp"
#include "http/message.hpp"

namespace coordinator {

/// Copies of the state that this node made for whoever backs it up, and holds for them until they have fetched them.
/// Each is a file of the data directory, so they are few, are removed when nobody has read them for a while, when this
/// is closed, and by the node's next start. Thread-safe.
class snapshot_shelf {
 public:
  struct settings {
    std::string directory;
    std::chrono::milliseconds kept{600'000};  ///< Without being read.
    std::size_t most = 2;                     ///< Those that are still being made count, too.
  };
  explicit snapshot_shelf(settings s) : settings_(std::move(s)) {}
  ~snapshot_shelf() { close(); }
  snapshot_shelf(const snapshot_shelf&) = delete;
  snapshot_shelf& operator=(const snapshot_shelf&) = delete;

  /// Keeps a place for a copy and gives its id; empty when all are taken, or this is closed.
  std::string reserve();
  /// The copy for that place has been made, or failed. One that nobody waits for any more is removed. Does not block,
  /// so that it may be called on an actor's thread.
  void put(const std::string& id, state_copied what);
  /// Waits for it. Empty when it did not come within `timeout`, or `client` has gone; then the place is given up. One
  /// that failed is handed out with its error and given up, too.
  std::optional<state_copied> wait(const std::string& id, std::chrono::milliseconds timeout,
                                   const client_watch* client);

  struct piece {
    std::string bytes;  ///< At most what was asked for; none at the end.
    std::uint64_t size = 0;
    bool ok = false;  ///< False: the offset is beyond the end, or the file could not be read.
  };
  /// Empty when there is no such copy.
  std::optional<piece> read(const std::string& id, std::uint64_t offset, std::size_t most_bytes);
  /// False when there is no such copy.
  bool remove(const std::string& id);
  /// Removes all copies and takes in no more.
  void close();

 private:
  using clock = std::chrono::steady_clock;
  struct entry {
    std::optional<state_copied> what;  ///< None: it is being made.
    bool wanted = true;
    clock::time_point last_used = clock::now();
  };

  void sweep();
  std::string path_of(const state_copied& what) const;
  void unlink(const state_copied& what) const;

  const settings settings_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, entry> entries_;
  bool closed_ = false;
  std::thread sweeper_;  ///< Runs from the first copy on.
};

}  // namespace coordinator
