#include "actors/commands.hpp"

#include <array>

namespace coordinator {

namespace {

constexpr char format_version = 1;

constexpr std::array<std::string_view, task_status_count> task_status_words = {
    "pending", "blocked", "assigned", "running", "completed", "failed", "cancelled"};
constexpr std::array<std::string_view, 5> worker_status_words = {"idle", "running", "busy", "draining", "offline"};
constexpr std::array<std::string_view, 7> attempt_outcome_words = {
    "none", "completed", "failed", "cancelled", "lease_lost", "worker_offline", "timeout"};
constexpr std::array<std::string_view, 17> result_code_words = {"ok",
                                                                "not_found",
                                                                "conflict",
                                                                "precondition_failed",
                                                                "stale_attempt",
                                                                "worker_unavailable",
                                                                "invalid",
                                                                "dependency_missing",
                                                                "dependency_cycle",
                                                                "idempotency_key_reused",
                                                                "too_many_idempotency_keys",
                                                                "queue_full",
                                                                "maintenance",
                                                                "closed_session",
                                                                "stale_sequence",
                                                                "unreadable",
                                                                "storage_full"};
constexpr std::array<std::string_view, std::variant_size_v<command_body>> body_words = {
    "tick",         "open_session",     "put_key",         "delete_key",   "register_worker", "set_worker_status",
    "drain_worker", "remove_worker",    "submit_tasks",    "claim_tasks",  "complete_task",   "fail_task",
    "cancel_task",  "mark_running",     "expire_attempts", "mark_offline", "report_figures",  "set_maintenance",
    "retire_tasks", "set_storage_alarm"};

template <std::size_t N>
std::string_view word(const std::array<std::string_view, N>& words, std::size_t i) {
  return i < N ? words[i] : std::string_view{"unknown"};
}

template <class Enum, std::size_t N>
std::optional<Enum> from_word(const std::array<std::string_view, N>& words, std::string_view wanted) {
  for (std::size_t i = 0; i < N; ++i)
    if (words[i] == wanted)
      return static_cast<Enum>(i);
  return std::nullopt;
}

bool is_truthy(const capability& x) {
  if (auto flag = std::get_if<bool>(&x))
    return *flag;
  if (auto number = std::get_if<decimal>(&x))
    return number->millionths != 0;
  return !std::get<std::string>(x).empty();
}

bool meets_one(const capability& offered, const capability& required) {
  if (auto flag = std::get_if<bool>(&required); flag && *flag)
    return is_truthy(offered);
  if (offered.index() != required.index())
    return false;
  if (auto number = std::get_if<decimal>(&required))
    return std::get<decimal>(offered) >= *number;
  return offered == required;
}

}  // namespace

std::string_view to_string(task_status x) {
  return word(task_status_words, static_cast<std::size_t>(x));
}
std::string_view to_string(worker_status x) {
  return word(worker_status_words, static_cast<std::size_t>(x));
}
std::string_view to_string(attempt_outcome x) {
  return word(attempt_outcome_words, static_cast<std::size_t>(x));
}
std::string_view to_string(result_code x) {
  return word(result_code_words, static_cast<std::size_t>(x));
}
std::string_view name_of(const command_body& x) {
  return word(body_words, x.index());
}
std::optional<task_status> task_status_from(std::string_view x) {
  return from_word<task_status>(task_status_words, x);
}
std::optional<worker_status> worker_status_from(std::string_view x) {
  return from_word<worker_status>(worker_status_words, x);
}

std::string encode(const command& x) {
  auto bytes = to_bytes(x);
  bytes.insert(bytes.begin(), format_version);
  return bytes;
}

std::optional<command> decode(std::string_view bytes) {
  command x;
  if (bytes.empty() || bytes.front() != format_version || !from_bytes(bytes.substr(1), x))
    return std::nullopt;
  return x;
}

bool meets(const capability_map& offered, const capability_map& required) {
  for (auto& [name, wanted] : required) {
    auto found = offered.find(name);
    if (found == offered.end()) {
      // What a worker does not name it does not have: that meets a wish for `false`, and nothing else.
      if (auto flag = std::get_if<bool>(&wanted); flag && !*flag)
        continue;
      return false;
    }
    if (!meets_one(found->second, wanted))
      return false;
  }
  return true;
}

}  // namespace coordinator
