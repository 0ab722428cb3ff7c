#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "actors/keeper_messages.hpp"
#include "actors/queries.hpp"

namespace coordinator {

/// What the recovery strategies are called, in metrics and events.
inline constexpr const char* recovery_strategies[] = {
    "process_crash",    "network_partition", "database_corruption", "log_corruption", "split_brain", "term_divergence",
    "state_divergence", "deadlock",          "resource_exhaustion", "slow_follower"};

/// A set of requirements as one word for people: "any", "cuda", "memory_gb>=16,os=linux".
std::string requirement_text(const capability_map& requirements);

/// A node's figures in Prometheus' text format. Counters and durations are noted as things happen; what is a state is
/// set just before it is written. Thread-safe, and no call waits for anything but a short lock.
class metrics {
 public:
  metrics(const node_id& self, const std::string& version);
  ~metrics();

  // Durations and counts, from whoever takes part.
  void synced(std::chrono::nanoseconds taken);
  void written(std::chrono::nanoseconds taken);
  void round_trip(const node_id& peer, std::chrono::microseconds taken);
  /// `route` is the template, never the path: there are only so many of them.
  void answered(const std::string& method, const std::string& route, int status, std::chrono::nanoseconds taken);
  void committed(std::uint64_t entries);
  void leader_changed();
  void recovered(const std::string& strategy);

  // States.
  struct node_state {
    bool has_leader = false;
    bool is_leader = false;
    term_number term;
    log_index commit_index;
    log_index last_applied;
    bool writable = true;
    std::uint64_t members = 0;
    std::uint64_t members_healthy = 0;  ///< As seen from here: this node and those that answer it.
    std::uint64_t storage_used = 0;
    std::uint64_t storage_quota = 0;  ///< 0: none.
    std::uint64_t connections = 0;
    std::uint64_t event_streams = 0;
    std::uint64_t resident_bytes = 0;
    std::uint64_t open_files = 0;
    double started_s = 0;
  };
  struct peer_state {
    node_id peer;
    bool up = false;
    double heard_s = -1;  ///< Since its last answer; negative: none yet.
  };
  void set(const node_state& x);
  void set(const std::vector<peer_state>& peers);
  void set(const figures_view& figures, std::int64_t now_ms);

  /// Everything, as GET /metrics answers it.
  std::string text() const;

 private:
  struct families;
  std::unique_ptr<families> families_;
};

}  // namespace coordinator
