#pragma once

#include <signal.h>

#include <caf/actor_system.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/cluster/child_process.hpp"
#include "tests/cluster/client.hpp"
#include "tests/cluster/host_node.hpp"
#include "tests/cluster/isolated_network.hpp"
#include "tests/support/temporary_directory.hpp"

namespace coordinator {

/// Polls until the condition holds; false if it does not before the time is over.
bool eventually(std::chrono::milliseconds patience, const std::function<bool()>& condition);

struct cluster_settings {
  int size = 3;
  bool redundancy = true;
  isolated_network* network = nullptr;  ///< None: all machines are on loopback.
  std::vector<std::string> flags = {};  ///< Added to each node's command line.
  /// Elections wait for longer than a busy machine may stand still: for what has to be seen without a change of
  /// leaders.
  bool calm = false;
  bool program = false;  ///< Machines run the coordinator as it ships, which ends when it wants to.
};

/// Of machines that run the coordinator as it ships.
cluster_settings programs(int size, std::vector<std::string> flags = {});
/// The same, calm.
cluster_settings calm(cluster_settings settings);

/// Machines, as processes, with a node each. Nodes are "n0", "n1", … and every one keeps its address and its data
/// directory for as long as the cluster lives, unless it is wiped. The test talks to them as any client does.
class cluster {
 public:
  explicit cluster(cluster_settings settings = {});
  /// Kills what still runs. After a failed requirement it prints what the nodes logged last.
  ~cluster();
  cluster(const cluster&) = delete;
  cluster& operator=(const cluster&) = delete;

  int size() const { return static_cast<int>(machines_.size()); }
  static std::string name(int node) { return "n" + std::to_string(node); }
  /// What `--peers` of that node names, instead of all others; empty: it starts without redundancy.
  void set_peers(int node, std::vector<int> peers) { at(node).peers = std::move(peers); }
  const host_port& address(int node) const { return at(node).http; }
  std::string data_dir(int node) const;

  /// Starts a host process and spawns the node in it from here. The error is empty on success.
  std::string try_start(int node);
  /// The same, and requires that it succeeds.
  void start(int node);
  void start_all();
  /// SIGKILL: the machine is gone without a word.
  void kill(int node);
  void kill_all();
  void pause(int node) { at(node).host->send(SIGSTOP); }
  void resume(int node) { at(node).host->send(SIGCONT); }
  /// Stops the node in order, as SIGTERM does.
  void stop(int node);
  /// The exit status of a program that ends by itself; none if it does not in time. Then it does not run any more.
  std::optional<int> wait_for_end(int node);
  /// Removes the data directory; the node must not run.
  void wipe(int node);
  bool runs(int node) const { return at(node).host != nullptr; }

  /// Where the options give no X-Request-Timeout-Ms it waits for a disk that takes no writes at present.
  answer request(int node, const std::string& method, const std::string& path, const std::string& body = {},
                 const call_options& options = {}) const;
  answer get(int node, const std::string& path, const call_options& options = {}) const {
    return request(node, "GET", path, {}, options);
  }
  /// The value of a shared key, read linearizably; none when it has none. Requires an answer.
  std::optional<std::string> value(int node, const std::string& key) const;
  /// Sets a shared key.
  answer put(int node, const std::string& key, const std::string& value, const call_options& options = {}) const {
    return request(node, "PUT", "/api/kv/" + key, value, options);
  }

  /// /api/status of a node; null when it gives none for ten seconds.
  nlohmann::json status(int node) const;
  std::string role(int node) const;
  /// The node that says it leads, in the highest term that any node knows of, once all nodes but those excepted know
  /// of it. Requires that there is one in time.
  int wait_for_leader(const std::vector<int>& except = {}) const;
  /// Requires that all running nodes have applied the same entries and agree on what came of them.
  void require_equal_states() const;

  static constexpr std::chrono::milliseconds patience{60'000};

 private:
  struct machine {
    host_port http;
    host_port cluster;
    file_descriptor reserved_http;  ///< Keeps the system from giving the port to somebody else.
    file_descriptor reserved_cluster;
    std::unique_ptr<child_process> host;
    host_node node;
    std::optional<std::vector<int>> peers;
  };

  machine& at(int node) { return machines_.at(static_cast<std::size_t>(node)); }
  const machine& at(int node) const { return machines_.at(static_cast<std::size_t>(node)); }
  std::string log_file(int node) const { return directory_ / (name(node) + ".log"); }
  std::string host_address(int node) const;
  void choose_ports(int node);
  std::vector<std::string> command_line(int node) const;
  std::string try_start_program(int node, const child_options& options);
  std::string spawn(int node, std::uint16_t control_port);

  cluster_settings settings_;
  temporary_directory directory_;
  std::unique_ptr<caf::actor_system_config> config_;
  std::unique_ptr<caf::actor_system> system_;
  std::vector<machine> machines_;
};

/// Writes that often, to 50 keys that begin so, one value after another; requires that all are acknowledged.
void write_some(const cluster& nodes, int node, int count, const std::string& prefix);

}  // namespace coordinator
