#include "actors/replication.hpp"

#include <algorithm>

#include "actors/invariant.hpp"
#include "persistence/codec.hpp"

namespace coordinator {

const char* to_string(node_role role) {
  switch (role) {
    case node_role::unformed:
      return "UNFORMED";
    case node_role::learner:
      return "LEARNER";
    case node_role::follower:
      return "FOLLOWER";
    case node_role::candidate:
      return "CANDIDATE";
    case node_role::leader:
      return "LEADER";
  }
  return "UNKNOWN";
}

replication::replication(replication_config config, raft_contents&& contents, log_index last_applied)
    : config_(std::move(config)),
      log_(raft_contents(contents), config_.memory_bytes),
      state_(contents.state),
      cluster_id_(contents.founded ? contents.founded->cluster_id : std::string{}),
      last_leave_(config_.numbers_from),
      state_error_(config_.needs_state),
      commit_index_(std::max(last_applied, log_.base().index)),
      durable_index_(log_.last_index()),
      handed_(last_applied),
      next_number_(config_.numbers_from + 1),
      durable_write_(config_.numbers_from),
      state_write_(config_.numbers_from),
      emitted_last_(log_.last_index()),
      last_read_(config_.numbers_from),
      state_file_(contents.state_file),
      last_copy_(config_.snapshot_numbers_from),
      last_load_(config_.numbers_from) {
  // The state is written only from entries that were committed and durable in raft.db.
  COORDINATOR_INVARIANT(last_applied <= log_.last_index());
  COORDINATOR_INVARIANT(!state_usable() || last_applied >= log_.base().index);
  if (!state_usable())
    evidence_ = state_error_;
  if (formed())
    role_ = is_self_voter() ? node_role::follower : node_role::learner;
  // Entry 1 was agreed on by all founders before any of them wrote it.
  if (formed() && commit_index_ < log_index{1})
    commit_index_ = log_index{1};
  follow_members();
  announced_ = role_message();
}

// -- votes ---------------------------------------------------------------------

replication_actions replication::on_request_vote(const request_vote& ask, const reply_address& to, instant now) {
  replication_actions actions;
  // A node that is not formed has promised nothing to anyone: neither a vote nor its refusal (rule 12).
  if (!formed() && !config_.defects.has(defect::vote_unformed))
    return actions;
  bool granted = false;
  if (ask.pre_vote) {
    bool contact = !config_.defects.has(defect::pre_vote_ignores_contact) &&
                   (role_ == node_role::leader || recent_contact(config_.election_timeout_min, now));
    granted = ask.term > state_.current_term && up_to_date(ask) && writable() && (!contact || ask.transfer);
    if (config_.defects.has(defect::pre_vote_raises_term) && ask.term > state_.current_term) {
      adopt_term(ask.term, actions);
      become_follower(actions);
    }
  } else {
    if (ask.term > state_.current_term) {
      adopt_term(ask.term, actions);
      become_follower(actions);
    }
    bool undecided = config_.defects.has(defect::grant_in_two_steps) && state_write_ > durable_write_;
    granted = ask.term == state_.current_term && writable() && up_to_date(ask) &&
              (!state_.voted_for || *state_.voted_for == ask.candidate.id || undecided);
    if (granted && state_.voted_for != ask.candidate.id) {
      state_.voted_for = ask.candidate.id;
      save_state();
    }
    if (granted)
      last_grant_ = now.steady;
  }
  say(to, request_vote_reply{config_.self, state_.current_term, granted, ask.pre_vote, ask.leave}, actions);
  finish(actions, now);
  return actions;
}

bool replication::up_to_date(const request_vote& ask) const {
  // Raft §5.4.1: the later term wins, then the longer log.
  return ask.last_log_term != log_.last_term() ? ask.last_log_term > log_.last_term()
                                               : ask.last_log_index >= log_.last_index();
}

bool replication::recent_contact(milliseconds window, instant now) const {
  return last_contact_ && now.steady - last_contact_->at < window;
}

// -- campaigns -----------------------------------------------------------------

replication_actions replication::on_ask_leave(const ask_leave& ask, instant now) {
  replication_actions actions;
  campaign_leave refusal;
  refusal.retry_after = ask.timeout;
  bool may = formed() && role_ != node_role::leader && is_self_voter() && writable() && state_usable() &&
             !write_hangs(now) && !installing_ && !removed_;
  // A campaign whose own vote is still being saved has not begun: to give it up for the next one would, on a disk that
  // is slower than the time-outs, go on for ever.
  bool begins = held_campaign_ && held_campaign_->leave == leave_;
  may = may && !begins;
  bool transfer = ask.transfer > term_number{};
  if (transfer)
    may = may && ask.transfer == state_.current_term;
  if (may && !transfer) {
    auto quiet_since = milliseconds::min();
    if (last_contact_)
      quiet_since = last_contact_->at;
    if (last_grant_)
      quiet_since = std::max(quiet_since, *last_grant_);
    if (quiet_since != milliseconds::min() && now.steady - quiet_since < ask.timeout) {
      may = false;
      refusal.retry_after = ask.timeout - (now.steady - quiet_since);
    }
  }
  if (!may) {
    actions.campaign = refusal;
    return actions;
  }
  if (transfer) {
    start_campaign(true, now);
  } else {
    if (role_ == node_role::candidate)
      set_role(node_role::follower);
    leave_ = ++last_leave_;
    leave_is_pre_vote_ = true;
    leave_is_transfer_ = false;
    if (log_.members().quorum() == 1)
      start_campaign(false, now);
    else
      actions.campaign = campaign_message();
  }
  finish(actions, now);
  return actions;
}

void replication::start_campaign(bool transfer, instant now) {
  COORDINATOR_INVARIANT(is_self_voter());
  ++state_.current_term;
  state_.voted_for = config_.self.id;
  leader_ = {};
  matched_ = {};
  owes_acknowledgement_ = false;
  save_state();
  set_role(node_role::candidate);
  leave_ = ++last_leave_;
  leave_is_pre_vote_ = false;
  leave_is_transfer_ = transfer;
  // Save before sending: a vote for itself that leaves and is then lost in a crash could be cast twice in one term.
  held_campaign_ = {config_.defects.has(defect::vote_before_saved) ? 0 : state_write_, leave_};
  last_grant_ = now.steady;
}

campaign_leave replication::campaign_message() const {
  campaign_leave message;
  message.leave = leave_;
  message.pre_vote = leave_is_pre_vote_;
  message.transfer = leave_is_transfer_;
  message.term = leave_is_pre_vote_ ? state_.current_term + 1 : state_.current_term;
  message.last_log_index = log_.last_index();
  message.last_log_term = log_.last_term();
  for (auto& m : log_.members().members)
    if (m.voter && m.id != config_.self.id)
      message.voters.push_back({m.id, m.incarnation});
  return message;
}

void replication::release_campaign(replication_actions& actions, instant now) {
  if (!held_campaign_ || held_campaign_->write > durable_write_)
    return;
  bool live = held_campaign_->leave == leave_;
  held_campaign_.reset();
  if (!live)
    return;
  if (log_.members().quorum() == 1)
    become_leader(actions, now);
  else
    actions.campaign = campaign_message();
}

replication_actions replication::on_tally(const tally& votes, instant now) {
  replication_actions actions;
  bool live = votes.leave == leave_ && role_ != node_role::leader && leave_ != 0;
  if (config_.defects.has(defect::stale_tally_counts))
    live = role_ != node_role::leader;
  if (!live)
    return actions;
  if (!leave_is_pre_vote_ && role_ != node_role::candidate)
    return actions;
  std::set<node_id> granted;
  for (auto& from : votes.granted)
    if (counts(from))
      granted.insert(from.id);
  if (is_self_voter() || config_.defects.has(defect::count_self_without_vote))
    granted.insert(config_.self.id);
  if (granted.size() >= log_.members().quorum()) {
    if (leave_is_pre_vote_)
      start_campaign(false, now);
    else
      become_leader(actions, now);
  }
  finish(actions, now);
  return actions;
}

bool replication::is_self_voter() const {
  // A member of this id that had another disk is somebody else (rule 11).
  auto m = log_.members().find(config_.self.id);
  return m && m->voter &&
         (m->incarnation == config_.self.incarnation || config_.defects.has(defect::ignore_incarnation));
}

bool replication::counts(const sender& from) const {
  auto m = log_.members().find(from.id);
  return m && m->voter && from.id != config_.self.id &&
         (m->incarnation == from.incarnation || config_.defects.has(defect::ignore_incarnation));
}

replication_actions replication::on_higher_term(term_number term, instant now) {
  replication_actions actions;
  if (formed() && term > state_.current_term && !config_.defects.has(defect::ignore_higher_term)) {
    adopt_term(term, actions);
    become_follower(actions);
  }
  finish(actions, now);
  return actions;
}

// -- term, role, saving ----------------------------------------------------------

void replication::adopt_term(term_number term, replication_actions& actions) {
  COORDINATOR_INVARIANT(term > state_.current_term);
  if (role_ == node_role::leader)
    resign(actions);
  state_.current_term = term;
  state_.voted_for.reset();
  leader_ = {};
  matched_ = {};
  owes_acknowledgement_ = false;
  end_leave();
  save_state();
}

void replication::become_follower(replication_actions& actions) {
  if (role_ == node_role::leader) {
    resign(actions);
    leader_ = {};
    if (config_.defects.has(defect::step_down_clears_vote)) {
      state_.voted_for.reset();
      save_state();
    }
  }
  end_leave();
  set_role(node_role::follower);
}

void replication::set_role(node_role role) {
  if (role == node_role::follower && !is_self_voter())
    role = formed() ? node_role::learner : node_role::unformed;
  role_ = role;
}

role_changed replication::role_message() const {
  return {role_, state_.current_term, leader_, role_ == node_role::leader && ready_};
}

void replication::save_state() {
  if (!next_)
    next_.emplace();
  next_->state = state_;
  if (state_.voted_for && config_.defects.has(defect::vote_without_term))
    next_->state->current_term = state_.current_term - 1;
  state_write_ = next_number_;
}

void replication::say(reply_address to, decltype(outgoing::what) what, replication_actions& actions) {
  outgoing message{std::move(to), std::move(what)};
  // A term is not said before it is saved, be it in a refusal (rule 2).
  if (state_write_ <= durable_write_ || config_.defects.has(defect::vote_before_saved))
    actions.messages.push_back(std::move(message));
  else if (writable())  // Otherwise it never will be.
    held_.push_back({state_write_, std::move(message)});
}

replication_actions replication::save_formation(std::string formation, instant now) {
  replication_actions actions;
  if (!next_)
    next_.emplace();
  next_->formation = std::move(formation);
  finish(actions, now);
  return actions;
}

replication_actions replication::found(const genesis& founding, std::string formation, instant now) {
  COORDINATOR_INVARIANT(!formed() && log_.last_index() == log_index{});
  replication_actions actions;
  cluster_id_ = founding.cluster_id;
  state_ = {term_number{1}, std::nullopt};
  save_state();
  next_->formation = std::move(formation);
  next_->formed = founding;
  log_entry first{log_index{1}, term_number{1}, entry_kind::genesis, founding.time_ms, to_bytes(founding)};
  next_->entries.push_back(first);
  log_.append(std::move(first));
  commit_index_ = log_index{1};
  set_role(node_role::follower);
  finish(actions, now);
  return actions;
}

replication_actions replication::on_written(std::uint64_t number, const std::string& error, log_index first,
                                            instant now) {
  replication_actions actions;
  if (!error.empty()) {
    fail_disk(log_error_, error, actions);
    finish(actions, now);
    return actions;
  }
  COORDINATOR_INVARIANT(writing_ && number == next_number_ - 1);
  writing_ = false;
  durable_write_ = number;
  write_progress_ = now.steady;
  if (writing_last_ > durable_index_)
    durable_index_ = writing_last_;
  log_.keep_from(durable_index_ + 1);
  if (first <= log_.last_index() + 1 || !config_.defects.any())
    log_.compact(first);
  end_install(actions);
  while (!held_.empty() && held_.front().write <= durable_write_) {
    actions.messages.push_back(std::move(held_.front().message));
    held_.pop_front();
  }
  release_campaign(actions, now);
  if (role_ == node_role::leader && advance_commit(actions, now))
    replicate_all(actions, now);
  acknowledge(actions);
  finish(actions, now);
  return actions;
}

void replication::flush_write(replication_actions& actions, instant now) {
  want_compaction();
  if (writing_ || !next_ || !writable())
    return;
  next_->number = next_number_++;
  auto rest = split_write(*next_);
  if (next_->install)
    emitted_last_ = next_->install->keep_suffix ? std::max(emitted_last_, log_.base().index) : log_.base().index;
  if (next_->truncate_from)
    emitted_last_ = std::min(emitted_last_, *next_->truncate_from - 1);
  if (!next_->entries.empty())
    emitted_last_ = next_->entries.back().index;
  writing_last_ = emitted_last_;
  writing_ = true;
  write_progress_ = std::max(write_progress_, now.steady);
  actions.write = std::move(next_);
  next_ = std::move(rest);
}

/// One transaction must not take longer than a leader may go without progress (rule 5): what is beyond `write_bytes`
/// waits for the next.
std::optional<raft_write> replication::split_write(raft_write& write) const {
  std::size_t bytes = 0;
  auto cut = std::find_if(write.entries.begin(), write.entries.end(), [&](const log_entry& e) {
    bytes += e.payload.size();
    return bytes > config_.write_bytes && e.index > write.entries.front().index;
  });
  if (cut == write.entries.end())
    return std::nullopt;
  raft_write rest;
  rest.entries.assign(std::make_move_iterator(cut), std::make_move_iterator(write.entries.end()));
  write.entries.erase(cut, write.entries.end());
  return rest;
}

replication_actions replication::on_disk_failed(const std::string& what, instant now) {
  replication_actions actions;
  fail_disk(state_disk_error_, what, actions);
  finish(actions, now);
  return actions;
}

replication_actions replication::on_disk_recovered(instant now) {
  replication_actions actions;
  state_disk_error_.clear();
  finish(actions, now);
  return actions;
}

void replication::fail_disk(std::string& which, const std::string& what, replication_actions& actions) {
  if (!which.empty())
    return;
  which = what;
  // What waits to be saved never will be, and so is never said.
  held_.clear();
  held_campaign_.reset();
  owes_acknowledgement_ = false;
  end_leave();
  if (role_ == node_role::leader || role_ == node_role::candidate)
    become_follower(actions);
}

void replication::finish(replication_actions& actions, instant now) {
  if (config_.defects.has(defect::vote_before_saved))
    release_campaign(actions, now);
  flush_write(actions, now);
  advance_apply(actions);
  want_notice(actions);
  follow_members();
  // A membership is effective as soon as it is appended, and no longer once it is cut off (rule 8).
  if (role_ == node_role::follower || role_ == node_role::learner)
    set_role(node_role::follower);
  auto role = role_message();
  if (!(role == announced_)) {
    announced_ = role;
    actions.role = role;
  }
  if (auto still = standing_still(now); !(still == announced_standstill_)) {
    announced_standstill_ = still;
    actions.standstill = still;
  }
}

// -- applying --------------------------------------------------------------------

standstill replication::standing_still(instant now) const {
  // An entry that cannot be made durable here is not applied (rule 4).
  if (!writable() || write_hangs(now))
    return {"disk_failed"};
  return {state_usable() ? "" : "state_unusable"};
}

void replication::advance_apply(replication_actions& actions) {
  // An entry that is not durable here may vanish in a crash, while state.db would keep what it did (rule 4).
  auto limit = config_.defects.has(defect::committed_overtakes_durable) ? commit_index_
                                                                        : std::min(commit_index_, durable_index_);
  while (handed_ < limit && apply_load_ == 0 && state_usable() && !installing_) {
    auto entries = log_.entries(handed_ + 1, limit, config_.apply_bytes);
    if (!entries) {
      if (!writable())
        return;
      apply_load_ = ++last_load_;
      actions.loads.push_back({apply_load_, handed_ + 1, limit, config_.apply_bytes});
      return;
    }
    handed_ = entries->back().index;
    if (config_.defects.has(defect::drop_committed_of_older_term) && entries->back().term < state_.current_term)
      continue;
    actions.apply.push_back({std::move(*entries), commit_index_});
  }
}

replication_actions replication::on_loaded(std::uint64_t request, std::vector<log_entry> entries, instant now) {
  replication_actions actions;
  auto peer = std::find_if(peers_.begin(), peers_.end(), [&](const auto& p) { return p.second.load == request; });
  bool applies = request == apply_load_;
  bool compacted = peer != peers_.end() && peer->second.load_from < log_.first_index();
  bool wanted = applies || (peer != peers_.end() && !compacted);
  // Only what is durable is read: an entry that is not there has been lost.
  if (wanted && entries.empty())
    fail_disk(log_error_, "raft.db: an entry that was written cannot be read", actions);
  if (applies) {
    apply_load_ = 0;
    // A state that came meanwhile is ahead of it.
    if (!entries.empty() && state_usable() && !installing_ && entries.front().index == handed_ + 1) {
      handed_ = entries.back().index;
      actions.apply.push_back({std::move(entries), commit_index_});
    }
  } else if (peer != peers_.end() && role_ == node_role::leader) {
    peer->second.load = 0;
    // The file may still hold what a truncation that waits to be written cuts off.
    while (!entries.empty() && log_.term_at(entries.back().index) != entries.back().term)
      entries.pop_back();
    if (peer->second.up && !entries.empty() && entries.front().index == peer->second.next_index)
      send_append(peer->first, peer->second, std::move(entries), actions, now);
    replicate(peer->first, peer->second, actions, now);
  }
  finish(actions, now);
  return actions;
}

// -- links and status --------------------------------------------------------------

replication_actions replication::on_peer_up(const sender& who, instant now) {
  replication_actions actions;
  auto& peer = peers_[who.id];
  peer.up = true;
  peer.incarnation = who.incarnation;
  peer.told_out = false;
  if (role_ == node_role::leader) {
    // One that was taken out while it was away is still to learn so.
    if (!log_.members().find(who.id) && was_member(who)) {
      peer.departs_with = log_.members_index();
      peer.departs_by = now.steady + farewell;
      peer.flights.clear();
      peer.next_index = log_.last_index() + 1;
      peer.match_index = {};
    }
    if (log_.members().find(who.id) || peer.departs_with > log_index{}) {
      rewind(peer);
      replicate(who.id, peer, actions, now);
    }
  }
  finish(actions, now);
  return actions;
}

replication_actions replication::on_peer_down(const node_id& id, instant now) {
  replication_actions actions;
  if (auto i = peers_.find(id); i != peers_.end()) {
    i->second.up = false;
    i->second.rtt_us = -1;
    if (i->second.snapshot)
      i->second.snapshot->asked = false;
    rewind(i->second);
  }
  // The link to the leader broke: no reason to wait out its silence (rule 6).
  if (last_contact_ && last_contact_->leader == id)
    last_contact_.reset();
  finish(actions, now);
  return actions;
}

void replication::on_rtt(const node_id& id, std::int64_t rtt_us) {
  if (auto i = peers_.find(id); i != peers_.end())
    i->second.rtt_us = rtt_us;
}

cluster_view replication::view(std::uint64_t request, instant now) const {
  cluster_view view{config_.self, request, leader_, state_.current_term, log_.last_index(), {}};
  for (auto& m : log_.members().members) {
    member_view one{m, {}, -1, -1, false};
    if (m.id == config_.self.id) {
      one.match_index = durable_index_;
      one.last_contact_ms = 0;
      one.rtt_us = 0;
      one.healthy = writable() && !write_hangs(now);
    } else if (auto i = peers_.find(m.id); i != peers_.end()) {
      auto& peer = i->second;
      one.match_index = peer.match_index;
      one.rtt_us = peer.rtt_us;
      if (role_ == node_role::leader && peer.last_contact)
        one.last_contact_ms = (now.steady - *peer.last_contact).count();
      if (role_ == node_role::leader)
        one.healthy = peer.up && one.last_contact_ms >= 0 && one.last_contact_ms <= patience().count();
      else
        one.healthy = peer.up;
    }
    view.members.push_back(std::move(one));
  }
  return view;
}

raft_status replication::status(instant now) const {
  raft_status status;
  status.node = config_.self.id;
  status.incarnation = config_.self.incarnation;
  status.role = role_;
  status.leader = leader_;
  status.term = state_.current_term;
  status.commit_index = commit_index_;
  status.last_log_index = log_.last_index();
  status.first_log_index = log_.first_index();
  status.cluster_id = cluster_id_;
  status.members = log_.members();
  if (role_ == node_role::leader)
    status.leader_contact_ms = 0;
  else if (last_heard_)
    status.leader_contact_ms = (now.steady - *last_heard_).count();
  status.writable = writable() && !write_hangs(now);
  status.disk_error = log_error_.empty() ? state_disk_error_ : log_error_;
  if (status.disk_error.empty() && !status.writable)
    status.disk_error =
        "raft.db: a write has not ended for " + std::to_string((now.steady - write_progress_).count()) + " ms";
  status.removed = removed();
  status.snapshot_index = log_.base().index;
  status.state_error = state_error_;
  if (arriving_) {
    status.snapshot_offset = arriving_->stored;
    status.snapshot_size = arriving_->what.size;
  }
  return status;
}

milliseconds replication::patience() const {
  return std::max(milliseconds{1000}, 3 * config_.election_timeout_max);
}

}  // namespace coordinator
