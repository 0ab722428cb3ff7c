#include <algorithm>
#include <functional>

#include "actors/invariant.hpp"
#include "actors/replication.hpp"

namespace coordinator {

// -- becoming and ceasing to be leader ---------------------------------------------

void replication::become_leader(replication_actions& actions, instant now) {
  COORDINATOR_INVARIANT(role_ == node_role::candidate || config_.defects.any());
  role_ = node_role::leader;
  leader_ = config_.self.id;
  leave_ = ++last_leave_;
  leave_is_pre_vote_ = false;
  clock_.start(log_.last_time_ms(), now.steady);
  leader_since_ = now.steady;
  quorum_progress_ = now.steady;
  own_term_first_ = log_.last_index() + 1;
  ready_ = false;
  leaving_ = false;
  for (auto& m : log_.members().members)
    if (m.id != config_.self.id)
      peers_[m.id];
  for (auto& [id, peer] : peers_) {
    peer.next_index = log_.last_index() + 1;
    peer.match_index = {};
    peer.probing = true;
    peer.flights.clear();
    peer.flight_bytes = 0;
    peer.told_commit = {};
    peer.awaits_commit = {};
    peer.last_contact.reset();
    peer.load = 0;
    peer.needs_state = false;
    peer.snapshot.reset();
    // Whoever was taken out under another leader may not have heard of it.
    bool told = !peer.up || log_.members().find(id) || !was_member({id, peer.incarnation});
    peer.departs_with = told ? log_index{} : log_.members_index();
    peer.departs_by = now.steady + farewell;
    peer.told_out = false;
  }
  // Entries of earlier terms commit only along with one of ours (Raft §5.4.2).
  append_own(entry_kind::noop, {}, now);
  actions.beats = beat_message();
  replicate_all(actions, now);
}

void replication::resign(replication_actions& actions) {
  answer_change(membership_reply::outcome::unknown, "leadership ended before the change was committed", actions);
  fail_reads(actions);
  transfer_.reset();
  uncommitted_.clear();
  uncommitted_bytes_ = 0;
  round_wanted_ = 0;
  ready_ = false;
  for (auto& [id, peer] : peers_) {
    peer.flights.clear();
    peer.flight_bytes = 0;
    peer.load = 0;
    peer.snapshot.reset();
  }
  copy_reads_.clear();
  end_leave();
  actions.beats = beat_leave{};
}

beat_leave replication::beat_message() const {
  beat_leave message{leave_, state_.current_term, {}};
  for (auto& m : log_.members().members) {
    if (m.id == config_.self.id)
      continue;
    auto i = peers_.find(m.id);
    auto match = i == peers_.end() ? log_index{} : i->second.match_index;
    message.targets.push_back({m.id, std::min(commit_index_, match)});
  }
  return message;
}

// -- appending and replicating -------------------------------------------------------

void replication::append_own(entry_kind kind, std::string payload, instant now) {
  if (commit_index_ == log_.last_index())
    quorum_progress_ = now.steady;
  log_entry entry{log_.last_index() + 1, state_.current_term, kind, clock_.stamp(now.steady, now.wall_ms),
                  std::move(payload)};
  if (!next_)
    next_.emplace();
  next_->entries.push_back(entry);
  log_.append(std::move(entry));
}

replication_actions replication::on_propose(propose batch, instant now) {
  replication_actions actions;
  bool busy = role_ == node_role::leader && (transfer_ || uncommitted_bytes_ > config_.uncommitted_bytes);
  if (role_ != node_role::leader || busy) {
    actions.messages.push_back({{batch.from.id, 0}, proposal_rejected{config_.self, batch.batch, leader_, busy}});
    return actions;
  }
  std::size_t bytes = 0;
  for (auto& command : batch.commands) {
    bytes += command.size();
    append_own(entry_kind::command, std::move(command), now);
  }
  uncommitted_.push_back({log_.last_index(), bytes});
  if (auto i = peers_.find(batch.from.id); i != peers_.end())
    i->second.awaits_commit = log_.last_index();
  uncommitted_bytes_ += bytes;
  replicate_all(actions, now);
  finish(actions, now);
  return actions;
}

void replication::replicate_all(replication_actions& actions, instant now) {
  for (auto& m : log_.members().members)
    if (auto i = peers_.find(m.id); m.id != config_.self.id && i != peers_.end())
      replicate(i->first, i->second, actions, now);
  for (auto& [id, peer] : peers_)
    if (peer.departs_with > log_index{})
      replicate(id, peer, actions, now);
}

void replication::replicate(const node_id& id, progress& peer, replication_actions& actions, instant now) {
  if (!peer.up)
    return;
  bool behind = peer.next_index < log_.first_index();
  // To learn that it is out no node gets a whole state.
  if (behind && peer.departs_with > log_index{})
    return;
  if (behind || peer.needs_state)
    send_snapshot(id, peer, actions, now);
  if (behind)
    return;
  while (peer.load == 0 && !(peer.probing && !peer.flights.empty()) &&
         (peer.next_index <= log_.last_index() || peer.probing) && peer.flight_bytes < config_.window_bytes &&
         peer.flights.size() < config_.window_messages) {
    if (peer.next_index > log_.last_index()) {
      send_append(id, peer, {}, actions, now);
      break;
    }
    auto entries = log_.entries(peer.next_index, log_.last_index(), config_.append_bytes);
    if (!entries) {
      peer.load = ++last_load_;
      peer.load_from = peer.next_index;
      actions.loads.push_back({peer.load, peer.next_index, log_.last_index(), config_.append_bytes});
      break;
    }
    send_append(id, peer, std::move(*entries), actions, now);
  }
  if (peer.told_commit < std::min(peer.awaits_commit, commit_index_))
    tell_commit(id, peer, actions);
}

/// Word of commitment by itself, where no append is there to carry it.
void replication::tell_commit(const node_id& id, progress& peer, replication_actions& actions) {
  if (!peer.up || peer.probing || peer.load != 0 || peer.match_index < log_.base().index)
    return;
  append_entries notice{
      config_.self, state_.current_term, peer.match_index, log_.term_at(peer.match_index), {}, commit_index_, true};
  peer.told_commit = commit_index_;
  actions.messages.push_back({{id, 0}, std::move(notice)});
}

bool replication::lacks_commit(const progress& peer) const {
  return peer.up && peer.flights.empty() && !peer.probing && peer.load == 0 &&
         peer.told_commit < std::min(commit_index_, peer.match_index);
}

replication_actions replication::on_commit_notice(instant now) {
  replication_actions actions;
  notice_wanted_ = false;
  if (role_ == node_role::leader)
    for (auto& [id, peer] : peers_)
      if (lacks_commit(peer))
        tell_commit(id, peer, actions);
  finish(actions, now);
  return actions;
}

/// The next append carries it as well, and usually comes before this falls due.
void replication::want_notice(replication_actions& actions) {
  if (notice_wanted_ || role_ != node_role::leader)
    return;
  notice_wanted_ = std::any_of(peers_.begin(), peers_.end(), [this](auto& x) { return lacks_commit(x.second); });
  actions.commit_notice = notice_wanted_;
}

void replication::send_append(const node_id& id, progress& peer, std::vector<log_entry> entries,
                              replication_actions& actions, instant now) {
  auto prev = peer.next_index - 1;
  progress::flight flight{peer.next_index, prev + entries.size(), 0};
  for (auto& e : entries)
    flight.bytes += e.payload.size();
  peer.flight_bytes += flight.bytes;
  peer.flights.push_back(flight);
  peer.next_index = flight.last + 1;
  peer.told_commit = commit_index_;
  peer.last_sent = now.steady;
  actions.messages.push_back(
      {{id, 0},
       append_entries{config_.self, state_.current_term, prev, log_.term_at(prev), std::move(entries), commit_index_}});
}

/// What was under way may be lost: goes back to the first of it, one message at a time.
void replication::rewind(progress& peer) {
  if (!peer.flights.empty())
    peer.next_index = std::max(peer.flights.front().first, peer.match_index + 1);
  peer.flights.clear();
  peer.flight_bytes = 0;
  peer.load = 0;
  peer.told_commit = {};
  peer.probing = true;
}

replication_actions replication::on_append_entries_reply(const append_entries_reply& reply, instant now) {
  if (reply.term > state_.current_term)
    return on_higher_term(reply.term, now);
  replication_actions actions;
  auto m = log_.members().find(reply.from.id);
  auto i = peers_.find(reply.from.id);
  bool departs = !m && i != peers_.end() && i->second.departs_with > log_index{};
  if (role_ != node_role::leader || reply.answers_term != state_.current_term || i == peers_.end() || !(m || departs))
    return actions;
  // Another incarnation has lost its disk, and with it whatever it acknowledged (rule 11).
  auto incarnation = m ? m->incarnation : i->second.incarnation;
  if (incarnation != reply.from.incarnation && !config_.defects.has(defect::ignore_incarnation))
    return actions;
  auto& peer = i->second;
  peer.last_contact = now.steady;
  peer.needs_state = reply.needs_state;
  bool committed = false;
  if (reply.success) {
    COORDINATOR_INVARIANT(reply.match_index <= log_.last_index() || config_.defects.any());
    if (reply.match_index > peer.match_index) {
      peer.match_index = std::min(reply.match_index, log_.last_index());
      if (m && m->voter)
        quorum_progress_ = now.steady;
      committed = advance_commit(actions, now);
    }
    if (peer.probing) {
      // It fits. The probe itself may still be being written over there; that answer comes later.
      peer.probing = false;
    }
    while (!peer.flights.empty() && peer.flights.front().last <= peer.match_index) {
      peer.flight_bytes -= peer.flights.front().bytes;
      peer.flights.pop_front();
    }
    peer.next_index = std::max(peer.next_index, peer.match_index + 1);
    drive_transfer(actions, now);
  } else {
    // Answers to what was sent before a rewind say nothing new.
    bool stale = reply.prev_log_index < peer.match_index ||
                 (peer.probing && (peer.flights.empty() || peer.flights.front().first - 1 != reply.prev_log_index));
    if (!stale) {
      auto same = reply.conflict_term > term_number{} ? log_.last_of_term(reply.conflict_term, reply.prev_log_index)
                                                      : log_index{};
      auto next = same > log_index{} ? same + 1 : reply.conflict_index;
      rewind(peer);
      peer.next_index = std::clamp(next, peer.match_index + 1, log_.last_index() + 1);
    }
  }
  if (committed)
    replicate_all(actions, now);
  else
    replicate(i->first, peer, actions, now);
  finish(actions, now);
  return actions;
}

bool replication::advance_commit(replication_actions& actions, instant now) {
  std::vector<log_index> matches;
  for (auto& m : log_.members().members) {
    bool self = m.id == config_.self.id;
    if (!(self ? is_self_voter() || config_.defects.has(defect::count_self_without_vote) : m.voter))
      continue;
    if (self)
      matches.push_back(config_.defects.has(defect::count_own_write_early) ? log_.last_index() : durable_index_);
    else if (auto i = peers_.find(m.id); i != peers_.end())
      matches.push_back(i->second.match_index);
  }
  auto quorum = log_.members().quorum();
  if (matches.size() < quorum)
    return false;
  std::sort(matches.begin(), matches.end(), std::greater<>{});
  auto candidate = matches[quorum - 1];
  if (candidate <= commit_index_)
    return false;
  // Only entries of our own term commit by counting: an older one on a majority can still be overwritten
  // (Raft §5.4.2, figure 8).
  if (log_.term_at(candidate) != state_.current_term && !config_.defects.has(defect::commit_older_term_by_counting))
    return false;
  commit_index_ = candidate;
  quorum_progress_ = now.steady;
  while (!uncommitted_.empty() && uncommitted_.front().last <= commit_index_) {
    uncommitted_bytes_ -= uncommitted_.front().bytes;
    uncommitted_.pop_front();
  }
  if (!ready_ && commit_index_ >= own_term_first_) {
    ready_ = true;
    serve_reads(actions, now);
  }
  if (change_ && change_->index <= commit_index_)
    answer_change(membership_reply::outcome::committed, {}, actions);
  return true;
}

// -- linearizable reads ----------------------------------------------------------------

replication_actions replication::on_read_index(const read_index& ask, instant now) {
  replication_actions actions;
  if (role_ != node_role::leader) {
    actions.messages.push_back({{ask.from.id, 0}, read_index_reply{config_.self, ask.request, false, {}, leader_}});
    return actions;
  }
  reads_.push_back({ask, 0, {}, 0});
  serve_reads(actions, now);
  finish(actions, now);
  return actions;
}

void replication::serve_reads(replication_actions& actions, instant) {
  // Until an own-term entry is committed, commit_index may lag behind what an earlier leader acknowledged.
  if (!ready_ && !config_.defects.has(defect::read_without_own_term_commit))
    return;
  for (auto& read : reads_)
    if (read.number == 0) {
      read.number = ++last_read_;
      read.index = commit_index_;
      read.leave = leave_;
    }
  if (log_.members().quorum() == 1 && is_self_voter())
    answer_reads(last_read_, actions);
  if (!reads_.empty() && round_wanted_ == 0) {
    round_wanted_ = last_read_;
    actions.round = want_round{leave_, round_wanted_};
  }
}

void replication::answer_reads(std::uint64_t up_to, replication_actions& actions) {
  while (!reads_.empty() && reads_.front().number != 0 && reads_.front().number <= up_to) {
    auto& read = reads_.front();
    actions.messages.push_back(
        {{read.request.from.id, 0}, read_index_reply{config_.self, read.request.request, true, read.index, leader_}});
    // It waits until it has applied that far.
    if (auto i = peers_.find(read.request.from.id); i != peers_.end() && i->second.told_commit < read.index)
      tell_commit(i->first, i->second, actions);
    reads_.pop_front();
  }
}

void replication::fail_reads(replication_actions& actions) {
  if (config_.defects.has(defect::read_under_ended_leave))
    return;
  for (auto& read : reads_)
    actions.messages.push_back(
        {{read.request.from.id, 0}, read_index_reply{config_.self, read.request.request, false, {}, {}}});
  reads_.clear();
}

replication_actions replication::on_round_evidence(const round_evidence& round, instant now) {
  replication_actions actions;
  bool live = role_ == node_role::leader && round.leave == leave_;
  if (!live && !config_.defects.has(defect::read_under_ended_leave))
    return actions;
  std::set<node_id> answered;
  for (auto& from : round.answered) {
    auto i = peers_.find(from.id);
    auto m = log_.members().find(from.id);
    // A learner's answer counts in no majority, and is still a sign of life.
    if (i != peers_.end() && m && m->incarnation == from.incarnation)
      i->second.last_contact = std::max(i->second.last_contact.value_or(round.began), round.began);
    if (counts(from))
      answered.insert(from.id);
  }
  if (is_self_voter() || config_.defects.has(defect::count_self_without_vote))
    answered.insert(config_.self.id);
  if (answered.size() >= log_.members().quorum()) {
    answer_reads(config_.defects.has(defect::read_on_older_round) ? last_read_ : round.read, actions);
    if (live && round_wanted_ != 0 && round.read >= round_wanted_) {
      round_wanted_ = 0;
      serve_reads(actions, now);
    }
  }
  finish(actions, now);
  return actions;
}

// -- keeping and handing over leadership -------------------------------------------------

replication_actions replication::on_tick(instant now) {
  replication_actions actions;
  tend_snapshots(actions, now);
  if (role_ != node_role::leader) {
    ask_for_state(actions, now);
    finish(actions, now);
    return actions;
  }
  bool contact = has_quorum_contact(now) || config_.defects.has(defect::no_check_quorum);
  bool progress = makes_progress(now) || config_.defects.has(defect::beats_without_progress);
  if (!contact || !progress) {
    become_follower(actions);
    finish(actions, now);
    return actions;
  }
  if (transfer_ && now.steady >= transfer_->deadline)
    transfer_.reset();
  tend_members(actions, now);
  if (role_ != node_role::leader) {
    finish(actions, now);
    return actions;
  }
  for (auto& [id, peer] : peers_) {
    if (!peer.up || peer.flights.empty() || now.steady - peer.last_sent < config_.election_timeout_max)
      continue;
    rewind(peer);
    replicate(id, peer, actions, now);
  }
  actions.beats = beat_message();
  finish(actions, now);
  return actions;
}

bool replication::has_quorum_contact(instant now) const {
  std::size_t n = is_self_voter() ? 1 : 0;
  for (auto& m : log_.members().members) {
    auto i = peers_.find(m.id);
    if (!m.voter || m.id == config_.self.id || i == peers_.end())
      continue;
    if (now.steady - i->second.last_contact.value_or(leader_since_) < config_.election_timeout_max)
      ++n;
  }
  return n >= log_.members().quorum();
}

bool replication::makes_progress(instant now) const {
  if (write_hangs(now))
    return false;
  return commit_index_ == log_.last_index() || now.steady - quorum_progress_ < patience();
}

replication_actions replication::on_transfer_leadership(const transfer_leadership& ask, instant now) {
  replication_actions actions;
  using outcome = transfer_reply::outcome;
  auto answer = [&](outcome what, const node_id& to) {
    actions.messages.push_back({{ask.from.id, 0}, transfer_reply{config_.self, ask.request, what, to, leader_}});
  };
  if (role_ != node_role::leader) {
    answer(outcome::not_leader, {});
    return actions;
  }
  if (transfer_) {
    answer(transfer_->to == ask.to ? outcome::started : outcome::busy, transfer_->to);
    return actions;
  }
  auto to = ask.to;
  if (to.empty())
    to = best_successor();
  if (to.empty()) {
    answer(outcome::no_candidate, {});
    return actions;
  }
  auto m = log_.members().find(to);
  if (!m || !m->voter) {
    answer(m ? outcome::not_a_voter : outcome::unknown_node, to);
    return actions;
  }
  if (to == config_.self.id) {
    answer(outcome::started, to);
    return actions;
  }
  // Proposals wait while a transfer is under way: not for one that cannot be told.
  if (auto i = peers_.find(to); i == peers_.end() || !i->second.up) {
    answer(outcome::no_candidate, to);
    return actions;
  }
  answer(outcome::started, to);
  begin_transfer(to, actions, now);
  finish(actions, now);
  return actions;
}

/// The voter that is linked and has most of the log; empty if there is none.
node_id replication::best_successor() const {
  node_id best;
  for (auto& m : log_.members().members) {
    auto i = peers_.find(m.id);
    if (!m.voter || i == peers_.end() || !i->second.up || m.id == config_.self.id || i->second.needs_state)
      continue;
    if (best.empty() || i->second.match_index > peers_.at(best).match_index)
      best = m.id;
  }
  return best;
}

void replication::begin_transfer(const node_id& to, replication_actions& actions, instant now) {
  transfer_ = transfer_state{to, now.steady + patience(), false};
  drive_transfer(actions, now);
}

void replication::drive_transfer(replication_actions& actions, instant now) {
  if (!transfer_ || transfer_->told)
    return;
  auto i = peers_.find(transfer_->to);
  if (i == peers_.end() || i->second.match_index != log_.last_index())
    return;
  transfer_->told = true;
  transfer_->deadline = now.steady + config_.election_timeout_max;
  actions.hand_over = send_timeout_now{transfer_->to, state_.current_term};
}

}  // namespace coordinator
