#include "tests/cluster/cluster.hpp"

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <caf/actor_system_config.hpp>
#include <caf/io/middleman.hpp>
#include <caf/scoped_actor.hpp>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include "tests/support/reserved_port.hpp"

namespace coordinator {

namespace {

std::string tail_of(const std::string& file) {
  std::ifstream input{file};
  std::string text{std::istreambuf_iterator<char>{input}, {}};
  constexpr std::size_t most = 6000;
  return text.size() > most ? "..." + text.substr(text.size() - most) : text;
}

}  // namespace

bool eventually(std::chrono::milliseconds patience, const std::function<bool()>& condition) {
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
  return true;
}

cluster_settings programs(int size, std::vector<std::string> flags) {
  cluster_settings settings;
  settings.size = size;
  settings.program = true;
  settings.flags = std::move(flags);
  return settings;
}

cluster_settings calm(cluster_settings settings) {
  settings.calm = true;
  return settings;
}

cluster::cluster(cluster_settings settings) : settings_(std::move(settings)) {
  config_ = std::make_unique<caf::actor_system_config>();
  config_->set("scheduler.policy", caf::atom("sharing"));
  config_->set("scheduler.max-threads", 2);
  config_->load<caf::io::middleman>();
  system_ = std::make_unique<caf::actor_system>(*config_);
  machines_.resize(static_cast<std::size_t>(settings_.size));
  for (int i = 0; i < size(); ++i)
    choose_ports(i);
  // One secret for all, so that the tests need no file of the user's.
  std::ofstream{directory_ / "secret"} << "a secret of the cluster tests, long enough\n";
  std::filesystem::permissions(directory_ / "secret", std::filesystem::perms::owner_read);
}

cluster::~cluster() {
  kill_all();
  if (std::uncaught_exceptions() > 0)
    for (int i = 0; i < size(); ++i)
      std::cerr << "---- " << name(i) << " logged:\n" << tail_of(log_file(i)) << '\n';
}

std::string cluster::data_dir(int node) const {
  return directory_ / name(node);
}

std::string cluster::host_address(int node) const {
  return settings_.network ? settings_.network->address(node) : "127.0.0.1";
}

void cluster::choose_ports(int node) {
  auto& m = at(node);
  m.http = {host_address(node), 8080};
  m.cluster = {host_address(node), 18080};
  if (settings_.network)
    return;
  m.reserved_http = reserve_port(m.http.port);
  m.reserved_cluster = reserve_port(m.cluster.port);
}

std::vector<std::string> cluster::command_line(int node) const {
  auto& m = at(node);
  std::vector<std::string> result{"--node-id",      name(node),
                                  "--host",         m.http.host,
                                  "--port",         std::to_string(m.http.port),
                                  "--cluster-port", std::to_string(m.cluster.port),
                                  "--data-dir",     data_dir(node),
                                  "--log-level",    "debug"};
  if (settings_.redundancy) {
    std::string peers;
    for (int i = 0; i < size(); ++i)
      if (i != node && (!m.peers || std::count(m.peers->begin(), m.peers->end(), i) > 0))
        peers += (peers.empty() ? "" : ",") + name(i) + "=" + to_string(at(i).http) + ":" +
                 std::to_string(at(i).cluster.port);
    // Twice the usual time-outs, at least: the machines of a test share the processors of one.
    result.insert(result.end(), {"--election-timeout-min", settings_.calm ? "3000" : "300"});
    result.insert(result.end(), {"--election-timeout-max", settings_.calm ? "4000" : "600"});
    result.insert(result.end(), {"--heartbeat-interval", "75"});
    result.insert(result.end(), {"--cluster-secret-file", directory_ / "secret"});
    if (!peers.empty())
      result.insert(result.end(), {"--enable-redundancy", "--peers", peers});
  }
  result.insert(result.end(), settings_.flags.begin(), settings_.flags.end());
  return result;
}

std::string cluster::try_start(int node) {
  auto& m = at(node);
  REQUIRE(!m.host);
  child_options options;
  options.log = log_file(node);
  options.environment["XDG_STATE_HOME"] = directory_ / "state";
  if (settings_.network)
    options.network_namespace = settings_.network->network_namespace(node);
  if (settings_.program)
    return try_start_program(node, options);
  m.host = std::make_unique<child_process>(CLUSTER_HOST_PROGRAM, std::vector<std::string>{m.http.host}, options);
  auto line = m.host->read_line(patience);
  if (!line)
    return "the host process said nothing";
  return spawn(node, static_cast<std::uint16_t>(std::stoi(*line)));
}

std::string cluster::try_start_program(int node, const child_options& options) {
  auto& m = at(node);
  m.host = std::make_unique<child_process>(COORDINATOR_PROGRAM, command_line(node), options);
  std::optional<int> ended;
  auto serves = eventually(patience, [&] {
    ended = m.host->wait(std::chrono::milliseconds{0});
    return ended || get(node, "/livez").ok();
  });
  if (serves && !ended)
    return {};
  m.host.reset();
  return "status " + std::to_string(ended.value_or(-1)) + ": " + tail_of(log_file(node));
}

std::string cluster::spawn(int node, std::uint16_t control_port) {
  auto& m = at(node);
  auto host = system_->middleman().connect(m.http.host, control_port);
  if (!host)
    return "cannot connect to the host process";
  nlohmann::json arguments = command_line(node);
  auto handle = system_->middleman().remote_spawn<host_node>(*host, host_node_type, caf::make_message(arguments.dump()),
                                                             patience);
  if (!handle)
    return "the host process does not spawn: " + system_->render(handle.error());
  m.node = *handle;
  caf::scoped_actor self{*system_};
  std::string error;
  self->request(m.node, patience, status_atom::value)
      .receive([&](std::string& text) { error = std::move(text); },
               [&](caf::error& e) { error = "no word from the node: " + system_->render(e); });
  return error;
}

void cluster::start(int node) {
  auto error = try_start(node);
  REQUIRE_MESSAGE(error.empty(), name(node) << ": " << error);
}

void cluster::start_all() {
  for (int i = 0; i < size(); ++i)
    if (!runs(i))
      start(i);
}

void cluster::kill(int node) {
  at(node).node = nullptr;
  at(node).host.reset();
}

void cluster::kill_all() {
  // All at once, so that none has the time to notice that the others are gone.
  for (auto& m : machines_)
    if (m.host)
      m.host->send(SIGKILL);
  for (int i = 0; i < size(); ++i)
    kill(i);
}

std::optional<int> cluster::wait_for_end(int node) {
  auto& m = at(node);
  auto status = m.host->wait(patience);
  if (status)
    m.host.reset();
  return status;
}

void cluster::stop(int node) {
  auto& m = at(node);
  if (settings_.program) {
    m.host->send(SIGTERM);
    REQUIRE(wait_for_end(node) == 0);
    return;
  }
  caf::scoped_actor self{*system_};
  std::string error = "unanswered";
  self->request(m.node, patience, stop_atom::value)
      .receive([&](std::string& text) { error = std::move(text); }, [&](caf::error& e) { error = system_->render(e); });
  REQUIRE_MESSAGE(error.empty(), name(node) << " does not stop: " << error);
  kill(node);
}

void cluster::wipe(int node) {
  REQUIRE(!runs(node));
  std::filesystem::remove_all(data_dir(node));
}

answer cluster::request(int node, const std::string& method, const std::string& path, const std::string& body,
                        const call_options& options) const {
  answer said;
  eventually(patience, [&] {
    said = call(at(node).http, method, path, body, options);
    return options.headers.contains("X-Request-Timeout-Ms") || !said.waits_for_disk();
  });
  return said;
}

std::optional<std::string> cluster::value(int node, const std::string& key) const {
  auto found = get(node, "/api/kv/" + key);
  REQUIRE_MESSAGE((found.status == 200 || found.status == 404),
                  name(node) << " answers " << found.status << " for key " << key << ": " << found.body);
  if (found.status == 404)
    return std::nullopt;
  return found.body;
}

nlohmann::json cluster::status(int node) const {
  if (!runs(node))
    return {};
  call_options options;
  options.patience = std::chrono::seconds{10};
  return get(node, "/api/status", options).json();
}

std::string cluster::role(int node) const {
  auto said = status(node);
  return said.is_object() ? said.value("role", "") : "";
}

int cluster::wait_for_leader(const std::vector<int>& except) const {
  int leader = -1;
  std::string seen;
  auto found = eventually(patience, [&] {
    leader = -1;
    seen.clear();
    std::vector<nlohmann::json> all;
    for (int i = 0; i < size(); ++i)
      if (runs(i) && std::find(except.begin(), except.end(), i) == except.end()) {
        all.push_back(status(i));
        seen += all.back().dump() + "\n";
        if (all.back().is_object() && all.back().value("role", "") == "LEADER")
          leader = leader < 0 ? i : -2;
      }
    return leader >= 0 && std::all_of(all.begin(), all.end(), [&](auto& said) {
             return said.is_object() && said["current_leader"] == name(leader) && said["term"] == all.front()["term"];
           });
  });
  REQUIRE_MESSAGE(found, "no leader that all agree on; they say\n" << seen);
  return leader;
}

void cluster::require_equal_states() const {
  std::string seen;
  auto equal = eventually(patience, [&] {
    seen.clear();
    std::vector<nlohmann::json> sums;
    for (int i = 0; i < size(); ++i)
      if (runs(i)) {
        sums.push_back(get(i, "/api/health/state_checksum").json());
        seen += name(i) + ": " + sums.back().dump() + "\n";
      }
    return !sums.empty() && sums.front().is_object() &&
           std::all_of(sums.begin(), sums.end(), [&](auto& sum) { return sum == sums.front(); });
  });
  REQUIRE_MESSAGE(equal, "the nodes' states differ:\n" << seen);
}

void write_some(const cluster& nodes, int node, int count, const std::string& prefix) {
  for (int i = 0; i < count; ++i) {
    auto done = nodes.put(node, prefix + std::to_string(i % 50), "value " + std::to_string(i));
    REQUIRE_MESSAGE(done.ok(), done.status << " " << done.body);
  }
}

}  // namespace coordinator
