#include "persistence/state_tables.hpp"

#include <sqlite3.h>

#include <vector>

#include "persistence/checksum.hpp"

namespace coordinator::state_tables {

namespace {

std::string printable(std::string_view id) {
  std::string text;
  for (unsigned char c : id.substr(0, 80))
    text += c < 0x20 || c == 0x7f ? '?' : static_cast<char>(c);
  return text;
}

// How many of SQLite's steps lie between two looks at a stop flag: well under a millisecond.
constexpr int steps_between_looks = 10000;

class stoppable {
 public:
  stoppable(database& db, const std::atomic<bool>* stop) : db_(db) {
    if (stop)
      sqlite3_progress_handler(
          db_.handle(), steps_between_looks,
          [](void* flag) { return static_cast<const std::atomic<bool>*>(flag)->load() ? 1 : 0; },
          const_cast<std::atomic<bool>*>(stop));
  }
  ~stoppable() { sqlite3_progress_handler(db_.handle(), 0, nullptr, nullptr); }
  stoppable(const stoppable&) = delete;
  stoppable& operator=(const stoppable&) = delete;

 private:
  database& db_;
};

}  // namespace

const char* const schema = R"sql(
  CREATE TABLE meta(one INTEGER PRIMARY KEY CHECK(one = 1), node_id TEXT, incarnation INTEGER, last_applied INTEGER,
                    last_applied_term INTEGER, applied_time_ms INTEGER, checksum INTEGER, crc INTEGER);
  CREATE TABLE rows(kind INTEGER, id BLOB, body BLOB, hash INTEGER, PRIMARY KEY(kind, id)) WITHOUT ROWID;
)sql";

const char* const select_meta =
    "SELECT node_id, incarnation, last_applied, last_applied_term, applied_time_ms, checksum, crc FROM meta "
    "WHERE one = 1";
const char* const select_rows = "SELECT kind, id, body, hash FROM rows ORDER BY kind, id";

void throw_damaged(const database& db, const std::string& what) {
  throw damaged_error(SQLITE_CORRUPT, db.path() + ": " + what);
}

std::uint32_t meta_row::crc() const {
  return row_checksum{}
      .add(node.value)
      .add(incarnation.value)
      .add(meta.last_applied.value)
      .add(meta.last_applied_term.value)
      .add(static_cast<std::uint64_t>(meta.applied_time_ms))
      .add(meta.checksum)
      .value();
}

meta_row read_meta(const database& db, statement& query) {
  reset_at_end guard{query};
  if (!query.step())
    throw_damaged(db, "table meta: its row is missing");
  meta_row row;
  row.node.value = query.bytes(0);
  row.incarnation = {query.number(1)};
  row.meta.last_applied = {query.number(2)};
  row.meta.last_applied_term = {query.number(3)};
  row.meta.applied_time_ms = query.integer(4);
  row.meta.checksum = query.number(5);
  if (row.crc() != query.number(6))
    throw_damaged(db, "table meta: its row does not match its checksum");
  return row;
}

void insert_meta(database& db, const meta_row& row) {
  statement{db, "INSERT OR REPLACE INTO meta VALUES(1, ?, ?, ?, ?, ?, ?, ?)"}
      .bind_text(1, row.node.value)
      .bind(2, row.incarnation.value)
      .bind(3, row.meta.last_applied.value)
      .bind(4, row.meta.last_applied_term.value)
      .bind(5, row.meta.applied_time_ms)
      .bind(6, row.meta.checksum)
      .bind(7, std::uint64_t{row.crc()})
      .run();
}

row_view read_row(const database& db, const statement& query) {
  row_view row{static_cast<std::uint8_t>(query.integer(0)), query.bytes(1), query.bytes(2), query.number(3)};
  if (query.number(0) > 0xff || row_hash(row.kind, row.id, row.body) != row.hash)
    throw_damaged(db, "table rows: row (" + std::to_string(query.number(0)) + ", '" + printable(row.id) +
                          "') does not match its hash");
  return row;
}

bool read_rows(const database& db, statement& query, std::uint64_t checksum, const std::function<bool()>& go_on,
               const std::function<void(const row_view&)>& each) {
  reset_at_end guard{query};
  std::uint64_t sum = 0;
  while (query.step()) {
    if (!go_on())
      return false;
    auto row = read_row(db, query);
    sum += row.hash;
    each(row);
  }
  if (sum != checksum)
    throw_damaged(db, "table rows: the rows together do not match the checksum; one is missing or out of date");
  return true;
}

std::optional<std::string> check_structure(database& db, const std::atomic<bool>* stop) {
  stoppable guard{db, stop};
  try {
    std::vector<std::string> tables;
    {
      statement query{db, "SELECT name FROM sqlite_schema WHERE type = 'table'"};
      while (query.step())
        tables.emplace_back(query.bytes(0));
    }
    for (auto& table : tables) {
      statement query{db, "PRAGMA quick_check(" + table + ")"};
      if (!query.step())
        return "quick_check of table " + table + " gave no answer";
      if (query.bytes(0) != "ok")
        return "table " + table + ": " + std::string{query.bytes(0)};
    }
  } catch (const damaged_error& error) {
    return error.what();
  } catch (const database_error& error) {
    if ((error.code() & 0xff) != SQLITE_INTERRUPT)
      throw;
  }
  return std::nullopt;
}

}  // namespace coordinator::state_tables
