#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/commands.hpp"

namespace coordinator {

// What may be asked of the applied state, and typed answers that an HTTP thread renders. Queries never leave a node,
// so these structs need no inspect functions. Each costs at most its page: a list looks at a bounded number of rows
// and may answer a short or even empty page with a cursor; only an empty `next_cursor` means the end.

/// Lists take a limit of 1 to 1,000 and the `next_cursor` of the page before, or an empty cursor. Cursors match
/// [A-Za-z0-9_-]+; one that this node did not make gives query_error{invalid, "cursor"}.
inline constexpr std::uint32_t default_page = 100;
inline constexpr std::uint32_t largest_page = 1'000;

struct get_key {
  std::string key;
};
/// Ordered by the bytes of the key.
struct list_keys {
  std::string prefix;
  std::string cursor;
  std::uint32_t limit = default_page;
};
struct get_task {
  std::string task_id;
};
/// In the order of submission. Filters that are absent or empty let everything pass.
struct list_tasks {
  std::optional<task_status> status;
  std::string worker_id;  ///< Of the present attempt, or of the last one.
  std::string run_id;
  std::string type;
  std::string cursor;
  std::uint32_t limit = default_page;
};
struct get_worker {
  std::string worker_id;
};
/// Ordered by the bytes of the id.
struct list_workers {
  std::string cursor;
  std::uint32_t limit = default_page;
};
struct get_run {
  std::string run_id;
};
/// The newest first, by their first task that is still here.
struct list_runs {
  std::string cursor;
  std::uint32_t limit = default_page;
};
/// Sizes of everything, in constant time.
struct get_counts {};
/// What is waiting, for how long, and what the workers do: a look at each worker and each set of requirements.
struct get_figures {};
/// `at` 0: at the last applied index. not_ready when `at` is not yet applied (ask again then), gone when it is past
/// the last 10,000.
struct get_checksum {
  std::uint64_t at = 0;
};
/// Everything at once, as `GET /api/state` shows it: costs as much as the state is large.
struct get_state {};

using query = std::variant<get_key, list_keys, get_task, list_tasks, get_worker, list_workers, get_run, list_runs,
                           get_counts, get_figures, get_checksum, get_state>;

struct key_view {
  std::string key;
  std::string value;
  std::uint64_t version = 0;
  std::int64_t updated_ms = 0;
};

/// One attempt as the task's `attempts` shows it.
struct attempt_view {
  std::uint32_t attempt = 0;
  std::string worker_id;
  std::int64_t assigned_ms = 0;
  std::int64_t started_ms = 0;  ///< When it was first known to run; 0: never.
  std::int64_t ended_ms = 0;    ///< 0: not yet.
  attempt_outcome outcome = attempt_outcome::none;
  std::string error;
};

struct task_view {
  std::string task_id;
  std::string run_id;
  std::string type;
  std::int32_t priority = 0;
  task_status status = task_status::pending;
  std::string spec_json;      ///< As submitted; the other fields are added over it.
  std::string result_json;    ///< JSON text; empty: null.
  std::string error;          ///< Of the last failure, or why it was cancelled.
  std::string worker_id;      ///< Of the present or last attempt.
  std::uint32_t attempt = 0;  ///< Number of the present or last attempt, 0: none yet.
  std::uint32_t max_attempts = 3;
  std::int64_t timeout_ms = 0;
  std::int64_t submitted_ms = 0;
  std::int64_t started_ms = 0;    ///< Of the present or last attempt.
  std::int64_t finished_ms = 0;   ///< 0: not final.
  std::uint32_t waiting_for = 0;  ///< Dependencies that are not yet completed.
  std::vector<attempt_view> attempts;
};

struct worker_view {
  std::string worker_id;
  std::string host;
  std::uint32_t port = 0;
  std::string capabilities_json;
  std::uint32_t slots = 1;
  worker_status status = worker_status::idle;
  std::string current_task;
  std::vector<attempt_ref> attempts;  ///< Assigned or running, by task id.
  std::int64_t registered_ms = 0;
  std::int64_t last_heartbeat_ms = 0;  ///< To the second or so: figures come once a second.
  double cpu_usage = 0;
  double memory_usage = 0;
  double gpu_usage = 0;
  std::uint64_t session = 0;
};

struct key_page {
  std::vector<key_view> keys;
  std::string next_cursor;
};
struct task_page {
  std::vector<task_view> tasks;
  std::string next_cursor;
};
struct worker_page {
  std::vector<worker_view> workers;
  std::string next_cursor;
};

/// By task_status.
using status_counts = std::array<std::uint64_t, task_status_count>;

struct run_view {
  std::string run_id;
  std::uint64_t tasks = 0;
  status_counts by_status{};
  std::uint64_t passed = 0;       ///< Of the completed ones, those whose result has the outcome `passed`.
  std::int64_t submitted_ms = 0;  ///< Of its first task.
  std::int64_t finished_ms = 0;   ///< Of its last one, once all are final; else 0.
};

struct run_page {
  std::vector<run_view> runs;
  std::string next_cursor;
};

/// Pending tasks that require the same of a worker.
struct waiting_view {
  capability_map requirements;
  std::uint64_t tasks = 0;
  std::int64_t oldest_submitted_ms = 0;
};

struct figures_view {
  status_counts tasks_by_status{};
  std::array<std::uint64_t, worker_status_count> workers_by_status{};  ///< By worker_status.
  std::vector<waiting_view> waiting;  ///< The longest queues first; at most 100 of them.
};

struct counts_view {
  status_counts tasks_by_status{};
  std::uint64_t workers = 0;
  std::uint64_t workers_offline = 0;
  std::uint64_t keys = 0;
  std::uint64_t sessions = 0;
  std::uint64_t idempotency_keys = 0;
  std::uint64_t requirement_classes = 0;  ///< Different sets of requirements among unfinished tasks.
  bool maintenance = false;
  bool storage_full = false;  ///< New tasks are refused for want of room.
};

struct checksum_view {
  std::uint64_t applied_index = 0;
  std::uint64_t checksum = 0;
};

struct state_view {
  std::vector<worker_view> workers;
  std::vector<task_view> tasks;
  std::vector<key_view> keys;
  std::uint64_t last_applied = 0;
  std::uint64_t last_applied_term = 0;
  bool maintenance = false;
};

/// Why a query has no answer.
struct query_error {
  enum class kind : std::uint8_t {
    not_found,  ///< 404
    invalid,    ///< 422, `field` named
    not_ready,  ///< get_checksum for an index that is not yet applied
    gone,       ///< 410
    unusable,  ///< 503: this node's state is damaged or gone, and is being fetched from a peer; another node can answer
  };
  kind code = kind::not_found;
  std::string detail;
  std::string field;
};

/// The answer has the alternative that belongs to the question, or query_error.
using query_result = std::variant<query_error, key_view, key_page, task_view, task_page, worker_view, worker_page,
                                  run_view, run_page, counts_view, figures_view, checksum_view, state_view>;

}  // namespace coordinator
