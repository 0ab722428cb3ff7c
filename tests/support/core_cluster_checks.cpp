#include "tests/support/core_cluster.hpp"

namespace coordinator {
namespace {

std::string number(log_index index) {
  return std::to_string(index.value);
}
std::string number(term_number term) {
  return std::to_string(term.value);
}

}  // namespace

void core_cluster::violate(const std::string& what) {
  if (violation_.empty())
    violation_ = "seed " + std::to_string(options_.seed) + ", " + std::to_string(now_.count()) + " us: " + what;
}

void core_cluster::check_node(node& n) {
  if (n.keeper->current_term() < n.files.state.current_term)
    violate(n.who.id.value + " went back to term " + number(n.keeper->current_term()));
  if (n.keeper->role() == node_role::leader)
    check_new_leader(n);
  check_commit(n);
}

/// Election safety and leader completeness (Raft figure 3).
void core_cluster::check_new_leader(node& n) {
  auto term = n.keeper->current_term();
  if (n.led_term == term)
    return;
  n.led_term = term;
  auto [leader, fresh] = leaders_.emplace(term, n.who.id);
  if (!fresh) {
    violate("term " + number(term) + " has two leaders, " + leader->second.value + " and " + n.who.id.value);
    return;
  }
  // One that learns late that it was elected need not have what later leaders have committed since.
  for (std::size_t i = 0; i < committed_.size(); ++i)
    if (committed_in_[i] < term && log_index{i + 1} >= n.keeper->log().base().index &&
        n.keeper->log().term_at(log_index{i + 1}) != committed_[i])
      return violate("the leader of term " + number(term) + " lacks the committed entry " + std::to_string(i + 1));
}

void core_cluster::check_commit(node& n) {
  auto commit = n.keeper->commit_index();
  if (commit < n.commit_seen)
    return violate(n.who.id.value + " takes back that " + number(n.commit_seen) + " is committed");
  for (auto index = n.commit_seen + 1; index <= commit; ++index) {
    auto term = n.keeper->log().term_at(index);
    // What came as a state is no longer in the log, and can only be what was committed.
    if (index < n.keeper->log().base().index && index.value <= committed_.size())
      continue;
    if (index.value <= committed_.size()) {
      if (committed_[index.value - 1] != term)
        return violate(n.who.id.value + " takes another entry for the committed " + number(index));
      continue;
    }
    if (n.keeper->role() != node_role::leader)
      return violate(n.who.id.value + " takes " + number(index) + " for committed before any leader did");
    // The voters are those of the membership that the leader counts by.
    auto& members = n.keeper->log().members();
    std::size_t disks = 0;
    for (auto& other : nodes_)
      if (members.is_voter(other.who.id) && other.files.has(index, term))
        ++disks;
    if (disks < members.quorum())
      return violate(n.who.id.value + " commits " + number(index) + ", which is on " + std::to_string(disks) +
                     " disks");
    committed_.push_back(term);
    committed_in_.push_back(n.keeper->current_term());
  }
  n.commit_seen = commit;
}

/// Log matching: an index and a term name one entry, and all that come before it.
void core_cluster::check_write(const node& n, const raft_write& write) {
  for (auto& entry : write.entries) {
    auto previous = n.keeper->log().term_at(entry.index - 1);
    // What was cut off meanwhile has no neighbour to compare.
    if (n.keeper->log().term_at(entry.index) != entry.term)
      continue;
    auto [known, fresh] = written_.emplace(std::pair{entry.index, entry.term}, written_entry{entry, previous});
    if (!fresh && (!(known->second.entry == entry) || known->second.previous_term != previous))
      return violate("two logs differ at entry " + number(entry.index) + " of term " + number(entry.term));
  }
}

void core_cluster::check_saved(const node& n, const raft_write& write) {
  if (!write.state)
    return;
  auto& old = n.files.state;
  if (write.state->current_term < old.current_term)
    violate(n.who.id.value + " saves an older term");
  if (write.state->current_term == old.current_term && old.voted_for && write.state->voted_for != old.voted_for)
    violate(n.who.id.value + " changes its vote in term " + number(old.current_term));
}

void core_cluster::note_vote(const node& n, term_number term, const node_id& candidate) {
  auto [vote, fresh] = votes_.emplace(std::pair{n.who.id, term}, candidate);
  if (!fresh && vote->second != candidate)
    violate(n.who.id.value + " votes for " + vote->second.value + " and " + candidate.value + " in term " +
            number(term));
}

/// Saved before said (rule 2).
void core_cluster::check_said(const node& n, const node_id& to, const peer_message& message) {
  auto& saved = n.files.state;
  auto term_is_saved = [&](term_number term) {
    if (term > saved.current_term)
      violate(n.who.id.value + " says term " + number(term) + " before it is saved");
  };
  if (auto* m = std::get_if<request_vote>(&message); m && !m->pre_vote) {
    term_is_saved(m->term);
    if (saved.current_term == m->term && saved.voted_for != n.who.id)
      violate(n.who.id.value + " campaigns before its own vote is saved");
    note_vote(n, m->term, n.who.id);
  } else if (auto* m = std::get_if<request_vote_reply>(&message)) {
    term_is_saved(m->term);
    if (m->pre_vote || !m->vote_granted)
      return;
    if (saved.current_term == m->term && saved.voted_for != to)
      violate(n.who.id.value + " votes in term " + number(m->term) + " before that is saved");
    note_vote(n, m->term, to);
  } else if (auto* m = std::get_if<append_entries_reply>(&message)) {
    term_is_saved(m->term);
    if (m->success && m->answers_term == saved.current_term && m->match_index > n.files.last())
      violate(n.who.id.value + " acknowledges " + number(m->match_index) + " before it is durable");
  } else if (auto* m = std::get_if<install_snapshot_reply>(&message)) {
    term_is_saved(m->term);
    if (m->result == install_snapshot_reply::outcome::installed && m->match_index > n.files.last())
      violate(n.who.id.value + " acknowledges a state before it is durable");
  } else if (auto* m = std::get_if<beat_reply>(&message)) {
    term_is_saved(m->term);
  } else if (auto* m = std::get_if<append_entries>(&message)) {
    term_is_saved(m->term);
  } else if (auto* m = std::get_if<beat>(&message)) {
    term_is_saved(m->term);
  }
}

/// State machine safety, without a gap, and never ahead of the own disk (rule 4).
void core_cluster::check_applied(node& n, const committed& batch) {
  for (auto& entry : batch.entries) {
    if (entry.index != n.applied + 1)
      return violate(n.who.id.value + " applies " + number(entry.index) + " after " + number(n.applied));
    if (n.refuses_to_apply)
      return violate(n.who.id.value + " goes on from a state that cannot be used");
    n.applied = entry.index;
    check_commit(n);
    if (!violation_.empty())
      return;
    if (entry.index.value > committed_.size() || committed_[entry.index.value - 1] != entry.term ||
        !(written_.at({entry.index, entry.term}).entry == entry))
      return violate(n.who.id.value + " applies another entry " + number(entry.index) + " than was committed");
    if (!n.files.has(entry.index, entry.term))
      return violate(n.who.id.value + " applies " + number(entry.index) + " before it is durable here");
    if (entry.index.value % 5 == 0) {
      auto i = find(n.who.id);
      auto checksum = entry.index.value * 1000 + (n.files.spoilt ? 1 : 0);
      schedule_for(i, {}, [this, i, index = entry.index, checksum] {
        perform(i, nodes_[i].keeper->on_own_digest(index, checksum, clock(nodes_[i])));
      });
    }
  }
}

void core_cluster::check_read(const read_index_reply& reply) {
  auto read = reads_.find(reply.request);
  if (read == reads_.end() || !reply.ok)
    return;
  ++reads_answered_;
  read->second.answered = true;
  if (reply.index < read->second.at_least)
    violate("a read answered at " + number(reply.index) + " though " + number(read->second.at_least) +
            " was committed when it was asked");
}

}  // namespace coordinator
