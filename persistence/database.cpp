#include "persistence/database.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "persistence/checksum.hpp"

namespace coordinator {

namespace {

// Another process may look into the files with the sqlite3 shell; its locks are short.
constexpr int busy_timeout_ms = 1000;

// The WAL is overwritten from its start after each checkpoint. What one unusually large transaction added
// to it is given back to the file system.
constexpr const char* journal_size_limit = "PRAGMA journal_size_limit=67108864";

// SQLite's own VFS writes less than 128 KiB at once, and takes a longer write for one that a full disk cut short.
constexpr sqlite3_int64 rewrite_piece = 64 << 10;

int note_wal_pages(void* pages, sqlite3*, const char*, int count) {
  *static_cast<int*>(pages) = count;
  return SQLITE_OK;
}

bool means_damage(int code) {
  return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

// Every statement is the program's own: where one does not fit to the tables, their schema is damaged, or what the
// header says of it.
int as_damage(int code) {
  return code == SQLITE_ERROR ? SQLITE_CORRUPT : code;
}

std::uint64_t checksum_of(const file_format& format) {
  return row_checksum{}
      .add(static_cast<std::uint64_t>(format.application_id))
      .add(static_cast<std::uint64_t>(format.version))
      .value();
}

}  // namespace

database::database(const std::string& path, database_options options) : path_(path), options_(std::move(options)) {
  auto flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
  flags |= options_.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  if (options_.create && !options_.read_only)
    flags |= SQLITE_OPEN_CREATE;
  auto code = sqlite3_open_v2(path.c_str(), &handle_, flags, options_.vfs.empty() ? nullptr : options_.vfs.c_str());
  try {
    if (handle_)
      sqlite3_extended_result_codes(handle_, 1);
    if (code != SQLITE_OK)
      fail(handle_ ? sqlite3_extended_errcode(handle_) : code, "open");
    sqlite3_busy_timeout(handle_, busy_timeout_ms);
    if (options_.read_only)
      sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_wal_autocheckpoint(handle_, 0);
    sqlite3_wal_hook(handle_, note_wal_pages, &wal_pages_);
    execute("PRAGMA cell_size_check=on");
    execute("PRAGMA mmap_size=0");
    execute("PRAGMA foreign_keys=off");
    execute("PRAGMA temp_store=memory");
    execute("PRAGMA cache_size=-8000");
  } catch (...) {
    sqlite3_close(handle_);
    throw;
  }
}

database::~database() {
  sqlite3_close(handle_);
}

bool database::holds(const file_format& format) {
  const auto header = header_format();
  if (header == file_format{} && query_number("SELECT count(*) FROM sqlite_schema") == 0)
    return false;
  const bool ours = header.application_id == format.application_id && header.version <= format.version;
  auto noted = header;
  try {
    noted = noted_format().value_or(header);
  } catch (const damaged_error&) {
    // Another program may well have a table of that name.
    if (ours)
      throw;
  }
  if (noted.application_id != format.application_id)
    throw refused_error(path_ + ": is a database of another program; choose another data directory");
  if (noted.version > format.version)
    throw refused_error(path_ + ": was written by a newer version (format " + std::to_string(noted.version) +
                        ", this program knows " + std::to_string(format.version) + "); run that version");
  if (header != noted)
    throw damaged_error(SQLITE_CORRUPT, path_ + ": its header does not say of what format it is");
  return true;
}

file_format database::header_format() {
  return {static_cast<std::int32_t>(query_number("PRAGMA application_id")),
          static_cast<std::int32_t>(query_number("PRAGMA user_version"))};
}

std::optional<file_format> database::noted_format() {
  if (query_number("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'format'") == 0)
    return std::nullopt;
  statement query{*this, "SELECT application_id, version, crc FROM format WHERE one = 1"};
  if (!query.step())
    throw damaged_error(SQLITE_CORRUPT, path_ + ": table format: its row is missing");
  file_format noted{static_cast<std::int32_t>(query.integer(0)), static_cast<std::int32_t>(query.integer(1))};
  if (checksum_of(noted) != query.number(2))
    throw damaged_error(SQLITE_CORRUPT, path_ + ": table format: its row does not match its checksum");
  return noted;
}

void database::set_format(const file_format& format) {
  execute(("PRAGMA application_id=" + std::to_string(format.application_id)).c_str());
  execute(("PRAGMA user_version=" + std::to_string(format.version)).c_str());
  execute(
      "CREATE TABLE IF NOT EXISTS format(one INTEGER PRIMARY KEY CHECK(one = 1), application_id INTEGER, "
      "version INTEGER, crc INTEGER)");
  statement{*this, "INSERT OR REPLACE INTO format VALUES(1, ?, ?, ?)"}
      .bind(1, std::int64_t{format.application_id})
      .bind(2, std::int64_t{format.version})
      .bind(3, checksum_of(format))
      .run();
}

void database::keep_format() {
  if (noted_format())
    return;
  transaction_statements transactions{*this};
  transaction t{transactions};
  set_format(header_format());
  t.commit();
}

void database::start_writing() {
  // Also where commits need not be durable at once, the file must come into being whole.
  execute("PRAGMA synchronous=full");
  execute("PRAGMA locking_mode=normal");
  statement mode{*this, "PRAGMA journal_mode=wal"};
  if (!mode.step() || mode.bytes(0) != "wal")
    fail(SQLITE_CANTOPEN, "switch to WAL");
  mode.reset();
  execute(journal_size_limit);
  query_number("SELECT count(*) FROM sqlite_schema");  // The WAL is opened by the first read.
  rewrite_wal();
  if (options_.synchronous == synchronous_mode::normal)
    execute("PRAGMA synchronous=normal");
}

void database::rewrite_wal() {
  sqlite3_file* wal = nullptr;
  auto code = sqlite3_file_control(handle_, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
  if (code != SQLITE_OK || !wal || !wal->pMethods)
    fail(code == SQLITE_OK ? SQLITE_INTERNAL : code, "find the WAL");
  // Nobody else appends while the bytes are read and written back.
  transaction_statements transactions{*this};
  transaction t{transactions};
  sqlite3_int64 size = 0;
  code = wal->pMethods->xFileSize(wal, &size);
  std::string piece;
  for (sqlite3_int64 at = 0; code == SQLITE_OK && at < size; at += static_cast<sqlite3_int64>(piece.size())) {
    piece.resize(static_cast<std::size_t>(std::min(size - at, rewrite_piece)));
    code = wal->pMethods->xRead(wal, piece.data(), static_cast<int>(piece.size()), at);
    if (code == SQLITE_OK)
      code = wal->pMethods->xWrite(wal, piece.data(), static_cast<int>(piece.size()), at);
  }
  if (code == SQLITE_OK && size != 0)
    code = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL);
  if (code != SQLITE_OK)
    fail(code, "make the WAL durable");
}

void database::execute(const char* sql) {
  auto code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK)
    fail(as_damage(code), sql);
}

std::int64_t database::query_number(const char* sql) {
  statement query{*this, sql};
  return query.step() ? query.integer(0) : 0;
}

bool database::checkpoint() {
  // SQLite itself would let a read-only connection checkpoint, if its VFS could open the file for writing.
  if (options_.read_only)
    throw std::logic_error("database: a read-only connection never checkpoints");
  int frames = 0, copied = 0;
  auto code = sqlite3_wal_checkpoint_v2(handle_, nullptr, SQLITE_CHECKPOINT_PASSIVE, &frames, &copied);
  if ((code & 0xff) == SQLITE_BUSY)
    return false;
  if (code != SQLITE_OK)
    fail(code, "checkpoint");
  return frames == copied;
}

bool database::checkpoint_if_due() {
  if (wal_pages_ < options_.checkpoint_pages)
    return false;
  // When it is complete, the next commit starts the WAL afresh and the hook says so. When a reader keeps it from
  // being complete, the next commit tries again.
  return checkpoint();
}

std::uint64_t database::size_bytes() {
  auto pages = query_number("PRAGMA page_count") - query_number("PRAGMA freelist_count");
  return static_cast<std::uint64_t>(pages * query_number("PRAGMA page_size"));
}

void database::abandon() {
  abandoned_ = true;
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
}

void database::fail(int code, std::string_view doing) const {
  auto message = path_ + ": cannot " + std::string{doing} + ": ";
  message += handle_ && sqlite3_errcode(handle_) != SQLITE_OK ? sqlite3_errmsg(handle_) : sqlite3_errstr(code);
  message += " (SQLite code " + std::to_string(code);
  if (auto number = handle_ ? sqlite3_system_errno(handle_) : 0; number != 0 && (code & 0xff) != SQLITE_CORRUPT)
    message += std::string{", "} + std::strerror(number);
  message += ")";
  if (means_damage(code))
    throw damaged_error(code, message);
  throw database_error(code, message);
}

statement::statement(database& db, std::string_view sql) : db_(&db) {
  auto code = sqlite3_prepare_v3(db.handle(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                 &handle_, nullptr);
  if (code != SQLITE_OK)
    db.fail(as_damage(code), sql);
}

statement::~statement() {
  sqlite3_finalize(handle_);
}

statement::statement(statement&& other) noexcept : db_(other.db_), handle_(std::exchange(other.handle_, nullptr)) {}

statement& statement::bind(int position, std::int64_t x) {
  check(sqlite3_bind_int64(handle_, position, x));
  return *this;
}

statement& statement::bind(int position, std::uint64_t x) {
  return bind(position, static_cast<std::int64_t>(x));
}

statement& statement::bind_text(int position, std::string_view x) {
  // SQLite takes a null pointer for NULL, and an empty view may hold one.
  check(sqlite3_bind_text64(handle_, position, x.data() ? x.data() : "", x.size(), SQLITE_STATIC, SQLITE_UTF8));
  return *this;
}

statement& statement::bind_blob(int position, std::string_view x) {
  check(sqlite3_bind_blob64(handle_, position, x.data() ? x.data() : "", x.size(), SQLITE_STATIC));
  return *this;
}

statement& statement::bind_null(int position) {
  check(sqlite3_bind_null(handle_, position));
  return *this;
}

bool statement::step() {
  auto code = sqlite3_step(handle_);
  if (code == SQLITE_ROW)
    return true;
  if (code == SQLITE_DONE)
    return false;
  db_->fail(code, sqlite3_sql(handle_));
}

void statement::run() {
  reset_at_end guard{*this};
  while (step()) {
  }
}

void statement::reset() {
  // What it returns is the error of the last step, which was already thrown.
  sqlite3_reset(handle_);
}

std::int64_t statement::integer(int column) const {
  return sqlite3_column_int64(handle_, column);
}

std::string_view statement::bytes(int column) const {
  auto data = static_cast<const char*>(sqlite3_column_blob(handle_, column));
  auto size = static_cast<std::size_t>(sqlite3_column_bytes(handle_, column));
  return data ? std::string_view{data, size} : std::string_view{};
}

bool statement::is_null(int column) const {
  return sqlite3_column_type(handle_, column) == SQLITE_NULL;
}

void statement::check(int code) {
  if (code != SQLITE_OK)
    db_->fail(code, sqlite3_sql(handle_));
}

transaction_statements::transaction_statements(database& db)
    : db_(&db), begin_(db, "BEGIN IMMEDIATE"), commit_(db, "COMMIT"), rollback_(db, "ROLLBACK") {}

transaction::transaction(transaction_statements& statements) : statements_(statements) {
  statements_.begin_.run();
}

transaction::~transaction() {
  // Some errors roll back by themselves; autocommit mode is how SQLite tells.
  if (!open_ || sqlite3_get_autocommit(statements_.db_->handle()))
    return;
  try {
    statements_.rollback_.run();
  } catch (const database_error&) {
    // Closing the connection rolls back, and the error that brought us here is on its way already.
  }
}

void transaction::commit() {
  statements_.commit_.run();
  open_ = false;
}

}  // namespace coordinator
