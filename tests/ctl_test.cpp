#include <doctest/doctest.h>
#include <httplib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "http/ctl/audit.hpp"
#include "http/ctl/commands.hpp"
#include "http/ctl/doctest_cases.hpp"
#include "http/ctl/progress.hpp"
#include "http/ctl/table.hpp"
#include "http/worker/worker.hpp"
#include "tests/support/fake_coordinator.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;
using namespace coordinator::ctl;
using nlohmann::json;

namespace {

/// A command's surroundings, with what it wrote.
struct desk {
  explicit desk(const fake_coordinator& node, std::chrono::milliseconds patience = std::chrono::seconds{15})
      : cluster({{"127.0.0.1", node.port()}}, options(patience)) {}
  static client_options options(std::chrono::milliseconds patience) {
    client_options o;
    o.give_up_after = patience;
    return o;
  }
  session json_session() { return {cluster, out, err, true, false}; }

  client cluster;
  std::ostringstream out, err;
  session s{cluster, out, err, false, false};
};

template <class Command>
exit_status status_of(Command command) {
  try {
    return command();
  } catch (const ctl_error& e) {
    return e.status();
  }
}

json task_with(const std::string& id, const std::string& status, const std::vector<std::string>& outcomes) {
  json task = {{"task_id", id}, {"status", status}, {"attempts", json::array()}, {"result", {{"outcome", "passed"}}}};
  for (auto& outcome : outcomes)
    task["attempts"].push_back({{"attempt", task["attempts"].size() + 1}, {"outcome", outcome}});
  return task;
}

std::vector<journal_line> journal_of(const std::string& text) {
  std::istringstream in{text};
  std::vector<journal_line> lines;
  read_journal(in, lines);
  return lines;
}

std::string attempt_lines(const std::string& id, int attempt, const std::string& answer) {
  auto line = [&](json fields) {
    fields.update({{"task_id", id}, {"attempt", attempt}, {"worker_id", "w"}});
    return fields.dump() + "\n";
  };
  return line({{"event", "started"}}) + line({{"event", "ended"}}) +
         line({{"event", "reported"}, {"answer", answer}, {"as", "complete"}});
}

}  // namespace

TEST_CASE("table: columns are as wide as their widest cell, and no cell steers the terminal") {
  table t{{"A", "B"}};
  t.add({"über", "x"});
  t.add({"\x1b[2J", "y"});
  std::ostringstream out;
  t.print(out);
  CHECK(out.str() == "A     B\nüber  x\n?[2J  y\n");
  CHECK(for_terminal("abcdef", 4) == "abc…");
}

TEST_CASE("progress: away from a terminal it writes a line for each tenth and no control characters") {
  std::ostringstream out;
  {
    progress p{out, false, "tasks"};
    for (std::size_t i = 0; i <= 100; ++i)
      p.show(i, 100);
  }
  auto text = out.str();
  CHECK(std::count(text.begin(), text.end(), '\n') == 11);
  CHECK(text.find('\r') == std::string::npos);
}

TEST_CASE("doctest list: names with quotes, angle brackets and entities come back as they are") {
  auto cases = parse_doctest_list(R"(noise <?xml version="1.0"?>
<doctest binary="x">
  <TestCase name="a &quot;b&quot; &lt;c> /> &amp;amp;" testsuite="" filename="f.cpp" line="3" skipped="false"/>
  <TestCase name="later" filename="g.cpp" skipped="true"/>
  <TestCase name="same" filename="f.cpp"/>
  <TestCase name="same" filename="g.cpp"/>
  <TestCase name="same" filename="f.cpp"/>
</doctest>)");
  REQUIRE(cases.size() == 3);
  CHECK(cases[0] == doctest_case{"a \"b\" <c> /> &amp;", "f.cpp"});
  CHECK(cases[1] == doctest_case{"same", "f.cpp"});
  CHECK(cases[2] == doctest_case{"same", "g.cpp"});
  CHECK(parse_doctest_list("<TestCase name=\"cut").empty() == false);
  CHECK(parse_doctest_list("nothing").empty());
}

TEST_CASE("doctest filter: commas and backslashes are escaped, as doctest splits at them") {
  CHECK(doctest_filter("--test-case", "a, b\\c") == "--test-case=a\\, b\\\\c");
}

TEST_CASE("doctest summary: a filter that matched nothing is noticed") {
  CHECK(ran_no_case("[doctest] test cases:  0 |  0 passed | 0 failed | 7 skipped\n"));
  CHECK_FALSE(ran_no_case("[doctest] test cases: 10 | 10 passed | 0 failed | 7 skipped\n"));
  CHECK_FALSE(ran_no_case("something else"));
}

TEST_CASE("audit: what the cluster and the workers agree on is clean") {
  auto journals = journal_of(attempt_lines("a", 1, "accepted") + attempt_lines("b", 1, "stale") +
                             attempt_lines("b", 2, "accepted") + "{\"event\":\"star");
  auto report = audit_tasks(
      {"a", "b"},
      {task_with("a", "completed", {"completed"}), task_with("b", "completed", {"worker_offline", "completed"})},
      journals);
  CHECK(report.clean());
  CHECK(report.submitted == 2);
  CHECK(report.completed == 2);
  CHECK(report.passed == 2);
  CHECK(report.attempts_started == 3);
  CHECK(report.tasks_started_again == 1);
}

TEST_CASE("audit: a task is lost if it is unknown, has not ended, or its accepted result is gone") {
  auto journals = journal_of(attempt_lines("gone", 1, "accepted") + attempt_lines("back", 1, "accepted") +
                             attempt_lines("other", 1, "accepted") + attempt_lines("other", 2, "stale"));
  auto report =
      audit_tasks({"unknown", "gone", "back", "other", "waits"},
                  {task_with("gone", "failed", {"failed"}), task_with("back", "pending", {}),
                   task_with("other", "completed", {"lease_lost", "completed"}), task_with("waits", "running", {})},
                  journals);
  CHECK(report.lost.size() == 5);
  CHECK(report.run_twice.empty());
}

TEST_CASE("audit: a completion that no worker ended is not believed") {
  auto journals = journal_of(attempt_lines("a", 1, "accepted"));
  auto report = audit_tasks(
      {"a", "b"}, {task_with("a", "completed", {"completed"}), task_with("b", "completed", {"completed"})}, journals);
  REQUIRE(report.lost.size() == 1);
  CHECK(report.lost[0] == "b: recorded as completed by attempt 1, which no worker ended");
  // Without journals there is only the cluster's word.
  CHECK(audit_tasks({"b"}, {task_with("b", "completed", {"completed"})}, {}).clean());
}

TEST_CASE("audit: a completed attempt that was recorded twice is found in either account") {
  auto recorded = audit_tasks({"a"}, {task_with("a", "completed", {"completed", "completed"})}, {});
  CHECK(recorded.run_twice.size() == 1);
  auto accepted = audit_tasks({"a"}, {task_with("a", "completed", {"completed"})},
                              journal_of(attempt_lines("a", 1, "accepted") + attempt_lines("a", 2, "accepted")));
  CHECK(accepted.run_twice.size() == 1);
  auto started = audit_tasks({"a"}, {task_with("a", "completed", {"completed"})},
                             journal_of(attempt_lines("a", 1, "accepted") + attempt_lines("a", 1, "accepted")));
  CHECK(started.run_twice.size() == 1);
}

TEST_CASE("audit: a retried attempt whose first try ended as failed is no double run") {
  auto report = audit_tasks({"a"}, {task_with("a", "completed", {"failed", "completed"})},
                            journal_of(attempt_lines("a", 2, "accepted")));
  CHECK(report.clean());
}

TEST_CASE("coordctl: each kind of answer has its exit status and says in one line what is wrong") {
  fake_coordinator node;
  desk d{node};
  CHECK(status_of([&] { return show_task(d.s, "no/such"); }) == exit_status::not_found);
  CHECK(status_of([&] { return put_key(d.s, "k", "v", {"7", false}); }) == exit_status::conflict);
  CHECK(status_of([&] { return submit(d.s, {}); }) == exit_status::usage);
  node.set_hook([](auto&, auto& response) {
    response.status = 422;
    response.set_content(R"({"detail":"must be positive","field":"timeout_ms","code":"invalid"})", "application/json");
    return true;
  });
  try {
    get(d.s, "/api/status");
    FAIL("no error");
  } catch (const ctl_error& e) {
    CHECK(e.status() == exit_status::failed);
    CHECK(std::string{e.what()} == "timeout_ms: must be positive (invalid)");
  }
  node.stop();
  desk impatient{node, std::chrono::milliseconds{100}};
  CHECK(status_of([&] { return list_tasks(impatient.s, {}); }) == exit_status::unavailable);
}

TEST_CASE("coordctl kv: any bytes come back as they were put, under any key") {
  fake_coordinator node;
  desk d{node};
  temporary_directory directory;
  std::string value{"a\0\xFF\n", 4};
  std::ofstream{directory / "value", std::ios::binary} << value;
  CHECK(put_key(d.s, "dir/a key", "@" + (directory / "value"), {}) == exit_status::ok);
  CHECK(d.out.str() == "version 1\n");
  d.out.str("");
  CHECK(get_key(d.s, "dir/a key") == exit_status::ok);
  CHECK(d.out.str() == value);
  CHECK(status_of([&] { return put_key(d.s, "dir/a key", "x", {"", true}); }) == exit_status::conflict);
  CHECK(delete_key(d.s, "dir/a key", {}) == exit_status::ok);
  CHECK(status_of([&] { return get_key(d.s, "dir/a key"); }) == exit_status::not_found);
}

TEST_CASE("coordctl task: a file of tasks is submitted whole, and lists follow the cursor to the end") {
  fake_coordinator node;
  desk d{node};
  temporary_directory directory;
  {
    std::ofstream file{directory / "tasks"};
    for (int i = 0; i < 7; ++i)
      file << json{{"command", {"true"}}, {"task_id", "t" + std::to_string(i)}} << "\n\n";
  }
  submit_options options;
  options.file = directory / "tasks";
  options.run_id = "r";
  CHECK(submit(d.s, options) == exit_status::ok);
  CHECK(d.out.str() == "t0\nt1\nt2\nt3\nt4\nt5\nt6\n");
  CHECK(tasks_of_run(d.s, "r").size() == 7);
  auto as_json = d.json_session();
  d.out.str("");
  list_options five;
  five.limit = 5;
  CHECK(list_tasks(as_json, five) == exit_status::ok);
  CHECK(json::parse(d.out.str()).size() == 5);
}

TEST_CASE("coordctl task: a line that is no task is named") {
  fake_coordinator node;
  desk d{node};
  temporary_directory directory;
  std::ofstream{directory / "tasks"} << "{\"command\":[\"true\"]}\n{\"command\":\n";
  submit_options options;
  options.file = directory / "tasks";
  CHECK_THROWS_WITH_AS(submit(d.s, options), (options.file + ": line 2 is not a task's JSON object").c_str(),
                       ctl_error);
}

TEST_CASE("coordctl task wait: fails unless all passed, and not before all have ended") {
  fake_coordinator node;
  desk d{node};
  worker_options w;
  w.coordinators = {{"127.0.0.1", node.port()}};
  w.worker_id = "w";
  worker runner{w, nullptr};
  runner.start();
  node.submit({{"task_id", "good"}, {"run_id", "r"}, {"command", {"true"}}});
  wait_options wait;
  wait.run_ids = {"r"};
  CHECK(wait_for_tasks(d.s, wait) == exit_status::ok);
  node.submit({{"task_id", "bad"}, {"run_id", "r"}, {"command", {"sh", "-c", "echo why; false"}}});
  CHECK(wait_for_tasks(d.s, wait) == exit_status::failed);
  CHECK(d.out.str().find("failed: bad (bad on w)\n    why\n") != std::string::npos);
  CHECK(d.out.str().find("2 tasks: 1 passed, 1 failed, 0 errors") != std::string::npos);
  wait_options by_id;
  by_id.ids = {"good"};
  CHECK(wait_for_tasks(d.s, by_id) == exit_status::ok);
  wait.run_ids = {"unknown"};
  CHECK(status_of([&] { return wait_for_tasks(d.s, wait); }) == exit_status::not_found);
}

TEST_CASE("coordctl task wait: says so when time ran out") {
  fake_coordinator node;
  desk d{node};
  node.submit({{"task_id", "t"}, {"run_id", "r"}, {"command", {"true"}}});
  wait_options wait;
  wait.run_ids = {"r"};
  wait.timeout = std::chrono::seconds{1};
  CHECK(status_of([&] { return wait_for_tasks(d.s, wait); }) == exit_status::unavailable);
}

TEST_CASE("coordctl run doctest: a task for each test case, and a case that ran nothing is an error") {
  fake_coordinator node;
  desk d{node};
  temporary_directory directory;
  // Stands for a doctest program: three cases, of which the second fails and the third matches no filter.
  auto program = directory / "program";
  std::ofstream{program} << R"(#!/bin/sh
case "$1" in
  --list-test-cases) echo '<TestCase name="one, two" filename="f"/><TestCase name="bad" filename="f"/><TestCase name="odd" filename="f"/>' ;;
  '--test-case=one\, two') echo '[doctest] test cases: 1 | 1 passed' ;;
  --test-case=bad) echo '[doctest] test cases: 1 | 0 passed | 1 failed'; exit 1 ;;
  *) echo '[doctest] test cases: 0 | 0 passed' ;;
esac
)";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  worker_options w;
  w.coordinators = {{"127.0.0.1", node.port()}};
  w.worker_id = "w";
  worker runner{w, nullptr};
  runner.start();
  doctest_options options;
  options.program = program;
  options.run_id = "r";
  auto s = d.json_session();
  CHECK(run_doctest(s, options) == exit_status::failed);
  auto report = json::parse(d.out.str());
  CHECK(report["passed"] == 1);
  CHECK(report["failed"] == 1);
  CHECK(report["error"] == 1);
  CHECK(report["total"] == 3);
  options.program = "/no/such/program";
  CHECK(status_of([&] { return run_doctest(d.s, options); }) == exit_status::usage);
}

TEST_CASE("coordctl probe: counts accepted writes") {
  fake_coordinator node;
  desk d{node};
  auto s = d.json_session();
  probe_options options;
  options.time = std::chrono::seconds{3};
  CHECK(probe_writes(s, options) == exit_status::ok);
  auto report = json::parse(d.out.str());
  CHECK(report["accepted"] >= 2);
  CHECK(report["refused"] == 0);
  CHECK(report["longest_gap_ms"] > 0);
}

TEST_CASE("coordctl cluster: changes of the members go to their routes, and refusals say why") {
  fake_coordinator node;
  int status = 200;
  json said = {{"success", true}, {"changed", true}, {"leader", "a"}, {"members", json::array()}};
  said["members"].push_back({{"node_id", "n 4"}, {"http_address", "h:4"}, {"voter", false}});
  std::string seen;
  node.set_hook([&](const httplib::Request& request, httplib::Response& response) {
    seen = request.method + " " + request.target + " " + request.body;
    response.status = status;
    response.set_content(said.dump(), status == 200 ? "application/json" : "application/problem+json");
    return true;
  });
  desk d{node};
  CHECK(add_member(d.s, "n4") == exit_status::ok);
  CHECK(seen == R"(POST /api/cluster/members {"node_id":"n4"})");
  CHECK(d.out.str().find("n4 added as a learner; members now:") != std::string::npos);
  CHECK(d.out.str().find("h:4") != std::string::npos);
  CHECK(promote_member(d.s, "n4") == exit_status::ok);
  CHECK(seen == "POST /api/cluster/members/n4/promote {}");
  CHECK(remove_member(d.s, "n4", false) == exit_status::ok);
  CHECK(seen == "DELETE /api/cluster/members/n4 ");
  CHECK(d.err.str().empty());
  CHECK(remove_member(d.s, "n4", true) == exit_status::ok);
  CHECK(seen == "DELETE /api/cluster/members/n4?force=true ");
  CHECK(d.err.str().find("commits no write") != std::string::npos);
  said["changed"] = false;
  CHECK(add_member(d.s, "n4") == exit_status::ok);
  CHECK(d.out.str().find("n4 is a member already") != std::string::npos);
  status = 409;
  said = {{"status", 409}, {"code", "unsafe"}, {"detail", "only 1 of then 2"}};
  CHECK(status_of([&] { return remove_member(d.s, "n4", false); }) == exit_status::conflict);
  status = 404;
  CHECK(status_of([&] { return remove_member(d.s, "n4", false); }) == exit_status::not_found);
}

TEST_CASE("coordctl restart-plan: followers first, then leadership moves, then the node that led") {
  fake_coordinator node;
  json view = {{"leader", "b"}, {"term", 3}, {"failure_tolerance", 1}, {"members", json::array()}};
  for (auto [id, role] :
       {std::pair{"a", "FOLLOWER"}, std::pair{"b", "LEADER"}, std::pair{"c", "FOLLOWER"}, std::pair{"d", "LEARNER"}})
    view["members"].push_back({{"node_id", id},
                               {"http_address", std::string{id} + ":1"},
                               {"role", role},
                               {"voter", std::string{role} != "LEARNER"}});
  node.set_hook([&](const httplib::Request&, httplib::Response& response) {
    response.set_content(view.dump(), "application/json");
    return true;
  });
  desk d{node};
  auto s = d.json_session();
  CHECK(show_restart_plan(s) == exit_status::ok);
  auto plan = json::parse(d.out.str());
  std::string order;
  for (auto& step : plan["steps"])
    order += step["step"].get<std::string>() + " " + step["node_id"].get<std::string>() + ", ";
  CHECK(order == "restart d, restart a, restart c, transfer b, restart b, ");
  desk people{node};
  CHECK(show_restart_plan(people.s) == exit_status::ok);
  CHECK(people.out.str().find("4. coordctl cluster transfer") != std::string::npos);
  CHECK(people.out.str().find("5. restart b (LEADER)") != std::string::npos);
  view["failure_tolerance"] = 0;
  CHECK(status_of([&] { return show_restart_plan(people.s); }) == exit_status::conflict);
  view["leader"] = nullptr;
  CHECK(status_of([&] { return show_restart_plan(people.s); }) == exit_status::unavailable);
}
