#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "persistence/database.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/types.hpp"

/// The tables of raft.db, for those who read or write it directly. Nothing of a row is given out before its checksum
/// matched.
namespace coordinator::raft_tables {

inline constexpr file_format format{0x436f5266, 1};

/// Creates the tables.
extern const char* const schema;
/// Selects what `read_log_row` reads; to be followed by a condition and an order.
extern const char* const select_log;

/// The row of table `node`.
struct node_row {
  node_id node;
  incarnation_id incarnation;
  log_base base;
  std::string founded;  ///< The bytes of a genesis, or nothing.
  std::string formation;
  std::string state_file = "state.db";

  std::uint32_t crc() const;
};

/// Throw damaged_error when the row is missing or does not match its checksum.
node_row read_node(database& db);
hard_state read_vote(database& db);
std::optional<genesis> decode_founded(const database& db, const node_row& row);

/// Both tables have one row, which these put there or overwrite.
void save_node(database& db, const node_row& row);
void save_vote(database& db, const hard_state& state);
std::uint32_t vote_crc(const hard_state& x);
std::uint32_t log_crc(const log_entry& entry);

/// A row of the log that a query stands on; its bytes are valid until the query's next step.
struct log_row {
  log_index index;
  term_number term;
  entry_kind kind = entry_kind::noop;
  std::int64_t time_ms = 0;
  std::string_view payload;

  log_entry entry() const { return {index, term, kind, time_ms, std::string{payload}}; }
};

log_row read_log_row(const database& db, const statement& query);
void require_index(const database& db, log_index found, log_index expected);
/// The membership that a genesis or membership row brings. Throws damaged_error when its payload is none.
membership decode_members(const database& db, const log_row& row);

[[noreturn]] void throw_damaged(const database& db, const std::string& what);

}  // namespace coordinator::raft_tables
