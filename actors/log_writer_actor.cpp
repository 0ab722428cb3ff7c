#include "actors/log_writer_actor.hpp"

#include <spdlog/spdlog.h>

#include <utility>

#include "actors/store_attempt.hpp"
#include "persistence/recover.hpp"

namespace coordinator {
namespace {

using self_pointer = log_writer_actor::stateful_pointer<log_writer_state>;
using asker = caf::typed_actor<caf::reacts_to<log_written>, caf::reacts_to<log_loaded>>;

// How often the fleet hears what the file holds.
constexpr milliseconds measure_interval{1'000};

void mend_later(self_pointer self) {
  self->delayed_send(self, self->state.deps.retry_interval, log_writer_tick{});
}

/// Closes the store: what it would still do to the file may rest on pages that the kernel has dropped.
void give_up(self_pointer self, std::string error, int code, bool hopeless) {
  auto& state = self->state;
  state.deps.store.reset();
  state.error = std::move(error);
  state.error_code = code;
  if (std::exchange(state.hopeless, state.hopeless || hopeless))
    return;
  if (hopeless)
    spdlog::critical("{}: this node has lost its disk and takes no part until its owner restores it", state.error);
  else
    mend_later(self);
}

/// Runs `what` on the store. Gives why it failed, or nothing.
template <class F>
std::string attempt(self_pointer self, F what) {
  auto& state = self->state;
  try {
    return attempt_on(state.deps.store, state.error, what,
                      [&](const std::string& why, int code, bool damaged) { give_up(self, why, code, damaged); });
  } catch (const std::exception& e) {
    // Nothing was changed: the keeper contradicts its own log, and is to begin anew from what the file holds.
    give_up(self, e.what(), 0, false);
  }
  return state.error;
}

void measure(self_pointer self) {
  auto& state = self->state;
  const auto now = state.deps.clock.steady();
  if (!state.fleet || now < state.measure_at)
    return;
  state.measure_at = now + measure_interval;
  std::uint64_t bytes = 0;
  if (attempt(self, [&](raft_store& store) { bytes = store.size_bytes(); }).empty())
    self->send(state.fleet, storage_use{bytes, storage_use::part::log});
}

void on_write(self_pointer self, const write_log& x) {
  auto& state = self->state;
  log_written done{x.write.number, {}, {}, x.life};
  if (x.life != state.life)
    done.error = "it was meant for what raft.db held before it was mended";
  else
    done.error = attempt(self, [&](raft_store& store) {
      const auto began = observer::steady::now();
      store.write(x.write);
      if (state.deps.watcher)
        state.deps.watcher->synced(observer::steady::now() - began);
      done.first_index = store.first_index();
    });
  if (!done.error.empty() && state.deps.watcher)
    state.deps.watcher->disk_failed();
  if (auto to = caf::actor_cast<asker>(self->current_sender()))
    self->send(to, std::move(done));
  measure(self);
}

void on_load(self_pointer self, const load_log& x) {
  log_loaded done;
  done.request = x.request;
  done.error = attempt(self, [&](raft_store& store) { done.entries = store.read_entries(x.from, x.to, x.max_bytes); });
  if (auto to = caf::actor_cast<asker>(self->current_sender()))
    self->send(to, std::move(done));
}

void on_tick(self_pointer self) {
  auto& state = self->state;
  if (state.deps.store || state.hopeless || !state.deps.files)
    return;
  try {
    state.deps.store = recover_raft(*state.deps.files, state.deps.node, state.deps.options, state.error_code);
  } catch (const damaged_error& e) {
    return give_up(self, e.what(), e.code(), true);
  } catch (const database_error& e) {
    return mend_later(self);
  }
  state.error.clear();
  spdlog::info("raft.db can be written again");
  if (state.deps.watcher)
    state.deps.watcher->recovered(
        {"resource_exhaustion", state.deps.node.value, "done", "raft.db can be written again"});
  self->send(state.deps.keeper,
             log_recovered{std::make_shared<raft_contents>(state.deps.store->take_contents()), ++state.life});
}

}  // namespace

log_writer_actor::behavior_type log_writer_behavior(self_pointer self, log_writer_deps deps) {
  auto& state = self->state;
  state.deps = std::move(deps);
  // What is mended is a file that was there.
  state.deps.options.create = false;
  if (!state.deps.store) {
    state.error = "this node has no disk to write to";
    state.hopeless = true;
  }
  return {
      [=](writer_wiring& wiring) {
        self->state.fleet = std::move(wiring.fleet);
        measure(self);
      },
      [=](const write_log& x) { on_write(self, x); },
      [=](const load_log& x) { on_load(self, x); },
      [=](const log_damaged& x) {
        give_up(self, x.what, 0, true);
        self->send(self->state.deps.keeper, log_written{0, x.what, {}, self->state.life});
      },
      [=](log_writer_tick) { on_tick(self); },
  };
}

}  // namespace coordinator
