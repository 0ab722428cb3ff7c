#include "http/worker/task.hpp"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace coordinator {

namespace {

using nlohmann::json;

std::string text_of(const json& object, const char* field) {
  auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

/// Throws json::exception where the types are not the contract's.
void fill_command(child_command& command, const json& task, const std::string& work_dir) {
  command.argv = task.at("command").get<std::vector<std::string>>();
  if (auto env = task.find("env"); env != task.end() && !env->is_null())
    for (auto& [name, value] : env->items())
      command.env[name] = value.get<std::string>();
  command.timeout = std::chrono::milliseconds{task.value("timeout_ms", std::int64_t{0})};
  auto cwd = text_of(task, "cwd");
  auto absolute = !cwd.empty() && cwd.front() == '/';
  command.directory = absolute ? cwd : work_dir.empty() || cwd.empty() ? work_dir + cwd : work_dir + "/" + cwd;
}

}  // namespace

claimed_task read_claimed_task(const json& task, const std::string& worker_id, const std::string& work_dir,
                               std::size_t output_limit) {
  claimed_task result;
  try {
    result.task_id = task.at("task_id").get<std::string>();
    result.attempt = task.at("attempt").get<std::int64_t>();
  } catch (const json::exception&) {
    throw std::invalid_argument("the coordinator gave a task without task_id or attempt");
  }
  result.run_id = text_of(task, "run_id");
  result.command.output_limit = output_limit;
  try {
    fill_command(result.command, task, work_dir);
  } catch (const json::exception& e) {
    result.fault = std::string{"the task cannot be run as it is written: "} + e.what();
  }
  auto& env = result.command.env;
  env["COORDINATOR_TASK_ID"] = result.task_id;
  env["COORDINATOR_ATTEMPT"] = std::to_string(result.attempt);
  env["COORDINATOR_RUN_ID"] = result.run_id;
  env["COORDINATOR_WORKER_ID"] = worker_id;
  return result;
}

const char* outcome_of(const child_result& result) {
  switch (result.end) {
    case child_end::exited:
      return result.exit_code == 0 ? "passed" : "failed";
    case child_end::timed_out:
      return "timeout";
    default:
      return "error";
  }
}

json result_json(const child_result& result) {
  json out = {
      {"exit_code", result.exit_code},          {"outcome", outcome_of(result)},
      {"duration_ms", result.duration.count()}, {"output", result.output},
      {"output_bytes", result.output_bytes},    {"output_truncated", result.output_bytes > result.output.size()}};
  if (result.end == child_end::signalled)
    out["signal"] = result.exit_code - 128;
  return out;
}

}  // namespace coordinator
