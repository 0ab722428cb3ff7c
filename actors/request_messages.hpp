#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "actors/messages.hpp"

/// What clients' requests make nodes say to each other, free of CAF. All of it travels between nodes and has an
/// `inspect`; messages.cpp announces it to CAF.

namespace coordinator {

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

}  // namespace coordinator
