#include "persistence/backup.hpp"

#include <sqlite3.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "persistence/checksum.hpp"
#include "persistence/codec.hpp"
#include "persistence/database.hpp"
#include "persistence/state_tables.hpp"

namespace coordinator {

namespace {

constexpr const char* create_origin =
    "CREATE TABLE origin(one INTEGER PRIMARY KEY CHECK(one = 1), cluster_id TEXT, node_id TEXT, members BLOB, "
    "saved_ms INTEGER, version TEXT, crc INTEGER)";

std::uint64_t origin_crc(const backup_origin& origin, std::string_view members) {
  return row_checksum{}
      .add(origin.cluster_id)
      .add(origin.node.value)
      .add(members)
      .add(static_cast<std::uint64_t>(origin.saved_ms))
      .add(origin.version)
      .value();
}

void insert_origin(database& db, const backup_origin& origin) {
  auto members = to_bytes(origin.members);
  statement{db, "INSERT INTO origin VALUES(1, ?, ?, ?, ?, ?, ?)"}
      .bind_text(1, origin.cluster_id)
      .bind_text(2, origin.node.value)
      .bind_blob(3, members)
      .bind(4, origin.saved_ms)
      .bind_text(5, origin.version)
      .bind(6, origin_crc(origin, members))
      .run();
}

backup_origin read_origin(database& db) {
  statement query{db, "SELECT cluster_id, node_id, members, saved_ms, version, crc FROM origin WHERE one = 1"};
  if (!query.step())
    state_tables::throw_damaged(db, "table origin: its row is missing");
  backup_origin origin;
  origin.cluster_id = query.bytes(0);
  origin.node.value = query.bytes(1);
  std::string members{query.bytes(2)};
  origin.saved_ms = query.integer(3);
  origin.version = query.bytes(4);
  if (origin_crc(origin, members) != query.number(5))
    state_tables::throw_damaged(db, "table origin: its row does not match its checksum");
  if (!from_bytes(members, origin.members))
    state_tables::throw_damaged(db, "table origin: the members cannot be read");
  return origin;
}

// Before SQLite sees the file: a database in WAL mode cannot be opened without files being made beside it, and a
// back-up never is one.
void require_sealed(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    throw refused_error(path + ": is a directory, not a back-up that `coordctl snapshot save` made");
  std::ifstream file{path, std::ios::binary};
  if (!file)
    throw database_error(SQLITE_CANTOPEN, path + ": cannot be read: " + std::strerror(errno));
  constexpr std::string_view magic{"SQLite format 3\0", 16};
  // Where the header says how the file is written and read: 1 with a rollback journal, 2 with a WAL.
  constexpr std::size_t write_version = 18;
  std::string head(write_version + 2, '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  bool sealed = file && head.starts_with(magic) && head[write_version] == 1 && head[write_version + 1] == 1;
  if (!sealed)
    throw refused_error(path + ": is not a back-up that `coordctl snapshot save` made, or its beginning is damaged");
  for (auto part : {"-wal", "-journal"})
    if (std::filesystem::exists(path + part, error))
      throw refused_error(path + part + ": is not of this back-up, and would be replayed into it; move it away");
}

}  // namespace

void seal_backup(const std::string& path, const backup_origin& origin) {
  database db{path, {}};
  if (!db.holds(state_tables::format))
    state_tables::throw_damaged(db, "holds no state");
  db.execute("PRAGMA synchronous=full");
  {
    statement mode{db, "PRAGMA journal_mode=delete"};
    if (!mode.step() || mode.bytes(0) != "delete")
      db.fail(SQLITE_BUSY, "leave WAL mode");
  }
  transaction_statements transactions{db};
  transaction t{transactions};
  db.execute("DROP TABLE IF EXISTS origin");
  db.execute(create_origin);
  insert_origin(db, origin);
  t.commit();
}

backup_contents inspect_backup(const std::string& path) {
  require_sealed(path);
  backup_contents found;
  found.bytes = std::filesystem::file_size(path);
  database db{path, {.read_only = true}};
  if (!db.holds(state_tables::format))
    state_tables::throw_damaged(db, "holds no state");
  if (auto problem = state_tables::check_structure(db, nullptr))
    state_tables::throw_damaged(db, *problem);
  if (db.query_number("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'origin'") == 0)
    throw refused_error(path + ": is a state's file, but not one that `coordctl snapshot save` made");
  found.origin = read_origin(db);
  {
    statement query{db, state_tables::select_meta};
    found.meta = state_tables::read_meta(db, query).meta;
  }
  statement query{db, state_tables::select_rows};
  state_tables::read_rows(
      db, query, found.meta.checksum, [] { return true; }, [&](const row_view& row) { ++found.rows[row.kind]; });
  return found;
}

}  // namespace coordinator
