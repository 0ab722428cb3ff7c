#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "persistence/raft_store.hpp"
#include "persistence/types.hpp"

/// The vocabulary of Raft, free of CAF: what travels between nodes, each with an `inspect`; messages.cpp announces it
/// to CAF. request_messages.hpp has what clients' requests make nodes say to each other, keeper_messages.hpp and
/// local_messages.hpp what stays within a node.

namespace coordinator {

using milliseconds = std::chrono::milliseconds;

/// Who says something. The link has proved it, but a message may be older than the link: what counts votes
/// or acknowledgements compares the incarnation with the membership (rule 11).
struct sender {
  node_id id;
  incarnation_id incarnation;

  friend auto operator<=>(const sender&, const sender&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, sender& x) {
    return f(x.id, x.incarnation);
  }
};

// -- between nodes: Raft ------------------------------------------------------

/// Asks for a vote (Raft §5.2), or with `pre_vote` whether one would be given (§9.6 of the thesis), which
/// changes no term anywhere. From election to election.
struct request_vote {
  sender candidate;
  term_number term;  ///< The term campaigned for; for a pre-vote the one that would follow.
  log_index last_log_index;
  term_number last_log_term;
  bool pre_vote = false;
  bool transfer = false;    ///< The leader asked for this campaign: recent contact is no reason to refuse.
  std::uint64_t leave = 0;  ///< The candidate's leave; comes back in the answer.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, request_vote& x) {
    return f(x.candidate, x.term, x.last_log_index, x.last_log_term, x.pre_vote, x.transfer, x.leave);
  }
};

struct request_vote_reply {
  sender from;
  term_number term;  ///< The voter's own term, saved before this is said.
  bool vote_granted = false;
  bool pre_vote = false;
  std::uint64_t leave = 0;

  friend bool operator==(const request_vote_reply&, const request_vote_reply&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, request_vote_reply& x) {
    return f(x.from, x.term, x.vote_granted, x.pre_vote, x.leave);
  }
};

/// Replicates entries, and with none of them says how far the log is committed (Raft §5.3).
struct append_entries {
  sender leader;
  term_number term;
  log_index prev_log_index;
  term_number prev_log_term;
  std::vector<log_entry> entries;
  log_index leader_commit;
  bool commit_only = false;  ///< Only tells leader_commit: no answer is wanted unless it is refused.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, append_entries& x) {
    return f(x.leader, x.term, x.prev_log_index, x.prev_log_term, x.entries, x.leader_commit, x.commit_only);
  }
};

struct append_entries_reply {
  sender from;
  term_number term;          ///< The follower's own term, saved before this is said.
  term_number answers_term;  ///< The term of the append_entries that this answers.
  bool success = false;
  log_index match_index;     ///< On success: the log is equal to the leader's and durable up to here.
  log_index last_log_index;  ///< The follower's last entry, durable or not.
  /// On refusal: the term in the way and its first index in the follower's log, or the end of a log that
  /// is too short; the leader skips a whole term at a time (Raft §5.3, the last paragraph but one).
  term_number conflict_term;
  log_index conflict_index;
  log_index prev_log_index;  ///< On refusal: the prev_log_index that was refused.
  bool needs_state = false;  ///< The log is well, but what it was applied to is gone: send a snapshot.

  friend bool operator==(const append_entries_reply&, const append_entries_reply&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, append_entries_reply& x) {
    return f(x.from, x.term, x.answers_term, x.success, x.match_index, x.last_log_index, x.conflict_term,
             x.conflict_index, x.prev_log_index, x.needs_state);
  }
};

/// The leader is there; from heartbeat to heartbeat.
struct beat {
  sender leader;
  term_number term;
  log_index commit_index;   ///< At most the receiver's match_index as the leader knows it (rule 4).
  std::uint64_t round = 0;  ///< Comes back in the answer.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, beat& x) {
    return f(x.leader, x.term, x.commit_index, x.round);
  }
};

/// Given by the follower's keeper to the leader's heartbeat.
struct beat_reply {
  sender from;
  term_number term;  ///< The follower's own term, saved before this is said.
  term_number answers_term;
  std::uint64_t round = 0;

  friend bool operator==(const beat_reply&, const beat_reply&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, beat_reply& x) {
    return f(x.from, x.term, x.answers_term, x.round);
  }
};

/// The leader asks the receiver to campaign at once (§3.10 of the thesis). Valid in its term only.
struct timeout_now {
  sender leader;
  term_number term;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, timeout_now& x) {
    return f(x.leader, x.term);
  }
};

// -- between nodes: the state itself --------------------------------------------

/// A consistent copy of one node's state file, on its way to another (Raft §7). Its bytes are equal whenever its
/// sender and number are, so that a transfer goes on where it was broken off, in a later term too.
struct snapshot_info {
  std::uint64_t number = 0;    ///< Drawn at random by its sender; never 0.
  log_base base;               ///< The last entry that is in it, and the membership in force there.
  std::uint64_t size = 0;      ///< Bytes of the file.
  std::uint64_t checksum = 0;  ///< Of the rows; see state_meta.

  friend bool operator==(const snapshot_info&, const snapshot_info&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, snapshot_info& x) {
    return f(x.number, x.base, x.size, x.checksum);
  }
};

/// A piece of a snapshot, 64 KiB at most; with no data it asks how much of it the receiver has already.
struct install_snapshot {
  sender leader;
  term_number term;
  snapshot_info what;
  std::uint64_t offset = 0;
  std::string data;
  std::uint32_t crc = 0;  ///< CRC-32C of `data`.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, install_snapshot& x) {
    return f(x.leader, x.term, x.what, x.offset, x.data, x.crc);
  }
};

struct install_snapshot_reply {
  sender from;
  term_number term;          ///< The follower's own term, saved before this is said.
  term_number answers_term;  ///< The term of the install_snapshot that this answers.
  std::uint64_t number = 0;  ///< Of the snapshot.
  std::uint64_t offset = 0;  ///< All bytes before it have come.
  /// What became of it: `installed` is said once the state is durable and the log begins after it; `useless` of one
  /// that is not ahead of what the follower has applied; `damaged` of one that did not hold what it should.
  enum class outcome : std::uint8_t { receiving, installed, useless, damaged } result = outcome::receiving;
  log_index match_index;  ///< When installed: as in append_entries_reply.

  friend bool operator==(const install_snapshot_reply&, const install_snapshot_reply&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, install_snapshot_reply& x) {
    return f(x.from, x.term, x.answers_term, x.number, x.offset, x.result, x.match_index);
  }
};

/// From the leader to a node that is no member, which may not know: it was taken out while it was away, and the log
/// does not begin early enough to tell it so. One that never was a member has nothing to learn from it.
struct removal_notice {
  sender from;
  log_index index;  ///< Of the entry with these members, which is committed.
  membership members;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, removal_notice& x) {
    return f(x.from, x.index, x.members);
  }
};

/// The checksum of a node's state after it applied `index`, told to all peers now and then: equal logs give equal
/// state (rule 9), and whoever finds a majority against itself has a damaged one.
struct state_digest {
  sender from;
  log_index index;
  std::uint64_t checksum = 0;

  friend bool operator==(const state_digest&, const state_digest&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, state_digest& x) {
    return f(x.from, x.index, x.checksum);
  }
};

// -- between nodes: formation of a new cluster (rule 12) -----------------------

/// What a node says of itself while any of its peers is not formed. From keeper to keeper.
struct formation_status {
  sender from;
  std::string http_address;
  std::string cluster_address;
  std::vector<node_id> expects;  ///< The whole cluster as --peers has it, itself included; empty if not all known.
  genesis founded;               ///< Its cluster id is empty as long as this node is not formed.
  genesis proposal;              ///< The proposal that this node has saved; cluster id empty: none.
  std::string abandoned;         ///< The cluster id that it promised never to finish but from a formed peer.
  membership members = {};       ///< Of a formed node: the present ones, for one that is to join as a learner.

  friend bool operator==(const formation_status&, const formation_status&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, formation_status& x) {
    return f(x.from, x.http_address, x.cluster_address, x.expects, x.founded, x.proposal, x.abandoned, x.members);
  }
};

/// The lowest id proposes to found a cluster.
struct formation_offer {
  sender from;
  genesis proposal;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, formation_offer& x) {
    return f(x.from, x.proposal);
  }
};

/// Asks for the promise never to finish this proposal but from a formed peer.
struct formation_abandon {
  sender from;
  std::string cluster_id;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, formation_abandon& x) {
    return f(x.from, x.cluster_id);
  }
};

}  // namespace coordinator
