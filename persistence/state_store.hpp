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
