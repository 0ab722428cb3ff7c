#include <algorithm>

#include "actors/work_table.hpp"

namespace coordinator {

namespace {

struct attempt_row {
  std::uint32_t number = 0;
  std::string worker_id;
  std::int64_t assigned_ms = 0;
  std::int64_t started_ms = 0;
  std::int64_t ended_ms = 0;
  attempt_outcome outcome = attempt_outcome::none;
  std::string error;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, attempt_row& x) {
    return f(x.number, x.worker_id, x.assigned_ms, x.started_ms, x.ended_ms, x.outcome, x.error);
  }
};

/// A task as state.db holds it, under its ordinal: names written out, and nothing that follows from other rows.
struct task_row {
  std::string id;
  std::string spec_json;
  std::string run_id;
  std::string type;
  std::int32_t priority = 0;
  std::vector<task_ordinal> depends_on;
  capability_map requirements;  ///< Left out once the task is final: nothing asks for it any more.
  std::int64_t timeout_ms = 0;
  std::uint32_t max_attempts = 0;
  task_status status = task_status::pending;
  std::vector<attempt_row> attempts;
  std::uint32_t last_attempt = 0;
  std::uint32_t attempts_used = 0;
  std::string result_json;
  std::string error;
  std::int64_t submitted_ms = 0;
  std::int64_t finished_ms = 0;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, task_row& x) {
    return f(x.id, x.spec_json, x.run_id, x.type, x.priority, x.depends_on, x.requirements, x.timeout_ms,
             x.max_attempts, x.status, x.attempts, x.last_attempt, x.attempts_used, x.result_json, x.error,
             x.submitted_ms, x.finished_ms);
  }
};

}  // namespace

std::string work_table::bytes_of(const task& t) const {
  task_row row{t.id,
               t.spec_json,
               runs_[t.run].name,
               types_[t.type].name,
               t.priority,
               t.depends_on,
               is_final(t.status) ? capability_map{} : queue_.requirements(t.requirement_class),
               t.timeout_ms,
               t.max_attempts,
               t.status,
               {},
               t.last_attempt,
               t.attempts_used,
               t.result_json,
               t.error,
               t.submitted_ms,
               t.finished_ms};
  for (auto& a : t.attempts)
    row.attempts.push_back(
        {a.number, worker_names_[a.worker].name, a.assigned_ms, a.started_ms, a.ended_ms, a.outcome, a.error});
  return to_bytes(row);
}

void work_table::finish_entry() {
  for (auto ordinal : touched_tasks_) {
    auto& t = tasks_[ordinal];
    t.touched = false;
    rows_.put(row_kind::task, ordered_id(ordinal), bytes_of(t), t.hash);
  }
  touched_tasks_.clear();
  for (auto& id : touched_workers_) {
    auto w = find_worker(id);
    if (!w || !w->touched)
      continue;
    w->touched = false;
    rows_.put(row_kind::worker, w->id, to_bytes(*w), w->hash);
  }
  touched_workers_.clear();
}

bool work_table::load_worker(std::string_view id, std::string_view body) {
  worker w;
  if (!from_bytes(body, w) || w.id != id)
    return false;
  w.hash = rows_.loaded(row_kind::worker, id, body);
  workers_.insert_or_assign(std::string{id}, std::move(w));
  return true;
}

bool work_table::load_task(std::string_view id, std::string_view body) {
  task_row row;
  std::uint64_t number = 0;
  if (!read_ordered_id(id, number) || number < next_ordinal_ || number >= tasks_.end_number)
    return false;
  // Rows come in the order of ordinals, which are dense where no task can have left: a gap there is a row that was
  // lost.
  const auto ordinal = static_cast<task_ordinal>(number);
  if (ordinal > std::max(next_ordinal_, kept_next_ordinal_))
    return false;
  if (!from_bytes(body, row) || static_cast<std::size_t>(row.status) >= task_status_count)
    return false;
  next_ordinal_ = ordinal + 1;
  auto& t = tasks_.add(ordinal);
  t.ordinal = ordinal;
  t.id = std::move(row.id);
  t.spec_json = std::move(row.spec_json);
  t.run = runs_.index_of(row.run_id);
  t.type = types_.index_of(row.type);
  t.priority = row.priority;
  t.depends_on = std::move(row.depends_on);
  t.timeout_ms = row.timeout_ms;
  t.max_attempts = row.max_attempts;
  t.status = row.status;
  t.last_attempt = row.last_attempt;
  t.attempts_used = row.attempts_used;
  t.result_json = std::move(row.result_json);
  t.error = std::move(row.error);
  t.submitted_ms = row.submitted_ms;
  t.finished_ms = row.finished_ms;
  for (auto& a : row.attempts)
    t.attempts.push_back({a.number, worker_names_.index_of(a.worker_id), a.assigned_ms, a.started_ms, a.ended_ms,
                          a.outcome, std::move(a.error)});
  if (!is_final(t.status))
    t.requirement_class = queue_.acquire(row.requirements);
  for (auto& a : t.attempts)
    ++worker_names_[a.worker].value.attempts;
  if (is_final(t.status))
    finished_.push_back(ordinal);
  if (!t.attempts.empty()) {
    auto& name = worker_names_[t.attempts.back().worker];
    name.value.tasks.insert(t.ordinal);
    if (auto w = find_worker(name.name); w && t.is_active())
      w->active.insert(t.ordinal);
  }
  enter(t);
  t.hash = rows_.loaded(row_kind::task, id, body);
  return true;
}

bool work_table::loaded() {
  next_ordinal_ = std::max(next_ordinal_, kept_next_ordinal_);
  // In one go, and of the right size: a million tasks would have the table built anew twenty times.
  tasks_by_id_.reserve(tasks_.size());
  for (auto ordinal : tasks_) {
    auto& t = tasks_[ordinal];
    if (!tasks_by_id_.emplace(t.id, t.ordinal).second)
      return false;
    if (t.is_active() && t.attempts.empty())
      return false;
    for (auto each : t.depends_on) {
      if (each >= next_ordinal_)
        return false;
      // One that has left was completed: with any other end it would have cancelled this task.
      auto cause = tasks_.find(each);
      if (t.status == task_status::blocked && cause && cause->status != task_status::completed) {
        ++t.waiting_for;
        cause->dependents.push_back(t.ordinal);
      }
    }
  }
  // Compared without a look at the tasks themselves: a start has little time for a million of them.
  std::vector<std::pair<std::int64_t, task_ordinal>> finished;
  finished.reserve(finished_.size());
  for (auto ordinal : finished_)
    finished.emplace_back(tasks_[ordinal].finished_ms, ordinal);
  std::sort(finished.begin(), finished.end());
  std::transform(finished.begin(), finished.end(), finished_.begin(), [](auto& each) { return each.second; });
  return true;
}

}  // namespace coordinator
