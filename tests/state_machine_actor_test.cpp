#include "actors/state_machine_actor.hpp"

#include <doctest/doctest.h>

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

TEST_CASE(
    "state machine actor: after a failed write the keeper knows, flushes fail, and it goes on once the writer can") {
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
  node.answer_write();  // Still not.
  CHECK(node.keeper->disk_errors.size() == 1);
  CHECK(node.keeper->disk_recoveries == 0);
  // The writer made it after all; what came since is written next.
  node.disk->error.clear();
  node.answer_write();
  CHECK(node.keeper->disk_recoveries == 1);
  node.pass(400);
  REQUIRE(node.disk->writes.size() == 2);
  CHECK(node.disk->writes[1].last_applied == node.keeper->log.back().index);
  auto last = node.flush();
  node.run();
  REQUIRE(last->has_value());
  CHECK((*last)->error.empty());
  CHECK(node.keeper->disk_recoveries == 1);
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

// -- another state ------------------------------------------------------------------------------

namespace {

/// The state that applying the log of `from`, and then these writes, comes to: as a leader's snapshot would hold it.
struct ahead {
  explicit ahead(const local_node& from) : core(std::make_unique<state_machine>()) {
    for (auto& entry : from.keeper->log)
      apply(entry);
  }
  void apply(const log_entry& entry) { core->apply(entry); }
  void noop() {
    log_entry entry;
    entry.index = core->last_applied() + 1;
    entry.term = {1};
    apply(entry);
  }
  std::shared_ptr<loaded_state> take() {
    auto loaded = std::make_shared<loaded_state>();
    loaded->file = "state-9-1.db";
    core->take_dirty();
    loaded->machine = std::move(core);
    return loaded;
  }

  std::unique_ptr<state_machine> core;
};

void install(local_node& node, std::shared_ptr<loaded_state> state, std::string set_aside = {}) {
  caf::anon_send(node.machine_actor, install_state{std::move(state), std::move(set_aside)});
  node.run();
}

/// Leads, with one key applied; what is written from here on is appended and not applied.
void hold_after_first(local_node& node) {
  node.lead();
  node.write(local_node::put("a", "1"));
  node.run();
  node.keeper->hold = true;
}

/// Entries that the keeper appended and holds are in the snapshot: they are never handed over.
void skip_log(local_node& node) {
  node.keeper->released = node.keeper->log.back().index;
}

}  // namespace

TEST_CASE("state machine actor: an installed state answers the reads that waited for it, and goes to the writer") {
  local_node node;
  node.lead();
  node.write(local_node::put("a", "1"));
  node.pass(400);
  node.keeper->hold = true;
  node.write(local_node::put("k", "v"));
  node.run();
  skip_log(node);
  auto waiting = node.read(get_key{"k"});
  node.run();
  CHECK_FALSE(waiting->has_value());
  ahead snapshot{node};
  const auto index = snapshot.core->last_applied();
  install(node, snapshot.take(), "evidence");
  REQUIRE(waiting->has_value());
  CHECK(std::get<key_view>((*waiting)->result).value == "v");
  CHECK((*waiting)->applied_index == index);
  REQUIRE(node.disk->swaps.size() == 1);
  CHECK(node.disk->swaps[0].state->file == "state-9-1.db");
  CHECK(node.disk->swaps[0].set_aside == "evidence");
  CHECK(node.intake->known().last_applied == index);
  CHECK(node.present_file->get() == "state-9-1.db");
  // Its file holds it: there is nothing to be written, and a flush is answered at once.
  const auto writes = node.disk->writes.size();
  auto flush = node.flush();
  node.run();
  REQUIRE(flush->has_value());
  CHECK((*flush)->last_applied == index);
  node.pass(1000);
  CHECK(node.disk->writes.size() == writes);
}

TEST_CASE(
    "state machine actor: a write whose entry is inside the snapshot is answered from what is kept there (rule 10)") {
  local_node node;
  hold_after_first(node);
  auto write = node.write(put_key{"once", "v", {}, true, false});
  node.run();
  REQUIRE_FALSE(write->has_value());
  skip_log(node);
  ahead snapshot{node};
  const auto index = snapshot.core->last_applied();
  node.keeper->hold = false;
  install(node, snapshot.take());
  // Asked again: the second copy applies as nothing, and is answered as the first was.
  REQUIRE(write->has_value());
  CHECK((*write)->outcome == write_result::outcome::applied);
  CHECK((*write)->result.ok());
  CHECK(node.keeper->log.back().index > index);
  auto read = node.read(get_key{"once"});
  node.run();
  REQUIRE(read->has_value());
  CHECK(std::get<key_view>((*read)->result).version == index.value);
}

TEST_CASE("state machine actor: a session that was opened inside the snapshot is found again") {
  local_node node;
  node.lead();
  node.keeper->hold = true;
  auto write = node.write(local_node::put("a", "1"));
  node.run();
  REQUIRE(node.keeper->logged<open_session>().size() == 1);
  skip_log(node);
  ahead snapshot{node};
  node.keeper->hold = false;
  install(node, snapshot.take());
  REQUIRE(write->has_value());
  CHECK((*write)->result.ok());
}

TEST_CASE("state machine actor: what the writer says of the state before is not taken for this one") {
  local_node node;
  node.lead();
  node.disk->hold = true;
  node.write(local_node::put("a", "1"));
  node.pass(400);
  REQUIRE(node.disk->writes.size() == 1);
  ahead snapshot{node};
  snapshot.noop();
  node.keeper->log.push_back({snapshot.core->last_applied(), {1}, entry_kind::noop, 0, {}});
  skip_log(node);
  install(node, snapshot.take());
  const auto old_generation = node.disk->generation;
  node.write(local_node::put("b", "2"));
  node.pass(400);
  REQUIRE(node.disk->writes.size() == 2);
  CHECK(node.disk->generation != old_generation);
  auto flush = node.flush();
  node.run();
  caf::anon_send(node.machine_actor, state_written{node.disk->writes[0].last_applied, "no space", old_generation});
  caf::anon_send(node.machine_actor, state_written{node.disk->writes[0].last_applied, {}, old_generation});
  node.run();
  CHECK(node.keeper->disk_errors.empty());
  CHECK_FALSE(flush->has_value());
  node.answer_write();
  REQUIRE(flush->has_value());
  CHECK((*flush)->last_applied == node.keeper->log.back().index);
}

TEST_CASE("state machine actor: a new file ends what the disk of the one before was accused of") {
  local_node node;
  node.lead();
  node.disk->error = "no space";
  node.write(local_node::put("a", "1"));
  node.pass(400);
  REQUIRE(node.keeper->disk_errors.size() == 1);
  ahead snapshot{node};
  snapshot.noop();
  install(node, snapshot.take());
  CHECK(node.keeper->disk_recoveries == 1);
}

TEST_CASE("state machine actor: entries inside the installed state are passed over, those after it are applied") {
  local_node node;
  hold_after_first(node);
  node.write(local_node::put("b", "2"));
  node.run();
  ahead snapshot{node};
  install(node, snapshot.take());
  node.write(local_node::put("c", "3"));
  node.run();
  node.release();  // Both of them.
  auto read = node.read(get_key{"c"});
  node.run();
  REQUIRE(read->has_value());
  CHECK((*read)->applied_index == node.keeper->log.back().index);
}

TEST_CASE("state machine actor: a claim that waits gets the work that the snapshot brings") {
  local_node node;
  node.lead();
  node.write(local_node::worker("w"));
  node.run();
  auto claim = node.claim("w", milliseconds{10'000});
  node.run();
  CHECK_FALSE(claim->has_value());
  node.keeper->hold = true;
  node.write(local_node::tasks(1));
  node.run();
  skip_log(node);
  ahead snapshot{node};
  node.keeper->hold = false;
  install(node, snapshot.take());
  REQUIRE(claim->has_value());
  CHECK((*claim)->result.assignments.size() == 1);
}

TEST_CASE("state machine actor: a state that must not be used is neither read, nor built on, nor written") {
  local_node node;
  hold_after_first(node);
  node.write(local_node::put("b", "2"));
  node.run();
  auto flush = node.flush();
  caf::anon_send(node.machine_actor, state_unusable{"it differs"});
  auto stale = node.read(get_key{"a"}, false);
  auto strong = node.read(get_key{"a"});
  node.run();
  for (auto& read : {stale, strong}) {
    REQUIRE(read->has_value());
    REQUIRE(std::holds_alternative<query_error>((*read)->result));
    CHECK(std::get<query_error>((*read)->result).code == query_error::kind::unusable);
    CHECK(std::get<query_error>((*read)->result).detail == "it differs");
  }
  ahead snapshot{node};
  node.release();
  const auto writes = node.disk->writes.size();
  node.pass(1000);
  CHECK(node.disk->writes.size() == writes);
  auto refused = node.flush();
  node.run();
  REQUIRE(refused->has_value());
  CHECK((*refused)->error == "it differs");
  const auto digests = node.keeper->digests.size();
  install(node, snapshot.take());
  auto again = node.read(get_key{"b"}, false);
  node.run();
  REQUIRE(again->has_value());
  CHECK(std::get<key_view>((*again)->result).value == "2");
  node.pass(1100);
  CHECK(node.keeper->digests.size() == digests + 1);
}

TEST_CASE("state machine actor: the checksum is told at every thousandth entry and once after a rest (rule 9)") {
  local_node node;
  node.lead();
  node.write(local_node::put("a", "1"));
  node.run();
  auto& digests = node.keeper->digests;
  for (int i = 0; i < 1500; ++i)
    node.keeper->log.push_back({{node.keeper->log.size() + 1}, {1}, entry_kind::noop, 0, {}});
  const auto expected = [&](std::uint64_t to) {
    state_machine core;
    for (auto& entry : node.keeper->log)
      if (entry.index.value <= to)
        core.apply(entry);
    return core.checksum();
  };
  node.release();
  REQUIRE(digests.size() == 1);
  CHECK(digests[0].index == log_index{1000});
  CHECK(digests[0].checksum == expected(1000));
  node.pass(2100);
  REQUIRE(digests.size() == 2);
  CHECK(digests[1].index == node.keeper->log.back().index);
  CHECK(digests[1].checksum == expected(digests[1].index.value));
  node.pass(5000);
  CHECK(digests.size() == 2);
  // An entry a second, as a cluster with live idempotency keys writes it, leaves rest enough.
  for (std::size_t i = 1; i <= 3; ++i) {
    node.keeper->log.push_back({{node.keeper->log.size() + 1}, {1}, entry_kind::noop, 0, {}});
    node.release();
    node.pass(1000);
    CHECK(digests.size() == 2 + i);
  }
}
