#include <doctest/doctest.h>
#include <sqlite3.h>

#include <string>
#include <vector>

#include "persistence/codec.hpp"
#include "persistence/raft_store.hpp"
#include "tests/support/fault_vfs.hpp"

using namespace coordinator;

namespace {

constexpr const char* path = "/raft.db";
const node_id self{"n1"};

membership members_of(const std::string& other) {
  return {{{self, {42}, "a:1", "a:2", true}, {{other}, {7}, "b:1", "b:2", true}}};
}

std::unique_ptr<raft_store> open(const fault_disk& disk, int checkpoint_pages = 1000) {
  raft_store_options options;
  options.vfs = disk.vfs();
  options.new_incarnation = 42;
  options.checkpoint_pages = checkpoint_pages;
  return raft_store::open(path, self, options);
}

log_entry command(std::uint64_t index, std::uint64_t term, std::size_t size = 10) {
  return {{index}, {term}, entry_kind::command, static_cast<std::int64_t>(1000 + index), std::string(size, 'x')};
}

log_entry members_entry(std::uint64_t index, std::uint64_t term, const std::string& other) {
  return {
      {index}, {term}, entry_kind::membership, static_cast<std::int64_t>(1000 + index), to_bytes(members_of(other))};
}

raft_write founding() {
  genesis founded{"00112233445566778899aabbccddeeff", members_of("n2"), 1001};
  return {.state = hard_state{{1}, std::nullopt},
          .entries = {{{1}, {1}, entry_kind::genesis, 1001, to_bytes(founded)}},
          .formed = founded};
}

raft_write append(std::uint64_t from, std::uint64_t to, std::uint64_t term, std::size_t size = 10) {
  raft_write write{.state = hard_state{{term}, std::nullopt}};
  for (auto i = from; i <= to; ++i)
    write.entries.push_back(command(i, term, size));
  return write;
}

log_base base_at(std::uint64_t index, std::uint64_t term) {
  return {{index}, {term}, {1}, members_of("n9"), static_cast<std::int64_t>(1000 + index)};
}

// All that the store holds after reopening.
struct found {
  hard_state state;
  log_base base;
  std::string state_file;
  std::vector<log_entry> log;

  friend bool operator==(const found&, const found&) = default;
};

found read_all(raft_store& store) {
  auto contents = store.take_contents();
  CHECK(contents.first_index == contents.base.index + 1);
  found all{contents.state, contents.base, contents.state_file, {}};
  all.log = store.read_entries(contents.first_index, contents.last_index, 100 << 20);
  CHECK(all.log.size() == contents.last_index.value - contents.base.index.value);
  std::vector<log_entry> members;
  for (auto& entry : all.log)
    if (entry.kind == entry_kind::genesis || entry.kind == entry_kind::membership)
      members.push_back(entry);
  CHECK(contents.memberships == members);
  CHECK(contents.last_time_ms == (all.log.empty() ? contents.base.time_ms : all.log.back().time_ms));
  return all;
}

}  // namespace

TEST_CASE("raft_store: a new file has no base, and its state is in state.db") {
  fault_disk disk{"base-new", 1};
  auto store = open(disk);
  CHECK(store->contents().base == log_base{});
  CHECK(store->contents().state_file == "state.db");
}

TEST_CASE("raft_store: compaction drops what it may, and keeps term, time and membership of the last that it dropped") {
  fault_disk disk{"compact", 1};
  {
    auto store = open(disk);
    store->write(founding());
    store->write(append(2, 9, 2));
    store->write({.entries = {members_entry(10, 2, "n3")}});
    store->write(append(11, 20, 3));
    store->write({.compact_to = log_index{5}});
    CHECK(store->first_index().value == 6);
    CHECK(store->read_entries({5}, {20}, 1000).empty());
    CHECK(store->read_entries({6}, {20}, 1000).size() == 15);
  }
  {
    auto store = open(disk);
    CHECK(store->contents().base == log_base{{5}, {2}, {1}, members_of("n2"), 1005});
    CHECK(store->contents().terms == std::vector<term_run>{{{6}, {2}}, {{11}, {3}}});
    CHECK(store->contents().memberships.size() == 1);
    store->write({.compact_to = log_index{12}});
    CHECK(store->first_index().value == 13);
    // What is gone already, or not there yet, is fine.
    store->write({.compact_to = log_index{3}});
    CHECK(store->first_index().value == 13);
    store->write({.entries = {command(21, 3)}, .compact_to = log_index{99}});
    CHECK(store->first_index().value == 22);
    CHECK(store->last_index().value == 21);
    CHECK_THROWS_AS(store->write({.entries = {command(22, 2)}}), std::logic_error);
    CHECK_THROWS_AS(store->write({.truncate_from = log_index{21}}), std::logic_error);
    store->write({.entries = {command(22, 3)}});
  }
  auto store = open(disk);
  CHECK(store->contents().base == log_base{{21}, {3}, {10}, members_of("n3"), 1021});
  CHECK(store->contents().last_index.value == 22);
}

TEST_CASE("raft_store: a step of compaction is bounded in rows and in bytes, and goes on by at least one row") {
  fault_disk disk{"compact-step", 1};
  auto store = open(disk);
  store->write(founding());
  store->write(append(2, 2500, 1, 1));
  store->write({.compact_to = log_index{2400}});
  CHECK(store->first_index().value == 1001);
  store->write({.compact_to = log_index{2400}});
  store->write({.compact_to = log_index{2400}});
  CHECK(store->first_index().value == 2401);
  store->write(append(2501, 2508, 1, 300 << 10));
  store->write({.compact_to = log_index{2500}});
  store->write({.compact_to = log_index{2508}});
  CHECK(store->first_index().value == 2504);
  store->write(append(2509, 2509, 1, 3 << 20));
  for (int i = 0; i < 2; ++i)
    store->write({.compact_to = log_index{2509}});
  CHECK(store->first_index().value == 2509);
  store->write({.compact_to = log_index{2509}});
  CHECK(store->first_index().value == 2510);
}

TEST_CASE("raft_store: where entries wait for it a step of compaction is small, and still outpaces them") {
  fault_disk disk{"compact-pace", 1};
  auto store = open(disk);
  store->write(founding());
  store->write(append(2, 2500, 1, 1));
  std::uint64_t next = 2501;
  auto step = [&](std::uint64_t entries) {
    auto from = store->first_index().value;
    auto write = append(next, next + entries - 1, 1, 1);
    write.compact_to = log_index{2400};
    next += entries;
    store->write(write);
    return store->first_index().value - from;
  };
  CHECK_EQ(step(1), 32);
  CHECK_EQ(step(100), 300);
  CHECK_EQ(step(900), 1000);
}

TEST_CASE("raft_store: the files stop growing under a steady load") {
  fault_disk disk{"steady", 1};
  auto store = open(disk, 100);
  store->write(founding());
  std::size_t early = 0;
  std::uint64_t early_bytes = 0;
  auto on_disk = [&] { return disk.read(path).size() + disk.read("/raft.db-wal").size(); };
  for (std::uint64_t i = 2; i < 12'000; i += 20) {
    auto write = append(i, i + 19, 1, 100 + i % 300);
    if (i > 1000)
      write.compact_to = log_index{i - 1000};
    store->write(write);
    if (i < 4'000) {
      early = std::max(early, on_disk());
      early_bytes = std::max(early_bytes, store->size_bytes());
    }
  }
  CHECK(on_disk() <= early + early / 10);
  CHECK(store->size_bytes() <= early_bytes + early_bytes / 10);
  CHECK(store->size_bytes() > 1000 * 100);
  CHECK(store->size_bytes() <= on_disk() + 4096);
}

TEST_CASE("raft_store: what opening costs does not grow with what was dropped") {
  auto reads_for = [](std::uint64_t history) {
    fault_disk disk{"open-cost", 1};
    {
      auto store = open(disk);
      store->write(founding());
      for (std::uint64_t i = 2; i < history; i += 100) {
        auto write = append(i, i + 99, 1, 100);
        if (i > 300)
          write.compact_to = log_index{i - 300};
        store->write(write);
      }
    }
    auto before = disk.reads();
    CHECK(open(disk)->contents().tail.size() < 500);
    return disk.reads() - before;
  };
  auto little = reads_for(1'000);
  CHECK(reads_for(10'000) < little + little / 2);
}

TEST_CASE("raft_store: a snapshot takes the place of the log, or of what lies before it (Raft §7)") {
  fault_disk disk{"install", 1};
  {
    auto store = open(disk);
    store->write(founding());
    store->write(append(2, 10, 2));
    store->write({.install = raft_write::snapshot{base_at(6, 2), true}, .state_file = "state-6-a.db"});
    CHECK(store->first_index().value == 7);
    CHECK(store->last_index().value == 10);
  }
  {
    auto store = open(disk);
    auto all = read_all(*store);
    CHECK(all.base == base_at(6, 2));
    CHECK(all.state_file == "state-6-a.db");
    CHECK(all.log.size() == 4);
    store->write({.state = hard_state{{5}, std::nullopt},
                  .entries = {command(21, 5), command(22, 5)},
                  .install = raft_write::snapshot{base_at(20, 4), false},
                  .state_file = "state-20-b.db"});
    CHECK(store->first_index().value == 21);
    CHECK(store->last_index().value == 22);
  }
  auto store = open(disk);
  auto all = read_all(*store);
  CHECK(all.base == base_at(20, 4));
  CHECK(all.state_file == "state-20-b.db");
  CHECK(all.log == std::vector{command(21, 5), command(22, 5)});
  // Beyond the log there is no suffix to keep, and truncating it all leaves the base.
  store->write({.install = raft_write::snapshot{base_at(30, 5), true}});
  CHECK(store->last_index().value == 30);
  store->write({.entries = {command(31, 5)}});
  store->write({.truncate_from = log_index{31}});
  CHECK(store->first_index().value == 31);
  CHECK(store->last_index().value == 30);
}

TEST_CASE("raft_store: a snapshot that contradicts the log, goes back or is of a later term is refused") {
  fault_disk disk{"install-wrong", 1};
  auto store = open(disk);
  store->write(founding());
  store->write(append(2, 10, 2));
  store->write({.compact_to = log_index{4}});
  auto install = [&](log_base base, bool keep) {
    store->write({.install = raft_write::snapshot{std::move(base), keep}});
  };
  CHECK_THROWS_AS(install(base_at(3, 2), true), std::logic_error);
  CHECK_THROWS_AS(install(base_at(4, 1), true), std::logic_error);
  CHECK_THROWS_AS(install(base_at(7, 1), true), std::logic_error);
  CHECK_THROWS_AS(install(base_at(20, 3), false), std::logic_error);
  CHECK_THROWS_AS(store->write({.state_file = ""}), std::logic_error);
  CHECK_THROWS_AS(store->write({.state_file = "../x.db"}), std::logic_error);
  CHECK(store->first_index().value == 5);
  CHECK(store->last_index().value == 10);
  install(base_at(4, 2), true);
}

TEST_CASE("raft_store: a damaged row is not compacted away unseen") {
  fault_disk disk{"compact-damage", 1};
  {
    auto store = open(disk);
    store->write(founding());
    store->write(append(2, 10, 2));
    database behind{path, {.vfs = disk.vfs()}};
    behind.execute("UPDATE log SET term = 1 WHERE idx = 4");
    CHECK_THROWS_AS(store->write({.compact_to = log_index{6}}), damaged_error);
    CHECK_THROWS_AS(store->write({.compact_to = log_index{2}}), database_error);
  }
  database behind{path, {.vfs = disk.vfs(), .read_only = true}};
  CHECK(behind.query_number("SELECT count(*) FROM log") == 10);
}

namespace {

std::vector<raft_write> life() {
  std::vector<raft_write> writes{founding(), append(2, 12, 2, 700)};
  writes.push_back({.compact_to = log_index{5}});
  writes.push_back({.entries = {members_entry(13, 2, "n3")}, .compact_to = log_index{9}});
  writes.push_back({.install = raft_write::snapshot{base_at(11, 2), true}, .state_file = "state-11-a.db"});
  writes.push_back(append(14, 20, 3, 3000));
  writes.push_back({.state = hard_state{{4}, node_id{"n2"}}, .compact_to = log_index{15}});
  writes.push_back({.entries = {command(41, 4, 5000)},
                    .install = raft_write::snapshot{base_at(40, 4), false},
                    .state_file = "state-40-b.db"});
  writes.push_back({.entries = {command(42, 4)}, .compact_to = log_index{41}});
  return writes;
}

// The contents after each write of the life, as a disk without faults gives them.
std::vector<found> stages() {
  std::vector<found> all{{}};
  all.front().state_file = "state.db";
  fault_disk disk{"stages", 1};
  for (auto& write : life()) {
    open(disk)->write(write);
    all.push_back(read_all(*open(disk)));
  }
  return all;
}

}  // namespace

TEST_CASE("raft_store: a crash at any moment of compaction and installation leaves the old or the new, never a mix") {
  auto expected = stages();
  std::uint64_t total = 0;
  auto run = [&](fault_disk& disk) {
    std::size_t done = 0;
    try {
      auto store = open(disk, 10);
      for (auto& write : life()) {
        store->write(write);
        ++done;
      }
      // Before the connection closes, which copies the WAL.
      total = std::max(total, disk.operations());
    } catch (const database_error&) {
    }
    return done;
  };
  {
    fault_disk disk{"base-count", 1};
    REQUIRE(run(disk) == life().size());
  }
  auto operations = total;
  REQUIRE(operations > 60);
  for (std::uint64_t n = 0; n <= operations; ++n)
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
      fault_disk disk{"base-crash", seed * 1000003 + n};
      disk.stop_after(n);
      auto done = run(disk);
      if (seed % 3 == 0)
        disk.restart();
      else
        disk.crash();
      CAPTURE(n);
      CAPTURE(seed);
      auto all = read_all(*open(disk));
      auto is_one = all == expected[done] || (done + 1 < expected.size() && all == expected[done + 1]);
      CHECK(is_one);
      // What was read once stays.
      disk.crash();
      CHECK(read_all(*open(disk)) == all);
    }
}
