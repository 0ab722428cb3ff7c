#include "tests/support/state_driver.hpp"

using namespace coordinator;
using namespace coordinator::testing;

namespace {

command_body put(std::string value) {
  return put_key{"k", std::move(value), {}, false, false};
}

std::string value_of(state_driver& x) {
  return x.get<key_view>(get_key{"k"}).value;
}

/// A command under a client's idempotency key.
command keyed(state_driver& x, std::string key, std::uint64_t request_hash, command_body body) {
  auto made = x.make(std::move(body));
  made.idempotency_key = std::move(key);
  made.request_hash = request_hash;
  return made;
}

membership members_of(std::vector<std::pair<std::string, std::uint64_t>> nodes) {
  membership x;
  for (auto& [id, incarnation] : nodes)
    x.members.push_back({node_id{id}, incarnation_id{incarnation}, {}, {}, true});
  return x;
}

}  // namespace

TEST_CASE("sessions: a session is numbered by the entry that opened it (rule 10)") {
  state_driver x;
  CHECK(x.session == 1);
  auto other = x.open("n2", 7, 1);
  CHECK(other.result.version == 2);
  CHECK(other.opened->node.value == "n2");
  CHECK(other.session == 0);
  CHECK(x.get<counts_view>(get_counts{}).sessions == 2);
}

TEST_CASE("sessions: a copy of a command answers what the first one was answered, and applies nothing (rule 10)") {
  state_driver x;
  auto first = x.make(put("1"));
  auto second = x.make(put("2"));
  second.lowest_unanswered = first.sequence;
  auto answer = x.send(first);
  CHECK(answer.applied);
  CHECK(x.send(second).applied);
  auto copy = x.send(first);
  CHECK_FALSE(copy.applied);
  CHECK(copy.session == first.session);
  CHECK(copy.sequence == first.sequence);
  CHECK(copy.result.version == answer.result.version);
  CHECK(value_of(x) == "2");
  x.restart();
  CHECK(x.send(first).result.version == answer.result.version);
  CHECK(value_of(x) == "2");
}

TEST_CASE("sessions: a copied claim is answered with the same tasks and their texts (rule 10)") {
  state_driver x;
  x.worker("w", 2);
  x.submit(task("a"));
  x.submit(task("b"));
  auto claim = x.make(claim_tasks{"w", 1});
  auto first = x.send(claim).result;
  REQUIRE(first.assignments.size() == 1);
  x.restart();
  auto again = x.send(claim).result;
  REQUIRE(again.assignments.size() == 1);
  CHECK(again.assignments[0].task_id == first.assignments[0].task_id);
  CHECK(again.assignments[0].spec_json == task("a").spec_json);
  CHECK(x.status("b") == task_status::pending);
}

TEST_CASE("sessions: an old copy below the lowest unanswered sequence never applies (rule 10)") {
  auto replay = [](defect_set defects) {
    state_driver x{defects};
    auto old = x.make(put("old"));
    x.send(old);
    x.run(put("new"));
    auto late = x.send(old);
    CHECK((late.result.code == result_code::stale_sequence) == !late.applied);
    return value_of(x);
  };
  CHECK(replay({}) == "new");
  CHECK(replay(without(defect::apply_below_lowest_unanswered)) == "old");
}

TEST_CASE("sessions: results go as the lowest unanswered sequence passes them, and never reach the file (rule 10)") {
  state_driver x;
  x.flush();
  for (int i = 0; i < 50; ++i)
    x.run(put(std::to_string(i)));
  auto write = x.machine().take_dirty();
  std::size_t results = 0;
  for (auto& row : write.rows)
    results += row.kind == static_cast<std::uint8_t>(row_kind::session_result) ? 1 : 0;
  CHECK(results == 1);
}

TEST_CASE("sessions: a command of an unknown or closed session is refused (rule 10)") {
  auto replay = [](defect_set defects) {
    state_driver x{defects};
    x.run(put("before"));
    auto late = x.make(put("late"));
    auto opened = x.open("n1", 7, 2);
    CHECK(opened.result.version != x.session);
    CHECK(opened.events.closed_sessions == std::vector<std::uint64_t>{x.session});
    auto outcome = x.send(late);
    CHECK((outcome.result.code == result_code::closed_session) == !outcome.applied);
    return value_of(x);
  };
  CHECK(replay({}) == "before");
  CHECK(replay(without(defect::forget_sessions)) == "late");

  state_driver x;
  command unknown = x.make(put("x"));
  unknown.session = 99;
  CHECK(x.send(unknown).result.code == result_code::closed_session);
  unknown.session = 0;
  CHECK(x.send(unknown).result.code == result_code::closed_session);
}

TEST_CASE("sessions: opening the same session again answers the live one and closes nothing (rule 10)") {
  state_driver x;
  auto again = x.open("n1", 7, 1);
  CHECK(again.result.version == x.session);
  CHECK(again.events.closed_sessions.empty());
  CHECK(x.code(put("fine")) == result_code::ok);
}

TEST_CASE("sessions: time alone never closes one (rule 10)") {
  state_driver x;
  x.now_ms += 1000LL * 24 * 3600 * 1000;
  x.entry(entry_kind::noop, {});
  CHECK(x.code(put("still here")) == result_code::ok);
}

TEST_CASE("sessions: a membership closes those of nodes, and of incarnations, that it does not list (rules 10, 11)") {
  state_driver x;
  auto second = x.open("n2", 8, 1).result.version;
  auto third = x.open("n3", 9, 1).result.version;
  auto outcome = x.entry(entry_kind::membership, to_bytes(members_of({{"n1", 7}, {"n2", 80}})));
  CHECK(outcome.events.closed_sessions == std::vector<std::uint64_t>{second, third});
  CHECK(x.code(put("member")) == result_code::ok);
  genesis founding;
  founding.founders = members_of({{"n2", 80}});
  CHECK(x.entry(entry_kind::genesis, to_bytes(founding)).events.closed_sessions.size() == 1);
  CHECK(x.code(put("gone")) == result_code::closed_session);
}

TEST_CASE("idempotency: a retry under the same key answers what the first try answered") {
  state_driver x;
  auto first = x.send(keyed(x, "key", 5, put("1"))).result;
  x.run(put("2"));
  auto again = x.send(keyed(x, "key", 5, put("1")));
  CHECK_FALSE(again.applied);
  CHECK(again.result.version == first.version);
  CHECK(value_of(x) == "2");
  x.restart();
  CHECK(x.send(keyed(x, "key", 5, put("1"))).result.version == first.version);
  CHECK(x.send(keyed(x, "key", 6, put("1"))).result.code == result_code::idempotency_key_reused);
  CHECK(x.send(keyed(x, std::string(129, 'k'), 6, put("1"))).result.code == result_code::invalid);
}

TEST_CASE("idempotency: ids that were made for the first try come back for the second") {
  state_driver x;
  auto first = x.send(keyed(x, "key", 5, submit_tasks{{task("made-1"), task("made-2")}})).result;
  auto second = x.send(keyed(x, "key", 5, submit_tasks{{task("made-3"), task("made-4")}})).result;
  CHECK(first.ids == std::vector<std::string>{"made-1", "made-2"});
  CHECK(second.ids == first.ids);
  CHECK(x.get<query_error>(get_task{"made-3"}).code == query_error::kind::not_found);
}

TEST_CASE("idempotency: a refusal that passes with time, and a claim that found nothing, are not kept") {
  state_driver x;
  x.worker("w");
  CHECK(x.send(keyed(x, "claim", 1, claim_tasks{"w", 1})).result.assignments.empty());
  x.run(set_maintenance{true});
  CHECK(x.send(keyed(x, "submit", 1, submit_tasks{{task("a")}})).result.code == result_code::maintenance);
  x.run(set_maintenance{false});
  CHECK(x.send(keyed(x, "submit", 1, submit_tasks{{task("a")}})).result.ok());
  CHECK(x.send(keyed(x, "claim", 1, claim_tasks{"w", 1})).result.assignments.size() == 1);
  CHECK(x.send(keyed(x, "claim", 1, claim_tasks{"w", 1})).result.assignments.size() == 1);
}

TEST_CASE("idempotency: a key lasts an hour of applied time, and not a millisecond of a clock's") {
  state_driver x;
  x.send(keyed(x, "key", 5, put("1")));
  CHECK(x.machine().has_timed_rows());
  x.now_ms += limits::idempotency_ms - 1;
  CHECK_FALSE(x.send(keyed(x, "key", 5, put("2"))).applied);
  x.now_ms += 1;
  x.entry(entry_kind::noop, {});
  CHECK_FALSE(x.machine().has_timed_rows());
  CHECK(x.send(keyed(x, "key", 6, put("3"))).applied);
  CHECK(value_of(x) == "3");
}

TEST_CASE("idempotency: past the most keys new ones are refused and none is dropped early") {
  state_driver x{{}, 3};
  for (auto key : {"a", "b", "c"})
    CHECK(x.send(keyed(x, key, 1, put(key))).applied);
  auto refused = x.send(keyed(x, "d", 1, put("d")));
  CHECK(refused.result.code == result_code::too_many_idempotency_keys);
  CHECK_FALSE(refused.applied);
  CHECK(value_of(x) == "c");
  CHECK_FALSE(x.send(keyed(x, "a", 1, put("again"))).applied);
  x.now_ms += limits::idempotency_ms;
  CHECK(x.send(keyed(x, "d", 1, put("d"))).applied);
}

TEST_CASE("idempotency: keys end in the order of their age, some an entry, also after a restart") {
  state_driver x;
  for (int i = 0; i < 2'500; ++i) {
    x.now_ms += 1;
    x.send(keyed(x, "key" + std::to_string(7919 * i % 2'500), 1, tick{}));
  }
  x.restart();
  x.now_ms += limits::idempotency_ms;
  std::vector<std::uint64_t> left;
  for (int i = 0; i < 3; ++i) {
    x.run(tick{});
    left.push_back(x.get<counts_view>(get_counts{}).idempotency_keys);
  }
  CHECK(left == std::vector<std::uint64_t>{1'500, 500, 0});
}

TEST_CASE("idempotency: a key whose hour is over is free although its turn to be dropped has not come") {
  state_driver x;
  for (int i = 0; i < 1'500; ++i)
    x.send(keyed(x, "key" + std::to_string(i), 1, tick{}));
  x.now_ms += limits::idempotency_ms;
  CHECK(x.send(keyed(x, "key1400", 2, put("anew"))).applied);
  CHECK_FALSE(x.send(keyed(x, "key1400", 2, put("again"))).applied);
  CHECK(x.get<counts_view>(get_counts{}).idempotency_keys == 1);
  x.restart();
  x.now_ms += limits::idempotency_ms;
  x.run(tick{});
  CHECK_FALSE(x.machine().has_timed_rows());
}
