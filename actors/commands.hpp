#pragma once

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "persistence/codec.hpp"
#include "persistence/types.hpp"

namespace coordinator {

// What may change the replicated state, and what comes of it. A command is built by a gateway (for HTTP requests) or
// by the leader's fleet (leases, liveness), travels and is logged as the bytes of `encode`, and is applied by every
// state machine in log order. It holds everything the change depends on: ids are made and texts are rendered before a
// command is proposed, because applying knows neither clock nor randomness.

/// Limits that `validate` enforces. All sizes are bytes.
namespace limits {
inline constexpr std::size_t id_size = 256;         ///< Task, worker and run ids, task types, capability names.
inline constexpr std::size_t key_size = 512;        ///< A shared key's name.
inline constexpr std::size_t value_size = 1 << 20;  ///< A shared key's value.
inline constexpr std::size_t batch_tasks = 10'000;  ///< Tasks of one submission.
inline constexpr std::size_t task_dependencies = 1'000;
inline constexpr std::size_t requirements = 64;      ///< Named requirements of a task, or capabilities of a worker.
inline constexpr std::size_t spec_size = 1 << 20;    ///< A task's JSON text; also a result's.
inline constexpr std::size_t error_size = 64 << 10;  ///< The text of a failure.
inline constexpr std::uint32_t worker_slots = 10'000;
inline constexpr std::uint32_t task_attempts = 1'000;
inline constexpr std::uint32_t claim_tasks = 1'000;
inline constexpr std::int64_t timeout_ms = 366LL * 24 * 3600 * 1000;
inline constexpr double capability_number = 1e12;  ///< Absolute value; also of usage figures.
inline constexpr std::size_t idempotency_key_size = 128;
/// Tasks that are neither completed, failed nor cancelled; past it a submission gets queue_full.
inline constexpr std::size_t unfinished_tasks = 2'000'000;
inline constexpr std::size_t idempotency_keys = 1'000'000;
inline constexpr std::int64_t idempotency_ms = 3'600'000;
inline constexpr std::uint32_t retired_tasks = 500;  ///< Finished tasks that leave with one entry.
}  // namespace limits

/// Stored and sent: never renumber.
enum class task_status : std::uint8_t {
  pending = 0,   ///< In the queue.
  blocked = 1,   ///< Waits for the tasks it depends on.
  assigned = 2,  ///< Given to a worker that has not yet said that it runs it.
  running = 3,
  completed = 4,  ///< Final, as the next two.
  failed = 5,
  cancelled = 6,
};
inline constexpr std::size_t task_status_count = 7;

/// Stored and sent: never renumber.
enum class worker_status : std::uint8_t { idle = 0, running = 1, busy = 2, draining = 3, offline = 4 };
inline constexpr std::size_t worker_status_count = 5;

/// How an attempt ended. Stored and sent: never renumber.
enum class attempt_outcome : std::uint8_t {
  none = 0,  ///< It has not ended.
  completed = 1,
  failed = 2,
  cancelled = 3,
  lease_lost = 4,      ///< The worker is alive but never listed it; does not use up max_attempts.
  worker_offline = 5,  ///< The worker fell silent, or was removed.
  timeout = 6,         ///< It outlived the task's timeout_ms and the worker did not end it.
};

std::string_view to_string(task_status x);
std::string_view to_string(worker_status x);
std::string_view to_string(attempt_outcome x);
/// From the words of the HTTP contract; nothing for any other word.
std::optional<task_status> task_status_from(std::string_view word);
std::optional<worker_status> worker_status_from(std::string_view word);
inline bool is_final(task_status x) {
  return x >= task_status::completed;
}

/// A number of a client's, kept in millionths: floating point would round differently as it goes through bytes and
/// back, and replicas would part. Not-a-number becomes 0 and anything beyond +-2e12 that bound, which `validate`
/// refuses.
struct decimal {
  std::int64_t millionths = 0;

  decimal() = default;
  // Implicit, so that what JSON holds goes straight into a capability.
  decimal(double x) : millionths(x == x ? std::llround(std::clamp(x, -2e12, 2e12) * 1e6) : 0) {}
  double value() const { return static_cast<double>(millionths) / 1e6; }

  friend auto operator<=>(const decimal&, const decimal&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, decimal& x) {
    return f(x.millionths);
  }
};

/// What a worker offers, or a task asks for, under one name. A JSON list of names is a map of names to `true`.
/// A number is met by a number at least as large, a bool or a string by an equal one, and `true` also by any
/// value that is not false, 0 or "".
using capability = std::variant<bool, decimal, std::string>;
using capability_map = std::map<std::string, capability>;

/// One attempt of one task: attempts of a task are numbered from 1 and never reused.
struct attempt_ref {
  std::string task_id;
  std::uint32_t attempt = 0;

  friend auto operator<=>(const attempt_ref&, const attempt_ref&) = default;
};

/// A task as submitted. Everything the state machine acts on is extracted by whoever parsed the JSON.
struct task_spec {
  std::string task_id;  ///< Made by the HTTP layer when the client gave none.
  std::string run_id;
  std::string type;
  std::int32_t priority = 0;
  std::vector<std::string> depends_on;
  capability_map requirements;
  std::int64_t timeout_ms = 0;  ///< 0: none.
  std::uint32_t max_attempts = 3;
  /// The task's whole JSON object, compact, with its `task_id` (also a made one) and unknown fields: given back as
  /// it came. Equal text is what "the same body" means when a task_id is submitted again.
  std::string spec_json;
};

// ---- Command bodies -------------------------------------------------------------------------------------------
// Each says which results it can have besides ok, invalid and those of the session and idempotency rules.

/// Opens a session for a gateway; the only command without a session (session 0). ok: `version` is the session's
/// number. The node's older sessions close. The same (node, incarnation, boot_id) again answers the live session, so
/// that a retried proposal does no harm: a gateway draws a fresh boot_id when it starts.
struct open_session {
  node_id node;
  incarnation_id incarnation;
  std::uint64_t boot_id = 0;
};

/// ok: `version` is the key's new version. precondition_failed: `version` is the present one, 0 when it is missing.
struct put_key {
  std::string key;
  std::string value;
  std::optional<std::uint64_t> if_match;
  bool if_none_match = false;  ///< `If-None-Match: *`: only if the key does not exist.
  bool if_exists = false;      ///< `If-Match: *`: only if it does.
};

/// not_found when the key is missing and nothing was asked for in if_match, else precondition_failed.
struct delete_key {
  std::string key;
  std::optional<std::uint64_t> if_match;
  bool if_exists = false;
};

/// Registers or updates a worker; it keeps its attempts. ok: `version` is this registration's number ("session").
struct register_worker {
  std::string worker_id;
  std::string host;
  std::uint32_t port = 0;
  capability_map capabilities;
  std::string capabilities_json;  ///< As it came, given back as it came. Empty: rendered as [].
  std::uint32_t slots = 1;
  worker_status status = worker_status::idle;
};

/// A change of what the worker says of itself. not_found. Any status but `offline`, which only mark_offline gives.
/// `draining` stays until the worker registers again, as after drain_worker.
struct set_worker_status {
  std::string worker_id;
  worker_status status = worker_status::idle;
  std::string current_task;
};

/// The worker keeps what it has and gets no more. not_found.
struct drain_worker {
  std::string worker_id;
};

/// Its unfinished attempts end as worker_offline and go back to the queue. not_found.
struct remove_worker {
  std::string worker_id;
};

/// All or none. `ids` are the task ids in order, also when `idempotency_key` repeats. conflict (a task_id exists with
/// another body), dependency_missing, dependency_cycle, maintenance, storage_full, queue_full; `field` names what is at
/// fault, as "tasks[3].depends_on[0]"; the front cuts "tasks[0]." off where the request was a single task. A task that
/// exists with the same body is left as it is and is no error.
struct submit_tasks {
  std::vector<task_spec> tasks;
};

/// ok: `assignments`, perhaps none. not_found (worker unknown: it must register), worker_unavailable (offline or
/// draining: `detail` says which).
struct claim_tasks {
  std::string worker_id;
  std::uint32_t max_tasks = 1;
};

/// not_found; stale_attempt where the attempt is not the task's present one by this worker, or was ended otherwise.
/// The same attempt completed by the same worker again is ok and changes nothing, whatever the result's text.
struct complete_task {
  std::string task_id;
  std::string worker_id;
  std::uint32_t attempt = 0;
  std::string result_json;  ///< A JSON object as text, bounded by the HTTP layer.
};

/// As complete_task. Goes back to the queue if `retryable` and attempts are left, else the task is failed.
struct fail_task {
  std::string task_id;
  std::string worker_id;
  std::uint32_t attempt = 0;
  std::string error;
  bool retryable = true;
  /// What the worker can say of the failed try (exit_code, output …): JSON text, may be empty. Kept as the task's
  /// result when the task is failed for good.
  std::string result_json;
};

/// not_found; conflict when completed or failed. A cancelled one again is ok.
struct cancel_task {
  std::string task_id;
};

/// From the leader's fleet: workers list these attempts. Attempts that are not `assigned` are passed over.
struct mark_running {
  std::vector<attempt_ref> attempts;
};

struct expired_attempt {
  attempt_ref attempt;
  attempt_outcome reason = attempt_outcome::worker_offline;  ///< lease_lost, worker_offline or timeout.
};

/// From the leader's fleet. Attempts that are no longer the task's present one are passed over.
struct expire_attempts {
  std::vector<expired_attempt> attempts;
};

/// From the leader's fleet: these workers fell silent. Their unfinished attempts end as worker_offline with it.
struct mark_offline {
  std::vector<std::string> workers;
};

/// What a heartbeat says of its machine; numbers of at most limits::capability_number.
struct worker_figures {
  std::string worker_id;
  std::int64_t last_heartbeat_ms = 0;
  decimal cpu_usage;
  decimal memory_usage;
  decimal gpu_usage;
  std::string current_task;
};

/// From the leader's fleet, one entry a second at most, however many workers there are.
struct report_figures {
  std::vector<worker_figures> workers;
};

struct set_maintenance {
  bool enabled = false;
};

/// From the leader's fleet: the tasks that finished before this time leave, those that finished first before others
/// and, of equal times, those that were submitted first; `limit` of them at most. Nothing that finished at the time of
/// the entry or later leaves, whatever the command says. ok: `version` is how many left.
struct retire_tasks {
  std::int64_t finished_before_ms = 0;
  std::uint32_t limit = 0;
};

/// From the leader's fleet: its files have outgrown the quota, or have room again. New tasks are refused in between.
struct set_storage_alarm {
  bool full = false;
};

/// Carries time and nothing else, so that rows with a time limit end while no one writes.
struct tick {};

/// Stored by position: add at the end only.
using command_body =
    std::variant<tick, open_session, put_key, delete_key, register_worker, set_worker_status, drain_worker,
                 remove_worker, submit_tasks, claim_tasks, complete_task, fail_task, cancel_task, mark_running,
                 expire_attempts, mark_offline, report_figures, set_maintenance, retire_tasks, set_storage_alarm>;

/// One proposal. Every copy of it is the same bytes with the same (session, sequence).
struct command {
  std::uint64_t session = 0;   ///< Of the gateway that sends it; 0 only with open_session.
  std::uint64_t sequence = 0;  ///< From 1, never reused within the session.
  /// The session's lowest sequence whose answer the gateway still waits for, itself included. Everything below it
  /// will be refused from then on, and stored results below it are dropped.
  std::uint64_t lowest_unanswered = 0;
  std::string idempotency_key;     ///< The client's, or empty.
  std::uint64_t request_hash = 0;  ///< Of method, path and body as they came, before ids were made.
  command_body body;
};

/// What the log holds. The first byte is the format's version.
std::string encode(const command& x);
/// Nothing if the bytes are damaged or of a version that this build does not know.
std::optional<command> decode(std::string_view bytes);
/// Stable words for logs and for `GET /api/raft/log`, such as "submit_tasks".
std::string_view name_of(const command_body& x);

/// Stored and sent: never renumber. The HTTP status beside each is what the front should answer.
enum class result_code : std::uint8_t {
  ok = 0,                          ///< 200
  not_found = 1,                   ///< 404
  conflict = 2,                    ///< 409
  precondition_failed = 3,         ///< 412
  stale_attempt = 4,               ///< 409
  worker_unavailable = 5,          ///< 409
  invalid = 6,                     ///< 422, `field` named
  dependency_missing = 7,          ///< 422, `field` named
  dependency_cycle = 8,            ///< 422, `field` named
  idempotency_key_reused = 9,      ///< 422
  too_many_idempotency_keys = 10,  ///< 429
  queue_full = 11,                 ///< 429
  maintenance = 12,                ///< 503, not applied
  closed_session = 13,             ///< Not applied; the gateway opens another session. Never reaches a client.
  stale_sequence = 14,             ///< Below the lowest unanswered; not applied. Never reaches a client.
  unreadable = 15,                 ///< The entry does not decode: 500.
  storage_full = 16,               ///< 507, not applied
};
/// The snake_case word for `code` of a problem document.
std::string_view to_string(result_code x);

/// One task given to the worker that claimed it. `lease_ms` is the leader's setting and is added by the front.
struct assignment {
  std::string task_id;
  std::uint32_t attempt = 0;
  std::string spec_json;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, assignment& x) {
    return f(x.task_id, x.attempt, x.spec_json);
  }
};

/// What applying a command answers; the same on every node. CAF can carry it.
struct command_result {
  result_code code = result_code::ok;
  std::string detail;                   ///< A sentence for people; empty when ok.
  std::string field;                    ///< The field of the request at fault, or empty.
  std::uint64_t version = 0;            ///< Key version, session number, worker registration: see the bodies.
  std::vector<std::string> ids;         ///< Of submit_tasks.
  std::vector<assignment> assignments;  ///< Of claim_tasks.

  bool ok() const { return code == result_code::ok; }

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, command_result& x) {
    return f(x.code, x.detail, x.field, x.version, x.ids, x.assignments);
  }
};

/// Checks everything of a body that does not depend on the state: sizes, ranges, characters of ids, doubled ids. ok,
/// or invalid with `field` as in the HTTP contract. To be called before a command is encoded: it also keeps numbers
/// within what the codec can carry. Applying calls it again.
command_result validate(const command_body& x);

/// 1 to limits::id_size bytes, valid UTF-8, no control characters. Slashes are allowed: the front decodes `%2F`.
bool is_valid_id(std::string_view id);

/// Whether a worker with these capabilities may run a task with these requirements.
bool meets(const capability_map& offered, const capability_map& required);

// ---- Field lists ----------------------------------------------------------------------------------------------

#define COORDINATOR_INSPECT(type, ...)                             \
  template <class Inspector>                                       \
  typename Inspector::result_type inspect(Inspector& f, type& x) { \
    return f(__VA_ARGS__);                                         \
  }
COORDINATOR_INSPECT(attempt_ref, x.task_id, x.attempt)
COORDINATOR_INSPECT(task_spec, x.task_id, x.run_id, x.type, x.priority, x.depends_on, x.requirements, x.timeout_ms,
                    x.max_attempts, x.spec_json)
COORDINATOR_INSPECT(open_session, x.node, x.incarnation, x.boot_id)
COORDINATOR_INSPECT(put_key, x.key, x.value, x.if_match, x.if_none_match, x.if_exists)
COORDINATOR_INSPECT(delete_key, x.key, x.if_match, x.if_exists)
COORDINATOR_INSPECT(register_worker, x.worker_id, x.host, x.port, x.capabilities, x.capabilities_json, x.slots,
                    x.status)
COORDINATOR_INSPECT(set_worker_status, x.worker_id, x.status, x.current_task)
COORDINATOR_INSPECT(drain_worker, x.worker_id)
COORDINATOR_INSPECT(remove_worker, x.worker_id)
COORDINATOR_INSPECT(submit_tasks, x.tasks)
COORDINATOR_INSPECT(claim_tasks, x.worker_id, x.max_tasks)
COORDINATOR_INSPECT(complete_task, x.task_id, x.worker_id, x.attempt, x.result_json)
COORDINATOR_INSPECT(fail_task, x.task_id, x.worker_id, x.attempt, x.error, x.retryable, x.result_json)
COORDINATOR_INSPECT(cancel_task, x.task_id)
COORDINATOR_INSPECT(mark_running, x.attempts)
COORDINATOR_INSPECT(expired_attempt, x.attempt, x.reason)
COORDINATOR_INSPECT(expire_attempts, x.attempts)
COORDINATOR_INSPECT(mark_offline, x.workers)
COORDINATOR_INSPECT(worker_figures, x.worker_id, x.last_heartbeat_ms, x.cpu_usage, x.memory_usage, x.gpu_usage,
                    x.current_task)
COORDINATOR_INSPECT(report_figures, x.workers)
COORDINATOR_INSPECT(set_maintenance, x.enabled)
COORDINATOR_INSPECT(retire_tasks, x.finished_before_ms, x.limit)
COORDINATOR_INSPECT(set_storage_alarm, x.full)
COORDINATOR_INSPECT(command, x.session, x.sequence, x.lowest_unanswered, x.idempotency_key, x.request_hash, x.body)
#undef COORDINATOR_INSPECT

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, tick&) {
  return f();
}

}  // namespace coordinator
