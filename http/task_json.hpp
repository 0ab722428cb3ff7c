#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>

#include "actors/commands.hpp"
#include "http/json_reader.hpp"

namespace coordinator {

/// A submission, and whether it was one task by itself or a list.
struct submission {
  submit_tasks command;
  bool single = false;
};

/// Reads the body of POST /api/tasks/submit. Tasks without an id get a random one. All or nothing: the first thing
/// wrong in any of up to 10,000 tasks fails the whole, named as "tasks[17].command" or, in a single task, "command".
std::variant<submission, problem> read_submission(const nlohmann::json& body);

/// Reads one task; what is wrong is noted under the path `at`.
task_spec read_task(nlohmann::json task, const std::string& at, std::optional<problem>& failure);

/// Capabilities as a list of names or as an object of name and bool, number or string.
capability_map read_capabilities(object_reader& reader, std::string_view name);
nlohmann::json to_json(const capability_map& capabilities);

/// 32 hexadecimal digits that nobody has drawn before.
std::string make_task_id();

/// Ids that a route's fixed part hides: GET /api/tasks/claim is no task.
bool is_reserved_task_id(std::string_view id);
bool is_reserved_worker_id(std::string_view id);

}  // namespace coordinator
