#include <algorithm>

#include "actors/invariant.hpp"
#include "actors/replication.hpp"
#include "persistence/codec.hpp"

namespace coordinator {
namespace {

bool is_readable(const log_entry& entry) {
  membership members;
  switch (entry.kind) {
    case entry_kind::noop:
    case entry_kind::command:
      return true;
    case entry_kind::genesis:
      return entry.index == log_index{1};
    case entry_kind::membership:
      return from_bytes(entry.payload, members);
  }
  return false;
}

/// What any leader keeps to: without it the log would be torn, and nothing has told us yet who wrote this.
bool is_well_formed(const append_entries& append) {
  auto index = append.prev_log_index;
  auto term = append.prev_log_term;
  for (auto& entry : append.entries) {
    ++index;
    if (entry.index != index || entry.term < term || entry.term > append.term || entry.term == term_number{} ||
        !is_readable(entry))
      return false;
    term = entry.term;
  }
  return term <= append.term;
}

}  // namespace

/// What comes over HTTP may be anything. It must not cut off what is committed, nor add to a term whose leader speaks
/// for itself: two entries of one term and index would be taken for the same.
bool replication::may_be_injected(const append_entries& append) const {
  bool rewrites = std::any_of(append.entries.begin(), append.entries.end(), [&](const log_entry& e) {
    return e.index >= log_.first_index() && e.index <= commit_index_ && log_.term_at(e.index) != e.term;
  });
  bool adds = append.prev_log_index + append.entries.size() > log_.last_index() && !append.entries.empty();
  bool led = append.term == state_.current_term && !leader_.empty() && !leader_injected_;
  return !rewrites && !(adds && led);
}

replication_actions replication::on_append_entries(append_entries append, const reply_address& to, instant now) {
  replication_actions actions;
  if (!formed())
    return actions;
  append_entries_reply reply;
  reply.from = config_.self;
  reply.needs_state = !state_usable();
  reply.answers_term = append.term;
  reply.prev_log_index = append.prev_log_index;
  reply.last_log_index = log_.last_index();
  bool second_leader = append.term == state_.current_term &&
                       (role_ == node_role::leader || (!leader_.empty() && leader_ != append.leader.id));
  if (!is_well_formed(append) || (to.injected != 0 && !may_be_injected(append))) {
    reply.term = state_.current_term;
    if (to.injected != 0)
      say(to, reply, actions);
    return actions;
  }
  if (append.term < state_.current_term || second_leader || !writable()) {
    if (append.term > state_.current_term) {
      adopt_term(append.term, actions);
      become_follower(actions);
    }
    reply.term = state_.current_term;
    // The end of the log, so that a leader who has not heard of our term yet does not rewind for nothing.
    reply.conflict_index = log_.last_index() + 1;
    if (writable() || append.term < state_.current_term || to.injected != 0)
      say(to, reply, actions);
    finish(actions, now);
    return actions;
  }
  accept_leader(append.leader, append.term, to.injected != 0, actions, now);
  reply.term = state_.current_term;
  auto prev = append.prev_log_index;
  bool known = prev < log_.first_index() || log_.term_at(prev) == append.prev_log_term;
  if (prev > log_.last_index() || !known) {
    if (prev > log_.last_index()) {
      reply.conflict_index = log_.last_index() + 1;
    } else {
      reply.conflict_term = log_.term_at(prev);
      reply.conflict_index = log_.first_of_term_at(prev);
    }
    say(to, reply, actions);
    finish(actions, now);
    return actions;
  }
  auto proven = prev + append.entries.size();
  append_new(append.entries);
  matched_ = std::max(matched_, proven);
  raise_commit(append.leader_commit);
  if (to.injected != 0)
    injected_.push_back({to, append.term, proven});
  else if (!append.commit_only)
    owes_acknowledgement_ = true;
  // What is still to be written is acknowledged when that is done; before, there is nothing new to say.
  if (proven <= durable_index_ || to.injected != 0 || config_.defects.has(defect::acknowledge_before_saved))
    acknowledge(actions);
  finish(actions, now);
  return actions;
}

replication_actions replication::on_beat(const beat& b, instant now) {
  replication_actions actions;
  if (!formed())
    return actions;
  bool second_leader =
      b.term == state_.current_term && (role_ == node_role::leader || (!leader_.empty() && leader_ != b.leader.id));
  if (b.term >= state_.current_term && !second_leader) {
    accept_leader(b.leader, b.term, false, actions, now);
    raise_commit(b.commit_index);
  }
  say({b.leader.id, 0}, beat_reply{config_.self, state_.current_term, b.term, b.round}, actions);
  finish(actions, now);
  return actions;
}

void replication::accept_leader(const sender& leader, term_number term, bool injected, replication_actions& actions,
                                instant now) {
  if (term > state_.current_term)
    adopt_term(term, actions);
  if (role_ != node_role::follower && role_ != node_role::learner)
    become_follower(actions);
  // A valid append or beat ends whatever leave there was to campaign.
  end_leave();
  leader_injected_ = injected && (leader_.empty() || leader_injected_);
  leader_ = leader.id;
  last_contact_ = contact{leader.id, now.steady};
  last_heard_ = now.steady;
}

void replication::append_new(std::vector<log_entry>& entries) {
  for (auto& entry : entries) {
    if (entry.index < log_.first_index())
      continue;
    if (entry.index <= log_.last_index()) {
      // Only a conflict truncates: a late append must not cut off what a newer one added (Raft §5.3).
      if (log_.term_at(entry.index) == entry.term && !config_.defects.has(defect::truncate_matching_suffix))
        continue;
      truncate(entry.index);
    }
    if (!next_)
      next_.emplace();
    next_->entries.push_back(entry);
    log_.append(std::move(entry));
  }
  if (config_.defects.has(defect::truncate_matching_suffix) && !entries.empty() &&
      log_.last_index() > entries.back().index)
    truncate(entries.back().index + 1);
}

void replication::truncate(log_index index) {
  COORDINATOR_INVARIANT(index > commit_index_ || config_.defects.any());
  log_.truncate_from(index);
  durable_index_ = std::min(durable_index_, index - 1);
  // The write under way makes only those of its entries durable that are still in the log (rule 2).
  if (!config_.defects.has(defect::old_write_raises_durable))
    writing_last_ = std::min(writing_last_, index - 1);
  if (next_)
    std::erase_if(next_->entries, [&](const log_entry& e) { return e.index >= index; });
  if (index <= emitted_last_) {
    if (!next_)
      next_.emplace();
    next_->truncate_from = next_->truncate_from ? std::min(*next_->truncate_from, index) : index;
  }
}

void replication::raise_commit(log_index leader_commit) {
  // Beyond what an append of this term proved, our entries may not be the leader's (rule 4).
  auto ground = config_.defects.has(defect::commit_on_unproven_ground) ? log_.last_index() : matched_;
  commit_index_ = std::max(commit_index_, std::min(leader_commit, ground));
}

void replication::acknowledge(replication_actions& actions) {
  auto durable = config_.defects.has(defect::acknowledge_before_saved) ? log_.last_index() : durable_index_;
  append_entries_reply reply;
  reply.from = config_.self;
  reply.needs_state = !state_usable();
  reply.term = state_.current_term;
  reply.success = true;
  reply.last_log_index = log_.last_index();
  if (owes_acknowledgement_) {
    reply.answers_term = state_.current_term;
    reply.match_index = std::min(durable, matched_);
    // What is still being written is acknowledged when that is done.
    owes_acknowledgement_ = reply.match_index < matched_;
    say({leader_, 0}, reply, actions);
  }
  std::erase_if(injected_, [&](const injected_acknowledgement& waiting) {
    if (waiting.term == state_.current_term && waiting.index > durable)
      return false;
    reply.answers_term = waiting.term;
    reply.success = waiting.term == state_.current_term;
    reply.match_index = reply.success ? waiting.index : log_index{};
    say(waiting.to, reply, actions);
    return true;
  });
}

}  // namespace coordinator
