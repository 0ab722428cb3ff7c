#include <algorithm>

#include "actors/work_table.hpp"

namespace coordinator {

namespace {

command_result refuse(result_code code, std::string detail) {
  command_result result;
  result.code = code;
  result.detail = std::move(detail);
  return result;
}

}  // namespace

command_result work_table::apply(const claim_tasks& x, context c) {
  auto w = find_worker(x.worker_id);
  if (!w)
    return refuse(result_code::not_found, "no such worker: it must register first");
  if (w->offline || w->draining)
    return refuse(result_code::worker_unavailable, w->offline ? "the worker is offline" : "the worker is draining");
  command_result result;
  auto room = w->slots > w->active.size() ? w->slots - w->active.size() : 0;
  for (auto ordinal : queue_.pick(w->capabilities, std::min<std::size_t>(room, x.max_tasks))) {
    auto& t = tasks_[ordinal];
    auto& a = begin_attempt(t, *w, c);
    result.assignments.push_back({t.id, a.number, t.spec_json});
  }
  return result;
}

work_table::attempt& work_table::begin_attempt(task& t, worker& w, context c) {
  auto name = worker_names_.index_of(w.id);
  ++worker_names_[name].value.attempts;
  if (!t.attempts.empty())
    worker_names_[t.attempts.back().worker].value.tasks.erase(t.ordinal);
  worker_names_[name].value.tasks.insert(t.ordinal);
  if (t.attempts.size() == kept_attempts) {
    forget_attempt(t.attempts.front().worker);
    t.attempts.erase(t.attempts.begin());
  }
  auto& a = t.attempts.emplace_back();
  a.number = ++t.last_attempt;
  a.worker = name;
  a.assigned_ms = c.now_ms;
  w.active.insert(t.ordinal);
  set_status(t, task_status::assigned, c);
  c.events.fleet.push_back(
      attempt_event{{t.id, a.number}, w.id, attempt_change::assigned, attempt_outcome::none, t.timeout_ms});
  return a;
}

void work_table::end_attempt(task& t, attempt_outcome outcome, const std::string& error, context c) {
  auto& a = t.attempts.back();
  a.ended_ms = c.now_ms;
  a.outcome = outcome;
  a.error = error;
  // A result proves that it ran, even where no heartbeat came in between.
  if (a.started_ms == 0 && (outcome == attempt_outcome::completed || outcome == attempt_outcome::failed))
    a.started_ms = a.assigned_ms;
  auto& name = worker_names_[a.worker].name;
  if (auto w = find_worker(name)) {
    w->active.erase(t.ordinal);
    c.events.work_available |= queue_.size() > 0;
  }
  c.events.fleet.push_back(attempt_event{{t.id, a.number}, name, attempt_change::ended, outcome, t.timeout_ms});
  touch(t);
}

void work_table::retry(task& t, bool uses_up, bool retryable, context c) {
  t.attempts_used += uses_up ? 1 : 0;
  if (retryable && t.attempts_used < t.max_attempts) {
    set_status(t, task_status::pending, c);
    return;
  }
  set_status(t, task_status::failed, c);
  cancel_dependents(t, c);
}

void work_table::take_back(worker& w, const std::string& error, context c) {
  auto active = w.active;
  for (auto ordinal : active) {
    auto& t = tasks_[ordinal];
    t.error = error;
    end_attempt(t, attempt_outcome::worker_offline, error, c);
    retry(t, true, true, c);
  }
}

command_result work_table::check_report(task& t, const std::string& worker_id, std::uint32_t number,
                                        attempt_outcome outcome, bool& again) const {
  again = false;
  if (defects_.has(defect::stale_attempt_accepted))
    return {};
  for (auto a = t.attempts.rbegin(); a != t.attempts.rend(); ++a) {
    if (a->number != number || worker_names_[a->worker].name != worker_id)
      continue;
    if (a->outcome == attempt_outcome::none)
      return {};
    again = a->outcome == outcome;
    if (again)
      return {};
  }
  return refuse(result_code::stale_attempt,
                "attempt " + std::to_string(number) + " is not in the hands of worker " + worker_id);
}

command_result work_table::apply(const complete_task& x, context c) {
  auto t = find_task(x.task_id);
  if (!t)
    return refuse(result_code::not_found, "no such task");
  bool again = false;
  if (auto bad = check_report(*t, x.worker_id, x.attempt, attempt_outcome::completed, again); !bad.ok() || again)
    return bad;
  if (t->is_active())
    end_attempt(*t, attempt_outcome::completed, {}, c);
  t->result_json = x.result_json;
  t->error.clear();
  // Only a build with the rule taken out comes here with a task that is final already.
  if (is_final(t->status)) {
    touch(*t);
    return {};
  }
  set_status(*t, task_status::completed, c);
  release_dependents(*t, c);
  return {};
}

command_result work_table::apply(const fail_task& x, context c) {
  auto t = find_task(x.task_id);
  if (!t)
    return refuse(result_code::not_found, "no such task");
  bool again = false;
  if (auto bad = check_report(*t, x.worker_id, x.attempt, attempt_outcome::failed, again); !bad.ok() || again)
    return bad;
  if (!t->is_active())
    return {};
  t->error = x.error;
  t->result_json = x.result_json;
  end_attempt(*t, attempt_outcome::failed, x.error, c);
  retry(*t, true, x.retryable, c);
  return {};
}

command_result work_table::apply(const mark_running& x, context c) {
  for (auto& each : x.attempts) {
    auto t = find_task(each.task_id);
    if (!t || t->status != task_status::assigned || t->last_attempt != each.attempt)
      continue;
    auto& a = t->attempts.back();
    a.started_ms = c.now_ms;
    set_status(*t, task_status::running, c);
    c.events.fleet.push_back(attempt_event{each, worker_names_[a.worker].name, attempt_change::running,
                                           attempt_outcome::none, t->timeout_ms});
  }
  return {};
}

command_result work_table::apply(const expire_attempts& x, context c) {
  for (auto& each : x.attempts) {
    auto t = find_task(each.attempt.task_id);
    if (!t || !t->is_active() || t->last_attempt != each.attempt.attempt)
      continue;
    t->error = each.reason == attempt_outcome::lease_lost       ? "its worker did not take it up"
               : each.reason == attempt_outcome::worker_offline ? "its worker gave it up without a word"
                                                                : "it ran longer than its timeout_ms";
    end_attempt(*t, each.reason, t->error, c);
    retry(*t, each.reason != attempt_outcome::lease_lost, true, c);
  }
  return {};
}

}  // namespace coordinator
