#pragma once

#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "actors/keeper_messages.hpp"
#include "actors/messages.hpp"

namespace coordinator {

struct election_config {
  sender self;
  milliseconds timeout_min{150};
  milliseconds timeout_max{300};
  milliseconds heartbeat_interval{50};
  std::uint64_t seed = 0;  ///< Of the randomised time-outs (Raft §5.2).
};

/// Everything to be done after one message.
struct election_actions {
  struct timer {
    std::uint64_t number = 0;  ///< An older number that fires is to be ignored.
    milliseconds delay{0};
  };
  std::optional<timer> arm;
  std::optional<ask_leave> ask;                              ///< To the keeper.
  std::optional<tally> votes;                                ///< To the keeper.
  std::optional<higher_term> term;                           ///< To the keeper.
  std::vector<std::pair<node_id, request_vote>> requests;    ///< To the peers' elections.
  std::optional<std::pair<node_id, timeout_now>> hand_over;  ///< To a peer's election.
};

/// When to campaign, whom to ask, who granted (Raft §5.2, with the pre-vote of §9.6 of the thesis). It decides nothing:
/// the keeper gives leave, which ends with any sign of a leader, and counts what is reported here.
class election {
 public:
  explicit election(election_config config);

  /// Arms the first time-out.
  election_actions start(milliseconds now);
  /// A timer fired. One that is late lets the mailbox drain first, for what delayed it may have delayed the
  /// leader's beats too: a starved machine is not a dead leader (rule 6).
  election_actions on_timeout(std::uint64_t number, milliseconds now);
  election_actions on_campaign_leave(const campaign_leave&, milliseconds now);
  election_actions on_reply(const request_vote_reply&);
  election_actions on_role_changed(const role_changed&, milliseconds now);
  /// The leader's link broke: campaigns after a short random delay instead of the whole time-out.
  election_actions on_suspect(const suspect&, milliseconds now);
  election_actions on_timeout_now(const timeout_now&);
  election_actions on_send_timeout_now(const send_timeout_now&);
  /// Asks a peer that has come back for the vote it could not be asked for.
  election_actions on_peer_up(const node_id&);
  void on_peer_down(const node_id&);

 private:
  milliseconds draw(milliseconds from, milliseconds to);
  election_actions::timer arm(milliseconds delay, milliseconds now);
  election_actions::timer arm_timeout(milliseconds now);
  request_vote request() const;

  election_config config_;
  std::mt19937_64 random_;
  role_changed role_;
  std::set<node_id> up_;

  std::uint64_t timer_ = 0;
  milliseconds deadline_{0};
  milliseconds timeout_{0};  // As it was drawn.
  bool extended_ = false;    // Once a time-out only.
  bool suspect_ = false;

  campaign_leave campaign_;  // leave 0: none.
  std::map<node_id, sender> granted_;
};

}  // namespace coordinator
