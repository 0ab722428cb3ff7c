#include <algorithm>

#include "actors/cursor.hpp"
#include "actors/work_table.hpp"

namespace coordinator {

namespace {

/// A page of tasks ends here however large its results are, and a filter gives up its page, not its search, after this
/// many rows: no query holds the state machine for long.
constexpr std::size_t page_bytes = 8 << 20;
constexpr std::size_t examined_a_page = 20'000;
constexpr std::size_t most_waiting_lines = 100;

query_error not_found(std::string detail) {
  return {query_error::kind::not_found, std::move(detail), {}};
}

}  // namespace

task_view work_table::view(const task& t) const {
  task_view result;
  result.task_id = t.id;
  result.run_id = runs_[t.run].name;
  result.type = types_[t.type].name;
  result.priority = t.priority;
  result.status = t.status;
  result.spec_json = t.spec_json;
  result.result_json = t.result_json;
  result.error = t.error;
  result.attempt = t.last_attempt;
  result.max_attempts = t.max_attempts;
  result.timeout_ms = t.timeout_ms;
  result.submitted_ms = t.submitted_ms;
  result.finished_ms = t.finished_ms;
  result.waiting_for = t.waiting_for;
  for (auto& a : t.attempts)
    result.attempts.push_back(
        {a.number, worker_names_[a.worker].name, a.assigned_ms, a.started_ms, a.ended_ms, a.outcome, a.error});
  if (!t.attempts.empty()) {
    result.worker_id = result.attempts.back().worker_id;
    result.started_ms = t.attempts.back().started_ms;
  }
  return result;
}

worker_view work_table::view(const worker& w) const {
  worker_view result;
  result.worker_id = w.id;
  result.host = w.host;
  result.port = w.port;
  result.capabilities_json = w.capabilities_json;
  result.slots = w.slots;
  result.status = status_of(w);
  result.current_task = w.current_task;
  for (auto ordinal : w.active)
    result.attempts.push_back({tasks_[ordinal].id, tasks_[ordinal].last_attempt});
  std::sort(result.attempts.begin(), result.attempts.end());
  result.registered_ms = w.registered_ms;
  result.last_heartbeat_ms = w.last_heartbeat_ms;
  result.cpu_usage = w.cpu_usage.value();
  result.memory_usage = w.memory_usage.value();
  result.gpu_usage = w.gpu_usage.value();
  result.session = w.registration;
  return result;
}

query_result work_table::answer(const get_task& x) const {
  auto found = tasks_by_id_.find(x.task_id);
  if (found == tasks_by_id_.end())
    return not_found("no such task");
  return view(tasks_[found->second]);
}

bool work_table::passes(const task& t, const list_tasks& x) const {
  return (!x.status || t.status == *x.status) && (x.run_id.empty() || runs_[t.run].name == x.run_id) &&
         (x.type.empty() || types_[t.type].name == x.type) &&
         (x.worker_id.empty() || (!t.attempts.empty() && worker_names_[t.attempts.back().worker].name == x.worker_id));
}

template <class Iterator>
task_page work_table::page_of(Iterator begin, Iterator end, const list_tasks& x) const {
  task_page page;
  auto limit = std::clamp<std::size_t>(x.limit, 1, largest_page);
  std::size_t examined = 0;
  std::size_t bytes = 0;
  task_ordinal last = 0;
  for (; begin != end; ++begin, ++examined) {
    if (page.tasks.size() == limit || bytes >= page_bytes || examined == examined_a_page) {
      page.next_cursor = make_cursor(ordered_id(last));
      break;
    }
    last = *begin;
    auto t = tasks_.find(last);
    if (!t || !passes(*t, x))
      continue;
    page.tasks.push_back(view(*t));
    bytes += t->spec_json.size() + t->result_json.size() + t->error.size();
  }
  return page;
}

query_result work_table::answer(const list_tasks& x) const {
  task_ordinal from = 0;
  if (!x.cursor.empty()) {
    auto position = read_cursor(x.cursor);
    std::uint64_t last = 0;
    if (!position || !read_ordered_id(*position, last) || last >= UINT32_MAX)
      return query_error{query_error::kind::invalid, "not a cursor of this list", "cursor"};
    from = static_cast<task_ordinal>(last + 1);
  }
  // The smallest list that holds all that pass is walked; the other filters only look at what it holds.
  const std::set<task_ordinal>* set = nullptr;
  const task_list* list = nullptr;
  std::size_t size = tasks_.size();
  auto choose_set = [&](const std::set<task_ordinal>& candidate) {
    if (candidate.size() < size) {
      set = &candidate;
      list = nullptr;
      size = candidate.size();
    }
  };
  auto choose_list = [&](const task_list& candidate) {
    if (candidate.size() < size) {
      list = &candidate;
      set = nullptr;
      size = candidate.size();
    }
  };
  if (x.status)
    choose_set(tasks_by_status_[static_cast<std::size_t>(*x.status)]);
  if (!x.run_id.empty()) {
    auto run = runs_.find(x.run_id);
    if (!run)
      return task_page{};
    choose_list(runs_[*run].value.tasks);
  }
  if (!x.type.empty()) {
    auto type = types_.find(x.type);
    if (!type)
      return task_page{};
    choose_list(types_[*type].value);
  }
  if (!x.worker_id.empty()) {
    auto worker = worker_names_.find(x.worker_id);
    if (!worker)
      return task_page{};
    choose_set(worker_names_[*worker].value.tasks);
  }
  if (set)
    return page_of(set->lower_bound(from), set->end(), x);
  if (list) {
    auto first = list->all.begin() + static_cast<std::ptrdiff_t>(list->first);
    return page_of(std::lower_bound(first, list->all.end(), from), list->all.end(), x);
  }
  return page_of(tasks_.begin(from), tasks_.end(), x);
}

query_result work_table::answer(const get_worker& x) const {
  auto found = workers_.find(x.worker_id);
  if (found == workers_.end())
    return not_found("no such worker");
  return view(found->second);
}

query_result work_table::answer(const list_workers& x) const {
  auto next = workers_.begin();
  if (!x.cursor.empty()) {
    auto last = read_cursor(x.cursor);
    if (!last)
      return query_error{query_error::kind::invalid, "not a cursor of this list", "cursor"};
    next = workers_.upper_bound(*last);
  }
  worker_page page;
  auto limit = std::clamp<std::size_t>(x.limit, 1, largest_page);
  for (; next != workers_.end(); ++next) {
    if (page.workers.size() == limit) {
      page.next_cursor = make_cursor(page.workers.back().worker_id);
      break;
    }
    page.workers.push_back(view(next->second));
  }
  return page;
}

run_view work_table::view(const interned<run_tasks>::item& item) const {
  auto& run = item.value;
  run_view result;
  result.run_id = item.name;
  result.tasks = run.tasks.size();
  result.by_status = run.by_status;
  result.passed = run.passed;
  result.submitted_ms = tasks_[run.tasks.all[run.tasks.first]].submitted_ms;
  std::uint64_t ended = 0;
  for (auto status : {task_status::completed, task_status::failed, task_status::cancelled})
    ended += run.by_status[static_cast<std::size_t>(status)];
  if (ended == result.tasks)
    result.finished_ms = run.last_finished_ms;
  return result;
}

query_result work_table::answer(const get_run& x) const {
  auto found = x.run_id.empty() ? std::nullopt : runs_.find(x.run_id);
  if (!found)
    return not_found("no such run");
  return view(runs_[*found]);
}

query_result work_table::answer(const list_runs& x) const {
  auto before = runs_by_start_.end();
  if (!x.cursor.empty()) {
    auto position = read_cursor(x.cursor);
    std::uint64_t last = 0;
    if (!position || !read_ordered_id(*position, last) || last > UINT32_MAX)
      return query_error{query_error::kind::invalid, "not a cursor of this list", "cursor"};
    before = runs_by_start_.lower_bound(static_cast<task_ordinal>(last));
  }
  run_page page;
  auto limit = std::clamp<std::size_t>(x.limit, 1, largest_page);
  while (before != runs_by_start_.begin()) {
    if (page.runs.size() == limit) {
      page.next_cursor = make_cursor(ordered_id(before->first));
      break;
    }
    --before;
    page.runs.push_back(view(runs_[before->second]));
  }
  return page;
}

query_result work_table::answer(const get_figures&) const {
  figures_view out;
  for (std::size_t i = 0; i < task_status_count; ++i)
    out.tasks_by_status[i] = tasks_by_status_[i].size();
  for (auto& [id, w] : workers_)
    ++out.workers_by_status[static_cast<std::size_t>(status_of(w))];
  for (auto& line : queue_.longest(most_waiting_lines)) {
    std::int64_t oldest = 0;
    for (auto ordinal : line.heads)
      if (auto submitted = tasks_[ordinal].submitted_ms; oldest == 0 || submitted < oldest)
        oldest = submitted;
    out.waiting.push_back({queue_.requirements(line.id), line.tasks, oldest});
  }
  return out;
}

void work_table::count(counts_view& out) const {
  for (std::size_t i = 0; i < task_status_count; ++i)
    out.tasks_by_status[i] = tasks_by_status_[i].size();
  out.requirement_classes = queue_.class_count();
  out.workers = workers_.size();
  out.workers_offline = static_cast<std::uint64_t>(
      std::count_if(workers_.begin(), workers_.end(), [](auto& x) { return x.second.offline; }));
}

void work_table::append_to(state_view& out) const {
  for (auto& [id, w] : workers_)
    out.workers.push_back(view(w));
  for (auto ordinal : tasks_)
    out.tasks.push_back(view(tasks_[ordinal]));
}

void work_table::append_to(fleet_view& out) const {
  for (auto& [id, w] : workers_)
    out.workers.push_back({w.id, w.said, w.draining, w.offline});
  for (auto status : {task_status::assigned, task_status::running})
    for (auto ordinal : tasks_by_status_[static_cast<std::size_t>(status)]) {
      auto& t = tasks_[ordinal];
      out.attempts.push_back({{t.id, t.last_attempt},
                              worker_names_[t.attempts.back().worker].name,
                              status == task_status::running,
                              t.timeout_ms});
    }
}

std::vector<std::size_t> work_table::pick_claimants(const std::vector<claimant>& waiting) const {
  std::vector<std::size_t> result;
  std::vector<std::size_t> asked;
  std::vector<task_queue::wish> wishes;
  auto consider = [&](std::size_t i) {
    auto found = workers_.find(waiting[i].worker_id);
    if (found == workers_.end() || found->second.offline || found->second.draining) {
      if (!waiting[i].promised)
        result.push_back(i);
      return;
    }
    auto& w = found->second;
    auto room = w.slots > w.active.size() ? w.slots - w.active.size() : 0;
    wishes.push_back({&w.capabilities, std::min<std::size_t>(room, waiting[i].max_tasks)});
    asked.push_back(i);
  };
  for (auto promised : {true, false})
    for (std::size_t i = 0; i < waiting.size(); ++i)
      if (waiting[i].promised == promised)
        consider(i);
  for (auto served : queue_.serve(wishes))
    if (!waiting[asked[served]].promised)
      result.push_back(asked[served]);
  return result;
}

void work_table::fill(std::vector<assignment>& assignments) const {
  std::erase_if(assignments, [&](assignment& each) {
    auto found = tasks_by_id_.find(each.task_id);
    if (found == tasks_by_id_.end())
      return true;
    each.spec_json = tasks_[found->second].spec_json;
    return false;
  });
}

}  // namespace coordinator
