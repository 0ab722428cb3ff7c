#include "tests/benchmark/measure.hpp"

#include <algorithm>
#include <stdexcept>
#include <thread>

namespace coordinator::bench {

using steady = std::chrono::steady_clock;

namespace {

constexpr std::size_t tasks_of_a_request = 1000;

struct shape {
  std::string unit;
  bool etcd_too = false;
  bool by_clients = false;  ///< Once for each number of clients of the plan.
};

shape shape_of(const std::string& workload) {
  if (workload == "write" || workload == "follower-write")
    return {"writes", true, true};
  if (workload == "read" || workload == "stale-read")
    return {"reads", true, true};
  if (workload == "claim-complete")
    return {"cycles", false, true};
  if (workload == "mixed")
    return {"operations", false, true};
  if (workload == "batch-submit")
    return {"tasks", false, false};
  if (workload == "heartbeats")
    return {"beats", false, false};
  return {"writes", workload == "failover" || workload == "handover", false};
}

void register_workers(const host_port& server, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    nlohmann::json worker{{"worker_id", worker_name(i)}, {"host", "127.0.0.1"}, {"port", 1}, {"capabilities", {"cpu"}}};
    must_ask(server, "POST", "/api/workers/register", worker.dump());
  }
}

double largest_mb(const servers& cluster) {
  double most = 0;
  for (std::size_t i = 0; i < cluster.size(); ++i)
    if (cluster.runs(i))
      most = std::max(most, cluster.resident_mb(i));
  return most;
}

/// A load whose connections all go to one node, or to all.
measurement measure_load(const plan& what, servers& cluster, peer_kind peer, const std::string& name,
                         std::size_t clients, const progress& say) {
  measurement result;
  const auto leader = cluster.wait_for_leader();
  load_settings settings;
  settings.connections = clients;
  settings.rate = what.rate;
  settings.servers = {cluster.address(leader)};
  result.at = "leader";
  std::unique_ptr<workload> work;
  if (name == "write" || name == "follower-write")
    work = make_writes(peer, what.value_size);
  if (name == "follower-write" && cluster.size() > 1) {
    settings.servers = {cluster.others(leader).front()};
    result.at = "follower";
  }
  if (name == "read" || name == "stale-read") {
    // Each connection reads a key of its own, so there must be as many.
    auto first = make_writes(peer, what.value_size);
    auto once = what;
    once.operations = clients;
    once.warm_up = 0.5;
    load_settings all = settings;
    all.rate = 0;
    all.connections = clients;
    run_load(once, all, *first);
    work = make_reads(peer, name == "read");
    settings.servers = cluster.addresses();
    result.at = "all";
  }
  if (name == "claim-complete" || name == "mixed") {
    register_workers(settings.servers.front(), clients);
    fill(settings.servers.front(), what.tasks, say);
    work = name == "mixed" ? make_mix(what.value_size) : make_claims();
  }
  if (name == "batch-submit") {
    work = make_submits(tasks_of_a_request);
  }
  if (name == "heartbeats") {
    say("registering " + std::to_string(what.workers) + " workers");
    register_workers(settings.servers.front(), what.workers);
    work = make_heartbeats(what.workers);
    settings.fresh_connections = true;
    settings.rate = static_cast<double>(what.workers) / 10;
  }
  const auto cpu = cluster.cpu_seconds(leader);
  const auto began = steady::now();
  result.load = run_load(what, settings, *work);
  const std::chrono::duration<double> took = steady::now() - began;
  result.cpu_percent = 100 * (cluster.cpu_seconds(leader) - cpu) / took.count();
  if (name == "heartbeats")
    result.more = {{"leader_core_percent", result.cpu_percent}};
  return result;
}

/// 100,000 tasks handed in at once, in requests of 10,000.
nlohmann::json measure_burst(const host_port& server) {
  auto work = make_submits(10'000);
  plan once;
  once.operations = 10;
  once.seconds = 60;
  once.warm_up = 0;
  load_settings settings;
  settings.servers = {server};
  settings.connections = 2;
  auto burst = run_load(once, settings, *work);
  return {{"burst_tasks", burst.units}, {"burst_seconds", burst.seconds}};
}

measurement measure_once(const plan& what, servers& cluster, peer_kind peer, const std::string& name,
                         std::size_t clients, const progress& say) {
  auto result = [&] {
    if (name == "failover")
      return measure_failover(what, cluster, peer);
    if (name == "handover")
      return measure_handover(what, cluster, peer);
    if (name == "restart")
      return measure_restart(what, cluster, say);
    if (name == "catch-up")
      return measure_catch_up(what, cluster, say);
    if (name == "idle")
      return measure_idle(what, cluster);
    return measure_load(what, cluster, peer, name, clients, say);
  }();
  result.workload = name;
  result.peer = peer;
  result.cluster_size = cluster.size();
  result.clients = clients;
  result.unit = shape_of(name).unit;
  result.resident_mb = largest_mb(cluster);
  if (name == "batch-submit")
    result.more = measure_burst(cluster.address(cluster.wait_for_leader()));
  return result;
}

}  // namespace

const std::vector<std::pair<std::string, std::string>>& known_workloads() {
  static const std::vector<std::pair<std::string, std::string>> all{
      {"write", "keys written at the leader"},
      {"follower-write", "keys written through a follower"},
      {"read", "linearizable reads of keys, at all nodes"},
      {"stale-read", "reads of what each node has, at all nodes"},
      {"claim-complete", "tasks claimed and completed"},
      {"batch-submit", "tasks submitted, 1,000 a request; then 100,000 at once"},
      {"heartbeats", "heartbeats of many workers, a new connection for each"},
      {"failover", "the longest time between two accepted writes when the leader is killed"},
      {"handover", "the same when leadership is handed over"},
      {"restart", "from the start of a node with many tasks to its first stale read"},
      {"catch-up", "a new node takes over a large state while writes go on"},
      {"mixed", "writes, reads, submits and claims"},
      {"idle", "processor time of nodes that nobody asks anything"}};
  return all;
}

load_result run_load(const plan& what, const load_settings& settings, workload& work) {
  http_load load{settings, work};
  std::this_thread::sleep_for(std::chrono::duration<double>(what.warm_up));
  load.measure();
  const auto end =
      steady::now() + std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(what.seconds));
  while (steady::now() < end && (what.operations == 0 || load.counted() < what.operations))
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  return load.stop();
}

void fill(const host_port& server, std::size_t tasks, const progress& say) {
  auto work = make_submits(tasks_of_a_request);
  for (std::size_t sent = 0; sent < tasks; sent += tasks_of_a_request) {
    auto text = work->next(0);
    must_ask(server, "POST", "/api/tasks/submit", text.substr(text.find("\r\n\r\n") + 4));
    if (sent % 50'000 == 0)
      say("submitting " + std::to_string(tasks) + " tasks: " + std::to_string(sent));
  }
}

void measure(const plan& what, const progress& say, const std::function<void(const measurement&)>& done) {
  for (auto& name : what.workloads)
    for (auto size : what.cluster_sizes) {
      const auto shape = shape_of(name);
      for (auto clients : shape.by_clients ? what.clients : std::vector<std::size_t>{std::size_t{4}})
        for (std::size_t run = 0; run < what.runs; ++run)
          for (auto peer : {peer_kind::coordinator, peer_kind::etcd}) {
            if (peer == peer_kind::etcd && (!what.beside_etcd || !shape.etcd_too))
              continue;
            say(std::string{to_string(peer)} + ", " + name + ", " + std::to_string(size) + " nodes, " +
                std::to_string(clients) + " clients, run " + std::to_string(run + 1) + " of " +
                std::to_string(what.runs));
            server_settings settings;
            settings.size = size;
            settings.directory = what.directory / to_string(peer);
            settings.program = what.program;
            settings.flags = what.flags;
            // A node that was away must need a snapshot, not the log.
            if (name == "catch-up")
              settings.flags.insert(settings.flags.end(), {"--log-retention-entries", "1000"});
            auto cluster = servers::make(peer, settings);
            cluster->start_all();
            if (peer == peer_kind::coordinator)
              fill(cluster->address(cluster->wait_for_leader()), what.kept, say);
            done(measure_once(what, *cluster, peer, name, clients, say));
          }
    }
}

}  // namespace coordinator::bench
