#include "actors/election.hpp"

#include <algorithm>

namespace coordinator {

election::election(election_config config) : config_(std::move(config)), random_(config_.seed) {}

// std::uniform_int_distribution differs between standard libraries; a seed must not.
milliseconds election::draw(milliseconds from, milliseconds to) {
  auto range = static_cast<std::uint64_t>((to - from).count()) + 1;
  return from + milliseconds{static_cast<std::int64_t>(random_() % range)};
}

election_actions::timer election::arm(milliseconds delay, milliseconds now) {
  delay = std::max(delay, milliseconds{1});
  deadline_ = now + delay;
  return {++timer_, delay};
}

election_actions::timer election::arm_timeout(milliseconds now) {
  timeout_ = draw(config_.timeout_min, config_.timeout_max);
  extended_ = false;
  suspect_ = false;
  return arm(timeout_, now);
}

election_actions election::start(milliseconds now) {
  election_actions actions;
  actions.arm = arm_timeout(now);
  return actions;
}

election_actions election::on_timeout(std::uint64_t number, milliseconds now) {
  election_actions actions;
  if (number != timer_ || role_.role == node_role::leader)
    return actions;
  auto late = now - deadline_;
  if (late > config_.heartbeat_interval / 2 && !extended_) {
    extended_ = true;
    actions.arm = arm(std::min(late, config_.timeout_max), now);
    return actions;
  }
  extended_ = false;
  actions.ask = ask_leave{timeout_, suspect_, {}};
  // The keeper's answer arms it anew; this one is for the case that none comes.
  actions.arm = arm(config_.timeout_max, now);
  return actions;
}

election_actions election::on_campaign_leave(const campaign_leave& leave, milliseconds now) {
  election_actions actions;
  if (leave.leave == 0) {
    suspect_ = false;
    extended_ = false;
    if (role_.role != node_role::leader)
      actions.arm = arm(leave.retry_after, now);
    return actions;
  }
  campaign_ = leave;
  granted_.clear();
  for (auto& voter : leave.voters)
    if (up_.count(voter.id))
      actions.requests.emplace_back(voter.id, request());
  // A split vote is resolved by drawing again (Raft §5.2).
  actions.arm = arm_timeout(now);
  return actions;
}

request_vote election::request() const {
  return {config_.self,       campaign_.term,     campaign_.last_log_index, campaign_.last_log_term,
          campaign_.pre_vote, campaign_.transfer, campaign_.leave};
}

election_actions election::on_reply(const request_vote_reply& reply) {
  election_actions actions;
  auto own_term = role_.term;
  if (campaign_.leave != 0)
    own_term = std::max(own_term, campaign_.pre_vote ? campaign_.term - 1 : campaign_.term);
  if (reply.term > own_term) {
    actions.term = higher_term{reply.term};
    return actions;
  }
  if (campaign_.leave == 0 || reply.leave != campaign_.leave || reply.pre_vote != campaign_.pre_vote ||
      !reply.vote_granted)
    return actions;
  // Leaves are numbered from 1 again after a restart, terms are not: a vote from before it was for another term.
  if (!reply.pre_vote && reply.term != campaign_.term)
    return actions;
  granted_[reply.from.id] = reply.from;
  tally votes{campaign_.leave, {}};
  for (auto& [id, from] : granted_)
    votes.granted.push_back(from);
  actions.votes = std::move(votes);
  return actions;
}

election_actions election::on_role_changed(const role_changed& role, milliseconds now) {
  election_actions actions;
  bool led = role_.role == node_role::leader;
  role_ = role;
  if (role.role == node_role::leader) {
    ++timer_;
    campaign_ = {};
  } else {
    // A leader ends the campaign, and so does its term when it came from elsewhere. Word of the old role may come
    // after the leave for the next pre-vote, which is for a later term.
    if (!role.leader.empty() || (role.role != node_role::candidate && role.term >= campaign_.term))
      campaign_ = {};
    if (led)
      actions.arm = arm_timeout(now);
  }
  return actions;
}

election_actions election::on_suspect(const suspect& gone, milliseconds now) {
  election_actions actions;
  if (role_.role == node_role::leader || role_.leader != gone.leader)
    return actions;
  extended_ = false;
  suspect_ = true;
  actions.arm = arm(draw(milliseconds{0}, config_.timeout_max - config_.timeout_min), now);
  return actions;
}

election_actions election::on_timeout_now(const timeout_now& ask) {
  election_actions actions;
  if (role_.role != node_role::leader && ask.term == role_.term)
    actions.ask = ask_leave{timeout_, false, ask.term};
  return actions;
}

election_actions election::on_send_timeout_now(const send_timeout_now& order) {
  election_actions actions;
  actions.hand_over.emplace(order.to, timeout_now{config_.self, order.term});
  return actions;
}

election_actions election::on_peer_up(const node_id& id) {
  election_actions actions;
  up_.insert(id);
  bool voter =
      std::any_of(campaign_.voters.begin(), campaign_.voters.end(), [&](const sender& s) { return s.id == id; });
  if (campaign_.leave != 0 && voter && granted_.count(id) == 0)
    actions.requests.emplace_back(id, request());
  return actions;
}

void election::on_peer_down(const node_id& id) {
  up_.erase(id);
}

}  // namespace coordinator
