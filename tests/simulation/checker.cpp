#include "tests/simulation/checker.hpp"

#include <algorithm>

#include "actors/formation.hpp"
#include "persistence/codec.hpp"

namespace coordinator::simulation {
namespace {

template <class Tag>
std::string text(ordinal<Tag> x) {
  return std::to_string(x.value);
}

std::uint64_t hash_of(const log_entry& entry) {
  std::uint64_t hash = 14695981039346656037u;
  auto mix = [&](std::uint64_t x) { hash = (hash ^ x) * 1099511628211u; };
  mix(static_cast<std::uint64_t>(entry.kind));
  mix(static_cast<std::uint64_t>(entry.time_ms));
  for (unsigned char c : entry.payload)
    mix(c);
  return hash;
}

/// The cluster id of a saved proposal.
std::string proposal_in(const std::string& bytes) {
  formation_state state;
  return !bytes.empty() && from_bytes(bytes, state) ? state.proposal.cluster_id : std::string{};
}

}  // namespace

void checker::violate(const std::string& invariant, const std::string& what) {
  if (!found_)
    found_ = violation{invariant, what};
}

// -- one node's life ----------------------------------------------------------------

void checker::on_start(unsigned node, const node_id& id, const raft_contents& contents, log_index last_applied) {
  auto& n = nodes_[node];
  auto& state = contents.state;
  auto& base = contents.base;
  if (base.index > committed() || (base.index.value > 0 && committed_[base.index.value - 1] != base.term))
    violate("a log begins after what is committed",
            id.value + " comes back with a log that begins after " + text(base.index) + " of term " + text(base.term));
  auto terms = committed_up_to(base.index);
  terms.resize(contents.last_index.value);
  for (auto& run : contents.terms)
    std::fill(terms.begin() + static_cast<std::ptrdiff_t>(run.first.value - 1), terms.end(), run.term);
  if (state.current_term < n.said_term)
    violate("terms never go back",
            id.value + " said term " + text(n.said_term) + " and comes back in term " + text(state.current_term));
  if (auto vote = n.votes.find(state.current_term); vote != n.votes.end() && state.voted_for != vote->second)
    violate("a vote is saved before it is said", id.value + " voted for " + vote->second.value + " in term " +
                                                     text(state.current_term) + " and comes back without that vote");
  if (n.formed && !contents.founded)
    violate("a formed node stays formed", id.value + " comes back unformed");
  for (std::size_t i = 0; i < n.durable.value; ++i)
    if (i >= terms.size() || terms[i] != n.terms[i]) {
      violate("entries are durable before they are acknowledged",
              id.value + " acknowledged entry " + std::to_string(i + 1) + " and comes back without it");
      break;
    }
  for (auto& entry : contents.tail)
    if (auto known = entries_.find({entry.index, entry.term});
        known != entries_.end() && known->second.hash != hash_of(entry))
      violate("log matching",
              id.value + " comes back with another entry " + text(entry.index) + " of term " + text(entry.term));
  n.id = id;
  n.incarnation = contents.incarnation;
  n.base = base.index;
  n.up = true;
  n.term = state.current_term;
  n.vote = state.voted_for;
  n.saved = state;
  n.commit = last_applied;
  n.applied = last_applied;
  n.durable = contents.last_index;
  n.disk = terms;
  n.terms = std::move(terms);
  n.proposal = proposal_in(contents.formation);
  if (state.voted_for == id)
    campaigns_.insert(state.current_term);
  n.led = {};
  n.writes.clear();
}

void checker::on_stop(unsigned node) {
  nodes_[node].up = false;
}

void checker::on_lost_disk(unsigned node) {
  auto& n = nodes_[node];
  auto before = std::move(n.before);
  before[n.incarnation] = {std::move(n.disk), std::move(n.votes)};
  auto id = n.id;
  n = {};
  n.id = id;
  n.before = std::move(before);
}

void checker::on_mended(unsigned node, const replication& keeper, const std::optional<genesis>& founded) {
  auto& n = nodes_[node];
  auto& log = keeper.log();
  raft_contents contents;
  contents.state = {keeper.current_term(), keeper.voted_for()};
  contents.founded = founded;
  contents.last_index = log.last_index();
  contents.incarnation = n.incarnation;
  contents.base = log.base();
  contents.first_index = log.first_index();
  for (auto i = log.first_index(); i <= log.last_index(); i = i + 1)
    if (contents.terms.empty() || contents.terms.back().term != log.term_at(i))
      contents.terms.push_back({i, log.term_at(i)});
  auto proposal = n.proposal;
  on_start(node, node_id{n.id}, contents, n.applied);
  n.proposal = proposal;
}

void checker::on_write(unsigned node, const raft_write& write) {
  auto& kept = nodes_[node].writes[write.number] = write;
  for (auto& entry : kept.entries)
    entry.payload.clear();
}

const hard_state& checker::saved(witness& n, const replication& keeper) {
  while (!n.writes.empty() && n.writes.begin()->first <= keeper.durable_write()) {
    auto& write = n.writes.begin()->second;
    if (write.state)
      n.saved = *write.state;
    if (write.install) {
      auto disk = committed_up_to(write.install->base.index);
      if (write.install->keep_suffix && n.disk.size() > disk.size())
        disk.insert(disk.end(), n.disk.begin() + static_cast<std::ptrdiff_t>(disk.size()), n.disk.end());
      n.disk = std::move(disk);
    }
    if (write.truncate_from && write.truncate_from->value <= n.disk.size())
      n.disk.resize(write.truncate_from->value - 1);
    for (auto& entry : write.entries) {
      n.disk.resize(entry.index.value - 1);
      n.disk.push_back(entry.term);
    }
    if (write.formation)
      n.proposal = proposal_in(*write.formation);
    n.writes.erase(n.writes.begin());
  }
  return n.saved;
}

// -- after each step ------------------------------------------------------------------

void checker::after_keeper(unsigned node, const replication& keeper, const std::optional<genesis>& founded) {
  auto& n = nodes_[node];
  saved(n, keeper);
  if (founded && founded_.empty())
    check_founding(n, *founded);
  if (founded && founded->cluster_id != founded_)
    violate("one cluster is founded", n.id.value + " belongs to another cluster than " + founded_);
  n.formed = n.formed || (keeper.formed() && keeper.durable_index() >= log_index{1});
  check_term(n, keeper);
  check_log(n, keeper);
  check_leader(n, keeper);
  check_commit(n, keeper);
  check_members(n, keeper);
  n.state_lost = n.state_lost || !keeper.state_error().empty();
}

const checker::witness* checker::find(const node_id& id) const {
  auto i = std::find_if(nodes_.begin(), nodes_.end(), [&](const witness& n) { return n.id == id; });
  return i == nodes_.end() ? nullptr : &*i;
}

std::vector<term_number> checker::committed_up_to(log_index index) const {
  std::vector<term_number> terms(committed_.begin(),
                                 committed_.begin() + static_cast<std::ptrdiff_t>(std::min(index, committed()).value));
  terms.resize(index.value);
  return terms;
}

/// A cluster is founded once every founder has saved it, and by no less (rule 12).
void checker::check_founding(const witness& n, const genesis& founded) {
  founded_ = founded.cluster_id;
  for (auto& m : founded.founders.members)
    if (auto other = find(m.id); !other || other->proposal != founded.cluster_id)
      violate("all founders save a cluster before it is founded",
              n.id.value + " founds a cluster that " + m.id.value + " has not saved");
}

void checker::check_term(witness& n, const replication& keeper) {
  auto term = keeper.current_term();
  if (keeper.voted_for() == n.id)
    campaigns_.insert(term);
  else if (term > n.term && term > term_number{1} && !campaigns_.contains(term))
    violate("a term begins with a campaign",
            n.id.value + " enters term " + text(term) + ", for which no node campaigned");
  if (term < n.term)
    violate("terms never go back", n.id.value + " goes from term " + text(n.term) + " back to " + text(term));
  if (term == n.term && n.vote && keeper.voted_for() != n.vote)
    violate("one vote a term", n.id.value + " takes back its vote of term " + text(term));
  n.term = term;
  n.vote = keeper.voted_for();
}

/// What a log has dropped was committed, and another state takes nothing away that came after it (Raft §7).
void checker::check_base(witness& n, const log_base& base) {
  if (base.index < n.base)
    violate("a log's beginning never goes back",
            n.id.value + " goes from " + text(n.base) + " back to " + text(base.index));
  if (base.index <= n.base)
    return;
  if (base.index > committed() || committed_[base.index.value - 1] != base.term)
    violate("a log begins after what is committed",
            n.id.value + " drops what comes up to " + text(base.index) + " of term " + text(base.term));
  n.base = base.index;
}

/// Log matching: an index and a term name one entry, and all that come before it (Raft figure 3).
void checker::check_log(witness& n, const replication& keeper) {
  auto& log = keeper.log();
  auto last = log.last_index();
  if (auto& base = log.base(); base.index != n.base) {
    auto follows =
        n.terms.size() > base.index.value && base.index > log_index{} && n.terms[base.index.value - 1] == base.term;
    if (follows && last.value < n.terms.size())
      violate("a snapshot keeps what follows it", n.id.value + " drops the entries after " + text(base.index));
    if (n.terms.size() >= base.index.value && base.index > n.base)
      compacted_ += base.index - n.base;
    check_base(n, base);
    // What lies before it is not what this log had there, where it comes from elsewhere.
    auto terms = committed_up_to(base.index);
    auto differ = std::mismatch(terms.begin(), terms.end(), n.terms.begin(), n.terms.end()).first - terms.begin();
    n.durable = std::min(n.durable, follows ? n.durable : log_index{static_cast<std::uint64_t>(differ)});
    if (follows)
      terms.insert(terms.end(), n.terms.begin() + static_cast<std::ptrdiff_t>(terms.size()), n.terms.end());
    n.terms = std::move(terms);
  }
  auto same = std::min<std::uint64_t>(last.value, n.terms.size());
  while (same > log.base().index.value && n.terms[same - 1] != log.term_at({same}))
    --same;
  if (same < n.terms.size() && n.durable.value > same)
    n.durable = {same};
  if (same < n.terms.size() && n.commit.value > same)
    violate("what is committed stays", n.id.value + " cuts entry " + std::to_string(same + 1) + " though it took " +
                                           text(n.commit) + " for committed");
  n.terms.resize(same);
  if (same < last.value) {
    auto fresh = log.entries({same + 1}, last, std::size_t{1} << 40);
    if (fresh)
      for (auto& entry : *fresh) {
        auto previous = log.term_at(entry.index - 1);
        auto hash = hash_of(entry);
        auto [known, inserted] = entries_.emplace(std::pair{entry.index, entry.term}, entry_known{hash, previous});
        if (!inserted && (known->second.hash != hash || known->second.previous != previous))
          violate("log matching", n.id.value + " holds another entry " + text(entry.index) + " of term " +
                                      text(entry.term) + " than a node before it");
      }
    for (auto i = same + 1; i <= last.value; ++i)
      n.terms.push_back(log.term_at({i}));
  }
  n.durable = std::max(n.durable, std::min(keeper.durable_index(), last));
  auto i = n.durable.value;
  if (i > 0 && (n.disk.size() < i || n.disk[i - 1] != n.terms[i - 1]))
    violate("the durable index tells what is on the disk",
            n.id.value + " takes " + text(n.durable) + " of term " + text(n.terms[i - 1]) + " for durable");
}

/// Election safety and leader completeness (Raft figure 3).
void checker::check_leader(witness& n, const replication& keeper) {
  auto term = keeper.current_term();
  if (keeper.role() != node_role::leader || n.led == term)
    return;
  n.led = term;
  auto [leader, fresh] = leaders_.emplace(term, n.id);
  if (!fresh && leader->second != n.id)
    violate("one leader a term",
            "term " + text(term) + " has two leaders, " + leader->second.value + " and " + n.id.value);
  for (std::size_t i = 0; i < committed_.size(); ++i) {
    // The votes of an older campaign may come late: that leader owes nothing to terms after its own.
    if (committed_in_[i] >= term)
      continue;
    if (i >= n.terms.size() || n.terms[i] != committed_[i]) {
      violate("leader completeness", n.id.value + ", the leader of term " + text(term) +
                                         ", lacks the committed entry " + std::to_string(i + 1));
      return;
    }
  }
}

void checker::after_election(unsigned node, const replication& keeper) {
  auto& n = nodes_[node];
  auto term = keeper.current_term();
  if (keeper.role() != node_role::leader || n.elected == term)
    return;
  n.elected = term;
  std::size_t votes = 0;
  auto& members = keeper.log().members();
  for (auto& m : members.members) {
    auto voter = find(m.id);
    if (!m.voter || !voter)
      continue;
    if (m.id == n.id) {
      votes += m.incarnation == n.incarnation && keeper.voted_for() == n.id;
      continue;
    }
    auto gone = voter->before.find(m.incarnation);
    auto* said = voter->incarnation == m.incarnation ? &voter->votes
                 : gone != voter->before.end()       ? &gone->second.votes
                                                     : nullptr;
    if (!said)
      continue;
    auto vote = said->find(term);
    votes += vote != said->end() && vote->second == n.id;
  }
  if (votes < members.quorum())
    violate("a leader has the votes of a majority", n.id.value + " leads in term " + text(term) + " with " +
                                                        std::to_string(votes) + " votes of " +
                                                        std::to_string(members.voter_count()));
}

std::size_t checker::disks_with(log_index index, term_number term, const membership& members) const {
  std::size_t count = 0;
  for (auto& m : members.members) {
    auto n = find(m.id);
    if (!m.voter || !n)
      continue;
    // What a member acknowledged while it had its disk may be counted later.
    auto gone = n->before.find(m.incarnation);
    auto* disk = n->incarnation == m.incarnation ? &n->disk : gone != n->before.end() ? &gone->second.disk : nullptr;
    count += disk && disk->size() >= index.value && (*disk)[index.value - 1] == term;
  }
  return count;
}

/// One change at a time: any two majorities of a membership and the one before it have a node in common.
void checker::check_members(witness& n, const replication& keeper) {
  auto& log = keeper.log();
  auto appends = keeper.role() == node_role::leader && log.members_index() > n.members_index &&
                 log.term_at(log.members_index()) == keeper.current_term() && n.led == keeper.current_term();
  if (appends && n.members_index > log_index{}) {
    if (log.term_at(keeper.commit_index()) != keeper.current_term() || n.members_index > keeper.commit_index())
      violate("one change of the members at a time",
              n.id.value + " changes them in entry " + text(log.members_index()) + " with commit " +
                  text(keeper.commit_index()) + " and the change before in " + text(n.members_index));
    std::size_t changed = 0;
    for (auto& m : n.members.members)
      changed += m.voter && !log.members().is_voter(m.id);
    for (auto& m : log.members().members)
      changed += m.voter && !n.members.is_voter(m.id);
    if (changed > 1)
      violate("one change of the members at a time", n.id.value + " changes " + std::to_string(changed) + " voters");
  }
  n.members = log.members();
  n.members_index = log.members_index();
  if (log.members_index() <= keeper.commit_index() && log.members_index() > members_committed_) {
    members_changed_ += members_committed_ > log_index{};
    members_committed_ = log.members_index();
  }
}

void checker::check_commit(witness& n, const replication& keeper) {
  auto commit = keeper.commit_index();
  if (commit < n.commit)
    return violate("commit never goes back",
                   n.id.value + " goes from commit " + text(n.commit) + " back to " + text(commit));
  if (commit.value > n.terms.size())
    return violate("commit stays within the log", n.id.value + " takes " + text(commit) + " for committed");
  for (auto i = n.commit.value + 1; i <= commit.value; ++i) {
    auto term = n.terms[i - 1];
    if (i <= committed_.size()) {
      if (committed_[i - 1] != term)
        return violate("committed logs agree", n.id.value + " takes another entry for the committed " +
                                                   std::to_string(i) + ": of term " + text(term) + ", not " +
                                                   text(committed_[i - 1]));
      continue;
    }
    // Entry 1 is committed when it is founded; all founders write the same.
    if (i == 1) {
      committed_.push_back(term);
      committed_in_.push_back({});
      continue;
    }
    if (keeper.role() != node_role::leader)
      return violate("a leader commits first",
                     n.id.value + " takes " + std::to_string(i) + " for committed before any leader did");
    if (n.terms[commit.value - 1] != keeper.current_term())
      return violate("only the own term commits by counting", n.id.value + " commits " + text(commit) +
                                                                  " of an older term in term " +
                                                                  text(keeper.current_term()) + " (figure 8)");
    // A membership that the same step has appended decides only about what comes later.
    auto& members = keeper.log().members();
    auto disks = disks_with({i}, term, members);
    if (disks < members.quorum() && disks_with({i}, term, n.members) < n.members.quorum())
      return violate("a committed entry is on a majority of disks",
                     n.id.value + " commits " + std::to_string(i) + ", which is on " + std::to_string(disks) +
                         " disks of " + std::to_string(members.voter_count()) + " voters");
    committed_.push_back(term);
    committed_in_.push_back(keeper.current_term());
  }
  n.commit = commit;
}

void checker::on_replaced(unsigned node, const state_machine& machine) {
  auto& n = nodes_[node];
  auto applied = machine.last_applied();
  if (applied < n.applied && !n.state_lost)
    violate("applied never goes back",
            n.id.value + " takes the state of " + text(applied) + " for the one that had applied " + text(n.applied));
  if (applied > committed())
    violate("only what is committed is applied", n.id.value + " is given the state after " + text(applied));
  auto known = applied.value > 0 && applied.value <= checksums_.size() ? checksums_[applied.value - 1] : 0;
  if (known != 0 && known != machine.checksum())
    violate("equal logs give equal state", n.id.value + " is given another state of " + text(applied));
  n.applied = applied;
  n.state_lost = false;
}

/// State machine safety: applied prefixes agree, and give the same state.
void checker::after_machine(unsigned node, const replication& keeper, const state_machine& machine) {
  auto& n = nodes_[node];
  auto applied = machine.last_applied();
  if (applied < n.applied)
    return violate("applied never goes back", n.id.value + " goes back to " + text(applied));
  if (applied == n.applied)
    return;
  if (applied > keeper.commit_index() || applied > committed())
    return violate("only what is committed is applied", n.id.value + " applies " + text(applied));
  if (applied > n.durable)
    return violate("only what is durable is applied",
                   n.id.value + " applies " + text(applied) + ", its disk holds " + text(n.durable));
  for (auto i = n.applied.value + 1; i <= applied.value; ++i) {
    auto answer = machine.answer(get_checksum{i});
    auto* at = std::get_if<checksum_view>(&answer);
    if (!at)
      continue;
    if (checksums_.size() < i)
      checksums_.resize(i, 0);
    if (checksums_[i - 1] == 0)
      checksums_[i - 1] = at->checksum;
    if (checksums_[i - 1] != at->checksum)
      return violate("equal logs give equal state", n.id.value + " has another state at " + std::to_string(i));
  }
  n.applied = applied;
}

// -- what is said (rule 2) ----------------------------------------------------------------

void checker::said_term(unsigned node, const replication& keeper, term_number term) {
  auto& n = nodes_[node];
  if (term > saved(n, keeper).current_term)
    violate("a term is saved before it is said",
            n.id.value + " says term " + text(term) + " with " + text(n.saved.current_term) + " on its disk");
  n.said_term = std::max(n.said_term, term);
}

void checker::note_vote(witness& n, term_number term, const node_id& candidate) {
  auto [vote, fresh] = n.votes.emplace(term, candidate);
  if (!fresh && vote->second != candidate)
    violate("one vote a term",
            n.id.value + " votes for " + vote->second.value + " and for " + candidate.value + " in term " + text(term));
}

void checker::said(unsigned node, const replication& keeper, const request_vote& x) {
  if (x.pre_vote)
    return;
  auto& n = nodes_[node];
  said_term(node, keeper, x.term);
  if (n.saved.current_term == x.term && n.saved.voted_for != n.id)
    violate("a vote is saved before it is said", n.id.value + " campaigns before its own vote is saved");
  note_vote(n, x.term, n.id);
}

void checker::said(unsigned node, const replication& keeper, const node_id& to, const request_vote_reply& x) {
  auto& n = nodes_[node];
  said_term(node, keeper, x.term);
  if (x.pre_vote || !x.vote_granted)
    return;
  if (!n.formed)
    violate("an unformed node does not vote", n.id.value + " votes for " + to.value);
  if (n.saved.current_term == x.term && n.saved.voted_for != to)
    violate("a vote is saved before it is said",
            n.id.value + " votes for " + to.value + " in term " + text(x.term) + " before that is saved");
  note_vote(n, x.term, to);
}

void checker::asked(const read_index& x) {
  // An old copy of the question may come again: what was committed when it was asked for the first time counts.
  reads_.emplace(std::pair{x.from.id, x.request}, committed());
}

void checker::said(unsigned node, const node_id& to, const read_index_reply& x) {
  auto& n = nodes_[node];
  auto question = reads_.find({to, x.request});
  if (x.ok && question != reads_.end() && x.index < question->second)
    violate("a read index covers what was committed", n.id.value + " answers " + text(x.index) + ", when " +
                                                          text(question->second) +
                                                          " had been committed before it was asked");
}

void checker::said(unsigned node, const replication& keeper, const append_entries_reply& x) {
  auto& n = nodes_[node];
  said_term(node, keeper, x.term);
  if (x.success && x.answers_term == keeper.current_term() && x.match_index > keeper.durable_index())
    violate(
        "entries are durable before they are acknowledged",
        n.id.value + " acknowledges " + text(x.match_index) + " with " + text(keeper.durable_index()) + " on its disk");
}

}  // namespace coordinator::simulation
