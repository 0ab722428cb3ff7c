#include "actors/fleet.hpp"

#include <algorithm>
#include <cmath>

namespace coordinator {

namespace {

/// How long an attempt may be unknown here before its worker is told to stop it.
constexpr std::int64_t applying_lag_ms = 2'000;

decimal figure(double x) {
  return std::isfinite(x) && x >= 0 ? decimal{std::min(x, limits::capability_number)} : decimal{};
}

}  // namespace

void fleet::on_leader(const fleet_view& view, std::int64_t now_ms) {
  off_leader();
  last_report_ms_ = now_ms;
  last_proposal_ms_ = now_ms;
  for (auto& standing : view.workers) {
    auto& w = workers_[standing.worker_id];
    w.standing = standing;
    w.last_beat_ms = now_ms;
  }
  for (auto& each : view.attempts) {
    auto found = workers_.find(each.worker_id);
    if (found == workers_.end())
      continue;
    auto& x = found->second.leases[each.attempt];
    x.worker_id = each.worker_id;
    x.renewed_ms = now_ms;
    x.began_ms = now_ms;
    x.timeout_ms = each.timeout_ms;
    x.running = each.running;
    x.listed = each.running;
  }
}

void fleet::off_leader() {
  workers_.clear();
  retire_proposed_ms_.reset();
  over_quota_.reset();
  alarm_proposed_ms_.reset();
}

void fleet::conditions(const fleet_conditions& x, std::int64_t now_ms) {
  if (x.retire_steps != conditions_.retire_steps)
    retire_proposed_ms_.reset();
  conditions_ = x;
  conditions_heard_ms_ = now_ms;
}

void fleet::apply(const fleet_event& event, std::int64_t now_ms) {
  if (auto attempt = std::get_if<attempt_event>(&event))
    apply_attempt(*attempt, now_ms);
  else
    apply_worker(std::get<worker_event>(event), now_ms);
}

void fleet::apply_attempt(const attempt_event& x, std::int64_t now_ms) {
  auto found = workers_.find(x.worker_id);
  if (found == workers_.end())
    return;
  auto& w = found->second;
  switch (x.change) {
    case attempt_change::assigned: {
      auto& lease = w.leases[x.attempt];
      lease.worker_id = x.worker_id;
      lease.renewed_ms = now_ms;
      lease.began_ms = now_ms;
      lease.timeout_ms = x.timeout_ms;
      w.unknown.erase(x.attempt);
      break;
    }
    case attempt_change::running:
      if (auto lease = w.leases.find(x.attempt); lease != w.leases.end())
        lease->second.running = true;
      break;
    case attempt_change::ended:
      w.leases.erase(x.attempt);
      if (x.outcome != attempt_outcome::completed && x.outcome != attempt_outcome::failed)
        w.stopping[x.attempt] = now_ms;
      break;
  }
}

void fleet::apply_worker(const worker_event& x, std::int64_t now_ms) {
  if (x.change == worker_change::removed) {
    workers_.erase(x.worker.worker_id);
    return;
  }
  auto [found, fresh] = workers_.try_emplace(x.worker.worker_id);
  auto& w = found->second;
  w.standing = x.worker;
  if (x.worker.offline || x.change == worker_change::registered)
    w.offline_proposed = false;
  // A registration is a sign of life; a drain asked for by a person is none.
  if (fresh || x.change == worker_change::registered)
    w.last_beat_ms = now_ms;
}

heard fleet::claimed(const std::string& worker_id, std::int64_t now_ms) {
  auto found = workers_.find(worker_id);
  if (found == workers_.end())
    return {false, {}, {}};
  found->second.last_beat_ms = std::max(found->second.last_beat_ms, now_ms);
  heard out;
  out.propose_status = status_change(found->second, {});
  return out;
}

heard fleet::beat(const worker_beat& x, std::int64_t now_ms) {
  auto out = claimed(x.worker_id, now_ms);
  if (!out.known)
    return out;
  auto& w = workers_.find(x.worker_id)->second;
  take_figures(w, x);
  renew(w, listed_by(w, x), now_ms, out);
  out.propose_status = status_change(w, x.status);
  return out;
}

void fleet::take_figures(worker& w, const worker_beat& x) {
  w.figures.cpu_usage = x.cpu_usage < 0 ? w.figures.cpu_usage : figure(x.cpu_usage);
  w.figures.memory_usage = x.memory_usage < 0 ? w.figures.memory_usage : figure(x.memory_usage);
  w.figures.gpu_usage = x.gpu_usage < 0 ? w.figures.gpu_usage : figure(x.gpu_usage);
  w.figures.current_task = x.current_task;
  w.reported = false;
}

std::vector<attempt_ref> fleet::listed_by(const worker& w, const worker_beat& x) const {
  std::vector<attempt_ref> listed;
  if (x.lists_running) {
    for (auto& each : x.running)
      listed.push_back({each.task_id, each.attempt});
  } else if (!x.current_task.empty()) {
    // It names no attempt: the one that it holds of this task, or the one that it was told to stop.
    auto first = w.leases.lower_bound({x.current_task, 0});
    if (first != w.leases.end() && first->first.task_id == x.current_task)
      listed.push_back(first->first);
    else if (auto old = w.stopping.lower_bound({x.current_task, 0});
             old != w.stopping.end() && old->first.task_id == x.current_task)
      listed.push_back(old->first);
  }
  std::sort(listed.begin(), listed.end());
  return listed;
}

void fleet::renew(worker& w, const std::vector<attempt_ref>& listed, std::int64_t now_ms, heard& out) {
  std::map<attempt_ref, std::int64_t> unknown;
  for (auto& each : listed) {
    if (w.stopping.contains(each))
      continue;
    auto lease = w.leases.find(each);
    if (lease == w.leases.end()) {
      auto since = w.unknown.find(each);
      unknown.emplace(each, since == w.unknown.end() ? now_ms : since->second);
    } else if (lease->second.expiring) {
      // The expiry is under way and cannot be called back: what the worker did from here on would be thrown away.
      out.cancel.push_back(each.task_id);
    } else {
      lease->second.renewed_ms = now_ms;
      lease->second.listed = true;
    }
  }
  w.unknown = std::move(unknown);
  for (auto& [attempt, since] : w.unknown)
    if (now_ms - since >= applying_lag_ms)
      out.cancel.push_back(attempt.task_id);
  for (auto i = w.stopping.begin(); i != w.stopping.end();) {
    // The answer to its claim may still be on the way to it, so it is told for a while even before it lists the task.
    if (!std::binary_search(listed.begin(), listed.end(), i->first) && now_ms - i->second >= options_.lease_ms) {
      i = w.stopping.erase(i);
      continue;
    }
    out.cancel.push_back(i->first.task_id);
    ++i;
  }
  // A task that it holds again in a newer attempt is not stopped for the older one's sake: `cancel` names tasks.
  std::erase_if(out.cancel, [&](const std::string& id) {
    auto held = w.leases.lower_bound({id, 0});
    return held != w.leases.end() && held->first.task_id == id && !held->second.expiring;
  });
  std::sort(out.cancel.begin(), out.cancel.end());
  out.cancel.erase(std::unique(out.cancel.begin(), out.cancel.end()), out.cancel.end());
}

std::optional<worker_status> fleet::status_change(const worker& w, const std::string& said) const {
  auto wanted = worker_status_from(said);
  if (wanted == worker_status::offline)
    wanted.reset();
  if (w.standing.offline)
    return wanted.value_or(worker_status::idle);
  if (!wanted || *wanted == w.standing.said)
    return std::nullopt;
  if (*wanted == worker_status::draining)
    return w.standing.draining ? std::nullopt : wanted;
  // That it holds attempts shows as `running` already; to write it down would cost an entry a task.
  if (*wanted == worker_status::running && w.standing.said == worker_status::idle && !w.leases.empty())
    return std::nullopt;
  return wanted;
}

std::vector<command_body> fleet::tick(std::int64_t now_ms, std::int64_t wall_ms) {
  std::vector<command_body> out;
  find_silent(now_ms, out);
  find_expired(now_ms, out);
  find_started(out);
  find_retired(now_ms, out);
  watch_storage(now_ms, out);
  report(now_ms, wall_ms, out);
  if (out.empty() && waits_for_time(now_ms) && now_ms - last_proposal_ms_ >= 1'000)
    out.emplace_back(coordinator::tick{});
  if (!out.empty())
    last_proposal_ms_ = now_ms;
  return out;
}

void fleet::find_silent(std::int64_t now_ms, std::vector<command_body>& out) {
  mark_offline silent;
  for (auto& [id, w] : workers_) {
    if (w.standing.offline)
      continue;
    // Once proposed it is proposed until it is applied, whatever the worker says meanwhile: its attempts were refused.
    auto due = w.offline_proposed ? now_ms - w.offline_proposed_ms >= options_.proposal_timeout_ms
                                  : now_ms - w.last_beat_ms >= options_.worker_timeout_ms;
    if (!due)
      continue;
    w.offline_proposed = true;
    w.offline_proposed_ms = now_ms;
    for (auto& [attempt, lease] : w.leases) {
      lease.expiring = true;
      lease.proposed_ms = now_ms;
    }
    silent.workers.push_back(id);
  }
  if (!silent.workers.empty())
    out.emplace_back(std::move(silent));
}

std::optional<attempt_outcome> fleet::expiry_of(const worker& w, const lease& x, std::int64_t now_ms) const {
  // The worker ends an attempt at its time-out itself; a lease more is for its word to come.
  if (x.timeout_ms > 0 && now_ms - x.began_ms >= x.timeout_ms + options_.lease_ms)
    return attempt_outcome::timeout;
  if (now_ms - x.renewed_ms < options_.lease_ms)
    return std::nullopt;
  // Silence says nothing about the attempt: only a worker that was heard lately, and did not list it, has lost it.
  if (w.last_beat_ms < x.renewed_ms + options_.lease_ms / 2)
    return std::nullopt;
  return x.listed ? attempt_outcome::worker_offline : attempt_outcome::lease_lost;
}

void fleet::find_expired(std::int64_t now_ms, std::vector<command_body>& out) {
  expire_attempts expired;
  for (auto& [id, w] : workers_) {
    if (w.offline_proposed)
      continue;
    for (auto& [attempt, lease] : w.leases) {
      if (lease.expiring && now_ms - lease.proposed_ms < options_.proposal_timeout_ms)
        continue;
      auto reason = expiry_of(w, lease, now_ms);
      if (!reason && !lease.expiring)
        continue;
      lease.expiring = true;
      lease.proposed_ms = now_ms;
      expired.attempts.push_back({attempt, reason.value_or(attempt_outcome::worker_offline)});
    }
  }
  if (!expired.attempts.empty())
    out.emplace_back(std::move(expired));
}

void fleet::find_started(std::vector<command_body>& out) {
  mark_running started;
  for (auto& [id, w] : workers_)
    for (auto& [attempt, lease] : w.leases) {
      // Losing the proposal costs a display, so it is made once.
      if (!lease.listed || lease.running || lease.running_proposed || lease.expiring)
        continue;
      lease.running_proposed = true;
      started.attempts.push_back(attempt);
    }
  if (!started.attempts.empty())
    out.emplace_back(std::move(started));
}

void fleet::find_retired(std::int64_t now_ms, std::vector<command_body>& out) {
  if (options_.retention_ms <= 0 || conditions_.oldest_finished_ms == 0)
    return;
  // Only time that is applied counts: what this node believes of time would let tasks leave early.
  const auto before = conditions_.applied_time_ms - options_.retention_ms;
  if (conditions_.oldest_finished_ms >= before)
    return;
  // One step after the other, and only when the one before is applied: a backlog of any size is no flood.
  if (retire_proposed_ms_ && now_ms - *retire_proposed_ms_ < options_.proposal_timeout_ms)
    return;
  retire_proposed_ms_ = now_ms;
  out.emplace_back(retire_tasks{before, limits::retired_tasks});
}

bool fleet::waits_for_time(std::int64_t now_ms) const {
  if (conditions_.has_timed_rows)
    return true;
  if (options_.retention_ms <= 0 || conditions_.oldest_finished_ms == 0)
    return false;
  // An estimate is enough to ask for the time, which the next entry then carries.
  const auto estimate = conditions_.applied_time_ms + (now_ms - conditions_heard_ms_);
  return conditions_.oldest_finished_ms + options_.retention_ms < estimate;
}

void fleet::watch_storage(std::int64_t now_ms, std::vector<command_body>& out) {
  if (options_.quota_bytes == 0) {
    over_quota_ = false;
  } else if (used_bytes_) {
    // Once over it, a tenth has to be free before new tasks come in: an alarm that comes and goes helps nobody. The
    // leader before may have judged another disk, so a new one begins with the quota itself.
    const auto least = over_quota_.value_or(false) ? options_.quota_bytes / 10 * 9 : options_.quota_bytes;
    over_quota_ = over_quota_.value_or(false) ? *used_bytes_ >= least : *used_bytes_ > least;
  }
  if (!over_quota_ || *over_quota_ == conditions_.storage_full) {
    alarm_proposed_ms_.reset();
    return;
  }
  if (alarm_proposed_ms_ && now_ms - *alarm_proposed_ms_ < options_.proposal_timeout_ms)
    return;
  alarm_proposed_ms_ = now_ms;
  out.emplace_back(set_storage_alarm{*over_quota_});
}

void fleet::report(std::int64_t now_ms, std::int64_t wall_ms, std::vector<command_body>& out) {
  if (now_ms - last_report_ms_ < options_.figures_interval_ms)
    return;
  report_figures figures;
  for (auto& [id, w] : workers_) {
    if (w.reported)
      continue;
    w.reported = true;
    w.figures.worker_id = id;
    w.figures.last_heartbeat_ms = wall_ms - (now_ms - w.last_beat_ms);
    figures.workers.push_back(w.figures);
  }
  if (figures.workers.empty())
    return;
  last_report_ms_ = now_ms;
  out.emplace_back(std::move(figures));
}

}  // namespace coordinator
