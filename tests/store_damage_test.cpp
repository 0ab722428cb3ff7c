#include <doctest/doctest.h>
#include <sqlite3.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "persistence/codec.hpp"
#include "persistence/offline.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"
#include "persistence/verify.hpp"
#include "persistence/wal_check.hpp"
#include "tests/support/fault_vfs.hpp"

using namespace coordinator;

namespace {

const node_id self{"n1"};
constexpr incarnation_id life{42};
constexpr int flips_per_file = 250;
using files = std::map<std::string, std::string>;

raft_store_options options_for(const std::string& vfs, bool create = false) {
  raft_store_options options;
  options.vfs = vfs;
  options.new_incarnation = life.value;
  options.create = create;
  return options;
}

struct raft_state {
  hard_state state;
  log_base base;
  std::string state_file;
  std::optional<genesis> founded;
  std::vector<log_entry> log;

  friend bool operator==(const raft_state&, const raft_state&) = default;
};

raft_state read_raft(raft_store& store) {
  auto contents = store.take_contents();
  return {contents.state, contents.base, contents.state_file, contents.founded,
          store.read_entries(contents.first_index, contents.last_index, 100 << 20)};
}

// A raft.db with a WAL, as a killed process leaves them, and what it held after each write that is in the WAL.
struct raft_sample {
  files on_disk;
  std::vector<raft_state> stages;
};

raft_sample make_raft() {
  raft_sample sample;
  fault_disk disk{"damage-raft", 1};
  membership members{{{self, life, "a:1", "a:2", true}}};
  auto store = raft_store::open("/raft.db", self, options_for(disk.vfs(), true));
  auto entry = [&](std::uint64_t i) {
    return log_entry{{i}, {2}, entry_kind::command, static_cast<std::int64_t>(i), std::string(i * 53 % 900, 'p')};
  };
  genesis founded{"00112233445566778899aabbccddeeff", members, 1};
  store->write({.state = hard_state{{2}, self},
                .entries = {{{1}, {1}, entry_kind::genesis, 1, to_bytes(founded)}},
                .formed = founded});
  raft_write more;
  for (std::uint64_t i = 2; i < 60; ++i)
    more.entries.push_back(entry(i));
  store->write(more);
  // Closing copies the WAL; what follows stays in a new one.
  store.reset();
  store = raft_store::open("/raft.db", self, options_for(disk.vfs()));
  auto note = [&] {
    sample.on_disk = {{"/raft.db", disk.read("/raft.db")}, {"/raft.db-wal", disk.read("/raft.db-wal")}};
    fault_disk copy{"damage-stage", 1};
    for (auto& [path, bytes] : sample.on_disk)
      copy.write(path, bytes);
    sample.stages.push_back(read_raft(*raft_store::open("/raft.db", self, options_for(copy.vfs()))));
  };
  for (std::uint64_t i = 60; i < 72; ++i) {
    raft_write write{.entries = {entry(i)}};
    if (i % 4 == 0)
      write.state = hard_state{{i}, node_id{"n2"}};
    if (i % 5 == 0)
      write.compact_to = log_index{i / 5};
    store->write(write);
    note();
  }
  return sample;
}

/// Hands over a disk with these files for every flipped bit, one at a time: in turns through the whole of each file, at
/// random within each region.
void with_each_flip(const files& sound, const std::function<void(const std::string& path, fault_disk&)>& check) {
  for (auto& [path, bytes] : sound) {
    const auto region = std::max<std::size_t>(bytes.size() / flips_per_file, 1);
    for (unsigned seed = 0; seed < flips_per_file; ++seed) {
      std::mt19937 random{seed};
      const auto byte = std::min(seed * region + random() % region, bytes.size() - 1);
      CAPTURE(path);
      CAPTURE(seed);
      CAPTURE(byte);
      fault_disk disk{"damage", seed};
      for (auto& [name, contents] : sound)
        disk.write(name, contents);
      disk.flip_bit(path, byte, random() % 8);
      check(path, disk);
    }
  }
}

}  // namespace

TEST_CASE("raft_store: of 500 flipped bits none gives other contents, and at most the end of the WAL is missing") {
  auto sample = make_raft();
  auto stages = sample.stages.size();
  auto noticed = 0, harmless = 0, shortened = 0;
  with_each_flip(sample.on_disk, [&](const std::string& path, fault_disk& disk) {
    try {
      log_inspector{"/raft.db", disk.vfs()}.verify();
    } catch (const std::runtime_error&) {
    }
    try {
      auto found = read_raft(*raft_store::open("/raft.db", self, options_for(disk.vfs())));
      if (found == sample.stages.back()) {
        ++harmless;
        return;
      }
      // A power failure during the last write looks the same.
      auto is_shortened = found == sample.stages[stages - 2] || found == sample.stages[stages - 3];
      CHECK(path == "/raft.db-wal");
      CHECK(is_shortened);
      ++shortened;
    } catch (const std::runtime_error&) {
      ++noticed;
    }
  });
  MESSAGE("noticed " << noticed << ", harmless " << harmless << ", the last write missing " << shortened);
  CHECK(noticed > 200);
  CHECK(shortened < flips_per_file / 3);
}

TEST_CASE("raft_store: damage in the middle of the WAL is not taken for its end") {
  auto sample = make_raft();
  auto& wal = sample.on_disk["/raft.db-wal"];
  auto found = [&](std::string bytes) {
    fault_disk disk{"wal-middle", 1};
    disk.write("/raft.db", sample.on_disk["/raft.db"]);
    disk.write("/raft.db-wal", bytes);
    return find_wal_damage("/raft.db", disk.vfs());
  };
  CHECK(found(wal) == std::nullopt);
  CHECK(found("") == std::nullopt);
  CHECK(found(wal.substr(0, 32)) == std::nullopt);
  CHECK(found(wal.substr(0, wal.size() - 100)) == std::nullopt);
  for (std::size_t byte : {0, 9, 17, 25}) {
    auto bytes = wal;
    bytes[byte] = static_cast<char>(bytes[byte] ^ 1);
    CHECK(found(bytes)->find("header") != std::string::npos);
  }
  // A page, its number, its salt and its checksum, in the first transaction.
  for (std::size_t byte : {32 + 500, 32 + 3, 32 + 9, 32 + 18}) {
    auto bytes = wal;
    bytes[byte] = static_cast<char>(bytes[byte] ^ 1);
    REQUIRE(found(bytes));
    CHECK(found(bytes)->find("frame 1") != std::string::npos);
  }
}

namespace {

using rows = std::map<std::string, std::string>;

struct state_sample {
  files on_disk;
  std::vector<std::pair<log_index, rows>> stages;
};

state_sample make_state() {
  state_sample sample;
  fault_disk disk{"damage-state", 1};
  auto store = state_store::open("/state.db", self, life, {disk.vfs()});
  rows state;
  for (std::uint64_t i = 1; i <= 40; ++i) {
    // What the WAL does not touch again has nothing to hide behind.
    auto id = "id" + std::to_string(i <= 25 ? i : i % 3);
    std::string body(i * 71 % 1500, static_cast<char>('a' + i % 26));
    auto sum = store->meta().checksum + row_hash(1, id, body);
    if (state.contains(id))
      sum -= row_hash(1, id, state[id]);
    state[id] = body;
    store->write({{i}, {1}, 0, sum, {{1, id, body, row_hash(1, id, body)}}});
    if (i == 25)
      CHECK(store->checkpoint());
    if (i >= 25)
      sample.stages.emplace_back(i, state);
  }
  sample.on_disk = {{"/state.db", disk.read("/state.db")}, {"/state.db-wal", disk.read("/state.db-wal")}};
  return sample;
}

}  // namespace

TEST_CASE("state_store: of 500 flipped bits none gives other rows than those of some index that was checkpointed") {
  auto sample = make_state();
  auto noticed = 0, harmless = 0, earlier = 0;
  with_each_flip(sample.on_disk, [&](const std::string& path, fault_disk& disk) {
    try {
      quick_check("/state.db", disk.vfs(), std::atomic<bool>{false});
      full_check_state("/state.db", disk.vfs(), std::atomic<bool>{false});
    } catch (const std::runtime_error&) {
    }
    try {
      auto store = state_store::open("/state.db", self, life, {disk.vfs()});
      rows found;
      store->load([&](const row_view& row) { found[std::string{row.id}] = row.body; });
      auto index = store->meta().last_applied;
      REQUIRE(index.value >= 25);
      CHECK(found == sample.stages[index.value - 25].second);
      ++(index.value == 40 ? harmless : earlier);
      // The log has the rest; a database that lost nothing is where it was.
      CHECK((index.value == 40 || path == "/state.db-wal"));
    } catch (const std::runtime_error&) {
      ++noticed;
    }
  });
  MESSAGE("noticed " << noticed << ", harmless " << harmless << ", an earlier index " << earlier);
  CHECK(noticed > 20);
}
