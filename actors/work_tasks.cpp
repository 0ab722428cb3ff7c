#include <algorithm>
#include <utility>

#include "actors/work_table.hpp"

namespace coordinator {

namespace {

command_result refuse(result_code code, std::string detail, std::string field = {}) {
  command_result result;
  result.code = code;
  result.detail = std::move(detail);
  result.field = std::move(field);
  return result;
}

std::string field_of(std::size_t task, std::string_view name) {
  return "tasks[" + std::to_string(task) + "]." + std::string{name};
}

using batch_places = std::unordered_map<std::string_view, std::size_t>;

batch_places places_of(const submit_tasks& x) {
  batch_places result;
  result.reserve(x.tasks.size());
  for (std::size_t i = 0; i < x.tasks.size(); ++i)
    result.emplace(x.tasks[i].task_id, i);
  return result;
}

}  // namespace

work_table::task* work_table::find_task(const std::string& id) {
  auto found = tasks_by_id_.find(id);
  return found == tasks_by_id_.end() ? nullptr : &tasks_[found->second];
}

void work_table::touch(task& t) {
  if (!t.touched) {
    t.touched = true;
    touched_tasks_.push_back(t.ordinal);
  }
}

command_result work_table::check_submission(const submit_tasks& x) const {
  auto places = places_of(x);
  std::size_t fresh = 0;
  bool has_dependencies = false;
  for (std::size_t i = 0; i < x.tasks.size(); ++i) {
    auto& spec = x.tasks[i];
    if (auto found = tasks_by_id_.find(spec.task_id); found != tasks_by_id_.end()) {
      if (tasks_[found->second].spec_json != spec.spec_json)
        return refuse(result_code::conflict, "a task of this id exists with another body", field_of(i, "task_id"));
      continue;
    }
    ++fresh;
    for (std::size_t j = 0; j < spec.depends_on.size(); ++j) {
      has_dependencies = true;
      if (!tasks_by_id_.contains(spec.depends_on[j]) && !places.contains(spec.depends_on[j]))
        return refuse(result_code::dependency_missing,
                      "no task " + spec.depends_on[j] + " exists or comes in the same batch",
                      field_of(i, "depends_on[" + std::to_string(j) + "]"));
    }
  }
  std::size_t unfinished = tasks_.size();
  for (auto status : {task_status::completed, task_status::failed, task_status::cancelled})
    unfinished -= tasks_by_status_[static_cast<std::size_t>(status)].size();
  if (fresh > 0 && unfinished + fresh > limits::unfinished_tasks)
    return refuse(result_code::queue_full, "too many unfinished tasks");
  if (fresh > tasks_.end_number - next_ordinal_)
    return refuse(result_code::queue_full, "this cluster has numbered all the tasks that it can");
  return has_dependencies ? check_cycles(x) : command_result{};
}

// A task that exists cannot depend on one that does not, so a cycle lies within the batch: what is left when tasks
// without open dependencies are taken away one after the other.
command_result work_table::check_cycles(const submit_tasks& x) const {
  auto places = places_of(x);
  std::vector<std::vector<std::size_t>> dependents(x.tasks.size());
  std::vector<std::size_t> open(x.tasks.size(), 0);
  for (std::size_t i = 0; i < x.tasks.size(); ++i) {
    if (tasks_by_id_.contains(x.tasks[i].task_id))
      continue;
    for (auto& id : x.tasks[i].depends_on) {
      auto found = places.find(id);
      if (found == places.end() || tasks_by_id_.contains(id))
        continue;
      dependents[found->second].push_back(i);
      ++open[i];
    }
  }
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < open.size(); ++i)
    if (open[i] == 0)
      ready.push_back(i);
  std::size_t done = 0;
  while (!ready.empty()) {
    auto next = ready.back();
    ready.pop_back();
    ++done;
    for (auto i : dependents[next])
      if (--open[i] == 0)
        ready.push_back(i);
  }
  if (done == x.tasks.size())
    return {};
  auto first = static_cast<std::size_t>(std::find_if(open.begin(), open.end(), [](std::size_t n) { return n > 0; }) -
                                        open.begin());
  return refuse(result_code::dependency_cycle, "task " + x.tasks[first].task_id + " would wait for itself",
                field_of(first, "depends_on"));
}

command_result work_table::apply(const submit_tasks& x, context c) {
  if (auto bad = check_submission(x); !bad.ok())
    return bad;
  command_result result;
  result.ids.reserve(x.tasks.size());
  std::vector<std::pair<task_ordinal, const task_spec*>> fresh;
  for (auto& spec : x.tasks) {
    result.ids.push_back(spec.task_id);
    if (tasks_by_id_.contains(spec.task_id))
      continue;
    auto& t = tasks_.add(next_ordinal_);
    t.ordinal = next_ordinal_++;
    t.id = spec.task_id;
    t.spec_json = spec.spec_json;
    t.run = runs_.index_of(spec.run_id);
    t.type = types_.index_of(spec.type);
    t.priority = spec.priority;
    t.timeout_ms = spec.timeout_ms;
    t.max_attempts = spec.max_attempts;
    t.submitted_ms = c.now_ms;
    tasks_by_id_.emplace(t.id, t.ordinal);
    fresh.emplace_back(t.ordinal, &spec);
  }
  // Dependencies may point forward within the batch, so they are resolved once all ids are known.
  for (auto [ordinal, spec] : fresh) {
    auto& t = tasks_[ordinal];
    for (auto& id : spec->depends_on)
      t.depends_on.push_back(tasks_by_id_.find(id)->second);
    std::sort(t.depends_on.begin(), t.depends_on.end());
    t.depends_on.erase(std::unique(t.depends_on.begin(), t.depends_on.end()), t.depends_on.end());
    for (auto each : t.depends_on)
      if (tasks_[each].status != task_status::completed) {
        ++t.waiting_for;
        tasks_[each].dependents.push_back(ordinal);
      }
    t.status = t.waiting_for > 0 ? task_status::blocked : task_status::pending;
    t.requirement_class = queue_.acquire(spec->requirements);
    enter(t);
    touch(t);
    c.events.work_available |= t.status == task_status::pending;
    c.events.tasks.push_back({t.id, spec->run_id, {}, t.status});
  }
  for (auto [ordinal, spec] : fresh)
    for (auto each : tasks_[ordinal].depends_on)
      if (auto status = tasks_[each].status; status == task_status::failed || status == task_status::cancelled)
        cancel_dependents(tasks_[each], c);
  return result;
}

void work_table::enter(task& t) {
  tasks_by_status_[static_cast<std::size_t>(t.status)].insert(t.ordinal);
  auto& run = runs_[t.run].value;
  if (run.tasks.all.empty() && !runs_[t.run].name.empty()) {
    run.began = t.ordinal;
    runs_by_start_.emplace(t.ordinal, t.run);
  }
  run.tasks.all.push_back(t.ordinal);
  ++run.by_status[static_cast<std::size_t>(t.status)];
  run.passed += t.has_passed();
  run.last_finished_ms = std::max(run.last_finished_ms, t.finished_ms);
  types_[t.type].value.all.push_back(t.ordinal);
  if (t.status == task_status::pending)
    queue_.push(t.requirement_class, t.priority, t.ordinal);
}

void work_table::set_status(task& t, task_status to, context c) {
  auto from = t.status;
  if (from == task_status::pending)
    queue_.remove(t.requirement_class, t.priority, t.ordinal);
  auto& run = runs_[t.run].value;
  tasks_by_status_[static_cast<std::size_t>(from)].erase(t.ordinal);
  --run.by_status[static_cast<std::size_t>(from)];
  t.status = to;
  run.passed += t.has_passed();
  tasks_by_status_[static_cast<std::size_t>(to)].insert(t.ordinal);
  ++run.by_status[static_cast<std::size_t>(to)];
  if (to == task_status::pending) {
    queue_.push(t.requirement_class, t.priority, t.ordinal);
    c.events.work_available = true;
  }
  if (is_final(to)) {
    t.finished_ms = c.now_ms;
    run.last_finished_ms = std::max(run.last_finished_ms, t.finished_ms);
    queue_.release(t.requirement_class);
    finished_.push_back(t.ordinal);
  }
  auto worker = t.attempts.empty() ? std::string{} : worker_names_[t.attempts.back().worker].name;
  c.events.tasks.push_back({t.id, runs_[t.run].name, std::move(worker), to});
  touch(t);
}

void work_table::release_dependents(task& t, context c) {
  auto dependents = std::exchange(t.dependents, {});
  for (auto each : dependents) {
    // One that was cancelled meanwhile may have left.
    auto next = tasks_.find(each);
    if (next && next->status == task_status::blocked && --next->waiting_for == 0)
      set_status(*next, task_status::pending, c);
  }
}

void work_table::cancel_dependents(task& t, context c) {
  std::vector<task_ordinal> ended{t.ordinal};
  while (!ended.empty()) {
    auto& cause = tasks_[ended.back()];
    ended.pop_back();
    auto reason = "the task " + cause.id + ", on which it depends, " +
                  (cause.status == task_status::failed ? "failed" : "was cancelled");
    auto dependents = std::exchange(cause.dependents, {});
    for (auto each : dependents) {
      auto next = tasks_.find(each);
      if (!next || next->status != task_status::blocked)
        continue;
      next->error = reason;
      next->waiting_for = 0;
      set_status(*next, task_status::cancelled, c);
      ended.push_back(each);
    }
  }
}

command_result work_table::apply(const cancel_task& x, context c) {
  auto t = find_task(x.task_id);
  if (!t)
    return refuse(result_code::not_found, "no such task");
  if (t->status == task_status::cancelled)
    return {};
  if (is_final(t->status))
    return refuse(result_code::conflict, "the task has " + std::string{to_string(t->status)});
  if (t->is_active())
    end_attempt(*t, attempt_outcome::cancelled, {}, c);
  t->error = "cancelled";
  t->waiting_for = 0;
  set_status(*t, task_status::cancelled, c);
  cancel_dependents(*t, c);
  return {};
}

}  // namespace coordinator
