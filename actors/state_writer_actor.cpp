#include "actors/state_writer_actor.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "actors/state_machine.hpp"
#include "actors/store_attempt.hpp"
#include "persistence/recover.hpp"

namespace coordinator {
namespace {

using self_pointer = state_writer_actor::stateful_pointer<state_writer_state>;
using asker = caf::typed_actor<caf::reacts_to<state_written>>;

// How often the fleet hears what the file holds.
constexpr milliseconds measure_interval{1'000};

void tell_checkpointed(self_pointer self) {
  auto& state = self->state;
  const auto index = state.deps.store->checkpointed();
  if (index <= state.told_checkpointed)
    return;
  state.told_checkpointed = index;
  self->send(state.deps.keeper, state_checkpointed{state.deps.file, index});
}

// -- failures ---------------------------------------------------------------------------------

void mend_later(self_pointer self) {
  if (!std::exchange(self->state.mend_armed, true))
    self->delayed_send(self, self->state.deps.retry_interval, state_writer_tick{true});
}

/// The store ends here: after a failure nothing can be written through it, and perhaps nothing may be synced.
void give_up(self_pointer self, const std::string& error, int code) {
  auto& state = self->state;
  if (!state.deps.store)
    return;
  state.held = state.deps.store->meta();
  state.deps.store.reset();
  state.error = error;
  state.error_code = code;
  spdlog::error("{} cannot be written: {}", state.deps.file, error);
  mend_later(self);
}

/// No attempt to open it again is of use: only another state is.
void give_up_for_good(self_pointer self, const std::string& error) {
  auto& state = self->state;
  state.error = error;
  state.damaged = true;
  self->send(state.deps.keeper, state_damaged{error});
}

/// Runs `what` on the store. Gives why it failed, or nothing.
template <class F>
std::string attempt(self_pointer self, F what) {
  auto& state = self->state;
  return attempt_on(state.deps.store, state.error, what, [&](const std::string& why, int code, bool damaged) {
    give_up(self, why, code);
    if (damaged)
      give_up_for_good(self, why);
  });
}

void remove_file(node_files& files, const std::string& name) {
  try {
    for (auto suffix : {"", "-wal", "-shm", "-journal"})
      files.remove(name + suffix);
    files.sync();
  } catch (const database_error& e) {
    // The next start removes what nothing names.
    spdlog::warn("{} cannot be removed: {}", name, e.what());
  }
}

// -- writing ------------------------------------------------------------------------------------

void measure(self_pointer self) {
  auto& state = self->state;
  const auto now = state.deps.clock.steady();
  if (!state.fleet || now < state.measure_at)
    return;
  state.measure_at = now + measure_interval;
  std::uint64_t bytes = 0;
  if (attempt(self, [&](state_store& store) { bytes = store.size_bytes(); }).empty())
    self->send(state.fleet, storage_use{bytes, storage_use::part::state});
}

void answer(self_pointer self, const caf::strong_actor_ptr& to, const write_state& x, std::string error) {
  if (auto typed = caf::actor_cast<asker>(to))
    self->send(typed, state_written{x.write.last_applied, std::move(error), x.generation});
}

void on_write(self_pointer self, write_state& x) {
  auto from = self->current_sender();
  auto error = attempt(self, [&](state_store& store) {
    store.write(x.write);
    tell_checkpointed(self);
  });
  answer(self, from, x, error);
  if (!error.empty())
    self->state.failed = {std::move(x), std::move(from)};
  measure(self);
}

/// The write that had failed, on the file that was opened again.
void write_again(self_pointer self) {
  auto& state = self->state;
  if (!state.failed)
    return;
  if (attempt(self, [&](state_store& store) { store.write(state.failed->what.write); }).empty()) {
    auto made = std::exchange(state.failed, std::nullopt);
    answer(self, made->from, made->what, {});
  }
}

void mend(self_pointer self) {
  auto& state = self->state;
  auto& deps = state.deps;
  state.mend_armed = false;
  if (deps.store || state.damaged || !state.held || !deps.files)
    return;
  auto file = deps.file;
  std::unique_ptr<state_store> store;
  try {
    store = recover_state(*deps.files, file, deps.node, deps.incarnation, deps.options, state.error_code);
  } catch (const damaged_error& e) {
    return give_up_for_good(self, e.what());
  } catch (const database_error& e) {
    state.error = e.what();
    return mend_later(self);
  }
  // The rows of a write that was said to be made exist nowhere else any more, and the write that failed may have been
  // made all the same.
  const auto& found = store->meta();
  const bool has_all =
      found == *state.held || (state.failed && found.last_applied == state.failed->what.write.last_applied &&
                               found.checksum == state.failed->what.write.checksum);
  if (!has_all)
    return give_up_for_good(self, deps.file + " lost what had been written to it");
  deps.store = std::move(store);
  state.held.reset();
  state.error.clear();
  spdlog::info("{} can be written again{}", deps.file, file == deps.file ? "" : ", as " + file);
  if (file != deps.file) {
    state.told_checkpointed = {};
    state.former.push_back(deps.file);
    if (deps.present_file)
      deps.present_file->replace(deps.file, file);
    self->send(deps.keeper, state_file_moved{file, std::exchange(deps.file, file)});
  }
  tell_checkpointed(self);
  write_again(self);
}

void on_checkpoint(self_pointer self) {
  attempt(self, [&](state_store& store) {
    store.checkpoint();
    tell_checkpointed(self);
  });
}

void on_noted(self_pointer self, const state_file_noted& x) {
  auto& state = self->state;
  auto named = std::find(state.former.begin(), state.former.end(), x.file);
  if (named == state.former.end() && x.file != state.deps.file)
    return;
  for (auto i = state.former.begin(); i != named; ++i)
    remove_file(*state.deps.files, *i);
  state.former.erase(state.former.begin(), named);
}

// -- copies -------------------------------------------------------------------------------------

std::string new_name(self_pointer self) {
  char nonce[17];
  std::snprintf(nonce, sizeof nonce, "%016llx", static_cast<unsigned long long>(self->state.random()));
  return "snapshot-" + std::to_string(self->state.deps.store->meta().last_applied.value) + "-" + nonce + ".db";
}

void end_copy(self_pointer self, state_copied result) {
  auto& state = self->state;
  state.copy.reset();
  auto asked = std::move(state.copies.front());
  state.copies.pop_front();
  asked.done(std::move(result));
}

void fail_copies(self_pointer self, const std::string& error) {
  while (!self->state.copies.empty())
    end_copy(self, {{}, {}, {}, 0, 0, 0, error});
}

/// By a message to itself: writes that have come in meanwhile go first.
void copy_soon(self_pointer self) {
  if (!self->state.copies.empty() && !std::exchange(self->state.copy_armed, true))
    self->send(self, state_writer_tick{});
}

void copy_some(self_pointer self) {
  auto& state = self->state;
  state.copy_armed = false;
  if (state.copies.empty())
    return;
  if (!state.deps.store)
    return fail_copies(self, state.error);
  try {
    if (!state.copy) {
      state.copy_file = new_name(self);
      state.copy = state.deps.store->begin_copy(state.deps.files->path(state.copy_file));
    }
    if (state.copy->step(state.deps.copy_pages)) {
      const auto meta = state.copy->meta();
      end_copy(self, {state.copy_file,
                      meta.last_applied,
                      meta.last_applied_term,
                      meta.applied_time_ms,
                      meta.checksum,
                      state.copy->bytes(),
                      {}});
    }
  } catch (const database_error& e) {
    end_copy(self, {{}, {}, {}, 0, 0, 0, e.what()});
  }
  copy_soon(self);
}

void on_copy(self_pointer self, copy_state& x) {
  self->state.copies.push_back(std::move(x));
  copy_soon(self);
}

// -- another state ----------------------------------------------------------------------------------

void on_swap(self_pointer self, const swap_state& x) {
  auto& state = self->state;
  auto& deps = state.deps;
  if (state.copy)
    end_copy(self, {{}, {}, {}, 0, 0, 0, "the state was replaced meanwhile"});
  deps.store = std::move(x.state->store);
  // What was there before, which the state machine put into its place.
  x.state->machine.reset();
  state.error.clear();
  state.damaged = false;
  state.held.reset();
  state.failed.reset();
  const auto before = std::exchange(deps.file, x.state->file);
  if (deps.present_file)
    deps.present_file->set(deps.file);
  try {
    if (!x.set_aside.empty()) {
      auto name =
          set_aside(*deps.files, before, std::chrono::system_clock::time_point{milliseconds{deps.clock.wall_ms()}});
      spdlog::error("{} was replaced and is kept as {}: {}", before, name, x.set_aside);
    } else {
      remove_file(*deps.files, before);
    }
  } catch (const database_error& e) {
    spdlog::warn("{} cannot be set aside: {}", before, e.what());
  }
  for (auto& name : std::exchange(state.former, {}))
    remove_file(*deps.files, name);
  state.told_checkpointed = {};
  tell_checkpointed(self);
  measure(self);
}

}  // namespace

state_writer_actor::behavior_type state_writer_behavior(self_pointer self, state_writer_deps deps) {
  auto& state = self->state;
  state.deps = std::move(deps);
  state.random.seed(state.deps.seed);
  if (!state.deps.store)
    state.error = "this node has no disk to write to";
  return {
      [=](writer_wiring& wiring) {
        self->state.fleet = std::move(wiring.fleet);
        measure(self);
      },
      [=](write_state& x) { on_write(self, x); },
      [=](const swap_state& x) { on_swap(self, x); },
      [=](checkpoint_state) { on_checkpoint(self); },
      [=](const state_file_noted& x) { on_noted(self, x); },
      [=](copy_state& x) { on_copy(self, x); },
      [=](const state_writer_tick& x) {
        if (x.mend)
          mend(self);
        else
          copy_some(self);
      },
  };
}

}  // namespace coordinator
