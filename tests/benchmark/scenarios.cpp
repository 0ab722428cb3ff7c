// Workloads in which something happens to a node while, or before, it is measured.

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "tests/benchmark/measure.hpp"

namespace coordinator::bench {

using steady = std::chrono::steady_clock;
using std::chrono::milliseconds;

namespace {

double ms_since(steady::time_point from) {
  return std::chrono::duration<double, std::milli>(steady::now() - from).count();
}

/// Writers at these nodes that give a node up after 250 ms, so that no request that was under way hides how soon
/// writes are accepted again.
load_settings impatient(std::vector<host_port> at) {
  load_settings settings;
  settings.connections = 2 * at.size();
  settings.servers = std::move(at);
  settings.answer_within = milliseconds{250};
  return settings;
}

void need_peers(const servers& cluster, const std::string& what) {
  if (cluster.size() < 3)
    throw std::runtime_error(what + " needs at least 3 nodes: add 3 to --cluster-sizes");
}

double directory_mb(const std::filesystem::path& directory) {
  double bytes = 0;
  for (auto& each : std::filesystem::recursive_directory_iterator(directory))
    if (each.is_regular_file() && each.path().filename().string().starts_with("state"))
      bytes += static_cast<double>(each.file_size());
  return bytes / 1e6;
}

}  // namespace

measurement measure_failover(const plan& what, servers& cluster, peer_kind peer) {
  need_peers(cluster, "failover");
  measurement result;
  result.at = "followers";
  const auto leader = cluster.wait_for_leader();
  auto work = make_writes(peer, what.value_size);
  http_load load{impatient(cluster.others(leader)), *work};
  std::this_thread::sleep_for(std::chrono::duration<double>(what.warm_up));
  load.measure();
  std::this_thread::sleep_for(milliseconds{300});
  cluster.kill(leader);
  cluster.wait_for_leader();
  // etcd takes longer to notice; both are given until writes have gone on for a while.
  const auto seen = load.counted();
  wait_until("writes to go on", milliseconds{30'000}, [&] { return load.counted() > seen + 50; });
  result.load = load.stop();
  result.more = {{"gap_ms", result.load.longest_gap_ms}};
  return result;
}

measurement measure_handover(const plan& what, servers& cluster, peer_kind peer) {
  need_peers(cluster, "handover");
  measurement result;
  result.at = "all";
  const auto leader = cluster.wait_for_leader();
  const auto next = (leader + 1) % cluster.size();
  cluster.wait_for(next);
  auto work = make_writes(peer, what.value_size);
  auto settings = impatient(cluster.addresses());
  settings.answer_within = milliseconds{5000};
  http_load load{settings, *work};
  std::this_thread::sleep_for(std::chrono::duration<double>(what.warm_up));
  load.measure();
  std::this_thread::sleep_for(milliseconds{300});
  cluster.transfer(leader, next);
  wait_until("the new leader", milliseconds{10'000}, [&] { return cluster.wait_for_leader() == next; });
  std::this_thread::sleep_for(milliseconds{300});
  result.load = load.stop();
  result.more = {{"gap_ms", result.load.longest_gap_ms}};
  return result;
}

measurement measure_restart(const plan& what, servers& cluster, const progress& say) {
  measurement result;
  result.at = "follower";
  const auto leader = cluster.wait_for_leader();
  fill(cluster.address(leader), what.tasks, say);
  const auto node = (leader + 1) % cluster.size();
  cluster.wait_for(node);
  say("killing the node and starting it");
  cluster.kill(node);
  const auto began = steady::now();
  cluster.start(node);
  wait_until("a stale read", milliseconds{60'000}, [&] {
    return ask(cluster.address(node), "GET", "/api/tasks?consistency=stale&limit=1").body.find("task_id") !=
           std::string::npos;
  });
  result.more = {{"tasks", what.tasks}, {"first_stale_read_ms", ms_since(began)}};
  return result;
}

measurement measure_catch_up(const plan& what, servers& cluster, const progress& say) {
  need_peers(cluster, "catch-up");
  measurement result;
  result.at = "leader";
  const auto leader = cluster.wait_for_leader();
  const auto node = (leader + 1) % cluster.size();
  // A member that has fallen behind the log's first entry: it has nothing but what it is given now.
  cluster.kill(node);
  fill(cluster.address(leader), what.tasks, say);
  auto work = make_writes(peer_kind::coordinator, what.value_size);
  load_settings settings;
  settings.servers = {cluster.address(leader)};
  settings.connections = 16;
  say("writes before");
  auto by_time = what;
  by_time.operations = 0;
  auto before = run_load(by_time, settings, *work);
  http_load load{settings, *work};
  load.measure();
  say("catching up");
  const auto began = steady::now();
  cluster.start(node);
  cluster.wait_for(node);
  const auto took_ms = ms_since(began);
  result.load = load.stop();
  const auto mb = directory_mb(what.directory / to_string(peer_kind::coordinator) / ("node-" + std::to_string(node)));
  auto status = must_ask(cluster.address(node), "GET", "/api/status");
  result.more = {{"tasks", what.tasks},
                 {"state_mb", mb},
                 {"seconds", took_ms / 1000},
                 {"mb_per_second", mb / took_ms * 1000},
                 {"from_snapshot", status.at("snapshot_index").get<std::uint64_t>() > 0},
                 {"writes_per_second_before", before.per_second()},
                 {"writes_kept", result.load.per_second() / before.per_second()}};
  return result;
}

measurement measure_idle(const plan& what, servers& cluster) {
  measurement result;
  result.at = "leader";
  const auto leader = cluster.wait_for_leader();
  std::this_thread::sleep_for(std::chrono::duration<double>(what.warm_up));
  std::vector<double> before;
  for (std::size_t i = 0; i < cluster.size(); ++i)
    before.push_back(cluster.cpu_seconds(i));
  const auto began = steady::now();
  std::this_thread::sleep_for(std::chrono::duration<double>(what.seconds));
  const auto took = ms_since(began) / 1000;
  double followers = 0;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    const auto percent = 100 * (cluster.cpu_seconds(i) - before[i]) / took;
    (i == leader ? result.cpu_percent : followers) += percent;
  }
  result.more = {{"leader_core_percent", result.cpu_percent}};
  if (cluster.size() > 1)
    result.more["follower_core_percent"] = followers / static_cast<double>(cluster.size() - 1);
  return result;
}

}  // namespace coordinator::bench
