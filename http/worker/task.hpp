#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "http/worker/child.hpp"

namespace coordinator {

/// One attempt at one task, as a claim's answer gives it.
struct claimed_task {
  std::string task_id;
  std::int64_t attempt = 0;
  std::string run_id;
  child_command command;
  std::string fault;  ///< Not empty: why `command` cannot be made of what came.
};

/// Reads one element of a claim's `tasks`. `work_dir` is where a task without `cwd`, or with a relative one, runs;
/// besides its own `env` a task finds COORDINATOR_TASK_ID, _ATTEMPT, _RUN_ID and _WORKER_ID. Throws
/// std::invalid_argument only if `task_id` or `attempt` is missing, since then nothing can be reported.
claimed_task read_claimed_task(const nlohmann::json& task, const std::string& worker_id, const std::string& work_dir,
                               std::size_t output_limit);

/// `passed`, `failed`, `error` (a signal) or `timeout`.
const char* outcome_of(const child_result& result);

/// The `result` of the HTTP contract, with `duration_ms`, `output_bytes` and `output_truncated` besides.
nlohmann::json result_json(const child_result& result);

}  // namespace coordinator
