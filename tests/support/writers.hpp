#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/log_writer_actor.hpp"
#include "actors/snapshot_actor.hpp"
#include "actors/state_machine.hpp"
#include "actors/state_writer_actor.hpp"
#include "tests/support/fault_files.hpp"
#include "tests/support/local_node.hpp"

namespace coordinator {

struct writer_answers {
  std::vector<state_written> states;
  std::vector<log_written> logs;
  std::vector<log_loaded> loads;
  std::vector<snapshot_read> reads;
  std::vector<snapshot_checked> checks;
  std::vector<snapshot_stored> stored;
  std::vector<snapshot_loaded> loaded;
};

using listener_actor =
    caf::typed_actor<caf::reacts_to<state_written>, caf::reacts_to<log_written>, caf::reacts_to<log_loaded>,
                     caf::reacts_to<snapshot_read>, caf::reacts_to<snapshot_checked>, caf::reacts_to<snapshot_stored>,
                     caf::reacts_to<snapshot_loaded>>;

inline listener_actor::behavior_type listener(listener_actor::pointer, std::shared_ptr<writer_answers> answers) {
  return {
      [=](const state_written& x) { answers->states.push_back(x); },
      [=](const log_written& x) { answers->logs.push_back(x); },
      [=](const log_loaded& x) { answers->loads.push_back(x); },
      [=](const snapshot_read& x) { answers->reads.push_back(x); },
      [=](const snapshot_checked& x) { answers->checks.push_back(x); },
      [=](const snapshot_stored& x) { answers->stored.push_back(x); },
      [=](const snapshot_loaded& x) { answers->loaded.push_back(x); },
  };
}

/// The actors that wait for the disk, on a simulated one, with a test in the place of the others.
struct writers {
  writers() { listen = system.own(system.system().spawn(listener, answers)); }
  ~writers() {
    answers->loaded.clear();
    system.kill_all();
  }

  void open_log() {
    raft_store_options options;
    options.vfs = disk.vfs();
    options.new_incarnation = 11;
    log_writer_deps deps;
    deps.store = raft_store::open("/raft.db", {"n1"}, options);
    deps.keeper = keeper;
    deps.files = files;
    deps.node = {"n1"};
    deps.options = options;
    deps.clock = system.clock();
    log = system.own(system.system().spawn(log_writer_behavior, std::move(deps)));
  }

  void open_state(int checkpoint_pages = 1000, int copy_pages = 1) {
    state_writer_deps deps;
    deps.options = {disk.vfs(), checkpoint_pages};
    deps.store = state_store::open("/state.db", {"n1"}, {11}, deps.options);
    deps.file = "state.db";
    deps.keeper = keeper;
    deps.files = files;
    deps.node = {"n1"};
    deps.incarnation = {11};
    deps.present_file = present;
    deps.clock = system.clock();
    deps.copy_pages = copy_pages;
    state = system.own(system.system().spawn(state_writer_behavior, std::move(deps)));
  }

  void open_snapshots() {
    snapshots = system.own(
        system.system().spawn(snapshot_behavior, snapshot_deps{files, {"n1"}, {11}, {disk.vfs(), 1000}, {}, 5}));
  }

  template <class To, class T>
  void tell(const To& to, T x) {
    caf::send_as(listen, to, std::move(x));
  }
  template <class To, class T>
  void say(const To& to, T x) {
    tell(to, std::move(x));
    system.run();
  }

  void append(std::uint64_t number, std::uint64_t index, std::uint64_t life = 0, std::size_t bytes = 5) {
    raft_write write;
    write.number = number;
    if (index == 1)
      write.state = hard_state{{1}, std::nullopt};
    write.entries.push_back({{index}, {1}, entry_kind::noop, 0, std::string(bytes, 'x')});
    say(log, write_log{write, life});
  }

  /// Applies a put of this many bytes and gives what is to be written behind.
  state_write put(const std::string& key, std::size_t bytes = 10) {
    command x;
    x.body = put_key{key, std::string(bytes, 'v'), {}, false, false};
    if (session == 0) {
      command open;
      open.body = open_session{{"n1"}, {11}, 1};
      session = apply(open).result.version;
    }
    x.session = session;
    x.sequence = x.lowest_unanswered = ++sequence;
    apply(x);
    return core.take_dirty();
  }
  apply_outcome apply(const command& x) {
    return core.apply({core.last_applied() + 1, {1}, entry_kind::command, 1000, encode(x)});
  }

  state_copied copy() {
    std::optional<state_copied> copied;
    say(state, copy_state{[&](state_copied x) { copied = std::move(x); }});
    REQUIRE(copied.has_value());
    return *copied;
  }

  bool has(const std::string& name) const { return files->has(name); }
  bool has_like(const std::string& part) const {
    auto names = files->names();
    return std::any_of(names.begin(), names.end(), [&](auto& x) { return x.find(part) != std::string::npos; });
  }

  deterministic_system system;
  fault_disk disk{"writers", 7};
  std::shared_ptr<node_files> files = std::make_shared<fault_files>(disk);
  std::shared_ptr<fake_keeper> seen = std::make_shared<fake_keeper>();
  std::shared_ptr<present_state_file> present = std::make_shared<present_state_file>("state.db");
  std::shared_ptr<writer_answers> answers = std::make_shared<writer_answers>();
  replication_actor keeper = system.own(spawn_fake_keeper(system.system(), seen, system.clock()));
  listener_actor listen;
  log_writer_actor log;
  state_writer_actor state;
  snapshot_actor snapshots;
  state_machine core;
  std::uint64_t session = 0;
  std::uint64_t sequence = 0;
};

}  // namespace coordinator
