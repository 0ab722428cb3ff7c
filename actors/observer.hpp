#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "actors/event_log.hpp"
#include "actors/latency_history.hpp"
#include "actors/metrics.hpp"
#include "actors/node_report.hpp"

namespace coordinator {

/// What a node's actors and its HTTP front see happen, kept for people who watch: events, figures, how the nodes see
/// each other. It is a notebook: everybody writes into it, and nothing in it decides anything. Thread-safe; no call
/// waits for more than a short lock, so that looking never disturbs what is looked at.
class observer {
 public:
  using steady = std::chrono::steady_clock;

  /// A peer that has not answered for this long is reported as lost: with a ping twice a second that is two of them.
  static constexpr milliseconds silence{1'500};
  /// A report older than this is no longer passed on.
  static constexpr milliseconds report_life{60'000};

  observer(node_id self, std::uint64_t boot_id);

  const node_id& self() const { return self_; }
  /// Marks this process: event numbers begin anew with each.
  std::uint64_t boot_id() const { return boot_id_; }
  std::int64_t now_ms() const;

  event_log& events() { return events_; }
  metrics& figures() { return metrics_; }
  const latency_history& history() const { return history_; }
  static milliseconds steady_ms();

  // -- from the actors -----------------------------------------------------------------
  void addresses(std::string http_address);
  void role(const role_changed& x);
  void synced(std::chrono::nanoseconds taken);
  /// A write failed; until the next one that succeeds.
  void disk_failed();
  /// An entry was applied; takes what came of it for tasks out of `events`.
  void applied(log_index index, log_index commit_index, state_events& events);
  void storage(std::uint64_t used_bytes);
  void quota(std::uint64_t bytes);
  void members(const membership& x);
  void link_up(const node_id& peer);
  void link_down(const node_id& peer, const std::string& reason);
  /// A datagram of the peer's path probe came in.
  void arrived_from(const node_id& peer);
  void pong(const node_id& peer, std::chrono::microseconds rtt, std::vector<node_report> reports);
  /// Looks for peers that have fallen silent, and notes how far the log is committed. To be called some times a second.
  void look_for_silence();

  // -- from the HTTP front ---------------------------------------------------------------
  void written(std::chrono::nanoseconds taken);
  void recovered(recovery_event x);

  // -- for who looks ---------------------------------------------------------------------
  /// What this node says of itself, and what it has heard of others, each with its age.
  std::vector<node_report> reports() const;
  struct standing {
    role_changed role;
    log_index last_applied;
    log_index commit_index;
    membership members;
    bool writable = true;
    std::uint64_t storage_used = 0;
    std::uint64_t storage_quota = 0;
  };
  standing now() const;
  std::vector<metrics::peer_state> peers() const;
  /// How far this node knew the log to be committed at that time of `steady_ms`; the oldest it remembers, beyond some
  /// seconds.
  log_index committed_at(milliseconds then) const;

 private:
  struct peer {
    bool up = false;       ///< The link.
    bool healthy = false;  ///< It is up and answers; what was last reported.
    std::int64_t rtt_us = -1;
    std::optional<milliseconds> heard;
    std::optional<milliseconds> arrived;
    milliseconds since{0};  ///< When the link came up.
  };
  struct heard_report {
    node_report what;
    milliseconds at{0};
  };

  node_report own_report(milliseconds now) const;
  void judge(const node_id& id, peer& p, bool healthy, const std::string& reason);

  const node_id self_;
  const std::uint64_t boot_id_;
  const steady::time_point started_ = steady::now();
  event_log events_;
  metrics metrics_;
  latency_history history_;

  mutable std::mutex mutex_;
  std::string http_address_;
  standing now_;
  node_id last_leader_;
  std::map<node_id, peer> peers_;
  std::map<node_id, heard_report> heard_;
  std::deque<std::pair<milliseconds, log_index>> commits_;  ///< What commit_index was when, of late.
};

}  // namespace coordinator
