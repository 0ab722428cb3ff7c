#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/replication.hpp"
#include "actors/state_machine.hpp"
#include "persistence/raft_store.hpp"

namespace coordinator::simulation {

/// A promise of Raft, or of this system, that was broken.
struct violation {
  std::string invariant;  ///< A few words, the same for every violation of its kind.
  std::string what;       ///< What happened, in full.
};

/// Watches every node between two steps and everything that is said between nodes, and knows what must never happen.
/// It looks at what a node did, and looks again at its files after each start: what was said must be there.
class checker {
 public:
  explicit checker(unsigned nodes) : nodes_(nodes) {}

  /// The first violation; later ones may only follow from it.
  const std::optional<violation>& found() const { return found_; }
  void violate(const std::string& invariant, const std::string& what);

  // -- one node's life
  /// What raft.db holds as the node starts.
  void on_start(unsigned node, const node_id& id, const raft_contents& contents, log_index last_applied);
  /// The keeper began anew, in the same process, from what its mended raft.db holds.
  void on_mended(unsigned node, const replication& keeper, const std::optional<genesis>& founded);
  void on_stop(unsigned node);
  /// Its disk is gone, and with it the member: whatever comes back under its name counts nowhere.
  void on_lost_disk(unsigned node);
  /// A transaction that the keeper asked for.
  void on_write(unsigned node, const raft_write& write);

  /// Another state has taken the place of the one that this machine had applied.
  void on_replaced(unsigned node, const state_machine& machine);

  // -- after each step
  void after_keeper(unsigned node, const replication& keeper, const std::optional<genesis>& founded);
  void after_machine(unsigned node, const replication& keeper, const state_machine& machine);
  /// For those whose every vote was shown to `said`: a leader was elected, by its voters and by no others.
  void after_election(unsigned node, const replication& keeper);

  // -- said to a peer, by the node's keeper as it is now
  void said(unsigned node, const replication& keeper, const request_vote&);
  void said(unsigned node, const replication& keeper, const node_id& to, const request_vote_reply&);
  void said(unsigned node, const replication& keeper, const append_entries_reply&);
  void said_term(unsigned node, const replication& keeper, term_number term);
  void asked(const read_index&);
  void said(unsigned node, const node_id& to, const read_index_reply&);

  /// Highest index that any leader took for committed.
  log_index committed() const { return {committed_.size()}; }
  std::size_t terms_led() const { return leaders_.size(); }
  /// Entries that logs have dropped because the state's file holds what came of them.
  std::uint64_t compacted() const { return compacted_; }
  /// How often another membership was committed.
  std::uint64_t members_changed() const { return members_changed_; }

 private:
  struct witness {
    node_id id;
    incarnation_id incarnation;
    bool up = false;
    // What the node said or claimed, which no crash may undo.
    term_number said_term;
    std::map<term_number, node_id> votes;
    log_index durable;  // Claimed durable, with the terms of `terms`.
    bool formed = false;
    // As it was after the last step.
    term_number term;
    std::optional<node_id> vote;
    term_number led;
    term_number elected;
    log_index commit;
    log_index applied;
    // Of the log in memory; of index i at i - 1. Where the log has a base, what lies before it is what was committed.
    std::vector<term_number> terms;
    log_index base;
    membership members;       // The newest in its log,
    log_index members_index;  // and where that is.
    bool state_lost = false;  // Its state could not be used, and another one is to come.
    // What is on its disk for certain, and the writes after it.
    std::map<std::uint64_t, raft_write> writes;
    hard_state saved;
    std::vector<term_number> disk;
    std::string proposal;  // The cluster id of the proposal that it has saved.
    // What it was before it lost its disks. All that those members said may still be counted.
    struct member_before {
      std::vector<term_number> disk;
      std::map<term_number, node_id> votes;
    };
    std::map<incarnation_id, member_before> before;
  };
  struct entry_known {
    std::uint64_t hash = 0;
    term_number previous;
  };

  void check_term(witness& n, const replication& keeper);
  void check_log(witness& n, const replication& keeper);
  void check_leader(witness& n, const replication& keeper);
  void check_commit(witness& n, const replication& keeper);
  void note_vote(witness& n, term_number term, const node_id& candidate);
  void check_founding(const witness& n, const genesis& founded);
  /// Brings what is on the disk for certain up to date.
  const hard_state& saved(witness& n, const replication& keeper);
  void check_base(witness& n, const log_base& base);
  void check_members(witness& n, const replication& keeper);
  const witness* find(const node_id& id) const;
  /// How many of these voters' disks hold the entry.
  std::size_t disks_with(log_index index, term_number term, const membership& members) const;
  /// The terms of what is committed, up to `index`.
  std::vector<term_number> committed_up_to(log_index index) const;

  std::vector<witness> nodes_;
  std::map<term_number, node_id> leaders_;
  std::set<term_number> campaigns_;
  std::string founded_;
  std::map<std::pair<node_id, std::uint64_t>, log_index> reads_;  // What was committed when each was asked for.
  std::vector<term_number> committed_;                            ///< The term of each committed entry.
  std::vector<term_number> committed_in_;                         ///< The term in which a leader committed it.
  std::map<std::pair<log_index, term_number>, entry_known> entries_;
  std::vector<std::uint64_t> checksums_;  // Of the applied state at index i at i - 1.
  std::uint64_t compacted_ = 0;
  std::uint64_t members_changed_ = 0;
  log_index members_committed_;
  std::optional<violation> found_;
};

}  // namespace coordinator::simulation
