#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/cluster/ledger.hpp"
#include "tests/cluster/small_disk.hpp"
#include "tests/cluster/watch.hpp"

namespace fs = std::filesystem;

using namespace coordinator;

namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using steady = std::chrono::steady_clock;

bool in_maintenance(const cluster& nodes, int node) {
  auto said = status_of(nodes, node);
  return said.is_object() && said.value("maintenance", false);
}

}  // namespace

TEST_CASE("recovery: a disk that fills up is told of, load is shed, and taken on again once there is room") {
  cluster nodes{programs(3)};
  small_disk disk{nodes.data_dir(1)};
  if (!disk.mounted()) {
    MESSAGE("SKIPPED: no file system can be mounted here");
    return;
  }
  nodes.start_all();
  nodes.wait_for_leader();
  watch daemon{nodes, {{"allow", {{"shed_load", true}}}}};
  daemon.start();
  ledger writes{nodes, {0, 2}, 2};
  REQUIRE(writes.wait_for_more(20));
  auto began = steady::now();
  disk.fill();
  daemon.wait_for("noticed", "resource_exhaustion", "n1");
  daemon.wait_for("action", "resource_exhaustion", "n1", "shed");
  CHECK(eventually(cluster::patience, [&] { return in_maintenance(nodes, 0); }));
  REQUIRE(writes.wait_for_more(20));
  // The disk is so small that writes would fill it again on a machine that takes its time.
  writes.stop();
  disk.make_room();
  daemon.require_mended("resource_exhaustion", "n1", began);
  daemon.wait_for("action", "resource_exhaustion", "n1", "unshed");
  CHECK(eventually(cluster::patience, [&] { return !in_maintenance(nodes, 0); }));
  CHECK(writes.complaints() == std::vector<std::string>{});
  CHECK(eventually(cluster::patience, [&] { return nodes.get(1, "/readyz").ok(); }));
  for (int i = 0; i < 3; ++i)
    CHECK(writes.what_is_lost(i) == "");
  CHECK(daemon.stop() == 0);
  nodes.kill_all();
}

namespace {

/// A process that gets hardly any time: it is stopped nearly always, though never for so long that it counts as silent.
class starved {
 public:
  explicit starved(int pid)
      : thread_([this, pid] {
          while (!done_ && ::kill(pid, SIGSTOP) == 0) {
            std::this_thread::sleep_for(500ms);
            ::kill(pid, SIGCONT);
            std::this_thread::sleep_for(5ms);
          }
        }) {}
  ~starved() {
    done_ = true;
    thread_.join();
  }
  starved(const starved&) = delete;
  starved& operator=(const starved&) = delete;

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

}  // namespace

TEST_CASE("recovery: a follower that falls behind is given the state, taken out, and joins anew as a learner") {
  cluster nodes{programs(3, {"--log-retention-entries", "50"})};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto slow = (leader + 1) % 3;
  auto name = cluster::name(slow);
  json when{{"slow_lag_entries", 100}, {"slow_after_ms", 2000}, {"probe_timeout_ms", 3000}, {"hang_after_ms", 30000}};
  watch daemon{nodes, {{"allow", {{"demote_slow", true}}}, {"thresholds", when}}};
  daemon.start();
  auto began = steady::now();
  {
    std::atomic<bool> done{false};
    std::vector<std::thread> writers;
    for (int w = 0; w < 4; ++w)
      writers.emplace_back([&, w] {
        for (int i = 0; !done; ++i)
          nodes.put(leader, "key-" + std::to_string(w) + "-" + std::to_string(i % 100), std::string(8000, 'v'));
      });
    starved process{pid_of(nodes, slow)};
    auto demoted = [&] {
      daemon.wait_for("noticed", "slow_follower", name);
      return daemon.wait_for("action", "slow_follower", name, "demote");
    };
    json said;
    try {
      said = demoted();
    } catch (...) {
      done = true;
      for (auto& writer : writers)
        writer.join();
      throw;
    }
    done = true;
    for (auto& writer : writers)
      writer.join();
    REQUIRE_MESSAGE(said["outcome"] == "done", said.dump());
  }
  CHECK(daemon.count("action", "resync") >= 1);
  daemon.require_mended("slow_follower", name, began);
  CHECK(eventually(cluster::patience, [&] { return nodes.get(slow, "/readyz").ok(); }));
  CHECK(nodes.value(leader, "key-1-1").has_value());
}

TEST_CASE("recovery: a node of a systemd unit is started through systemctl") {
  cluster nodes{programs(3)};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto victim = (leader + 1) % 3;
  auto name = cluster::name(victim);
  temporary_directory directory;
  watch daemon{nodes};
  auto config = daemon.config();
  auto& restart = config["nodes"][static_cast<std::size_t>(victim)]["restart"];
  // A stand-in for systemctl: it notes what it was asked for, and starts the node as the unit would.
  auto stand_in = directory / "systemctl";
  std::string line;
  for (auto& part : restart["command"])
    line += "'" + part.get<std::string>() + "' ";
  {
    std::ofstream script{stand_in};
    script << "#!/bin/sh\n[ \"$1\" = show ] && exec cat " << directory / "state"
           << "\necho \"$@\" >> " << directory / "asked"
           << "\n"
           << "[ \"$1\" = restart ] && setsid " << line << "< /dev/null > /dev/null 2>&1 &\nexit 0\n";
  }
  ::chmod(stand_in.c_str(), 0755);
  restart = {{"systemd_unit", "coordinator@" + name + ".service"}};
  config["systemctl"] = stand_in;
  daemon.set_config(config);
  // Stopped on purpose it is left alone; what failed is started.
  std::ofstream{directory / "state"} << "inactive\n";
  nodes.kill(victim);
  daemon.start({"--once"});
  daemon.wait_for([](auto& said) { return said["event"] == "daemon" && said["outcome"] == "stopped"; });
  CHECK(daemon.count("noticed") == 0);
  std::ofstream{directory / "state"} << "failed\n";
  daemon.start();
  auto started = daemon.wait_for("action", "process_crash", name, "start");
  CHECK_MESSAGE(started["outcome"] == "done", started.dump());
  daemon.wait_for("mended", "process_crash", name);
  std::ifstream asked{directory / "asked"};
  std::string words;
  std::getline(asked, words);
  CHECK(words == "restart coordinator@" + name + ".service");
}
