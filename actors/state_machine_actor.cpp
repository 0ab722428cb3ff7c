#include "actors/state_machine_actor.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <utility>

#include "actors/invariant.hpp"
#include "actors/recovery_note.hpp"

namespace coordinator {
namespace {

using self_pointer = state_machine_actor::stateful_pointer<state_machine_state>;

// A write begins this long after the first change, or with this many rows; the disk then has the rest of the 500 ms
// that state.db may lag behind.
constexpr milliseconds write_behind{300};
constexpr std::size_t write_rows = 5'000;
// Reads that wait for their index; past it the oldest go without an answer.
constexpr std::size_t most_queries = 10'000;
// Nodes compare their states at these indexes, and where applying has rested for this long: less than the second after
// which a cluster that nobody uses, but that keeps idempotency keys, writes its next entry.
constexpr std::uint64_t digest_entries = 1'000;
constexpr milliseconds digest_rest{400};

// -- writing behind ---------------------------------------------------------------------

void write_now(self_pointer self) {
  auto& state = self->state;
  if (state.writing || !state.unusable.empty() || state.core->last_applied() == state.written)
    return;
  state.writing = true;
  state.writing_to = state.core->last_applied();
  state.writing_term = state.core->last_applied_term();
  auto dirty = state.core->take_dirty();
  if (state.core->defects().has(defect::applied_index_apart_from_data)) {
    auto rows = std::exchange(dirty.rows, {});
    self->send(state.writer, write_state{dirty, state.generation});
    dirty.rows = std::move(rows);
  }
  self->send(state.writer, write_state{std::move(dirty), state.generation});
}

void write_soon(self_pointer self) {
  auto& state = self->state;
  if (!state.flushes.empty() || state.core->dirty_count() >= write_rows)
    write_now(self);
  const bool wanted =
      state.unusable.empty() && state.write_error.empty() && state.core->last_applied() != state.written;
  if (state.flush_armed || !wanted)
    return;
  state.flush_armed = true;
  self->delayed_send(self, write_behind, flush_tick{});
}

/// Answers those whose index the file holds now, or for which it cannot be written.
void answer_flushes(self_pointer self) {
  auto& state = self->state;
  const auto& error = state.unusable.empty() ? state.write_error : state.unusable;
  auto rest = std::exchange(state.flushes, {});
  for (auto& waiter : rest) {
    if (state.unusable.empty() && waiter.need <= state.written)
      waiter.what.done(state.written, state.written_term, {});
    else if (!error.empty())
      waiter.what.done(state.written, state.written_term, error);
    else
      state.flushes.push_back(std::move(waiter));
  }
}

void disk_works(self_pointer self) {
  if (!std::exchange(self->state.write_error, {}).empty())
    self->send(self->state.keeper, disk_recovered{});
}

void on_written(self_pointer self, const state_written& x) {
  auto& state = self->state;
  if (!state.writing || x.generation != state.generation)
    return;
  if (x.error.empty()) {
    state.writing = false;
    state.written = state.writing_to;
    state.written_term = state.writing_term;
    disk_works(self);
  } else if (state.write_error.empty() && state.unusable.empty()) {
    // The writer keeps what it could not write, mends the file and says so.
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
  if (claims.waiting.empty() || !self->state.unusable.empty())
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
  const bool usable = state.unusable.empty();
  const auto end = usable ? state.queries.upper_bound(state.core->last_applied()) : state.queries.end();
  for (auto i = state.queries.begin(); i != end; ++i)
    answers.answers.push_back(
        {i->second.request, state.core->last_applied(),
         usable ? state.core->answer(i->second.what) : query_error{query_error::kind::unusable, state.unusable, {}}});
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

fleet_snapshot view_for_fleet(const state_machine& core) {
  return {core.last_applied(), core.view_for_fleet(), core.conditions()};
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

void tell_digest(self_pointer self) {
  auto& state = self->state;
  if (state.digested == state.core->last_applied())
    return;
  state.digested = state.core->last_applied();
  self->send(state.keeper, own_digest{state.digested, state.core->checksum()});
}

/// One timer at a time, begun anew as long as something was applied while it ran.
void arm_digest(self_pointer self) {
  auto& state = self->state;
  if (state.digest_armed || state.digested == state.core->last_applied())
    return;
  state.digest_armed = true;
  self->delayed_send(self, digest_rest, digest_tick{state.core->last_applied()});
}

void on_digest_tick(self_pointer self, const digest_tick& x) {
  auto& state = self->state;
  state.digest_armed = false;
  if (!state.unusable.empty())
    return;
  if (x.applied == state.core->last_applied())
    tell_digest(self);
  else
    arm_digest(self);
}

void on_committed(self_pointer self, const committed& x) {
  auto& state = self->state;
  // What would be applied to a state that is not the cluster's would be answered to clients.
  if (!state.unusable.empty())
    return;
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
    if (state.watcher) {
      state.watcher->applied(entry.index, x.commit_index, outcome.events);
      if (auto told = outcome.applied && outcome.result.ok() ? recovery_told_by(entry) : std::nullopt)
        state.watcher->recovered(std::move(*told));
    }
    std::move(outcome.events.fleet.begin(), outcome.events.fleet.end(), std::back_inserter(events.events));
    note(self, outcome, entry.term, applied);
    if (entry.index.value % digest_entries == 0)
      tell_digest(self);
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
  arm_digest(self);
}

// -- another state ------------------------------------------------------------------------------

void on_install(self_pointer self, const install_state& x) {
  auto& state = self->state;
  // The one before goes on to the writer, whose thread may take the time that it takes to free it.
  std::swap(state.core, x.state->machine);
  // A write of the state before is of no more use, and a file that is whole needs none.
  ++state.generation;
  state.writing = false;
  state.written = state.core->last_applied();
  state.written_term = state.core->last_applied_term();
  state.unusable.clear();
  state.told_fleet = state.core->conditions();
  if (state.present_file)
    state.present_file->set(x.state->file);
  self->send(state.writer, swap_state{x.state, x.set_aside});
  // Own sessions stay: the gateway asks again under the one it has, which is in the new state, too, or refused there.
  self->send(state.wiring.gateway, state_replaced{state.core->last_applied(), state.core->last_applied_term(),
                                                  state.core->maintenance(), state.core->storage_full()});
  self->send(state.wiring.fleet, view_for_fleet(*state.core));
  if (state.watcher)
    state.watcher->recovered({x.set_aside.empty() ? "slow_follower" : "state_divergence", state.self_id.value, "done",
                              x.set_aside.empty() ? "a snapshot was installed" : x.set_aside});
  disk_works(self);
  answer_flushes(self);
  answer_queries(self);
  wake_claims(self);
  arm_digest(self);
}

void on_unusable(self_pointer self, const state_unusable& x) {
  auto& state = self->state;
  state.unusable = x.why.empty() ? "it is to be replaced" : x.why;
  // A file that is damaged cannot be written either; that is no reason to take no other one.
  disk_works(self);
  answer_flushes(self);
  answer_queries(self);
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
  state.present_file = std::move(deps.present_file);
  state.unusable = std::move(deps.unusable);
  state.watcher = std::move(deps.watcher);
  state.written = state.core->last_applied();
  state.written_term = state.core->last_applied_term();
  state.told_fleet = state.core->conditions();
  return {
      [=](state_machine_wiring& wiring) {
        self->state.wiring = std::move(wiring);
        self->send(self->state.wiring.gateway, begin_batch(*self->state.core));
        arm_digest(self);
      },
      [=](const committed& x) { on_committed(self, x); },
      [=](run_queries& x) { on_queries(self, x); },
      [=](const await_work& x) { on_await(self, x); },
      [=](get_fleet_snapshot) { self->send(self->state.wiring.fleet, view_for_fleet(*self->state.core)); },
      [=](flush_state& x) { on_flush(self, std::move(x)); },
      [=](const state_written& x) { on_written(self, x); },
      [=](const install_state& x) { on_install(self, x); },
      [=](const state_unusable& x) { on_unusable(self, x); },
      [=](flush_tick) {
        self->state.flush_armed = false;
        write_now(self);
        write_soon(self);
      },
      [=](const digest_tick& x) { on_digest_tick(self, x); },
  };
}

}  // namespace coordinator
