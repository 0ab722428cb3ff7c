#include <doctest/doctest.h>
#include <sqlite3.h>

#include <map>
#include <string>
#include <utility>

#include "persistence/node_files.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/snapshot_file.hpp"
#include "persistence/state_store.hpp"
#include "tests/support/fault_files.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

const node_id self{"n1"}, other{"n2"};
constexpr incarnation_id life{42}, other_life{43};
using rows = std::map<std::pair<std::uint8_t, std::string>, std::string>;

std::unique_ptr<state_store> open(const fault_disk& disk, const std::string& path = "/state.db", int pages = 4000) {
  return state_store::open(path, self, life, {disk.vfs(), pages});
}

std::uint64_t checksum(const rows& state) {
  std::uint64_t sum = 0;
  for (auto& [key, body] : state)
    sum += row_hash(key.first, key.second, body);
  return sum;
}

// Changes some rows as entry `index` would, and saves them.
void apply(state_store& store, rows& state, std::uint64_t index, int count = 3, std::size_t size = 200) {
  state_write write{{index}, {1}, static_cast<std::int64_t>(index * 10), 0, {}};
  for (int i = 0; i < count; ++i) {
    auto id = "id" + std::to_string((index * 7 + static_cast<std::uint64_t>(i) * 13) % 400);
    auto body = std::string(size, static_cast<char>('a' + index % 26)) + std::to_string(index);
    state[{1, id}] = body;
    write.rows.push_back({1, id, body, row_hash(1, id, body)});
  }
  std::map<std::string, row_change> once;
  for (auto& row : write.rows)
    once[row.id] = row;
  write.rows.clear();
  for (auto& [id, row] : once)
    write.rows.push_back(row);
  write.checksum = checksum(state);
  store.write(write);
}

rows load(state_store& store) {
  rows found;
  store.load([&](const row_view& row) { found[{row.kind, std::string{row.id}}] = row.body; });
  return found;
}

std::unique_ptr<state_store> adopt(const fault_disk& disk, const std::string& path, rows* given = nullptr) {
  return state_store::adopt(path, other, other_life, {disk.vfs()}, [&](const row_view& row) {
    if (given)
      (*given)[{row.kind, std::string{row.id}}] = row.body;
  });
}

// What travels: the bytes of a finished copy.
std::string copy_of(state_store& store, const fault_disk& disk) {
  auto copy = store.begin_copy("/snapshot-c.db");
  while (!copy->step(10)) {
  }
  auto bytes = snapshot_file::open("/snapshot-c.db", disk.vfs())->read(0, 100 << 20);
  CHECK(bytes.size() == copy->bytes());
  return bytes;
}

}  // namespace

TEST_CASE("state_store: what a complete checkpoint began with is known to be in the file, and nothing more") {
  fault_disk disk{"checkpointed", 1};
  rows state;
  auto store = open(disk);
  CHECK(store->checkpointed().value == 0);
  apply(*store, state, 5);
  CHECK(store->checkpointed().value == 0);
  CHECK(store->checkpoint());
  CHECK(store->checkpointed().value == 5);
  apply(*store, state, 6);
  CHECK(store->checkpointed().value == 5);
  {
    database reader{"/state.db", {.vfs = disk.vfs(), .read_only = true}};
    reader.execute("BEGIN");
    reader.query_number("SELECT count(*) FROM rows");
    apply(*store, state, 7);
    CHECK_FALSE(store->checkpoint());
    CHECK(store->checkpointed().value == 5);
  }
  CHECK(store->checkpoint());
  CHECK(store->checkpointed().value == 7);
  apply(*store, state, 8);
  disk.fail_sync(1);
  CHECK_THROWS_AS(store->checkpoint(), database_error);
  CHECK(store->checkpointed().value == 7);
  CHECK_THROWS_AS(store->checkpoint(), database_error);
  CHECK_THROWS_AS(apply(*store, state, 9), database_error);
}

TEST_CASE("state_store: whatever the power does, the file holds at least what was checkpointed") {
  for (std::uint64_t n = 0; n < 160; ++n)
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      fault_disk disk{"checkpointed-crash", seed * 1000003 + n};
      rows state;
      log_index sure;
      disk.stop_after(n);
      try {
        auto store = open(disk, "/state.db", 15);
        for (std::uint64_t i = 1; i < 40; ++i) {
          apply(*store, state, i);
          sure = store->checkpointed();
        }
      } catch (const database_error&) {
      }
      disk.crash();
      auto store = open(disk);
      CAPTURE(n);
      CHECK(store->meta().last_applied >= sure);
      load(*store);
    }
}

TEST_CASE("state_store: the size counts pages in use, not free pages and not the WAL") {
  fault_disk disk{"state-size", 1};
  rows state;
  auto store = open(disk);
  for (std::uint64_t i = 1; i < 50; ++i)
    apply(*store, state, i, 10, 1000);
  CHECK(store->size_bytes() > 49 * 10 * 500 / 2);
  CHECK(store->size_bytes() < disk.read("/state.db-wal").size());
  state_write clear{{50}, {1}, 500, 0, {}};
  for (auto& [key, body] : state)
    clear.rows.push_back({key.first, key.second, std::nullopt, 0});
  store->write(clear);
  CHECK(store->size_bytes() < 40'000);
}

TEST_CASE("state_store: a copy holds what was written while it was made, and says so") {
  fault_disk disk{"copy", 1};
  rows state;
  auto store = open(disk, "/state.db", 30);
  for (std::uint64_t i = 1; i <= 20; ++i)
    apply(*store, state, i, 20);
  auto copy = store->begin_copy("/snapshot-1.db");
  CHECK_THROWS_AS(store->begin_copy("/snapshot-2.db"), std::logic_error);
  std::uint64_t index = 20;
  auto steps = 0;
  while (!copy->step(2)) {
    CHECK(copy->pages_done() <= copy->pages_total());
    apply(*store, state, ++index, 5);
    ++steps;
  }
  CHECK(steps > 5);
  CHECK(copy->pages_done() == copy->pages_total());
  CHECK(copy->meta() == store->meta());
  CHECK(copy->bytes() == disk.read("/snapshot-1.db").size());
  auto then = state;
  // What is written afterwards is not in it, and a next copy can begin.
  apply(*store, state, ++index);
  CHECK(copy->step(2));
  CHECK(copy->meta().last_applied.value == index - 1);
  store->begin_copy("/snapshot-2.db");
  copy.reset();
  CHECK_FALSE(snapshot_file::exists("/snapshot-2.db", disk.vfs()));
  rows given;
  auto adopted = adopt(disk, "/snapshot-1.db", &given);
  CHECK(given == then);
  CHECK(load(*adopted) == then);
  CHECK(adopted->meta().last_applied.value == index - 1);
  CHECK(load(*store) == state);
}

TEST_CASE("state_store: a copy that is given up leaves nothing, and outlives its store") {
  fault_disk disk{"copy-given-up", 1};
  rows state;
  auto store = open(disk);
  apply(*store, state, 1, 300);
  auto copy = store->begin_copy("/snapshot-1.db");
  CHECK_FALSE(copy->step(1));
  copy.reset();
  CHECK_FALSE(snapshot_file::exists("/snapshot-1.db", disk.vfs()));
  copy = store->begin_copy("/snapshot-1.db");
  CHECK_FALSE(copy->step(1));
  CHECK_THROWS_AS(state_store::open("/x.db", self, life, {disk.vfs()})->begin_copy("/snapshot-1.db"), database_error);
  store.reset();
  CHECK_THROWS_AS(copy->step(1), database_error);
  copy.reset();
  CHECK_FALSE(snapshot_file::exists("/snapshot-1.db", disk.vfs()));
  CHECK(load(*open(disk)) == state);
}

TEST_CASE("state_store: a copy that meets a full disk fails, and the state is written on") {
  fault_disk disk{"copy-full", 1};
  rows state;
  auto store = open(disk);
  apply(*store, state, 1, 300);
  auto copy = store->begin_copy("/snapshot-1.db");
  disk.set_full(true);
  auto copy_all = [&] {
    while (!copy->step(1)) {
    }
  };
  CHECK_THROWS_AS(copy_all(), database_error);
  disk.set_full(false);
  copy.reset();
  apply(*store, state, 2);
  CHECK(load(*store) == state);
  CHECK(copy_of(*store, disk).size() > 10'000);
}

TEST_CASE("state_store: a file is adopted only as it was sent, and is this node's and durable then") {
  fault_disk disk{"adopt", 1};
  rows state;
  {
    auto store = open(disk);
    for (std::uint64_t i = 1; i <= 20; ++i)
      apply(*store, state, i, 20);
    disk.write("/state-20-a.db", copy_of(*store, disk));
    auto bytes = disk.read("/state-20-a.db");
    for (std::size_t cut :
         {std::size_t{0}, std::size_t{100}, bytes.size() / 2, bytes.size() - 4096, bytes.size() - 1}) {
      disk.write("/state-20-cut.db", bytes.substr(0, cut));
      CHECK_THROWS_AS(adopt(disk, "/state-20-cut.db"), damaged_error);
      disk.remove("/state-20-cut.db-wal");
    }
  }
  // A WAL that lies beside the file is of another one.
  disk.write("/state-20-a.db-wal", disk.read("/state.db-wal") + "x");
  CHECK_THROWS_AS(adopt(disk, "/state-20-a.db"), damaged_error);
  disk.remove("/state-20-a.db-wal");
  {
    rows given;
    auto store = adopt(disk, "/state-20-a.db", &given);
    CHECK(given == state);
    CHECK(store->checkpointed().value == 20);
    apply(*store, state, 21);
    CHECK(load(*store) == state);
    state = given;
    disk.crash();
  }
  CHECK(inspect_state_file("/state-20-a.db", disk.vfs()) == other);
  auto store = state_store::open("/state-20-a.db", other, other_life, {disk.vfs()});
  CHECK(store->meta().last_applied.value >= 20);
  CHECK_THROWS_AS(adopt(disk, "/absent.db"), database_error);
  raft_store_options options;
  options.vfs = disk.vfs();
  options.new_incarnation = 1;
  raft_store::open("/raft.db", self, options);
  CHECK_THROWS_AS(adopt(disk, "/raft.db"), refused_error);
}

TEST_CASE("state_store: copies are made and adopted on the system's own disk too") {
  temporary_directory directory;
  rows state, given;
  auto store = state_store::open(directory / "state.db", self, life, {});
  apply(*store, state, 1, 300);
  auto copy = store->begin_copy(directory / "state-1-x.db");
  while (!copy->step(3)) {
  }
  copy.reset();
  auto adopted = state_store::adopt(directory / "state-1-x.db", other, other_life, {}, [&](const row_view& row) {
    given[{row.kind, std::string{row.id}}] = row.body;
  });
  CHECK(given == state);
  CHECK(adopted->meta() == store->meta());
}

namespace {

raft_store_options raft_options(const fault_disk& disk) {
  raft_store_options options;
  options.vfs = disk.vfs();
  options.new_incarnation = other_life.value;
  return options;
}

}  // namespace

TEST_CASE("state_store: a crash at any moment of a copy leaves the sender's state as it was") {
  auto run = [](fault_disk& disk, std::uint64_t& done) {
    rows state;
    try {
      auto store = open(disk, "/state.db", 20);
      for (std::uint64_t i = 1; i <= 6; ++i)
        apply(*store, state, done = i);
      auto copy = store->begin_copy("/snapshot-1.db");
      while (!copy->step(2))
        apply(*store, state, ++done);
      apply(*store, state, ++done);
    } catch (const database_error&) {
    }
  };
  std::uint64_t total = 0, ignored = 0;
  {
    fault_disk disk{"copy-count", 1};
    run(disk, ignored);
    total = disk.operations();
  }
  for (std::uint64_t n = 0; n <= total; ++n)
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      fault_disk disk{"copy-crash", seed * 1000003 + n};
      disk.stop_after(n);
      std::uint64_t done = 0;
      run(disk, done);
      seed % 3 ? disk.crash() : disk.restart();
      CAPTURE(n);
      CAPTURE(seed);
      fault_files files{disk};
      remove_unnamed(files, "state.db");
      CHECK_FALSE(files.has("snapshot-1.db"));
      auto store = open(disk);
      CHECK(store->meta().last_applied.value <= done);
      rows expected;
      fault_disk again{"copy-again", 1};
      auto model = open(again);
      for (std::uint64_t i = 1; i <= store->meta().last_applied.value; ++i)
        apply(*model, expected, i);
      CHECK(load(*store) == expected);
    }
}

TEST_CASE("state_store: a crash at any moment of an installation leaves the old state or the new one, never a mix") {
  rows old_state, new_state;
  std::string bytes;
  {
    fault_disk sender{"install-sender", 1};
    auto store = open(sender);
    for (std::uint64_t i = 1; i <= 30; ++i)
      apply(*store, new_state, i, 10);
    bytes = copy_of(*store, sender);
  }
  log_base base{{30}, {1}, {1}, {}, 300};
  // A follower at index 3 takes the snapshot of index 30.
  auto run = [&](fault_disk& disk, rows& state) {
    try {
      auto raft = raft_store::open("/raft.db", other, raft_options(disk));
      auto store = state_store::open("/state.db", other, other_life, {disk.vfs()});
      raft->write({.state = hard_state{{1}, std::nullopt},
                   .entries = {{{1}, {1}, entry_kind::noop, 1, ""}, {{2}, {1}, entry_kind::noop, 2, ""}}});
      for (std::uint64_t i = 1; i <= 2; ++i)
        apply(*store, state, i);
      store->checkpoint();
      auto before = disk.operations();
      {
        auto file = snapshot_file::create("/state-30-a.db", disk.vfs());
        for (std::size_t at = 0; at < bytes.size(); at += 8192)
          file->write(at, bytes.substr(at, 8192));
        file->sync();
      }
      auto adopted = adopt(disk, "/state-30-a.db");
      raft->write({.install = raft_write::snapshot{base, false}, .state_file = "state-30-a.db"});
      store.reset();
      fault_files files{disk};
      remove_unnamed(files, "state-30-a.db");
      return before;
    } catch (const database_error&) {
      return std::uint64_t{0};
    }
  };
  std::uint64_t first = 0, total = 0;
  {
    fault_disk disk{"install-count", 1};
    first = run(disk, old_state);
    REQUIRE(first > 0);
    total = disk.operations();
    CHECK(fault_files{disk}.names().size() >= 2);
  }
  auto news = 0;
  for (auto n = first; n <= total; ++n)
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
      fault_disk disk{"install-crash", seed * 1000003 + n};
      disk.stop_after(n);
      rows ignored;
      run(disk, ignored);
      seed % 3 ? disk.crash() : disk.restart();
      CAPTURE(n);
      CAPTURE(seed);
      auto raft = raft_store::open("/raft.db", other, raft_options(disk));
      auto file = raft->contents().state_file;
      fault_files files{disk};
      remove_unnamed(files, file);
      auto store = state_store::open(files.path(file), other, other_life, {disk.vfs()});
      if (file == "state.db") {
        CHECK(raft->contents().base == log_base{});
        CHECK(raft->last_index().value == 2);
        CHECK(load(*store) == old_state);
      } else {
        ++news;
        CHECK(raft->contents().base == base);
        CHECK(raft->last_index().value == 30);
        CHECK(store->meta().last_applied.value == 30);
        CHECK(load(*store) == new_state);
        CHECK_FALSE(files.has("state.db"));
      }
    }
  CHECK(news > 10);
}
