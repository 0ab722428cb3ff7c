#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "tests/cluster/ledger.hpp"

using namespace coordinator;

namespace {

using nlohmann::json;

struct told {
  int status = -1;
  std::string out, errors;

  json answer() const { return json::parse(out, nullptr, false); }
};

/// Runs coordctl, without a terminal, until it ends.
told coordctl(const std::vector<std::string>& arguments) {
  child_process process{COORDCTL_PROGRAM, arguments, {}};
  told result;
  while (auto line = process.read_line(2 * cluster::patience))
    result.out += *line + "\n";
  result.status = process.wait(cluster::patience).value_or(-1);
  result.errors = process.read_errors();
  return result;
}

/// A coordinator of its own, apart from the clusters of the other tests.
class lone_node {
 public:
  lone_node(const temporary_directory& directory, const std::string& id, const std::string& data_dir)
      : address_{"127.0.0.1", free_port()},
        process_(COORDINATOR_PROGRAM,
                 {"--node-id", id, "--port", std::to_string(address_.port), "--cluster-port",
                  std::to_string(free_port()), "--data-dir", data_dir},
                 in(directory)) {
    REQUIRE(eventually(cluster::patience, [&] { return call(address_, "PUT", "/api/kv/probe", "x").ok(); }));
  }

  const host_port& address() const { return address_; }
  json status() const { return call(address_, "GET", "/api/status").json(); }

 private:
  static std::uint16_t free_port() {
    auto made = listen_on({"127.0.0.1", 0});
    REQUIRE(made.error == "");
    return local_port(made.socket.get());
  }
  static child_options in(const temporary_directory& directory) {
    child_options options;
    options.environment["XDG_STATE_HOME"] = directory / "state";
    return options;
  }

  host_port address_;
  child_process process_;
};

std::string url(const host_port& address) {
  return "http://" + to_string(address);
}

int copies_in(const std::string& data_dir) {
  int count = 0;
  for (auto& entry : std::filesystem::directory_iterator{data_dir})
    count += entry.path().filename().string().starts_with("snapshot-") ? 1 : 0;
  return count;
}

std::string cluster_of(const json& status) {
  return status.is_object() && status["cluster_id"].is_string() ? status["cluster_id"].get<std::string>() : "";
}

}  // namespace

TEST_CASE("backup: a snapshot saved under load becomes a new cluster that holds what was acknowledged") {
  cluster nodes;
  temporary_directory directory;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto follower = (leader + 1) % 3;
  for (int i = 0; i < 30; ++i)
    REQUIRE(nodes.put(leader, "k" + std::to_string(i), "v" + std::to_string(i)).ok());
  json tasks;
  for (int i = 0; i < 20; ++i)
    tasks["tasks"].push_back({{"task_id", "t" + std::to_string(i)}, {"command", {"true"}}});
  REQUIRE(nodes.request(leader, "POST", "/api/tasks/submit", tasks.dump()).ok());

  auto file = directory / "backup";
  ledger load{nodes, {0, 1, 2}, 2};
  REQUIRE(load.wait_for_more(20));
  // A follower gives what was acknowledged before, although its file is written behind.
  REQUIRE(nodes.put(leader, "last", "before the snapshot").ok());
  auto saved = coordctl({"--coordinator", url(nodes.address(follower)), "snapshot", "save", file});
  REQUIRE_MESSAGE(saved.status == 0, saved.errors);
  CHECK(load.wait_for_more(20));
  load.stop();
  CHECK(load.complaints().empty());
  CHECK(copies_in(nodes.data_dir(follower)) == 0);
  CHECK_FALSE(std::filesystem::exists(file + ".partial"));

  auto found = coordctl({"-o", "json", "snapshot", "inspect", file}).answer();
  CHECK(found["cluster_id"] == nodes.status(leader)["cluster_id"]);
  CHECK(found["node_id"] == cluster::name(follower));
  CHECK(found["members"].size() == 3);
  CHECK(found["rows"]["tasks"] == 20);
  CHECK(found["rows"]["keys"].get<int>() >= 30);

  auto data = directory / "restored";
  auto restored = coordctl({"snapshot", "restore", file, "--data-dir", data, "--node-id", "r1"});
  REQUIRE_MESSAGE(restored.status == 0, restored.errors);
  lone_node alone{directory, "r1", data};
  for (int i = 0; i < 30; ++i)
    CHECK(call(alone.address(), "GET", "/api/kv/k" + std::to_string(i)).body == "v" + std::to_string(i));
  CHECK(call(alone.address(), "GET", "/api/kv/last").body == "before the snapshot");
  for (int i = 0; i < 20; ++i)
    CHECK(call(alone.address(), "GET", "/api/tasks/t" + std::to_string(i)).json()["status"] == "pending");
  CHECK(call(alone.address(), "PUT", "/api/kv/k0", "new").ok());
  CHECK(call(alone.address(), "GET", "/api/kv/k0").body == "new");
  auto status = alone.status();
  CHECK(status["role"] == "LEADER");
  CHECK(cluster_of(status) != "");
  CHECK(cluster_of(status) != cluster_of(nodes.status(leader)));
  auto members = call(alone.address(), "GET", "/api/cluster").json()["members"];
  CHECK(members.size() == 1);
  CHECK(nodes.value(leader, "k0") == "v0");

  // The new cluster can be saved as the old one could, and its directory is in use.
  auto again = coordctl({"--coordinator", url(alone.address()), "snapshot", "save", directory / "second"});
  CHECK_MESSAGE(again.status == 0, again.errors);
  CHECK(coordctl({"snapshot", "restore", file, "--data-dir", data, "--node-id", "r1"}).status == 5);
}

TEST_CASE("backup: a node that is gone, and one that cannot, leave a snapshot to the next") {
  cluster nodes;
  temporary_directory directory;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  REQUIRE(nodes.put(leader, "k", "v").ok());
  auto dead = (leader + 1) % 3;
  nodes.kill(dead);
  auto both = url(nodes.address(dead)) + "," + url(nodes.address(leader));
  auto file = directory / "backup";
  auto saved = coordctl({"--coordinator", both, "-o", "json", "snapshot", "save", file});
  REQUIRE_MESSAGE(saved.status == 0, saved.errors);
  CHECK(saved.answer()["node_id"] == cluster::name(leader));
  // An older file stays unless it is to be replaced.
  CHECK(coordctl({"--coordinator", both, "snapshot", "save", file}).status == 2);
  CHECK(coordctl({"--coordinator", both, "snapshot", "save", "--replace", file}).status == 0);
  // Without a majority nobody knows what was acknowledged; what a node has is to be had all the same.
  nodes.kill((leader + 2) % 3);
  auto alone = url(nodes.address(leader));
  CHECK(coordctl({"--coordinator", alone, "snapshot", "save", directory / "late"}).status == 4);
  CHECK(coordctl({"--coordinator", alone, "snapshot", "save", "--stale", directory / "late"}).status == 0);
  auto none = coordctl({"--coordinator", url(nodes.address(dead)), "snapshot", "save", directory / "none"});
  CHECK(none.status == 4);
  CHECK_FALSE(std::filesystem::exists(directory / "none"));
  CHECK_FALSE(std::filesystem::exists(directory / "none.partial"));
}

TEST_CASE("force-new: one node of a lost majority becomes a cluster with its data, and the others are refused") {
  cluster nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  REQUIRE(nodes.put(leader, "kept", "of the old cluster").ok());
  nodes.require_equal_states();
  auto old_cluster = cluster_of(nodes.status(leader));
  std::vector<std::string> command{"-o", "json", "cluster", "force-new", "--data-dir", nodes.data_dir(0)};
  auto running = coordctl(command);
  CHECK(running.status == 5);
  CHECK_MESSAGE(running.errors.find("in use") != std::string::npos, running.errors);
  CHECK(coordctl({"log", "dump", "--data-dir", nodes.data_dir(0)}).status == 5);
  CHECK(coordctl({"log", "verify", "--data-dir", nodes.data_dir(0)}).status == 5);
  nodes.kill_all();

  auto before = coordctl({"-o", "json", "log", "verify", "--data-dir", nodes.data_dir(0)});
  CHECK_MESSAGE(before.status == 0, before.out);
  CHECK(cluster_of(before.answer()) == old_cluster);
  auto asked = coordctl(command);
  CHECK(asked.status == 2);
  CHECK_MESSAGE(asked.errors.find("--yes-i-accept-losing-writes") != std::string::npos, asked.errors);
  CHECK(asked.errors.find("n1, n2") != std::string::npos);
  CHECK(coordctl({"-o", "json", "log", "verify", "--data-dir", nodes.data_dir(0)}).answer() == before.answer());

  command.push_back("--yes-i-accept-losing-writes");
  auto forced = coordctl(command);
  REQUIRE_MESSAGE(forced.status == 0, forced.errors);
  auto new_cluster = forced.answer()["cluster_id"].get<std::string>();
  CHECK(new_cluster != old_cluster);
  nodes.start(0);
  REQUIRE(eventually(cluster::patience, [&] { return nodes.role(0) == "LEADER"; }));
  CHECK(nodes.value(0, "kept") == "of the old cluster");
  CHECK(nodes.put(0, "new", "of the new cluster").ok());
  CHECK(cluster_of(nodes.status(0)) == new_cluster);

  // The two others are a majority of the old cluster, and neither joins the other one.
  nodes.start(1);
  nodes.start(2);
  auto old_leader = nodes.wait_for_leader({0});
  CHECK(cluster_of(nodes.status(old_leader)) == old_cluster);
  CHECK(nodes.put(old_leader, "old", "of the old cluster").ok());
  CHECK_FALSE(nodes.value(old_leader, "new"));
  CHECK_FALSE(nodes.value(0, "old"));
  CHECK(nodes.put(0, "new", "again").ok());
  CHECK(nodes.role(0) == "LEADER");
  CHECK(nodes.get(0, "/api/cluster").json()["members"].size() == 1);
}

TEST_CASE("log: the entries of a killed node can be read and verified, and damage is named") {
  cluster_settings settings;
  settings.size = 1;
  settings.redundancy = false;
  cluster nodes{settings};
  nodes.start(0);
  REQUIRE(eventually(cluster::patience, [&] { return nodes.put(0, "a", "1").ok(); }));
  REQUIRE(nodes.put(0, "b", "2").ok());
  nodes.kill(0);
  auto dumped = coordctl({"-o", "json", "log", "dump", "--data-dir", nodes.data_dir(0), "--limit", "0"});
  REQUIRE_MESSAGE(dumped.status == 0, dumped.errors);
  auto log = dumped.answer();
  REQUIRE(log.is_object());
  CHECK(log["node_id"] == "n0");
  CHECK(log["entries"].size() == log["last_log_index"].get<std::size_t>());
  CHECK(log["entries"][0]["command"]["type"] == "genesis");
  CHECK(dumped.out.find("put_key") != std::string::npos);
  auto second = coordctl({"log", "dump", "--data-dir", nodes.data_dir(0), "--from", "2", "--limit", "1"});
  CHECK(second.status == 0);
  CHECK(second.out.find("put_key") == std::string::npos);
  CHECK(coordctl({"log", "verify", "--data-dir", nodes.data_dir(0)}).status == 0);

  std::string raft = nodes.data_dir(0) + "/raft.db";
  auto size = std::filesystem::file_size(raft);
  std::fstream file{raft, std::ios::binary | std::ios::in | std::ios::out};
  for (std::uintmax_t at = 4096; at < size; at += 512)
    file.seekp(static_cast<std::streamoff>(at)) << "damage";
  file.close();
  std::filesystem::remove(raft + "-wal");
  auto damaged = coordctl({"-o", "json", "log", "verify", "--data-dir", nodes.data_dir(0)});
  CHECK(damaged.status == 1);
  CHECK(damaged.answer()["sound"] == false);
  CHECK_FALSE(damaged.answer()["problems"].empty());
}
