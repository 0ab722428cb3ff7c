#include "http/task_json.hpp"

#include <random>

#include "http/uri.hpp"

namespace coordinator {
namespace {

using nlohmann::json;

/// What is handed to a child process ends at the first NUL.
bool holds_nul(const std::string& text) {
  return text.find('\0') != std::string::npos;
}

void check_command(object_reader& reader) {
  auto command = reader.require("command");
  if (!command)
    return;
  if (!command->is_array())
    return reader.fail_type("command", "must be an array of strings");
  if (command->empty())
    return reader.fail("command", "must not be empty");
  for (std::size_t i = 0; i < command->size(); ++i) {
    auto name = "command[" + std::to_string(i) + "]";
    if (!(*command)[i].is_string())
      return reader.fail_type(name, "must be a string");
    if (holds_nul((*command)[i].get_ref<const std::string&>()))
      return reader.fail(name, "must not hold a NUL");
  }
  if (command->front().get_ref<const std::string&>().empty())
    reader.fail("command[0]", "must not be empty");
}

void check_environment(object_reader& reader) {
  auto env = reader.find("env");
  if (!env)
    return;
  if (!env->is_object())
    return reader.fail_type("env", "must be an object of strings");
  for (auto& [name, value] : env->items()) {
    if (!value.is_string())
      return reader.fail_type("env." + name, "must be a string");
    if (name.empty() || name.find('=') != std::string::npos || has_control_character(name))
      return reader.fail("env", "a variable's name must not be empty, nor hold '=' or control characters");
    if (holds_nul(value.get_ref<const std::string&>()))
      return reader.fail("env." + name, "must not hold a NUL");
  }
}

bool read_capability(const json& value, capability& to) {
  if (value.is_boolean())
    to = value.get<bool>();
  else if (value.is_number())
    to = decimal{value.get<double>()};
  else if (value.is_string())
    to = value.get<std::string>();
  else
    return false;
  return true;
}

/// `worker_requirements` holds `capabilities`; figures written directly beside it, as {"memory_gb":16}, mean the same.
capability_map read_requirements(object_reader& reader, std::optional<problem>& failure) {
  auto value = reader.find("worker_requirements");
  if (!value)
    return {};
  if (!value->is_object()) {
    reader.fail_type("worker_requirements", "must be an object");
    return {};
  }
  object_reader inner{*value, reader.path_of("worker_requirements"), failure};
  auto wanted = read_capabilities(inner, "capabilities");
  for (auto& [name, entry] : value->items()) {
    if (name == "capabilities" || entry.is_null())
      continue;
    capability found;
    if (auto why = why_no_id(name); !why.empty())
      inner.fail(name, why);
    else if (!read_capability(entry, found))
      inner.fail_type(name, "must be true, false, a number or a string");
    else
      wanted.insert_or_assign(name, std::move(found));
  }
  return wanted;
}

}  // namespace

capability_map read_capabilities(object_reader& reader, std::string_view name) {
  capability_map out;
  auto value = reader.find(name);
  if (!value)
    return out;
  if (!value->is_array() && !value->is_object()) {
    reader.fail_type(name, "must be a list of names or an object");
    return out;
  }
  auto take = [&](const std::string& path, const std::string& key, capability c) {
    if (auto why = why_no_id(key); !why.empty())
      reader.fail(path, why);
    else
      out.insert_or_assign(key, std::move(c));
  };
  if (value->is_array()) {
    for (std::size_t i = 0; i < value->size(); ++i) {
      auto path = std::string{name} + "[" + std::to_string(i) + "]";
      if ((*value)[i].is_string())
        take(path, (*value)[i].get_ref<const std::string&>(), true);
      else
        reader.fail_type(path, "must be a string");
    }
    return out;
  }
  for (auto& [key, entry] : value->items()) {
    auto path = std::string{name} + "." + key;
    capability c;
    if (read_capability(entry, c))
      take(path, key, std::move(c));
    else
      reader.fail_type(path, "must be true, false, a number or a string");
  }
  return out;
}

json to_json(const capability_map& capabilities) {
  auto out = json::object();
  for (auto& [name, value] : capabilities) {
    if (auto flag = std::get_if<bool>(&value))
      out[name] = *flag;
    else if (auto number = std::get_if<decimal>(&value))
      out[name] = number->value();
    else
      out[name] = std::get<std::string>(value);
  }
  return out;
}

task_spec read_task(json task, const std::string& at, std::optional<problem>& failure) {
  object_reader reader{task, at, failure};
  task_spec spec;
  spec.task_id = reader.optional_id("task_id");
  if (is_reserved_task_id(spec.task_id))
    reader.fail("task_id", "must not be the name of a route");
  spec.run_id = reader.optional_id("run_id");
  spec.type = reader.text("type", {}, limits::id_size);
  spec.priority = static_cast<std::int32_t>(reader.integer("priority", 0, INT32_MIN, INT32_MAX));
  spec.depends_on = reader.optional_ids("depends_on");
  spec.requirements = read_requirements(reader, failure);
  spec.timeout_ms = reader.integer("timeout_ms", 0, 0, limits::timeout_ms);
  spec.max_attempts = static_cast<std::uint32_t>(reader.integer("max_attempts", 3, 1, limits::task_attempts));
  check_command(reader);
  check_environment(reader);
  if (reader.failed())
    return spec;
  if (spec.task_id.empty()) {
    spec.task_id = make_task_id();
    task["task_id"] = spec.task_id;
  }
  spec.spec_json = to_text(task);
  return spec;
}

std::variant<submission, problem> read_submission(const json& body) {
  std::optional<problem> failure;
  submission out;
  object_reader reader{body, {}, failure};
  auto tasks = reader.array("tasks");
  if (tasks) {
    if (tasks->empty() || tasks->size() > limits::batch_tasks)
      reader.fail("tasks", "must be 1 to " + std::to_string(limits::batch_tasks) + " tasks");
    // A task's field beside the list would be passed over.
    reader.allow_only({"tasks"});
    for (std::size_t i = 0; i < tasks->size() && !failure; ++i)
      out.command.tasks.push_back(read_task((*tasks)[i], "tasks[" + std::to_string(i) + "]", failure));
  } else if (!failure) {
    out.single = true;
    out.command.tasks.push_back(read_task(body, {}, failure));
  }
  if (failure)
    return std::move(*failure);
  return out;
}

std::string make_task_id() {
  // One generator a thread, from the system's entropy: a lock or a device read for each task would be felt.
  thread_local std::mt19937_64 engine = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
    return std::mt19937_64{seed};
  }();
  std::string out;
  for (int i = 0; i < 2; ++i)
    for (auto x = engine(), n = std::uint64_t{16}; n > 0; --n, x >>= 4)
      out.push_back("0123456789abcdef"[x & 15]);
  return out;
}

bool is_reserved_task_id(std::string_view id) {
  return id == "submit" || id == "claim";
}

bool is_reserved_worker_id(std::string_view id) {
  return id == "register" || id == "status";
}

}  // namespace coordinator
