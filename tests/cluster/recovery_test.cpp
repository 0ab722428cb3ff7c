#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/cluster/damage.hpp"
#include "tests/cluster/ledger.hpp"
#include "tests/cluster/watch.hpp"

namespace fs = std::filesystem;

using namespace coordinator;

namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using steady = std::chrono::steady_clock;

bool is_voter(const cluster& nodes, int at, int node) {
  auto view = nodes.get(at, "/api/cluster").json();
  if (view.is_object())
    for (auto& member : view["members"])
      if (member["node_id"] == cluster::name(node))
        return member["voter"] == true;
  return false;
}

/// The number behind a line of /metrics.
double metric(const cluster& nodes, int node, const std::string& name) {
  std::istringstream lines{nodes.get(node, "/metrics").body};
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name + " "))
      return std::stod(line.substr(name.size()));
  return -1;
}

void require_nothing_lost(const cluster& nodes, ledger& writes) {
  writes.stop();
  CHECK(writes.complaints() == std::vector<std::string>{});
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(writes.what_is_lost(i) == "");
}

bool is_ready(const cluster& nodes, int node) {
  return nodes.get(node, "/readyz").ok();
}

bool becomes_ready(const cluster& nodes, int node) {
  return eventually(cluster::patience, [&] { return is_ready(nodes, node); });
}

/// How often nodes have been asked for this, by which the looks of a daemon can be counted.
double requests(const cluster& nodes, int node, const std::string& route) {
  std::istringstream lines{nodes.get(node, "/metrics").body};
  double sum = 0;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("coordinator_http_request_duration_seconds_count{") &&
        line.find("route=\"" + route + "\"") != std::string::npos)
      sum += std::stod(line.substr(line.rfind(' ')));
  return sum;
}

}  // namespace

TEST_CASE("recovery: a process that is killed is started again, and every node tells of it") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  watch daemon{nodes};
  daemon.start();
  auto victim = (leader + 1) % 3;
  ledger writes{nodes, {leader, (leader + 2) % 3}, 2};
  REQUIRE(writes.wait_for_more(20));
  auto began = steady::now();
  nodes.kill(victim);
  daemon.wait_for("noticed", "process_crash", cluster::name(victim));
  auto action = daemon.wait_for("action", "process_crash", cluster::name(victim), "start");
  CHECK(action["outcome"] == "done");
  daemon.require_mended("process_crash", cluster::name(victim), began);
  REQUIRE(writes.wait_for_more(20));
  require_nothing_lost(nodes, writes);
  for (int i = 0; i < 3; ++i) {
    CAPTURE(i);
    if (i != victim)
      CHECK(eventually(cluster::patience, [&] {
        return metric(nodes, i, "coordinator_recovery_actions_total{strategy=\"process_crash\"}") == 1;
      }));
    std::string timeline;
    CHECK_MESSAGE(eventually(cluster::patience,
                             [&] {
                               timeline = nodes.get(i, "/api/monitor").json()["timeline"].dump();
                               return timeline.find("mended") != std::string::npos || i == victim;
                             }),
                  timeline);
  }
  // What it does is in its log as well, line by line.
  std::ifstream log{daemon.state_dir() + "/recovery.log"};
  std::size_t lines = 0;
  for (std::string line; std::getline(log, line); ++lines)
    CHECK(json::parse(line).contains("time_ms"));
  CHECK(lines >= daemon.lines().size());
  CHECK(daemon.stop() == 0);
  // Its nodes outlive it, and the lease does not.
  CHECK(becomes_ready(nodes, victim));
  CHECK_FALSE(nodes.value(leader, "coordinator%2Frecovery%2Flease").has_value());
}

TEST_CASE("recovery: two daemons start a node that was killed once") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  watch one{nodes}, other{nodes};
  one.start();
  other.start();
  auto victim = cluster::name((leader + 1) % 3);
  nodes.kill((leader + 1) % 3);
  one.wait_for("mended", "process_crash", victim);
  other.wait_for("mended", "process_crash", victim);
  CHECK(one.stop() == 0);
  CHECK(other.stop() == 0);
  CHECK(one.count("action", "start") + other.count("action", "start") == 1);
  // A second one on the same state directory is told so.
  one.start();
  child_process third{COORDCTL_PROGRAM, {"recover", "--config", one.config_file()}, {}};
  CHECK(third.wait(cluster::patience) == 1);
  CHECK(third.read_errors().find("is in use by another coordctl recover") != std::string::npos);
}

TEST_CASE("recovery: a majority that was killed is started although nobody can grant the lease") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  REQUIRE(nodes.put(leader, "register", "kept").ok());
  watch daemon{nodes};
  daemon.start();
  auto began = steady::now();
  for (int i = 0; i < 3; ++i)
    nodes.kill(i);
  for (int i = 0; i < 3; ++i) {
    auto any = daemon.wait_for([](auto& line) { return line["event"] == "mended"; });
    CHECK(any["strategy"] == "process_crash");
  }
  MESSAGE(
      "recovery of all three: " << std::chrono::duration_cast<std::chrono::milliseconds>(steady::now() - began).count()
                                << " ms");
  CHECK(daemon.count("action", "start") == 3);
  CHECK(nodes.value(leader, "register") == "kept");
}

TEST_CASE("recovery: a look without acts says what would be done, and changes nothing") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  watch daemon{nodes};
  auto run_once = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"recover", "--config", daemon.config_file(), "--once"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    child_process process{COORDCTL_PROGRAM, arguments, {}};
    std::string out;
    while (auto line = process.read_line(2 * cluster::patience))
      out += *line + "\n";
    return std::pair{process.wait(cluster::patience).value_or(-1), out};
  };
  CHECK(run_once({}).first == 0);
  auto victim = (leader + 1) % 3;
  nodes.kill(victim);
  auto [status, said] = run_once({"--dry-run"});
  CHECK(status == 1);
  CHECK_MESSAGE(said.find("(dry run) action process_crash " + cluster::name(victim) + " start would be done") !=
                    std::string::npos,
                said);
  CHECK_FALSE(is_ready(nodes, victim));
  auto mended = run_once({});
  CHECK_MESSAGE(mended.first == 0, mended.second);
  CHECK(becomes_ready(nodes, victim));
}

TEST_CASE("recovery: nodes that are cut apart are told of and left alone until they meet again") {
  std::unique_ptr<isolated_network> network;
  try {
    network = std::make_unique<isolated_network>(3);
  } catch (const std::runtime_error& e) {
    MESSAGE("SKIPPED: " << e.what());
    return;
  }
  auto settings = calm(programs(3));
  settings.network = network.get();
  cluster nodes{settings};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  watch daemon{nodes};
  daemon.start();
  auto a = std::min((leader + 1) % 3, (leader + 2) % 3);
  auto b = std::max((leader + 1) % 3, (leader + 2) % 3);
  auto pair = cluster::name(a) + "-" + cluster::name(b);
  auto began = steady::now();
  network->cut(a, b);
  daemon.wait_for("noticed", "network_partition", pair);
  daemon.wait_for("action", "network_partition", pair, "report");
  network->heal(a, b);
  daemon.require_mended("network_partition", pair, began);
  CHECK(daemon.stop() == 0);
  CHECK(daemon.count("action") == daemon.count("action", "report"));
}

TEST_CASE("recovery: a process that is stopped is restarted where that is allowed, and evidence is kept") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  watch daemon{nodes, {{"allow", {{"restart_stuck", true}}}, {"thresholds", {{"start_patience_ms", 1000}}}}};
  daemon.start();
  auto name = cluster::name(leader);
  auto began = steady::now();
  auto pid = pid_of(nodes, leader);
  nodes.pause(leader);
  daemon.wait_for("noticed", "deadlock", name);
  auto kept = daemon.wait_for("action", "deadlock", name, "keep_evidence");
  auto restarted = daemon.wait_for("action", "deadlock", name, "restart");
  CHECK_MESSAGE(restarted["outcome"] == "done", restarted.dump());
  daemon.require_mended("deadlock", name, began);
  CHECK(pid_of(nodes, leader) != pid);
  auto where = kept["detail"].get<std::string>();
  where = where.substr(where.find('/'));
  std::ifstream status{where + "/" + name + "/process/status"};
  std::ostringstream text;
  text << status.rdbuf();
  CHECK_MESSAGE(text.str().find("T (stopped)") != std::string::npos, where << text.str());
}

TEST_CASE("recovery: a damaged state is seen to be rebuilt from a peer") {
  cluster nodes{programs(3, {"--log-retention-entries", "50"})};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  write_some(nodes, leader, 400, "key-");
  auto damaged = (leader + 1) % 3;
  auto name = cluster::name(damaged);
  watch daemon{nodes};
  daemon.hold(damaged, true);
  daemon.start();
  nodes.stop(damaged);
  spoil(state_file(nodes.data_dir(damaged)));
  auto began = steady::now();
  daemon.hold(damaged, false);
  daemon.wait_for("action", "process_crash", name, "start");
  daemon.wait_for("noticed", "database_corruption", name);
  daemon.require_mended("database_corruption", name, began);
  CHECK_FALSE(files_with(nodes.data_dir(damaged), ".damaged-").empty());
  CHECK(daemon.stop() == 0);
  CHECK(daemon.count("action", "restart") == 0);
  CHECK(becomes_ready(nodes, damaged));
}

TEST_CASE("recovery: a node that lost its raft.db joins anew, and what it had is kept (rules 11 and 12)") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto lost = (leader + 1) % 3;
  auto name = cluster::name(lost);
  ledger writes{nodes, {leader, (leader + 2) % 3}, 2};
  REQUIRE(writes.wait_for_more(100));
  watch daemon{nodes, {{"allow", {{"replace_lost", true}}}}};
  daemon.hold(lost, true);
  daemon.start();
  nodes.stop(lost);
  SUBCASE("damaged") {
    spoil(nodes.data_dir(lost) + "/raft.db");
  }
  SUBCASE("missing") {
    for (auto& file : files_with(nodes.data_dir(lost), "raft.db"))
      fs::remove(nodes.data_dir(lost) + "/" + file);
  }
  auto began = steady::now();
  daemon.hold(lost, false);
  daemon.wait_for("action", "process_crash", name, "start");
  daemon.wait_for("noticed", "log_corruption", name);
  auto replaced = daemon.wait_for("action", "log_corruption", name, "replace");
  REQUIRE_MESSAGE(replaced["outcome"] == "done", replaced.dump());
  daemon.require_mended("log_corruption", name, began);
  REQUIRE(eventually(cluster::patience, [&] { return is_voter(nodes, leader, lost); }));
  REQUIRE(writes.wait_for_more(20));
  require_nothing_lost(nodes, writes);
  auto parent = fs::path{nodes.data_dir(lost)}.parent_path().string();
  auto aside = files_with(parent, name + ".lost-");
  REQUIRE(aside.size() == 1);
  CHECK_FALSE(files_with(parent + "/" + aside[0], "state").empty());
}

TEST_CASE("recovery: two leaders in one term stop all actions, and the evidence of both is kept") {
  // No fault makes Raft elect two leaders in one term. Two clusters that are watched as one are what shows them.
  auto settings = programs(2);
  settings.redundancy = false;
  cluster nodes{settings};
  nodes.start_all();
  for (int i = 0; i < 2; ++i)
    REQUIRE(eventually(cluster::patience, [&] { return nodes.role(i) == "LEADER"; }));
  REQUIRE(nodes.status(0)["term"] == nodes.status(1)["term"]);
  watch daemon{nodes};
  auto began = steady::now();
  daemon.start();
  daemon.wait_for("noticed", "split_brain", "n0-n1");
  auto kept = daemon.wait_for("action", "split_brain", "n0-n1", "keep_evidence");
  MESSAGE("recovery split_brain: noticed, and evidence kept after "
          << std::chrono::duration_cast<std::chrono::milliseconds>(steady::now() - began).count() << " ms");
  CHECK(kept["outcome"] == "done");
  auto where = kept["detail"].get<std::string>();
  where = where.substr(where.find('/'));
  for (auto name : {"n0", "n1"})
    for (auto file : {"status.json", "log.json", "state.json"}) {
      std::ifstream input{where + "/" + name + "/" + file};
      CHECK_MESSAGE(json::parse(input, nullptr, false).is_object(), name << "/" << file);
    }
  // From then on nothing is touched, also by a daemon that is started later.
  nodes.kill(1);
  daemon.wait_for("noticed", "process_crash", "n1");
  CHECK(daemon.stop() == 1);
  auto lines = daemon.count("action");
  daemon.start();
  daemon.wait_for([](auto& line) { return line["event"] == "withheld" && line["strategy"] == "split_brain"; });
  daemon.wait_for("noticed", "process_crash", "n1");
  CHECK(daemon.count("action") == lines);
  CHECK(nodes.get(0, "/api/kv?prefix=coordinator").json()["keys"].empty());
  // The operator clears it.
  fs::remove(daemon.state_dir() + "/split_brain");
  daemon.wait_for("action", "process_crash", "n1", "start");
  daemon.require_mended("process_crash", "n1", began);
}

TEST_CASE("recovery: a term that runs away is told of, and its agreement confirmed") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  watch daemon{nodes};
  daemon.start();
  // Several looks are to know the term of before.
  for (int i = 0; i < nodes.size(); ++i)
    REQUIRE(eventually(cluster::patience, [&] { return requests(nodes, i, "/api/health/resources") > 2; }));
  auto term = nodes.status(leader)["term"].get<int>();
  auto began = steady::now();
  auto ask = nodes.request((leader + 1) % 3, "POST", "/api/raft/request_vote",
                           json{{"term", term + 50},
                                {"candidate_id", cluster::name((leader + 2) % 3)},
                                {"last_log_index", 0},
                                {"last_log_term", 0}}
                               .dump());
  REQUIRE_MESSAGE(ask.ok(), ask.body);
  auto noticed = daemon.wait_for([](auto& l) { return l["event"] == "noticed" && l["strategy"] == "term_divergence"; });
  auto node = noticed["node"].get<std::string>();
  auto noticed_ms = std::chrono::duration_cast<std::chrono::milliseconds>(steady::now() - began).count();
  daemon.wait_for("mended", "term_divergence", node);
  MESSAGE("recovery term_divergence: noticed after "
          << noticed_ms << " ms, mended after "
          << std::chrono::duration_cast<std::chrono::milliseconds>(steady::now() - began).count() << " ms");
  auto now = nodes.wait_for_leader();
  CHECK(nodes.status(now)["term"].get<int>() > term + 49);
  CHECK(daemon.stop() == 0);
  CHECK(daemon.count("action") == daemon.count("action", "report"));
}

TEST_CASE("recovery: a state that differs is noticed by its checksum, and seen to be replaced") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  write_some(nodes, leader, 100, "key-");
  auto wrong = (leader + 1) % 3;
  auto name = cluster::name(wrong);
  nodes.require_equal_states();
  watch daemon{nodes};
  daemon.hold(wrong, true);
  daemon.start();
  nodes.stop(wrong);
  change_value(nodes, wrong, "key-1");
  auto began = steady::now();
  daemon.hold(wrong, false);
  daemon.wait_for("action", "process_crash", name, "start");
  daemon.wait_for("noticed", "state_divergence", name);
  write_some(nodes, leader, 20, "more-");
  daemon.require_mended("state_divergence", name, began);
}
