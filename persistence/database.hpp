#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace coordinator {

/// What SQLite reported, and what was being done when it did.
class database_error : public std::runtime_error {
 public:
  database_error(int code, const std::string& message) : std::runtime_error(message), code_(code) {}
  /// SQLite's extended result code, such as SQLITE_IOERR_FSYNC.
  int code() const { return code_; }

 private:
  int code_;
};

/// What is in the file cannot be what was written: a checksum does not match, rows are missing, or SQLite
/// itself finds the file malformed. The message names the file and the row.
class damaged_error : public database_error {
 public:
  using database_error::database_error;
};

/// The file is sound, but not for us: of another node or incarnation, or written by a newer version. One line
/// that names the file and says what would do. Nothing was changed.
class refused_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// When a commit is on the disk. See docs/architecture.md, "Durability".
enum class synchronous_mode {
  normal,  ///< After the next checkpoint; a crash keeps some consistent earlier state.
  full,    ///< When `transaction::commit` returns.
};

struct database_options {
  std::string vfs = {};    ///< The SQLite VFS to go through; empty is the system's own.
  bool read_only = false;  ///< Neither writes nor checkpoints, not even when it is the last to close.
  bool create = false;     ///< Create the file when it is absent.
  synchronous_mode synchronous = synchronous_mode::full;
  /// WAL length in pages from which `checkpoint_if_due` copies it into the database.
  int checkpoint_pages = 4000;
};

/// What a file says of itself, so that no foreign one is taken for ours.
struct file_format {
  std::int32_t application_id = 0;
  std::int32_t version = 0;  ///< The newest that this program reads and writes.

  friend bool operator==(const file_format&, const file_format&) = default;
};

/// One connection to a SQLite file in WAL mode. Used by one thread at a time.
///
/// One writer, one checkpointer: a file has exactly one connection that writes it and checkpoints it, owned by one
/// actor; every other one is opened `read_only`, and refuses both. SQLite before 3.51.3 can lose commits when two
/// connections checkpoint and reset the WAL at the same moment, and Debian 12 has 3.40.
///
/// SQLite's automatic checkpoint is off, because it hides its errors: a failed fsync would go unnoticed.
class database {
 public:
  /// Opens `path` and changes nothing in it but for creating it. Throws database_error.
  database(const std::string& path, database_options options);
  ~database();
  database(const database&) = delete;
  database& operator=(const database&) = delete;

  /// False when the file holds nothing yet. Throws refused_error when it is of another format or of a newer version.
  /// The format is in the header, which has no checksum, and in a table's row, which has one: where that row knows the
  /// file for ours and the header does not, the header is damaged, and damaged_error is thrown.
  bool holds(const file_format& format);
  /// Notes the format in both places; part of the transaction under way.
  void set_format(const file_format& format);
  /// Notes what the header says in the table too, where an earlier program did not. Not within a transaction.
  void keep_format();

  /// Puts the file into WAL mode and makes all that can be read from it durable. To be called before anything
  /// read from the file is used: a process that was killed between writing and syncing leaves a commit that
  /// can be read but may yet vanish, and nobody may act on it before it cannot.
  ///
  /// The same cures a sync that failed in an earlier process. The kernel may have marked the lost pages clean,
  /// so that syncing again would prove nothing; therefore the bytes of the WAL are written anew before it is
  /// synced. It still holds every page whose copying into the database did not end in a sync that worked.
  void start_writing();

  /// Runs statements that give no rows.
  void execute(const char* sql);
  /// The single integer that a query or pragma gives.
  std::int64_t query_number(const char* sql);

  /// Copies the WAL into the database and syncs both. False when a reader kept part of it from being copied;
  /// throws when reading, writing or syncing failed.
  bool checkpoint();
  /// The same, once the WAL has grown to `checkpoint_pages`. Called after commits.
  /// True when it did and all was copied.
  bool checkpoint_if_due();

  /// What the file holds: pages in use, those in the WAL included. The WAL itself is not counted: it is overwritten
  /// from its start, and stays within some megabytes. Cheap.
  std::uint64_t size_bytes();

  /// From here on nothing is written or synced on this connection, not even on closing: after a failed
  /// fsync the kernel may have marked the lost pages clean, and a later fsync that succeeds proves nothing.
  void abandon();
  bool abandoned() const { return abandoned_; }

  const std::string& path() const { return path_; }
  sqlite3* handle() const { return handle_; }

  /// Throws what the connection last reported: damaged_error for a malformed file, database_error for the rest.
  [[noreturn]] void fail(int code, std::string_view doing) const;

 private:
  file_format header_format();
  std::optional<file_format> noted_format();
  void rewrite_wal();

  std::string path_;
  database_options options_;
  sqlite3* handle_ = nullptr;
  int wal_pages_ = 0;
  bool abandoned_ = false;
};

/// A statement that is prepared once and run often. Positions of parameters begin at 1, columns at 0, as in SQLite.
class statement {
 public:
  statement(database& db, std::string_view sql);
  ~statement();
  statement(statement&& other) noexcept;
  statement(const statement&) = delete;
  statement& operator=(const statement&) = delete;

  /// Bound text and blobs are not copied: they have to live until the statement is reset.
  statement& bind(int position, std::int64_t x);
  statement& bind(int position, std::uint64_t x);
  statement& bind_text(int position, std::string_view x);
  statement& bind_blob(int position, std::string_view x);
  statement& bind_null(int position);

  /// True when there is a row to read, false at the end.
  bool step();
  /// Runs it to its end and makes it ready for the next time.
  void run();
  void reset();

  std::int64_t integer(int column) const;
  std::uint64_t number(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  /// Valid until the next step or reset.
  std::string_view bytes(int column) const;
  bool is_null(int column) const;

 private:
  void check(int code);

  database* db_;
  sqlite3_stmt* handle_ = nullptr;
};

/// Resets a statement at the end of a scope, however it is left: one that is not keeps its read transaction
/// open, and with it the WAL from being reset.
class reset_at_end {
 public:
  explicit reset_at_end(statement& x) : statement_(x) {}
  ~reset_at_end() { statement_.reset(); }
  reset_at_end(const reset_at_end&) = delete;
  reset_at_end& operator=(const reset_at_end&) = delete;

 private:
  statement& statement_;
};

/// The statements that a transaction needs, prepared once a connection.
class transaction_statements {
 public:
  explicit transaction_statements(database& db);

 private:
  friend class transaction;
  database* db_;
  statement begin_;
  statement commit_;
  statement rollback_;
};

/// A write transaction; what was not committed is rolled back at the end of its scope.
class transaction {
 public:
  explicit transaction(transaction_statements& statements);
  ~transaction();
  transaction(const transaction&) = delete;
  transaction& operator=(const transaction&) = delete;

  /// With synchronous_mode::full, returns when it is on the disk.
  void commit();

 private:
  transaction_statements& statements_;
  bool open_ = true;
};

}  // namespace coordinator
