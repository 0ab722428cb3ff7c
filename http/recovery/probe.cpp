#include "http/recovery/probe.hpp"

#include <algorithm>
#include <future>
#include <nlohmann/json.hpp>
#include <sstream>

#include "http/recovery/node_process.hpp"

namespace coordinator::recovery {

namespace {

using nlohmann::json;

client_options once_within(milliseconds patience) {
  client_options options;
  options.connect_timeout = patience;
  options.give_up_after = patience;
  options.retry = false;
  return options;
}

client_reply fetch(client& node, const std::string& path, milliseconds patience) {
  client_request request;
  request.path = path;
  request.answer_within = patience;
  request.election_wait = patience / 2;
  return node.send(request);
}

json parsed(const client_reply& reply) {
  auto body = reply.ok() ? json::parse(reply.body, nullptr, false) : json{};
  return body.is_object() ? body : json::object();
}

std::int64_t number(const json& object, const char* field, std::int64_t fallback) {
  auto found = object.find(field);
  return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : fallback;
}

std::string text(const json& object, const char* field) {
  auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

bool truth(const json& object, const char* field) {
  auto found = object.find(field);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

status_look read_status(const json& body) {
  status_look status;
  status.role = text(body, "role");
  status.leader = text(body, "current_leader");
  status.term = number(body, "term", 0);
  status.commit_index = number(body, "commit_index", 0);
  status.last_applied = number(body, "last_applied", 0);
  status.last_log_index = number(body, "last_log_index", 0);
  status.cluster_id = text(body, "cluster_id");
  status.waiting_for = text(body, "waiting_for");
  status.disk_error = text(body, "disk_error");
  status.state_error = text(body, "state_error");
  if (auto coming = body.find("snapshot_incoming"); coming != body.end() && coming->is_object())
    status.snapshot_received = number(*coming, "received_bytes", 0);
  status.storage_full = truth(body, "storage_full");
  status.maintenance = truth(body, "maintenance");
  return status;
}

void read_links(const json& monitor, node_look& look) {
  auto nodes = monitor.find("nodes");
  if (nodes == monitor.end() || !nodes->is_array())
    return;
  for (auto& node : *nodes) {
    if (text(node, "node_id") != look.name || !node.contains("links") || !node["links"].is_array())
      continue;
    for (auto& link : node["links"])
      look.links[text(link, "to")] = truth(link, "up");
  }
}

}  // namespace

client_reply ask_once(const endpoint& node, client_request request, milliseconds patience) {
  client one{{node}, once_within(patience)};
  request.answer_within = patience;
  request.election_wait = patience * 3 / 4;
  return one.send(request);
}

observation prober::look(milliseconds now) {
  std::vector<std::future<node_look>> looks;
  for (auto& node : config_.nodes)
    looks.push_back(std::async(std::launch::async, [this, &node] { return look_at(node); }));
  observation seen;
  for (auto& each : looks)
    seen.nodes.push_back(each.get());
  add_members(seen);
  if (now >= next_checksums_) {
    next_checksums_ = now + config_.when.checksum_interval;
    add_checksums(seen);
  }
  return seen;
}

node_look prober::look_at(const watched_node& node) const {
  node_look look;
  look.name = node.name;
  if (node.host.empty() || node.host == host_)
    look.process = look_at_process(node, config_);
  auto patience = config_.when.probe_timeout;
  client one{{node.http}, once_within(patience)};
  auto live = fetch(one, "/livez", patience);
  look.answers = live.answered();
  look.live = live.ok();
  look.failure = live.failure;
  if (!look.live)
    return look;
  if (auto status = parsed(fetch(one, "/api/status", patience)); status.contains("role")) {
    look.status = read_status(status);
    if (auto id = text(status, "node_id"); id != node.name)
      look.stranger = id;
  }
  auto ready = fetch(one, "/readyz?verbose", patience);
  look.ready = ready.ok();
  std::istringstream lines{ready.body};
  for (std::string line; !ready.ok() && std::getline(lines, line);)
    if (line.starts_with("[-]"))
      look.not_ready.push_back(line.substr(3));
  auto resources = parsed(fetch(one, "/api/health/resources", patience));
  look.open_files = number(resources, "open_files", -1);
  look.open_files_limit = number(resources, "open_files_limit", -1);
  look.memory_bytes = number(resources, "memory_bytes", -1);
  look.disk_free_bytes = number(resources, "disk_free_bytes", -1);
  read_links(parsed(fetch(one, "/api/monitor", patience)), look);
  return look;
}

void prober::add_members(observation& seen) const {
  for (std::size_t i = 0; i < seen.nodes.size(); ++i) {
    auto& node = seen.nodes[i];
    if (!node.status || node.status->role != "LEADER")
      continue;
    client_request request;
    request.path = "/api/cluster";
    auto view = parsed(ask_once(config_.nodes[i].http, request, config_.when.probe_timeout));
    if (auto members = view.find("members"); members != view.end() && members->is_array())
      for (auto& member : *members)
        seen.members.push_back({text(member, "node_id"), truth(member, "voter")});
    if (!seen.members.empty())
      return;
  }
}

/// States can be compared only after the same entry: the last that all nodes in question have applied.
void prober::add_checksums(observation& seen) const {
  std::int64_t index = 0;
  std::vector<std::size_t> asked;
  for (std::size_t i = 0; i < seen.nodes.size(); ++i) {
    auto& status = seen.nodes[i].status;
    if (!status || !seen.nodes[i].stranger.empty() || !status->state_error.empty() || status->last_applied <= 0)
      continue;
    asked.push_back(i);
    index = index == 0 ? status->last_applied : std::min(index, status->last_applied);
  }
  // Of another cluster's states nothing can be said.
  std::string cluster;
  for (auto i : asked) {
    if (!cluster.empty() && cluster != seen.nodes[i].status->cluster_id)
      return;
    cluster = seen.nodes[i].status->cluster_id;
  }
  if (asked.size() < 2)
    return;
  std::vector<std::future<client_reply>> replies;
  for (auto i : asked)
    replies.push_back(std::async(std::launch::async, [this, i, index] {
      client_request request;
      request.path = "/api/health/state_checksum?at=" + std::to_string(index);
      return ask_once(config_.nodes[i].http, request, config_.when.probe_timeout);
    }));
  for (std::size_t k = 0; k < asked.size(); ++k) {
    auto body = parsed(replies[k].get());
    if (number(body, "applied_index", 0) == index)
      seen.nodes[asked[k]].checksum = checksum_look{index, text(body, "checksum")};
  }
}

}  // namespace coordinator::recovery
