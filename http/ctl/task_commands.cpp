#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "http/ctl/commands.hpp"
#include "http/ctl/progress.hpp"
#include "http/ctl/table.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;
using clock = std::chrono::steady_clock;

/// Below the contract's 10,000 tasks and 8 MiB of one request.
constexpr std::size_t largest_batch = 10'000;
constexpr std::size_t largest_body = 4 << 20;

constexpr const char* unfinished[] = {"pending", "blocked", "assigned", "running"};

bool is_final(const std::string& status) {
  return status == "completed" || status == "failed" || status == "cancelled";
}

json one_task(const submit_options& o) {
  json task = {{"command", o.command}};
  auto set = [&](const char* field, const auto& value, bool given) {
    if (given)
      task[field] = value;
  };
  set("task_id", o.task_id, !o.task_id.empty());
  set("run_id", o.run_id, !o.run_id.empty());
  set("type", o.type, !o.type.empty());
  set("cwd", o.cwd, !o.cwd.empty());
  set("priority", o.priority, o.priority != 0);
  set("timeout_ms", o.timeout_ms, o.timeout_ms != 0);
  set("max_attempts", o.max_attempts, o.max_attempts != 0);
  set("depends_on", o.depends_on, !o.depends_on.empty());
  if (!o.requires_capabilities.empty())
    task["worker_requirements"]["capabilities"] = o.requires_capabilities;
  for (auto& entry : o.env) {
    auto equals = entry.find('=');
    if (equals == std::string::npos || equals == 0)
      throw ctl_error(exit_status::usage, "--env: '" + entry + "' is not NAME=VALUE");
    task["env"][entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  return task;
}

std::vector<json> parse_tasks(const std::string& text, const std::string& file) {
  auto whole = json::parse(text, nullptr, false);
  if (whole.is_object() && whole.contains("tasks"))
    whole = whole["tasks"];
  if (whole.is_array())
    return whole.get<std::vector<json>>();
  if (whole.is_object())
    return {whole};
  std::vector<json> result;
  std::size_t number = 1;
  for (std::size_t begin = 0; begin < text.size(); ++number) {
    auto end = std::min(text.find('\n', begin), text.size());
    auto line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos)
      continue;
    result.push_back(json::parse(line, nullptr, false));
    if (!result.back().is_object())
      throw ctl_error(exit_status::usage, file + ": line " + std::to_string(number) + " is not a task's JSON object");
  }
  return result;
}

std::vector<json> tasks_of(const submit_options& o) {
  if (o.file.empty()) {
    if (o.command.empty())
      throw ctl_error(exit_status::usage, "give a command after --, or tasks with --file");
    return {one_task(o)};
  }
  std::ifstream stream;
  if (o.file != "-") {
    stream.open(o.file, std::ios::binary);
    if (!stream)
      throw ctl_error(exit_status::usage, "--file: cannot read " + o.file);
  }
  auto& in = o.file == "-" ? std::cin : stream;
  auto tasks = parse_tasks({std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}}, o.file);
  if (tasks.empty())
    throw ctl_error(exit_status::usage, o.file + " holds no task");
  for (auto& task : tasks)
    if (!o.run_id.empty() && task.is_object() && !task.contains("run_id"))
      task["run_id"] = o.run_id;
  return tasks;
}

std::string task_path(const std::string& id) {
  return "/api/tasks/" + encode_component(id);
}

std::string command_line(const json& task) {
  std::string result;
  for (auto& part : task.value("command", json::array()))
    result += (result.empty() ? "" : " ") + (part.is_string() ? part.get<std::string>() : to_text(part));
  return for_terminal(result, 60);
}

void print_task(session& s, const json& task) {
  s.out << "task     " << for_terminal(text_at(task, "task_id")) << "\n"
        << "status   " << text_at(task, "status") << "\n"
        << "command  " << command_line(task) << "\n";
  for (auto field : {"run_id", "type", "priority", "error"})
    if (auto text = text_at(task, field); !text.empty())
      s.out << std::string{field} << std::string(9 - std::string_view{field}.size(), ' ') << for_terminal(text) << "\n";
  table attempts{{"ATTEMPT", "WORKER", "ASSIGNED", "ENDED", "OUTCOME", "ERROR"}};
  for (auto& attempt : task.value("attempts", json::array()))
    attempts.add({text_at(attempt, "attempt"), text_at(attempt, "worker_id"), time_at(attempt, "assigned_ms"),
                  time_at(attempt, "ended_ms"), text_at(attempt, "outcome"),
                  for_terminal(text_at(attempt, "error"), 60)});
  if (attempts.size() > 0)
    attempts.print(s.out);
  auto result = task.value("result", json{});
  if (!result.is_object())
    return;
  s.out << "outcome  " << text_at(result, "outcome") << ", exit code " << text_at(result, "exit_code") << ", "
        << text_at(result, "duration_ms") << " ms\n"
        << text_at(result, "output");
}

/// A task that goes on from one status to the next between two of the questions is seen twice, or not at all.
std::size_t count_unfinished(session& s, const std::string& run_id) {
  std::set<std::string> ids;
  for (auto status : unfinished)
    for_each(s, "/api/tasks?run_id=" + encode_component(run_id) + "&status=" + status, "tasks", 0,
             [&](json& task) { ids.insert(text_at(task, "task_id")); });
  return ids.size();
}

std::vector<json> wait_for_ids(session& s, const wait_options& options) {
  progress shown{s.err, s.terminal, "waiting"};
  auto deadline = clock::now() + options.timeout;
  std::vector<json> ended;
  for (auto& id : options.ids) {
    shown.show(ended.size(), options.ids.size());
    auto task = whole_task(s, id);
    for (auto pause = std::chrono::milliseconds{50}; !is_final(text_at(task, "status"));
         pause = std::min(pause * 2, std::chrono::milliseconds{1000})) {
      if (options.timeout.count() > 0 && clock::now() >= deadline)
        throw ctl_error(exit_status::unavailable, "not in time: " + id + " is still " + text_at(task, "status"));
      std::this_thread::sleep_for(pause);
      task = whole_task(s, id);
    }
    ended.push_back(std::move(task));
  }
  shown.show(ended.size(), options.ids.size());
  return ended;
}

}  // namespace

std::vector<std::string> submit_all(session& s, std::vector<json> tasks) {
  std::vector<std::string> ids;
  auto flush = [&](json& batch) {
    if (batch.empty())
      return;
    auto answer = post(s, "/api/tasks/submit", {{"tasks", std::move(batch)}});
    for (auto& id : answer.value("task_ids", json::array()))
      ids.push_back(id.get<std::string>());
    batch = json::array();
  };
  auto batch = json::array();
  std::size_t size = 0;
  for (auto& task : tasks) {
    auto task_size = to_text(task).size();
    if (batch.size() == largest_batch || (size + task_size > largest_body && !batch.empty())) {
      flush(batch);
      size = 0;
    }
    size += task_size;
    batch.push_back(std::move(task));
  }
  flush(batch);
  return ids;
}

exit_status submit(session& s, const submit_options& options) {
  auto ids = submit_all(s, tasks_of(options));
  if (s.as_json)
    s.out << to_text({{"task_ids", ids}}, 2) << "\n";
  else
    for (auto& id : ids)
      s.out << id << "\n";
  s.out.flush();
  if (!options.wait)
    return exit_status::ok;
  wait_options wait;
  wait.ids = std::move(ids);
  return wait_for_tasks(s, wait);
}

exit_status list_tasks(session& s, const list_options& options) {
  std::string path = "/api/tasks";
  auto filter = [&](const char* field, const std::string& value) {
    if (!value.empty())
      path += (path.find('?') == std::string::npos ? "?" : "&") + std::string{field} + "=" + encode_component(value);
  };
  filter("status", options.status);
  filter("worker_id", options.worker_id);
  filter("run_id", options.run_id);
  filter("type", options.type);
  auto all = json::array();
  for_each(s, path, "tasks", options.limit, [&](json& task) { all.push_back(std::move(task)); });
  if (s.as_json) {
    s.out << to_text(all, 2) << "\n";
    return exit_status::ok;
  }
  table rows{{"TASK", "RUN", "STATUS", "OUTCOME", "ATTEMPT", "WORKER", "COMMAND"}};
  for (auto& task : all)
    rows.add({text_at(task, "task_id"), text_at(task, "run_id"), text_at(task, "status"),
              text_at(task.value("result", json{}), "outcome"), text_at(task, "attempt"), text_at(task, "worker_id"),
              command_line(task)});
  rows.print(s.out);
  return exit_status::ok;
}

json whole_task(session& s, const std::string& id) {
  return get(s, task_path(id));
}

exit_status show_task(session& s, const std::string& id) {
  auto task = whole_task(s, id);
  if (s.as_json)
    s.out << to_text(task, 2) << "\n";
  else
    print_task(s, task);
  return exit_status::ok;
}

exit_status cancel_tasks(session& s, const std::vector<std::string>& ids) {
  for (auto& id : ids) {
    post(s, task_path(id) + "/cancel", json::object());
    if (!s.as_json)
      s.out << "cancelled " << for_terminal(id) << "\n";
  }
  if (s.as_json)
    s.out << to_text({{"cancelled", ids}}, 2) << "\n";
  return exit_status::ok;
}

std::vector<json> tasks_of_run(session& s, const std::string& run_id) {
  std::vector<json> result;
  for_each(s, "/api/tasks?run_id=" + encode_component(run_id), "tasks", 0,
           [&](json& task) { result.push_back(std::move(task)); });
  return result;
}

bool wait_for_runs(session& s, const wait_options& options) {
  progress shown{s.err, s.terminal, "tasks"};
  auto deadline = clock::now() + options.timeout;
  std::size_t total = 0;
  for (auto& run : options.run_ids) {
    auto tasks = tasks_of_run(s, run).size();
    if (tasks == 0)
      throw ctl_error(exit_status::not_found, "no task has the run id " + run);
    total += tasks;
  }
  for (;;) {
    std::size_t left = 0;
    for (auto& run : options.run_ids)
      left += count_unfinished(s, run);
    // More may have been submitted since.
    total = std::max(total, left);
    shown.show(total - left, total);
    if ((total - left) * 100 >= total * static_cast<std::size_t>(options.until_percent))
      return true;
    if (options.timeout.count() > 0 && clock::now() >= deadline)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{500});
  }
}

exit_status wait_for_tasks(session& s, const wait_options& options) {
  if (options.ids.empty() == options.run_ids.empty())
    throw ctl_error(exit_status::usage, "give task ids, or else --run-id");
  if (!options.ids.empty())
    return print_verdicts(s, wait_for_ids(s, options));
  auto first_round = options;
  for (;;) {
    if (!wait_for_runs(s, first_round))
      throw ctl_error(exit_status::unavailable, "not in time: the tasks did not end within the time-out");
    if (options.until_percent < 100)
      return exit_status::ok;
    // A task may have slipped through the questions above.
    std::vector<json> all;
    for (auto& run : options.run_ids)
      for (auto& task : tasks_of_run(s, run))
        all.push_back(std::move(task));
    if (std::all_of(all.begin(), all.end(), [](auto& task) { return is_final(text_at(task, "status")); }))
      return print_verdicts(s, all);
  }
}

}  // namespace coordinator::ctl
