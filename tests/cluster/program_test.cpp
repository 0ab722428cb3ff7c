#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/cluster/cluster.hpp"

using namespace coordinator;

namespace {

/// Two free ports of loopback, held until the program has been tried.
class free_ports {
 public:
  free_ports() {
    for (auto& socket : sockets_) {
      auto made = listen_on({"127.0.0.1", 0});
      REQUIRE(made.error == "");
      socket = std::move(made.socket);
    }
    http = local_port(sockets_[0].get());
    cluster = local_port(sockets_[1].get());
  }
  void release() {
    for (auto& socket : sockets_)
      socket.reset();
  }

  std::uint16_t http = 0;
  std::uint16_t cluster = 0;

 private:
  file_descriptor sockets_[2];
};

struct ended {
  std::optional<int> status;
  std::string errors;
};

child_options in(const temporary_directory& directory) {
  child_options options;
  options.environment["XDG_STATE_HOME"] = directory / "state";
  return options;
}

/// Runs the coordinator until it ends by itself.
ended run(const temporary_directory& directory, std::vector<std::string> arguments) {
  child_process process{COORDINATOR_PROGRAM, arguments, in(directory)};
  ended result;
  result.status = process.wait(cluster::patience);
  result.errors = process.read_errors();
  return result;
}

std::vector<std::string> node_arguments(const std::string& id, const free_ports& ports, const std::string& data_dir) {
  return {"--node-id",  id,      "--port", std::to_string(ports.http), "--cluster-port", std::to_string(ports.cluster),
          "--data-dir", data_dir};
}

bool serves(std::uint16_t port) {
  return eventually(cluster::patience, [&] { return call({"127.0.0.1", port}, "PUT", "/api/kv/probe", "x").ok(); });
}

long lines(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

}  // namespace

TEST_CASE("program: a bad option ends the start with status 2 and one line") {
  temporary_directory directory;
  auto bad = run(directory, {"--port", "none", "--data-dir", directory / "data"});
  CHECK(bad.status == 2);
  CHECK(lines(bad.errors) == 1);
  CHECK(bad.errors.find("--port none") != std::string::npos);
  auto secret = run(directory, {"--enable-redundancy", "--peers", "localhost:1", "--data-dir", directory / "data",
                                "--cluster-secret-file", directory / "missing"});
  CHECK(secret.status == 2);
  CHECK(lines(secret.errors) == 1);
  CHECK(secret.errors.find("--cluster-secret-file") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(directory / "data"));
}

TEST_CASE("program: help and version go to standard output with status 0") {
  temporary_directory directory;
  child_process help{COORDINATOR_PROGRAM, {"--help"}, in(directory)};
  CHECK(help.read_line(cluster::patience).has_value());
  CHECK(help.wait(cluster::patience) == 0);
  child_process version{COORDINATOR_PROGRAM, {"--version"}, in(directory)};
  CHECK(version.read_line(cluster::patience).value_or("").starts_with("coordinator "));
  CHECK(version.wait(cluster::patience) == 0);
}

TEST_CASE("program: a port in use ends the start with status 1 before anything is touched") {
  temporary_directory directory;
  free_ports ports;
  auto arguments = node_arguments("a", ports, directory / "data");
  auto used = run(directory, arguments);
  CHECK(used.status == 1);
  CHECK(lines(used.errors) == 1);
  CHECK(used.errors.find(std::to_string(ports.http)) != std::string::npos);
  CHECK(used.errors.find("another --port") != std::string::npos);
  // An address that documentation alone uses, and so no machine has.
  arguments.insert(arguments.end(), {"--host", "192.0.2.1"});
  auto foreign = run(directory, arguments);
  CHECK(foreign.status == 1);
  CHECK(lines(foreign.errors) == 1);
  CHECK(foreign.errors.find("another --host") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(directory / "data"));
}

TEST_CASE("program: a data directory that cannot be written ends the start with status 1") {
  temporary_directory directory;
  free_ports ports;
  ports.release();
  std::ofstream{directory / "file"} << "not a directory";
  for (auto& path : {directory / "file", directory / "file/below", std::string{"/proc/coordinator"}}) {
    auto bad = run(directory, node_arguments("a", ports, path));
    CHECK(bad.status == 1);
    CHECK(lines(bad.errors) == 1);
    CHECK_MESSAGE(bad.errors.find(path) != std::string::npos, bad.errors);
  }
}

TEST_CASE("program: a data directory in use, or of another node, ends the start with status 1") {
  temporary_directory directory;
  free_ports first, second;
  first.release();
  second.release();
  auto data = directory / "data";
  child_process node{COORDINATOR_PROGRAM, node_arguments("a", first, data), in(directory)};
  REQUIRE(serves(first.http));

  auto twice = run(directory, node_arguments("a", second, data));
  CHECK(twice.status == 1);
  CHECK(lines(twice.errors) == 1);
  CHECK_MESSAGE(twice.errors.find(std::to_string(node.pid())) != std::string::npos, twice.errors);

  node.send(SIGTERM);
  CHECK(node.wait(cluster::patience) == 0);
  auto other = run(directory, node_arguments("b", second, data));
  CHECK(other.status == 1);
  CHECK(lines(other.errors) == 1);
  CHECK_MESSAGE(other.errors.find(data) != std::string::npos, other.errors);
}

TEST_CASE("program: SIGTERM answers what is in flight and loses nothing that was acknowledged") {
  temporary_directory directory;
  free_ports ports;
  ports.release();
  auto arguments = node_arguments("a", ports, directory / "data");
  int acknowledged = 0;
  for (int round = 0; round < 3; ++round) {
    child_process node{COORDINATOR_PROGRAM, arguments, in(directory)};
    REQUIRE(serves(ports.http));
    std::atomic<bool> ended{false};
    std::thread writer{[&] {
      while (!ended && call({"127.0.0.1", ports.http}, "PUT", "/api/kv/k" + std::to_string(acknowledged + 1), "x").ok())
        ++acknowledged;
    }};
    // A long poll must not hold the program up.
    std::thread poller{[&] {
      call({"127.0.0.1", ports.http}, "POST", "/api/workers/register", R"({"worker_id":"w","host":"h","port":1})");
      call({"127.0.0.1", ports.http}, "POST", "/api/tasks/claim", R"({"worker_id":"w","wait_ms":30000})");
    }};
    auto goal = call({"127.0.0.1", ports.http}, "GET", "/api/status").json()["last_log_index"].get<int>() + 30;
    eventually(cluster::patience, [&] {
      auto said = call({"127.0.0.1", ports.http}, "GET", "/api/status").json();
      return said.is_object() && said["last_log_index"].get<int>() >= goal;
    });
    node.send(round % 2 == 0 ? SIGTERM : SIGINT);
    auto status = node.wait(cluster::patience);
    ended = true;
    node.kill();
    writer.join();
    poller.join();
    CHECK(status == 0);
  }
  child_process node{COORDINATOR_PROGRAM, arguments, in(directory)};
  REQUIRE(serves(ports.http));
  CHECK(acknowledged > 0);
  for (int i = 1; i <= acknowledged; ++i)
    REQUIRE(call({"127.0.0.1", ports.http}, "GET", "/api/kv/k" + std::to_string(i)).status == 200);
}

TEST_CASE("program: three of them on loopback share the user's secret and form a cluster") {
  temporary_directory directory;
  free_ports ports[3];
  for (auto& pair : ports)
    pair.release();
  std::vector<std::unique_ptr<child_process>> nodes;
  for (int i = 0; i < 3; ++i) {
    auto id = "n" + std::to_string(i);
    auto arguments = node_arguments(id, ports[i], directory / id);
    std::string peers;
    for (int j = 0; j < 3; ++j)
      if (j != i)
        peers += (peers.empty() ? "localhost:" : ",localhost:") + std::to_string(ports[j].http) + ":" +
                 std::to_string(ports[j].cluster);
    arguments.insert(arguments.end(), {"--enable-redundancy", "--peers", peers});
    nodes.push_back(std::make_unique<child_process>(COORDINATOR_PROGRAM, arguments, in(directory)));
  }
  REQUIRE(serves(ports[0].http));
  std::string leader;
  REQUIRE(eventually(cluster::patience, [&] {
    auto said = call({"127.0.0.1", ports[0].http}, "GET", "/api/status").json();
    leader = said.is_object() && said["current_leader"].is_string() ? said["current_leader"].get<std::string>() : "";
    return !leader.empty();
  }));
  auto index = static_cast<std::size_t>(leader.back() - '0');
  nodes[index]->send(SIGTERM);
  CHECK(nodes[index]->wait(cluster::patience) == 0);
  CHECK(serves(ports[(index + 1) % 3].http));
  for (auto& node : nodes)
    node->send(SIGTERM);
  for (auto& node : nodes)
    CHECK(node->wait(cluster::patience) == 0);
}
