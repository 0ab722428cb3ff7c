#include "persistence/raft_store.hpp"

#include <doctest/doctest.h>
#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "persistence/raft_tables.hpp"
#include "tests/support/fault_vfs.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

const node_id self{"n1"};

raft_store_options with_incarnation(std::uint64_t incarnation) {
  raft_store_options options;
  options.new_incarnation = incarnation;
  return options;
}

std::unique_ptr<raft_store> open(const std::string& path) {
  return raft_store::open(path, self, with_incarnation(42));
}

log_entry command(std::uint64_t index, std::uint64_t term, std::string payload) {
  return {{index}, {term}, entry_kind::command, static_cast<std::int64_t>(1000 + index), std::move(payload)};
}

genesis founding() {
  return {"00112233445566778899aabbccddeeff", {{{self, {42}, "a:1", "a:2", true}}}, 5};
}

raft_write founded() {
  return {.state = hard_state{{1}, std::nullopt},
          .entries = {{{1}, {1}, entry_kind::genesis, 1001, "founders"}},
          .formed = founding()};
}

// Runs SQL behind the store's back.
void tamper(const std::string& path, const std::string& sql) {
  database db{path, {}};
  db.execute(sql.c_str());
}

// What opening the file and reading all of its log says, or nothing.
std::string complaint(const std::string& path) {
  try {
    auto store = open(path);
    store->read_entries({1}, store->last_index(), 1 << 20);
    return {};
  } catch (const damaged_error& error) {
    return error.what();
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("raft_store: a new file has its incarnation, no term, no vote and no log") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  {
    auto store = open(path);
    CHECK(store->contents().node == self);
    CHECK(store->contents().incarnation.value == 42);
    CHECK(store->contents().state == hard_state{});
    CHECK(store->contents().first_index.value == 1);
    CHECK(store->contents().last_index.value == 0);
    CHECK_FALSE(store->contents().founded);
    CHECK(store->read_entries({1}, {10}, 1000).empty());
  }
  auto again = raft_store::open(path, self, with_incarnation(43));
  CHECK(again->contents().incarnation.value == 42);
}

TEST_CASE("raft_store: all that was written is found at the next start") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  {
    auto store = open(path);
    store->write({.formation = std::string{"pro\0mise", 8}});
    store->write(founded());
    store->write({.state = hard_state{{3}, node_id{"n2"}}, .entries = {command(2, 2, ""), command(3, 3, "x")}});
    log_entry change{{4}, {3}, entry_kind::membership, 1004, "members"};
    store->write({.entries = {change, command(5, 3, "y")}});
    CHECK(store->last_index().value == 5);
  }
  auto contents = open(path)->take_contents();
  CHECK(contents.state == hard_state{{3}, node_id{"n2"}});
  CHECK(contents.formation == std::string{"pro\0mise", 8});
  CHECK(contents.founded == founding());
  CHECK(contents.last_index.value == 5);
  CHECK(contents.last_time_ms == 1005);
  CHECK(contents.terms == std::vector<term_run>{{{1}, {1}}, {{2}, {2}}, {{3}, {3}}});
  REQUIRE(contents.memberships.size() == 2);
  CHECK(contents.memberships[0].kind == entry_kind::genesis);
  CHECK(contents.memberships[1].payload == "members");
  REQUIRE(contents.tail.size() == 5);
  CHECK(contents.tail[1] == command(2, 2, ""));
  CHECK(contents.tail[4] == command(5, 3, "y"));
}

TEST_CASE("raft_store: a long WAL that a killed process left behind is taken over") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  auto store = open(path);
  store->write(founded());
  for (std::uint64_t i = 2; i < 20; ++i)
    store->write({.entries = {command(i, 1, std::string(50'000, 'x'))}});
  // What is on the disk at this moment is what a killed process leaves.
  auto copy = directory / "copy.db";
  std::filesystem::copy_file(path, copy);
  std::filesystem::copy_file(path + "-wal", copy + "-wal");
  REQUIRE(std::filesystem::file_size(copy + "-wal") > 800'000);
  auto again = open(copy);
  CHECK(again->contents().last_index.value == 19);
  CHECK(again->read_entries({19}, {19}, 1 << 20).front().payload == std::string(50'000, 'x'));
}

TEST_CASE("raft_store: a vote for nobody differs from a vote for a node without a name") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  open(path)->write({.state = hard_state{{3}, node_id{}}});
  CHECK(open(path)->contents().state.voted_for == node_id{});
  open(path)->write({.state = hard_state{{3}, std::nullopt}});
  CHECK_FALSE(open(path)->contents().state.voted_for);
}

TEST_CASE("raft_store: truncation and what replaces it are one write (Raft §5.3)") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  {
    auto store = open(path);
    store->write(founded());
    store->write(
        {.state = hard_state{{2}, self}, .entries = {command(2, 2, "a"), command(3, 2, "b"), command(4, 2, "c")}});
    store->write(
        {.state = hard_state{{5}, std::nullopt}, .truncate_from = log_index{3}, .entries = {command(3, 5, "new")}});
    CHECK(store->last_index().value == 3);
    CHECK(store->read_entries({2}, {9}, 1000) == std::vector{command(2, 2, "a"), command(3, 5, "new")});
    // Beyond the end there is nothing to delete.
    store->write({.truncate_from = log_index{9}, .entries = {command(4, 5, "d")}});
    CHECK(store->last_index().value == 4);
  }
  auto store = open(path);
  CHECK(store->contents().terms == std::vector<term_run>{{{1}, {1}}, {{2}, {2}}, {{3}, {5}}});
  // After a truncation the terms before it decide what may follow.
  store->write({.truncate_from = log_index{2}, .entries = {command(2, 1, "older term")}});
  store->write({.entries = {command(3, 1, "of that term too")}});
  CHECK(store->last_index().value == 3);
}

TEST_CASE("raft_store: the tail holds the newest entries up to its budget, the very newest in any case") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  {
    auto store = open(path);
    store->write(founded());
    for (std::uint64_t i = 2; i <= 20; ++i)
      store->write({.entries = {command(i, 1, std::string(100, 'x'))}});
  }
  auto options = with_incarnation(42);
  options.tail_bytes = 250;
  auto contents = raft_store::open(path, self, options)->take_contents();
  REQUIRE(contents.tail.size() == 2);
  CHECK(contents.tail.back().index.value == 20);
  options.tail_bytes = 1;
  CHECK(raft_store::open(path, self, options)->contents().tail.size() == 1);
}

TEST_CASE("raft_store: reading gives whole entries up to a budget, at least one, and nothing outside the log") {
  temporary_directory directory;
  auto store = open(directory / "raft.db");
  store->write(founded());
  for (std::uint64_t i = 2; i <= 9; ++i)
    store->write({.entries = {command(i, 1, std::string(100, 'x'))}});
  CHECK(store->read_entries({2}, {9}, 350).size() == 3);
  CHECK(store->read_entries({2}, {9}, 1).size() == 1);
  CHECK(store->read_entries({2}, {3}, 10000).size() == 2);
  CHECK(store->read_entries({8}, {99}, 10000).size() == 2);
  CHECK(store->read_entries({0}, {3}, 10000).empty());
  CHECK(store->read_entries({10}, {99}, 10000).empty());
  CHECK(store->read_entries({5}, {4}, 10000).empty());
}

TEST_CASE("raft_store: what Raft never does is refused with nothing changed") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  auto store = open(path);
  CHECK_THROWS_AS(store->write({.entries = {command(1, 1, "no term was saved")}}), std::logic_error);
  store->write(founded());
  store->write({.state = hard_state{{4}, self}, .entries = {command(2, 3, "a")}});
  CHECK_THROWS_AS(store->write({.entries = {command(4, 4, "gap")}}), std::logic_error);
  CHECK_THROWS_AS(store->write({.entries = {command(2, 4, "again")}}), std::logic_error);
  CHECK_THROWS_AS(store->write({.entries = {command(3, 4, "x"), command(5, 4, "gap")}}), std::logic_error);
  CHECK_THROWS_AS(store->write({.entries = {command(3, 2, "falling term")}}), std::logic_error);
  CHECK_THROWS_AS(store->write({.entries = {command(3, 5, "future term")}}), std::logic_error);
  CHECK_THROWS_AS(store->write({.truncate_from = log_index{0}}), std::logic_error);
  CHECK_THROWS_AS(store->write({.state = hard_state{{3}, self}}), std::logic_error);
  auto other = founding();
  other.cluster_id = "ffeeddccbbaa99887766554433221100";
  CHECK_THROWS_AS(store->write({.formed = other}), std::logic_error);
  store->write({.entries = {command(3, 4, "fine")}, .formed = founding()});
  store.reset();
  CHECK(open(path)->contents().last_index.value == 3);
}

TEST_CASE("raft_store: an empty write touches no disk") {
  fault_disk disk{"empty-write", 1};
  auto options = with_incarnation(42);
  options.vfs = disk.vfs();
  auto store = raft_store::open("/raft.db", self, options);
  auto operations = disk.operations();
  store->write({.number = 5});
  CHECK(disk.operations() == operations);
}

TEST_CASE("raft_store: a file of another node, of another program or of a newer version is refused") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  open(path)->write(founded());
  try {
    raft_store::open(path, {"n2"}, with_incarnation(1));
    FAIL("another node's file was opened");
  } catch (const refused_error& error) {
    CHECK(contains(error.what(), path));
    CHECK(contains(error.what(), "'n1'"));
    CHECK(contains(error.what(), "'n2'"));
  }
  database{path, {}}.set_format({raft_tables::format.application_id, 99});
  CHECK_THROWS_WITH_AS(open(path), doctest::Contains("newer version"), refused_error);
  CHECK_THROWS_AS(inspect_raft_file(path), refused_error);
  database{path, {}}.set_format({99, 1});
  CHECK_THROWS_AS(open(path), refused_error);
}

TEST_CASE("raft_store: a file without a node is completed only where one may be created") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  std::ofstream{path};
  CHECK_FALSE(inspect_raft_file(path));
  auto options = with_incarnation(42);
  options.create = false;
  CHECK_THROWS_AS(raft_store::open(path, self, options), damaged_error);
  CHECK_THROWS_AS(raft_store::open(directory / "absent.db", self, options), database_error);
  CHECK(open(path)->contents().incarnation.value == 42);
  CHECK(inspect_raft_file(path)->node == self);
}

TEST_CASE("raft_store: a new node is in the database proper, so that a file without one was never acted upon") {
  fault_disk disk{"proper", 1}, copy{"proper-copy", 1};
  auto options = with_incarnation(42);
  options.vfs = disk.vfs();
  auto store = raft_store::open("/raft.db", self, options);
  copy.write("/raft.db", disk.read("/raft.db"));
  REQUIRE(inspect_raft_file("/raft.db", copy.vfs()));
  CHECK(inspect_raft_file("/raft.db", copy.vfs())->incarnation.value == 42);
}

TEST_CASE("raft_store: whose file it is can be read without opening it to write") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  open(path);
  CHECK_FALSE(inspect_raft_file(path)->cluster_id);
  auto store = open(path);
  store->write(founded());
  CHECK(inspect_raft_file(path)->cluster_id == founding().cluster_id);
  CHECK(inspect_raft_file(path)->incarnation.value == 42);
}

TEST_CASE("raft_store: damage to any field of any row is noticed, and the row is named") {
  struct damage {
    const char* sql;
    const char* said;
  };
  const damage cases[] = {
      {"UPDATE log SET term = 2 WHERE idx = 3", "row 3 does not match its checksum"},
      {"UPDATE log SET kind = 0 WHERE idx = 3", "row 3 does not match its checksum"},
      {"UPDATE log SET time_ms = 0 WHERE idx = 3", "row 3 does not match its checksum"},
      {"UPDATE log SET payload = x'00' WHERE idx = 3", "row 3 does not match its checksum"},
      {"UPDATE log SET crc = crc + 1 WHERE idx = 3", "row 3 does not match its checksum"},
      {"UPDATE log SET idx = 30 WHERE idx = 4", "row 30 does not match its checksum"},
      {"DELETE FROM log WHERE idx = 3", "row 3 is missing"},
      {"DELETE FROM log WHERE idx = 1", "row 1 is missing"},
      {"UPDATE vote SET current_term = 2", "table vote"},
      {"UPDATE vote SET voted_for = 'n3'", "table vote"},
      {"UPDATE vote SET voted_for = NULL", "table vote"},
      {"DELETE FROM vote", "table vote"},
      {"UPDATE node SET node_id = 'n9'", "table node"},
      {"UPDATE node SET incarnation = 9", "table node"},
      {"UPDATE node SET base_index = 1", "table node"},
      {"UPDATE node SET base_term = 1", "table node"},
      {"UPDATE node SET founded = NULL", "table node"},
      {"UPDATE node SET formation = 'x'", "table node"},
      {"DELETE FROM node", "table node"},
  };
  for (auto& damage : cases) {
    temporary_directory directory;
    auto path = directory / "raft.db";
    {
      auto store = open(path);
      store->write(founded());
      store->write({.state = hard_state{{1}, node_id{"n2"}},
                    .entries = {command(2, 1, "a"), command(3, 1, "b"), command(4, 1, "c")}});
    }
    REQUIRE(complaint(path) == "");
    tamper(path, damage.sql);
    CAPTURE(damage.sql);
    CHECK(contains(complaint(path), damage.said));
    CHECK(contains(complaint(path), path));
  }
}

TEST_CASE("raft_store: a flipped bit anywhere in a payload is noticed") {
  fault_disk disk{"flip", 1};
  auto options = with_incarnation(42);
  options.vfs = disk.vfs();
  std::string payload = "a payload that is easily found";
  {
    auto store = raft_store::open("/raft.db", self, options);
    store->write(founded());
    store->write({.entries = {command(2, 1, payload)}});
  }
  auto at = disk.read("/raft.db").find(payload);
  REQUIRE(at != std::string::npos);
  for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
    disk.flip_bit("/raft.db", at + bit / 8, bit % 8);
    CHECK_THROWS_AS(raft_store::open("/raft.db", self, options), damaged_error);
    disk.flip_bit("/raft.db", at + bit / 8, bit % 8);
  }
  CHECK(raft_store::open("/raft.db", self, options)->last_index().value == 2);
}

TEST_CASE("raft_store: a row that is damaged while the store is open is noticed when it is read") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  auto store = open(path);
  store->write(founded());
  store->write({.entries = {command(2, 1, "a"), command(3, 1, "b")}});
  tamper(path, "UPDATE log SET payload = 'z' WHERE idx = 2");
  CHECK_THROWS_AS(store->read_entries({1}, {3}, 1000), damaged_error);
  CHECK(store->read_entries({3}, {3}, 1000).size() == 1);
  tamper(path, "DELETE FROM log WHERE idx = 3");
  CHECK_THROWS_AS(store->read_entries({3}, {3}, 1000), damaged_error);
}

TEST_CASE("raft_store: no flipped bit of the whole file leads to other contents") {
  fault_disk disk{"flip-all", 1};
  auto options = with_incarnation(42);
  options.vfs = disk.vfs();
  {
    auto store = raft_store::open("/raft.db", self, options);
    store->write(founded());
    store->write(
        {.state = hard_state{{2}, node_id{"n3"}}, .entries = {command(2, 1, "payload"), command(3, 2, "more")}});
  }
  auto original = raft_store::open("/raft.db", self, options)->take_contents();
  auto size = disk.read("/raft.db").size();
  auto noticed = 0;
  for (std::size_t byte = 0; byte < size; ++byte) {
    if (disk.read("/raft.db").substr(byte, 64) == std::string(64, '\0'))
      continue;
    disk.flip_bit("/raft.db", byte, byte % 8);
    try {
      auto owner = inspect_raft_file("/raft.db", disk.vfs());
      auto no_creation = options;
      no_creation.create = false;
      // Opening to write would change the file; a copy in memory stands in for what it reads.
      fault_disk copy{"flip-copy", 1};
      copy.write("/raft.db", disk.read("/raft.db"));
      no_creation.vfs = copy.vfs();
      auto store = raft_store::open("/raft.db", self, no_creation);
      CAPTURE(byte);
      CHECK(owner->node == self);
      CHECK(store->contents().state == original.state);
      CHECK(store->contents().tail == original.tail);
      CHECK(store->contents().founded == original.founded);
    } catch (const std::runtime_error&) {
      ++noticed;
    }
    disk.flip_bit("/raft.db", byte, byte % 8);
  }
  CHECK(noticed > 100);
}
