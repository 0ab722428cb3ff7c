#include <unordered_set>

#include "actors/commands.hpp"

namespace coordinator {

namespace {

command_result invalid(std::string field, std::string detail) {
  command_result result;
  result.code = result_code::invalid;
  result.field = std::move(field);
  result.detail = std::move(detail);
  return result;
}

/// The length of the UTF-8 sequence at the front, 0 if it is none: overlong forms, surrogates and values past
/// U+10FFFF are none.
std::size_t utf8_sequence(std::string_view x) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(x[i]); };
  auto continues = [&](std::size_t i) { return i < x.size() && (byte(i) & 0xc0) == 0x80; };
  auto lead = byte(0);
  if (lead < 0x80)
    return 1;
  if (lead >= 0xc2 && lead <= 0xdf)
    return continues(1) ? 2 : 0;
  if ((lead & 0xf0) == 0xe0) {
    if (!continues(1) || !continues(2) || (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f))
      return 0;
    return 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (!continues(1) || !continues(2) || !continues(3) || (lead == 0xf0 && byte(1) < 0x90) ||
        (lead == 0xf4 && byte(1) > 0x8f))
      return 0;
    return 4;
  }
  return 0;
}

bool is_clean_text(std::string_view x, std::size_t most) {
  if (x.size() > most)
    return false;
  while (!x.empty()) {
    auto front = static_cast<unsigned char>(x.front());
    if (front < 0x20 || front == 0x7f)
      return false;
    auto length = utf8_sequence(x);
    if (length == 0)
      return false;
    x.remove_prefix(length);
  }
  return true;
}

command_result bad_id(std::string field) {
  return invalid(std::move(field), "must be 1 to 256 bytes of UTF-8 without control characters");
}

command_result check_capabilities(const capability_map& xs, const std::string& field) {
  if (xs.size() > limits::requirements)
    return invalid(field, "at most 64 names");
  constexpr auto bound = static_cast<std::int64_t>(limits::capability_number * 1e6);
  for (auto& [name, value] : xs) {
    if (!is_valid_id(name))
      return bad_id(field);
    if (auto number = std::get_if<decimal>(&value);
        number && (number->millionths > bound || number->millionths < -bound))
      return invalid(field + "." + name, "must be a number between -1e12 and 1e12");
    if (auto text = std::get_if<std::string>(&value); text && !is_clean_text(*text, limits::id_size))
      return invalid(field + "." + name, "must be at most 256 bytes of UTF-8 without control characters");
  }
  return {};
}

command_result check_task(const task_spec& x, const std::string& at) {
  if (!is_valid_id(x.task_id))
    return bad_id(at + "task_id");
  if (!is_clean_text(x.run_id, limits::id_size))
    return bad_id(at + "run_id");
  if (!is_clean_text(x.type, limits::id_size))
    return bad_id(at + "type");
  if (x.depends_on.size() > limits::task_dependencies)
    return invalid(at + "depends_on", "at most 1000 tasks");
  for (std::size_t i = 0; i < x.depends_on.size(); ++i)
    if (!is_valid_id(x.depends_on[i]))
      return bad_id(at + "depends_on[" + std::to_string(i) + "]");
  if (auto bad = check_capabilities(x.requirements, at + "worker_requirements.capabilities"); !bad.ok())
    return bad;
  if (x.timeout_ms < 0 || x.timeout_ms > limits::timeout_ms)
    return invalid(at + "timeout_ms", "must be 0 (none) to 31622400000");
  if (x.max_attempts < 1 || x.max_attempts > limits::task_attempts)
    return invalid(at + "max_attempts", "must be 1 to 1000");
  if (x.spec_json.size() > limits::spec_size)
    return invalid(at.empty() ? at : at.substr(0, at.size() - 1), "a task is at most 1 MiB of JSON");
  return {};
}

command_result check_attempts(const std::vector<attempt_ref>& xs) {
  for (auto& x : xs)
    if (!is_valid_id(x.task_id))
      return bad_id("attempts");
  return {};
}

/// One overload a body.
struct checker {
  command_result operator()(const tick&) const { return {}; }
  command_result operator()(const set_maintenance&) const { return {}; }
  command_result operator()(const set_storage_alarm&) const { return {}; }
  command_result operator()(const retire_tasks& x) const {
    return x.limit >= 1 && x.limit <= limits::retired_tasks ? command_result{} : invalid("limit", "must be 1 to 500");
  }
  command_result operator()(const open_session& x) const {
    return is_valid_id(x.node.value) ? command_result{} : bad_id("node");
  }
  command_result operator()(const put_key& x) const {
    if (x.value.size() > limits::value_size)
      return invalid("value", "at most 1 MiB");
    return key(x.key);
  }
  command_result operator()(const delete_key& x) const { return key(x.key); }
  command_result operator()(const register_worker& x) const {
    if (!is_valid_id(x.worker_id))
      return bad_id("worker_id");
    if (!is_clean_text(x.host, limits::id_size))
      return bad_id("host");
    if (x.port > 65535)
      return invalid("port", "must be 0 to 65535");
    if (x.slots < 1 || x.slots > limits::worker_slots)
      return invalid("slots", "must be 1 to 10000");
    if (x.status >= worker_status::offline)
      return invalid("status", "must be idle, running, busy or draining");
    if (x.capabilities_json.size() > limits::error_size)
      return invalid("capabilities", "at most 64 KiB");
    return check_capabilities(x.capabilities, "capabilities");
  }
  command_result operator()(const set_worker_status& x) const {
    if (x.status >= worker_status::offline)
      return invalid("status", "must be idle, running, busy or draining");
    if (!is_clean_text(x.current_task, limits::id_size))
      return bad_id("current_task");
    return worker(x.worker_id);
  }
  command_result operator()(const drain_worker& x) const { return worker(x.worker_id); }
  command_result operator()(const remove_worker& x) const { return worker(x.worker_id); }
  command_result operator()(const submit_tasks& x) const {
    if (x.tasks.empty() || x.tasks.size() > limits::batch_tasks)
      return invalid("tasks", "must be 1 to 10000 tasks");
    std::unordered_set<std::string_view> seen;
    seen.reserve(x.tasks.size());
    for (std::size_t i = 0; i < x.tasks.size(); ++i) {
      auto at = "tasks[" + std::to_string(i) + "].";
      if (auto bad = check_task(x.tasks[i], at); !bad.ok())
        return bad;
      if (!seen.insert(x.tasks[i].task_id).second)
        return invalid(at + "task_id", "appears twice in one submission");
    }
    return {};
  }
  command_result operator()(const claim_tasks& x) const {
    if (x.max_tasks < 1 || x.max_tasks > limits::claim_tasks)
      return invalid("max_tasks", "must be 1 to 1000");
    return worker(x.worker_id);
  }
  command_result operator()(const complete_task& x) const {
    if (x.result_json.size() > limits::spec_size)
      return invalid("result", "at most 1 MiB of JSON");
    return task(x.task_id, x.worker_id);
  }
  command_result operator()(const fail_task& x) const {
    if (x.error.size() > limits::error_size)
      return invalid("error", "at most 64 KiB");
    if (x.result_json.size() > limits::spec_size)
      return invalid("result", "at most 1 MiB of JSON");
    return task(x.task_id, x.worker_id);
  }
  command_result operator()(const cancel_task& x) const {
    return is_valid_id(x.task_id) ? command_result{} : bad_id("task_id");
  }
  command_result operator()(const mark_running& x) const { return check_attempts(x.attempts); }
  command_result operator()(const expire_attempts& x) const {
    for (auto& each : x.attempts) {
      if (!is_valid_id(each.attempt.task_id))
        return bad_id("attempts");
      if (each.reason < attempt_outcome::lease_lost || each.reason > attempt_outcome::timeout)
        return invalid("attempts", "reason must be lease_lost, worker_offline or timeout");
    }
    return {};
  }
  command_result operator()(const mark_offline& x) const {
    for (auto& id : x.workers)
      if (!is_valid_id(id))
        return bad_id("workers");
    return {};
  }
  command_result operator()(const report_figures& x) const {
    for (auto& each : x.workers)
      if (!is_valid_id(each.worker_id))
        return bad_id("workers");
    return {};
  }

 private:
  static command_result key(const std::string& x) {
    if (x.empty() || !is_clean_text(x, limits::key_size))
      return invalid("key", "must be 1 to 512 bytes of UTF-8 without control characters");
    return {};
  }
  static command_result worker(const std::string& x) { return is_valid_id(x) ? command_result{} : bad_id("worker_id"); }
  static command_result task(const std::string& task_id, const std::string& worker_id) {
    return is_valid_id(task_id) ? worker(worker_id) : bad_id("task_id");
  }
};

}  // namespace

bool is_valid_id(std::string_view id) {
  return !id.empty() && is_clean_text(id, limits::id_size);
}

command_result validate(const command_body& x) {
  return std::visit(checker{}, x);
}

}  // namespace coordinator
