#pragma once

#include <bitset>
#include <cstdint>
#include <functional>

namespace coordinator {

/// A safety rule of docs/architecture.md taken out, for tests that prove that the rule is needed.
enum class defect : std::uint8_t {
  count_self_without_vote,        ///< 1: a leader counts itself though it is no voter.
  stale_tally_counts,             ///< 1: evidence under an ended leave is honoured.
  ignore_higher_term,             ///< 1: an answer with a higher term changes nothing.
  vote_before_saved,              ///< 2: a vote is said before it is saved.
  acknowledge_before_saved,       ///< 2: entries are acknowledged before they are durable.
  count_own_write_early,          ///< 2: a leader counts its own write before it is done.
  old_write_raises_durable,       ///< 2: a completion raises the durable index past a truncation.
  commit_older_term_by_counting,  ///< 3: Raft figure 8.
  commit_on_unproven_ground,      ///< 4: a follower commits past what an append of this term proved.
  committed_overtakes_durable,    ///< 4: the state machine is given entries that are not durable here.
  beats_without_progress,         ///< 5: beats outlive a hung disk.
  no_check_quorum,                ///< 5: a leader stays without contact to a majority.
  pre_vote_raises_term,           ///< 6: a pre-vote changes the term.
  pre_vote_ignores_contact,       ///< 6: a pre-vote is granted although a leader was heard.
  read_without_own_term_commit,   ///< 7: a read index from before the own-term no-op.
  read_on_older_round,            ///< 7: a read answered on a round that began before it.
  read_under_ended_leave,         ///< 7: noted in one leave, proved in another.
  membership_before_own_commit,   ///< 8: a membership change before an own-term commit.
  apply_reads_clock,              ///< 9: the state machine reads a clock.
  forget_sessions,                ///< 10: a closed session's command is applied.
  apply_below_lowest_unanswered,  ///< 10: an old copy of a command is applied.
  trust_refusal_after_install,    ///< 10: a closed session's refusal counts as proof though a state was installed.
  ignore_incarnation,             ///< 11: another incarnation's vote or acknowledgement counts.
  vote_unformed,                  ///< 12: a node that is not formed votes.
  form_with_missing_founder,      ///< 12: a cluster is formed before all founders saved it.
  step_down_clears_vote,          ///< 1: a step-down in the same term forgets the vote.
  truncate_matching_suffix,       ///< 4: a delayed append cuts entries that match (Raft §5.3).
  stale_attempt_accepted,         ///< 10: a result of an attempt that was given to another counts.
  vote_without_term,              ///< 2: a vote is saved, its term is not.
  grant_in_two_steps,             ///< 1: a vote that is still being saved does not bar another one.
  drop_committed_of_older_term,   ///< 4: the state machine is not given what an older term wrote.
  applied_index_apart_from_data,  ///< 9: state.db gets last_applied in a transaction before its rows.
  found_beside_formed,            ///< 12: founders go on without those that are gone or formed.
  compact_past_checkpoint,        ///< Compaction passes what is not checkpointed.
  older_snapshot_installed,       ///< A late or older snapshot takes the place of a newer state.
  snapshot_drops_suffix,          ///< A snapshot drops a suffix that matches.
  count_,
};

/// The rules that are switched off. In the programs that ship it is always empty: `has` is linked from
/// rules.cpp there, and from rules_switchable.cpp in tests.
class defect_set {
 public:
  bool has(defect d) const;
  bool any() const { return bits_.any(); }
  void add(defect d) { bits_.set(static_cast<std::size_t>(d)); }

  /// What `apply_reads_clock` reads, in milliseconds; empty: the system's clock.
  std::function<std::int64_t()> clock;

 private:
  std::bitset<static_cast<std::size_t>(defect::count_)> bits_;
};

}  // namespace coordinator
