#include "tests/benchmark/servers.hpp"

#include <httplib.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <thread>

#include "tests/support/reserved_port.hpp"

namespace coordinator::bench {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds patience{30'000};

std::string url(const host_port& x) {
  return "http://" + to_string(x);
}

class coordinator_servers : public servers {
 public:
  using servers::servers;

  void transfer(std::size_t from, std::size_t to) override {
    must_ask(address(from), "POST", "/api/cluster/transfer_leadership", nlohmann::json{{"to", name(to)}}.dump());
  }

 private:
  std::string program() const override { return settings_.program; }

  std::vector<std::string> command_line(std::size_t i) const override {
    auto& x = members_[i];
    std::vector<std::string> line{"--node-id",      name(i),
                                  "--host",         x.client.host,
                                  "--port",         std::to_string(x.client.port),
                                  "--cluster-port", std::to_string(x.peer.port),
                                  "--data-dir",     data(i),
                                  "--log-level",    "warn"};
    std::string peers;
    for (std::size_t j = 0; j < members_.size(); ++j)
      if (j != i)
        peers += (peers.empty() ? "" : ",") + name(j) + "=" + to_string(members_[j].client) + ":" +
                 std::to_string(members_[j].peer.port);
    if (!peers.empty())
      line.insert(line.end(), {"--enable-redundancy", "--peers", peers});
    line.insert(line.end(), settings_.flags.begin(), settings_.flags.end());
    return line;
  }

  std::optional<std::size_t> leader_of(std::size_t i) const override {
    auto status = nlohmann::json::parse(ask(address(i), "GET", "/api/status").body, nullptr, false);
    if (!status.is_object())
      return std::nullopt;
    for (std::size_t j = 0; j < size(); ++j)
      if (status.at("current_leader") == name(j) && status.at("last_applied") > 0)
        return j;
    return std::nullopt;
  }

  std::uint64_t applied_by(std::size_t i) const override {
    auto status = nlohmann::json::parse(ask(address(i), "GET", "/api/status").body, nullptr, false);
    return status.is_object() ? status.at("last_applied").get<std::uint64_t>() : 0;
  }
};

class etcd_servers : public servers {
 public:
  using servers::servers;

  void transfer(std::size_t from, std::size_t to) override {
    must_ask(address(from), "POST", "/v3/maintenance/transfer-leadership",
             nlohmann::json{{"targetID", status(to).at("header").at("member_id")}}.dump());
  }

 private:
  std::string program() const override { return "/usr/bin/etcd"; }

  std::vector<std::string> command_line(std::size_t i) const override {
    auto& x = members_[i];
    std::string cluster;
    for (std::size_t j = 0; j < members_.size(); ++j)
      cluster += (cluster.empty() ? "" : ",") + name(j) + "=" + url(members_[j].peer);
    return {"--name",
            name(i),
            "--data-dir",
            data(i),
            "--initial-cluster",
            cluster,
            "--initial-cluster-state",
            "new",
            "--listen-client-urls",
            url(x.client),
            "--advertise-client-urls",
            url(x.client),
            "--listen-peer-urls",
            url(x.peer),
            "--initial-advertise-peer-urls",
            url(x.peer),
            "--logger",
            "zap",
            "--log-level",
            "error"};
  }

  nlohmann::json status(std::size_t i) const {
    return nlohmann::json::parse(ask(address(i), "POST", "/v3/maintenance/status", "{}").body, nullptr, false);
  }

  std::optional<std::size_t> leader_of(std::size_t i) const override {
    auto said = status(i);
    if (!said.is_object() || !said.contains("leader"))
      return std::nullopt;
    for (std::size_t j = 0; j < size(); ++j)
      if (runs(j))
        if (auto other = status(j);
            other.is_object() && other.contains("header") && other["header"]["member_id"] == said["leader"])
          return j;
    return std::nullopt;
  }

  std::uint64_t applied_by(std::size_t i) const override {
    auto said = status(i);
    return said.is_object() && said.contains("raftAppliedIndex")
               ? std::stoull(said["raftAppliedIndex"].get<std::string>())
               : 0;
  }
};

}  // namespace

std::unique_ptr<servers> servers::make(peer_kind peer, const server_settings& settings) {
  if (peer == peer_kind::etcd)
    return std::make_unique<etcd_servers>(settings);
  return std::make_unique<coordinator_servers>(settings);
}

servers::servers(const server_settings& settings) : settings_(settings), members_(settings.size) {
  std::filesystem::remove_all(settings_.directory);
  std::filesystem::create_directories(settings_.directory);
  for (auto& x : members_) {
    x.client.host = x.peer.host = "127.0.0.1";
    x.reserved_client = reserve_port(x.client.port);
    x.reserved_peer = reserve_port(x.peer.port);
  }
}

std::vector<host_port> servers::addresses() const {
  std::vector<host_port> all;
  for (auto& x : members_)
    all.push_back(x.client);
  return all;
}

std::vector<host_port> servers::others(std::size_t i) const {
  auto all = addresses();
  if (all.size() > 1)
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
  return all;
}

void servers::start(std::size_t i) {
  child_options options;
  options.log = settings_.directory / (name(i) + ".log");
  members_.at(i).process = std::make_unique<child_process>(program(), command_line(i), options);
}

void servers::start_all() {
  for (std::size_t i = 0; i < size(); ++i)
    start(i);
  wait_for_leader();
}

void servers::kill(std::size_t i) {
  members_.at(i).process.reset();
}

void servers::wipe(std::size_t i) {
  std::filesystem::remove_all(data(i));
}

std::size_t servers::wait_for_leader() {
  std::optional<std::size_t> leader;
  wait_until("a leader; see the logs in " + settings_.directory.string(), patience, [&] {
    leader.reset();
    for (std::size_t i = 0; i < size(); ++i) {
      if (!runs(i))
        continue;
      auto known = leader_of(i);
      if (!known || !runs(*known) || (leader && leader != known))
        return false;
      leader = known;
    }
    return leader.has_value();
  });
  return *leader;
}

void servers::wait_for(std::size_t i) {
  auto upto = applied_by(wait_for_leader());
  wait_until(name(i) + " to catch up", 4 * patience, [&] { return applied_by(i) >= upto; });
}

double servers::resident_mb(std::size_t i) const {
  std::ifstream file{"/proc/" + std::to_string(members_.at(i).process->pid()) + "/status"};
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmRSS:"))
      return std::stod(line.substr(6)) / 1024;
  return 0;
}

double servers::cpu_seconds(std::size_t i) const {
  std::ifstream file{"/proc/" + std::to_string(members_.at(i).process->pid()) + "/stat"};
  std::string text{std::istreambuf_iterator<char>{file}, {}};
  // Fields are counted from the end of the name, which may hold blanks.
  std::istringstream fields{text.substr(text.rfind(')') + 2)};
  std::string field;
  double ticks = 0;
  for (int i = 3; i <= 15 && fields >> field; ++i)
    if (i >= 14)
      ticks += std::stod(field);
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

reply ask(const host_port& server, const std::string& method, const std::string& path, const std::string& body,
          milliseconds patience) {
  httplib::Client client{server.host, server.port};
  client.set_connection_timeout(1);
  client.set_read_timeout(patience.count() / 1000, patience.count() % 1000 * 1000);
  httplib::Request request;
  request.method = method;
  request.path = path;
  request.body = body;
  if (method != "GET")
    request.headers.emplace("Content-Type", "application/json");
  auto answer = client.send(request);
  return answer ? reply{answer->status, answer->body} : reply{};
}

nlohmann::json must_ask(const host_port& server, const std::string& method, const std::string& path,
                        const std::string& body, milliseconds patience) {
  auto answer = ask(server, method, path, body, patience);
  if (answer.status < 200 || answer.status > 299)
    throw std::runtime_error(method + " " + path + " at " + to_string(server) + ": " + std::to_string(answer.status) +
                             " " + answer.body.substr(0, 300));
  return nlohmann::json::parse(answer.body, nullptr, false);
}

void wait_until(const std::string& what, milliseconds patience, const std::function<bool()>& condition) {
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline)
      throw std::runtime_error("waited in vain for " + what);
    std::this_thread::sleep_for(milliseconds{10});
  }
}

}  // namespace coordinator::bench
