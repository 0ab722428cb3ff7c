#include "persistence/offline.hpp"

#include <doctest/doctest.h>
#include <sqlite3.h>

#include <filesystem>
#include <string>
#include <vector>

#include "persistence/codec.hpp"
#include "persistence/data_directory.hpp"
#include "persistence/snapshot_file.hpp"
#include "persistence/state_store.hpp"
#include "tests/support/fault_files.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

const node_id self{"n1"};
constexpr incarnation_id life{42};
const lone_member alone{"ffeeddccbbaa99887766554433221100", "", ""};

const membership old_members{{{self, life, "a:1", "a:2", true}, {{"n2"}, {7}, "b:1", "b:2", true}}};
const membership lone_members{{{self, life, "a:1", "a:2", true}}};

raft_store_options options_for(const std::string& vfs) {
  raft_store_options options;
  options.vfs = vfs;
  options.new_incarnation = life.value;
  return options;
}

log_entry command(std::uint64_t index) {
  return {{index}, {2}, entry_kind::command, static_cast<std::int64_t>(1000 + index), "payload"};
}

// Entries 1 to 20, of which the first 5 are compacted away.
void make_raft(const std::string& path, const std::string& vfs) {
  auto store = raft_store::open(path, self, options_for(vfs));
  genesis founded{"00112233445566778899aabbccddeeff", old_members, 1001};
  raft_write write{.state = hard_state{{3}, node_id{"n2"}},
                   .entries = {{{1}, {1}, entry_kind::genesis, 1001, to_bytes(founded)}},
                   .formed = founded};
  for (std::uint64_t i = 2; i <= 20; ++i)
    write.entries.push_back(command(i));
  store->write(write);
  store->write({.compact_to = log_index{5}});
}

std::string make_snapshot() {
  fault_disk disk{"snapshot-source", 1};
  auto store = state_store::open("/state.db", {"n9"}, {9}, {disk.vfs()});
  std::string body(5000, 'b');
  auto sum = row_hash(1, "a", body) + row_hash(1, "b", "2");
  store->write({{70}, {4}, 700, sum, {{1, "a", body, row_hash(1, "a", body)}, {1, "b", "2", row_hash(1, "b", "2")}}});
  auto copy = store->begin_copy("/snapshot.db");
  while (!copy->step(1)) {
  }
  return disk.read("/snapshot.db");
}

}  // namespace

TEST_CASE("offline: a stopped node's log is read as it is, and nothing is changed") {
  fault_disk disk{"inspect", 1};
  make_raft("/raft.db", disk.vfs());
  auto before = disk.read("/raft.db");
  log_inspector inspector{"/raft.db", disk.vfs()};
  auto& contents = inspector.contents();
  CHECK(contents.node == self);
  CHECK(contents.incarnation == life);
  CHECK(contents.state == hard_state{{3}, node_id{"n2"}});
  CHECK(contents.base == log_base{{5}, {2}, {1}, old_members, 1005});
  CHECK(contents.founded->founders == old_members);
  CHECK(contents.state_file == "state.db");
  CHECK(contents.first_index.value == 6);
  CHECK(contents.last_index.value == 20);
  std::vector<log_entry> entries;
  auto no_damage = [](const log_damage& damage) { FAIL(damage.what); };
  inspector.each(
      {0}, {8}, [&](const log_entry& entry) { entries.push_back(entry); }, no_damage);
  CHECK(entries == std::vector{command(6), command(7), command(8)});
  inspector.each(
      {21}, {30}, [&](const log_entry&) { FAIL("beyond the end"); }, no_damage);
  CHECK(inspector.problems().empty());
  CHECK(inspector.verify().empty());
  CHECK(disk.read("/raft.db") == before);
  CHECK(disk.read("/raft.db-wal").empty());
}

TEST_CASE("offline: every damaged row is reported by its index, and the sound ones are given") {
  temporary_directory directory;
  auto path = directory / "raft.db";
  make_raft(path, {});
  {
    database db{path, {}};
    db.execute("UPDATE log SET payload = 'x' WHERE idx IN (7, 9)");
    db.execute("DELETE FROM log WHERE idx IN (11, 12, 15)");
    db.execute("UPDATE vote SET current_term = 4");
  }
  log_inspector inspector{path};
  REQUIRE(inspector.problems().size() == 1);
  CHECK(inspector.problems()[0].what.find("table vote") != std::string::npos);
  std::vector<std::uint64_t> sound, damaged;
  inspector.each(
      {1}, {99}, [&](const log_entry& entry) { sound.push_back(entry.index.value); },
      [&](const log_damage& damage) { damaged.push_back(damage.index.value); });
  CHECK(sound == std::vector<std::uint64_t>{6, 8, 10, 13, 14, 16, 17, 18, 19, 20});
  CHECK(damaged == std::vector<std::uint64_t>{7, 9, 11, 15});
  CHECK(inspector.verify().size() == 5);
  CHECK_THROWS_AS(log_inspector(directory / "absent.db"), database_error);
}

TEST_CASE("offline: a node made a cluster of its own has a new cluster id, a later term and itself as the only voter") {
  temporary_directory directory;
  make_raft(directory / "raft.db", {});
  {
    data_directory held{directory.path(), std::nullopt};
    CHECK(held.found_node() == self);
    CHECK(force_new(held.files(), self, alone) == lone_members);
    CHECK_THROWS_AS(force_new(held.files(), {"n2"}, alone), refused_error);
  }
  CHECK(inspect_raft_file(directory / "raft.db")->cluster_id == alone.cluster_id);
  auto store = raft_store::open(directory / "raft.db", self, options_for({}));
  auto& contents = store->contents();
  CHECK(contents.incarnation == life);
  CHECK(contents.state == hard_state{{4}, std::nullopt});
  CHECK(contents.founded->cluster_id == alone.cluster_id);
  // Whoever joins applies this founding in the place of the old one, and comes to the same.
  CHECK(contents.founded->founders == old_members);
  CHECK(contents.last_index.value == 21);
  REQUIRE(contents.memberships.size() == 1);
  CHECK(contents.memberships[0] == log_entry{{21}, {4}, entry_kind::membership, 1020, to_bytes(lone_members)});
  // It goes on as a log does.
  store->write({.entries = {{{22}, {4}, entry_kind::noop, 1021, ""}}});
}

TEST_CASE("offline: a crash at any moment of making it one leaves the old cluster or the new one") {
  auto olds = 0, news = 0;
  for (std::uint64_t n = 0; n < 40; ++n)
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
      fault_disk disk{"force-new", seed * 1000003 + n};
      make_raft("/raft.db", disk.vfs());
      fault_files files{disk};
      disk.stop_after(n);
      try {
        force_new(files, self, {alone.cluster_id, "c:1", "c:2"});
      } catch (const database_error&) {
      }
      seed % 3 ? disk.crash() : disk.restart();
      CAPTURE(n);
      CAPTURE(seed);
      auto store = raft_store::open("/raft.db", self, options_for(disk.vfs()));
      auto& contents = store->contents();
      auto is_new = contents.founded->cluster_id == alone.cluster_id;
      ++(is_new ? news : olds);
      CHECK(contents.last_index.value == (is_new ? 21 : 20));
      CHECK(contents.state == (is_new ? hard_state{{4}, std::nullopt} : hard_state{{3}, node_id{"n2"}}));
      if (is_new)
        CHECK(contents.memberships.back().payload.find("c:1") != std::string::npos);
    }
  CHECK(olds > 10);
  CHECK(news > 10);
}

TEST_CASE("offline: a snapshot becomes a node of a new cluster, which begins where the snapshot ends") {
  temporary_directory directory;
  fault_disk disk{"restore", 1};
  disk.write("/backup.db", make_snapshot());
  real_files files{directory.path().string()};
  // The backup lies on another disk, and may not be writable.
  {
    auto bytes = disk.read("/backup.db");
    auto file = snapshot_file::create(directory / "backup.file");
    file->write(0, bytes);
  }
  std::filesystem::create_directory(directory.path() / "data");
  real_files data{directory / "data"};
  std::filesystem::permissions(directory / "backup.file", std::filesystem::perms::owner_read);
  create_from_snapshot(data, self, life, directory / "backup.file", {alone.cluster_id, "a:1", "a:2"}, 5);
  data_directory held{directory / "data", self, alone.cluster_id};
  CHECK(held.condition() == directory_condition::node);
  auto raft = raft_store::open(held.raft_path(), self, options_for({}));
  auto& contents = raft->contents();
  CHECK(contents.base == log_base{{70}, {4}, {70}, lone_members, 700});
  CHECK(contents.first_index.value == 71);
  CHECK(contents.last_index.value == 70);
  CHECK(contents.state == hard_state{{4}, std::nullopt});
  CHECK(contents.founded->founders == lone_members);
  auto state = state_store::open(held.files().path(contents.state_file), self, life, {});
  CHECK(state->meta().last_applied.value == 70);
  auto rows = 0;
  state->load([&](const row_view&) { ++rows; });
  CHECK(rows == 2);
  CHECK_THROWS_AS(create_from_snapshot(data, self, life, directory / "backup.file", alone, 6), refused_error);
}

TEST_CASE("offline: a snapshot that is damaged or no snapshot makes no node") {
  auto bytes = make_snapshot();
  auto at = bytes.find(std::string(100, 'b'));
  REQUIRE(at != std::string::npos);
  bytes[at] = 'c';
  fault_disk disk{"restore-damage", 1};
  disk.write("/backup.db", bytes);
  disk.write("/text.db", std::string(9000, 't'));
  fault_disk target{"restore-target", 1};
  fault_files files{target};
  for (auto path : {"/backup.db", "/text.db"}) {
    CHECK_THROWS_AS(create_from_snapshot(files, self, life, path, alone, 5, disk.vfs()), damaged_error);
    CHECK_FALSE(inspect_raft_file("/raft.db", target.vfs())->cluster_id);
  }
  target.write("/state-9.db.damaged-20261123T101500Z", "x");
  CHECK_THROWS_AS(create_from_snapshot(files, self, life, "/backup.db", alone, 5, disk.vfs()), refused_error);
}

TEST_CASE("offline: a restoration that was cut short anywhere can be done again, and is whole then") {
  fault_disk source{"restore-source", 1};
  source.write("/backup.db", make_snapshot());
  auto done = 0;
  for (std::uint64_t n = 0; n < 90; ++n)
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      fault_disk disk{"restore-crash", seed * 1000003 + n};
      fault_files files{disk};
      disk.stop_after(n);
      auto restore = [&](std::uint64_t nonce) {
        create_from_snapshot(files, self, life, "/backup.db", {alone.cluster_id, "a:1", "a:2"}, nonce, source.vfs());
      };
      try {
        restore(5);
      } catch (const database_error&) {
      }
      seed % 4 ? disk.crash() : disk.restart();
      CAPTURE(n);
      CAPTURE(seed);
      try {
        restore(6);
      } catch (const refused_error&) {
        ++done;
      }
      auto raft = raft_store::open("/raft.db", self, options_for(disk.vfs()));
      auto& contents = raft->contents();
      CHECK(contents.founded->cluster_id == alone.cluster_id);
      CHECK(contents.base.index.value == 70);
      remove_unnamed(files, contents.state_file);
      auto state = state_store::open(files.path(contents.state_file), self, life, {disk.vfs()});
      CHECK(state->meta().last_applied.value == 70);
      state->load([](const row_view&) {});
    }
  CHECK(done > 10);
}
