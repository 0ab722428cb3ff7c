#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "actors/keeper_messages.hpp"
#include "actors/messages.hpp"

namespace coordinator {

struct heartbeat_config {
  sender self;
  /// Leave that is not renewed for this long is over: a keeper that hangs must not look alive (rule 5).
  milliseconds leave_lasts{150};
};

struct heartbeat_actions {
  std::vector<std::pair<node_id, beat>> beats;  ///< To the peers' heartbeats.
  std::optional<round_evidence> evidence;       ///< To the keeper.
  std::optional<higher_term> term;              ///< To the keeper.
  std::optional<suspect> gone;                  ///< To election.
};

/// The beat of a leader, and who answered it when (Raft §5.2; rounds as §6.4 of the thesis needs them). Beats only on
/// leave of the keeper, and only reports: the keeper counts.
class heartbeat {
 public:
  explicit heartbeat(heartbeat_config config) : config_(std::move(config)) {}

  /// Leave to beat, its renewal, or its end.
  heartbeat_actions on_beat_leave(const beat_leave&, milliseconds now);
  /// Begins a round at once, for a read that came before it.
  heartbeat_actions on_want_round(const want_round&, milliseconds now);
  /// Begins a round, once a heartbeat interval, if there is leave.
  heartbeat_actions on_tick(milliseconds now);
  heartbeat_actions on_beat_reply(const beat_reply&);
  void on_role_changed(const role_changed& role) { role_ = role; }
  heartbeat_actions on_peer_up(const node_id&, milliseconds now);
  heartbeat_actions on_peer_down(const node_id&);

  /// Whether the timer is needed.
  bool beating() const { return leave_.leave != 0; }

 private:
  struct round {
    std::uint64_t read = 0;
    milliseconds began{0};
    std::map<node_id, sender> answered;
  };

  bool may_beat(milliseconds now) const { return beating() && now - renewed_ < config_.leave_lasts; }
  void begin_round(heartbeat_actions&, milliseconds now);

  heartbeat_config config_;
  beat_leave leave_;  // leave 0: none.
  milliseconds renewed_{0};
  std::uint64_t newest_read_ = 0;
  std::uint64_t last_round_ = 0;
  std::map<std::uint64_t, round> rounds_;  // The last few.
  role_changed role_;
  std::set<node_id> up_;
};

}  // namespace coordinator
