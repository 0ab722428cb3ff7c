#include "actors/snapshot_actor.hpp"

#include <spdlog/spdlog.h>
#include <sqlite3.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <utility>

#include "actors/state_machine.hpp"
#include "persistence/checksum.hpp"
#include "persistence/verify.hpp"

namespace coordinator {
namespace {

using self_pointer = snapshot_actor::stateful_pointer<snapshot_state>;
using asker = caf::typed_actor<caf::reacts_to<snapshot_read>, caf::reacts_to<snapshot_checked>,
                               caf::reacts_to<snapshot_stored>, caf::reacts_to<snapshot_loaded>>;

template <class T>
void answer(self_pointer self, T x) {
  if (auto to = caf::actor_cast<asker>(self->current_sender()))
    self->send(to, std::move(x));
}

void remove_file(self_pointer self, const std::string& name) {
  auto& files = *self->state.deps.files;
  try {
    for (auto suffix : {"", "-wal", "-shm", "-journal"})
      files.remove(name + suffix);
    files.sync();
  } catch (const database_error& e) {
    // The next start removes what nothing names.
    spdlog::warn("{} cannot be removed: {}", name, e.what());
  }
}

// -- what a peer fetches ------------------------------------------------------------------------

void on_read(self_pointer self, const read_snapshot& x) {
  auto& state = self->state;
  snapshot_read done;
  done.request = x.request;
  try {
    if (!state.reader || state.reading != x.file) {
      state.reader.reset();
      state.reader = snapshot_file::open(state.deps.files->path(x.file), state.deps.files->vfs());
      state.reading = x.file;
    }
    done.data = state.reader->read(x.offset, x.bytes);
    done.crc = crc32c(done.data);
  } catch (const database_error& e) {
    state.reader.reset();
    done.data.clear();
    done.error = e.what();
  }
  answer(self, std::move(done));
}

void on_check(self_pointer self, const check_snapshot& x) {
  auto& state = self->state;
  const auto path = state.deps.files->path(x.file);
  const auto& vfs = state.deps.files->vfs();
  snapshot_checked done{x.file, {}, {}};
  try {
    if (auto problem = quick_check(path, vfs, std::atomic<bool>{false}))
      done.damage = *problem;
    else
      state_reader{path, vfs}.read(
          std::chrono::steady_clock::time_point::max(), [](const state_meta&) {}, [](const row_view&) {});
  } catch (const damaged_error& e) {
    done.damage = e.what();
  } catch (const refused_error& e) {
    done.damage = e.what();
  } catch (const database_error& e) {
    done.error = e.what();
  }
  answer(self, std::move(done));
}

void on_remove(self_pointer self, const remove_snapshot& x) {
  auto& state = self->state;
  if (state.reading == x.file)
    state.reader.reset();
  remove_file(self, x.file);
}

// -- what comes from a peer -----------------------------------------------------------------------

void drop_coming(self_pointer self) {
  auto& coming = self->state.coming;
  if (!coming)
    return;
  auto name = std::move(coming->name);
  coming.reset();
  remove_file(self, name);
}

void fail(self_pointer self, std::uint64_t number, const std::string& error, bool damaged) {
  spdlog::warn("a snapshot could not be taken in: {}", error);
  drop_coming(self);
  answer(self, snapshot_stored{number, 0, error, damaged});
}

void begin(self_pointer self, const store_snapshot& x) {
  auto& state = self->state;
  drop_coming(self);
  char nonce[17];
  std::snprintf(nonce, sizeof nonce, "%016llx", static_cast<unsigned long long>(state.random()));
  auto name = "state-" + std::to_string(x.what.base.index.value) + "-" + nonce + ".db";
  auto file = snapshot_file::create(state.deps.files->path(name), state.deps.files->vfs());
  state.coming = {x.source, x.what, std::move(name), std::move(file), 0};
}

[[noreturn]] void throw_damaged(const std::string& what) {
  throw damaged_error(SQLITE_CORRUPT, what);
}

/// Checks the whole file and builds the state from its rows.
std::shared_ptr<loaded_state> load(const snapshot_deps& deps, const std::string& name, const snapshot_info& what) {
  auto loaded = std::make_shared<loaded_state>();
  loaded->file = name;
  loaded->machine = std::make_unique<state_machine>(deps.defects);
  loaded->store =
      state_store::adopt(deps.files->path(name), deps.node, deps.incarnation, deps.options, [&](const row_view& row) {
        if (!loaded->machine->load_row(row.kind, row.id, row.body))
          throw_damaged(name + ": a row does not fit to those before it");
      });
  const auto& meta = loaded->store->meta();
  if (meta.last_applied != what.base.index || meta.last_applied_term != what.base.term)
    throw_damaged(name + ": it does not end at the entry that was announced");
  if (meta.checksum != what.checksum)
    throw_damaged(name + ": its rows do not have the checksum that was announced");
  if (!loaded->machine->finish_loading(meta))
    throw_damaged(name + ": its rows do not fit together");
  return loaded;
}

void finish(self_pointer self) {
  auto& state = self->state;
  auto& coming = *state.coming;
  coming.file->sync();
  // SQLite's locks on a file fall with any other descriptor of it that this process closes.
  coming.file.reset();
  auto loaded = load(state.deps, coming.name, coming.what);
  const auto number = coming.what.number;
  state.coming.reset();
  answer(self, snapshot_loaded{number, std::move(loaded)});
}

void on_store(self_pointer self, const store_snapshot& x) {
  auto& state = self->state;
  const auto number = x.what.number;
  try {
    const bool known = state.coming && state.coming->source == x.source && state.coming->what == x.what;
    if (!known) {
      // What is under way ends only for one that begins.
      if (x.offset != 0 || x.data.empty())
        return answer(self, snapshot_stored{number, 0, {}, false});
      begin(self, x);
    }
    auto& coming = *state.coming;
    if (x.data.empty() || x.offset != coming.offset)
      return answer(self, snapshot_stored{number, coming.offset, {}, false});
    if (x.data.size() > coming.what.size - coming.offset)
      return fail(self, number, "it is longer than it was said to be", true);
    coming.file->write(coming.offset, x.data);
    coming.offset += x.data.size();
    if (coming.offset < coming.what.size)
      return answer(self, snapshot_stored{number, coming.offset, {}, false});
    finish(self);
  } catch (const damaged_error& e) {
    fail(self, number, e.what(), true);
  } catch (const refused_error& e) {
    fail(self, number, e.what(), true);
  } catch (const database_error& e) {
    fail(self, number, e.what(), false);
  }
}

void on_discard(self_pointer self, const discard_snapshot& x) {
  auto& state = self->state;
  if (state.coming && state.coming->what.number == x.number)
    drop_coming(self);
  if (!x.state)
    return;
  x.state->store.reset();
  x.state->machine.reset();
  remove_file(self, x.state->file);
}

}  // namespace

snapshot_actor::behavior_type snapshot_behavior(self_pointer self, snapshot_deps deps) {
  self->state.deps = std::move(deps);
  self->state.random.seed(self->state.deps.seed);
  return {
      [=](const read_snapshot& x) { on_read(self, x); },       [=](const check_snapshot& x) { on_check(self, x); },
      [=](const remove_snapshot& x) { on_remove(self, x); },   [=](const store_snapshot& x) { on_store(self, x); },
      [=](const discard_snapshot& x) { on_discard(self, x); },
  };
}

}  // namespace coordinator
