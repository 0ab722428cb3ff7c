#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/typed_actor.hpp>

#include "actors/keeper_messages.hpp"
#include "actors/local_messages.hpp"
#include "actors/messages.hpp"
#include "actors/request_messages.hpp"

/// Every actor of the system and every message that it takes. Start reading here.
///
/// A node is one keeper (replication), which alone owns term, vote, log and membership, and actors around it
/// that act on leave it gave and bring back evidence that it weighs. Between nodes all messages are one-way:
/// an answer is a message of its own, so that losing, delaying or doubling one is an ordinary event.

namespace coordinator {

// -- what a peer may say -----------------------------------------------------------
// The narrow interfaces that a link hands to the other side. A node's actors implement them and more.

using peer_election = caf::typed_actor<
    /// A candidate, or one that wants to become one, asks for a vote. Passed to the keeper.
    caf::reacts_to<request_vote>,
    /// A vote, or its refusal. Collected, and told to the keeper as a tally.
    caf::reacts_to<request_vote_reply>,
    /// The leader wants this node to take over now.
    caf::reacts_to<timeout_now>>;

using peer_heartbeat = caf::typed_actor<
    /// The leader is there. Passed to the keeper, which answers.
    caf::reacts_to<beat>,
    /// A follower's keeper heard a beat.
    caf::reacts_to<beat_reply>>;

using peer_replication = caf::typed_actor<
    /// Entries, or word of commitment, from a leader.
    caf::reacts_to<append_entries>,
    /// What became of them.
    caf::reacts_to<append_entries_reply>,
    /// A piece of the leader's state, for a node that its log cannot bring up to date; and what became of it.
    caf::reacts_to<install_snapshot>, caf::reacts_to<install_snapshot_reply>,
    /// The leader's word that this node is no member any more.
    caf::reacts_to<removal_notice>,
    /// The checksum of the peer's state.
    caf::reacts_to<state_digest>,
    /// A gateway's commands for the log.
    caf::reacts_to<propose>,
    /// A gateway asks how far a read must have applied.
    caf::reacts_to<read_index>,
    /// A gateway asks for the members as this keeper sees them.
    caf::reacts_to<cluster_query>,
    /// A gateway asks the leader to hand over.
    caf::reacts_to<transfer_leadership>,
    /// A gateway asks the leader to add, promote or remove a node.
    caf::reacts_to<change_membership>,
    /// The founding of a cluster (rule 12).
    caf::reacts_to<formation_status>, caf::reacts_to<formation_offer>, caf::reacts_to<formation_abandon>>;

using peer_gateway = caf::typed_actor<
    /// The keeper asked has not appended this batch.
    caf::reacts_to<proposal_rejected>,
    /// How far a read must have applied.
    caf::reacts_to<read_index_reply>,
    /// A heartbeat of a worker has been taken in, or not.
    caf::reacts_to<worker_beat_reply>,
    /// The members as the keeper asked sees them.
    caf::reacts_to<cluster_view>,
    /// Whether a transfer has begun.
    caf::reacts_to<transfer_reply>,
    /// What became of a change of the membership.
    caf::reacts_to<membership_reply>>;

using peer_fleet = caf::typed_actor<
    /// A worker's heartbeat that another node took.
    caf::reacts_to<worker_beat>>;

/// The actors of one peer. Handed out by its link once it has proved who it is.
struct peer_handles {
  peer_election election;
  peer_heartbeat heartbeat;
  peer_replication replication;
  peer_gateway gateway;
  peer_fleet fleet;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, peer_handles& x) {
    return f(x.election, x.heartbeat, x.replication, x.gateway, x.fleet);
  }
};

/// A peer has proved itself; its actors can be written to. Replaces an earlier one of the same node.
struct peer_up {
  sender who;
  std::string cluster_id;  ///< Empty: it is not formed.
  std::string http_address;
  std::string cluster_address;
  std::string configured_address;  ///< The entry of --peers that it answers to; empty: it is in none.
  std::uint64_t boot_id = 0;       ///< Drawn when its process started.
  peer_handles handles;
};

}  // namespace coordinator

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::peer_up)

namespace coordinator {

// -- one node's actors ----------------------------------------------------------------

/// Time-outs, pre-vote, campaign and tally. Owns the campaign of the moment; durable: nothing.
using election_actor = peer_election::extend<
    /// From the links.
    caf::reacts_to<peer_up>, caf::reacts_to<peer_down>,
    /// Leave to campaign, or its refusal. From the keeper.
    caf::reacts_to<campaign_leave>,
    /// From the keeper.
    caf::reacts_to<role_changed>,
    /// The keeper has brought the target up to date: tell it to campaign.
    caf::reacts_to<send_timeout_now>,
    /// The leader's link broke. From heartbeat.
    caf::reacts_to<suspect>,
    /// Own timer.
    caf::reacts_to<election_timeout>>;

/// Beats, rounds and who answered them. Owns liveness; durable: nothing.
using heartbeat_actor = peer_heartbeat::extend<
    /// From the links.
    caf::reacts_to<peer_up>, caf::reacts_to<peer_down>,
    /// Leave to beat, or its end. From the keeper.
    caf::reacts_to<beat_leave>,
    /// A read waits for a round. From the keeper.
    caf::reacts_to<want_round>,
    /// From the keeper.
    caf::reacts_to<role_changed>,
    /// Own timer, once a heartbeat interval.
    caf::reacts_to<heartbeat_tick>>;

/// Whom the writers write to within their node, beside the keeper.
struct writer_wiring {
  caf::typed_actor<caf::reacts_to<storage_use>> fleet;
};

}  // namespace coordinator

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::writer_wiring)

namespace coordinator {

/// The one writer of raft.db; it waits for the disk, so it is detached. Answers log_written and log_loaded. After a
/// failure it tries to mend the file until it can say log_recovered.
using log_writer_actor = caf::typed_actor<
    /// From the node.
    caf::reacts_to<writer_wiring>,
    /// From the keeper.
    caf::reacts_to<write_log>, caf::reacts_to<load_log>,
    /// From the check of the files.
    caf::reacts_to<log_damaged>,
    /// Own timer: the next attempt to mend.
    caf::reacts_to<log_writer_tick>>;

/// Whom the state machine writes to within its node.
struct state_machine_wiring {
  caf::typed_actor<caf::reacts_to<applied_batch>, caf::reacts_to<query_answers>, caf::reacts_to<work_ready>,
                   caf::reacts_to<state_replaced>>
      gateway;
  caf::typed_actor<caf::reacts_to<fleet_events>, caf::reacts_to<fleet_snapshot>> fleet;
};

/// Whom the fleet writes to within its node.
struct fleet_wiring {
  caf::typed_actor<caf::reacts_to<worker_beat_reply>, caf::reacts_to<fleet_commands>> gateway;
};

}  // namespace coordinator

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_machine_wiring)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::fleet_wiring)

namespace coordinator {

/// Tasks, workers, keys, sessions: the applied state and last_applied, in memory. Durable in state.db, behind.
using state_machine_actor = caf::typed_actor<
    /// The node's other actors, once they have been spawned; before the keeper has its own wiring. From the node.
    caf::reacts_to<state_machine_wiring>,
    /// Entries to apply. From the keeper.
    caf::reacts_to<committed>,
    /// Reads, each once it has applied far enough. From the gateway; answered by query_answers.
    caf::reacts_to<run_queries>,
    /// Long polls: tell me when there is work for this worker. From the gateway; answered by work_ready.
    caf::reacts_to<await_work>,
    /// Workers and active attempts, as applied. From fleet; answered by fleet_snapshot.
    caf::reacts_to<get_fleet_snapshot>,
    /// Writes everything that is dirty now, then calls back. For a dump of the state, and before leaving.
    caf::reacts_to<flush_state>,
    /// From the state writer.
    caf::reacts_to<state_written>,
    /// The state is to be replaced, or not to be used. From the keeper.
    caf::reacts_to<install_state>, caf::reacts_to<state_unusable>,
    /// Own timers: write behind; tell the checksum of a state that has come to rest.
    caf::reacts_to<flush_tick>, caf::reacts_to<digest_tick>>;

/// The one writer of the state's file; it waits for the disk, so it is detached. Answers state_written; after a failure
/// it mends the file and writes again what failed.
using state_writer_actor = caf::typed_actor<
    /// From the node.
    caf::reacts_to<writer_wiring>,
    /// From the state machine.
    caf::reacts_to<write_state>, caf::reacts_to<swap_state>,
    /// From the keeper.
    caf::reacts_to<checkpoint_state>, caf::reacts_to<state_file_noted>,
    /// A copy, for a peer or for a back-up. From the keeper and from the HTTP front.
    caf::reacts_to<copy_state>,
    /// Own timer: the next pages of a copy, the next attempt to mend.
    caf::reacts_to<state_writer_tick>>;

/// Reads and writes the files of snapshots on their way to and from peers; it waits for the disk, so it is detached.
/// Owns the file that is coming in. Answers the keeper: snapshot_read, snapshot_checked, snapshot_stored,
/// snapshot_loaded.
using snapshot_actor =
    caf::typed_actor<caf::reacts_to<read_snapshot>, caf::reacts_to<check_snapshot>, caf::reacts_to<remove_snapshot>,
                     caf::reacts_to<store_snapshot>, caf::reacts_to<discard_snapshot>>;

/// Requests in flight: batching, forwarding, retries over a failover, long polls. Durable: nothing.
using gateway_actor = peer_gateway::extend<
    /// From the links.
    caf::reacts_to<peer_up>, caf::reacts_to<peer_down>,
    /// From the keeper.
    caf::reacts_to<role_changed>, caf::reacts_to<standstill>,
    /// The port's queue has become non-empty.
    caf::reacts_to<gateway_wake>,
    /// What applying came to, for commands of this node's sessions. From the state machine.
    caf::reacts_to<applied_batch>,
    /// From the state machine.
    caf::reacts_to<query_answers>, caf::reacts_to<work_ready>, caf::reacts_to<state_replaced>,
    /// Commands of this node's own making (expiries, figures). From fleet.
    caf::reacts_to<fleet_commands>,
    /// Own timer: time-outs and retries.
    caf::reacts_to<gateway_tick>>;

/// Liveness of workers, leases and usage figures: soft state, at the leader only. Durable: nothing.
using fleet_actor = peer_fleet::extend<
    /// The node's other actors, once they have been spawned; nothing else is taken in before. From the node.
    caf::reacts_to<fleet_wiring>,
    /// From the links.
    caf::reacts_to<peer_up>, caf::reacts_to<peer_down>,
    /// From the keeper.
    caf::reacts_to<role_changed>,
    /// From the state machine: what applying changed for workers and attempts.
    caf::reacts_to<fleet_events>, caf::reacts_to<fleet_snapshot>,
    /// How much one of the node's files holds, once a second, whoever leads. From the writers.
    caf::reacts_to<storage_use>,
    /// Own timer.
    caf::reacts_to<fleet_tick>>;

/// Whom the keeper writes to within its node.
struct replication_wiring {
  election_actor election;
  heartbeat_actor heartbeat;
  log_writer_actor log_writer;
  state_machine_actor state_machine;
  state_writer_actor state_writer;
  snapshot_actor snapshots;
  gateway_actor gateway;
  fleet_actor fleet;
  caf::typed_actor<caf::reacts_to<cluster_known>> links;
};

}  // namespace coordinator

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::replication_wiring)

namespace coordinator {

/// The keeper: current_term, voted_for, log, membership; role, commit_index, next_index and match_index.
/// Durable in raft.db, through its log writer.
using replication_actor = peer_replication::extend<
    /// The node's other actors, once they have been spawned; nothing else is taken in before. From the node.
    caf::reacts_to<replication_wiring>,
    /// From the links.
    caf::reacts_to<peer_up>, caf::reacts_to<peer_down>, caf::reacts_to<peer_rtt>,
    /// A peer asks for a vote; the answer goes to the candidate's election. From election.
    caf::reacts_to<request_vote>,
    /// From election.
    caf::reacts_to<ask_leave>, caf::reacts_to<tally>,
    /// From election and heartbeat.
    caf::reacts_to<higher_term>,
    /// A leader's beat; the answer goes to the leader's heartbeat. From heartbeat.
    caf::reacts_to<beat>,
    /// From heartbeat.
    caf::reacts_to<round_evidence>,
    /// From the log writer.
    caf::reacts_to<log_written>, caf::reacts_to<log_loaded>, caf::reacts_to<log_recovered>,
    /// The state's file cannot be written, and can be again; its checksum; that it is damaged. From the state machine.
    caf::reacts_to<disk_failed>, caf::reacts_to<disk_recovered>, caf::reacts_to<own_digest>,
    caf::reacts_to<state_damaged>,
    /// From the state writer.
    caf::reacts_to<state_checkpointed>, caf::reacts_to<state_file_moved>, caf::reacts_to<state_copied>,
    /// From the actor that handles snapshots' files.
    caf::reacts_to<snapshot_read>, caf::reacts_to<snapshot_checked>, caf::reacts_to<snapshot_stored>,
    caf::reacts_to<snapshot_loaded>,
    /// From the HTTP front.
    caf::reacts_to<get_raft_status>, caf::reacts_to<injected_vote>, caf::reacts_to<injected_append>,
    caf::reacts_to<injected_state>, caf::reacts_to<get_log>,
    /// Own timer, once a heartbeat interval.
    caf::reacts_to<keeper_tick>, caf::reacts_to<commit_notice_due>>;

}  // namespace coordinator
