#include "persistence/verify.hpp"

#include <doctest/doctest.h>

#include <string>

#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"
#include "tests/support/fault_vfs.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

const node_id self{"n1"};
constexpr incarnation_id life{42};

std::unique_ptr<raft_store> open_raft(const std::string& path, const std::string& vfs = {}) {
  raft_store_options options;
  options.vfs = vfs;
  options.new_incarnation = life.value;
  return raft_store::open(path, self, options);
}

raft_write entries(std::uint64_t from, std::uint64_t to) {
  raft_write write{.state = hard_state{{1}, std::nullopt}};
  for (auto i = from; i <= to; ++i)
    write.entries.push_back({{i}, {1}, entry_kind::command, 5, "payload"});
  return write;
}

void write_rows(state_store& store, std::uint64_t index, int count) {
  state_write write{{index}, {1}, 0, store.meta().checksum, {}};
  for (int i = 0; i < count; ++i) {
    auto id = std::to_string(index) + "/" + std::to_string(i);
    write.rows.push_back(
        {static_cast<std::uint8_t>(i % 3), id, "body", row_hash(static_cast<std::uint8_t>(i % 3), id, "body")});
    write.checksum += write.rows.back().hash;
  }
  store.write(write);
}

const std::atomic<bool> go_on{false};

bool contains(const std::optional<std::string>& text, const std::string& part) {
  return text && text->find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("verify: sound files are found to be sound while their writers have them open") {
  temporary_directory directory;
  auto raft = open_raft(directory / "raft.db");
  auto state = state_store::open(directory / "state.db", self, life, {});
  raft->write(entries(1, 500));
  raft->write({.compact_to = log_index{120}});
  write_rows(*state, 1, 1000);
  CHECK(quick_check(directory / "raft.db", {}, go_on) == std::nullopt);
  CHECK(quick_check(directory / "state.db", {}, go_on) == std::nullopt);
  CHECK(scan_log(directory / "raft.db", {}, go_on) == std::nullopt);
  CHECK(full_check_state(directory / "state.db", {}, go_on) == std::nullopt);
  CHECK(full_check_state(directory / "state.db", {}, go_on, 0.5) == std::nullopt);
  raft->write(entries(501, 501));
  write_rows(*state, 2, 1);
}

TEST_CASE("verify: each damaged or missing row is found and named") {
  struct damage {
    bool raft;
    const char* sql;
    const char* said;
  };
  const damage cases[] = {
      {true, "UPDATE log SET payload = 'x' WHERE idx = 400", "row 400 does not match"},
      {true, "DELETE FROM log WHERE idx = 300", "row 300 is missing"},
      {true, "DELETE FROM log WHERE idx = 121", "row 121 is missing"},
      {true, "UPDATE node SET state_file = 'state-9.db'", "table node"},
      {true, "UPDATE node SET base_members = x'00ff'", "table node"},
      {true, "UPDATE node SET base_time = 9", "table node"},
      {true, "UPDATE node SET base_members_index = 9", "table node"},
      {true, "UPDATE vote SET current_term = 9", "table vote"},
      {false, "UPDATE rows SET body = 'x' WHERE id = CAST('1/7' AS BLOB)", "'1/7') does not match"},
      {false, "DELETE FROM rows WHERE id = CAST('1/7' AS BLOB)", "do not match the checksum"},
      {false, "UPDATE meta SET last_applied = 7", "table meta"},
  };
  for (auto& damage : cases) {
    temporary_directory directory;
    auto path = directory / (damage.raft ? "raft.db" : "state.db");
    if (damage.raft) {
      auto store = open_raft(path);
      store->write(entries(1, 500));
      store->write({.compact_to = log_index{120}});
    } else {
      write_rows(*state_store::open(path, self, life, {}), 1, 500);
    }
    auto check = [&] { return damage.raft ? scan_log(path, {}, go_on) : full_check_state(path, {}, go_on); };
    CAPTURE(damage.sql);
    CHECK(check() == std::nullopt);
    database{path, {}}.execute(damage.sql);
    CHECK(contains(check(), damage.said));
    CHECK(contains(check(), path));
  }
}

TEST_CASE("verify: a file whose structure is damaged is found so by the quick check") {
  fault_disk disk{"quick", 1};
  write_rows(*state_store::open("/state.db", self, life, {disk.vfs()}), 1, 2000);
  CHECK(quick_check("/state.db", disk.vfs(), go_on) == std::nullopt);
  // The middle of the file: a page of the rows, whose header says what kind of page it is.
  disk.flip_bit("/state.db", disk.read("/state.db").size() / 4096 / 2 * 4096, 3);
  CHECK(contains(quick_check("/state.db", disk.vfs(), go_on), "/state.db"));
  CHECK(full_check_state("/state.db", disk.vfs(), go_on) != std::nullopt);
}

TEST_CASE("verify: it ends when it is told to, and says nothing then") {
  temporary_directory directory;
  write_rows(*state_store::open(directory / "state.db", self, life, {}), 1, 5000);
  open_raft(directory / "raft.db")->write(entries(1, 500));
  database{directory / "state.db", {}}.execute("UPDATE rows SET body = 'x' WHERE id = CAST('1/4999' AS BLOB)");
  const std::atomic<bool> stop{true};
  CHECK(quick_check(directory / "state.db", {}, stop) == std::nullopt);
  CHECK(full_check_state(directory / "state.db", {}, stop) == std::nullopt);
  CHECK(scan_log(directory / "raft.db", {}, stop) == std::nullopt);
  CHECK(full_check_state(directory / "state.db", {}, go_on) != std::nullopt);
}

TEST_CASE("verify: nothing is written by it") {
  fault_disk disk{"verify-writes", 1};
  auto raft = open_raft("/raft.db", disk.vfs());
  auto state = state_store::open("/state.db", self, life, {disk.vfs()});
  raft->write(entries(1, 50));
  write_rows(*state, 1, 100);
  auto operations = disk.operations();
  CHECK(quick_check("/raft.db", disk.vfs(), go_on) == std::nullopt);
  CHECK(scan_log("/raft.db", disk.vfs(), go_on) == std::nullopt);
  CHECK(full_check_state("/state.db", disk.vfs(), go_on) == std::nullopt);
  CHECK(disk.operations() == operations);
  CHECK_THROWS_AS(quick_check("/absent.db", disk.vfs(), go_on), database_error);
}
