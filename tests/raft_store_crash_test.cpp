#include <doctest/doctest.h>
#include <sqlite3.h>

#include <functional>
#include <string>
#include <vector>

#include "persistence/raft_store.hpp"
#include "tests/support/fault_vfs.hpp"

using namespace coordinator;

namespace {

constexpr const char* path = "/raft.db";
const node_id self{"n1"};

// All that a raft.db should hold.
struct model {
  hard_state state;
  std::vector<log_entry> log;
  std::string formation;
  std::optional<genesis> founded;

  friend bool operator==(const model&, const model&) = default;

  void apply(const raft_write& write) {
    if (write.state)
      state = *write.state;
    if (write.truncate_from && write.truncate_from->value <= log.size())
      log.resize(write.truncate_from->value - 1);
    log.insert(log.end(), write.entries.begin(), write.entries.end());
    if (write.formation)
      formation = *write.formation;
    if (write.formed)
      founded = write.formed;
  }
};

raft_store_options options_for(const fault_disk& disk, std::uint64_t incarnation) {
  raft_store_options options;
  options.vfs = disk.vfs();
  options.new_incarnation = incarnation;
  options.checkpoint_pages = 10;
  options.tail_bytes = 3000;
  return options;
}

log_entry entry(std::uint64_t index, std::uint64_t term, std::size_t size) {
  return {{index},
          {term},
          entry_kind::command,
          static_cast<std::int64_t>(index) * 10,
          std::string(size, static_cast<char>('a' + (index + term) % 26))};
}

genesis founding() {
  return {"00112233445566778899aabbccddeeff", {{{self, {1}, "h:1", "h:2", true}}}, 5};
}

// The life of a node: formed, a follower, a candidate, a follower whose log conflicts, a leader.
std::vector<raft_write> life() {
  std::vector<raft_write> writes;
  writes.push_back({.formation = "a saved proposal"});
  writes.push_back({.state = hard_state{{1}, std::nullopt},
                    .entries = {{{1}, {1}, entry_kind::genesis, 5, "founders"}},
                    .formation = "",
                    .formed = founding()});
  writes.push_back({.state = hard_state{{2}, node_id{"n2"}}});
  writes.push_back({.entries = {entry(2, 2, 100), entry(3, 2, 9000), entry(4, 2, 1)}});
  writes.push_back({.state = hard_state{{3}, self}});
  writes.push_back(
      {.state = hard_state{{4}, std::nullopt}, .truncate_from = log_index{3}, .entries = {entry(3, 4, 700)}});
  for (std::uint64_t i = 4; i < 20; ++i)
    writes.push_back({.entries = {entry(i, 4, 200 * (i % 5))}});
  writes.push_back({.state = hard_state{{7}, node_id{"n3"}}});
  writes.push_back({.truncate_from = log_index{12}, .entries = {entry(12, 7, 5000), entry(13, 7, 10)}});
  writes.push_back({.entries = {entry(14, 7, 30), entry(15, 7, 30)}});
  return writes;
}

// What was acknowledged, and what may be there besides.
struct outcome {
  bool opened = false;
  bool failed = false;
  model acknowledged;
  model possible;  // With the write that was under way.
};

outcome run_life(
    fault_disk& disk, const std::function<void(raft_store&)>& on_failure = [](raft_store&) {}) {
  outcome result;
  try {
    auto store = raft_store::open(path, self, options_for(disk, 77));
    result.opened = true;
    for (auto& write : life()) {
      result.possible.apply(write);
      try {
        store->write(write);
      } catch (const database_error&) {
        on_failure(*store);
        throw;
      }
      result.acknowledged = result.possible;
    }
  } catch (const database_error&) {
    result.failed = true;
  }
  return result;
}

model read_all(raft_store& store) {
  auto contents = store.take_contents();
  model found{contents.state, {}, contents.formation, contents.founded};
  for (log_index next{1}; next <= contents.last_index;) {
    auto part = store.read_entries(next, contents.last_index, 4000);
    REQUIRE(!part.empty());
    next = part.back().index + 1;
    found.log.insert(found.log.end(), part.begin(), part.end());
  }
  CHECK(contents.last_index.value == found.log.size());
  CHECK(contents.last_time_ms == (found.log.empty() ? 0 : found.log.back().time_ms));
  CHECK(std::equal(contents.tail.rbegin(), contents.tail.rend(), found.log.rbegin()));
  CHECK(contents.tail.empty() == found.log.empty());
  return found;
}

std::string quick_check(const fault_disk& disk) {
  database db{path, {.vfs = disk.vfs(), .read_only = true}};
  statement query{db, "PRAGMA quick_check"};
  return query.step() ? std::string{query.bytes(0)} : "no answer";
}

// Reopens, and says what was wrong, or nothing.
std::string judge(fault_disk& disk, const outcome& expected, model& found) {
  try {
    auto owner = inspect_raft_file(path, disk.vfs());
    if (owner ? owner->node != self : expected.opened)
      return "the owner was forgotten";
  } catch (const database_error& error) {
    // SQLite cannot open what is not there.
    if (expected.opened || (error.code() & 0xff) != SQLITE_CANTOPEN)
      return error.what();
  }
  try {
    auto store = raft_store::open(path, self, options_for(disk, 88));
    auto incarnation = store->contents().incarnation.value;
    if (expected.opened && incarnation != 77)
      return "another incarnation";
    found = read_all(*store);
    if (quick_check(disk) != "ok")
      return "quick_check: " + quick_check(disk);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  if (found == expected.acknowledged || found == expected.possible)
    return {};
  return "neither what was acknowledged nor that and the write under way: " + std::to_string(found.log.size()) +
         " entries, term " + std::to_string(found.state.current_term.value);
}

std::string judge(fault_disk& disk, const outcome& expected) {
  model ignored;
  return judge(disk, expected, ignored);
}

// Nothing that was found once may be gone after a power failure, even if nothing was written since.
std::string judge_twice(fault_disk& disk, const outcome& expected) {
  outcome again{true, false, {}, {}};
  auto problem = judge(disk, expected, again.acknowledged);
  if (!problem.empty())
    return problem;
  again.possible = again.acknowledged;
  again.opened = false;  // The incarnation may be the one drawn at reopening.
  disk.crash();
  problem = judge(disk, again);
  return problem.empty() ? problem : "after a second crash: " + problem;
}

std::uint64_t operations_of_a_life() {
  fault_disk disk{"count", 1};
  CHECK_FALSE(run_life(disk).failed);
  return disk.operations();
}

}  // namespace

TEST_CASE("raft_store: a power failure between any two operations loses no write that returned and tears none") {
  auto total = operations_of_a_life();
  REQUIRE(total > 150);
  for (std::uint64_t n = 0; n <= total; ++n)
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      fault_disk disk{"crash", seed * 1000003 + n};
      disk.stop_after(n);
      auto expected = run_life(disk);
      disk.crash();
      CAPTURE(n);
      CAPTURE(seed);
      CHECK(judge_twice(disk, expected) == "");
    }
}

TEST_CASE("raft_store: what a killed process wrote and did not sync is durable once it has been read") {
  auto total = operations_of_a_life();
  for (std::uint64_t n = 0; n <= total; ++n)
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      fault_disk disk{"kill", seed * 1000003 + n};
      disk.stop_after(n);
      auto expected = run_life(disk);
      disk.restart();
      CAPTURE(n);
      CAPTURE(seed);
      CHECK(judge_twice(disk, expected) == "");
    }
}

TEST_CASE("raft_store: a power failure while it is being reopened loses nothing either") {
  auto total = operations_of_a_life();
  for (std::uint64_t n = 3; n <= total; n += 3)
    for (std::uint64_t steps = 0; steps < 24; steps += 1 + n % 2) {
      fault_disk disk{"reopen", n * 31 + steps};
      disk.stop_after(n);
      auto expected = run_life(disk);
      if (n % 2)
        disk.crash();
      else
        disk.restart();
      disk.stop_after(steps);
      try {
        raft_store::open(path, self, options_for(disk, 88));
      } catch (const database_error&) {
      }
      disk.crash();
      CAPTURE(n);
      CAPTURE(steps);
      // Where the first opening had not returned, either's incarnation is fine, and `judge` does not look.
      CHECK(judge_twice(disk, expected) == "");
    }
}

TEST_CASE("raft_store: after a failed sync it writes nothing more, and reopening makes durable what it finds") {
  for (auto power_failure : {true, false}) {
    auto more = true;
    for (std::uint64_t n = 1; more; ++n)
      for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        fault_disk disk{"fsync", seed * 1000003 + n};
        disk.fail_sync(n);
        auto operations = disk.operations();
        auto expected = run_life(disk, [&](raft_store& store) {
          operations = disk.operations();
          CHECK_THROWS_AS(store.write({.state = hard_state{{50}, self}}), database_error);
          CHECK(disk.operations() == operations);
        });
        more = expected.failed;
        if (expected.failed && expected.opened)
          CHECK(disk.operations() == operations);
        if (power_failure)
          disk.crash();
        else
          disk.restart();
        CAPTURE(n);
        CAPTURE(seed);
        CAPTURE(power_failure);
        CHECK(judge_twice(disk, expected) == "");
      }
  }
}

TEST_CASE("raft_store: a power failure while it is being reopened after a failed sync tears nothing") {
  for (std::uint64_t n = 1; n <= 60; ++n)
    for (std::uint64_t steps = 0; steps < 24; ++steps) {
      fault_disk disk{"fsync-reopen", n * 101 + steps};
      disk.fail_sync(n);
      auto expected = run_life(disk);
      disk.restart();
      disk.stop_after(steps);
      try {
        raft_store::open(path, self, options_for(disk, 88));
      } catch (const database_error&) {
      }
      disk.crash();
      CAPTURE(n);
      CAPTURE(steps);
      CHECK(judge_twice(disk, expected) == "");
    }
}

TEST_CASE("raft_store: a failed write is thrown, and leaves all or nothing of it") {
  auto more = true;
  for (std::uint64_t n = 1; more; ++n) {
    fault_disk disk{"write", n};
    disk.fail_write(n);
    auto expected = run_life(disk, [](raft_store& store) {
      CHECK_THROWS_AS(store.write({.state = hard_state{{50}, self}}), database_error);
    });
    more = expected.failed;
    if (n % 2)
      disk.crash();
    else
      disk.restart();
    CAPTURE(n);
    CHECK(judge_twice(disk, expected) == "");
  }
}

TEST_CASE("raft_store: what a WAL that began anew, or a failed transaction, left there is never taken for damage") {
  for (std::uint64_t n = 1; n <= 400; ++n) {
    CAPTURE(n);
    fault_disk disk{"remains", n};
    auto options = options_for(disk, 1);
    auto store = raft_store::open(path, self, options);
    for (auto& write : life())
      store->write(write);
    options.create = false;
    // Large entries first, then small ones, so that what comes later is shorter than what was there.
    for (std::uint64_t lives = 0; lives < 8; ++lives) {
      disk.fail_write(lives == 0 ? n : 1 + (n + lives * 7) % 23);
      try {
        for (auto i = store->last_index().value + 1;; ++i)
          store->write({.entries = {entry(i, 7, 9000 / (1 + lives % 3) * (i % 3))}});
      } catch (const database_error&) {
      }
      store.reset();
      if (lives % 3 == 2)
        disk.restart();
      disk.fail_write(0);
      REQUIRE_NOTHROW(store = raft_store::open(path, self, options));
    }
  }
}

TEST_CASE("raft_store: a full disk is said to be full, and what was there stays") {
  fault_disk disk{"full", 1};
  auto expected = run_life(disk);
  {
    auto store = raft_store::open(path, self, options_for(disk, 88));
    disk.set_full(true);
    try {
      store->write({.entries = {entry(16, 7, 100000)}});
      FAIL("a full disk took a write");
    } catch (const database_error& error) {
      CHECK((error.code() & 0xff) == SQLITE_FULL);
    }
  }
  disk.set_full(false);
  CHECK(judge(disk, expected) == "");
}

TEST_CASE("raft_store: these tests notice a disk that only says that it synced") {
  auto noticed = 0;
  for (std::uint64_t n = 20; n < 200; ++n) {
    fault_disk disk{"lying", n};
    disk.set_lying(true);
    disk.stop_after(n);
    auto expected = run_life(disk);
    disk.crash();
    noticed += judge(disk, expected).empty() ? 0 : 1;
  }
  CHECK(noticed > 20);
}

TEST_CASE("fault_disk: the same seed gives the same disk after a crash") {
  auto after_crash = [](std::uint64_t seed) {
    fault_disk disk{"seed", seed};
    disk.stop_after(120);
    run_life(disk);
    disk.crash();
    std::string all;
    for (auto& file : disk.files())
      all += file + disk.read(file);
    return all;
  };
  for (std::uint64_t seed = 1; seed < 20; ++seed)
    CHECK(after_crash(seed) == after_crash(seed));
  CHECK(after_crash(1) != after_crash(2));
}
