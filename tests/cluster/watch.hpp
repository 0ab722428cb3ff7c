#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/cluster/cluster.hpp"

namespace coordinator {

/// `coordctl recover` beside a cluster of programs that run: its configuration, which starts each node as it was
/// started, its process, and the lines of its log as they come. Nodes that it has started are killed when this goes.
class watch {
 public:
  /// `changes` are merged into a configuration that is quicker than one for people would be, and allows nothing that is
  /// not allowed by default. All nodes have to run.
  explicit watch(cluster& nodes, const nlohmann::json& changes = nlohmann::json::object());
  ~watch();
  watch(const watch&) = delete;
  watch& operator=(const watch&) = delete;

  void start(std::vector<std::string> more = {});
  /// SIGTERM; its exit status.
  std::optional<int> stop();
  void kill() { daemon_.reset(); }

  /// The next line that `is_it`; requires that it comes in time. All before it are in `lines`, too.
  nlohmann::json wait_for(const std::function<bool(const nlohmann::json&)>& is_it);
  /// Of an event about one failure of one node, with that action where it is given.
  nlohmann::json wait_for(const std::string& event, const std::string& strategy, const std::string& node,
                          const std::string& action = {});
  /// Requires `mended`, and prints the time from the cause, which is now minus `since`, to the notice and to the end.
  void require_mended(const std::string& strategy, const std::string& node,
                      std::chrono::steady_clock::time_point since);
  const std::vector<nlohmann::json>& lines() const { return lines_; }
  std::size_t count(const std::string& event, const std::string& action = {}) const;

  /// Lets the daemon keep its hands off a node, or no longer.
  void hold(int node, bool held) const;
  std::string state_dir() const { return directory_ / "recover"; }
  std::string config_file() const { return directory_ / "cluster.json"; }
  const nlohmann::json& config() const { return config_; }
  /// What it will be started with; before `start`.
  void set_config(nlohmann::json config);

 private:
  cluster& nodes_;
  temporary_directory directory_;
  nlohmann::json config_;
  std::unique_ptr<child_process> daemon_;
  std::vector<nlohmann::json> lines_;
  std::chrono::steady_clock::time_point noticed_at_{};
};

/// The process that holds a node's data directory, by its lock; 0: none.
int pid_of(const cluster& nodes, int node);
/// /api/status of a node, whoever started it; null when there is none.
nlohmann::json status_of(const cluster& nodes, int node);

}  // namespace coordinator
