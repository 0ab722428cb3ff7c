#include "actors/state_machine.hpp"

#include <doctest/doctest.h>

#include <random>
#include <stdexcept>

#include "tests/support/state_driver.hpp"

using namespace coordinator;
using namespace coordinator::testing;

namespace {

std::string pick(std::mt19937& random, const char* prefix, unsigned of) {
  return prefix + std::to_string(random() % of);
}

attempt_ref some_attempt(std::mt19937& random) {
  return {pick(random, "t", 40), static_cast<std::uint32_t>(1 + random() % 3)};
}

task_spec some_task(std::mt19937& random) {
  auto x = task(pick(random, "t", 40));
  x.priority = static_cast<std::int32_t>(random() % 3);
  x.run_id = pick(random, "run", 3);
  x.max_attempts = 1 + random() % 2;
  if (random() % 3 == 0)
    x.requirements["cuda"] = true;
  if (random() % 3 == 0)
    x.depends_on = {pick(random, "t", 40)};
  return x;
}

command_body some_body(std::mt19937& random) {
  switch (random() % 16) {
    case 0:
      return put_key{pick(random, "k", 5), pick(random, "v", 9), {}, random() % 3 == 0, false};
    case 1:
      return delete_key{pick(random, "k", 5), {}, false};
    case 2: {
      register_worker x;
      x.worker_id = pick(random, "w", 4);
      x.slots = 3;
      if (random() % 2 == 0)
        x.capabilities["cuda"] = true;
      return x;
    }
    case 3:
      return set_worker_status{pick(random, "w", 4), static_cast<worker_status>(random() % 4), "t1"};
    case 4:
      return random() % 3 == 0 ? command_body{remove_worker{pick(random, "w", 4)}}
                               : command_body{mark_offline{{pick(random, "w", 4)}}};
    case 5:
    case 6:
    case 7:
      return submit_tasks{{some_task(random)}};
    case 8:
    case 9:
    case 10:
      return claim_tasks{pick(random, "w", 4), static_cast<std::uint32_t>(1 + random() % 3)};
    case 11: {
      auto x = some_attempt(random);
      return complete_task{x.task_id, pick(random, "w", 4), x.attempt, "{\"exit_code\":0}"};
    }
    case 12: {
      auto x = some_attempt(random);
      return fail_task{x.task_id, pick(random, "w", 4), x.attempt, "broken", random() % 2 == 0, {}};
    }
    case 13:
      return random() % 4 == 0 ? command_body{cancel_task{pick(random, "t", 40)}}
                               : command_body{mark_running{{some_attempt(random), some_attempt(random)}}};
    case 14:
      return expire_attempts{{{some_attempt(random), static_cast<attempt_outcome>(4 + random() % 3)}}};
    default:
      return report_figures{{{pick(random, "w", 4), 5, 0.1 * static_cast<double>(random() % 100), 0.2, 0.3, "t2"}}};
  }
}

/// Applies a random life of commands, some of them twice and some under idempotency keys.
void live(state_driver& x, std::mt19937& random, int entries) {
  command last = x.make(tick{});
  for (int i = 0; i < entries; ++i) {
    x.now_ms += static_cast<std::int64_t>(random() % 60'000);
    if (random() % 8 == 0) {
      x.send(last);
      continue;
    }
    last = x.make(some_body(random));
    last.lowest_unanswered = last.sequence > 3 ? last.sequence - random() % 3 : 1;
    if (random() % 4 == 0)
      last.idempotency_key = pick(random, "key", 20);
    x.send(last);
  }
}

}  // namespace

TEST_CASE("state machine: entries apply one after the other, without a gap (Raft §5.3)") {
  state_driver x;
  log_entry gap;
  gap.index = x.machine().last_applied() + 2;
  CHECK_THROWS_AS(x.machine().apply(gap), std::logic_error);
  gap.index = x.machine().last_applied();
  CHECK_THROWS_AS(x.machine().apply(gap), std::logic_error);
  auto checksum = x.machine().checksum();
  CHECK(x.entry(entry_kind::noop, {}).session == 0);
  CHECK(x.machine().last_applied() == log_index{2});
  CHECK(x.machine().last_applied_term() == term_number{1});
  CHECK(x.machine().checksum() == checksum);
}

TEST_CASE("state machine: an entry that does not decode is refused and changes nothing") {
  state_driver x;
  auto checksum = x.machine().checksum();
  CHECK(x.entry(entry_kind::command, "garbage").result.code == result_code::unreadable);
  CHECK(x.entry(entry_kind::command, "").result.code == result_code::unreadable);
  CHECK(x.entry(entry_kind::membership, "garbage").events.closed_sessions.empty());
  CHECK(x.machine().checksum() == checksum);
  CHECK(x.machine().last_applied() == log_index{4});
}

TEST_CASE("state machine: applied time never goes back") {
  state_driver x;
  auto before = x.machine().applied_time_ms();
  x.now_ms -= 500;
  x.run(tick{});
  CHECK(x.machine().applied_time_ms() == before);
}

TEST_CASE("state machine: a command that is invalid is refused by applying too") {
  state_driver x;
  auto result = x.run(claim_tasks{"w", 0});
  CHECK(result.code == result_code::invalid);
  CHECK(result.field == "max_tasks");
}

TEST_CASE("state machine: equal logs give equal state (rule 9)") {
  auto replay = [](const std::vector<log_entry>& log, const defect_set& defects) {
    state_machine machine{defects};
    for (auto& entry : log)
      machine.apply(entry);
    return machine.checksum();
  };
  std::mt19937 random{1};
  state_driver x;
  live(x, random, 500);
  CHECK(replay(x.log, {}) == x.machine().checksum());
  // With a clock in it, the same log gives a state that no other node has.
  CHECK(replay(x.log, without(defect::apply_reads_clock)) != x.machine().checksum());
}

TEST_CASE("state machine: a node that restarts at any point goes on as one that never did (rule 9)") {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    std::mt19937 random{seed};
    state_driver steady;
    live(steady, random, 400);
    state_machine other;
    state_driver restarting;
    // The driver opened its own session with the same first entry.
    REQUIRE(restarting.log[0] == steady.log[0]);
    for (std::size_t i = 1; i < steady.log.size(); ++i) {
      if (random() % 20 == 0)
        restarting.restart();
      else if (random() % 10 == 0)
        restarting.flush();
      restarting.machine().apply(steady.log[i]);
    }
    CHECK(restarting.machine().checksum() == steady.machine().checksum());
    steady.flush();
    restarting.flush();
    CHECK(steady.rows == restarting.rows);
    CHECK(steady.get<counts_view>(get_counts{}).tasks_by_status ==
          restarting.get<counts_view>(get_counts{}).tasks_by_status);
    // Both continue alike, so nothing that decides was lost: the queue, dependents, claims.
    restarting.session = steady.session;
    for (int i = 0; i < 4; ++i) {
      restarting.sequence = steady.sequence;
      auto worker = "w" + std::to_string(i);
      steady.now_ms = restarting.now_ms = steady.machine().applied_time_ms();
      CHECK(steady.claim(worker, 3) == restarting.claim(worker, 3));
    }
    CHECK(restarting.machine().checksum() == steady.machine().checksum());
  }
}

TEST_CASE("state machine: the checksum is the sum over the rows, and damage to any row is seen (rule 9)") {
  std::mt19937 random{3};
  state_driver x;
  live(x, random, 300);
  x.flush();
  std::uint64_t sum = 0;
  for (auto& [place, body] : x.rows)
    sum += row_hash(place.first, place.second, body);
  CHECK(sum == x.machine().checksum());
  CHECK(sum == x.meta().checksum);
  for (auto victim = x.rows.begin(); victim != x.rows.end(); ++victim) {
    state_machine fresh;
    bool accepted = true;
    for (auto i = x.rows.begin(); i != x.rows.end(); ++i)
      if (i != victim)
        accepted = accepted && fresh.load_row(i->first.first, i->first.second, i->second);
    CHECK_FALSE((accepted && fresh.finish_loading(x.meta())));
  }
  state_machine fresh;
  CHECK_FALSE(fresh.load_row(99, "id", "body"));
}

TEST_CASE("state machine: writing behind gives each changed row once, and nothing twice") {
  state_driver x;
  x.flush();
  x.run(put_key{"k", "1", {}, false, false});
  x.run(put_key{"k", "2", {}, false, false});
  auto write = x.machine().take_dirty();
  CHECK(write.last_applied == x.machine().last_applied());
  CHECK(write.applied_time_ms == x.now_ms);
  std::size_t keys = 0;
  for (auto& row : write.rows)
    if (row.kind == static_cast<std::uint8_t>(row_kind::key)) {
      ++keys;
      CHECK(row.hash == row_hash(row.kind, row.id, *row.body));
    }
  CHECK(keys == 1);
  CHECK(x.machine().take_dirty().rows.empty());
  CHECK(x.machine().dirty_count() == 0);
}

TEST_CASE("state machine: checksums are kept for the last 10,000 entries") {
  state_driver x;
  x.run(put_key{"k", "1", {}, false, false});
  auto then = x.machine().last_applied().value;
  auto checksum = x.machine().checksum();
  x.run(put_key{"k", "2", {}, false, false});
  CHECK(x.get<checksum_view>(get_checksum{then}).checksum == checksum);
  CHECK(x.get<checksum_view>(get_checksum{0}).checksum == x.machine().checksum());
  CHECK(x.get<checksum_view>(get_checksum{0}).applied_index == x.machine().last_applied().value);
  CHECK(x.get<query_error>(get_checksum{then + 2}).code == query_error::kind::not_ready);
  while (x.machine().last_applied().value < then + state_machine::kept_checksums - 1)
    x.entry(entry_kind::noop, {});
  CHECK(x.get<checksum_view>(get_checksum{then}).checksum == checksum);
  x.entry(entry_kind::noop, {});
  CHECK(x.get<query_error>(get_checksum{then}).code == query_error::kind::gone);
  x.restart();
  auto last = x.machine().last_applied().value;
  CHECK(x.get<checksum_view>(get_checksum{last}).checksum == x.machine().checksum());
  CHECK(x.get<query_error>(get_checksum{last - 1}).code == query_error::kind::gone);
}

TEST_CASE("state machine: maintenance refuses new tasks and nothing else, also after a restart") {
  state_driver x;
  x.worker("w");
  x.submit(task("a"));
  CHECK(x.outcome(set_maintenance{true}).events.maintenance == true);
  CHECK_FALSE(x.outcome(set_maintenance{true}).events.maintenance);
  x.restart();
  CHECK(x.machine().maintenance());
  CHECK(x.code(submit_tasks{{task("b")}}) == result_code::maintenance);
  CHECK(x.claim("w") == std::vector<std::string>{"a"});
  CHECK(x.code(complete_task{"a", "w", 1, "{}"}) == result_code::ok);
  CHECK(x.code(put_key{"k", "v", {}, false, false}) == result_code::ok);
  CHECK(x.outcome(set_maintenance{false}).events.maintenance == false);
  CHECK(x.code(submit_tasks{{task("b")}}) == result_code::ok);
}
