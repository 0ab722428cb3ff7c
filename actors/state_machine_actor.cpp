#include "actors/state_machine_actor.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <utility>

#include "actors/invariant.hpp"

namespace coordinator {
namespace {

using self_pointer = state_machine_actor::stateful_pointer<state_machine_state>;

// A write begins this long after the first change, or with this many rows; the disk then has the rest of the 500 ms
// that state.db may lag behind.
constexpr milliseconds write_behind{300};
constexpr std::size_t write_rows = 5'000;
// Reads that wait for their index; past it the oldest go without an answer.
constexpr std::size_t most_queries = 10'000;

// -- writing behind ---------------------------------------------------------------------

void write_now(self_pointer self) {
  auto& state = self->state;
  if (state.writing || !state.write_error.empty() || state.core->last_applied() == state.written)
    return;
  state.writing = true;
  state.writing_to = state.core->last_applied();
  state.writing_term = state.core->last_applied_term();
  auto dirty = state.core->take_dirty();
  if (state.core->defects().has(defect::applied_index_apart_from_data)) {
    auto rows = std::exchange(dirty.rows, {});
    self->send(state.writer, write_state{dirty, 0});
    dirty.rows = std::move(rows);
  }
  self->send(state.writer, write_state{std::move(dirty), 0});
}

void write_soon(self_pointer self) {
  auto& state = self->state;
  if (!state.flushes.empty() || state.core->dirty_count() >= write_rows)
    write_now(self);
  if (state.flush_armed || !state.write_error.empty() || state.core->last_applied() == state.written)
    return;
  state.flush_armed = true;
  self->delayed_send(self, write_behind, flush_tick{});
}

/// Answers those whose index state.db holds now, or nobody will ever write.
void answer_flushes(self_pointer self) {
  auto& state = self->state;
  auto rest = std::exchange(state.flushes, {});
  for (auto& waiter : rest) {
    if (waiter.need <= state.written)
      waiter.what.done(state.written, state.written_term, {});
    else if (!state.write_error.empty())
      waiter.what.done(state.written, state.written_term, state.write_error);
    else
      state.flushes.push_back(std::move(waiter));
  }
}

void on_written(self_pointer self, const state_written& x) {
  auto& state = self->state;
  if (!state.writing)
    return;
  state.writing = false;
  if (x.error.empty()) {
    state.written = state.writing_to;
    state.written_term = state.writing_term;
  } else if (state.write_error.empty()) {
    state.write_error = x.error;
    self->send(state.keeper, disk_failed{x.error});
  }
  answer_flushes(self);
  write_soon(self);
}

void on_flush(self_pointer self, flush_state x) {
  auto& state = self->state;
  state.flushes.push_back({state.core->last_applied(), std::move(x)});
  answer_flushes(self);
  write_soon(self);
}

// -- claims that wait -----------------------------------------------------------------------

void wake_claims(self_pointer self) {
  auto& claims = self->state.claims;
  if (claims.waiting.empty())
    return;
  for (auto i : self->state.core->pick_claimants(claims.waiting)) {
    claims.waiting[i].promised = true;
    self->send(self->state.wiring.gateway, coordinator::work_ready{claims.requests[i]});
  }
}

void on_await(self_pointer self, const await_work& x) {
  auto& claims = self->state.claims;
  auto known = std::find(claims.requests.begin(), claims.requests.end(), x.request);
  if (known != claims.requests.end()) {
    claims.waiting.erase(claims.waiting.begin() + (known - claims.requests.begin()));
    claims.requests.erase(known);
  }
  if (!x.cancelled) {
    claims.waiting.push_back({x.worker_id, x.max_tasks, false});
    claims.requests.push_back(x.request);
  }
  // Either this one finds work, or what was kept back for it is free for another.
  wake_claims(self);
}

// -- reading -----------------------------------------------------------------------------------

void answer_queries(self_pointer self) {
  auto& state = self->state;
  query_answers answers;
  const auto end = state.queries.upper_bound(state.core->last_applied());
  for (auto i = state.queries.begin(); i != end; ++i)
    answers.answers.push_back({i->second.request, state.core->last_applied(), state.core->answer(i->second.what)});
  state.queries.erase(state.queries.begin(), end);
  if (!answers.answers.empty())
    self->send(state.wiring.gateway, std::move(answers));
}

void on_queries(self_pointer self, run_queries& x) {
  auto& queries = self->state.queries;
  for (auto& each : x.queries)
    queries.emplace(each.min_index, query_in_line{each.request, std::move(each.what)});
  answer_queries(self);
  // Where applying hangs, those that came first have been told that their time is up.
  while (queries.size() > most_queries)
    queries.erase(queries.begin());
}

// -- applying ----------------------------------------------------------------------------------

applied_batch begin_batch(const state_machine& core) {
  applied_batch batch;
  batch.last_applied = core.last_applied();
  batch.last_applied_term = core.last_applied_term();
  batch.maintenance = core.maintenance();
  batch.storage_full = core.storage_full();
  return batch;
}

void note(self_pointer self, apply_outcome& x, term_number term, std::vector<applied_command>& out) {
  auto& own = self->state.own_sessions;
  if (x.opened) {
    if (x.opened->node != self->state.self_id)
      return;
    if (x.result.ok())
      own.insert(x.result.version);
    out.push_back({0, x.opened->boot_id, x.index, term, std::move(x.result)});
  } else if (own.contains(x.session)) {
    out.push_back({x.session, x.sequence, x.index, term, std::move(x.result)});
  }
}

void on_committed(self_pointer self, const committed& x) {
  auto& state = self->state;
  auto& core = *state.core;
  std::vector<applied_command> applied;
  fleet_events events;
  bool work_available = false;
  const auto before = core.last_applied();
  for (auto& entry : x.entries) {
    if (entry.index <= core.last_applied())
      continue;
    // A gap would make this node's state differ from all others' (rule 4).
    COORDINATOR_INVARIANT(entry.index == core.last_applied() + 1);
    auto outcome = core.apply(entry);
    work_available |= outcome.events.work_available;
    std::move(outcome.events.fleet.begin(), outcome.events.fleet.end(), std::back_inserter(events.events));
    note(self, outcome, entry.term, applied);
  }
  if (core.last_applied() == before)
    return;
  auto batch = begin_batch(core);
  batch.commands = std::move(applied);
  self->send(state.wiring.gateway, std::move(batch));
  events.last_applied = core.last_applied();
  events.conditions = core.conditions();
  if (!events.events.empty() || events.conditions.differ_from(state.told_fleet)) {
    state.told_fleet = events.conditions;
    self->send(state.wiring.fleet, std::move(events));
  }
  answer_queries(self);
  if (work_available)
    wake_claims(self);
  write_soon(self);
}

}  // namespace

std::unique_ptr<state_machine> load_state_machine(state_store& store, const defect_set& defects) {
  auto core = std::make_unique<state_machine>(defects);
  store.load([&](const row_view& row) {
    if (!core->load_row(row.kind, row.id, row.body))
      throw damaged_error(SQLITE_CORRUPT, "state.db: the row " + std::to_string(row.kind) + ":" + std::string{row.id} +
                                              " does not fit to those before it");
  });
  if (!core->finish_loading(store.meta()))
    throw damaged_error(SQLITE_CORRUPT, "state.db: its rows do not fit together");
  return core;
}

state_machine_actor::behavior_type state_machine_behavior(self_pointer self, state_machine_deps deps) {
  auto& state = self->state;
  state.core = std::move(deps.core);
  state.self_id = deps.self_id;
  state.keeper = deps.keeper;
  state.writer = deps.writer;
  state.written = state.core->last_applied();
  state.written_term = state.core->last_applied_term();
  state.told_fleet = state.core->conditions();
  return {
      [=](state_machine_wiring& wiring) {
        self->state.wiring = std::move(wiring);
        self->send(self->state.wiring.gateway, begin_batch(*self->state.core));
      },
      [=](const committed& x) { on_committed(self, x); },
      [=](run_queries& x) { on_queries(self, x); },
      [=](const await_work& x) { on_await(self, x); },
      [=](get_fleet_snapshot) {
        auto& core = *self->state.core;
        self->send(self->state.wiring.fleet,
                   fleet_snapshot{core.last_applied(), core.view_for_fleet(), core.conditions()});
      },
      [=](flush_state& x) { on_flush(self, std::move(x)); },
      [=](const state_written& x) { on_written(self, x); },
      [=](install_state&) {},
      [=](const state_unusable&) {},
      [=](flush_tick) {
        self->state.flush_armed = false;
        write_now(self);
        write_soon(self);
      },
  };
}

}  // namespace coordinator
