#include <algorithm>

#include "actors/invariant.hpp"
#include "actors/replication.hpp"
#include "persistence/checksum.hpp"

/// What the keeper does beyond the log: dropping entries that the state's file makes needless, and giving a state to
/// those that the log cannot bring up to date (Raft §7).

namespace coordinator {
namespace {

// The log may grow by this part of its retention before the state's file is checkpointed for the next step.
constexpr std::uint64_t checkpoint_part = 4;
// A transfer that is under way keeps the log from being compacted, up to this many times its retention: a node must be
// able to take over a large state while many entries come. Past it the transfer would begin anew, perhaps for ever.
constexpr std::uint64_t longest_hold = 64;
// How long a copy that nobody fetches is kept for one who was cut off.
constexpr milliseconds copy_kept{60'000};
constexpr milliseconds copy_retry{1'000};
constexpr std::size_t kept_digests = 64;

}  // namespace

// -- compaction ------------------------------------------------------------------

replication_actions replication::on_checkpointed(const std::string& file, log_index index, instant now) {
  replication_actions actions;
  // A file that raft.db does not name yet may be gone after a crash.
  if (file == state_file_ && state_usable())
    checkpointed_ = std::max(checkpointed_, index);
  checkpoint_asked_.reset();
  finish(actions, now);
  return actions;
}

/// Has the next write drop what is not needed any more; the store does so in bounded steps.
void replication::want_compaction() {
  if (writing_ || !writable() || installing_ || !formed())
    return;
  auto keep = config_.log_retention_entries;
  auto end = config_.defects.has(defect::compact_past_checkpoint) ? handed_ : std::min(checkpointed_, handed_);
  bool sends = std::any_of(peers_.begin(), peers_.end(), [](const auto& p) { return p.second.snapshot.has_value(); });
  if (sends && copy_ && copy_->ready && log_.last_index() - log_.base().index < longest_hold * keep)
    end = std::min(end, copy_->what.base.index);
  if (end.value <= log_.base().index.value + keep)
    return;
  auto target = end - keep;
  // A few entries are dropped along with a write that is made anyway, many are worth one of their own.
  if (!next_ && target - log_.base().index < std::max<std::uint64_t>(keep / checkpoint_part, 1))
    return;
  if (!next_)
    next_.emplace();
  next_->compact_to = target;
}

replication_actions replication::on_state_file_moved(const std::string& file, const std::string& before, instant now) {
  replication_actions actions;
  // A state that was installed meanwhile has taken the place of the one that moved: raft.db is to name that.
  if (installing_ || before != (moving_ ? moving_->name : state_file_)) {
    finish(actions, now);
    return actions;
  }
  if (!next_)
    next_.emplace();
  next_->state_file = file;
  checkpointed_ = {};
  moving_ = moving_file{file, next_number_};
  finish(actions, now);
  return actions;
}

// -- sending -----------------------------------------------------------------------

void replication::send_snapshot(const node_id& id, progress& peer, replication_actions& actions, instant now) {
  // What the log no longer reaches back to would leave a gap.
  if (copy_ && copy_->ready && copy_->what.base.index < log_.base().index)
    drop_copy(actions);
  if (!copy_) {
    if (now.steady >= copy_not_before_) {
      copy_.emplace();
      actions.copy = true;
    }
    return;
  }
  if (!copy_->ready)
    return;
  copy_->last_used = now.steady;
  auto& what = copy_->what;
  if (!peer.snapshot || peer.snapshot->number != what.number) {
    peer.snapshot.emplace();
    peer.snapshot->number = what.number;
  }
  auto& transfer = *peer.snapshot;
  if (!transfer.asked) {
    transfer.asked = true;
    transfer.answered = false;
    transfer.last_progress = now.steady;
    actions.messages.push_back({{id, 0}, install_snapshot{config_.self, state_.current_term, what, 0, {}, 0}});
  }
  while (transfer.answered && transfer.next < what.size &&
         transfer.next - transfer.acknowledged < config_.snapshot_window) {
    auto bytes = std::min<std::uint64_t>(config_.snapshot_bytes, what.size - transfer.next);
    auto request = ++last_load_;
    copy_reads_[request] = {id, what.number, transfer.next};
    actions.copy_reads.push_back({request, copy_->file, transfer.next, static_cast<std::uint32_t>(bytes)});
    transfer.next += bytes;
  }
}

replication_actions replication::on_copied(const state_copied& copied, instant now) {
  replication_actions actions;
  bool wanted = copy_ && copy_->file.empty();
  bool sound = copied.error.empty() && copied.last_applied >= log_.base().index &&
               copied.last_applied <= log_.last_index() &&
               log_.term_at(copied.last_applied) == copied.last_applied_term;
  if (!wanted || !sound) {
    if (copied.error.empty())
      actions.spent_copies.push_back(copied.file);
    if (wanted)
      copy_.reset();
    copy_not_before_ = now.steady + copy_retry;
    return actions;
  }
  copy_->file = copied.file;
  copy_->what = {++last_copy_, log_.base_at(copied.last_applied), copied.size, copied.checksum};
  copy_->what.base.time_ms = copied.applied_time_ms;
  if (copies_doubted_)
    actions.copy_check = copy_->file;
  else
    offer_copy(actions, now);
  finish(actions, now);
  return actions;
}

void replication::offer_copy(replication_actions& actions, instant now) {
  copy_->ready = true;
  copy_->last_used = now.steady;
  if (role_ == node_role::leader)
    replicate_all(actions, now);
}

replication_actions replication::on_copy_checked(const std::string& file, const std::string& damage,
                                                 const std::string& error, instant now) {
  replication_actions actions;
  if (!copy_ || copy_->ready || copy_->file != file)
    return actions;
  if (damage.empty() && error.empty()) {
    // The one before was spoilt on its way.
    copies_doubted_ = false;
    offer_copy(actions, now);
  } else {
    drop_copy(actions);
    copy_not_before_ = now.steady + copy_retry;
    // Two in a row that are no good: what they are copies of is not. Nobody who needs it would get a state from here.
    if (!damage.empty())
      lose_state("copies of the state are damaged, the last one: " + damage, actions);
  }
  finish(actions, now);
  return actions;
}

replication_actions replication::on_copy_read(std::uint64_t request, std::string data, std::uint32_t crc,
                                              const std::string& error, instant now) {
  replication_actions actions;
  auto read = copy_reads_.extract(request);
  if (read.empty() || role_ != node_role::leader || !copy_ || copy_->what.number != read.mapped().number)
    return actions;
  if (!error.empty()) {
    drop_copy(actions);
    copy_not_before_ = now.steady + copy_retry;
    return actions;
  }
  auto peer = peers_.find(read.mapped().to);
  if (peer == peers_.end() || !peer->second.up || !peer->second.snapshot ||
      peer->second.snapshot->number != copy_->what.number)
    return actions;
  actions.messages.push_back(
      {{peer->first, 0},
       install_snapshot{config_.self, state_.current_term, copy_->what, read.mapped().offset, std::move(data), crc}});
  return actions;
}

replication_actions replication::on_install_snapshot_reply(const install_snapshot_reply& reply, instant now) {
  if (reply.term > state_.current_term)
    return on_higher_term(reply.term, now);
  replication_actions actions;
  auto m = log_.members().find(reply.from.id);
  auto i = peers_.find(reply.from.id);
  if (role_ != node_role::leader || reply.answers_term != state_.current_term || !m || i == peers_.end())
    return actions;
  if (m->incarnation != reply.from.incarnation && !config_.defects.has(defect::ignore_incarnation))
    return actions;
  auto& peer = i->second;
  peer.last_contact = now.steady;
  if (!peer.snapshot || reply.number != peer.snapshot->number)
    return actions;
  auto& transfer = *peer.snapshot;
  using outcome = install_snapshot_reply::outcome;
  switch (reply.result) {
    case outcome::receiving:
      if (!transfer.answered) {
        transfer.answered = true;
        transfer.acknowledged = transfer.next = reply.offset;
      }
      if (reply.offset > transfer.acknowledged) {
        transfer.acknowledged = reply.offset;
        transfer.next = std::max(transfer.next, reply.offset);
        transfer.last_progress = now.steady;
      }
      if (reply.offset > transfer.best) {
        transfer.best = reply.offset;
        if (m->voter)
          quorum_progress_ = now.steady;
      }
      break;
    case outcome::installed:
      peer.snapshot.reset();
      peer.needs_state = false;
      if (reply.match_index > peer.match_index) {
        peer.match_index = std::min(reply.match_index, log_.last_index());
        if (m->voter)
          quorum_progress_ = now.steady;
        if (advance_commit(actions, now))
          replicate_all(actions, now);
      }
      rewind(peer);
      peer.next_index = peer.match_index + 1;
      break;
    case outcome::useless:
    case outcome::damaged:
      // What it has is newer, or this copy is no good: the next one is made anew.
      peer.snapshot.reset();
      copies_doubted_ = copies_doubted_ || reply.result == outcome::damaged;
      drop_copy(actions);
      copy_not_before_ = now.steady + copy_retry;
      rewind(peer);
      peer.next_index = log_.last_index() + 1;
      break;
  }
  replicate(i->first, peer, actions, now);
  finish(actions, now);
  return actions;
}

void replication::drop_copy(replication_actions& actions) {
  if (!copy_)
    return;
  if (!copy_->file.empty())
    actions.spent_copies.push_back(copy_->file);
  copy_.reset();
  copy_reads_.clear();
  for (auto& [id, peer] : peers_)
    peer.snapshot.reset();
}

/// Once a heartbeat interval.
void replication::tend_snapshots(replication_actions& actions, instant now) {
  bool sends = false;
  if (role_ == node_role::leader)
    for (auto& [id, peer] : peers_) {
      if (!log_.members().find(id) || !peer.up || !(peer.needs_state || peer.next_index < log_.first_index()))
        continue;
      sends = true;
      // Pieces or answers were lost, or the other side takes its time: it is asked how much has come.
      if (auto& transfer = peer.snapshot;
          transfer && now.steady - transfer->last_progress >= config_.election_timeout_max)
        transfer->asked = false;
      send_snapshot(id, peer, actions, now);
    }
  if (copy_ && copy_->ready && !sends && now.steady - copy_->last_used >= copy_kept)
    drop_copy(actions);
  bool grown = handed_.value > checkpointed_.value + config_.log_retention_entries / checkpoint_part &&
               log_.last_index() - log_.base().index > config_.log_retention_entries;
  bool waits = checkpoint_asked_ && now.steady - *checkpoint_asked_ < patience();
  if (grown && state_usable() && writable() && !waits) {
    checkpoint_asked_ = now.steady;
    actions.checkpoint = true;
  }
}

// -- receiving -----------------------------------------------------------------------

/// Whether this state would be worth having. A node that can use its own wants only what is ahead of all that was
/// handed to its state machine; one that cannot wants any that its log goes on from.
bool replication::is_wanted(const snapshot_info& what) const {
  bool usable = state_usable() && !config_.defects.has(defect::older_snapshot_installed);
  return usable ? what.base.index > handed_ : what.base.index >= log_.base().index;
}

void replication::say_snapshot(const reply_address& to, std::uint64_t number, std::uint64_t offset,
                               install_snapshot_reply::outcome result, replication_actions& actions) {
  install_snapshot_reply reply{config_.self, state_.current_term, state_.current_term, number, offset, result, {}};
  if (result == install_snapshot_reply::outcome::installed)
    reply.match_index = std::max(std::min(durable_index_, matched_), log_.base().index);
  say(to, reply, actions);
}

/// Word of what is arriving, to the one who sends it; while pieces come only to a leader, who waits for it.
void replication::say_of_arriving(install_snapshot_reply::outcome result, replication_actions& actions) {
  auto& one = *arriving_;
  bool waits = result != install_snapshot_reply::outcome::receiving;
  if (one.injected != 0 ? waits : one.source.id == leader_)
    say_snapshot({one.source.id, one.injected}, one.what.number, one.stored, result, actions);
}

/// A late piece of an older one, or one that comes while another is being installed, changes nothing.
bool replication::may_replace_arriving(const install_snapshot& piece, instant now) const {
  if (!arriving_)
    return true;
  bool older = arriving_->source == piece.leader && piece.what.base.index < arriving_->what.base.index;
  return !installing_ && (!older || now.steady - arriving_->last_piece >= patience());
}

replication_actions replication::on_install_snapshot(install_snapshot piece, instant now) {
  replication_actions actions;
  if (!formed())
    return actions;
  using outcome = install_snapshot_reply::outcome;
  bool second_leader = piece.term == state_.current_term &&
                       (role_ == node_role::leader || (!leader_.empty() && leader_ != piece.leader.id));
  if (piece.term < state_.current_term || second_leader || !writable()) {
    install_snapshot_reply refusal{
        config_.self, state_.current_term, piece.term, piece.what.number, 0, outcome::receiving, {}};
    if (piece.term < state_.current_term)
      say({piece.leader.id, 0}, refusal, actions);
    finish(actions, now);
    return actions;
  }
  accept_leader(piece.leader, piece.term, false, actions, now);
  bool same =
      arriving_ && arriving_->injected == 0 && arriving_->source == piece.leader && arriving_->what == piece.what;
  if (!same && !is_wanted(piece.what)) {
    say_snapshot({piece.leader.id, 0}, piece.what.number, 0, outcome::useless, actions);
  } else if (same || may_replace_arriving(piece, now)) {
    if (!same) {
      give_up_arriving(actions);
      arriving_.emplace();
      arriving_->source = piece.leader;
      arriving_->what = piece.what;
    }
    arriving_->last_piece = now.steady;
    bool sound = !piece.data.empty() && piece.offset == arriving_->passed_on &&
                 piece.data.size() <= piece.what.size - piece.offset && crc32c(piece.data) == piece.crc;
    if (sound) {
      arriving_->passed_on += piece.data.size();
      actions.pieces.push_back({piece.leader.id, piece.what, piece.offset, std::move(piece.data)});
    } else if (piece.data.empty()) {
      say_snapshot({piece.leader.id, 0}, piece.what.number, arriving_->stored, outcome::receiving, actions);
    }
  }
  finish(actions, now);
  return actions;
}

void replication::give_up_arriving(replication_actions& actions) {
  if (!arriving_)
    return;
  actions.discards.push_back(arriving_->what.number);
  if (arriving_->injected != 0)
    say_of_arriving(install_snapshot_reply::outcome::useless, actions);
  arriving_.reset();
}

replication_actions replication::on_injected_snapshot(install_snapshot whole, std::uint64_t injected, instant now) {
  replication_actions actions;
  reply_address to{whole.leader.id, injected};
  using outcome = install_snapshot_reply::outcome;
  bool taken = formed() && whole.term >= state_.current_term && writable() && role_ != node_role::leader;
  if (taken)
    accept_leader(whole.leader, whole.term, true, actions, now);
  if (!taken || installing_ || !is_wanted(whole.what)) {
    say_snapshot(to, whole.what.number, 0, outcome::useless, actions);
  } else {
    give_up_arriving(actions);
    arriving_.emplace();
    arriving_->source = whole.leader;
    arriving_->injected = injected;
    arriving_->what = whole.what;
    // Its members are those that this node knows: what came over HTTP says nothing of them.
    arriving_->what.base.members = log_.members();
    arriving_->what.base.members_index = std::min(log_.members_index(), whole.what.base.index);
    arriving_->last_piece = now.steady;
    arriving_->passed_on = whole.data.size();
    actions.pieces.push_back({whole.leader.id, arriving_->what, 0, std::move(whole.data)});
  }
  finish(actions, now);
  return actions;
}

replication_actions replication::on_snapshot_stored(std::uint64_t number, std::uint64_t offset,
                                                    const std::string& error, bool damaged, instant now) {
  replication_actions actions;
  if (!arriving_ || arriving_->what.number != number)
    return actions;
  using outcome = install_snapshot_reply::outcome;
  if (error.empty()) {
    arriving_->stored = std::max(arriving_->stored, offset);
    // A keeper that began anew finds more stored than it has passed on.
    arriving_->passed_on = std::max(arriving_->passed_on, arriving_->stored);
    say_of_arriving(outcome::receiving, actions);
  } else {
    // A sender is asked for another one only where this one was no good.
    if (damaged || arriving_->injected != 0)
      say_of_arriving(outcome::damaged, actions);
    arriving_.reset();
  }
  finish(actions, now);
  return actions;
}

replication_actions replication::on_snapshot_loaded(std::uint64_t number, const std::string& file, instant now) {
  replication_actions actions;
  // Compared here, where all that was handed on is known: from here to the end of the write nothing more is.
  if (!arriving_ || arriving_->what.number != number || installing_ || !writable() || !is_wanted(arriving_->what)) {
    actions.discards.push_back(number);
    if (arriving_ && arriving_->what.number == number) {
      say_of_arriving(install_snapshot_reply::outcome::useless, actions);
      arriving_.reset();
    }
    finish(actions, now);
    return actions;
  }
  arriving_->file = file;
  begin_install();
  finish(actions, now);
  return actions;
}

/// One write makes the log begin after the snapshot and names its file.
void replication::begin_install() {
  auto& base = arriving_->what.base;
  bool keep = log_.last_index() >= base.index && log_.term_at(base.index) == base.term;
  if (config_.defects.has(defect::snapshot_drops_suffix))
    keep = false;
  auto old_base = log_.base().index;
  if (!next_)
    next_.emplace();
  auto& write = *next_;
  write.compact_to.reset();
  write.install = raft_write::snapshot{base, keep};
  write.state_file = arriving_->file;
  if (keep) {
    std::erase_if(write.entries, [&](const log_entry& e) { return e.index <= base.index; });
    if (write.truncate_from)
      write.truncate_from = std::max(*write.truncate_from, base.index + 1);
  } else {
    write.entries.clear();
    write.truncate_from.reset();
    // What was durable above the old base is of another log. All that is committed of it is in the snapshot.
    durable_index_ = std::min(durable_index_, old_base);
    writing_last_ = std::min(writing_last_, old_base);
    matched_ = {};
    owes_acknowledgement_ = false;
  }
  log_.install(base, keep);
  commit_index_ = std::max(commit_index_, base.index);
  arriving_->write = next_number_;
  installing_ = true;
  apply_load_ = 0;
}

/// The write that installs is done, or one before it.
void replication::end_install(replication_actions& actions) {
  if (moving_ && moving_->write <= durable_write_) {
    state_file_ = moving_->name;
    actions.noted_file = moving_->name;
    moving_.reset();
  }
  if (!installing_ || !arriving_ || arriving_->write > durable_write_)
    return;
  installing_ = false;
  state_file_ = arriving_->file;
  checkpointed_ = {};
  handed_ = log_.base().index;
  commit_index_ = std::max(commit_index_, handed_);
  actions.install = installation{arriving_->what.number, evidence_};
  state_error_.clear();
  copies_doubted_ = false;
  evidence_.clear();
  digests_.clear();
  arriving_->stored = arriving_->what.size;
  say_of_arriving(install_snapshot_reply::outcome::installed, actions);
  arriving_.reset();
}

// -- a state that cannot be used --------------------------------------------------------

void replication::lose_state(const std::string& why, replication_actions& actions) {
  if (!state_usable())
    return;
  state_error_ = why;
  evidence_ = why;
  apply_load_ = 0;
  checkpointed_ = {};
  actions.unusable = why;
  if (role_ == node_role::leader || role_ == node_role::candidate)
    become_follower(actions);
  end_leave();
}

replication_actions replication::on_state_damaged(const std::string& what, instant now) {
  replication_actions actions;
  lose_state(what, actions);
  finish(actions, now);
  return actions;
}

/// In an idle cluster no append asks for an answer that would say it.
void replication::ask_for_state(replication_actions& actions, instant now) {
  if (state_usable() || leader_.empty() || leader_ == config_.self.id || arriving_ || !formed() ||
      now.steady - asked_for_state_ < config_.election_timeout_max)
    return;
  asked_for_state_ = now.steady;
  append_entries_reply reply;
  reply.from = config_.self;
  reply.term = state_.current_term;
  reply.answers_term = state_.current_term;
  reply.success = true;
  reply.match_index = std::min(durable_index_, matched_);
  reply.last_log_index = log_.last_index();
  reply.needs_state = true;
  say({leader_, 0}, reply, actions);
}

replication_actions replication::on_own_digest(log_index index, std::uint64_t checksum, instant now) {
  replication_actions actions;
  if (!state_usable() || !formed())
    return actions;
  digests_[index][config_.self.id] = checksum;
  for (auto& m : log_.members().members)
    if (auto i = peers_.find(m.id); i != peers_.end() && i->second.up)
      actions.messages.push_back({{m.id, 0}, state_digest{config_.self, index, checksum}});
  compare_digests(index, actions);
  finish(actions, now);
  return actions;
}

replication_actions replication::on_state_digest(const state_digest& digest, instant now) {
  replication_actions actions;
  if (!state_usable() || !counts(digest.from))
    return actions;
  digests_[digest.index][digest.from.id] = digest.checksum;
  compare_digests(digest.index, actions);
  finish(actions, now);
  return actions;
}

/// Whoever finds a majority of the voters agreed on another state than its own has a damaged one (rule 9).
void replication::compare_digests(log_index index, replication_actions& actions) {
  auto& said = digests_[index];
  if (auto own = said.find(config_.self.id); own != said.end()) {
    std::map<std::uint64_t, std::size_t> agree;
    for (auto& [id, checksum] : said)
      if (log_.members().is_voter(id))
        ++agree[checksum];
    for (auto& [checksum, voters] : agree)
      if (voters >= log_.members().quorum() && checksum != own->second) {
        lose_state("the state after entry " + std::to_string(index.value) + " differs from that of the other nodes",
                   actions);
        digests_.clear();
        return;
      }
  }
  while (digests_.size() > kept_digests)
    digests_.erase(digests_.begin());
}

std::uint64_t replication::numbers_used() const {
  return std::max({last_leave_, next_number_, last_read_, last_load_});
}

}  // namespace coordinator
