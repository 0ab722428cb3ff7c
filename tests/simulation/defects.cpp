#include "tests/simulation/defects.hpp"

#include <cstdio>
#include <optional>

#include "tests/simulation/runner.hpp"

namespace coordinator::simulation {
namespace {

void print(const defect_row& row, std::uint64_t seed, const std::string& invariant) {
  std::printf("| %-30s | %-10s | %5s | %s |\n", row.name, row.profile, seed != 0 ? std::to_string(seed).c_str() : "-",
              invariant.c_str());
  std::fflush(stdout);
}

}  // namespace

std::optional<finding> find_violation(const defect_row& row, std::uint64_t first, std::uint64_t last, unsigned jobs) {
  std::optional<finding> found;
  run_request request;
  request.each.defects.add(row.what);
  request.each.profile = row.profile;
  request.first = first;
  request.last = last;
  request.jobs = jobs;
  request.ended = [&](std::uint64_t seed, const history_result& result) {
    if (!result.found)
      return true;
    found = finding{seed, *result.found};
    return false;
  };
  play_all(request);
  return found;
}

const std::vector<defect_row>& defect_rows() {
  static const std::vector<defect_row> rows{
      {defect::count_self_without_vote, "count_self_without_vote", "members", 53,
       "a read index covers what was committed"},
      {defect::stale_tally_counts, "stale_tally_counts", "leaders", 3, "a term is saved before it is said"},
      {defect::ignore_higher_term, "ignore_higher_term", "steady", 3, "a later term in an answer is taken over"},
      {defect::vote_before_saved, "vote_before_saved", "crashes", 1, "a term is saved before it is said"},
      {defect::vote_without_term, "vote_without_term", "crashes", 2, "a term is saved before it is said"},
      {defect::grant_in_two_steps, "grant_in_two_steps", "leaders", 10, "one vote a term"},
      {defect::acknowledge_before_saved, "acknowledge_before_saved", "crashes", 1,
       "entries are durable before they are acknowledged"},
      {defect::count_own_write_early, "count_own_write_early", "disks", 2,
       "a committed entry is on a majority of disks"},
      {defect::old_write_raises_durable, "old_write_raises_durable", "leaders", 3,
       "the durable index tells what is on the disk"},
      {defect::commit_older_term_by_counting, "commit_older_term_by_counting", "leaders", 2,
       "only the own term commits by counting"},
      {defect::commit_on_unproven_ground, "commit_on_unproven_ground", "leaders", 9, "committed logs agree"},
      {defect::committed_overtakes_durable, "committed_overtakes_durable", "crashes", 2,
       "only what is durable is applied"},
      {defect::drop_committed_of_older_term, "drop_committed_of_older_term", "crashes", 1,
       "the product's own invariants hold"},
      {defect::beats_without_progress, "beats_without_progress", "steady", 2, "a leader whose disk hangs steps down"},
      {defect::no_check_quorum, "no_check_quorum", "steady", 4, "a leader that hears no majority steps down"},
      {defect::pre_vote_raises_term, "pre_vote_raises_term", "steady", 1, "a term begins with a campaign"},
      {defect::pre_vote_ignores_contact, "pre_vote_ignores_contact", "steady", 6,
       "a leader that reaches a majority stays"},
      {defect::read_without_own_term_commit, "read_without_own_term_commit", "leaders", 1,
       "a read index covers what was committed"},
      {defect::read_on_older_round, "read_on_older_round", "reads", 17, "a linearizable read is never stale"},
      {defect::read_under_ended_leave, "read_under_ended_leave", "reads", 28, "a read index covers what was committed"},
      {defect::membership_before_own_commit, "membership_before_own_commit", "members", 2,
       "one change of the members at a time"},
      {defect::apply_reads_clock, "apply_reads_clock", "calm", 1, "equal logs give equal state"},
      {defect::applied_index_apart_from_data, "applied_index_apart_from_data", "crashes", 1, "what was synced stays"},
      {defect::forget_sessions, "forget_sessions", "echoes", 36, "a command is applied once"},
      {defect::apply_below_lowest_unanswered, "apply_below_lowest_unanswered", "echoes", 2,
       "a command is applied once"},
      {defect::trust_refusal_after_install, "trust_refusal_after_install", "members", 125, "a command is applied once"},
      {defect::stale_attempt_accepted, "stale_attempt_accepted", "tasks", 1, "the result of one attempt counts"},
      {defect::ignore_incarnation, "ignore_incarnation", "replaced", 2, "a committed entry is on a majority of disks"},
      {defect::vote_unformed, "vote_unformed", "replaced", 1, "an unformed node does not vote"},
      {defect::form_with_missing_founder, "form_with_missing_founder", "founding", 1,
       "all founders save a cluster before it is founded"},
      {defect::found_beside_formed, "found_beside_formed", "oblivion", 1, "one cluster is founded"},
      {defect::step_down_clears_vote, "step_down_clears_vote", "partitions", 2, "one vote a term"},
      {defect::compact_past_checkpoint, "compact_past_checkpoint", "crashes", 10, "what was synced stays"},
      {defect::older_snapshot_installed, "older_snapshot_installed", "snapshots", 19, "applied never goes back"},
      {defect::snapshot_drops_suffix, "snapshot_drops_suffix", "snapshots", 4, "a snapshot keeps what follows it"},
      {defect::truncate_matching_suffix, "truncate_matching_suffix", "messages", 2, "what is committed stays"},
  };
  return rows;
}

const defect_row* find_defect(const std::string& name) {
  for (auto& row : defect_rows())
    if (name == row.name)
      return &row;
  return nullptr;
}

bool rules_are_switchable() {
  defect_set probe;
  probe.add(defect::vote_before_saved);
  return probe.has(defect::vote_before_saved);
}

unsigned replay_defects(unsigned jobs) {
  unsigned wrong = 0;
  std::printf("| defect | profile | seed | invariant that breaks |\n| --- | --- | --- | --- |\n");
  for (auto& row : defect_rows()) {
    if (*row.profile == 0) {
      print(row, 0, row.invariant);
      continue;
    }
    auto found = find_violation(row, row.seed, row.seed, jobs);
    auto as_recorded = found && found->what.invariant == row.invariant;
    wrong += !as_recorded;
    print(row, row.seed, as_recorded ? row.invariant : found ? "now: " + found->what.invariant : "not found any more");
  }
  return wrong;
}

unsigned search_defects(const std::string& name, std::uint64_t most, unsigned jobs) {
  unsigned missing = 0;
  std::printf("| defect | profile | seed | invariant that breaks |\n| --- | --- | --- | --- |\n");
  for (auto& row : defect_rows()) {
    if ((!name.empty() && name != "all" && name != row.name) || *row.profile == 0)
      continue;
    auto found = find_violation(row, 1, most, jobs);
    missing += !found;
    print(row, found ? found->seed : 0, found ? found->what.invariant + " (" + found->what.what + ")" : "not found");
  }
  return missing;
}

}  // namespace coordinator::simulation
