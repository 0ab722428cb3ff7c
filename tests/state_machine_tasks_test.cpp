#include "tests/support/state_driver.hpp"

using namespace coordinator;
using namespace coordinator::testing;

namespace {

using ids = std::vector<std::string>;

complete_task complete(std::string id, std::string worker, std::uint32_t attempt) {
  return {std::move(id), std::move(worker), attempt, R"({"exit_code":0})"};
}

fail_task fail(std::string id, std::string worker, std::uint32_t attempt, bool retryable = true) {
  return {std::move(id), std::move(worker), attempt, "it broke", retryable, {}};
}

expire_attempts expire(std::string id, std::uint32_t attempt, attempt_outcome reason) {
  return {{{{std::move(id), attempt}, reason}}};
}

command_result refusal(state_driver& x, std::vector<task_spec> batch) {
  auto tasks_before = x.get<task_page>(list_tasks{{}, {}, {}, {}, {}, 1000}).tasks.size();
  auto result = x.run(submit_tasks{std::move(batch)});
  CHECK_FALSE(result.ok());
  CHECK(x.get<task_page>(list_tasks{{}, {}, {}, {}, {}, 1000}).tasks.size() == tasks_before);
  return result;
}

}  // namespace

TEST_CASE("tasks: a task goes from pending over assigned and running to completed, with its times") {
  state_driver x;
  x.worker("w");
  auto spec = task("a");
  spec.run_id = "run";
  spec.type = "unit";
  spec.priority = 4;
  spec.timeout_ms = 9'000;
  auto submitted = x.outcome(submit_tasks{{spec}});
  CHECK(submitted.result.ids == ids{"a"});
  CHECK(submitted.events.work_available);
  CHECK(x.status("a") == task_status::pending);
  auto submitted_ms = x.now_ms;
  x.now_ms += 10;
  auto claimed = x.outcome(claim_tasks{"w", 1});
  REQUIRE(claimed.result.assignments.size() == 1);
  CHECK(claimed.result.assignments[0].attempt == 1);
  CHECK(claimed.result.assignments[0].spec_json == spec.spec_json);
  CHECK(std::get<attempt_event>(claimed.events.fleet.at(0)).timeout_ms == 9'000);
  CHECK(x.status("a") == task_status::assigned);
  x.now_ms += 10;
  x.run(mark_running{{{"a", 1}}});
  CHECK(x.status("a") == task_status::running);
  x.now_ms += 10;
  CHECK(x.code(complete("a", "w", 1)) == result_code::ok);
  auto view = x.task("a");
  CHECK(view.status == task_status::completed);
  CHECK(view.spec_json == spec.spec_json);
  CHECK(view.result_json == R"({"exit_code":0})");
  CHECK(view.run_id == "run");
  CHECK(view.type == "unit");
  CHECK(view.priority == 4);
  CHECK(view.submitted_ms == submitted_ms);
  CHECK(view.started_ms == submitted_ms + 20);
  CHECK(view.finished_ms == submitted_ms + 30);
  REQUIRE(view.attempts.size() == 1);
  CHECK(view.attempts[0].worker_id == "w");
  CHECK(view.attempts[0].assigned_ms == submitted_ms + 10);
  CHECK(view.attempts[0].ended_ms == submitted_ms + 30);
  CHECK(view.attempts[0].outcome == attempt_outcome::completed);
}

TEST_CASE("tasks: the same id with the same body is a success, with another body a conflict") {
  state_driver x;
  x.submit(task("a"));
  CHECK(x.run(submit_tasks{{task("a")}}).ids == ids{"a"});
  auto other = task("a");
  other.spec_json = "{}";
  auto refused = refusal(x, {task("b"), other});
  CHECK(refused.code == result_code::conflict);
  CHECK(refused.field == "tasks[1].task_id");
  x.worker("w");
  CHECK(x.claim("w", 5) == ids{"a"});
}

TEST_CASE("tasks: a batch with one bad task leaves nothing behind") {
  state_driver x;
  std::vector<task_spec> batch;
  for (int i = 0; i < 10'000; ++i)
    batch.push_back(task("t" + std::to_string(i)));
  auto bad = batch;
  bad[7'777].depends_on = {"t1", "nobody"};
  auto refused = refusal(x, bad);
  CHECK(refused.code == result_code::dependency_missing);
  CHECK(refused.field == "tasks[7777].depends_on[1]");
  bad = batch;
  bad[9'999].timeout_ms = -1;
  CHECK(refusal(x, bad).field == "tasks[9999].timeout_ms");
  CHECK(x.code(submit_tasks{batch}) == result_code::ok);
}

TEST_CASE("tasks: a task waits for those it depends on, also for later ones of its batch") {
  state_driver x;
  x.worker("w", 9);
  x.submit(task("first"));
  CHECK(x.code(submit_tasks{{task("c", {"b", "first", "b"}), task("b", {"first"})}}) == result_code::ok);
  CHECK(x.status("c") == task_status::blocked);
  CHECK(x.task("c").waiting_for == 2);
  CHECK(x.claim("w", 9) == ids{"first"});
  CHECK(x.outcome(complete("first", "w", 1)).events.work_available);
  CHECK(x.status("b") == task_status::pending);
  CHECK(x.task("c").waiting_for == 1);
  x.restart();
  CHECK(x.claim("w", 9) == ids{"b"});
  x.run(complete("b", "w", 1));
  CHECK(x.claim("w", 9) == ids{"c"});
  x.submit(task("d", {"first"}));
  CHECK(x.status("d") == task_status::pending);
}

TEST_CASE("tasks: cycles and dependencies that do not exist are refused by field") {
  state_driver x;
  auto refused = refusal(x, {task("a", {"a"})});
  CHECK(refused.code == result_code::dependency_cycle);
  CHECK(refused.field == "tasks[0].depends_on");
  refused = refusal(x, {task("z"), task("a", {"c"}), task("b", {"a"}), task("c", {"b"})});
  CHECK(refused.code == result_code::dependency_cycle);
  CHECK(refused.field == "tasks[1].depends_on");
  refused = refusal(x, {task("a", {"nobody"})});
  CHECK(refused.code == result_code::dependency_missing);
  CHECK(refused.field == "tasks[0].depends_on[0]");
}

TEST_CASE("tasks: what depends on a failed or cancelled task is cancelled with a reason, all the way down") {
  state_driver x;
  x.worker("w", 9);
  x.run(submit_tasks{{task("a"), task("b", {"a"}), task("c", {"b"}), task("other")}});
  CHECK(x.claim("w", 1) == ids{"a"});
  x.run(fail("a", "w", 1, false));
  CHECK(x.status("a") == task_status::failed);
  CHECK(x.status("b") == task_status::cancelled);
  CHECK(x.task("b").error == "the task a, on which it depends, failed");
  CHECK(x.task("c").error == "the task b, on which it depends, was cancelled");
  CHECK(x.task("c").finished_ms == x.now_ms);
  CHECK(x.status("other") == task_status::pending);
  x.submit(task("late", {"c", "other"}));
  CHECK(x.status("late") == task_status::cancelled);
  CHECK(x.code(cancel_task{"other"}) == result_code::ok);
  CHECK(x.claim("w", 9).empty());
}

TEST_CASE("tasks: claims take the highest priority, then the order of submission, within the worker's slots") {
  state_driver x;
  x.worker("w", 3);
  for (auto id : {"a", "b", "c", "d"}) {
    auto spec = task(id);
    spec.priority = id[0] == 'c' ? 1 : 0;
    x.submit(spec);
  }
  CHECK(x.claim("w", 1) == ids{"c"});
  CHECK(x.claim("w", 9) == ids{"a", "b"});
  CHECK(x.claim("w", 9).empty());
  CHECK(x.outcome(complete("a", "w", 1)).events.work_available);
  CHECK(x.claim("w", 9) == ids{"d"});
}

TEST_CASE("tasks: a worker gets only tasks whose requirements it meets") {
  state_driver x;
  x.worker("plain", 5);
  x.worker("gpu", 5, {{"cuda", true}, {"memory_gb", 32}});
  auto gpu = task("gpu");
  gpu.requirements = {{"cuda", true}};
  auto big = task("big");
  big.requirements = {{"memory_gb", 64}};
  x.run(submit_tasks{{gpu, big, task("any")}});
  x.restart();
  CHECK(x.claim("plain", 5) == ids{"any"});
  CHECK(x.claim("gpu", 5) == ids{"gpu"});
  x.worker("gpu", 5, {{"memory_gb", 64.5}});
  CHECK(x.claim("gpu", 5) == ids{"big"});
}

TEST_CASE("tasks: a retryable failure goes back to the queue until its attempts are used up") {
  state_driver x;
  x.worker("w");
  auto spec = task("a");
  spec.max_attempts = 2;
  x.submit(spec);
  x.claim("w");
  CHECK(x.code(fail("a", "w", 1)) == result_code::ok);
  CHECK(x.status("a") == task_status::pending);
  CHECK(x.code(fail("a", "w", 1)) == result_code::ok);
  CHECK(x.task("a").attempts.size() == 1);
  x.claim("w");
  CHECK(x.code(fail("a", "w", 1)) == result_code::ok);
  CHECK(x.status("a") == task_status::assigned);
  CHECK(x.code(fail("a", "w", 2)) == result_code::ok);
  CHECK(x.status("a") == task_status::failed);
  CHECK(x.task("a").error == "it broke");
  CHECK(x.task("a").attempts[0].error == "it broke");
  x.submit(task("b"));
  x.claim("w");
  x.run(fail("b", "w", 1, false));
  CHECK(x.status("b") == task_status::failed);
}

TEST_CASE("tasks: a result of an attempt that was given to another does not count (rule 10)") {
  auto result_after = [](defect_set defects) {
    state_driver x{defects};
    x.worker("slow");
    x.worker("quick");
    x.submit(task("a"));
    x.claim("slow");
    x.run(expire("a", 1, attempt_outcome::worker_offline));
    x.claim("quick");
    complete_task stale{"a", "slow", 1, "stale"};
    auto code = x.code(stale);
    x.run(complete_task{"a", "quick", 2, "good"});
    // The task counts as run by two workers once the rule is out.
    return std::pair{code, x.task("a").result_json};
  };
  CHECK(result_after({}) == std::pair{result_code::stale_attempt, std::string{"good"}});
  CHECK(result_after(without(defect::stale_attempt_accepted)).first == result_code::ok);
}

TEST_CASE("tasks: only the worker and the attempt that hold a task may end it, and may say so twice") {
  state_driver x;
  x.worker("w");
  x.worker("v");
  x.submit(task("a"));
  CHECK(x.code(complete("a", "w", 1)) == result_code::stale_attempt);
  CHECK(x.code(complete("nobody", "w", 1)) == result_code::not_found);
  x.claim("w");
  CHECK(x.code(complete("a", "v", 1)) == result_code::stale_attempt);
  CHECK(x.code(complete("a", "w", 2)) == result_code::stale_attempt);
  CHECK(x.code(complete("a", "w", 0)) == result_code::stale_attempt);
  CHECK(x.code(complete("a", "w", 1)) == result_code::ok);
  CHECK(x.code(complete_task{"a", "w", 1, "other"}) == result_code::ok);
  CHECK(x.task("a").result_json == R"({"exit_code":0})");
  CHECK(x.code(complete("a", "v", 1)) == result_code::stale_attempt);
  CHECK(x.code(fail("a", "w", 1)) == result_code::stale_attempt);
  CHECK(x.status("a") == task_status::completed);
}

TEST_CASE("tasks: an expired attempt counts towards max_attempts, but not one that its worker never listed") {
  state_driver x;
  x.worker("w");
  auto spec = task("a");
  spec.max_attempts = 1;
  x.submit(spec);
  for (std::uint32_t attempt = 1; attempt <= 150; ++attempt) {
    REQUIRE(x.claim("w") == ids{"a"});
    x.run(expire("a", attempt, attempt_outcome::lease_lost));
  }
  CHECK(x.status("a") == task_status::pending);
  CHECK(x.task("a").attempts.size() == 100);
  x.claim("w");
  x.run(expire("a", 150, attempt_outcome::worker_offline));
  CHECK(x.status("a") == task_status::assigned);
  x.run(expire("a", 151, attempt_outcome::timeout));
  CHECK(x.status("a") == task_status::failed);
  CHECK(x.task("a").attempts.back().outcome == attempt_outcome::timeout);
  CHECK(x.code(complete("a", "w", 151)) == result_code::stale_attempt);
}

TEST_CASE("tasks: cancelling ends a task at once, and its worker's result is stale") {
  state_driver x;
  x.worker("w");
  x.submit(task("a"));
  x.submit(task("b"));
  x.claim("w");
  x.run(mark_running{{{"a", 1}}});
  auto outcome = x.outcome(cancel_task{"a"});
  CHECK(outcome.result.ok());
  auto ended = std::get<attempt_event>(outcome.events.fleet.at(0));
  CHECK(ended.change == attempt_change::ended);
  CHECK(ended.outcome == attempt_outcome::cancelled);
  CHECK(ended.worker_id == "w");
  CHECK(x.status("a") == task_status::cancelled);
  CHECK(x.code(complete("a", "w", 1)) == result_code::stale_attempt);
  CHECK(x.code(cancel_task{"a"}) == result_code::ok);
  CHECK(x.code(cancel_task{"nobody"}) == result_code::not_found);
  CHECK(x.claim("w") == ids{"b"});
  x.run(complete("b", "w", 1));
  CHECK(x.code(cancel_task{"b"}) == result_code::conflict);
}

TEST_CASE("tasks: cancelling a task cancels what waits for it, whether it was pending or blocked itself") {
  state_driver x;
  x.worker("w");
  x.run(submit_tasks{{task("a"), task("b", {"a"}), task("c", {"b"}), task("d", {"a"})}});
  x.restart();
  CHECK(x.code(cancel_task{"b"}) == result_code::ok);
  CHECK(x.status("c") == task_status::cancelled);
  CHECK(x.status("d") == task_status::blocked);
  CHECK(x.code(cancel_task{"a"}) == result_code::ok);
  CHECK(x.status("d") == task_status::cancelled);
  CHECK(x.claim("w").empty());
}

TEST_CASE("tasks: requirements are forgotten with the last unfinished task that has them") {
  state_driver x;
  x.worker("w", 10, {{"slot", 99}});
  for (int i = 0; i < 10; ++i) {
    auto spec = task(std::to_string(i));
    spec.requirements = {{"slot", i}};
    x.submit(spec);
  }
  CHECK(x.get<counts_view>(get_counts{}).requirement_classes == 10);
  for (auto& id : x.claim("w", 9))
    x.run(complete_task{id, "w", 1, "{}"});
  CHECK(x.get<counts_view>(get_counts{}).requirement_classes == 1);
  x.restart();
  CHECK(x.get<counts_view>(get_counts{}).requirement_classes == 1);
}

TEST_CASE("tasks: mark_running passes over what is not assigned in that attempt") {
  state_driver x;
  x.worker("w");
  x.submit(task("a"));
  CHECK(x.code(mark_running{{{"a", 0}, {"a", 1}, {"nobody", 1}}}) == result_code::ok);
  CHECK(x.status("a") == task_status::pending);
  x.claim("w");
  x.run(mark_running{{{"a", 2}}});
  CHECK(x.status("a") == task_status::assigned);
}

TEST_CASE("tasks: a burst of 100,000 tasks applies, is written behind and is listed") {
  state_driver x;
  std::vector<std::string> payloads;
  for (int batch = 0; batch < 10; ++batch) {
    submit_tasks submission;
    for (int i = 0; i < 10'000; ++i) {
      auto spec = task("run-" + std::to_string(batch) + "-" + std::to_string(i));
      spec.run_id = "burst";
      submission.tasks.push_back(std::move(spec));
    }
    payloads.push_back(encode(x.make(std::move(submission))));
  }
  for (auto& payload : payloads)
    CHECK(x.entry(entry_kind::command, payload).result.ok());
  CHECK(x.get<run_view>(get_run{"burst"}).tasks == 100'000);
  CHECK(x.machine().take_dirty().rows.size() >= 100'000);
}
