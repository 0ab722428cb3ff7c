#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/commands.hpp"
#include "actors/messages.hpp"
#include "actors/request_messages.hpp"
#include "actors/state_events.hpp"

namespace coordinator {

struct fleet_options {
  std::int64_t lease_ms = 15'000;            ///< An attempt must be listed by a heartbeat at least this often.
  std::int64_t worker_timeout_ms = 30'000;   ///< A worker silent for this long is offline.
  std::int64_t figures_interval_ms = 1'000;  ///< At most one report_figures in this time.
  std::int64_t proposal_timeout_ms = 5'000;  ///< An expiry that has not been applied by then is proposed again.
  std::int64_t retention_ms = 0;             ///< Finished tasks leave after it, in applied time; 0: never.
  std::uint64_t quota_bytes = 0;             ///< New tasks are refused while the node's files hold more; 0: never.
};

/// What a heartbeat comes to.
struct heard {
  bool known = true;                ///< False: no such worker here; it must register.
  std::vector<std::string> cancel;  ///< Tasks that the worker is to stop.
  /// The worker's standing is to change: set_worker_status with this is proposed before the heartbeat is answered.
  std::optional<worker_status> propose_status;
};

/// Liveness of workers, leases of attempts and usage figures: the leader's soft state (rule: a new leader gives all of
/// them one full period of grace). Follows the applied state by its events, decides who has fallen silent, and says
/// which commands to propose; it changes nothing by itself.
///
/// Times are milliseconds of a monotonic clock and never go back, but for `wall_ms`, which is what clients see.
/// Used at the leader only; elsewhere there is no object, or one that `off_leader` emptied.
class fleet {
 public:
  explicit fleet(const fleet_options& options = {}) : options_(options) {}

  /// Starts anew from the applied state.
  void on_leader(const fleet_view& view, std::int64_t now_ms);
  void off_leader();

  /// What applying has come to, last of all with the snapshot that `on_leader` is given; before the events of the same
  /// entries or after them.
  void conditions(const fleet_conditions& x, std::int64_t now_ms);
  /// How much this node's files hold. Counts at a new leader, too, which else knows nothing of its own disk.
  void storage_use(std::uint64_t bytes) { used_bytes_ = bytes; }

  /// What an entry after that view changed.
  void apply(const fleet_event& event, std::int64_t now_ms);

  /// A worker's heartbeat. Figures below zero, and numbers that are none, count as not said.
  heard beat(const worker_beat& x, std::int64_t now_ms);
  /// A claim counts as a heartbeat that lists nothing.
  heard claimed(const std::string& worker_id, std::int64_t now_ms);

  /// Commands to propose now. To be called some times a second. While rows end with time, or a finished task should be
  /// old enough by now to leave, a second without any other command of the fleet's gets a tick.
  std::vector<command_body> tick(std::int64_t now_ms, std::int64_t wall_ms);

 private:
  struct lease {
    std::string worker_id;
    std::int64_t renewed_ms = 0;   ///< When a heartbeat last listed it, or when it was assigned.
    std::int64_t began_ms = 0;     ///< When it was assigned, or taken over from the leader before.
    std::int64_t timeout_ms = 0;   ///< The task's; 0: none.
    std::int64_t proposed_ms = 0;  ///< When its expiry was last proposed, while `expiring`.
    bool listed = false;           ///< A heartbeat has listed it, here or at the leader before.
    bool running = false;          ///< As applied.
    bool running_proposed = false;
    bool expiring = false;  ///< Its expiry has been proposed: it is renewed no more.
  };
  struct worker {
    worker_standing standing;
    std::int64_t last_beat_ms = 0;
    std::int64_t offline_proposed_ms = 0;
    bool offline_proposed = false;
    bool reported = true;  ///< Its figures have been reported since they last changed.
    worker_figures figures;
    std::map<attempt_ref, lease> leases;
    /// Attempts that were ended over its head, and when: it is told to stop them until it has stopped listing them.
    std::map<attempt_ref, std::int64_t> stopping;
    /// Attempts that it lists and that are not known here, and since when: applying may lag behind its heartbeat.
    std::map<attempt_ref, std::int64_t> unknown;
  };

  std::vector<attempt_ref> listed_by(const worker& w, const worker_beat& x) const;
  void renew(worker& w, const std::vector<attempt_ref>& listed, std::int64_t now_ms, heard& out);
  std::optional<worker_status> status_change(const worker& w, const std::string& said) const;
  static void take_figures(worker& w, const worker_beat& x);
  void apply_attempt(const attempt_event& x, std::int64_t now_ms);
  void apply_worker(const worker_event& x, std::int64_t now_ms);
  void find_silent(std::int64_t now_ms, std::vector<command_body>& out);
  void find_expired(std::int64_t now_ms, std::vector<command_body>& out);
  void find_started(std::vector<command_body>& out);
  void find_retired(std::int64_t now_ms, std::vector<command_body>& out);
  void watch_storage(std::int64_t now_ms, std::vector<command_body>& out);
  bool waits_for_time(std::int64_t now_ms) const;
  void report(std::int64_t now_ms, std::int64_t wall_ms, std::vector<command_body>& out);
  std::optional<attempt_outcome> expiry_of(const worker& w, const lease& x, std::int64_t now_ms) const;

  fleet_options options_;
  std::map<std::string, worker> workers_;
  std::int64_t last_report_ms_ = 0;
  std::int64_t last_proposal_ms_ = 0;

  fleet_conditions conditions_;
  std::int64_t conditions_heard_ms_ = 0;
  std::optional<std::int64_t> retire_proposed_ms_;  ///< Until it is seen to be applied.
  std::optional<std::uint64_t> used_bytes_;
  std::optional<bool> over_quota_;                 ///< None: not judged yet in this leadership.
  std::optional<std::int64_t> alarm_proposed_ms_;  ///< Until the applied alarm is what it should be.
};

}  // namespace coordinator
