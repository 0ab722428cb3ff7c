#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "persistence/database.hpp"
#include "persistence/state_store.hpp"
#include "persistence/types.hpp"

/// The tables of a state.db, for those who read or write it directly. Nothing of a row is given out before its hash or
/// checksum matched.
namespace coordinator::state_tables {

inline constexpr file_format format{0x436f5374, 1};

/// Creates the tables.
extern const char* const schema;
extern const char* const select_meta;
/// All rows, ordered by kind and id.
extern const char* const select_rows;

/// The row of table `meta`.
struct meta_row {
  node_id node;
  incarnation_id incarnation;
  state_meta meta;

  std::uint32_t crc() const;
};

/// Throws damaged_error when the row is missing or does not match its checksum.
meta_row read_meta(const database& db, statement& query);
/// Puts the row there or overwrites it.
void insert_meta(database& db, const meta_row& row);

/// The row that a query with the columns of `select_rows` stands on. Throws damaged_error when it does not match its
/// hash.
row_view read_row(const database& db, const statement& query);
/// Streams the rows and holds them against the checksum. False when `go_on` ended it.
bool read_rows(const database& db, statement& query, std::uint64_t checksum, const std::function<bool()>& go_on,
               const std::function<void(const row_view&)>& each);

/// SQLite's quick_check, table by table: what is wrong, or nothing. `stop` ends it early, and may be null.
std::optional<std::string> check_structure(database& db, const std::atomic<bool>* stop);

[[noreturn]] void throw_damaged(const database& db, const std::string& what);

}  // namespace coordinator::state_tables
