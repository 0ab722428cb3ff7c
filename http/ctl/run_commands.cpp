#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>

#include "http/ctl/commands.hpp"
#include "http/ctl/doctest_cases.hpp"
#include "http/ctl/table.hpp"
#include "http/worker/child.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;

constexpr std::size_t longest_list = 16 << 20;

std::string absolute_program(const std::string& program) {
  std::error_code error;
  auto path = std::filesystem::canonical(program, error);
  if (error)
    throw ctl_error(exit_status::usage, "cannot run " + program + ": " + error.message());
  return path.string();
}

std::vector<doctest_case> list_cases(const std::string& program, const doctest_options& options) {
  child_command command;
  command.argv = {program, "--list-test-cases", "--reporters=xml"};
  if (!options.filter.empty())
    command.argv.push_back("--test-case=" + options.filter);
  command.timeout = std::chrono::seconds{60};
  command.output_limit = longest_list;
  stop_event never;
  auto result = run_child(command, never, nullptr);
  if (result.end == child_end::not_started)
    throw ctl_error(exit_status::usage, result.error);
  auto cases = parse_doctest_list(result.output);
  if (cases.empty())
    throw ctl_error(exit_status::usage,
                    program + " lists no test case: is it a doctest program, and does the filter fit?");
  return cases;
}

std::vector<json> tasks_for(const std::vector<doctest_case>& cases, const std::string& program,
                            const doctest_options& options, const std::string& run_id) {
  std::map<std::string, int> named;
  for (auto& one : cases)
    ++named[one.name];
  std::vector<json> tasks;
  for (auto& one : cases) {
    char number[16];
    std::snprintf(number, sizeof number, "-%05zu", tasks.size() + 1);
    std::vector<std::string> command{program, doctest_filter("--test-case", one.name), "--case-sensitive=true"};
    if (named[one.name] > 1)
      command.push_back(doctest_filter("--source-file", "*" + one.file));
    command.insert(command.end(), options.arguments.begin(), options.arguments.end());
    json task = {{"task_id", run_id + number},
                 {"run_id", run_id},
                 {"type", "doctest"},
                 {"name", one.name},
                 {"file", one.file},
                 {"command", command},
                 {"cwd", std::filesystem::current_path().string()},
                 {"timeout_ms", options.timeout_ms},
                 {"max_attempts", options.max_attempts}};
    if (options.priority != 0)
      task["priority"] = options.priority;
    if (!options.requires_capabilities.empty())
      task["worker_requirements"]["capabilities"] = options.requires_capabilities;
    tasks.push_back(std::move(task));
  }
  return tasks;
}

std::string name_of(const json& task) {
  auto name = text_at(task, "name");
  return name.empty() ? text_at(task, "task_id") : name;
}

void print_failure(session& s, const json& task, const std::string& verdict) {
  auto result = task.value("result", json::object());
  s.out << verdict << ": " << for_terminal(name_of(task)) << " (" << for_terminal(text_at(task, "task_id"));
  if (auto worker = text_at(task, "worker_id"); !worker.empty())
    s.out << " on " << for_terminal(worker);
  s.out << ")\n";
  auto output = text_at(result, "output");
  if (auto error = text_at(task, "error"); !error.empty())
    output += (output.empty() || output.back() == '\n' ? "" : "\n") + error;
  // Line by line, so that a test's output cannot steer the reader's terminal.
  for (std::size_t begin = 0; begin < output.size();) {
    auto end = std::min(output.find('\n', begin), output.size());
    s.out << "    " << for_terminal(output.substr(begin, end - begin)) << "\n";
    begin = end + 1;
  }
}

/// The task with its output where that is needed: to show why it did not pass, or to see that doctest ran something.
json with_output(session& s, const json& task) {
  auto result = task.value("result", json{});
  auto complete = !result.is_object() || result.contains("output");
  auto needed = text_at(result, "outcome") != "passed" || text_at(task, "type") == "doctest";
  return complete || !needed ? task : whole_task(s, text_at(task, "task_id"));
}

}  // namespace

std::string verdict_of(const json& task) {
  auto status = text_at(task, "status");
  if (status == "failed")
    return "error";
  if (status != "completed")
    return status;
  auto result = task.value("result", json::object());
  auto outcome = text_at(result, "outcome");
  // A filter that matches nothing is a success to doctest, and would be a test that can never fail.
  if (outcome == "passed" && text_at(task, "type") == "doctest" && ran_no_case(text_at(result, "output")))
    return "error";
  return outcome.empty() ? "error" : outcome;
}

exit_status print_verdicts(session& s, const std::vector<json>& tasks) {
  std::map<std::string, std::size_t> counts{
      {"passed", 0}, {"failed", 0}, {"error", 0}, {"timeout", 0}, {"cancelled", 0}};
  auto failures = json::array();
  for (auto& listed : tasks) {
    auto task = with_output(s, listed);
    auto verdict = verdict_of(task);
    ++counts[verdict];
    if (verdict == "passed")
      continue;
    failures.push_back({{"task_id", text_at(task, "task_id")}, {"name", name_of(task)}, {"verdict", verdict}});
    if (!s.as_json)
      print_failure(s, task, verdict);
  }
  auto status = counts["passed"] == tasks.size() ? exit_status::ok : exit_status::failed;
  if (s.as_json) {
    json report = counts;
    report["total"] = tasks.size();
    report["not_passed"] = std::move(failures);
    s.out << to_text(report, 2) << "\n";
    return status;
  }
  s.out << tasks.size() << (tasks.size() == 1 ? " task: " : " tasks: ") << counts["passed"] << " passed, "
        << counts["failed"] << " failed, " << counts["error"] << " errors, " << counts["timeout"] << " timed out, "
        << counts["cancelled"] << " cancelled\n";
  return status;
}

exit_status run_doctest(session& s, const doctest_options& options) {
  auto program = absolute_program(options.program);
  auto cases = list_cases(program, options);
  auto run_id = options.run_id.empty() ? "run-" + random_id().substr(0, 12) : options.run_id;
  auto ids = submit_all(s, tasks_for(cases, program, options, run_id));
  s.err << "run " << run_id << ": " << ids.size() << " test cases of " << options.program << std::endl;
  if (options.wait) {
    wait_options wait;
    wait.run_ids = {run_id};
    return wait_for_tasks(s, wait);
  }
  if (s.as_json)
    s.out << to_text({{"run_id", run_id}, {"task_ids", ids}}, 2) << "\n";
  else
    for (auto& id : ids)
      s.out << id << "\n";
  return exit_status::ok;
}

}  // namespace coordinator::ctl
