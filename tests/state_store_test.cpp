#include "persistence/state_store.hpp"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <utility>

#include "persistence/state_tables.hpp"
#include "tests/support/fault_vfs.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

const node_id self{"n1"};
constexpr incarnation_id incarnation{42};
using rows = std::map<std::pair<std::uint8_t, std::string>, std::string>;

std::unique_ptr<state_store> open(const std::string& path, const state_store_options& options = {}) {
  return state_store::open(path, self, incarnation, options);
}

std::uint64_t checksum(const rows& state) {
  std::uint64_t sum = 0;
  for (auto& [key, body] : state)
    sum += row_hash(key.first, key.second, body);
  return sum;
}

row_change put(rows& state, std::uint8_t kind, const std::string& id, const std::string& body) {
  state[{kind, id}] = body;
  return {kind, id, body, row_hash(kind, id, body)};
}

row_change erase(rows& state, std::uint8_t kind, const std::string& id) {
  state.erase({kind, id});
  return {kind, id, std::nullopt, 0};
}

state_write at(std::uint64_t index, const rows& state, std::vector<row_change> changes) {
  return {{index}, {1}, static_cast<std::int64_t>(index * 10), checksum(state), std::move(changes)};
}

rows load(state_store& store) {
  rows found;
  store.load([&](const row_view& row) { found[{row.kind, std::string{row.id}}] = row.body; });
  return found;
}

void tamper(const std::string& path, const std::string& sql) {
  database db{path, {}};
  db.execute(sql.c_str());
}

auto soon() {
  return std::chrono::steady_clock::now() + std::chrono::seconds{60};
}

}  // namespace

TEST_CASE("state_store: a new file is the state before the first entry") {
  temporary_directory directory;
  auto store = open(directory / "state.db");
  CHECK(store->meta() == state_meta{});
  CHECK(load(*store).empty());
}

TEST_CASE("state_store: rows that were put, changed and deleted are found so at the next start") {
  temporary_directory directory;
  auto path = directory / "state.db";
  rows state;
  std::string binary{"\0key\xff", 5};
  {
    auto store = open(path);
    std::vector<row_change> first{put(state, 1, "a", "1"), put(state, 1, "b", ""), put(state, 2, binary, binary)};
    store->write(at(7, state, first));
    std::vector<row_change> second{put(state, 1, "a", "changed"), erase(state, 1, "b"), erase(state, 9, "absent")};
    store->write(at(9, state, second));
    CHECK(load(*store) == state);
  }
  auto store = open(path);
  CHECK(store->meta() == state_meta{{9}, {1}, 90, checksum(state)});
  CHECK(load(*store) == state);
  CHECK(state.size() == 2);
}

TEST_CASE("state_store: last_applied never goes back") {
  temporary_directory directory;
  auto store = open(directory / "state.db");
  store->write(at(7, {}, {}));
  store->write(at(7, {}, {}));
  CHECK_THROWS_AS(store->write(at(6, {}, {})), std::logic_error);
  CHECK(store->meta().last_applied.value == 7);
}

TEST_CASE("state_store: a file of another node, another incarnation or a newer version is refused") {
  temporary_directory directory;
  auto path = directory / "state.db";
  open(path);
  CHECK_THROWS_WITH_AS(state_store::open(path, {"n2"}, incarnation, {}), doctest::Contains("'n1'"), refused_error);
  CHECK_THROWS_AS(state_store::open(path, self, {43}, {}), refused_error);
  CHECK(inspect_state_file(path) == self);
  database{path, {}}.set_format({state_tables::format.application_id, 99});
  CHECK_THROWS_WITH_AS(open(path), doctest::Contains("newer version"), refused_error);
}

TEST_CASE("state_store: damage to any row is noticed when the state is loaded") {
  for (std::string sql :
       {"UPDATE rows SET body = 'x' WHERE id = CAST('b' AS BLOB)",
        "UPDATE rows SET hash = hash + 1 WHERE id = CAST('b' AS BLOB)",
        "UPDATE rows SET id = CAST('c' AS BLOB) WHERE id = CAST('b' AS BLOB)",
        "UPDATE rows SET kind = 2 WHERE id = CAST('b' AS BLOB)",
        "UPDATE rows SET kind = 257 WHERE id = CAST('b' AS BLOB)", "DELETE FROM rows WHERE id = CAST('b' AS BLOB)",
        "UPDATE meta SET checksum = checksum + 1", "UPDATE meta SET last_applied = 1",
        "UPDATE meta SET last_applied_term = 9", "UPDATE meta SET applied_time_ms = 9",
        "UPDATE meta SET incarnation = 9", "UPDATE meta SET node_id = 'n2'", "DELETE FROM meta"}) {
    temporary_directory directory;
    auto path = directory / "state.db";
    rows state;
    auto changes = std::vector{put(state, 1, "a", "1"), put(state, 1, "b", "2")};
    open(path)->write(at(5, state, changes));
    CHECK(load(*open(path)) == state);
    tamper(path, sql);
    CAPTURE(sql);
    CHECK_THROWS_AS(load(*open(path)), damaged_error);
    CHECK_THROWS_AS(state_reader(path).read(
                        soon(), [](auto&) {}, [](auto&) {}),
                    damaged_error);
  }
}

TEST_CASE("state_store: a reader sees one moment, however the writer goes on") {
  temporary_directory directory;
  auto path = directory / "state.db";
  auto store = open(path, {.vfs = {}, .checkpoint_pages = 4});
  rows state;
  std::vector<row_change> changes;
  for (int i = 0; i < 100; ++i)
    changes.push_back(put(state, 1, "id" + std::to_string(i), std::string(200, 'x')));
  store->write(at(5, state, changes));
  auto then = state;
  state_reader reader{path};
  rows found;
  std::uint64_t index = 5;
  state_meta meta;
  CHECK(reader.read(
      soon(),
      [&](const state_meta& x) {
        meta = x;
        store->write(at(++index, state, {put(state, 1, "id1", "later")}));
      },
      [&](const row_view& row) {
        found[{row.kind, std::string{row.id}}] = row.body;
        if (++index % 10 == 0)
          store->write(at(index, state, {put(state, 1, "id" + std::to_string(index % 100), "later")}));
      }));
  CHECK(meta.last_applied.value == 5);
  CHECK(found == then);
  // The same reader sees the present the next time.
  CHECK(reader.read(
      soon(), [&](const state_meta& x) { meta = x; }, [](const row_view&) {}));
  CHECK(meta == store->meta());
}

TEST_CASE("state_store: a reader gives up at its deadline and lets the WAL go") {
  fault_disk disk{"deadline", 1};
  auto store = open("/state.db", {.vfs = disk.vfs(), .checkpoint_pages = 4});
  rows state;
  std::vector<row_change> changes;
  for (int i = 0; i < 100; ++i)
    changes.push_back(put(state, 1, "id" + std::to_string(i), std::string(200, 'x')));
  store->write(at(5, state, changes));
  state_reader reader{"/state.db", disk.vfs()};
  auto given = 0;
  CHECK_FALSE(reader.read(
      std::chrono::steady_clock::now(), [](auto&) {}, [&](auto&) { ++given; }));
  CHECK(given == 0);
  auto length = disk.read("/state.db-wal").size();
  for (std::uint64_t i = 6; i < 200; ++i)
    store->write(at(i, state, {put(state, 1, "id1", std::to_string(i))}));
  CHECK(disk.read("/state.db-wal").size() < length + 20 * 4200);
}

TEST_CASE("state_store: a reader whose caller throws holds nothing afterwards") {
  temporary_directory directory;
  auto path = directory / "state.db";
  auto store = open(path);
  rows state;
  store->write(at(5, state, {put(state, 1, "a", "1")}));
  state_reader reader{path};
  CHECK_THROWS_AS(reader.read(
                      soon(), [](auto&) {}, [](auto&) { throw std::length_error("full"); }),
                  std::length_error);
  store->write(at(6, state, {put(state, 1, "b", "2")}));
  state_meta meta;
  CHECK(reader.read(
      soon(), [&](const state_meta& x) { meta = x; }, [](auto&) {}));
  CHECK(meta.last_applied.value == 6);
}

TEST_CASE("state_store: a crash between any two operations leaves the whole state of some earlier index") {
  // What each index stands for.
  std::vector<rows> states(1);
  std::vector<state_write> writes;
  rows state;
  for (std::uint64_t i = 1; i <= 25; ++i) {
    std::vector<row_change> changes{put(state, 1, "id" + std::to_string(i % 7), std::string(i * 30, 'x')),
                                    put(state, 2, "id" + std::to_string(i), "y")};
    if (i % 3 == 0)
      changes.push_back(erase(state, 2, "id" + std::to_string(i - 1)));
    writes.push_back(at(i, state, changes));
    states.push_back(state);
  }
  auto run = [&](fault_disk& disk) {
    std::uint64_t done = 0;
    try {
      auto store = open("/state.db", {.vfs = disk.vfs(), .checkpoint_pages = 12});
      for (auto& write : writes) {
        store->write(write);
        done = write.last_applied.value;
      }
    } catch (const database_error&) {
    }
    return done;
  };
  std::uint64_t total = 0;
  {
    fault_disk disk{"state-count", 1};
    run(disk);
    total = disk.operations();
  }
  auto latest = 0, earlier = 0;
  for (std::uint64_t n = 0; n <= total; ++n)
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
      fault_disk disk{"state-crash", seed * 1000003 + n};
      disk.stop_after(n);
      auto done = run(disk);
      auto power_failure = seed % 3 != 0;
      if (power_failure)
        disk.crash();
      else
        disk.restart();
      CAPTURE(n);
      CAPTURE(seed);
      auto store = open("/state.db", {.vfs = disk.vfs()});
      auto index = store->meta().last_applied.value;
      REQUIRE(index <= done + 1);
      if (!power_failure)
        CHECK(index >= done);
      CHECK(load(*store) == states[index]);
      CHECK(store->meta().checksum == checksum(states[index]));
      ++(index >= done ? latest : earlier);
      // What it began with is durable: the keeper may drop entries below it.
      disk.crash();
      CHECK(open("/state.db", {.vfs = disk.vfs()})->meta().last_applied.value == index);
    }
  // The test would show little if nothing were ever lost.
  CHECK(earlier > 50);
  CHECK(latest > 50);
}

TEST_CASE("state_store: after a failed sync it writes nothing more") {
  for (std::uint64_t n = 1; n < 12; ++n) {
    fault_disk disk{"state-sync", n};
    auto store = open("/state.db", {.vfs = disk.vfs(), .checkpoint_pages = 6});
    rows state;
    disk.fail_sync(n);
    auto failed = false;
    for (std::uint64_t i = 1; i < 60 && !failed; ++i) {
      try {
        store->write(at(i, state, {put(state, 1, "id" + std::to_string(i), std::string(500, 'x'))}));
      } catch (const database_error&) {
        failed = true;
      }
    }
    REQUIRE(failed);
    auto operations = disk.operations();
    CHECK_THROWS_AS(store->write(at(99, state, {})), database_error);
    store.reset();
    CHECK(disk.operations() == operations);
  }
}
