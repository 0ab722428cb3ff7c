#include "http/recovery/actions.hpp"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "http/recovery/probe.hpp"

namespace coordinator::recovery {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using clock = std::chrono::steady_clock;

constexpr milliseconds pause_between_tries{100};

std::string stamp() {
  auto now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &parts);
  return text;
}

std::string read_token(const std::string& file) {
  std::ifstream input{file};
  std::string token;
  input >> token;
  return token;
}

std::string why(const client_reply& reply) {
  if (!reply.answered())
    return reply.failure;
  auto problem = json::parse(reply.body, nullptr, false);
  if (problem.is_object() && problem.contains("detail") && problem["detail"].is_string())
    return problem["detail"].get<std::string>();
  return "status " + std::to_string(reply.status);
}

client_request request_for(const std::string& method, const std::string& path, const std::string& body = {}) {
  client_request request;
  request.method = method;
  request.path = path;
  request.body = body;
  return request;
}

}  // namespace

std::string split_brain_mark(const std::string& state_dir) {
  return state_dir + "/split_brain";
}

actions::actions(const recovery_config& config, client& cluster, std::function<bool(bool)> may_go_on)
    : config_(config), cluster_(cluster), may_go_on_(std::move(may_go_on)) {
  if (!config.cluster_token_file.empty())
    token_ = read_token(config.cluster_token_file);
}

outcome actions::run(const intent& what, const observation& seen) {
  auto node = std::find_if(config_.nodes.begin(), config_.nodes.end(), [&](auto& n) { return n.name == what.node; });
  switch (what.act) {
    case verb::report:
      return {true, "reported"};
    case verb::keep_evidence:
      return keep_evidence(what, seen);
    case verb::hand_over:
      return hand_over();
    case verb::shed:
      return set_maintenance(true);
    case verb::unshed:
      return set_maintenance(false);
    default:
      break;
  }
  if (node == config_.nodes.end())
    return {false, "no such node is configured"};
  switch (what.act) {
    case verb::resync:
      return resync(what.node, seen);
    case verb::start:
      return start(*node);
    case verb::restart:
      return restart(*node);
    case verb::rebuild:
      return rebuild(*node);
    case verb::replace:
      return replace(*node, false);
    case verb::demote:
      return replace(*node, true);
    default:
      return {false, "nothing is known of this action"};
  }
}

keep_waiting actions::patience() const {
  auto deadline = clock::now() + config_.limits.settle;
  return [this, deadline] { return clock::now() < deadline && may_go_on_(false); };
}

client_request actions::authorized(client_request request) const {
  if (!token_.empty())
    request.headers["Authorization"] = "Bearer " + token_;
  return request;
}

outcome actions::keep_evidence(const intent& what, const observation& seen) {
  auto directory = config_.state_dir + "/evidence/" + std::string{word(what.what)} + "-" + stamp();
  std::error_code error;
  for (int i = 2; fs::exists(directory, error); ++i)
    directory =
        config_.state_dir + "/evidence/" + std::string{word(what.what)} + "-" + stamp() + "-" + std::to_string(i);
  fs::create_directories(directory, error);
  if (error)
    return {false, directory + " cannot be made: " + error.message()};
  std::ofstream{directory + "/seen"} << what.seen << "\n";
  auto split = what.what == strategy::split_brain;
  for (auto& node : config_.nodes) {
    auto look = find(seen, node.name);
    if (!split && node.name != what.node)
      continue;
    auto own = directory + "/" + node.name;
    fs::create_directories(own, error);
    if (look && look->process.pid > 0)
      keep_process_evidence(look->process.pid, own + "/process");
    keep_answers(node, own);
  }
  return {true, "evidence is in " + directory};
}

void actions::keep_answers(const watched_node& node, const std::string& directory) const {
  for (auto [file, path] : {std::pair{"status.json", "/api/status"},
                            {"cluster.json", "/api/cluster"},
                            {"health.json", "/api/health"},
                            {"checksum.json", "/api/health/state_checksum"},
                            {"metrics.txt", "/metrics"},
                            {"log.json", "/api/raft/log?limit=1000"},
                            {"state.json", "/api/state?consistency=stale"}}) {
    auto reply = ask_once(node.http, authorized(request_for("GET", path)), config_.when.probe_timeout * 2);
    std::ofstream{directory + "/" + file, std::ios::binary} << (reply.ok() ? reply.body : why(reply) + "\n");
    // A node that is silent is so on each path.
    if (!reply.answered())
      return;
  }
}

outcome actions::hand_over() {
  if (!may_go_on_(true))
    return {false, "the lease is gone"};
  auto reply = cluster_.send(request_for("POST", "/api/cluster/transfer_leadership", "{}"));
  return {reply.ok(), reply.ok() ? "another node leads" : "no other node leads: " + why(reply)};
}

outcome actions::set_maintenance(bool enabled) {
  if (!may_go_on_(true))
    return {false, "the lease is gone"};
  auto reply = cluster_.send(request_for("POST", enabled ? "/api/maintenance/enable" : "/api/maintenance/disable"));
  if (!reply.ok())
    return {false, "maintenance could not be switched: " + why(reply)};
  return {true, enabled ? "maintenance is enabled: no new tasks are taken" : "maintenance is disabled again"};
}

/// The state of the leader, given to a follower by the same way as a leader's snapshot: the follower checks and
/// installs it, or refuses it.
outcome actions::resync(const std::string& node, const observation& seen) {
  const node_look* leader = nullptr;
  for (auto& each : seen.nodes)
    if (each.status && each.status->role == "LEADER")
      leader = &each;
  auto endpoint_of = [&](const std::string& name) {
    return std::find_if(config_.nodes.begin(), config_.nodes.end(), [&](auto& n) { return n.name == name; })->http;
  };
  if (!leader)
    return {false, "no node leads"};
  if (!may_go_on_(true))
    return {false, "the lease is gone"};
  auto state = ask_once(endpoint_of(leader->name), authorized(request_for("GET", "/api/state?image=true")),
                        config_.limits.settle / 2);
  auto image = state.ok() ? json::parse(state.body, nullptr, false) : json{};
  if (!image.is_object())
    return {false, leader->name + " does not give its state: " + why(state)};
  json body{{"term", leader->status->term},
            {"leader_id", leader->name},
            {"last_applied", image.value("last_applied", 0)},
            {"last_applied_term", image.value("last_applied_term", 0)}};
  body["state"] = std::move(image);
  auto reply = ask_once(endpoint_of(node), authorized(request_for("POST", "/api/raft/sync_state", body.dump())),
                        config_.limits.settle / 2);
  auto said = reply.ok() ? json::parse(reply.body, nullptr, false) : json{};
  if (!said.is_object() || !said.value("success", false))
    return {false, node + " does not take the state: " + (reply.ok() ? reply.body.substr(0, 200) : why(reply))};
  return {true, node + " was given the state of " + leader->name};
}

outcome actions::wait_until_it_answers(const watched_node& node, outcome so_far) {
  if (!so_far.ok)
    return so_far;
  auto go_on = patience();
  auto asked = clock::now();
  while (go_on()) {
    if (ask_once(node.http, request_for("GET", "/livez"), config_.when.probe_timeout).ok())
      return {true, so_far.text + "; it answers"};
    // A program that ends at once says why in its log.
    if (clock::now() - asked > config_.limits.settle / 4 && look_at_process(node, config_).pid == 0)
      return {false, so_far.text + "; its process ended again, and its log says why"};
    std::this_thread::sleep_for(pause_between_tries);
  }
  return {false, so_far.text + "; it does not answer yet"};
}

outcome actions::start(const watched_node& node) {
  if (!may_go_on_(true))
    return {false, "the lease is gone"};
  return wait_until_it_answers(node, start_process(node, config_, patience()));
}

outcome actions::restart(const watched_node& node) {
  if (!may_go_on_(true))
    return {false, "the lease is gone"};
  return wait_until_it_answers(node, restart_process(node, config_, patience()));
}

outcome actions::rebuild(const watched_node& node) {
  if (!may_go_on_(true))
    return {false, "the lease is gone"};
  auto stopped = stop_process(node, config_, patience());
  if (!stopped.ok)
    return stopped;
  auto aside = set_state_aside(node);
  // Whether or not that went well, the node is to run again.
  auto started = wait_until_it_answers(node, start_process(node, config_, patience()));
  return {aside.ok && started.ok, stopped.text + ", " + aside.text + ", " + started.text};
}

outcome actions::replace(const watched_node& node, bool remove_first) {
  if (!may_go_on_(true))
    return {false, "the lease is gone"};
  outcome done{true, {}};
  if (remove_first) {
    auto reply = cluster_.send(request_for("DELETE", "/api/cluster/members/" + encode_component(node.name)));
    if (!reply.ok() && reply.status != 404)
      return {false, "the cluster does not let it go: " + why(reply)};
    done.text = "removed from the cluster, ";
  }
  auto stopped = stop_process(node, config_, patience());
  if (!stopped.ok)
    return {false, done.text + stopped.text};
  if (!may_go_on_(true))
    return {false, done.text + stopped.text + ", and then the lease was gone"};
  auto rest = set_aside_and_join(node);
  return {rest.ok, done.text + stopped.text + ", " + rest.text};
}

outcome actions::set_aside_and_join(const watched_node& node) {
  auto aside = set_data_aside(node);
  if (!aside.ok)
    return aside;
  auto started = wait_until_it_answers(node, start_process(node, config_, patience()));
  started.text = aside.text + ", " + started.text;
  return started.ok ? join(node, started) : started;
}

/// At first the leader may not be linked with the node yet.
outcome actions::join(const watched_node& node, outcome so_far) {
  auto go_on = patience();
  client_reply reply;
  while (go_on() && may_go_on_(true)) {
    reply = cluster_.send(request_for("POST", "/api/cluster/members", json{{"node_id", node.name}}.dump()));
    if (reply.ok())
      return {true, so_far.text + "; it joins anew as a learner"};
    std::this_thread::sleep_for(pause_between_tries);
  }
  return {false, so_far.text + "; the cluster does not let it join: " + why(reply) + "; coordctl cluster add " +
                     node.name + " lets it"};
}

}  // namespace coordinator::recovery
