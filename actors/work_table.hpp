#pragma once

#include <array>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "actors/queries.hpp"
#include "actors/rules.hpp"
#include "actors/sparse_sequence.hpp"
#include "actors/state_events.hpp"
#include "actors/state_rows.hpp"
#include "actors/task_queue.hpp"

namespace coordinator {

/// Names that many tasks share, each kept once, with something beside it.
template <class T>
class interned {
 public:
  struct item {
    std::string name;
    T value;
  };
  std::uint32_t index_of(std::string_view name) {
    if (auto found = find(name))
      return *found;
    auto index = static_cast<std::uint32_t>(items_.size());
    if (free_.empty()) {
      items_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    items_[index] = {std::string{name}, {}};
    // The key views the kept name: a deque's elements stay where they are.
    indexes_.emplace(items_[index].name, index);
    return index;
  }
  /// Nobody holds this index any more; another name may get it.
  void release(std::uint32_t index) {
    indexes_.erase(items_[index].name);
    items_[index] = {};
    free_.push_back(index);
  }
  std::optional<std::uint32_t> find(std::string_view name) const {
    auto found = indexes_.find(name);
    return found == indexes_.end() ? std::nullopt : std::optional{found->second};
  }
  item& operator[](std::uint32_t index) { return items_[index]; }
  const item& operator[](std::uint32_t index) const { return items_[index]; }

 private:
  std::deque<item> items_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<std::string_view, std::uint32_t> indexes_;
};

/// A worker that waits for work.
struct claimant {
  std::string worker_id;
  std::uint32_t max_tasks = 1;
  bool promised = false;  ///< It was told to claim, and its claim has not come yet.
};

/// Workers, tasks and who runs which attempt of what. They change together, so they have one owner. A task's ordinal
/// is its place in the order of submission, and is not used again when the task has left. Only finished tasks leave;
/// what still names one, as a dependency or a late result, finds no such task.
///
/// work_tasks.cpp: submission, cancelling, dependencies. work_attempts.cpp: claim to result. work_workers.cpp: workers.
/// work_retention.cpp: finished tasks leave. work_queries.cpp: reading. work_rows.cpp: rows of state.db.
class work_table {
 public:
  /// What an entry gives to its command besides the body.
  struct context {
    std::uint64_t index;
    std::int64_t now_ms;
    state_events& events;
  };

  work_table(state_rows& rows, const defect_set& defects) : rows_(rows), defects_(defects) {}

  command_result apply(const submit_tasks& x, context c);
  command_result apply(const cancel_task& x, context c);
  command_result apply(const claim_tasks& x, context c);
  command_result apply(const complete_task& x, context c);
  command_result apply(const fail_task& x, context c);
  command_result apply(const mark_running& x, context c);
  command_result apply(const expire_attempts& x, context c);
  command_result apply(const register_worker& x, context c);
  command_result apply(const set_worker_status& x, context c);
  command_result apply(const drain_worker& x, context c);
  command_result apply(const remove_worker& x, context c);
  command_result apply(const mark_offline& x, context c);
  command_result apply(const report_figures& x, context c);
  command_result apply(const retire_tasks& x, context c);

  /// When the first of the finished tasks that are here finished; 0: there is none.
  std::int64_t oldest_finished_ms() const;
  /// retire_tasks applied by this object.
  std::uint64_t retire_steps() const { return retire_steps_; }
  /// The ordinal of the next new task. It follows from the rows only while none of the newest tasks has left, so it is
  /// kept beside them with each retire_tasks that takes something away.
  task_ordinal next_ordinal() const { return next_ordinal_; }
  /// That number as it was kept; before the first load_task.
  void load_next_ordinal(task_ordinal x) { kept_next_ordinal_ = x; }

  /// Puts the rows that the entry touched into the books, each once. To be called after each entry.
  void finish_entry();

  /// Adds the tasks' texts to assignments that were stored without them. Those of tasks that have left go.
  void fill(std::vector<assignment>& assignments) const;

  query_result answer(const get_task& x) const;
  query_result answer(const list_tasks& x) const;
  query_result answer(const get_worker& x) const;
  query_result answer(const list_workers& x) const;
  query_result answer(const get_run& x) const;
  query_result answer(const list_runs& x) const;
  query_result answer(const get_figures& x) const;
  void count(counts_view& out) const;
  void append_to(state_view& out) const;
  void append_to(fleet_view& out) const;
  std::vector<std::size_t> pick_claimants(const std::vector<claimant>& waiting) const;

  /// Rows come in the order of their ids, workers before tasks.
  bool load_worker(std::string_view id, std::string_view body);
  bool load_task(std::string_view id, std::string_view body);
  /// After the last row; false if the rows do not fit together.
  bool loaded();

 private:
  static constexpr std::uint32_t no_worker = UINT32_MAX;
  /// Records of attempts that a task keeps; older ones go. Attempts that were lost are unlimited in number.
  static constexpr std::size_t kept_attempts = 100;

  struct attempt {
    std::uint32_t number = 0;
    std::uint32_t worker = no_worker;
    std::int64_t assigned_ms = 0;
    std::int64_t started_ms = 0;
    std::int64_t ended_ms = 0;
    attempt_outcome outcome = attempt_outcome::none;
    std::string error;
  };
  // A million of them are kept: 32-bit references, and no map of its own in any.
  struct task {
    std::string id;
    std::string spec_json;
    std::string result_json;
    std::string error;
    std::vector<task_ordinal> depends_on;
    std::vector<task_ordinal> dependents;  ///< Tasks that wait for this one; unused once it is final.
    std::vector<attempt> attempts;
    std::int64_t submitted_ms = 0;
    std::int64_t finished_ms = 0;
    std::int64_t timeout_ms = 0;
    std::uint64_t hash = 0;
    task_ordinal ordinal = 0;
    std::uint32_t run = 0;
    std::uint32_t type = 0;
    task_queue::class_id requirement_class = 0;  ///< Held until the task is final.
    std::int32_t priority = 0;
    std::uint32_t max_attempts = 0;
    std::uint32_t last_attempt = 0;
    std::uint32_t attempts_used = 0;  ///< Those that count towards max_attempts.
    std::uint32_t waiting_for = 0;    ///< Dependencies not yet completed, while blocked.
    task_status status = task_status::pending;
    bool touched = false;

    bool is_active() const { return status == task_status::assigned || status == task_status::running; }
    /// Looks at the text alone: inside a string its quotes would be escaped.
    bool has_passed() const {
      return status == task_status::completed && result_json.find(R"("outcome":"passed")") != std::string::npos;
    }
  };
  struct worker {
    std::string id;
    std::string host;
    std::uint32_t port = 0;
    capability_map capabilities;
    std::string capabilities_json;
    std::uint32_t slots = 1;
    worker_status said = worker_status::idle;
    bool draining = false;
    bool offline = false;
    std::string current_task;
    std::int64_t registered_ms = 0;
    std::uint64_t registration = 0;
    std::int64_t last_heartbeat_ms = 0;
    decimal cpu_usage;
    decimal memory_usage;
    decimal gpu_usage;
    std::uint64_t hash = 0;
    bool touched = false;
    std::set<task_ordinal> active;  ///< Follows from the tasks.

    template <class Inspector>
    friend typename Inspector::result_type inspect(Inspector& f, worker& x) {
      return f(x.id, x.host, x.port, x.capabilities, x.capabilities_json, x.slots, x.said, x.draining, x.offline,
               x.current_task, x.registered_ms, x.registration, x.last_heartbeat_ms, x.cpu_usage, x.memory_usage,
               x.gpu_usage);
    }
  };
  /// Tasks in the order of submission. Those that left are cleared away once they are the most.
  struct task_list {
    std::vector<task_ordinal> all;
    std::size_t first = 0;  ///< Place of the first task that has not left.
    std::size_t gone = 0;   ///< Tasks in `all` that have left.

    std::size_t size() const { return all.size() - gone; }
  };
  struct run_tasks {
    task_list tasks;
    task_ordinal began = 0;  ///< Its first task, when it came or was loaded: its place among the runs.
    status_counts by_status{};
    std::uint64_t passed = 0;
    std::int64_t last_finished_ms = 0;
  };
  struct worker_tasks {
    std::set<task_ordinal> tasks;  ///< Whose present or last attempt is this worker's.
    std::size_t attempts = 0;      ///< Records of attempts that name it.
  };

  // work_tasks.cpp
  task* find_task(const std::string& id);
  command_result check_submission(const submit_tasks& x) const;
  command_result check_cycles(const submit_tasks& x) const;
  /// Takes a task with all its fields set into every index; it must not be in any.
  void enter(task& t);
  void set_status(task& t, task_status to, context c);
  void release_dependents(task& t, context c);
  void cancel_dependents(task& t, context c);
  void touch(task& t);

  // work_attempts.cpp
  attempt& begin_attempt(task& t, worker& w, context c);
  void end_attempt(task& t, attempt_outcome outcome, const std::string& error, context c);
  /// After an attempt that ended without success: back to the queue, or failed for good.
  void retry(task& t, bool uses_up, bool retryable, context c);
  /// Ends and requeues everything that the worker holds.
  void take_back(worker& w, const std::string& error, context c);
  /// ok: this is the present attempt. With `again` set: this very report was accepted before.
  command_result check_report(task& t, const std::string& worker_id, std::uint32_t number, attempt_outcome outcome,
                              bool& again) const;

  /// A record of an attempt by this worker goes.
  void forget_attempt(std::uint32_t worker);

  // work_retention.cpp
  void retire(task_ordinal ordinal);
  void remove_from(task_list& list);
  /// Brings those that finished first, at one and the same time, into the order of submission.
  void order_oldest_finished();

  // work_workers.cpp
  worker* find_worker(const std::string& id);
  void touch(worker& w);
  void announce(const worker& w, worker_change change, context c) const;
  worker_status status_of(const worker& w) const;

  // work_queries.cpp
  run_view view(const interned<run_tasks>::item& run) const;
  task_view view(const task& t) const;
  worker_view view(const worker& w) const;
  template <class Iterator>
  task_page page_of(Iterator begin, Iterator end, const list_tasks& x) const;
  bool passes(const task& t, const list_tasks& x) const;

  // work_rows.cpp
  std::string bytes_of(const task& t) const;

  state_rows& rows_;
  const defect_set& defects_;

  sparse_sequence<task> tasks_;
  task_ordinal next_ordinal_ = 0;
  task_ordinal kept_next_ordinal_ = 0;
  std::unordered_map<std::string_view, task_ordinal> tasks_by_id_;
  task_queue queue_;
  std::array<std::set<task_ordinal>, task_status_count> tasks_by_status_;
  interned<run_tasks> runs_;
  std::map<task_ordinal, std::uint32_t> runs_by_start_;  ///< Those that have a name.
  interned<task_list> types_;
  interned<worker_tasks> worker_names_;
  std::map<std::string, worker, std::less<>> workers_;
  /// Finished tasks by the time at which they finished; within one time only the first ones are in order, where that
  /// time is `ordered_ms_`.
  std::deque<task_ordinal> finished_;
  std::int64_t ordered_ms_ = -1;
  std::uint64_t retire_steps_ = 0;
  std::vector<task_ordinal> touched_tasks_;
  std::vector<std::string> touched_workers_;
};

}  // namespace coordinator
