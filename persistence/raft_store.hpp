#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "persistence/database.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// What raft.db remembers of the entries that the log no longer holds: it begins after `index`.
struct log_base {
  log_index index;          ///< 0: nothing was ever dropped.
  term_number term;         ///< Of entry `index`.
  log_index members_index;  ///< Where the membership in force at `index` was written; 0: before the cluster was formed.
  membership members;
  std::int64_t time_ms = 0;  ///< Of entry `index`.

  friend bool operator==(const log_base&, const log_base&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, log_base& x) {
    return f(x.index, x.term, x.members_index, x.members, x.time_ms);
  }
};

/// What the keeper wants saved in one transaction. Its parts take effect in this order: `install`, `truncate_from`,
/// `entries`, `compact_to`.
struct raft_write {
  /// A snapshot takes the place of the log's beginning (Raft §7).
  struct snapshot {
    log_base base;
    bool keep_suffix = false;  ///< Entry `base.index` is in the log with `base.term`: what follows it stays.
  };

  std::uint64_t number = 0;                     ///< Counts the keeper's writes; rising, and not stored.
  std::optional<hard_state> state = {};         ///< Term and vote.
  std::optional<log_index> truncate_from = {};  ///< Entries at or above it are deleted first.
  std::vector<log_entry> entries = {};          ///< Then these are appended; contiguous with what is there.
  std::optional<std::string> formation = {};    ///< Opaque bytes of the formation core: saved proposal, promises.
  std::optional<genesis> formed = {};           ///< The cluster was founded. Once set it is never changed.
  /// The log begins after `base.index` from here on: all entries at or below are dropped, those after it too unless
  /// `keep_suffix`.
  std::optional<snapshot> install = {};
  /// Name, within the data directory, of the file that holds the state from here on.
  std::optional<std::string> state_file = {};
  /// Entries at or below it may be dropped: in this transaction one bounded step, of at most 1,000 rows and 1 MiB of
  /// payload but at least one row; `first_index` says how far it came. The store finds term, membership and time of
  /// the new base in the rows it drops.
  std::optional<log_index> compact_to = {};
};

/// A stretch of the log that is all of one term.
struct term_run {
  log_index first;
  term_number term;

  friend bool operator==(const term_run&, const term_run&) = default;
};

/// What a node finds in its raft.db at start.
struct raft_contents {
  node_id node;
  incarnation_id incarnation;
  hard_state state;
  std::optional<genesis> founded;
  std::string formation;
  log_index first_index{1};
  log_index last_index;                 ///< first_index - 1 when the log is empty.
  std::vector<term_run> terms;          ///< Of the whole log, ascending.
  std::vector<log_entry> memberships;   ///< The genesis and membership entries still in the log, ascending.
  std::int64_t last_time_ms = 0;        ///< The time of the last entry.
  std::vector<log_entry> tail;          ///< The newest entries, ascending, up to last_index without a gap.
  log_base base;                        ///< What lies before first_index.
  std::string state_file = "state.db";  ///< Name, within the data directory, of the file that holds the state.
};

struct raft_store_options {
  std::string vfs = {};  ///< The SQLite VFS to go through; empty is the system's own.
  /// Bytes of payload that `raft_contents::tail` may hold. The newest entry is in it whatever its size.
  std::size_t tail_bytes = 16u << 20;
  /// The incarnation of a file that is created; drawn at random by the caller, never 0.
  std::uint64_t new_incarnation = 0;
  /// Whether a file may be created, or finished whose creation was cut short. False where the data
  /// directory was found to be a node's: its raft.db must then hold one.
  bool create = true;
  /// Few, so that the checkpoint that a write may bring with it takes less than a heartbeat interval.
  int checkpoint_pages = 1000;
};

/// raft.db: everything that Raft must not forget or tear. Owned by one writer actor, which holds the only
/// connection to it. Each call blocks on the disk.
///
/// Every row carries a CRC-32C, checked whenever it is read. After any failed write the store refuses all
/// later ones with the same error: after a failed fsync nobody can know what is on the disk.
class raft_store {
 public:
  /// Opens `path`, creating it durably with its incarnation when it is absent, and reads the whole log once to check
  /// it. All that `contents` says is on the disk when this returns.
  ///
  /// Throws damaged_error naming the row that is missing or does not match its checksum, refused_error for a
  /// file of another node or a newer version, database_error when it cannot be read or written.
  static std::unique_ptr<raft_store> open(const std::string& path, const node_id& node,
                                          const raft_store_options& options);
  ~raft_store();
  raft_store(const raft_store&) = delete;
  raft_store& operator=(const raft_store&) = delete;

  /// What was found at opening; later writes do not change it.
  const raft_contents& contents() const;
  /// The same, handed over so that the tail is not kept twice.
  raft_contents take_contents();

  /// Saves all of `write` in one transaction, and returns when it is on the disk. An empty one is fine and
  /// costs nothing.
  ///
  /// Throws database_error; then the write is on the disk wholly or not at all, which only reopening can
  /// tell. Throws std::logic_error, with nothing changed, for what Raft never does: entries that leave a gap,
  /// terms that fall, an entry of a later term than the current one (entry 1 comes with term 1 saved), a
  /// second founding, a base that goes back or contradicts the log. Throws damaged_error when a row that
  /// compaction is about to drop does not match its checksum.
  void write(const raft_write& write);

  /// The entries from `from` to `to`, both included, up to `max_bytes` of payload but at least one. Empty
  /// when `from` lies outside the log or beyond `to`. Throws damaged_error for a row that is missing or does
  /// not match its checksum.
  std::vector<log_entry> read_entries(log_index from, log_index to, std::size_t max_bytes);

  log_index first_index() const;
  log_index last_index() const;

  /// What the file holds: pages in use. Cheap. Where it cannot be read, what it was the last time.
  std::uint64_t size_bytes() const;

 private:
  class implementation;
  explicit raft_store(std::unique_ptr<implementation> impl);
  std::unique_ptr<implementation> impl_;
};

/// Who a raft.db belongs to; see `inspect_raft_file`.
struct raft_owner {
  node_id node;
  incarnation_id incarnation;
  std::optional<std::string> cluster_id;
};

/// Reads whose `path` is without changing it. Nothing for a file whose creation was cut short, so that
/// nobody has ever acted on it. Throws as `raft_store::open` does.
std::optional<raft_owner> inspect_raft_file(const std::string& path, const std::string& vfs = {});

}  // namespace coordinator
