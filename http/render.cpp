#include "http/render.hpp"

#include <algorithm>
#include <array>

#include "http/uri.hpp"

namespace coordinator {
namespace {

using json = nlohmann::ordered_json;

/// Text that was parsed before it was stored; null if that should not hold.
json parsed(const std::string& text) {
  auto value = json::parse(text, nullptr, false);
  return value.is_discarded() ? json{} : value;
}

json parsed_object(const std::string& text) {
  auto value = parsed(text);
  return value.is_object() ? value : json::object();
}

/// A time that has not come is null, not the year 1970.
json time_or_null(std::int64_t ms) {
  return ms > 0 ? json(ms) : json{};
}
json text_or_null(const std::string& text) {
  return text.empty() ? json{} : json(text);
}

json render(const attempt_view& attempt) {
  json out;
  out["attempt"] = attempt.attempt;
  out["worker_id"] = attempt.worker_id;
  out["assigned_ms"] = time_or_null(attempt.assigned_ms);
  out["started_ms"] = time_or_null(attempt.started_ms);
  out["ended_ms"] = time_or_null(attempt.ended_ms);
  out["outcome"] = attempt.outcome == attempt_outcome::none ? json{} : json(to_string(attempt.outcome));
  out["error"] = text_or_null(attempt.error);
  return out;
}

constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

json render(const task_view& task, bool whole) {
  auto out = parsed_object(task.spec_json);
  out["task_id"] = task.task_id;
  out["priority"] = task.priority;
  out["max_attempts"] = task.max_attempts;
  out["status"] = to_string(task.status);
  out["worker_id"] = text_or_null(task.worker_id);
  out["attempt"] = task.attempt;
  out["submitted_ms"] = time_or_null(task.submitted_ms);
  out["started_ms"] = time_or_null(task.started_ms);
  out["finished_ms"] = time_or_null(task.finished_ms);
  if (task.status == task_status::blocked)
    out["waiting_for"] = task.waiting_for;
  out["error"] = text_or_null(task.error);
  out["result"] = task.result_json.empty() ? json{} : parsed(task.result_json);
  if (!whole) {
    if (out["result"].is_object())
      out["result"].erase("output");
    return out;
  }
  auto attempts = json::array();
  for (auto& attempt : task.attempts)
    attempts.push_back(render(attempt));
  out["attempts"] = std::move(attempts);
  return out;
}

json render(const worker_view& worker) {
  json out;
  out["worker_id"] = worker.worker_id;
  out["host"] = worker.host;
  out["port"] = worker.port;
  out["capabilities"] = worker.capabilities_json.empty() ? json::array() : parsed(worker.capabilities_json);
  out["slots"] = worker.slots;
  out["status"] = to_string(worker.status);
  out["current_task"] = text_or_null(worker.current_task);
  auto running = json::array();
  for (auto& attempt : worker.attempts)
    running.push_back({{"task_id", attempt.task_id}, {"attempt", attempt.attempt}});
  out["running"] = std::move(running);
  out["cpu_usage"] = worker.cpu_usage;
  out["memory_usage"] = worker.memory_usage;
  out["gpu_usage"] = worker.gpu_usage;
  out["registered_ms"] = time_or_null(worker.registered_ms);
  out["last_heartbeat_ms"] = time_or_null(worker.last_heartbeat_ms);
  out["session"] = worker.session;
  return out;
}

json render(const assignment& given, std::int64_t lease_ms) {
  auto out = parsed_object(given.spec_json);
  out["task_id"] = given.task_id;
  out["attempt"] = given.attempt;
  out["lease_ms"] = lease_ms;
  return out;
}

json render(const key_view& key) {
  json out;
  out["key"] = key.key;
  out["version"] = key.version;
  out["size"] = key.value.size();
  out["updated_ms"] = time_or_null(key.updated_ms);
  return out;
}

json render(const run_view& run, std::int64_t now_ms) {
  json out;
  out["run_id"] = run.run_id;
  out["tasks"] = run.tasks;
  auto counts = json::object();
  for (std::size_t i = 0; i < task_status_count; ++i)
    counts[std::string{to_string(static_cast<task_status>(i))}] = run.by_status[i];
  out["by_status"] = std::move(counts);
  out["passed"] = run.passed;
  out["submitted_ms"] = time_or_null(run.submitted_ms);
  out["finished_ms"] = time_or_null(run.finished_ms);
  out["duration_ms"] = std::max<std::int64_t>((run.finished_ms > 0 ? run.finished_ms : now_ms) - run.submitted_ms, 0);
  return out;
}

json render(const cluster_view& cluster) {
  json out;
  out["leader"] = text_or_null(cluster.leader.value);
  out["term"] = cluster.term.value;
  std::size_t voters = 0;
  std::size_t healthy = 0;
  auto members = json::array();
  for (auto& m : cluster.members) {
    voters += m.who.voter ? 1 : 0;
    healthy += m.who.voter && m.healthy ? 1 : 0;
    json one;
    one["node_id"] = m.who.id.value;
    one["http_address"] = m.who.http_address;
    one["cluster_address"] = m.who.cluster_address;
    one["role"] = m.who.id == cluster.leader ? "LEADER" : m.who.voter ? "FOLLOWER" : "LEARNER";
    one["voter"] = m.who.voter;
    one["match_index"] = m.match_index.value;
    one["lag"] = cluster.last_log_index > m.match_index ? cluster.last_log_index - m.match_index : 0;
    one["last_contact_ms"] = m.last_contact_ms >= 0 ? json(m.last_contact_ms) : json{};
    one["healthy"] = m.healthy;
    one["rtt_ms"] = m.rtt_us >= 0 ? json(static_cast<double>(m.rtt_us) / 1000) : json{};
    members.push_back(std::move(one));
  }
  out["members"] = std::move(members);
  std::size_t quorum = voters == 0 ? 0 : voters / 2 + 1;
  out["quorum"] = {{"size", quorum}, {"healthy", healthy}};
  out["failure_tolerance"] = healthy > quorum ? healthy - quorum : 0;
  return out;
}

json render(const membership_result& change) {
  json out;
  out["success"] = true;
  out["changed"] = change.changed;
  out["leader"] = text_or_null(change.leader.value);
  auto members = json::array();
  for (auto& m : change.members.members)
    members.push_back({{"node_id", m.id.value},
                       {"http_address", m.http_address},
                       {"cluster_address", m.cluster_address},
                       {"voter", m.voter}});
  out["members"] = std::move(members);
  return out;
}

json render_status(const node_view& node) {
  auto& raft = node.raft;
  json out;
  out["status"] = "running";
  out["node_id"] = raft.node.value;
  out["role"] = to_string(raft.role);
  out["current_leader"] = text_or_null(raft.leader.value);
  out["term"] = raft.term.value;
  out["commit_index"] = raft.commit_index.value;
  out["last_applied"] = node.last_applied.value;
  out["last_log_index"] = raft.last_log_index.value;
  out["first_log_index"] = raft.first_log_index.value;
  out["snapshot_index"] = raft.snapshot_index.value;
  out["uptime_ms"] = node.uptime_ms;
  out["version"] = COORDINATOR_VERSION;
  out["cluster_id"] = text_or_null(raft.cluster_id);
  out["http_address"] = node.http_address;
  out["cluster_address"] = node.cluster_address;
  out["maintenance"] = node.maintenance;
  out["storage_full"] = node.storage_full;
  if (!raft.waiting_for.empty())
    out["waiting_for"] = raft.waiting_for;
  if (node.verifying)
    out["verifying"] = true;
  if (!raft.writable)
    out["disk_error"] = raft.disk_error;
  if (!raft.state_error.empty())
    out["state_error"] = raft.state_error;
  add_incoming_snapshot(out, raft);
  return out;
}

bool hears_leader(const raft_status& raft) {
  // Several election time-outs.
  constexpr std::int64_t longest_silence_ms = 5'000;
  return !raft.leader.empty() && raft.leader_contact_ms >= 0 && raft.leader_contact_ms <= longest_silence_ms;
}

void add_incoming_snapshot(json& to, const raft_status& raft) {
  if (raft.snapshot_size > 0)
    to["snapshot_incoming"] = {{"received_bytes", raft.snapshot_offset}, {"size", raft.snapshot_size}};
}

void add_bytes(json& to, const std::string& name, const std::string& value) {
  if (is_utf8(value))
    to[name] = value;
  else
    to[name + "_base64"] = to_base64(value);
}

std::string to_base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    auto count = std::min<std::size_t>(3, bytes.size() - i);
    for (std::size_t j = 0; j < 3; ++j)
      group = (group << 8) | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (std::size_t j = 0; j < 4; ++j)
      out.push_back(j <= count ? base64_digits[(group >> (18 - 6 * j)) & 63] : '=');
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0)
    return std::nullopt;
  std::size_t padding = text.empty() ? 0 : text.substr(text.size() - 2) == "==" ? 2 : text.back() == '=' ? 1 : 0;
  std::string out;
  std::uint32_t group = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    bool padded = i >= text.size() - padding;
    auto digit = padded ? 0 : base64_digits.find(text[i]);
    if (digit == std::string_view::npos)
      return std::nullopt;
    group = (group << 6) | static_cast<std::uint32_t>(digit);
    if (i % 4 == 3) {
      for (int shift : {16, 8, 0})
        out.push_back(static_cast<char>((group >> shift) & 0xff));
      group = 0;
    }
  }
  out.resize(out.size() - padding);
  return out;
}

}  // namespace coordinator
