#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "actors/commands.hpp"
#include "actors/keeper_messages.hpp"
#include "actors/messages.hpp"
#include "actors/queries.hpp"
#include "actors/request_messages.hpp"

namespace coordinator {

/// A client's command.
struct write_request {
  command_body body;
  std::string idempotency_key;     ///< Empty: none given.
  std::uint64_t request_hash = 0;  ///< Of the request's body; tells a reused key from a retry.
  milliseconds timeout{5000};
};

struct write_result {
  enum class outcome : std::uint8_t {
    applied,      ///< Committed and applied; `result` says what it came to, refusals included.
    not_applied,  ///< Never will be: no copy left the gateway, or an applied refusal proves it.
    unknown,      ///< The time-out passed while a copy was under way.
  } outcome = outcome::unknown;
  /// When not applied or unknown: no_leader, timeout, busy, unformed, shutting_down, state_replaced; disk_failed and
  /// state_unusable where this node cannot apply anything for the time being, and another one can.
  std::string reason;
  command_result result;
  log_index index;
};

struct read_request {
  query what;
  bool linearizable = true;
  milliseconds timeout{5000};
  std::int64_t max_stale_ms = -1;  ///< Stale reads: refuse past this age of the leader's last contact; negative: any.
};

struct read_result {
  bool ok = false;
  /// When not ok: no_leader, timeout, too_stale, unformed, shutting_down, disk_failed, state_unusable.
  std::string reason;
  log_index applied_index;
  std::int64_t leader_contact_ms = -1;
  query_result result;
};

/// A worker's long poll for work.
struct claim_request {
  std::string worker_id;
  std::uint32_t max_tasks = 1;
  milliseconds wait{30000};    ///< How long to wait for work before answering an empty list.
  milliseconds timeout{5000};  ///< On top of `wait`, for the claim itself.
  std::string idempotency_key;
  std::uint64_t request_hash = 0;
};

struct beat_result {
  enum write_result::outcome outcome = write_result::outcome::unknown;
  std::string reason;
  bool unknown_worker = false;
  std::vector<std::string> cancel;
};

struct transfer_result {
  bool ok = false;
  std::string reason;  ///< no_leader, unknown_node, not_a_voter, no_candidate, busy, timeout.
  node_id leader;      ///< The new leader.
};

/// A change of the membership by one node.
struct membership_request {
  change_membership::change what = change_membership::change::add;
  node_id id;
  bool force = false;  ///< Also where fewer voters than a quorum would be in contact afterwards.
  milliseconds timeout{5000};
};

struct membership_result {
  bool ok = false;       ///< It is as was asked for, in the log of a majority.
  bool changed = false;  ///< By this request; otherwise it was so before.
  /// When not ok. Nothing was changed: unknown_node, not_connected, not_caught_up, unsafe, busy, no_leader, unformed,
  /// shutting_down; timeout.
  std::string reason;
  std::string detail;    ///< For people; may be empty.
  bool unknown = false;  ///< Not ok, and it may happen yet.
  node_id leader;
  membership members;  ///< As the leader has them, where it answered.
};

/// This node's own view, put together from the keeper and the state machine.
struct node_view {
  raft_status raft;
  log_index last_applied;
  term_number last_applied_term;
  bool maintenance = false;
  bool storage_full = false;  ///< The quota is used up: new tasks are refused.
  bool verifying = false;     ///< The files are being checked after the start.
  std::string http_address;
  std::string cluster_address;
  std::int64_t uptime_ms = 0;
};

/// What the HTTP front, and a simulated client, ask of the node. Thread-safe; no call blocks. Every `done` is
/// called exactly once, at the latest when the request's time-out has passed, on a thread of the actor system or on the
/// caller's own: it must only hand the value over and never block.
class gateway_port {
 public:
  template <class T>
  using completion = std::function<void(T)>;

  virtual ~gateway_port() = default;

  /// What is asked between these two goes to the node as one; whoever asks much at once saves it wake-ups. By one
  /// thread at a time, and only for as long as it takes to ask.
  virtual void gather() {}
  virtual void hand_over() {}

  /// Commits and applies a command once, through elections and retries.
  virtual void write(write_request, completion<write_result> done) = 0;

  /// Reads the applied state: linearizable by ReadIndex, or stale at once.
  virtual void read(read_request, completion<read_result> done) = 0;

  /// Claims work, waiting for it; the result is that of claim_tasks, with no assignments when none came.
  virtual void claim(claim_request, completion<write_result> done) = 0;

  /// Takes in a worker's heartbeat at the leader. A change of status is committed before `done` is called.
  virtual void beat(worker_beat, milliseconds timeout, completion<beat_result> done) = 0;

  /// This node's own view; answered without a quorum.
  virtual void view(completion<node_view> done) = 0;

  /// The members as the leader sees them, or as this node does when there is none.
  virtual void cluster(milliseconds timeout, completion<cluster_view> done) = 0;

  /// Hands leadership over; done once the new leader is known. `to` empty: to the best follower.
  virtual void transfer(node_id to, milliseconds timeout, completion<transfer_result> done) = 0;

  /// Adds, promotes or removes one node; done once that is committed or refused.
  virtual void change_members(membership_request, completion<membership_result> done) = 0;

  /// Raft messages that came over HTTP; checked as a peer's, and for membership. An error is one sentence.
  virtual void inject(request_vote, std::function<void(std::optional<request_vote_reply>, std::string)> done) = 0;
  virtual void inject(append_entries, std::function<void(std::optional<append_entries_reply>, std::string)> done) = 0;
  /// A whole state, in one piece.
  virtual void inject(install_snapshot,
                      std::function<void(std::optional<install_snapshot_reply>, std::string)> done) = 0;

  /// Entries of the log from `from` on, committed or not; at most `limit`, and at most some megabytes.
  virtual void read_log(log_index from, std::uint32_t limit, completion<std::vector<log_entry>> done) = 0;

  /// Writes what is dirty to state.db and calls back with its path, which the caller may then read from with a
  /// state_reader. The error is empty on success.
  struct state_file {
    std::string path;
    log_index last_applied;
    term_number last_applied_term;
    std::string error;
  };
  virtual void flush_state(completion<state_file> done) = 0;

  /// Makes a consistent copy of the state in a new file of the data directory, while writes go on. However long it
  /// takes, `done` is called; the file is then the caller's to remove.
  virtual void copy_state(completion<state_copied> done) = 0;

  /// The leader and term last heard of, for the headers of every answer; no message is sent.
  struct leadership {
    node_id node;
    node_id leader;
    term_number term;
  };
  virtual leadership current_leadership() const = 0;
};

}  // namespace coordinator
