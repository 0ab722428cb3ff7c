#include "actors/heartbeat.hpp"

namespace coordinator {
namespace {

// An answer to a round older than these says little about who is there now.
constexpr std::size_t kept_rounds = 32;

}  // namespace

heartbeat_actions heartbeat::on_beat_leave(const beat_leave& leave, milliseconds now) {
  heartbeat_actions actions;
  bool fresh = leave.leave != 0 && leave.leave != leave_.leave;
  if (leave.leave != leave_.leave) {
    rounds_.clear();
    newest_read_ = 0;
  }
  leave_ = leave;
  renewed_ = now;
  // A new leader is heard at once, so that nobody else campaigns.
  if (fresh)
    begin_round(actions, now);
  return actions;
}

heartbeat_actions heartbeat::on_want_round(const want_round& want, milliseconds now) {
  heartbeat_actions actions;
  if (want.leave != leave_.leave)
    return actions;
  // Asked for once only: where the leave has run out, the first round after its renewal is for this read.
  newest_read_ = want.read;
  if (may_beat(now))
    begin_round(actions, now);
  return actions;
}

heartbeat_actions heartbeat::on_tick(milliseconds now) {
  heartbeat_actions actions;
  if (may_beat(now))
    begin_round(actions, now);
  return actions;
}

void heartbeat::begin_round(heartbeat_actions& actions, milliseconds now) {
  auto number = ++last_round_;
  rounds_[number] = {newest_read_, now, {}};
  if (rounds_.size() > kept_rounds)
    rounds_.erase(rounds_.begin());
  for (auto& target : leave_.targets)
    if (up_.count(target.id))
      actions.beats.emplace_back(target.id, beat{config_.self, leave_.term, target.commit_index, number});
}

heartbeat_actions heartbeat::on_beat_reply(const beat_reply& reply) {
  heartbeat_actions actions;
  if (reply.term > std::max(leave_.term, role_.term)) {
    actions.term = higher_term{reply.term};
    return actions;
  }
  auto i = rounds_.find(reply.round);
  // The follower's own term has to be ours as well: one that refused the beat did not confirm it.
  if (!beating() || reply.answers_term != leave_.term || reply.term != leave_.term || i == rounds_.end())
    return actions;
  i->second.answered[reply.from.id] = reply.from;
  round_evidence evidence{leave_.leave, i->second.read, {}, i->second.began};
  for (auto& [id, from] : i->second.answered)
    evidence.answered.push_back(from);
  actions.evidence = std::move(evidence);
  return actions;
}

heartbeat_actions heartbeat::on_peer_up(const node_id& id, milliseconds now) {
  heartbeat_actions actions;
  up_.insert(id);
  if (!may_beat(now))
    return actions;
  // It may be about to campaign: let it hear the leader now.
  for (auto& target : leave_.targets)
    if (target.id == id && last_round_ != 0)
      actions.beats.emplace_back(id, beat{config_.self, leave_.term, target.commit_index, last_round_});
  return actions;
}

heartbeat_actions heartbeat::on_peer_down(const node_id& id) {
  heartbeat_actions actions;
  up_.erase(id);
  if (role_.role != node_role::leader && role_.leader == id)
    actions.gone = suspect{id, role_.term};
  return actions;
}

}  // namespace coordinator
