#include "http/worker/worker.hpp"

#include <doctest/doctest.h>
#include <httplib.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "http/worker/output_tail.hpp"
#include "http/worker/process_guard.hpp"
#include "tests/support/fake_coordinator.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;
using nlohmann::json;
using std::chrono::milliseconds;

namespace {

// What the worker logs would only be noise between the results.
[[maybe_unused]] const auto quiet = (spdlog::set_level(spdlog::level::off), true);

child_command shell(const std::string& script) {
  child_command command;
  command.argv = {"sh", "-c", script};
  command.kill_after = milliseconds{100};
  return command;
}

child_result run(const child_command& command) {
  stop_event never;
  return run_child(command, never, nullptr);
}

/// Whether a process is there and not just waiting to be reaped by whoever inherited it.
bool is_alive(pid_t pid) {
  std::ifstream stat{"/proc/" + std::to_string(pid) + "/stat"};
  std::string number, name, state;
  return static_cast<bool>(stat >> number >> name >> state) && state != "Z" && state != "X";
}

bool eventually(const std::function<bool()>& condition) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline)
      return false;
    std::this_thread::sleep_for(milliseconds{5});
  }
  return true;
}

worker_options options_for(const fake_coordinator& node) {
  worker_options options;
  options.coordinators = {{"127.0.0.1", node.port()}};
  options.worker_id = "w1";
  options.slots = 2;
  options.claim_wait = milliseconds{500};
  return options;
}

json shell_task(const std::string& id, const std::string& script) {
  return {{"task_id", id}, {"command", {"sh", "-c", script}}};
}

std::function<bool(const json&, const json&)> has_status(const std::string& id, const std::string& status) {
  return [=](const json& tasks, const json&) { return tasks.contains(id) && tasks[id]["status"] == status; };
}

std::vector<json> lines_of(const std::string& path) {
  std::ifstream file{path};
  std::vector<json> result;
  for (std::string line; std::getline(file, line);)
    result.push_back(json::parse(line, nullptr, false));
  return result;
}

}  // namespace

TEST_CASE("output tail: keeps the end and counts the whole") {
  output_tail tail{8};
  for (int i = 0; i < 100; ++i)
    tail.append("0123456789");
  tail.append("ab");
  CHECK(tail.text() == "456789ab");
  CHECK(tail.total() == 1002);
  output_tail none{0};
  none.append("x");
  CHECK(none.text().empty());
}

TEST_CASE("output tail: a cut through a character leaves no part of it") {
  output_tail tail{4};
  tail.append("x\xE2\x82\xAC\xE2\x82\xAC");  // Two euro signs, of which the cut hits the first.
  CHECK(tail.text() == "\xE2\x82\xAC");
}

TEST_CASE("output tail: what is not UTF-8 is replaced, and the limit still holds") {
  CHECK(to_valid_utf8("a\xFF"
                      "b") ==
        "a\xEF\xBF\xBD"
        "b");
  CHECK(to_valid_utf8("\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80") == "\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(to_valid_utf8(std::string_view{"\0", 1}) == "\xEF\xBF\xBD");
  // Overlong, a surrogate, above the last code point, and cut short.
  for (auto bad : {"\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF5", "\xE2\x82", "\x80"})
    CHECK_NOTHROW(json(to_valid_utf8(bad)).dump());
  output_tail tail{9};
  tail.append(std::string(9, '\xFF'));
  CHECK(tail.text().size() <= 9);
  CHECK_NOTHROW(json(tail.text()).dump());
}

TEST_CASE("child: gives exit code, and stdout and stderr in the order they were written") {
  auto result = run(shell("echo one; echo two >&2; echo three; exit 3"));
  CHECK(result.end == child_end::exited);
  CHECK(result.exit_code == 3);
  CHECK(result.output == "one\ntwo\nthree\n");
  CHECK(outcome_of(result) == std::string{"failed"});
}

TEST_CASE("child: gets its environment and directory, an empty stdin, and leads a group of its own") {
  temporary_directory directory;
  auto command = shell("pwd; echo $GREETING; cat; ps -o pgid= -p $$ | tr -d ' '; echo $$");
  command.directory = directory.path();
  command.env["GREETING"] = "good day";
  auto result = run(command);
  auto expected = std::filesystem::canonical(directory.path()).string() + "\ngood day\n";
  REQUIRE(result.output.substr(0, expected.size()) == expected);
  auto rest = result.output.substr(expected.size());
  auto half = rest.find('\n') + 1;
  CHECK(rest.substr(0, half) == rest.substr(half));
}

TEST_CASE("child: a program or a directory that is not there is told apart from a failing test") {
  child_command missing;
  missing.argv = {"no-such-program-anywhere"};
  CHECK(run(missing).end == child_end::not_started);
  missing.argv = {"/no/such/program"};
  auto result = run(missing);
  CHECK(result.end == child_end::not_started);
  CHECK(result.error == "cannot run /no/such/program: No such file or directory");
  auto nowhere = shell("true");
  nowhere.directory = "/no/such/directory";
  CHECK(run(nowhere).error == "cannot run directory /no/such/directory: No such file or directory");
}

TEST_CASE("child: death by a signal is an error, with the exit code a shell would give") {
  auto result = run(shell("kill -SEGV $$"));
  CHECK(result.end == child_end::signalled);
  CHECK(result.exit_code == 128 + SIGSEGV);
  CHECK(outcome_of(result) == std::string{"error"});
}

TEST_CASE("child: is killed when its time is up") {
  auto command = shell("sleep 1000");
  command.timeout = milliseconds{100};
  auto result = run(command);
  CHECK(result.end == child_end::timed_out);
  CHECK(outcome_of(result) == std::string{"timeout"});
}

TEST_CASE("child: is killed also if it ignores SIGTERM, and its whole group with it") {
  temporary_directory directory;
  auto ready = directory / "ready";
  stop_event stop;
  std::thread asker{[&] {
    eventually([&] { return std::filesystem::exists(ready); });
    stop.request();
  }};
  auto result =
      run_child(shell("trap '' TERM; sleep 1000 & echo $!; touch " + ready + "; wait; sleep 1000"), stop, nullptr);
  asker.join();
  CHECK(result.end == child_end::stopped);
  CHECK(result.exit_code == 128 + SIGKILL);
  CHECK(eventually([&] { return !is_alive(std::stoi(result.output)); }));
}

TEST_CASE("child: what it left in the background ends with it, and holds nothing up") {
  auto result = run(shell("sleep 1000 & echo $!"));
  CHECK(result.end == child_end::exited);
  CHECK(result.exit_code == 0);
  CHECK(eventually([&] { return !is_alive(std::stoi(result.output)); }));
}

TEST_CASE("child: stops when asked to, even when asked before it began") {
  stop_event stop;
  stop.request();
  auto result = run_child(shell("sleep 1000"), stop, nullptr);
  CHECK(result.end == child_end::stopped);
}

TEST_CASE("child: of a flood of output the tail is kept") {
  auto command = shell("yes line | head -c 3000000; echo the end");
  command.output_limit = 100;
  auto result = run(command);
  CHECK(result.output_bytes == 3000008);
  CHECK(result.output.size() == 100);
  CHECK(result.output.ends_with("the end\n"));
}

TEST_CASE("process guard: kills the groups of a worker that died without warning") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  auto owner = ::fork();
  REQUIRE(owner >= 0);
  if (owner == 0) {
    // Only what is safe after a fork from a program with threads; the guard itself is.
    process_guard guard;
    auto child = ::fork();
    if (child == 0) {
      ::setpgid(0, 0);
      ::execl("/bin/sleep", "sleep", "1000", nullptr);
      ::_exit(1);
    }
    ::setpgid(child, child);
    guard.add(child);
    [[maybe_unused]] auto written = ::write(ends[1], &child, sizeof child);
    ::kill(::getpid(), SIGKILL);
  }
  pid_t child = 0;
  REQUIRE(::read(ends[0], &child, sizeof child) == sizeof child);
  REQUIRE(::waitpid(owner, nullptr, 0) == owner);
  CHECK(eventually([&] { return !is_alive(child); }));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("journal: a line cut short by a crash spoils only itself") {
  temporary_directory directory;
  auto path = directory / "journal";
  std::ofstream{path} << "{\"event\":\"sta";
  {
    journal j{path, "w1"};
    j.record("started", {{"task_id", "t"}, {"attempt", 1}});
  }
  auto lines = lines_of(path);
  REQUIRE(lines.size() == 2);
  CHECK(lines[1]["event"] == "started");
  CHECK(lines[1]["worker_id"] == "w1");
  CHECK(lines[1]["time_ms"].is_number_integer());
  CHECK_THROWS_AS(journal("/no/such/directory/journal", "w1"), std::runtime_error);
}

TEST_CASE("task: a task that is not as the contract has it is refused for good, with the reason") {
  auto task = read_claimed_task({{"task_id", "t"}, {"attempt", 1}, {"command", "ls"}}, "w", "", 10);
  CHECK_FALSE(task.fault.empty());
  CHECK_THROWS_AS(read_claimed_task({{"task_id", "t"}}, "w", "", 10), std::invalid_argument);
}

TEST_CASE("task: a relative cwd is below the worker's directory") {
  auto directory = [](const json& cwd, const char* work_dir) {
    json task = {{"task_id", "t"}, {"attempt", 1}, {"command", {"ls"}}};
    if (!cwd.is_null())
      task["cwd"] = cwd;
    return read_claimed_task(task, "w", work_dir, 10).command.directory;
  };
  CHECK(directory(nullptr, "") == "");
  CHECK(directory(nullptr, "/w") == "/w");
  CHECK(directory("x", "/w") == "/w/x");
  CHECK(directory("x", "") == "x");
  CHECK(directory("/x", "/w") == "/x");
}

TEST_CASE("worker: runs what it claims and reports results, and its journal tells the same") {
  temporary_directory directory;
  fake_coordinator node;
  auto options = options_for(node);
  options.journal_path = directory / "journal";
  options.capabilities = {"cpu"};
  {
    worker w{options, nullptr};
    w.start();
    node.submit(shell_task("good", "echo $COORDINATOR_TASK_ID by $COORDINATOR_WORKER_ID; printf '\\377'"));
    node.submit(shell_task("bad", "exit 7"));
    auto slow = shell_task("slow", "sleep 1000");
    slow["timeout_ms"] = 50;
    node.submit(slow);
    for (auto id : {"good", "bad", "slow"})
      REQUIRE(node.eventually(has_status(id, "completed")));
    CHECK(node.workers()["w1"]["capabilities"] == json{"cpu"});
    CHECK(w.drain());
  }
  CHECK(node.workers().empty());
  CHECK(node.task("good")["result"]["outcome"] == "passed");
  CHECK(node.task("good")["result"]["output"] == "good by w1\n\xEF\xBF\xBD");
  CHECK(node.task("bad")["result"]["outcome"] == "failed");
  CHECK(node.task("bad")["result"]["exit_code"] == 7);
  CHECK(node.task("slow")["result"]["outcome"] == "timeout");
  std::map<std::string, int> events;
  for (auto& line : lines_of(options.journal_path)) {
    ++events[line["event"]];
    if (line["event"] == "reported")
      CHECK(line["answer"] == "accepted");
  }
  CHECK(events["started"] == 3);
  CHECK(events["ended"] == 3);
  CHECK(events["reported"] == 3);
}

TEST_CASE("worker: a command that cannot be started is a failed attempt, for another worker to try") {
  fake_coordinator node;
  worker w{options_for(node), nullptr};
  w.start();
  node.submit({{"task_id", "t"}, {"command", {"no-such-program-anywhere"}}});
  REQUIRE(node.eventually(has_status("t", "failed")));
  auto body = json::parse(node.requests("POST", "/api/tasks/t/fail").at(0).body);
  CHECK(body["retryable"] == true);
  CHECK(body["error"] == "cannot run no-such-program-anywhere: No such file or directory");
}

TEST_CASE("worker: kills the child of a task that was cancelled") {
  temporary_directory directory;
  fake_coordinator node;
  worker w{options_for(node), nullptr};
  w.start();
  auto file = directory / "pid";
  node.submit(shell_task("t", "echo $$ > " + file + ".part; mv " + file + ".part " + file + "; sleep 1000"));
  REQUIRE(eventually([&] { return std::filesystem::exists(file); }));
  pid_t pid = 0;
  std::ifstream{file} >> pid;
  client c{{{"127.0.0.1", node.port()}}};
  client_request cancel;
  cancel.method = "POST";
  cancel.path = "/api/tasks/t/cancel";
  CHECK(c.send(cancel).ok());
  CHECK(eventually([&] { return !is_alive(pid); }));
  CHECK(w.drain());
}

TEST_CASE("worker: kills the child whose lease was taken, and its refused report is no fault") {
  fake_coordinator node;
  worker w{options_for(node), nullptr};
  w.start();
  node.submit(shell_task("t", "sleep 1000"));
  REQUIRE(node.eventually(has_status("t", "assigned")));
  node.take_away("t");
  REQUIRE(eventually([&] { return node.requests("POST", "/api/tasks/t/fail").size() == 1; }));
  CHECK(w.drain());
}

TEST_CASE("worker: lists what runs in its heartbeats, from the claim on") {
  fake_coordinator node;
  worker w{options_for(node), nullptr};
  w.start();
  node.submit(shell_task("t", "sleep 1000"));
  REQUIRE(node.eventually([](auto&, auto& workers) {
    return workers.contains("w1") && workers["w1"].contains("running") && workers["w1"]["running"].size() == 1 &&
           workers["w1"]["running"][0] == json{{"task_id", "t"}, {"attempt", 1}} &&
           workers["w1"]["status"] == "running";
  }));
}

TEST_CASE("worker: registers again where the cluster does not know it any more") {
  fake_coordinator node;
  worker w{options_for(node), nullptr};
  w.start();
  REQUIRE(node.eventually([](auto&, auto& workers) { return workers.contains("w1"); }));
  node.forget_workers();
  CHECK(node.eventually([](auto&, auto& workers) { return workers.contains("w1"); }));
}

TEST_CASE("worker: reports a result through a time without coordinators") {
  fake_coordinator node;
  std::atomic<bool> away{false};
  node.set_hook([&](auto& request, auto& response) {
    if (!away || request.path.find("/complete") == std::string::npos)
      return false;
    response.status = 503;
    response.set_header("Retry-After", "1");
    return true;
  });
  away = true;
  worker w{options_for(node), nullptr};
  w.start();
  node.submit(shell_task("t", "true"));
  REQUIRE(eventually([&] { return !node.requests("POST", "/api/tasks/t/complete").empty(); }));
  away = false;
  CHECK(node.eventually(has_status("t", "completed")));
}

TEST_CASE("worker: a drain waits for what runs and claims nothing more") {
  temporary_directory directory;
  fake_coordinator node;
  worker w{options_for(node), nullptr};
  w.start();
  auto gate = directory / "gate";
  node.submit(shell_task("t", "while [ ! -e " + gate + " ]; do sleep 0.01; done"));
  REQUIRE(node.eventually(has_status("t", "assigned")));
  std::thread drain{[&] { CHECK(w.drain()); }};
  REQUIRE(node.eventually([](auto&, auto& workers) { return workers["w1"]["status"] == "draining"; }));
  std::ofstream{gate} << "open";
  drain.join();
  node.submit(shell_task("later", "true"));
  CHECK(node.task("t")["status"] == "completed");
  CHECK(node.task("later")["status"] == "pending");
  CHECK(node.workers().empty());
}

TEST_CASE("worker: a drain whose time is up stops what runs and gives it back") {
  fake_coordinator node;
  auto options = options_for(node);
  options.drain_timeout = milliseconds{10};
  worker w{options, nullptr};
  w.start();
  node.submit(shell_task("t", "sleep 1000"));
  REQUIRE(node.eventually(has_status("t", "assigned")));
  CHECK(w.drain());
  CHECK(node.task("t")["error"] == "stopped before its end");
  auto body = json::parse(node.requests("POST", "/api/tasks/t/fail").at(0).body);
  CHECK(body["retryable"] == true);
}

TEST_CASE("worker: ends with a reason when the cluster refuses it") {
  fake_coordinator node;
  node.set_hook([](auto& request, auto& response) {
    response.status = 422;
    response.set_content(R"({"detail":"no such capability"})", "application/problem+json");
    return request.path == "/api/workers/register";
  });
  auto options = options_for(node);
  std::atomic<int> calls{0};
  options.on_failure = [&] { ++calls; };
  worker w{options, nullptr};
  w.start();
  REQUIRE(eventually([&] { return calls == 1; }));
  CHECK(w.failure() == "the cluster refuses this worker: 422 no such capability");
}
