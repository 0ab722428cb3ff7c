#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "persistence/state_store.hpp"

namespace coordinator {

/// The tables of the applied state. Stored: never renumber.
enum class row_kind : std::uint8_t {
  settings = 1,
  key = 2,
  worker = 3,
  session = 4,
  session_result = 5,
  idempotency = 6,
  task = 7,
};

/// A number as a row id, of fixed length, so that rows are ordered as the numbers are.
std::string ordered_id(std::uint64_t x);
/// False if `ordered_id` did not make it.
[[nodiscard]] bool read_ordered_id(std::string_view id, std::uint64_t& x);

/// Keeps the books of the applied state's rows: the checksum over all of them, and those that have changed since the
/// last write to state.db. It does not keep the rows themselves; their owners remember each row's hash for it.
class state_rows {
 public:
  /// The row has this content now. `hash` is the owner's memory of the row: 0 for a new one; set to the new hash.
  void put(row_kind kind, std::string id, std::string body, std::uint64_t& hash);
  /// The row is gone. `hash` as above; nothing happens if it is 0.
  void erase(row_kind kind, std::string id, std::uint64_t hash);
  /// A row was read from state.db; the answer is its hash, for the owner to remember.
  std::uint64_t loaded(row_kind kind, std::string_view id, std::string_view body);

  /// Sum of the hashes of all rows modulo 2^64.
  std::uint64_t checksum() const { return checksum_; }
  std::size_t dirty_count() const { return changes_.size(); }

  /// Every row that changed since the last call, once, with its latest content.
  std::vector<row_change> take();

 private:
  struct pending_change {
    row_change row;
    bool stored;  ///< state.db may have a row of this id: a deletion must be written.
  };
  pending_change& change_of(row_kind kind, std::string id, bool existed);

  std::uint64_t checksum_ = 0;
  std::vector<pending_change> changes_;
  /// Kind and id to the place in `changes_`. Looked up only, never walked.
  std::unordered_map<std::string, std::size_t> places_;
};

}  // namespace coordinator
