#include "actors/state_writer_actor.hpp"

#include <doctest/doctest.h>

#include "actors/state_machine_actor.hpp"
#include "tests/support/writers.hpp"

using namespace coordinator;

TEST_CASE("state writer: a write that finds the disk full is made once there is room, and answered twice") {
  writers w;
  w.open_state();
  w.say(w.state, write_state{w.put("a"), 0});
  w.disk.set_full(true);
  const auto write = w.put("b", 100'000);
  w.say(w.state, write_state{write, 3});
  auto& states = w.answers->states;
  REQUIRE(states.size() == 2);
  CHECK(states[0].error == "");
  CHECK_FALSE(states[1].error.empty());
  CHECK(states[1].generation == 3);
  w.system.pass(milliseconds{3000});
  CHECK(states.size() == 2);
  w.disk.set_full(false);
  w.system.pass(milliseconds{1100});
  REQUIRE(states.size() == 3);
  CHECK(states[2].error == "");
  CHECK(states[2].generation == 3);
  CHECK(states[2].last_applied == write.last_applied);
  CHECK(w.seen->moves.empty());
  w.system.kill_all();
  auto store = state_store::open("/state.db", {"n1"}, {11}, {w.disk.vfs(), 1000});
  CHECK(load_state_machine(*store)->checksum() == w.core.checksum());
}

TEST_CASE("state writer: after a failed sync it goes on in a new file, and the old one stays until raft.db names it") {
  writers w;
  w.open_state(1);
  w.say(w.state, write_state{w.put("a", 5000), 0});
  w.disk.fail_sync(1);
  w.say(w.state, write_state{w.put("b", 5000), 0});
  auto& states = w.answers->states;
  REQUIRE(states.size() == 2);
  REQUIRE_FALSE(states[1].error.empty());
  w.system.pass(milliseconds{1100});
  REQUIRE(states.size() == 3);
  CHECK(states[2].error == "");
  REQUIRE(w.seen->moves.size() == 1);
  const auto file = w.seen->moves[0].file;
  CHECK(file != "state.db");
  CHECK(w.seen->moves[0].before == "state.db");
  CHECK(w.present->get() == file);
  CHECK(w.has("state.db"));
  w.say(w.state, state_file_noted{"another.db"});
  CHECK(w.has("state.db"));
  w.say(w.state, state_file_noted{file});
  CHECK_FALSE(w.has_like("/state.db"));
  CHECK_FALSE(w.has("state.db"));
  CHECK(w.has(file));
  w.say(w.state, write_state{w.put("c"), 0});
  CHECK(states.back().error == "");
  w.system.kill_all();
  w.disk.crash();
  auto store = state_store::open("/" + file, {"n1"}, {11}, {w.disk.vfs(), 1000});
  CHECK(load_state_machine(*store)->last_applied() >= states[2].last_applied);
}

TEST_CASE("state writer: the keeper hears how far a checkpoint has secured the file") {
  writers w;
  w.open_state();
  const auto write = w.put("a");
  w.say(w.state, write_state{write, 0});
  CHECK(w.seen->checkpoints.empty());
  w.say(w.state, checkpoint_state{});
  REQUIRE(w.seen->checkpoints.size() == 1);
  CHECK(w.seen->checkpoints[0].file == "state.db");
  CHECK(w.seen->checkpoints[0].index == write.last_applied);
}

TEST_CASE("state writer: a checkpoint that fails costs no write") {
  writers w;
  w.open_state();
  w.say(w.state, write_state{w.put("a", 5000), 0});
  w.disk.fail_sync(1);
  w.say(w.state, checkpoint_state{});
  CHECK(w.seen->checkpoints.empty());
  w.say(w.state, write_state{w.put("b"), 0});
  REQUIRE(w.answers->states.size() == 2);
  CHECK_FALSE(w.answers->states[1].error.empty());
  w.system.pass(milliseconds{1100});
  REQUIRE(w.answers->states.size() == 3);
  CHECK(w.answers->states[2].error == "");
  REQUIRE(w.seen->moves.size() == 1);
}

TEST_CASE("state writer: a copy is made between writes and is the state as it was at one index") {
  writers w;
  w.open_state();
  for (int i = 0; i < 50; ++i)
    w.say(w.state, write_state{w.put("k" + std::to_string(i), 4000), 0});
  std::vector<state_copied> copied;
  std::map<log_index, std::uint64_t> checksums;
  w.tell(w.state, copy_state{[&](state_copied x) { copied.push_back(std::move(x)); }});
  w.tell(w.state, copy_state{[&](state_copied x) { copied.push_back(std::move(x)); }});
  for (int i = 0; i < 20; ++i) {
    auto write = w.put("k" + std::to_string(i * 2), 3000);
    checksums[write.last_applied] = write.checksum;
    w.tell(w.state, write_state{std::move(write), 0});
  }
  w.system.run();
  REQUIRE(copied.size() == 2);
  CHECK(copied[0].file != copied[1].file);
  // They were written between its pages, and went into it.
  CHECK(copied[0].last_applied == w.core.last_applied());
  for (auto& each : copied) {
    CHECK(each.error == "");
    CHECK(checksums[each.last_applied] == each.checksum);
    auto store = state_store::adopt("/" + each.file, {"n2"}, {12}, {w.disk.vfs(), 1000}, [](const row_view&) {});
    CHECK(store->meta().checksum == each.checksum);
    CHECK(load_state_machine(*store)->checksum() == each.checksum);
  }
}

TEST_CASE("state writer: a copy that has no room fails alone, and leaves no file") {
  writers w;
  w.open_state();
  for (int i = 0; i < 50; ++i)
    w.say(w.state, write_state{w.put("k" + std::to_string(i), 4000), 0});
  w.say(w.state, checkpoint_state{});
  w.disk.set_full(true);
  CHECK_FALSE(w.copy().error.empty());
  CHECK_FALSE(w.has_like("snapshot-"));
  w.disk.set_full(false);
  CHECK(w.copy().error == "");
  w.say(w.state, write_state{w.put("z"), 0});
  CHECK(w.answers->states.back().error == "");
}

namespace {

/// A state in a file of its own, as the snapshot actor hands it over.
std::shared_ptr<loaded_state> other_state(writers& w, const std::string& file, std::uint64_t last_applied) {
  auto loaded = std::make_shared<loaded_state>();
  loaded->file = file;
  loaded->store = state_store::open(w.files->path(file), {"n1"}, {11}, {w.disk.vfs(), 1000});
  state_write write;
  write.last_applied = {last_applied};
  loaded->store->write(write);
  loaded->store->checkpoint();
  return loaded;
}

}  // namespace

TEST_CASE("state writer: another state takes the place of one that cannot be written, whose file goes") {
  writers w;
  w.open_state();
  w.say(w.state, write_state{w.put("a"), 0});
  w.disk.set_full(true);
  w.say(w.state, write_state{w.put("b", 100'000), 0});
  w.disk.set_full(false);
  std::vector<state_copied> copied;
  w.say(w.state, swap_state{other_state(w, "state-9-1.db", 9), {}});
  CHECK_FALSE(w.has("state.db"));
  CHECK_FALSE(w.has("state.db-wal"));
  CHECK(w.present->get() == "state-9-1.db");
  REQUIRE(w.seen->checkpoints.size() == 1);
  CHECK(w.seen->checkpoints[0].file == "state-9-1.db");
  CHECK(w.seen->checkpoints[0].index == log_index{9});
  state_write write;
  write.last_applied = {10};
  w.say(w.state, write_state{write, 1});
  // What failed before was of the other state.
  w.system.pass(milliseconds{3000});
  REQUIRE(w.answers->states.size() == 3);
  CHECK(w.answers->states[2].generation == 1);
  CHECK(w.answers->states[2].error == "");
}

TEST_CASE("state writer: a file that is evidence is kept under another name, and a copy under way ends") {
  writers w;
  w.open_state();
  for (int i = 0; i < 20; ++i)
    w.say(w.state, write_state{w.put("k" + std::to_string(i), 4000), 0});
  std::vector<state_copied> copied;
  w.tell(w.state, copy_state{[&](state_copied x) { copied.push_back(std::move(x)); }});
  for (int i = 0; i < 4; ++i)
    w.system.run_one();
  w.say(w.state, swap_state{other_state(w, "state-99-1.db", 99), "it differs"});
  CHECK_FALSE(w.has("state.db"));
  CHECK(w.has_like("state.db.damaged-"));
  REQUIRE(copied.size() == 1);
  CHECK_FALSE(copied[0].error.empty());
  CHECK_FALSE(w.has_like("snapshot-"));
}
