#include <algorithm>

#include "actors/invariant.hpp"
#include "actors/replication.hpp"
#include "persistence/codec.hpp"

/// Changes of the membership (chapter 4 of the thesis): one node at a time, each an entry that takes effect when it is
/// appended.

namespace coordinator {
namespace {

// A learner that lacks no more entries than this catches up within a round trip.
constexpr std::uint64_t promotion_lag = 100;

std::string quoted(const node_id& id) {
  return "\"" + id.value + "\"";
}

/// Of the committed memberships that the log still knows.
template <class Predicate>
bool any_members(const raft_log& log, log_index commit_index, Predicate fits) {
  for (auto index = log.base().index; index <= commit_index; index = log.next_members_after(index))
    if (fits(log.base_at(index).members))
      return true;
  return false;
}

}  // namespace

void replication::on_introduced(const node_id& id, const std::string& http_address,
                                const std::string& cluster_address) {
  auto& peer = peers_[id];
  peer.http_address = http_address;
  peer.cluster_address = cluster_address;
}

/// One change at a time, and none before an entry of the own term is committed: otherwise two leaders could each
/// have changed what the other one counts (the bug of the single-server change, found in 2015).
bool replication::change_is_possible(instant) const {
  bool committed = ready_ || config_.defects.has(defect::membership_before_own_commit);
  bool alone = log_.members_index() <= commit_index_ || config_.defects.has(defect::membership_before_own_commit);
  return role_ == node_role::leader && committed && alone && !change_ && !transfer_;
}

bool replication::in_contact(const member& m, instant now) const {
  if (m.id == config_.self.id)
    return writable();
  auto i = peers_.find(m.id);
  return i != peers_.end() && i->second.up && i->second.incarnation == m.incarnation && i->second.last_contact &&
         now.steady - *i->second.last_contact < patience();
}

bool replication::keeps_up(const member& m, instant now) const {
  if (!in_contact(m, now))
    return false;
  auto& peer = peers_.at(m.id);
  return !peer.needs_state && peer.match_index >= log_.base().index && peer.match_index > log_index{} &&
         peer.match_index + promotion_lag >= log_.last_index();
}

/// Why this membership would be a bad idea; empty: it would not.
std::string replication::refuse_change(const change_membership& ask, const membership& wanted, instant now) const {
  if (wanted.voter_count() == 0)
    return "the cluster would have no voter left";
  if (ask.force)
    return {};
  std::size_t there = 0;
  for (auto& m : wanted.members)
    there += m.voter && in_contact(m, now) ? 1 : 0;
  if (there < wanted.quorum())
    return "only " + std::to_string(there) + " of then " + std::to_string(wanted.voter_count()) +
           " voters are in contact, and a quorum is " + std::to_string(wanted.quorum()) +
           ": bring the others back first, or force it, and no write may commit until they are back";
  return {};
}

replication_actions replication::on_change_membership(const change_membership& ask, instant now) {
  replication_actions actions;
  using outcome = membership_reply::outcome;
  auto refuse = [&](outcome what, std::string detail) {
    actions.messages.push_back(
        {{ask.from.id, 0},
         membership_reply{config_.self, ask.request, what, std::move(detail), leader_, log_.members()}});
    return actions;
  };
  if (role_ != node_role::leader)
    return refuse(outcome::not_leader, "this node does not lead");
  if (!change_is_possible(now))
    return refuse(outcome::busy, transfer_ ? "leadership is being handed over"
                                 : ready_  ? "another change of the membership is under way"
                                           : "this leader has not committed an entry of its term yet");
  auto wanted = log_.members();
  auto known =
      std::find_if(wanted.members.begin(), wanted.members.end(), [&](const member& m) { return m.id == ask.id; });
  bool is_known = known != wanted.members.end();
  switch (ask.what) {
    case change_membership::change::add: {
      auto peer = peers_.find(ask.id);
      if (ask.id == config_.self.id ||
          (is_known && peer != peers_.end() && peer->second.up && peer->second.incarnation == known->incarnation))
        return refuse(outcome::unchanged, quoted(ask.id) + " is a member already");
      // A member that is away may have lost its disk or not: only its link will tell.
      if (peer == peers_.end() || !peer->second.up || peer->second.cluster_address.empty())
        return refuse(outcome::not_connected,
                      "no node " + quoted(ask.id) +
                          " is linked with the leader: start it with an empty data directory, " +
                          "the secret of this cluster and --peers that name its nodes, and try again");
      member joiner{ask.id, peer->second.incarnation, peer->second.http_address, peer->second.cluster_address, false};
      if (is_known)
        *known = joiner;
      else
        wanted.members.push_back(joiner);
      break;
    }
    case change_membership::change::promote:
      if (!is_known)
        return refuse(outcome::unknown_node, quoted(ask.id) + " is no member of this cluster");
      if (known->voter)
        return refuse(outcome::unchanged, quoted(ask.id) + " is a voter already");
      if (!keeps_up(*known, now))
        return refuse(outcome::not_caught_up, quoted(ask.id) + " has not caught up with the log yet");
      known->voter = true;
      break;
    case change_membership::change::remove:
      // Whoever asks again, because the answer was lost, is told that it is done.
      if (!is_known && was_member(ask.id))
        return refuse(outcome::unchanged, quoted(ask.id) + " was removed already");
      if (!is_known)
        return refuse(outcome::unknown_node, quoted(ask.id) + " is no member of this cluster");
      wanted.members.erase(known);
      break;
  }
  std::sort(wanted.members.begin(), wanted.members.end(), [](const member& a, const member& b) { return a.id < b.id; });
  if (auto reason = refuse_change(ask, wanted, now); !reason.empty())
    return refuse(outcome::unsafe, reason);
  change_ = pending_change{ask.from.id, ask.request, log_.last_index() + 1};
  append_members(std::move(wanted), actions, now);
  advance_commit(actions, now);
  finish(actions, now);
  return actions;
}

void replication::append_members(membership wanted, replication_actions& actions, instant now) {
  auto before = log_.members();
  append_own(entry_kind::membership, to_bytes(wanted), now);
  for (auto& m : before.members) {
    auto i = peers_.find(m.id);
    if (i == peers_.end() || wanted.find(m.id))
      continue;
    i->second.departs_with = log_.last_index();
    i->second.departs_by = now.steady + farewell;
  }
  for (auto& m : wanted.members) {
    auto old = before.find(m.id);
    if (m.id == config_.self.id || (old && old->incarnation == m.incarnation))
      continue;
    // What an earlier incarnation acknowledged is lost with its disk (rule 11).
    auto& peer = peers_[m.id];
    peer.next_index = log_.last_index() + 1;
    peer.match_index = {};
    peer.told_commit = {};
    peer.departs_with = {};
    peer.told_out = false;
    peer.snapshot.reset();
    rewind(peer);
  }
  replicate_all(actions, now);
}

void replication::answer_change(membership_reply::outcome what, const std::string& detail,
                                replication_actions& actions) {
  if (change_ && !change_->asker.empty())
    actions.messages.push_back(
        {{change_->asker, 0}, membership_reply{config_.self, change_->request, what, detail, leader_, log_.members()}});
  change_.reset();
}

/// Once a heartbeat interval, at the leader.
void replication::tend_members(replication_actions& actions, instant now) {
  for (auto& [id, peer] : peers_)
    if (peer.departs_with > log_index{} &&
        (now.steady >= peer.departs_by || !peer.up || peer.next_index < log_.first_index() ||
         std::min(peer.told_commit, peer.match_index) >= peer.departs_with))
      peer.departs_with = {};
  tell_strangers(actions);
  bool departing =
      std::any_of(peers_.begin(), peers_.end(), [](const auto& p) { return p.second.departs_with > log_index{}; });
  // A leader that removed itself leads until that is committed and the removed know, and hands over then.
  if (!log_.members().find(config_.self.id) && log_.members_index() <= commit_index_) {
    if (transfer_ || departing)
      return;
    auto to = leaving_ ? node_id{} : best_successor();
    leaving_ = true;
    if (to.empty())
      become_follower(actions);
    else
      begin_transfer(to, actions, now);
    return;
  }
  if (!config_.auto_promote || !change_is_possible(now))
    return;
  for (auto& m : log_.members().members) {
    if (m.voter || !keeps_up(m, now))
      continue;
    auto wanted = log_.members();
    for (auto& each : wanted.members)
      each.voter = each.voter || each.id == m.id;
    change_ = pending_change{{}, 0, log_.last_index() + 1};
    append_members(std::move(wanted), actions, now);
    return;
  }
}

/// Once a link and leadership, to all who are no members and are not told so by the log.
void replication::tell_strangers(replication_actions& actions) {
  if (log_.members_index() > commit_index_)
    return;
  for (auto& [id, peer] : peers_) {
    if (!peer.up || peer.told_out || peer.departs_with > log_index{} || log_.members().find(id))
      continue;
    peer.told_out = true;
    actions.messages.push_back({{id, 0}, removal_notice{config_.self, log_.members_index(), log_.members()}});
  }
}

/// What is committed stays true, whoever says it and in whatever term.
replication_actions replication::on_removal_notice(const removal_notice& notice, instant now) {
  replication_actions actions;
  auto m = notice.members.find(config_.self.id);
  const bool listed = m && m->incarnation == config_.self.incarnation;
  if (formed() && was_member_ && !listed && notice.index > commit_index_)
    told_out_at_ = std::max(told_out_at_, notice.index);
  finish(actions, now);
  return actions;
}

/// After each step: whether this node has been a member, and still is.
void replication::follow_members() {
  bool committed = log_.members_index() <= commit_index_;
  if (members_seen_ == log_.members_index() && members_committed_ == committed && told_out_at_ == log_index{})
    return;
  members_seen_ = log_.members_index();
  members_committed_ = committed;
  // Only what is committed counts: a membership that is cut off again has neither let this node in nor taken it out.
  was_member_ = was_member_ || was_member(config_.self);
  auto m = log_.members().find(config_.self.id);
  // As soon as the own log reaches as far, it decides: a later entry may have let this node in again.
  if (told_out_at_ <= commit_index_)
    told_out_at_ = {};
  const bool listed = m && m->incarnation == config_.self.incarnation;
  removed_ = was_member_ && (told_out_at_ > log_index{} || (committed && !listed));
}

/// Whether a committed membership that the log still knows has listed it.
bool replication::was_member(const sender& who) const {
  return any_members(log_, commit_index_, [&](const membership& x) {
    auto m = x.find(who.id);
    return m && m->incarnation == who.incarnation;
  });
}

/// The same, under whatever incarnation.
bool replication::was_member(const node_id& id) const {
  return any_members(log_, commit_index_, [&](const membership& x) { return x.find(id) != nullptr; });
}

}  // namespace coordinator
