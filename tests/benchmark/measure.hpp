#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/benchmark/servers.hpp"

namespace coordinator::bench {

/// What is to be measured, and how often.
struct plan {
  std::vector<std::string> workloads;
  std::vector<std::size_t> cluster_sizes{3};
  std::vector<std::size_t> clients{1, 16, 64, 256};
  std::uint64_t operations = 0;  ///< Of each run; 0: as many as come in `seconds`.
  double seconds = 5;            ///< A run ends then at the latest.
  double warm_up = 1;
  std::size_t runs = 3;
  double rate = 0;  ///< Operations a second, open loop; 0: closed loop.
  std::size_t value_size = 256;
  std::size_t tasks = 100'000;     ///< Kept by the coordinator where a workload needs many.
  std::size_t kept = 0;            ///< Tasks that the coordinator has before anything is measured.
  std::size_t workers = 10'000;    ///< That send heartbeats.
  bool beside_etcd = false;        ///< The same work against etcd, in turns.
  std::vector<std::string> flags;  ///< Added to each node's command line.
  std::string program;
  std::filesystem::path directory;
};

/// One run of one workload.
struct measurement {
  std::string workload;
  peer_kind peer = peer_kind::coordinator;
  std::size_t cluster_size = 0;
  std::size_t clients = 0;
  std::string at;    ///< leader, follower or all.
  std::string unit;  ///< Of `per_second`: writes, reads, tasks, cycles, beats.
  load_result load;
  double resident_mb = 0;    ///< Of the largest node, afterwards.
  double cpu_percent = 0;    ///< Of the leader, of one core, while it was measured.
  nlohmann::json more = {};  ///< Figures of this workload alone, by name, with the unit in it.
};

/// Progress: what is being done, for a person who waits.
using progress = std::function<void(const std::string&)>;

/// The names that a plan can hold, with what each does.
const std::vector<std::pair<std::string, std::string>>& known_workloads();

/// Runs a plan. `done` hears of each run when it has ended.
void measure(const plan& what, const progress& say, const std::function<void(const measurement&)>& done);

/// Runs a load: warm-up, then what the plan says.
load_result run_load(const plan& what, const load_settings& settings, workload& work);

/// Submits tasks until there are so many.
void fill(const host_port& server, std::size_t tasks, const progress& say);

/// Workloads in which something happens to a node, in scenarios.cpp. Each returns what it measured in one run.
measurement measure_failover(const plan& what, servers& cluster, peer_kind peer);
measurement measure_handover(const plan& what, servers& cluster, peer_kind peer);
measurement measure_restart(const plan& what, servers& cluster, const progress& say);
measurement measure_catch_up(const plan& what, servers& cluster, const progress& say);
measurement measure_idle(const plan& what, servers& cluster);

}  // namespace coordinator::bench
