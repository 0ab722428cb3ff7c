#include "persistence/database.hpp"

#include <doctest/doctest.h>
#include <sqlite3.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>

#include "persistence/offline.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"
#include "persistence/verify.hpp"
#include "tests/support/fault_vfs.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

constexpr file_format format{0x1234, 2};

void create_table(database& db) {
  db.start_writing();
  transaction_statements transactions{db};
  transaction t{transactions};
  db.set_format(format);
  db.execute("CREATE TABLE t(x INTEGER PRIMARY KEY, y BLOB)");
  t.commit();
}

std::string pragma(database& db, const std::string& name) {
  statement query{db, "PRAGMA " + name};
  return query.step() ? std::string{query.bytes(0)} : "";
}

}  // namespace

TEST_CASE("database: a connection is set up as the durability of the stores needs it") {
  temporary_directory directory;
  database db{directory / "x.db", {.create = true}};
  create_table(db);
  CHECK(pragma(db, "journal_mode") == "wal");
  CHECK(pragma(db, "synchronous") == "2");
  CHECK(pragma(db, "wal_autocheckpoint") == "0");
  CHECK(pragma(db, "locking_mode") == "normal");
  CHECK(pragma(db, "foreign_keys") == "0");
  CHECK(pragma(db, "cell_size_check") == "1");
  CHECK(pragma(db, "mmap_size") == "0");

  database relaxed{directory / "y.db", {.create = true, .synchronous = synchronous_mode::normal}};
  create_table(relaxed);
  CHECK(pragma(relaxed, "synchronous") == "1");
}

TEST_CASE("database: tables that a statement does not fit to are damaged ones") {
  temporary_directory directory;
  database db{directory / "x.db", {.create = true}};
  create_table(db);
  CHECK_THROWS_AS((statement{db, "SELECT z FROM t"}), damaged_error);
  CHECK_THROWS_AS((statement{db, "SELECT x FROM u"}), damaged_error);
}

TEST_CASE("database: what was not committed is rolled back at the end of the scope") {
  temporary_directory directory;
  database db{directory / "x.db", {.create = true}};
  create_table(db);
  transaction_statements transactions{db};
  {
    transaction t{transactions};
    db.execute("INSERT INTO t VALUES(1, 'a')");
  }
  CHECK(db.query_number("SELECT count(*) FROM t") == 0);
  {
    transaction t{transactions};
    db.execute("INSERT INTO t VALUES(1, 'a')");
    t.commit();
  }
  CHECK(db.query_number("SELECT count(*) FROM t") == 1);
}

TEST_CASE("database: numbers, text, blobs with null bytes, empty blobs and NULL come back as they were bound") {
  temporary_directory directory;
  database db{directory / "x.db", {.create = true}};
  create_table(db);
  statement insert{db, "INSERT INTO t VALUES(?, ?)"};
  std::string binary{"a\0b\xff", 4};
  insert.bind(1, ~std::uint64_t{0}).bind_blob(2, binary).run();
  insert.bind(1, std::int64_t{1}).bind_blob(2, {}).run();
  insert.bind(1, std::int64_t{2}).bind_null(2).run();
  insert.bind(1, std::int64_t{3}).bind_text(2, {}).run();
  statement query{db, "SELECT x, y FROM t ORDER BY x"};
  REQUIRE(query.step());
  CHECK(query.number(0) == ~std::uint64_t{0});
  CHECK(query.bytes(1) == binary);
  REQUIRE(query.step());
  CHECK_FALSE(query.is_null(1));
  CHECK(query.bytes(1).empty());
  REQUIRE(query.step());
  CHECK(query.is_null(1));
  REQUIRE(query.step());
  CHECK_FALSE(query.is_null(1));
  CHECK_FALSE(query.step());
}

TEST_CASE("database: an error says which file, what was being done, and SQLite's extended code") {
  temporary_directory directory;
  database db{directory / "x.db", {.create = true}};
  create_table(db);
  db.execute("INSERT INTO t VALUES(1, 'a')");
  try {
    db.execute("INSERT INTO t VALUES(1, 'a')");
    FAIL("a duplicate key was taken");
  } catch (const database_error& error) {
    CHECK(error.code() == SQLITE_CONSTRAINT_PRIMARYKEY);
    CHECK(std::string{error.what()}.find(directory / "x.db") == 0);
    CHECK(std::string{error.what()}.find("INSERT INTO t") != std::string::npos);
  }
  CHECK_THROWS_AS((database{directory / "absent.db", {}}), database_error);
  CHECK_THROWS_AS((database{directory / "no/such/x.db", {.create = true}}), database_error);
}

TEST_CASE("database: a file that is not a database is damage") {
  temporary_directory directory;
  std::ofstream{directory / "x.db"} << std::string(8192, 'x');
  auto open = [&] {
    database db{directory / "x.db", {}};
    db.holds(format);
  };
  CHECK_THROWS_AS(open(), damaged_error);
}

TEST_CASE("database: another program's file and a newer version's are refused and left as they are") {
  temporary_directory directory;
  auto path = directory / "x.db";
  auto holds = [&](const file_format& expected) { return database{path, {.create = true}}.holds(expected); };
  CHECK_FALSE(holds(format));
  {
    database db{path, {.create = true}};
    create_table(db);
  }
  CHECK(holds(format));
  CHECK(holds({format.application_id, 3}));
  CHECK_THROWS_AS(holds({format.application_id, 1}), refused_error);
  CHECK_THROWS_AS(holds({0x9999, 2}), refused_error);

  auto foreign = directory / "foreign.db";
  database{foreign, {.create = true}}.execute("CREATE TABLE theirs(x)");
  CHECK_THROWS_AS((database{foreign, {}}.holds(format)), refused_error);
  database db{foreign, {}};
  CHECK(pragma(db, "journal_mode") == "delete");
}

TEST_CASE(
    "database: a header that says another format than the file's own table is damage, and no other program's file") {
  temporary_directory directory;
  auto path = directory / "x.db";
  auto with = [&](const char* sql) {
    std::filesystem::remove(path);
    database db{path, {.create = true}};
    create_table(db);
    db.execute(sql);
  };
  auto holds = [&] { return database{path, {}}.holds(format); };
  with("PRAGMA user_version=66");
  CHECK_THROWS_AS(holds(), damaged_error);
  with("PRAGMA user_version=0");
  CHECK_THROWS_AS(holds(), damaged_error);
  with("PRAGMA application_id=0x1235");
  CHECK_THROWS_AS(holds(), damaged_error);
  with("UPDATE format SET version = 1");
  CHECK_THROWS_AS(holds(), damaged_error);
  with("DELETE FROM format");
  CHECK_THROWS_AS(holds(), damaged_error);
  // Where the header does not say that it is ours, a row that is no good does not either.
  with("UPDATE format SET version = 1; PRAGMA application_id=0x1235");
  CHECK_THROWS_AS(holds(), refused_error);
  with("DROP TABLE format; CREATE TABLE format(theirs); PRAGMA application_id=0x1235");
  CHECK_THROWS_AS(holds(), refused_error);
}

TEST_CASE("database: a file from before there was a table of the format is taken, and gets one") {
  temporary_directory directory;
  auto path = directory / "x.db";
  {
    database db{path, {.create = true}};
    create_table(db);
    db.execute("DROP TABLE format");
  }
  {
    database db{path, {}};
    CHECK(db.holds(format));
    db.start_writing();
    db.keep_format();
    db.keep_format();
    CHECK(db.holds(format));
    db.execute("PRAGMA user_version=66");
  }
  CHECK_THROWS_AS((database{path, {}}.holds(format)), damaged_error);
}

TEST_CASE("database: a reader neither writes nor checkpoints, even when it is the last to close") {
  fault_disk disk{"reader", 1};
  {
    database db{"/x.db", {.vfs = disk.vfs(), .create = true}};
    create_table(db);
    db.execute("INSERT INTO t VALUES(1, 'a')");
    disk.stop();
  }
  disk.restart();
  auto operations = disk.operations();
  {
    database db{"/x.db", {.vfs = disk.vfs(), .read_only = true}};
    CHECK(db.query_number("SELECT count(*) FROM t") == 1);
    CHECK_THROWS_AS(db.execute("INSERT INTO t VALUES(2, 'b')"), database_error);
  }
  CHECK(disk.operations() == operations);
  CHECK(disk.read("/x.db-wal").size() > 4096);
}

TEST_CASE("database: every connection but the writer's is read-only, and neither writes, checkpoints nor tidies up") {
  fault_disk disk{"others", 1};
  const std::atomic<bool> go_on{false};
  {
    raft_store_options options;
    options.vfs = disk.vfs();
    options.new_incarnation = 1;
    auto raft = raft_store::open("/raft.db", {"n1"}, options);
    raft->write({.state = hard_state{{1}, std::nullopt}, .entries = {{{1}, {1}, entry_kind::noop, 1, ""}}});
    auto state = state_store::open("/state.db", {"n1"}, {1}, {disk.vfs()});
    state->write({{1}, {1}, 1, 0, {}});
    disk.stop();
  }
  // The writers were killed: whoever closes last could copy the WALs and remove them.
  disk.restart();
  auto operations = disk.operations();
  inspect_raft_file("/raft.db", disk.vfs());
  inspect_state_file("/state.db", disk.vfs());
  log_inspector{"/raft.db", disk.vfs()}.verify();
  state_reader{"/state.db", disk.vfs()}.read(
      std::chrono::steady_clock::now() + std::chrono::seconds{60}, [](auto&) {}, [](auto&) {});
  for (auto path : {"/raft.db", "/state.db"})
    CHECK(quick_check(path, disk.vfs(), go_on) == std::nullopt);
  CHECK(scan_log("/raft.db", disk.vfs(), go_on) == std::nullopt);
  CHECK(full_check_state("/state.db", disk.vfs(), go_on) == std::nullopt);
  CHECK(disk.operations() == operations);
  CHECK(disk.read("/raft.db-wal").size() > 4096);

  database reader{"/raft.db", {.vfs = disk.vfs(), .read_only = true}};
  CHECK_THROWS_AS(reader.checkpoint(), std::logic_error);
  CHECK_THROWS_AS(reader.execute("DELETE FROM log"), database_error);
}

TEST_CASE("database: connections are opened to write in the stores alone, and in what works on stopped nodes") {
  namespace fs = std::filesystem;
  const std::regex connection{R"(\bdatabase\s+\w+\{|\bdb_\(path, \{|target_\.emplace\()"};
  std::set<std::string> writers;
  auto seen = 0;
  for (auto folder : {"actors", "http", "persistence"})
    for (auto& file : fs::recursive_directory_iterator{fs::path{COORDINATOR_SOURCE_DIR} / folder}) {
      if (file.path().extension() != ".cpp" && file.path().extension() != ".hpp")
        continue;
      std::ifstream in{file.path()};
      auto name = file.path().filename().string();
      for (std::string line; std::getline(in, line);) {
        if (line.find("sqlite3_open") != std::string::npos)
          CHECK(name == "database.cpp");
        if (!std::regex_search(line, connection))
          continue;
        ++seen;
        if (line.find("read_only = true") == std::string::npos)
          writers.insert(name);
      }
    }
  CHECK(seen >= 8);
  // backup.cpp and recover.cpp write to a copy that nobody else knows yet.
  CHECK(writers ==
        std::set<std::string>{"backup.cpp", "offline.cpp", "raft_store.cpp", "recover.cpp", "state_store.cpp"});
}

TEST_CASE("database: the WAL is copied and started afresh once it is long enough, but not under a reader") {
  fault_disk disk{"checkpoint", 1};
  database db{"/x.db", {.vfs = disk.vfs(), .create = true, .checkpoint_pages = 20}};
  create_table(db);
  auto write = [&](int count) {
    for (int i = 0; i < count; ++i) {
      db.execute("INSERT INTO t(y) VALUES(randomblob(100))");
      db.checkpoint_if_due();
    }
  };
  write(500);
  auto length = disk.read("/x.db-wal").size();
  CHECK(length < 40 * 4200);

  database reader{"/x.db", {.vfs = disk.vfs(), .read_only = true}};
  reader.execute("BEGIN");
  auto seen = reader.query_number("SELECT count(*) FROM t");
  write(100);
  CHECK(disk.read("/x.db-wal").size() > length);
  CHECK_FALSE(db.checkpoint());
  CHECK(reader.query_number("SELECT count(*) FROM t") == seen);
  reader.execute("COMMIT");
  CHECK(db.checkpoint());
}

TEST_CASE("database: a checkpoint whose sync fails is an error, not a secret") {
  fault_disk disk{"checkpoint-sync", 1};
  database db{"/x.db", {.vfs = disk.vfs(), .create = true, .checkpoint_pages = 5}};
  create_table(db);
  db.execute("INSERT INTO t VALUES(1, zeroblob(100000))");
  disk.fail_sync(2);
  CHECK_THROWS_AS(db.checkpoint_if_due(), database_error);
}

TEST_CASE("database: an abandoned connection writes nothing more, not even on closing") {
  fault_disk disk{"abandon", 1};
  std::uint64_t operations = 0;
  {
    database db{"/x.db", {.vfs = disk.vfs(), .create = true}};
    create_table(db);
    db.execute("INSERT INTO t VALUES(1, 'a')");
    db.abandon();
    operations = disk.operations();
  }
  CHECK(disk.operations() == operations);
}
