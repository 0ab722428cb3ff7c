#include <algorithm>

#include "actors/work_table.hpp"

namespace coordinator {

namespace {

command_result no_such_worker() {
  command_result result;
  result.code = result_code::not_found;
  result.detail = "no such worker: it must register first";
  return result;
}

}  // namespace

work_table::worker* work_table::find_worker(const std::string& id) {
  auto found = workers_.find(id);
  return found == workers_.end() ? nullptr : &found->second;
}

void work_table::touch(worker& w) {
  if (!w.touched) {
    w.touched = true;
    touched_workers_.push_back(w.id);
  }
}

void work_table::announce(const worker& w, worker_change change, context c) const {
  c.events.fleet.push_back(worker_event{{w.id, w.said, w.draining, w.offline}, change});
  // Its waiting claim may now get something, or be refused.
  c.events.work_available = true;
}

worker_status work_table::status_of(const worker& w) const {
  if (w.offline)
    return worker_status::offline;
  if (w.draining)
    return worker_status::draining;
  if (w.said == worker_status::busy)
    return worker_status::busy;
  // What it holds shows without a word of its own, which saves an entry at each start and end of a task.
  return w.active.empty() ? w.said : worker_status::running;
}

command_result work_table::apply(const register_worker& x, context c) {
  auto& w = workers_[x.worker_id];
  w.id = x.worker_id;
  w.host = x.host;
  w.port = x.port;
  w.capabilities = x.capabilities;
  w.capabilities_json = x.capabilities_json;
  w.slots = x.slots;
  w.draining = x.status == worker_status::draining;
  w.said = w.draining ? worker_status::idle : x.status;
  w.offline = false;
  w.registered_ms = c.now_ms;
  w.last_heartbeat_ms = c.now_ms;
  w.registration = c.index;
  touch(w);
  announce(w, worker_change::registered, c);
  command_result result;
  result.version = c.index;
  return result;
}

command_result work_table::apply(const set_worker_status& x, context c) {
  auto w = find_worker(x.worker_id);
  if (!w)
    return no_such_worker();
  w->offline = false;
  w->current_task = x.current_task;
  w->last_heartbeat_ms = c.now_ms;
  if (x.status == worker_status::draining)
    w->draining = true;
  else
    w->said = x.status;
  touch(*w);
  announce(*w, worker_change::changed, c);
  return {};
}

command_result work_table::apply(const drain_worker& x, context c) {
  auto w = find_worker(x.worker_id);
  if (!w)
    return no_such_worker();
  w->draining = true;
  touch(*w);
  announce(*w, worker_change::changed, c);
  return {};
}

command_result work_table::apply(const remove_worker& x, context c) {
  auto w = find_worker(x.worker_id);
  if (!w)
    return no_such_worker();
  take_back(*w, "its worker was removed", c);
  announce(*w, worker_change::removed, c);
  rows_.erase(row_kind::worker, w->id, w->hash);
  workers_.erase(x.worker_id);
  return {};
}

command_result work_table::apply(const mark_offline& x, context c) {
  for (auto& id : x.workers) {
    auto w = find_worker(id);
    if (!w || w->offline)
      continue;
    take_back(*w, "its worker fell silent", c);
    w->offline = true;
    w->current_task.clear();
    touch(*w);
    announce(*w, worker_change::changed, c);
  }
  return {};
}

command_result work_table::apply(const report_figures& x, context) {
  for (auto& each : x.workers) {
    auto w = find_worker(each.worker_id);
    if (!w)
      continue;
    w->last_heartbeat_ms = std::max(w->last_heartbeat_ms, each.last_heartbeat_ms);
    w->cpu_usage = each.cpu_usage;
    w->memory_usage = each.memory_usage;
    w->gpu_usage = each.gpu_usage;
    w->current_task = each.current_task;
    touch(*w);
  }
  return {};
}

}  // namespace coordinator
