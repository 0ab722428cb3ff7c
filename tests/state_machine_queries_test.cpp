#include "tests/support/state_driver.hpp"

using namespace coordinator;
using namespace coordinator::testing;

namespace {

using ids = std::vector<std::string>;

/// Everything that passes, page by page.
ids all(const state_driver& x, list_tasks query, std::size_t* pages = nullptr) {
  ids result;
  do {
    auto page = x.get<task_page>(query);
    CHECK(page.tasks.size() <= query.limit);
    for (auto& each : page.tasks)
      result.push_back(each.task_id);
    query.cursor = page.next_cursor;
    if (pages)
      ++*pages;
  } while (!query.cursor.empty());
  return result;
}

/// Tasks "0" to "99" of two runs and three types; some done by "w", some failed by "v", some held.
void fill(state_driver& x) {
  x.worker("w", 100);
  x.worker("v", 100);
  std::vector<task_spec> batch;
  for (int i = 0; i < 100; ++i) {
    auto spec = task(std::to_string(i));
    spec.run_id = i % 2 == 0 ? "even" : "odd";
    spec.type = "type" + std::to_string(i % 3);
    batch.push_back(spec);
  }
  x.run(submit_tasks{batch});
  for (auto& id : x.claim("w", 30))
    if (std::stoi(id) % 5 != 0)
      x.run(complete_task{id, "w", 1, "{}"});
  for (auto& id : x.claim("v", 10))
    x.run(fail_task{id, "v", 1, "broken", false, {}});
}

}  // namespace

TEST_CASE("queries: lists of tasks agree with a look at every task, under any filter and page size") {
  state_driver x;
  fill(x);
  for (int restarted = 0; restarted < 2; ++restarted) {
    std::vector<task_view> every;
    for (int i = 0; i < 100; ++i)
      every.push_back(x.task(std::to_string(i)));
    for (auto status : {std::optional<task_status>{},
                        {task_status::pending},
                        {task_status::completed},
                        {task_status::failed},
                        {task_status::assigned},
                        {task_status::blocked}})
      for (std::string worker : {"", "w", "v", "nobody"})
        for (std::string run : {"", "even", "odd", "none"})
          for (std::string type : {"", "type1", "none"})
            for (std::uint32_t limit : {1u, 7u, 1000u}) {
              ids expected;
              for (auto& t : every)
                if ((!status || t.status == *status) && (worker.empty() || t.worker_id == worker) &&
                    (run.empty() || t.run_id == run) && (type.empty() || t.type == type))
                  expected.push_back(t.task_id);
              CHECK(all(x, {status, worker, run, type, {}, limit}) == expected);
            }
    x.restart();
  }
}

TEST_CASE("queries: a filter that finds little gives up its page, not its search") {
  state_driver x;
  for (int batch = 0; batch < 5; ++batch) {
    submit_tasks submission;
    for (int i = batch * 10'000; i < (batch + 1) * 10'000; ++i) {
      auto spec = task(std::to_string(i));
      spec.run_id = i < 25'000 || i == 49'999 ? "early" : "late";
      spec.type = i < 25'000 ? "one" : "other";
      submission.tasks.push_back(std::move(spec));
    }
    x.run(std::move(submission));
  }
  // Both lists are long and one task is in both: it is found on the second page.
  std::size_t pages = 0;
  CHECK(all(x, {{}, {}, "early", "other", {}, 1000}, &pages) == ids{"49999"});
  CHECK(pages == 2);
  pages = 0;
  CHECK(all(x, {task_status::blocked, {}, "early", "other", {}, 1000}, &pages).empty());
  CHECK(pages == 1);
}

TEST_CASE("queries: a page of tasks ends before its results become too many bytes") {
  state_driver x;
  x.worker("w", 100);
  for (int i = 0; i < 12; ++i)
    x.submit(task(std::to_string(i)));
  for (auto& id : x.claim("w", 12))
    x.run(complete_task{id, "w", 1, std::string(1 << 20, 'r')});
  std::size_t pages = 0;
  CHECK(all(x, {{}, {}, {}, {}, {}, 1000}, &pages).size() == 12);
  CHECK(pages == 2);
}

TEST_CASE("queries: cursors of another making are refused by field") {
  state_driver x;
  fill(x);
  for (std::string cursor : {"nonsense", "c", "cQUJD"}) {
    auto error = x.get<query_error>(list_tasks{{}, {}, {}, {}, cursor, 10});
    CHECK(error.code == query_error::kind::invalid);
    CHECK(error.field == "cursor");
  }
  CHECK(x.get<query_error>(list_workers{"nonsense", 10}).field == "cursor");
  CHECK(x.get<query_error>(get_task{"nobody"}).code == query_error::kind::not_found);
}

TEST_CASE("queries: workers are listed in the order of their ids, page by page") {
  state_driver x;
  for (auto id : {"d", "a", "c", "b"})
    x.worker(id);
  ids seen;
  list_workers query{"", 3};
  do {
    auto page = x.get<worker_page>(query);
    for (auto& each : page.workers)
      seen.push_back(each.worker_id);
    query.cursor = page.next_cursor;
  } while (!query.cursor.empty());
  CHECK(seen == ids{"a", "b", "c", "d"});
}

TEST_CASE("queries: counts and runs add up, and a run ends with its last task") {
  state_driver x;
  fill(x);
  auto counts = x.get<counts_view>(get_counts{});
  CHECK(counts.tasks_by_status == status_counts{60, 0, 6, 0, 24, 10, 0});
  CHECK(counts.workers == 2);
  CHECK(counts.workers_offline == 0);
  CHECK(counts.sessions == 1);
  auto run = x.get<run_view>(get_run{"even"});
  CHECK(run.tasks == 50);
  CHECK(run.finished_ms == 0);
  CHECK(run.submitted_ms == x.now_ms);
  x.now_ms += 70;
  for (auto& each : x.get<task_page>(list_tasks{{}, {}, "even", {}, {}, 1000}).tasks)
    x.run(cancel_task{each.task_id});
  x.restart();
  run = x.get<run_view>(get_run{"even"});
  CHECK(run.finished_ms == x.now_ms);
  std::uint64_t sum = 0;
  for (auto n : run.by_status)
    sum += n;
  CHECK(sum == 50);
  CHECK(x.get<query_error>(get_run{"none"}).code == query_error::kind::not_found);
  CHECK(x.get<query_error>(get_run{""}).code == query_error::kind::not_found);
}

TEST_CASE("queries: the whole state holds everything at one index") {
  state_driver x;
  fill(x);
  x.run(put_key{"k", "v", {}, false, false});
  auto state = x.get<state_view>(get_state{});
  CHECK(state.tasks.size() == 100);
  CHECK(state.workers.size() == 2);
  CHECK(state.keys.size() == 1);
  CHECK(state.last_applied == x.machine().last_applied().value);
  CHECK(state.last_applied_term == 1);
}

TEST_CASE("queries: runs come newest first, page by page, with what passed") {
  state_driver x;
  x.worker("w", 100);
  for (std::string run : {"first", "second", "third", "second"}) {
    auto spec = task("task-" + std::to_string(x.get<counts_view>(get_counts{}).tasks_by_status[0]));
    spec.run_id = run;
    x.run(submit_tasks{{spec, task("without-" + spec.task_id)}});
  }
  auto done = x.claim("w", 100);
  for (std::size_t i = 0; i < done.size(); ++i)
    x.run(complete_task{done[i], "w", 1, i < 4 ? R"({"outcome":"passed"})" : R"({"output":"\"outcome\":\"passed\""})"});
  for (int restarted = 0; restarted < 2; ++restarted) {
    list_runs query;
    query.limit = 2;
    auto page = x.get<run_page>(query);
    REQUIRE(page.runs.size() == 2);
    CHECK(page.runs[0].run_id == "third");
    CHECK(page.runs[1].run_id == "second");
    CHECK(page.runs[1].tasks == 2);
    CHECK(page.runs[1].by_status[static_cast<std::size_t>(task_status::completed)] == 2);
    CHECK(page.runs[1].passed == 1);
    REQUIRE_FALSE(page.next_cursor.empty());
    query.cursor = page.next_cursor;
    page = x.get<run_page>(query);
    REQUIRE(page.runs.size() == 1);
    CHECK(page.runs[0].run_id == "first");
    CHECK(page.next_cursor.empty());
    x.restart();
  }
  // The oldest leave, and their runs with the last of them.
  x.now_ms += 1'000;
  x.run(retire_tasks{x.now_ms, 2});
  list_runs all_runs;
  CHECK(x.get<run_page>(all_runs).runs.size() == 2);
  x.run(retire_tasks{x.now_ms, 500});
  CHECK(x.get<run_page>(all_runs).runs.empty());
  all_runs.cursor = "%";
  CHECK(std::holds_alternative<query_error>(x.machine().answer(query{all_runs})));
}

TEST_CASE("queries: figures tell what waits for which workers since when, and what the workers do") {
  state_driver x;
  x.worker("w", 1);
  x.worker("gone", 1);
  x.run(mark_offline{{"gone"}});
  auto plain = task("plain");
  auto urgent = task("urgent");
  urgent.priority = 5;
  auto cuda = task("cuda");
  cuda.requirements = {{"cuda", true}};
  x.run(submit_tasks{{plain}});
  auto first = x.task("plain").submitted_ms;
  x.now_ms += 1'000;
  x.run(submit_tasks{{urgent, cuda}});
  auto figures = x.get<figures_view>(get_figures{});
  REQUIRE(figures.waiting.size() == 2);
  CHECK(figures.waiting[0].tasks == 2);
  CHECK(figures.waiting[0].requirements.empty());
  CHECK(figures.waiting[0].oldest_submitted_ms == first);
  CHECK(figures.waiting[1].requirements.contains("cuda"));
  CHECK(figures.waiting[1].oldest_submitted_ms > first);
  CHECK(figures.tasks_by_status[0] == 3);
  CHECK(figures.workers_by_status[static_cast<std::size_t>(worker_status::offline)] == 1);
  CHECK(figures.workers_by_status[static_cast<std::size_t>(worker_status::idle)] == 1);
}
