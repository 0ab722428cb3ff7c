#include "persistence/recover.hpp"

#include <doctest/doctest.h>
#include <sqlite3.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "persistence/data_directory.hpp"
#include "persistence/snapshot_file.hpp"
#include "tests/support/fault_files.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

const node_id self{"n1"};
constexpr incarnation_id life{42};

raft_store_options options_for(const std::string& vfs) {
  raft_store_options options;
  options.vfs = vfs;
  options.new_incarnation = life.value;
  options.checkpoint_pages = 12;
  return options;
}

log_entry command(std::uint64_t index) {
  return {{index}, {1}, entry_kind::command, static_cast<std::int64_t>(index), std::string(300 * (index % 4), 'x')};
}

// What a raft.db of these tests holds is told by its last index and its vote, which rise together.
void write(raft_store& store, std::uint64_t index) {
  store.write({.state = hard_state{{index}, self}, .entries = {command(index)}});
}

struct failure {
  std::uint64_t acknowledged = 0;
  int code = 0;
};

// Writes until a sync fails, the n-th; the store is destroyed then.
std::optional<failure> fail(fault_disk& disk, std::uint64_t n) {
  auto store = raft_store::open("/raft.db", self, options_for(disk.vfs()));
  write(*store, 1);
  // Leaves free pages behind, so that a copy has its rows in other places: what is replayed into it wrongly shows.
  store->write({.formation = std::string(40'000, 'f')});
  for (std::uint64_t i = 2; i < 16; ++i)
    write(*store, i);
  store->write({.formation = ""});
  disk.fail_sync(n);
  for (std::uint64_t i = 16; i < 50; ++i) {
    try {
      write(*store, i);
    } catch (const database_error& error) {
      return failure{i - 1, error.code()};
    }
  }
  return std::nullopt;
}

// The last index, once everything before it was found to be right.
std::uint64_t read_all(raft_store& store) {
  auto contents = store.take_contents();
  CHECK(contents.incarnation == life);
  CHECK(contents.state == hard_state{{contents.last_index.value}, self});
  auto entries = store.read_entries({1}, contents.last_index, 1 << 20);
  CHECK(entries.size() == contents.last_index.value);
  for (auto& entry : entries)
    CHECK(entry == command(entry.index.value));
  return contents.last_index.value;
}

void check_contents(raft_store& store, const failure& before) {
  auto last = read_all(store);
  CHECK(last >= before.acknowledged);
  CHECK(last <= before.acknowledged + 1);
}

}  // namespace

TEST_CASE("recover: after a failed sync raft.db is a new file with all that was acknowledged, and goes on") {
  auto failures = 0;
  for (std::uint64_t n = 1; n < 40; ++n) {
    fault_disk disk{"recover", n};
    auto failed = fail(disk, n);
    if (!failed)
      continue;
    ++failures;
    REQUIRE(is_failed_sync(failed->code));
    fault_files files{disk};
    CAPTURE(n);
    // Stays with the old file, whatever becomes of its name.
    auto old_file = snapshot_file::open("/raft.db", disk.vfs());
    auto before = old_file->read(0, 1 << 20);
    {
      auto store = recover_raft(files, self, options_for(disk.vfs()), failed->code);
      check_contents(*store, *failed);
      auto next = store->last_index().value + 1;
      write(*store, next);
      failed->acknowledged = next;
      store.reset();
      CHECK(old_file->read(0, 1 << 20) == before);
      disk.crash();
    }
    CHECK(files.names().size() <= 2);
    check_contents(*raft_store::open("/raft.db", self, options_for(disk.vfs())), *failed);
  }
  CHECK(failures > 15);
}

TEST_CASE("recover: pages that a failed sync lost are not trusted to the old file") {
  // The kernel calls them clean: a power failure right after the recovery shows whether they were written anew.
  for (std::uint64_t n = 1; n < 25; ++n) {
    fault_disk disk{"recover-lost", n};
    auto failed = fail(disk, n);
    if (!failed)
      continue;
    fault_files files{disk};
    auto store = recover_raft(files, self, options_for(disk.vfs()), failed->code);
    auto last = store->last_index();
    disk.crash();
    store.reset();
    CHECK(raft_store::open("/raft.db", self, options_for(disk.vfs()))->last_index() == last);
  }
}

TEST_CASE("recover: a crash at any moment of it leaves what was acknowledged, with the failed write or without") {
  for (std::uint64_t n : {1, 3, 8, 14}) {
    for (std::uint64_t steps = 0; steps < 90; ++steps)
      for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        fault_disk disk{"recover-crash", seed * 1000003 + n * 101 + steps};
        auto failed = fail(disk, n);
        REQUIRE(failed);
        fault_files files{disk};
        disk.stop_after(steps);
        try {
          recover_raft(files, self, options_for(disk.vfs()), failed->code);
        } catch (const database_error&) {
        }
        seed % 4 ? disk.crash() : disk.restart();
        CAPTURE(n);
        CAPTURE(steps);
        CAPTURE(seed);
        // So may the start after it.
        disk.stop_after(seed);
        try {
          finish_recovery(files);
        } catch (const database_error&) {
        }
        disk.crash();
        finish_recovery(files);
        CHECK_FALSE(files.has("raft.db.recovered"));
        // A start judges the directory by this: without an owner, the node has lost its disk.
        CHECK(inspect_raft_file("/raft.db", disk.vfs()));
        auto no_creation = options_for(disk.vfs());
        no_creation.create = false;
        check_contents(*raft_store::open("/raft.db", self, no_creation), *failed);
      }
  }
}

TEST_CASE("recover: while the disk still fails it says so, and works once the disk does") {
  for (std::uint64_t n = 1; n < 12; ++n) {
    fault_disk disk{"recover-again", n};
    auto failed = fail(disk, 5);
    REQUIRE(failed);
    fault_files files{disk};
    CAPTURE(n);
    auto attempts = 0;
    std::unique_ptr<raft_store> store;
    for (; !store && attempts < 5; ++attempts) {
      if (attempts == 0)
        disk.fail_sync(n);
      if (attempts == 1)
        disk.fail_write(n);
      disk.set_full(attempts == 2);
      try {
        store = recover_raft(files, self, options_for(disk.vfs()), failed->code);
      } catch (const database_error&) {
      }
    }
    REQUIRE(store);
    disk.fail_sync(0);
    disk.fail_write(0);
    check_contents(*store, *failed);
  }
}

TEST_CASE("recover: a full disk or a failed write needs no new file") {
  fault_disk disk{"recover-full", 1};
  auto code = 0;
  {
    auto store = raft_store::open("/raft.db", self, options_for(disk.vfs()));
    write(*store, 1);
    disk.set_full(true);
    try {
      for (std::uint64_t i = 2; i < 30; ++i)
        write(*store, i);
    } catch (const database_error& error) {
      code = error.code();
    }
  }
  REQUIRE((code & 0xff) == SQLITE_FULL);
  CHECK_FALSE(is_failed_sync(code));
  disk.set_full(false);
  fault_files files{disk};
  auto store = recover_raft(files, self, options_for(disk.vfs()), code);
  CHECK_FALSE(files.has("raft.db.recovering"));
  auto last = read_all(*store);
  CHECK(last >= 1);
  write(*store, last + 1);
}

TEST_CASE("recover: damage that shows while raft.db is copied is thrown, and the file stays") {
  fault_disk disk{"recover-damage", 1};
  {
    auto store = raft_store::open("/raft.db", self, options_for(disk.vfs()));
    write(*store, 1);
    write(*store, 2);
  }
  database{"/raft.db", {.vfs = disk.vfs()}}.execute("UPDATE log SET term = 7 WHERE idx = 2");
  fault_files files{disk};
  CHECK_THROWS_AS(recover_raft(files, self, options_for(disk.vfs()), SQLITE_IOERR_FSYNC), damaged_error);
  finish_recovery(files);
  CHECK(files.has("raft.db"));
  CHECK_FALSE(files.has("raft.db.recovering"));
}

TEST_CASE("recover: a data directory finishes what was cut short before it is judged") {
  temporary_directory directory;
  {
    auto store = raft_store::open(directory / "raft.db", self, options_for({}));
    write(*store, 1);
    write(*store, 2);
  }
  std::filesystem::rename(directory / "raft.db", directory / "raft.db.recovered");
  data_directory held{directory.path(), self};
  CHECK(held.condition() == directory_condition::node);
  auto store = recover_raft(held.files(), self, options_for({}), SQLITE_IOERR_FSYNC);
  CHECK(read_all(*store) == 2);
  write(*store, 3);
}

namespace {

void write_state(state_store& store, std::uint64_t index, std::uint64_t& sum) {
  auto id = std::to_string(index);
  std::string body(400, 'b');
  sum += row_hash(1, id, body);
  store.write({{index}, {1}, 0, sum, {{1, id, body, row_hash(1, id, body)}}});
}

std::uint64_t count_rows(state_store& store) {
  std::uint64_t n = 0;
  store.load([&](const row_view&) { ++n; });
  return n;
}

}  // namespace

TEST_CASE("recover: after a failed sync the state is a new file under a new name, or the old one after a crash") {
  for (std::uint64_t n : {2, 5, 9})
    for (std::uint64_t steps = 0; steps < 50; ++steps)
      for (auto crash : {false, true}) {
        fault_disk disk{"recover-state", n * 1000 + steps};
        fault_files files{disk};
        auto code = 0;
        log_index sure;
        std::uint64_t sum = 0;
        {
          auto store = state_store::open("/state.db", self, life, {disk.vfs(), 8});
          disk.fail_sync(n);
          try {
            for (std::uint64_t i = 1; i < 100; ++i) {
              write_state(*store, i, sum);
              sure = store->checkpointed();
            }
          } catch (const database_error& error) {
            code = error.code();
          }
        }
        REQUIRE(is_failed_sync(code));
        CAPTURE(n);
        CAPTURE(steps);
        std::string name = "state.db";
        if (crash)
          disk.stop_after(steps);
        try {
          auto store = recover_state(files, name, self, life, {disk.vfs(), 8}, code);
          disk.stop_after(1'000'000);
          CHECK(store->meta().last_applied.value == count_rows(*store));
          CHECK(name.starts_with("state-"));
          CHECK(files.has("state.db"));
          sum = store->meta().checksum;
          write_state(*store, store->meta().last_applied.value + 1, sum);
          CHECK(store->checkpoint());
          sure = store->meta().last_applied;
        } catch (const database_error&) {
          CHECK(crash);
          CHECK(name == "state.db");
        }
        disk.crash();
        remove_unnamed(files, name);
        auto store = state_store::open(files.path(name), self, life, {disk.vfs(), 8});
        CHECK(store->meta().last_applied >= sure);
        CHECK(count_rows(*store) == store->meta().last_applied.value);
      }
}
