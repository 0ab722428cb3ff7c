#include "actors/state_machine_actor.hpp"

#include <doctest/doctest.h>

#include "actors/log_writer_actor.hpp"
#include "actors/state_writer_actor.hpp"
#include "tests/support/local_node.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

TEST_CASE("state machine actor: it writes behind within 500 ms, and one transaction at a time") {
  local_node node;
  node.lead();
  node.disk->hold = true;
  node.write(local_node::put("a", "v"));
  node.run();
  CHECK(node.disk->writes.empty());
  node.pass(350);
  REQUIRE(node.disk->writes.size() == 1);
  CHECK(node.disk->writes[0].last_applied == node.keeper->log.back().index);
  node.write(local_node::put("b", "v"));
  node.pass(1000);
  CHECK(node.disk->writes.size() == 1);
  node.answer_write();
  node.pass(350);
  CHECK(node.disk->writes.size() == 2);
  node.answer_write();
  node.pass(1000);
  CHECK(node.disk->writes.size() == 2);
}

TEST_CASE("state machine actor: many rows do not wait for the timer") {
  local_node node;
  node.lead();
  node.write(local_node::tasks(6000));
  node.run();
  CHECK(node.disk->writes.size() == 1);
}

TEST_CASE("state machine actor: a flush is answered when all that was applied is in state.db") {
  local_node node;
  node.lead();
  node.disk->hold = true;
  node.write(local_node::put("a", "v"));
  node.run();
  auto first = node.flush();
  node.run();
  REQUIRE(node.disk->writes.size() == 1);
  node.write(local_node::put("b", "v"));
  node.run();
  auto second = node.flush();
  node.run();
  CHECK_FALSE(first->has_value());
  node.answer_write();
  REQUIRE(first->has_value());
  CHECK((*first)->error.empty());
  CHECK((*first)->last_applied == node.disk->writes[0].last_applied);
  CHECK((*first)->last_applied_term == term_number{1});
  CHECK_FALSE(second->has_value());
  REQUIRE(node.disk->writes.size() == 2);
  node.answer_write();
  REQUIRE(second->has_value());
  CHECK((*second)->last_applied == node.keeper->log.back().index);
  auto nothing_new = node.flush();
  node.run();
  CHECK(nothing_new->has_value());
  CHECK(node.disk->writes.size() == 2);
}

TEST_CASE("state machine actor: after a failed write the keeper knows, nothing is written, and flushes fail") {
  local_node node;
  node.lead();
  node.disk->error = "no space";
  node.write(local_node::put("a", "v"));
  node.run();
  auto flush = node.flush();
  node.run();
  REQUIRE(flush->has_value());
  CHECK((*flush)->error == "no space");
  CHECK(node.keeper->disk_errors == std::vector<std::string>{"no space"});
  node.write(local_node::put("b", "v"));
  node.pass(2000);
  CHECK(node.disk->writes.size() == 1);
  auto later = node.flush();
  node.run();
  CHECK((*later)->error == "no space");
  CHECK(node.keeper->disk_errors.size() == 1);
}

TEST_CASE("state machine actor: a read waits for its index") {
  local_node node;
  node.tell(node_role::follower, 1, "n1");
  node.lead();
  node.keeper->hold = true;
  auto write = node.write(local_node::put("k", "v"));
  node.run();
  node.keeper->released = node.keeper->log.back().index;  // Committed, and on its way.
  auto read = node.read(get_key{"k"});
  node.run();
  CHECK(node.keeper->read_indexes == 1);
  CHECK_FALSE(read->has_value());
  node.keeper->released = log_index{node.keeper->released.value - 1};
  node.release();
  REQUIRE(read->has_value());
  CHECK(std::holds_alternative<key_view>((*read)->result));
}

TEST_CASE("state machine actor: where applying hangs, reads do not pile up") {
  local_node node;
  node.lead();
  node.keeper->hold = true;
  node.write(local_node::put("k", "v"));
  node.run();
  auto before = node.keeper->released;
  node.keeper->released = node.keeper->log.back().index;
  std::vector<std::shared_ptr<std::optional<read_result>>> reads;
  for (int i = 0; i < 10'010; ++i)
    reads.push_back(node.read(get_counts{}));
  node.run();
  node.keeper->released = before;
  node.release();
  CHECK_FALSE(reads[9]->has_value());
  CHECK(reads[10]->has_value());
  CHECK(reads.back()->has_value());
  node.pass(5100);
  REQUIRE(reads[9]->has_value());
  CHECK((*reads[9])->reason == "timeout");
}

TEST_CASE("state machine actor: entries at or below last_applied are passed over") {
  local_node node;
  node.lead();
  node.write(put_key{"k", "v", {}, true, false});
  node.run();
  auto applied = node.keeper->released;
  node.keeper->released = log_index{0};
  node.release();
  auto read = node.read(get_key{"k"});
  node.run();
  REQUIRE(read->has_value());
  CHECK((*read)->applied_index == applied);
}

TEST_CASE("state machine actor: what was written behind is found again") {
  temporary_directory directory;
  const auto path = directory / "state.db";
  log_index written;
  {
    auto store = state_store::open(path, {"n1"}, {11}, {});
    auto core = load_state_machine(*store);
    local_node node{std::move(core)};
    node.lead();
    node.disk->hold = true;
    node.write(local_node::put("k", "v"));
    node.write(local_node::worker("w"));
    node.write(local_node::tasks(3));
    node.run();
    node.claim("w", milliseconds{0});
    node.run();
    node.flush();
    node.run();
    REQUIRE(node.disk->writes.size() == 1);
    store->write(node.disk->writes[0]);
    written = node.disk->writes[0].last_applied;
  }
  auto store = state_store::open(path, {"n1"}, {11}, {});
  auto core = load_state_machine(*store);
  CHECK(core->last_applied() == written);
  CHECK(std::get<key_view>(core->answer(get_key{"k"})).value == "v");
  CHECK(std::get<task_view>(core->answer(get_task{"t0"})).status == task_status::assigned);
}

TEST_CASE("state machine actor: rows that do not fit together are damage, not a state") {
  temporary_directory directory;
  auto store = state_store::open(directory / "state.db", {"n1"}, {11}, {});
  state_write write;
  write.last_applied = {1};
  write.last_applied_term = {1};
  row_change row{200, "x", "y", row_hash(200, "x", "y")};
  write.checksum = row.hash;
  write.rows.push_back(row);
  store->write(write);
  CHECK_THROWS_WITH_AS(load_state_machine(*store), doctest::Contains("200:x"), damaged_error);
}

namespace {

struct writer_answers {
  std::vector<state_written> states;
  std::vector<log_written> logs;
  std::vector<log_loaded> loads;
};

using listener_actor =
    caf::typed_actor<caf::reacts_to<state_written>, caf::reacts_to<log_written>, caf::reacts_to<log_loaded>,
                     caf::reacts_to<write_state>, caf::reacts_to<write_log>, caf::reacts_to<load_log>>;

/// Passes what it is given on to the writers, so that they answer it.
listener_actor::behavior_type listener(listener_actor::pointer self, std::shared_ptr<writer_answers> answers,
                                       state_writer_actor states, log_writer_actor logs) {
  return {
      [=](const state_written& x) { answers->states.push_back(x); },
      [=](const log_written& x) { answers->logs.push_back(x); },
      [=](const log_loaded& x) { answers->loads.push_back(x); },
      [=](const write_state& x) { self->send(states, x); },
      [=](const write_log& x) { self->send(logs, x); },
      [=](const load_log& x) { self->send(logs, x); },
  };
}

}  // namespace

TEST_CASE("writers: what a store refuses comes back as words, and the actor lives on") {
  temporary_directory directory;
  deterministic_system system;
  auto& sys = system.system();
  auto answers = std::make_shared<writer_answers>();
  auto states =
      system.own(sys.spawn(state_writer_behavior, state_store::open(directory / "state.db", {"n1"}, {11}, {})));
  raft_store_options options;
  options.new_incarnation = 11;
  options.create = true;
  auto logs = system.own(sys.spawn(log_writer_behavior, raft_store::open(directory / "raft.db", {"n1"}, options)));
  auto asker = system.own(sys.spawn(listener, answers, states, logs));

  state_write state;
  state.last_applied = {5};
  caf::anon_send(asker, write_state{state});
  state.last_applied = {4};
  caf::anon_send(asker, write_state{state});
  raft_write write;
  write.number = 1;
  write.state = hard_state{{1}, std::nullopt};
  write.entries.push_back({{1}, {1}, entry_kind::noop, 0, "first"});
  caf::anon_send(asker, write_log{write});
  write.number = 2;
  write.entries[0].index = {7};
  caf::anon_send(asker, write_log{write});
  caf::anon_send(asker, load_log{9, {1}, {1}, 1000});
  system.run();

  REQUIRE(answers->states.size() == 2);
  CHECK(answers->states[0].error.empty());
  CHECK_FALSE(answers->states[1].error.empty());
  REQUIRE(answers->logs.size() == 2);
  CHECK(answers->logs[0].error == "");
  CHECK(answers->logs[0].number == 1);
  CHECK_FALSE(answers->logs[1].error.empty());
  REQUIRE(answers->loads.size() == 1);
  CHECK(answers->loads[0].request == 9);
  REQUIRE(answers->loads[0].entries.size() == 1);
  CHECK(answers->loads[0].entries[0].payload == "first");
}
