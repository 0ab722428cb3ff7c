#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "actors/messages.hpp"

/// What the keeper and the other actors of its node say to each other, free of CAF. None of it leaves the process.

namespace coordinator {

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

/// From the keeper to the gateway: why nothing is applied at this node any more, or that it goes on.
struct standstill {
  std::string reason;  ///< As answers' reasons spell it: disk_failed, state_unusable. Empty: it goes on.

  friend bool operator==(const standstill&, const standstill&) = default;
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
