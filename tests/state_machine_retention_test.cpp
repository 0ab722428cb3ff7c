#include <random>

#include "tests/support/state_driver.hpp"

using namespace coordinator;
using namespace coordinator::testing;

namespace {

using ids = std::vector<std::string>;

bool knows(state_driver& x, const std::string& id) {
  return std::holds_alternative<task_view>(x.machine().answer(get_task{id}));
}

ids listed(state_driver& x, list_tasks filter = {}) {
  ids result;
  do {
    auto page = x.get<task_page>(filter);
    for (auto& each : page.tasks)
      result.push_back(each.task_id);
    filter.cursor = page.next_cursor;
  } while (!filter.cursor.empty());
  return result;
}

/// Submits it and has it completed by the worker "w" now.
void complete(state_driver& x, task_spec spec) {
  auto id = spec.task_id;
  x.submit(std::move(spec));
  REQUIRE(x.claim("w") == ids{id});
  REQUIRE(x.code(complete_task{id, "w", 1, R"({"exit_code":0})"}) == result_code::ok);
}

/// How many left.
std::uint64_t retire(state_driver& x, std::int64_t before_ms, std::uint32_t limit = limits::retired_tasks) {
  auto result = x.run(retire_tasks{before_ms, limit});
  CHECK(result.ok());
  return result.version;
}

/// Everything that finished until now.
std::uint64_t retire_all(state_driver& x) {
  ++x.now_ms;
  return retire(x, x.now_ms);
}

}  // namespace

TEST_CASE("retention: what finished before a time leaves, and nothing else") {
  state_driver x;
  x.worker("w");
  complete(x, task("old"));
  x.now_ms += 1'000;
  auto then = x.now_ms;
  complete(x, task("young"));
  x.submit(task("pending"));
  x.now_ms += 1'000;
  CHECK(x.machine().conditions().oldest_finished_ms == then - 1'000);
  CHECK(retire(x, then - 1'000) == 0);
  CHECK(retire(x, then) == 1);
  CHECK_FALSE(knows(x, "old"));
  CHECK(knows(x, "young"));
  CHECK(x.machine().conditions().oldest_finished_ms == then);
  CHECK(retire(x, then + 1) == 1);
  CHECK(knows(x, "pending"));
  CHECK(x.machine().conditions().oldest_finished_ms == 0);
  CHECK(x.get<counts_view>(get_counts{}).tasks_by_status[0] == 1);
  CHECK(x.get<counts_view>(get_counts{}).tasks_by_status[4] == 0);
}

TEST_CASE("retention: nothing leaves that finished at the time of the entry, whatever the command says") {
  state_driver x;
  x.worker("w");
  complete(x, task("a"));
  CHECK(retire(x, x.now_ms + 1'000'000) == 0);
  ++x.now_ms;
  CHECK(retire(x, x.now_ms + 1'000'000) == 1);
}

TEST_CASE("retention: a step is bounded, and takes those that finished first, of equal ones the first submitted") {
  state_driver x;
  x.worker("w", 10);
  x.run(submit_tasks{{task("a"), task("b"), task("c"), task("d")}});
  REQUIRE(x.claim("w", 4).size() == 4);
  CHECK(x.code(complete_task{"d", "w", 1, "{}"}) == result_code::ok);
  x.now_ms += 10;
  // At one and the same time, against the order of submission.
  for (auto id : {"c", "b", "a"})
    CHECK(x.code(complete_task{id, "w", 1, "{}"}) == result_code::ok);
  SUBCASE("of a state that lived on") {}
  SUBCASE("of a state that was loaded") {
    x.restart();
  }
  ++x.now_ms;
  for (auto& left : {ids{"a", "b", "c"}, ids{"b", "c"}, ids{"c"}, ids{}}) {
    CHECK(retire(x, x.now_ms, 1) == 1);
    CHECK(listed(x) == left);
  }
  CHECK(retire(x, x.now_ms, 1) == 0);
  CHECK(x.run(retire_tasks{x.now_ms, 0}).code == result_code::invalid);
  CHECK(x.run(retire_tasks{x.now_ms, limits::retired_tasks + 1}).code == result_code::invalid);
}

TEST_CASE("retention: a late word about a task that left is one about an unknown task") {
  state_driver x;
  x.worker("w");
  complete(x, task("a"));
  retire_all(x);
  CHECK(x.code(complete_task{"a", "w", 1, "{}"}) == result_code::not_found);
  CHECK(x.code(fail_task{"a", "w", 1, "late", true, {}}) == result_code::not_found);
  CHECK(x.code(cancel_task{"a"}) == result_code::not_found);
  CHECK(x.code(mark_running{{{"a", 1}}}) == result_code::ok);
  CHECK(x.code(expire_attempts{{{{"a", 1}, attempt_outcome::worker_offline}}}) == result_code::ok);
  CHECK(x.claim("w").empty());
  CHECK(x.code(remove_worker{"w"}) == result_code::ok);
  CHECK(x.code(submit_tasks{{task("b", {"a"})}}) == result_code::dependency_missing);
  // Its id is free again, and its first attempt is the first.
  x.worker("w");
  complete(x, task("a"));
  CHECK(x.status("a") == task_status::completed);
}

TEST_CASE("retention: the answer to a claim, asked for again, leaves out a task that left") {
  state_driver x;
  x.worker("w", 2);
  x.run(submit_tasks{{task("a"), task("b")}});
  auto claim = x.make(claim_tasks{"w", 2});
  claim.idempotency_key = "once";
  CHECK(x.send(claim).result.assignments.size() == 2);
  CHECK(x.code(complete_task{"a", "w", 1, "{}"}) == result_code::ok);
  retire_all(x);
  auto again = x.make(claim_tasks{"w", 2});
  again.idempotency_key = "once";
  auto assignments = x.send(again).result.assignments;
  REQUIRE(assignments.size() == 1);
  CHECK(assignments[0].task_id == "b");
  CHECK_FALSE(assignments[0].spec_json.empty());
}

TEST_CASE("retention: tasks outlive those that they depended on, and those that depended on them") {
  state_driver x;
  x.worker("w");
  complete(x, task("base"));
  x.submit(task("other"));
  x.submit(task("both", {"base", "other"}));
  x.submit(task("dropped", {"other"}));
  CHECK(x.code(cancel_task{"dropped"}) == result_code::ok);
  CHECK(retire_all(x) == 2);
  CHECK_FALSE(knows(x, "base"));
  CHECK_FALSE(knows(x, "dropped"));
  SUBCASE("in a state that lived on") {}
  SUBCASE("in a state that was loaded") {
    x.restart();
  }
  CHECK(x.status("both") == task_status::blocked);
  CHECK(x.task("both").waiting_for == 1);
  CHECK(x.claim("w") == ids{"other"});
  SUBCASE("and become pending") {
    CHECK(x.code(complete_task{"other", "w", 1, "{}"}) == result_code::ok);
    CHECK(x.status("both") == task_status::pending);
  }
  SUBCASE("or are cancelled") {
    CHECK(x.code(fail_task{"other", "w", 1, "broken", false, {}}) == result_code::ok);
    CHECK(x.status("both") == task_status::cancelled);
  }
}

TEST_CASE("retention: lists, runs and workers forget a task that left, and are forgotten with their last one") {
  state_driver x;
  x.worker("w");
  auto in_run = [](std::string id, std::string type) {
    auto spec = task(std::move(id));
    spec.run_id = "run";
    spec.type = std::move(type);
    return spec;
  };
  complete(x, in_run("a", "unit"));
  x.now_ms += 1'000;
  auto second = x.now_ms;
  complete(x, in_run("b", "unit"));
  complete(x, in_run("c", "slow"));
  CHECK(x.get<run_view>(get_run{"run"}).tasks == 3);
  CHECK(retire(x, second) == 1);
  auto run = x.get<run_view>(get_run{"run"});
  CHECK(run.tasks == 2);
  CHECK(run.by_status[4] == 2);
  CHECK(run.submitted_ms == second);
  CHECK(run.finished_ms == second);
  CHECK(listed(x) == ids{"b", "c"});
  CHECK(listed(x, {{}, {}, "run", {}, {}, 1}) == ids{"b", "c"});
  CHECK(listed(x, {{}, {}, {}, "unit", {}, 1}) == ids{"b"});
  CHECK(listed(x, {{}, "w", {}, {}, {}, 1}) == ids{"b", "c"});
  CHECK(listed(x, {task_status::completed, {}, {}, {}, {}, 1}) == ids{"b", "c"});
  CHECK(x.get<state_view>(get_state{}).tasks.size() == 2);
  retire_all(x);
  CHECK(x.get<query_error>(get_run{"run"}).code == query_error::kind::not_found);
  CHECK(listed(x, {{}, {}, "run", {}, {}, 1}).empty());
  CHECK(listed(x, {{}, {}, {}, "unit", {}, 1}).empty());
  CHECK(listed(x, {{}, "w", {}, {}, {}, 1}).empty());
  // The places of what was forgotten are used again.
  complete(x, in_run("d", "new"));
  CHECK(listed(x, {{}, {}, {}, "new", {}, 1}) == ids{"d"});
  CHECK(x.get<run_view>(get_run{"run"}).tasks == 1);
}

TEST_CASE("retention: a worker is known by its tasks as long as one names it, however many attempts are forgotten") {
  state_driver x;
  x.worker("v");
  x.worker("w");
  x.submit(task("a"));
  for (std::uint32_t number = 1; number <= 150; ++number) {
    REQUIRE(x.claim("v") == ids{"a"});
    x.run(expire_attempts{{{{"a", number}, attempt_outcome::lease_lost}}});
  }
  REQUIRE(x.claim("w") == ids{"a"});
  CHECK(x.task("a").attempts.front().worker_id == "v");
  CHECK(x.code(complete_task{"a", "w", 151, "{}"}) == result_code::ok);
  complete(x, task("b"));
  CHECK(x.run(retire_tasks{++x.now_ms, 1}).version == 1);
  CHECK(listed(x, {{}, "w", {}, {}, {}, 1}) == ids{"b"});
  x.submit(task("c"));
  REQUIRE(x.claim("v") == ids{"c"});
  CHECK(listed(x, {{}, "v", {}, {}, {}, 1}) == ids{"c"});
  CHECK(listed(x, {{}, "w", {}, {}, {}, 1}) == ids{"b"});
}

TEST_CASE("retention: a cursor of a list goes on behind tasks that left") {
  state_driver x;
  x.worker("w");
  for (auto id : {"a", "b", "c", "d"})
    complete(x, task(id));
  auto page = x.get<task_page>(list_tasks{{}, {}, {}, {}, {}, 2});
  REQUIRE(page.tasks.size() == 2);
  CHECK(x.run(retire_tasks{++x.now_ms, 3}).version == 3);
  auto rest = x.get<task_page>(list_tasks{{}, {}, {}, {}, page.next_cursor, 2});
  REQUIRE(rest.tasks.size() == 1);
  CHECK(rest.tasks[0].task_id == "d");
}

TEST_CASE("retention: a new task takes the same place whether or not the state was loaded since the last ones left") {
  state_driver lived;
  state_driver loaded;
  for (auto x : {&lived, &loaded}) {
    x->worker("w");
    complete(*x, task("a"));
    complete(*x, task("b"));
    retire_all(*x);
  }
  loaded.restart();
  for (auto x : {&lived, &loaded})
    x->submit(task("c"));
  CHECK(lived.machine().checksum() == loaded.machine().checksum());
  loaded.restart();
  for (auto x : {&lived, &loaded})
    x->submit(task("d"));
  CHECK(lived.machine().checksum() == loaded.machine().checksum());
  CHECK(listed(loaded) == ids{"c", "d"});
}

TEST_CASE("retention: a task's row that is missing is found, although tasks may leave") {
  state_driver x;
  x.worker("w");
  complete(x, task("a"));
  x.submit(task("b"));
  retire_all(x);
  x.submit(task("c"));
  x.submit(task("d"));
  x.flush();
  for (auto i = x.rows.begin(); i != x.rows.end(); ++i) {
    if (i->first.first != static_cast<std::uint8_t>(row_kind::task))
      continue;
    CAPTURE(i->first.second);
    auto rows = x.rows;
    rows.erase(i->first);
    state_machine fresh;
    bool good = true;
    for (auto& [place, body] : rows)
      good = good && fresh.load_row(place.first, place.second, body);
    CHECK_FALSE((good && fresh.finish_loading(x.meta())));
  }
}

TEST_CASE("retention: a life in which tasks come and go is the same on a node that restarts all the time") {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    state_driver lived;
    state_driver loaded;
    for (auto x : {&lived, &loaded}) {
      std::mt19937 random{seed};
      x->worker("w0", 20);
      x->worker("w1", 20);
      for (int i = 0; i < 1'500; ++i) {
        x->now_ms += static_cast<std::int64_t>(random() % 3);
        auto worker = "w" + std::to_string(random() % 2);
        auto some = "t" + std::to_string(random() % 60);
        auto kind = random() % 10;
        if (kind < 3) {
          auto spec = task(some);
          spec.run_id = "run" + std::to_string(random() % 3);
          spec.type = "type" + std::to_string(random() % 3);
          spec.max_attempts = 2;
          if (random() % 3 == 0)
            spec.depends_on = {"t" + std::to_string(random() % 60)};
          x->run(submit_tasks{{spec}});
        } else if (kind < 5) {
          x->claim(worker, 3);
        } else if (kind < 7) {
          x->run(complete_task{some, worker, static_cast<std::uint32_t>(1 + random() % 2), "{}"});
        } else if (kind == 7) {
          x->run(fail_task{some, worker, 1, "broken", true, {}});
        } else if (kind == 8) {
          x->run(cancel_task{some});
        } else {
          x->run(retire_tasks{x->now_ms - 100, static_cast<std::uint32_t>(1 + random() % 5)});
        }
        if (x == &loaded && i % 50 == 0)
          x->restart();
      }
    }
    CHECK(lived.machine().conditions().retire_steps > 0);
    CHECK(lived.machine().checksum() == loaded.machine().checksum());
    CHECK(listed(lived) == listed(loaded));
    for (auto run : {"run0", "run1", "run2"})
      CHECK(listed(lived, {{}, {}, run, {}, {}, 7}) == listed(loaded, {{}, {}, run, {}, {}, 7}));
    for (auto worker : {"w0", "w1"})
      CHECK(listed(lived, {{}, worker, {}, {}, {}, 7}) == listed(loaded, {{}, worker, {}, {}, {}, 7}));
  }
}

TEST_CASE("retention: the state does not grow with the tasks that came and went") {
  state_driver x;
  x.worker("w", 100);
  for (int i = 0; i < 3'000; ++i) {
    auto spec = task("t" + std::to_string(i));
    spec.run_id = "run" + std::to_string(i);
    complete(x, spec);
    if (i % 100 == 99)
      retire_all(x);
  }
  x.flush();
  CHECK(x.rows.size() < 20);
  CHECK(listed(x).empty());
}

TEST_CASE("quota: a full disk refuses new tasks and nothing else, also after a restart") {
  state_driver x;
  x.worker("w", 2);
  x.run(submit_tasks{{task("a"), task("b")}});
  CHECK(x.outcome(set_storage_alarm{true}).events.storage_full == true);
  CHECK_FALSE(x.outcome(set_storage_alarm{true}).events.storage_full);
  x.restart();
  CHECK(x.machine().storage_full());
  CHECK(x.machine().conditions().storage_full);
  CHECK(x.get<counts_view>(get_counts{}).storage_full);
  CHECK(x.code(submit_tasks{{task("c")}}) == result_code::storage_full);
  CHECK(x.claim("w", 2) == ids{"a", "b"});
  CHECK(x.code(complete_task{"a", "w", 1, "{}"}) == result_code::ok);
  CHECK(x.code(cancel_task{"b"}) == result_code::ok);
  CHECK(x.code(put_key{"k", "v", {}, false, false}) == result_code::ok);
  CHECK(x.outcome(set_storage_alarm{false}).events.storage_full == false);
  CHECK(x.code(submit_tasks{{task("c")}}) == result_code::ok);
}

TEST_CASE("quota: a refusal for want of room is not kept under its idempotency key") {
  state_driver x;
  x.run(set_storage_alarm{true});
  auto submit = [&] {
    auto next = x.make(submit_tasks{{task("a")}});
    next.idempotency_key = "once";
    return x.send(next).result.code;
  };
  CHECK(submit() == result_code::storage_full);
  CHECK(x.get<counts_view>(get_counts{}).idempotency_keys == 0);
  x.run(set_storage_alarm{false});
  CHECK(submit() == result_code::ok);
}
