#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "persistence/raft_store.hpp"
#include "persistence/types.hpp"

/// The vocabulary of Raft and of client requests, free of CAF. Messages of the first part travel between nodes
/// and have an `inspect`; messages.cpp announces each of them to CAF. Those of the second part never leave
/// the process; local_messages.hpp holds the rest of these.

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

// -- between nodes: client requests --------------------------------------------

/// Commands for the log, as one gateway's batch. To the leader's keeper.
struct propose {
  sender from;
  std::uint64_t batch = 0;            ///< Comes back in a rejection.
  std::vector<std::string> commands;  ///< Each encoded by encode(command).

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, propose& x) {
    return f(x.from, x.batch, x.commands);
  }
};

/// No entry of the batch was appended. (An accepted batch is answered by its entries being applied.)
struct proposal_rejected {
  sender from;
  std::uint64_t batch = 0;
  node_id leader;     ///< Whom to ask instead, if known.
  bool busy = false;  ///< The leader, with too much in flight: try again later.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, proposal_rejected& x) {
    return f(x.from, x.batch, x.leader, x.busy);
  }
};

/// Asks the leader's keeper how far a linearizable read must have applied (ReadIndex, §6.4 of the thesis).
struct read_index {
  sender from;
  std::uint64_t request = 0;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, read_index& x) {
    return f(x.from, x.request);
  }
};

struct read_index_reply {
  sender from;
  std::uint64_t request = 0;
  bool ok = false;
  log_index index;
  node_id leader;  ///< When not ok: whom to ask instead, if known.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, read_index_reply& x) {
    return f(x.from, x.request, x.ok, x.index, x.leader);
  }
};

/// An attempt at a task: (task, number of the attempt).
struct attempt_id {
  std::string task_id;
  std::uint32_t attempt = 0;

  friend auto operator<=>(const attempt_id&, const attempt_id&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, attempt_id& x) {
    return f(x.task_id, x.attempt);
  }
};

/// A worker's heartbeat, on its way from the node that took it to the leader's fleet.
struct worker_beat {
  sender from;
  std::uint64_t request = 0;  ///< Comes back in the answer; 0: none wanted.
  std::string worker_id;
  std::string status;  ///< Empty: unchanged.
  std::string current_task;
  bool lists_running = false;  ///< False: no `running` field; current_task stands for it.
  std::vector<attempt_id> running;
  double cpu_usage = -1;  ///< Percent; negative: not said. Likewise the next two.
  double memory_usage = -1;
  double gpu_usage = -1;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, worker_beat& x) {
    return f(x.from, x.request, x.worker_id, x.status, x.current_task, x.lists_running, x.running, x.cpu_usage,
             x.memory_usage, x.gpu_usage);
  }
};

struct worker_beat_reply {
  sender from;
  std::uint64_t request = 0;
  enum class outcome : std::uint8_t { ok, unknown_worker, not_leader } result = outcome::ok;
  node_id leader;                   ///< When not the leader: whom to ask instead, if known.
  std::vector<std::string> cancel;  ///< Tasks that the worker is to stop.
  /// Set: the beat changes the worker's status, and the gateway that took it proposes this before it answers.
  std::string propose_status;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, worker_beat_reply& x) {
    return f(x.from, x.request, x.result, x.leader, x.cancel, x.propose_status);
  }
};

/// How the leader sees one member.
struct member_view {
  member who;
  log_index match_index;
  std::int64_t last_contact_ms = -1;  ///< Since its last answer; negative: none yet.
  std::int64_t rtt_us = -1;
  bool healthy = false;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, member_view& x) {
    return f(x.who, x.match_index, x.last_contact_ms, x.rtt_us, x.healthy);
  }
};

/// Asks the leader's keeper for its view of the cluster; any keeper answers with its own.
struct cluster_query {
  sender from;
  std::uint64_t request = 0;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, cluster_query& x) {
    return f(x.from, x.request);
  }
};

struct cluster_view {
  sender from;
  std::uint64_t request = 0;
  node_id leader;
  term_number term;
  log_index last_log_index;
  std::vector<member_view> members;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, cluster_view& x) {
    return f(x.from, x.request, x.leader, x.term, x.last_log_index, x.members);
  }
};

/// Asks the leader's keeper to hand leadership over; `to` empty: to the best follower.
struct transfer_leadership {
  sender from;
  std::uint64_t request = 0;
  node_id to;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, transfer_leadership& x) {
    return f(x.from, x.request, x.to);
  }
};

struct transfer_reply {
  sender from;
  std::uint64_t request = 0;
  enum class outcome : std::uint8_t {
    started,
    not_leader,
    unknown_node,
    not_a_voter,
    no_candidate,
    busy
  } result = outcome::started;
  node_id to;
  node_id leader;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, transfer_reply& x) {
    return f(x.from, x.request, x.result, x.to, x.leader);
  }
};

/// Asks the leader's keeper to change the membership by one node (§4.1 of the thesis).
struct change_membership {
  sender from;
  std::uint64_t request = 0;
  enum class change : std::uint8_t {
    add,      ///< As a learner; the node must be linked with the leader. Under a new incarnation it takes the place of
              ///< the member that lost its disk.
    promote,  ///< The learner becomes a voter.
    remove
  } what = change::add;
  node_id id;
  bool force = false;  ///< Also where fewer voters than a quorum would be in contact afterwards.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, change_membership& x) {
    return f(x.from, x.request, x.what, x.id, x.force);
  }
};

struct membership_reply {
  sender from;
  std::uint64_t request = 0;
  enum class outcome : std::uint8_t {
    committed,      ///< The change is in the log of a majority.
    unchanged,      ///< It is like this already.
    not_leader,     ///< Nothing was changed here; `leader` may help.
    unknown,        ///< Leadership ended before the change was committed: it may be yet.
    busy,           ///< Another change, or a transfer, is under way, or this leader has committed nothing yet.
    unknown_node,   ///< No member, or no learner, of that name.
    not_connected,  ///< The node to be added has not linked with the leader.
    not_caught_up,  ///< The learner lacks too much of the log.
    unsafe          ///< It would leave fewer voters in contact than a quorum.
  } result = outcome::committed;
  std::string detail;  ///< For people.
  node_id leader;
  membership members;  ///< As this node has them now.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, membership_reply& x) {
    return f(x.from, x.request, x.result, x.detail, x.leader, x.members);
  }
};

// -- within a node ---------------------------------------------------------------

enum class node_role : std::uint8_t { unformed, learner, follower, candidate, leader };
const char* to_string(node_role);  ///< As the HTTP contract spells it: "LEADER", …

/// Election asks the keeper for leave to campaign: its time-out has passed, or it has other reason.
struct ask_leave {
  milliseconds timeout{0};  ///< The randomised time-out that passed.
  bool suspect = false;     ///< The link to the leader broke: its contact has ended.
  term_number transfer;     ///< Set: the leader of this term asked for it by timeout_now.
};

/// The keeper's answer, and later its word that the pre-vote has been won and the vote is saved.
struct campaign_leave {
  std::uint64_t leave = 0;  ///< 0: refused.
  term_number term;         ///< To campaign for.
  bool pre_vote = true;
  bool transfer = false;
  log_index last_log_index;
  term_number last_log_term;
  std::vector<sender> voters;   ///< Whom to ask; the keeper counts by itself.
  milliseconds retry_after{0};  ///< When refused: contact was that recent.

  friend bool operator==(const campaign_leave&, const campaign_leave&) = default;
};

/// Who granted, as far as election has heard. The keeper counts.
struct tally {
  std::uint64_t leave = 0;
  std::vector<sender> granted;
};

/// An answer of any kind carried a higher saved term.
struct higher_term {
  term_number term;
};

/// The keeper's role, term or leader changed. To election, heartbeat, gateway and fleet.
struct role_changed {
  node_role role = node_role::unformed;
  term_number term;
  node_id leader;             ///< Empty: none known.
  bool leader_ready = false;  ///< This node leads and has committed an entry of its term.

  friend bool operator==(const role_changed&, const role_changed&) = default;
};

/// From heartbeat to election: the leader is gone, do not wait out the whole time-out.
struct suspect {
  node_id leader;
  term_number term;
};

/// From the keeper to its election: tell this node to campaign.
struct send_timeout_now {
  node_id to;
  term_number term;

  friend bool operator==(const send_timeout_now&, const send_timeout_now&) = default;
};

/// Leave to beat, renewed by the keeper while it is idle or makes progress (rule 5).
struct beat_leave {
  std::uint64_t leave = 0;  ///< 0: stop.
  term_number term;
  struct target {
    node_id id;
    log_index commit_index;  ///< min(commit_index, its match_index).

    friend bool operator==(const target&, const target&) = default;
  };
  std::vector<target> targets;

  friend bool operator==(const beat_leave&, const beat_leave&) = default;
};

/// The keeper wants a round of beats that starts after this is received.
struct want_round {
  std::uint64_t leave = 0;
  std::uint64_t read = 0;  ///< Number of the newest read that waits; comes back in the evidence.

  friend bool operator==(const want_round&, const want_round&) = default;
};

/// Who answered a round, as far as heartbeat has heard. The keeper counts.
struct round_evidence {
  std::uint64_t leave = 0;
  std::uint64_t read = 0;  ///< The newest want_round that had come in when the round began.
  std::vector<sender> answered;
  milliseconds began{0};  ///< Steady time at which the round was sent.
};

/// Entries to be applied, in order, without a gap (rule 4).
struct committed {
  std::vector<log_entry> entries;
  log_index commit_index;
};

/// A node's own view, for the status route. Never forwarded.
struct raft_status {
  node_id node;
  incarnation_id incarnation;
  node_role role = node_role::unformed;
  node_id leader;
  term_number term;
  log_index commit_index;
  log_index last_log_index;
  log_index first_log_index;
  std::string cluster_id;
  membership members;
  std::int64_t leader_contact_ms = -1;  ///< Since the leader was last heard; 0 at the leader; negative: never.
  std::string waiting_for;              ///< Unformed: what is missing, in words.
  bool removed = false;                 ///< It was taken out of the cluster, and takes part in nothing any more.
  bool writable = true;                 ///< False: the disk failed; the node neither campaigns nor leads.
  std::string disk_error;
  log_index snapshot_index;           ///< The log begins after it.
  std::string state_error;            ///< Not empty: why the state cannot be used; a peer's is being fetched.
  std::uint64_t snapshot_offset = 0;  ///< Of a snapshot that is coming in; and its size.
  std::uint64_t snapshot_size = 0;
};

/// Asks the keeper; `done` is called once on the keeper's thread and must only hand the value over.
struct get_raft_status {
  std::function<void(raft_status)> done;
};

/// A Raft message that came over HTTP: checked for membership too, and answered to the caller.
struct injected_vote {
  request_vote request;
  std::function<void(std::optional<request_vote_reply>, std::string error)> done;
};
struct injected_append {
  append_entries request;
  std::function<void(std::optional<append_entries_reply>, std::string error)> done;
};

/// A whole state, as one install_snapshot; answered once it is installed, or it is clear that it will not be.
struct injected_state {
  install_snapshot whole;
  std::function<void(std::optional<install_snapshot_reply>, std::string error)> done;
};

/// Reads entries of the log, committed or not; at most `limit`.
struct get_log {
  log_index from;
  std::uint32_t limit = 0;
  std::function<void(std::vector<log_entry>)> done;
};

/// From the state machine's writer: its file cannot be written; and once it can be again.
struct disk_failed {
  std::string what;
};
struct disk_recovered {};

/// A copy of the state's file as it was at `last_applied`.
struct state_copied {
  std::string file;  ///< Its name within the data directory.
  log_index last_applied;
  term_number last_applied_term;
  std::int64_t applied_time_ms = 0;
  std::uint64_t checksum = 0;
  std::uint64_t size = 0;
  std::string error;  ///< Not empty: there is none.
};

}  // namespace coordinator
