#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/applied.hpp"
#include "actors/commands.hpp"
#include "actors/fleet.hpp"
#include "actors/keeper_messages.hpp"
#include "actors/messages.hpp"
#include "actors/queries.hpp"
#include "actors/request_messages.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"

/// Messages between the actors of one node that carry what the stores, the state machine and the front work
/// with. None of them leaves the process, so none can be serialised.

namespace coordinator {

class state_machine;

/// The link to a peer broke. Its handles are of no use any more.
struct peer_down {
  node_id id;
};

/// The round-trip time over a link, measured once a second.
struct peer_rtt {
  node_id id;
  std::int64_t rtt_us = 0;
};

/// The cluster that this node belongs to, once that is known or has changed. Links with another one end, and members
/// that --peers does not name are linked too.
struct cluster_known {
  std::string cluster_id;
  membership members;
};

struct election_timeout {
  std::uint64_t number = 0;  ///< Tells a timer that was re-armed from the one that counts.
};
struct heartbeat_tick {};
struct keeper_tick {};

/// Timer: replication::on_commit_notice.
struct commit_notice_due {};
struct flush_tick {};
struct log_writer_tick {};
struct state_writer_tick {
  bool mend = false;  ///< The next attempt to mend the file; else the next pages of a copy.
};
struct digest_tick {
  log_index applied;  ///< As it was when the timer began.
};
struct gateway_tick {
  std::uint64_t number = 0;  ///< As election_timeout's.
};
struct fleet_tick {};

/// The port's queue has become non-empty.
struct gateway_wake {};

/// One raft.db transaction to be made.
struct write_log {
  raft_write write;
  std::uint64_t life = 0;  ///< Of the log_recovered that the keeper heard last; what is older is not written.
};

/// That transaction is durable, or it failed; after a failure none succeeds until `log_recovered` has come.
struct log_written {
  std::uint64_t number = 0;
  std::string error;       ///< Empty: durable.
  log_index first_index;   ///< The first entry that raft.db still holds.
  std::uint64_t life = 0;  ///< As the write's. An answer from before the last log_recovered says nothing any more.
};

/// raft.db can be written again: what it holds, as after a start. What the keeper wrote before it heard this was
/// refused, for it was meant for a log that is no more.
struct log_recovered {
  std::shared_ptr<raft_contents> contents;
  std::uint64_t life = 0;  ///< Rising; goes into every write_log from here on.
};

/// Entries that the keeper no longer holds in memory; answered by log_loaded.
struct load_log {
  std::uint64_t request = 0;
  log_index from;
  log_index to;
  std::size_t max_bytes = 0;
};

struct log_loaded {
  std::uint64_t request = 0;
  std::vector<log_entry> entries;  ///< Contiguous from `from`; perhaps fewer than asked for.
  std::string error;
};

/// One transaction to be made in the state's file.
struct write_state {
  state_write write;
  std::uint64_t generation = 0;  ///< Comes back: tells writes of a state that was replaced meanwhile.
};

/// It was made; or it failed, is tried again, and a second one follows once it was made.
struct state_written {
  log_index last_applied;
  std::string error;  ///< Empty: written.
  std::uint64_t generation = 0;
};

/// To the state writer: checkpoint now. Answered by a state_checkpointed to the keeper, if it worked.
struct checkpoint_state {};

/// The state's file of this name holds at least what was applied up to `index`, whatever happens. To the keeper, after
/// each complete checkpoint.
struct state_checkpointed {
  std::string file;
  log_index index;
};

/// The state's file could not be synced and was copied to a new one of this name. To the keeper, which notes it in
/// raft.db; nothing is removed before `state_file_noted`.
struct state_file_moved {
  std::string file;
  std::string before;  ///< The name that it had. If raft.db names another one by now, this move means nothing.
};
/// raft.db names this file now. To the state writer, which removes the one before it.
struct state_file_noted {
  std::string file;
};

/// A consistent copy of the state is wanted, in a new file of the data directory; `done` is called once, on the state
/// writer's thread, and must only hand the value over. Whoever asked removes the file.
struct copy_state {
  std::function<void(state_copied)> done;
};

/// A state that was built aside: its file, open and durable, and what it holds.
struct loaded_state {
  std::string file;  ///< Its name within the data directory.
  std::unique_ptr<state_store> store;
  std::unique_ptr<state_machine> machine;
};

/// Take this state in the place of the present one. From the keeper, when raft.db names its file, ordered after all
/// entries that were committed before it.
struct install_state {
  std::shared_ptr<loaded_state> state;
  std::string set_aside;  ///< Not empty: the file before it is evidence of this, and is kept.
};

/// From the state machine to its writer: the store in the place of the present one.
struct swap_state {
  std::shared_ptr<loaded_state> state;
  std::string set_aside;
};

/// From the state machine to the gateway: all was replaced by a snapshot. What was in flight may be in it, and is to be
/// asked for again: the same session and sequence are answered from what is kept.
struct state_replaced {
  log_index last_applied;
  term_number last_applied_term;
  bool maintenance = false;
  bool storage_full = false;
};

/// Why the state must not be read or built on until another is installed; from the keeper to the state machine.
struct state_unusable {
  std::string why;
};

/// The state was found to be damaged, or a check of the files is under way or has ended. To the keeper.
struct state_damaged {
  std::string what;
};

/// The checksum after an index that all nodes report. From the state machine to the keeper.
struct own_digest {
  log_index index;
  std::uint64_t checksum = 0;
};

/// A check found that raft.db does not hold what was written: nothing may be written or acknowledged on its ground any
/// more. To its writer.
struct log_damaged {
  std::string what;
};

// -- snapshots: the actor that reads and writes their files ------------------------

/// A piece of a copy that this node made, for a peer.
struct read_snapshot {
  std::uint64_t request = 0;
  std::string file;
  std::uint64_t offset = 0;
  std::uint32_t bytes = 0;
};

struct snapshot_read {
  std::uint64_t request = 0;
  std::string data;
  std::uint32_t crc = 0;
  std::string error;
};

/// Whether a copy that this node made is whole, from its first byte to its last.
struct check_snapshot {
  std::string file;
};

struct snapshot_checked {
  std::string file;
  std::string damage;  ///< Empty: it is whole, or could not be read.
  std::string error;   ///< Not empty: it could not be read.
};

/// A copy is of no more use.
struct remove_snapshot {
  std::string file;
};

/// A piece of a snapshot that comes in; the first one begins it, and ends another that was under way. The last one lets
/// it be checked and read, which takes time.
struct store_snapshot {
  node_id source;
  snapshot_info what;
  std::uint64_t offset = 0;
  std::string data;
};

/// All bytes before `offset` are in the file.
struct snapshot_stored {
  std::uint64_t number = 0;
  std::uint64_t offset = 0;
  std::string error;     ///< Not empty: this snapshot has ended, its file is gone.
  bool damaged = false;  ///< The error is one of its contents, not of the disk.
};

/// It is whole, checked, durable and read.
struct snapshot_loaded {
  std::uint64_t number = 0;
  std::shared_ptr<loaded_state> state;
};

/// What came in is not wanted: the file is removed.
struct discard_snapshot {
  std::uint64_t number = 0;
  std::shared_ptr<loaded_state> state = {};  ///< Set: it was read already; its store is closed first.
};

/// What a batch of entries came to. Sent for each batch that was applied, also when none of `commands` is this node's.
struct applied_batch {
  log_index last_applied;
  term_number last_applied_term;
  bool maintenance = false;
  bool storage_full = false;
  std::vector<applied_command> commands;  ///< Of this node's sessions, in the order of the log.
};

struct run_queries {
  std::vector<pending_query> queries;
};

struct query_answers {
  std::vector<query_answer> answers;
};

/// The answer to await_work.
struct work_ready {
  std::uint64_t request = 0;
};

struct get_fleet_snapshot {};

struct fleet_snapshot {
  log_index last_applied;
  fleet_view view;
  fleet_conditions conditions;
};

/// What applying changed, in the order of the log. Sent when there is something to say.
struct fleet_events {
  log_index last_applied;
  std::vector<fleet_event> events;
  fleet_conditions conditions;
};

/// How much one of the node's files holds, once a second at most from its writer: its size, less what is free inside it
/// to be written again, or room that came back would never be seen.
struct storage_use {
  enum class part : std::uint8_t { log, state };
  std::uint64_t bytes = 0;
  part of = part::log;
};

struct fleet_commands {
  std::vector<command_body> commands;
};

/// `done` is called once on the state machine's thread when all that was applied is in state.db; it must only
/// hand the value over. The error is empty on success.
struct flush_state {
  std::function<void(log_index last_applied, term_number last_applied_term, std::string error)> done;
};

}  // namespace coordinator

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::peer_down)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::peer_rtt)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::cluster_known)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::election_timeout)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::heartbeat_tick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::keeper_tick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::commit_notice_due)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::flush_tick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::gateway_tick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::fleet_tick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::gateway_wake)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::write_log)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::log_written)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::load_log)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::log_loaded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::write_state)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_written)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::applied_batch)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::run_queries)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::query_answers)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::await_work)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::work_ready)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::get_fleet_snapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::fleet_snapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::fleet_events)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::storage_use)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::log_damaged)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::fleet_commands)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::flush_state)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::ask_leave)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::campaign_leave)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::tally)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::higher_term)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::role_changed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::standstill)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::suspect)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::send_timeout_now)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::beat_leave)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::want_round)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::round_evidence)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::committed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::get_raft_status)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::injected_vote)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::injected_append)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::injected_state)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::get_log)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::disk_failed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::log_recovered)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::checkpoint_state)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_checkpointed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_file_moved)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_file_noted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::copy_state)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::install_state)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::swap_state)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_replaced)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_unusable)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_damaged)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::own_digest)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::read_snapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::snapshot_read)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::check_snapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::snapshot_checked)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::remove_snapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::store_snapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::snapshot_stored)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::snapshot_loaded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::discard_snapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::disk_recovered)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_copied)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::log_writer_tick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::state_writer_tick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::digest_tick)
