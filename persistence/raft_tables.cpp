#include "persistence/raft_tables.hpp"

#include <sqlite3.h>

#include "persistence/checksum.hpp"
#include "persistence/codec.hpp"

namespace coordinator::raft_tables {

namespace {

std::uint32_t crc_of(std::uint64_t index, std::uint64_t term, std::uint64_t kind, std::uint64_t time_ms,
                     std::string_view payload) {
  return row_checksum{}.add(index).add(term).add(kind).add(time_ms).add(payload).value();
}

}  // namespace

// `node` changes a few times in a node's life and with each step of compaction, `vote` with every term: apart, so that
// a vote is one short row.
const char* const schema = R"sql(
  CREATE TABLE node(one INTEGER PRIMARY KEY CHECK(one = 1), node_id TEXT, incarnation INTEGER, base_index INTEGER,
                    base_term INTEGER, base_members_index INTEGER, base_members BLOB, base_time INTEGER, founded BLOB,
                    formation BLOB, state_file TEXT, crc INTEGER);
  CREATE TABLE vote(one INTEGER PRIMARY KEY CHECK(one = 1), current_term INTEGER, voted_for TEXT, crc INTEGER);
  CREATE TABLE log(idx INTEGER PRIMARY KEY, term INTEGER, kind INTEGER, time_ms INTEGER, payload BLOB, crc INTEGER);
)sql";

const char* const select_log = "SELECT idx, term, kind, time_ms, payload, crc FROM log ";

std::uint32_t node_row::crc() const {
  return row_checksum{}
      .add(node.value)
      .add(incarnation.value)
      .add(base.index.value)
      .add(base.term.value)
      .add(base.members_index.value)
      .add(to_bytes(base.members))
      .add(static_cast<std::uint64_t>(base.time_ms))
      .add(founded)
      .add(formation)
      .add(state_file)
      .value();
}

std::uint32_t vote_crc(const hard_state& x) {
  return row_checksum{}
      .add(x.current_term.value)
      .add(x.voted_for ? 1 : 0)
      .add(x.voted_for ? std::string_view{x.voted_for->value} : std::string_view{})
      .value();
}

std::uint32_t log_crc(const log_entry& entry) {
  return crc_of(entry.index.value, entry.term.value, static_cast<std::uint64_t>(entry.kind),
                static_cast<std::uint64_t>(entry.time_ms), entry.payload);
}

void throw_damaged(const database& db, const std::string& what) {
  throw damaged_error(SQLITE_CORRUPT, db.path() + ": " + what);
}

node_row read_node(database& db) {
  statement query{db,
                  "SELECT node_id, incarnation, base_index, base_term, base_members_index, base_members, base_time, "
                  "founded, formation, state_file, crc FROM node WHERE one = 1"};
  if (!query.step())
    throw_damaged(db, "table node: its row is missing");
  node_row row;
  row.node.value = query.bytes(0);
  row.incarnation = {query.number(1)};
  row.base.index = {query.number(2)};
  row.base.term = {query.number(3)};
  row.base.members_index = {query.number(4)};
  auto members_read = from_bytes(query.bytes(5), row.base.members);
  row.base.time_ms = query.integer(6);
  row.founded = query.bytes(7);
  row.formation = query.bytes(8);
  row.state_file = query.bytes(9);
  if (!members_read || row.crc() != query.number(10))
    throw_damaged(db, "table node: its row does not match its checksum");
  return row;
}

hard_state read_vote(database& db) {
  statement query{db, "SELECT current_term, voted_for, crc FROM vote WHERE one = 1"};
  if (!query.step())
    throw_damaged(db, "table vote: its row is missing");
  hard_state state;
  state.current_term = {query.number(0)};
  if (!query.is_null(1))
    state.voted_for = node_id{std::string{query.bytes(1)}};
  if (vote_crc(state) != query.number(2))
    throw_damaged(db, "table vote: its row does not match its checksum");
  return state;
}

std::optional<genesis> decode_founded(const database& db, const node_row& row) {
  if (row.founded.empty())
    return std::nullopt;
  genesis founded;
  if (!from_bytes(row.founded, founded))
    throw_damaged(db, "table node: the founding of the cluster cannot be read");
  return founded;
}

void save_node(database& db, const node_row& row) {
  auto members = to_bytes(row.base.members);
  statement{db, "INSERT OR REPLACE INTO node VALUES(1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"}
      .bind_text(1, row.node.value)
      .bind(2, row.incarnation.value)
      .bind(3, row.base.index.value)
      .bind(4, row.base.term.value)
      .bind(5, row.base.members_index.value)
      .bind_blob(6, members)
      .bind(7, row.base.time_ms)
      .bind_blob(8, row.founded)
      .bind_blob(9, row.formation)
      .bind_text(10, row.state_file)
      .bind(11, std::uint64_t{row.crc()})
      .run();
}

void save_vote(database& db, const hard_state& state) {
  statement save{db, "INSERT OR REPLACE INTO vote VALUES(1, ?, ?, ?)"};
  save.bind(1, state.current_term.value).bind(3, std::uint64_t{vote_crc(state)});
  if (state.voted_for)
    save.bind_text(2, state.voted_for->value);
  else
    save.bind_null(2);
  save.run();
}

log_row read_log_row(const database& db, const statement& query) {
  auto index = query.number(0), term = query.number(1), kind = query.number(2), time = query.number(3);
  auto payload = query.bytes(4);
  if (crc_of(index, term, kind, time, payload) != query.number(5))
    throw_damaged(db, "table log: row " + std::to_string(index) + " does not match its checksum");
  return {{index}, {term}, static_cast<entry_kind>(kind), static_cast<std::int64_t>(time), payload};
}

void require_index(const database& db, log_index found, log_index expected) {
  if (found != expected)
    throw_damaged(db, "table log: row " + std::to_string(expected.value) + " is missing");
}

membership decode_members(const database& db, const log_row& row) {
  genesis founded;
  auto read =
      row.kind == entry_kind::genesis ? from_bytes(row.payload, founded) : from_bytes(row.payload, founded.founders);
  if (!read)
    throw_damaged(db, "table log: the membership in row " + std::to_string(row.index.value) + " cannot be read");
  return founded.founders;
}

}  // namespace coordinator::raft_tables
