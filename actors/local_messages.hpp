#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "actors/applied.hpp"
#include "actors/commands.hpp"
#include "actors/fleet.hpp"
#include "actors/messages.hpp"
#include "actors/queries.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"

/// Messages between the actors of one node that carry what the stores, the state machine and the front work
/// with. None of them leaves the process, so none can be serialised.

namespace coordinator {

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
struct flush_tick {};
struct gateway_tick {
  std::uint64_t number = 0;  ///< As election_timeout's.
};
struct fleet_tick {};

/// The port's queue has become non-empty.
struct gateway_wake {};

/// One raft.db transaction to be made.
struct write_log {
  raft_write write;
};

/// That transaction is durable, or it failed; after a failure none succeeds.
struct log_written {
  std::uint64_t number = 0;
  std::string error;  ///< Empty: durable.
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

/// One state.db transaction to be made.
struct write_state {
  state_write write;
};

struct state_written {
  log_index last_applied;
  std::string error;  ///< Empty: written.
};

/// What a batch of entries came to. Sent for each batch that was applied, also when none of `commands` is this node's.
struct applied_batch {
  log_index last_applied;
  term_number last_applied_term;
  bool maintenance = false;
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
  bool has_timed_rows = false;  ///< Rows exist that end with time: somebody has to see to it that entries come.
};

/// What applying changed, in the order of the log. Sent when there is something to say.
struct fleet_events {
  log_index last_applied;
  std::vector<fleet_event> events;
  bool has_timed_rows = false;
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
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::fleet_commands)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::flush_state)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::ask_leave)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::campaign_leave)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::tally)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::higher_term)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::role_changed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::suspect)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::send_timeout_now)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::beat_leave)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::want_round)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::round_evidence)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::committed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::get_raft_status)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::injected_vote)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::injected_append)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::get_log)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::disk_failed)
