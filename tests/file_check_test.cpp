#include "actors/file_check.hpp"

#include <doctest/doctest.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <vector>

#include "persistence/database.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

const node_id self{"n1"};
constexpr incarnation_id life{42};
constexpr const char* state_name = "state-1-1.db";

/// A node's files, as they are while it runs on them, and what a check of them says.
struct checked_node {
  checked_node() {
    raft_store_options options;
    options.new_incarnation = life.value;
    raft = raft_store::open(directory / "raft.db", self, options);
    raft_write log{.state = hard_state{{1}, std::nullopt}};
    for (std::uint64_t i = 1; i <= 200; ++i)
      log.entries.push_back({{i}, {1}, entry_kind::command, 5, std::string(100, 'p')});
    raft->write(log);
    state = state_store::open(directory / state_name, self, life, {});
    state_write rows{{1}, {1}, 0, 0, {}};
    for (int i = 0; i < 500; ++i) {
      auto id = std::to_string(i);
      rows.rows.push_back({1, id, std::string(50, 'b'), row_hash(1, id, std::string(50, 'b'))});
      rows.checksum += rows.rows.back().hash;
    }
    state->write(rows);
    REQUIRE(state->checkpoint());
  }

  /// Damages a page in the middle of the state's file, but no row: its header counts more free bytes than there are.
  void damage_structure() {
    const auto pages = std::filesystem::file_size(directory / state_name) / 4096;
    std::fstream file{directory / state_name, std::ios::in | std::ios::out | std::ios::binary};
    const auto at = static_cast<std::streamoff>(pages / 2 * 4096 + 7);
    file.seekg(at);
    const auto before = static_cast<char>(file.get());
    file.seekp(at);
    file.put(static_cast<char>(before ^ 8));
  }

  void check(verify_level level) {
    file_check_settings settings;
    settings.level = level;
    settings.files = std::make_shared<real_files>(directory.path().string());
    settings.state_file = present;
    settings.log_damaged = [&](std::string what) { log_damage.push_back(std::move(what)); };
    settings.state_damaged = [&](std::string what) { state_damage.push_back(std::move(what)); };
    settings.done = [&] {
      std::lock_guard lock{mutex};
      ++done;
      changed.notify_all();
    };
    file_check running{std::move(settings)};
    std::unique_lock lock{mutex};
    CHECK(changed.wait_for(lock, std::chrono::seconds{60}, [&] { return done == 1; }));
  }

  temporary_directory directory;
  std::unique_ptr<raft_store> raft;
  std::unique_ptr<state_store> state;
  std::shared_ptr<present_state_file> present = std::make_shared<present_state_file>(state_name);
  std::vector<std::string> log_damage, state_damage;
  std::mutex mutex;
  std::condition_variable changed;
  int done = 0;
};

}  // namespace

TEST_CASE("file check: sound files that are in use are found to be sound, and its end is told once") {
  for (auto level : {verify_level::off, verify_level::quick, verify_level::full}) {
    checked_node node;
    node.check(level);
    CHECK(node.done == 1);
    CHECK(node.log_damage.empty());
    CHECK(node.state_damage.empty());
  }
}

TEST_CASE("file check: damage that no row shows is found by every level but off") {
  for (auto level : {verify_level::off, verify_level::quick, verify_level::full}) {
    checked_node node;
    node.damage_structure();
    node.check(level);
    CHECK(node.log_damage.empty());
    REQUIRE(node.state_damage.size() == (level == verify_level::off ? 0 : 1));
    if (level != verify_level::off)
      CHECK(node.state_damage[0].find(state_name) != std::string::npos);
  }
}

TEST_CASE("file check: a damaged row of the log is found by every level but off, one of the state by the full one") {
  for (auto level : {verify_level::off, verify_level::quick, verify_level::full}) {
    checked_node node;
    database{node.directory / "raft.db", {}}.execute("UPDATE log SET payload = 'x' WHERE idx = 77");
    database{node.directory / state_name, {}}.execute("UPDATE rows SET body = 'x' WHERE id = CAST('7' AS BLOB)");
    node.check(level);
    CHECK(node.log_damage.size() == (level == verify_level::off ? 0 : 1));
    CHECK(node.state_damage.size() == (level == verify_level::full ? 1 : 0));
  }
}
