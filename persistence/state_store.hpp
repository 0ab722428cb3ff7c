#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "persistence/database.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// A row of the applied state that is new, changed or gone.
struct row_change {
  std::uint8_t kind = 0;  ///< Which table of the state machine it is of; stored, never renumbered.
  std::string id;
  std::optional<std::string> body = {};  ///< None: the row is deleted.
  std::uint64_t hash = 0;                ///< `row_hash` of it; unused for a deletion.
};

/// What the state machine wants written in one transaction.
struct state_write {
  log_index last_applied;
  term_number last_applied_term = {};
  std::int64_t applied_time_ms = 0;
  std::uint64_t checksum = 0;  ///< Of all rows as they are after this write: the sum of their hashes modulo 2^64.
  std::vector<row_change> rows = {};  ///< Each row once.
};

/// How far the rows of a state.db go.
struct state_meta {
  log_index last_applied;
  term_number last_applied_term;
  std::int64_t applied_time_ms = 0;
  std::uint64_t checksum = 0;

  friend bool operator==(const state_meta&, const state_meta&) = default;
};

/// A row as it is read; its bytes are valid during the call they are given to.
struct row_view {
  std::uint8_t kind = 0;
  std::string_view id;
  std::string_view body;
  std::uint64_t hash = 0;
};

/// XXH3 of a row's contents, equal on every machine. The state's checksum is the sum of all rows' hashes, so
/// a change costs one subtraction and one addition.
std::uint64_t row_hash(std::uint8_t kind, std::string_view id, std::string_view body);

struct state_store_options {
  std::string vfs = {};  ///< The SQLite VFS to go through; empty is the system's own.
  int checkpoint_pages = 4000;
};

/// An online copy of a state.db, made through its writer's own connection, some pages at a time between writes; what is
/// written meanwhile goes into the copy too, so that it never begins anew. The copy is not synced: it is for sending,
/// and whoever receives it makes it durable. Destroyed unfinished, it removes its file. Used by the writer's thread.
class state_copy {
 public:
  ~state_copy();
  state_copy(const state_copy&) = delete;
  state_copy& operator=(const state_copy&) = delete;

  /// Copies up to `pages` pages; true when the copy is done, and no connection to it is open any more. Throws
  /// database_error when reading or writing failed, or the store is gone or has failed; the copy is then to be
  /// destroyed.
  bool step(int pages);
  std::uint64_t pages_done() const;
  std::uint64_t pages_total() const;
  /// Once it is done: what the copy is a copy of, and its length.
  const state_meta& meta() const;
  std::uint64_t bytes() const;

 private:
  friend class state_store;
  class implementation;
  explicit state_copy(std::unique_ptr<implementation> impl);
  std::unique_ptr<implementation> impl_;
};

/// state.db: the applied state, written behind. Owned by one writer actor, which holds the only connection
/// that writes it. Each call blocks on the disk.
///
/// A crash may lose the latest writes, never part of one: what is left is the state at some earlier index,
/// and the log has the rest.
class state_store {
 public:
  /// Opens `path`, creating it when it is absent, at last_applied 0. Throws damaged_error, refused_error for
  /// a file of another node or incarnation or of a newer version, database_error.
  static std::unique_ptr<state_store> open(const std::string& path, const node_id& node, incarnation_id incarnation,
                                           const state_store_options& options);

  /// Takes a file that came from another node, or from elsewhere: quick_check, every row against its hash, and all
  /// together against the checksum, as rows are given to `each`; then makes it this node's, checkpoints it fully
  /// and opens it. The file and its name are on the disk when this returns.
  ///
  /// Throws damaged_error, refused_error for what is no state or a newer version's, database_error; the file is then
  /// unchanged or half adopted, and is to be deleted. A -wal beside the file would be replayed into it, and is damage.
  static std::unique_ptr<state_store> adopt(const std::string& path, const node_id& node, incarnation_id incarnation,
                                            const state_store_options& options,
                                            const std::function<void(const row_view&)>& each);
  ~state_store();
  state_store(const state_store&) = delete;
  state_store& operator=(const state_store&) = delete;

  const state_meta& meta() const;

  /// Gives every row, ordered by kind and id. Throws damaged_error naming a row whose bytes do not match
  /// its hash, or when the rows together do not match the checksum.
  void load(const std::function<void(const row_view&)>& each);

  /// One transaction. Throws database_error; every later write is then refused with the same error.
  /// Throws std::logic_error, with nothing changed, when last_applied would go back.
  void write(const state_write& write);

  /// A last_applied that was read before a checkpoint on this connection that returned OK with every frame
  /// checkpointed: whatever happens, the file holds at least that. 0 until one happened.
  log_index checkpointed() const;
  /// Checkpoints now. False when a reader kept part of it from being copied. Throws as `write` does.
  bool checkpoint();

  /// What the file holds: pages in use. Cheap. Where it cannot be read, what it was the last time.
  std::uint64_t size_bytes() const;

  /// Begins a copy into the file `path`, which must not exist. Throws database_error; std::logic_error when another
  /// copy is under way. The copy may outlive the store, and then only be destroyed.
  std::unique_ptr<state_copy> begin_copy(const std::string& path);

 private:
  class implementation;
  explicit state_store(std::unique_ptr<implementation> impl);
  std::unique_ptr<implementation> impl_;
};

/// Reads whose `path` is without changing it. Nothing for a file that holds no state yet. Throws as
/// `state_store::open` does.
std::optional<node_id> inspect_state_file(const std::string& path, const std::string& vfs = {});

/// Reads a state.db beside its writer, for whoever serves the whole state. Used by one thread at a time.
class state_reader {
 public:
  /// The file must exist. Throws database_error.
  explicit state_reader(const std::string& path, const std::string& vfs = {});
  ~state_reader();
  state_reader(const state_reader&) = delete;
  state_reader& operator=(const state_reader&) = delete;

  /// Gives the meta row and then every row, all as of one moment. The WAL cannot be reset while this goes on, so
  /// it ends at `deadline`, 1 s ahead at most: false then, and the rows given so far are only a part.
  /// Throws as `state_store::load` does.
  bool read(std::chrono::steady_clock::time_point deadline, const std::function<void(const state_meta&)>& meta,
            const std::function<void(const row_view&)>& each);

 private:
  class implementation;
  std::unique_ptr<implementation> impl_;
};

}  // namespace coordinator
