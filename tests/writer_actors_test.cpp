#include <doctest/doctest.h>

#include <algorithm>

#include "actors/log_writer_actor.hpp"
#include "actors/snapshot_actor.hpp"
#include "actors/state_machine.hpp"
#include "actors/state_machine_actor.hpp"
#include "actors/state_writer_actor.hpp"
#include "persistence/checksum.hpp"
#include "tests/support/fault_files.hpp"
#include "tests/support/local_node.hpp"

using namespace coordinator;

namespace {

struct writer_answers {
  std::vector<state_written> states;
  std::vector<log_written> logs;
  std::vector<log_loaded> loads;
  std::vector<snapshot_read> reads;
  std::vector<snapshot_stored> stored;
  std::vector<snapshot_loaded> loaded;
};

using listener_actor =
    caf::typed_actor<caf::reacts_to<state_written>, caf::reacts_to<log_written>, caf::reacts_to<log_loaded>,
                     caf::reacts_to<snapshot_read>, caf::reacts_to<snapshot_stored>, caf::reacts_to<snapshot_loaded>>;

listener_actor::behavior_type listener(listener_actor::pointer, std::shared_ptr<writer_answers> answers) {
  return {
      [=](const state_written& x) { answers->states.push_back(x); },
      [=](const log_written& x) { answers->logs.push_back(x); },
      [=](const log_loaded& x) { answers->loads.push_back(x); },
      [=](const snapshot_read& x) { answers->reads.push_back(x); },
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

}  // namespace

// -- raft.db ------------------------------------------------------------------------------------

TEST_CASE("log writer: what a store refuses comes back as words, and the keeper begins anew from what it holds") {
  writers w;
  w.open_log();
  w.append(1, 1);
  w.append(2, 7);  // A gap.
  w.say(w.log, load_log{9, {1}, {1}, 1000});
  auto& logs = w.answers->logs;
  REQUIRE(logs.size() == 2);
  CHECK(logs[0].error == "");
  CHECK(logs[0].number == 1);
  CHECK(logs[0].first_index == log_index{1});
  CHECK_FALSE(logs[1].error.empty());
  CHECK_FALSE(w.answers->loads[0].error.empty());
  w.system.pass(milliseconds{1100});
  REQUIRE(w.seen->recoveries.size() == 1);
  CHECK(w.seen->recoveries[0].contents->last_index == log_index{1});
  // Sent before the keeper heard of it.
  w.append(3, 2, 0);
  CHECK_FALSE(logs[2].error.empty());
  CHECK(logs[2].life == 0);
  w.append(4, 2, w.seen->recoveries[0].life);
  CHECK(logs[3].error == "");
  w.say(w.log, load_log{10, {1}, {2}, 1000});
  REQUIRE(w.answers->loads.size() == 2);
  CHECK(w.answers->loads[1].entries.size() == 2);
}

TEST_CASE("log writer: a full disk is tried again every second until there is room") {
  writers w;
  w.open_log();
  w.append(1, 1);
  w.disk.set_full(true);
  w.append(2, 2, 0, 100'000);
  auto& logs = w.answers->logs;
  REQUIRE(logs.size() == 2);
  CHECK_FALSE(logs[1].error.empty());
  w.append(3, 2);
  CHECK_FALSE(logs[2].error.empty());
  w.system.pass(milliseconds{300});
  CHECK(w.seen->recoveries.empty());
  w.disk.set_full(false);
  w.system.pass(milliseconds{1100});
  REQUIRE(w.seen->recoveries.size() == 1);
  const auto held = w.seen->recoveries[0].contents->last_index;
  CHECK(held >= log_index{1});
  CHECK(held <= log_index{2});
  w.append(4, held.value + 1, 1);
  CHECK(logs.back().error == "");
}

TEST_CASE("log writer: after a failed sync it goes on in a copy, and what was acknowledged survives a power failure") {
  writers w;
  w.open_log();
  for (std::uint64_t i = 1; i <= 20; ++i)
    w.append(i, i);
  w.disk.fail_sync(1);
  w.append(21, 21);
  REQUIRE_FALSE(w.answers->logs.back().error.empty());
  w.system.pass(milliseconds{1100});
  REQUIRE(w.seen->recoveries.size() == 1);
  const auto held = w.seen->recoveries[0].contents->last_index.value;
  CHECK(held >= 20);
  w.append(22, held + 1, 1);
  CHECK(w.answers->logs.back().error == "");
  w.system.kill_all();
  w.disk.crash();
  raft_store_options options;
  options.vfs = w.disk.vfs();
  options.create = false;
  CHECK(raft_store::open("/raft.db", {"n1"}, options)->last_index() == log_index{held + 1});
}

TEST_CASE("log writer: on a damaged log nothing is written any more, and the keeper hears of it at once (rule 11)") {
  writers w;
  w.open_log();
  w.append(1, 1);
  w.say(w.log, log_damaged{"row 1 is not what was written"});
  REQUIRE(w.seen->log_writes.size() == 1);
  CHECK(w.seen->log_writes[0].error == "row 1 is not what was written");
  w.append(2, 2);
  CHECK(w.answers->logs.back().error == "row 1 is not what was written");
  w.system.pass(milliseconds{5000});
  CHECK(w.seen->recoveries.empty());
}

// -- the state's file -----------------------------------------------------------------------------

TEST_CASE("state writer: a write that finds the disk full is made once there is room, and answered twice") {
  writers w;
  w.open_state();
  w.say(w.state, write_state{w.put("a"), 0});
  w.disk.set_full(true);
  const auto write = w.put("b", 100'000);
  w.say(w.state, write_state{write, 3});
  auto& states = w.answers->states;
  REQUIRE(states.size() == 2);
  CHECK(states[0].error == "");
  CHECK_FALSE(states[1].error.empty());
  CHECK(states[1].generation == 3);
  w.system.pass(milliseconds{3000});
  CHECK(states.size() == 2);
  w.disk.set_full(false);
  w.system.pass(milliseconds{1100});
  REQUIRE(states.size() == 3);
  CHECK(states[2].error == "");
  CHECK(states[2].generation == 3);
  CHECK(states[2].last_applied == write.last_applied);
  CHECK(w.seen->moves.empty());
  w.system.kill_all();
  auto store = state_store::open("/state.db", {"n1"}, {11}, {w.disk.vfs(), 1000});
  CHECK(load_state_machine(*store)->checksum() == w.core.checksum());
}

TEST_CASE("state writer: after a failed sync it goes on in a new file, and the old one stays until raft.db names it") {
  writers w;
  w.open_state(1);
  w.say(w.state, write_state{w.put("a", 5000), 0});
  w.disk.fail_sync(1);
  w.say(w.state, write_state{w.put("b", 5000), 0});
  auto& states = w.answers->states;
  REQUIRE(states.size() == 2);
  REQUIRE_FALSE(states[1].error.empty());
  w.system.pass(milliseconds{1100});
  REQUIRE(states.size() == 3);
  CHECK(states[2].error == "");
  REQUIRE(w.seen->moves.size() == 1);
  const auto file = w.seen->moves[0].file;
  CHECK(file != "state.db");
  CHECK(w.seen->moves[0].before == "state.db");
  CHECK(w.present->get() == file);
  CHECK(w.has("state.db"));
  w.say(w.state, state_file_noted{"another.db"});
  CHECK(w.has("state.db"));
  w.say(w.state, state_file_noted{file});
  CHECK_FALSE(w.has_like("/state.db"));
  CHECK_FALSE(w.has("state.db"));
  CHECK(w.has(file));
  w.say(w.state, write_state{w.put("c"), 0});
  CHECK(states.back().error == "");
  w.system.kill_all();
  w.disk.crash();
  auto store = state_store::open("/" + file, {"n1"}, {11}, {w.disk.vfs(), 1000});
  CHECK(load_state_machine(*store)->last_applied() >= states[2].last_applied);
}

TEST_CASE("state writer: the keeper hears how far a checkpoint has secured the file") {
  writers w;
  w.open_state();
  const auto write = w.put("a");
  w.say(w.state, write_state{write, 0});
  CHECK(w.seen->checkpoints.empty());
  w.say(w.state, checkpoint_state{});
  REQUIRE(w.seen->checkpoints.size() == 1);
  CHECK(w.seen->checkpoints[0].file == "state.db");
  CHECK(w.seen->checkpoints[0].index == write.last_applied);
}

TEST_CASE("state writer: a checkpoint that fails costs no write") {
  writers w;
  w.open_state();
  w.say(w.state, write_state{w.put("a", 5000), 0});
  w.disk.fail_sync(1);
  w.say(w.state, checkpoint_state{});
  CHECK(w.seen->checkpoints.empty());
  w.say(w.state, write_state{w.put("b"), 0});
  REQUIRE(w.answers->states.size() == 2);
  CHECK_FALSE(w.answers->states[1].error.empty());
  w.system.pass(milliseconds{1100});
  REQUIRE(w.answers->states.size() == 3);
  CHECK(w.answers->states[2].error == "");
  REQUIRE(w.seen->moves.size() == 1);
}

TEST_CASE("state writer: a copy is made between writes and is the state as it was at one index") {
  writers w;
  w.open_state();
  for (int i = 0; i < 50; ++i)
    w.say(w.state, write_state{w.put("k" + std::to_string(i), 4000), 0});
  std::vector<state_copied> copied;
  std::map<log_index, std::uint64_t> checksums;
  w.tell(w.state, copy_state{[&](state_copied x) { copied.push_back(std::move(x)); }});
  w.tell(w.state, copy_state{[&](state_copied x) { copied.push_back(std::move(x)); }});
  for (int i = 0; i < 20; ++i) {
    auto write = w.put("k" + std::to_string(i * 2), 3000);
    checksums[write.last_applied] = write.checksum;
    w.tell(w.state, write_state{std::move(write), 0});
  }
  w.system.run();
  REQUIRE(copied.size() == 2);
  CHECK(copied[0].file != copied[1].file);
  // They were written between its pages, and went into it.
  CHECK(copied[0].last_applied == w.core.last_applied());
  for (auto& each : copied) {
    CHECK(each.error == "");
    CHECK(checksums[each.last_applied] == each.checksum);
    auto store = state_store::adopt("/" + each.file, {"n2"}, {12}, {w.disk.vfs(), 1000}, [](const row_view&) {});
    CHECK(store->meta().checksum == each.checksum);
    CHECK(load_state_machine(*store)->checksum() == each.checksum);
  }
}

TEST_CASE("state writer: a copy that has no room fails alone, and leaves no file") {
  writers w;
  w.open_state();
  for (int i = 0; i < 50; ++i)
    w.say(w.state, write_state{w.put("k" + std::to_string(i), 4000), 0});
  w.say(w.state, checkpoint_state{});
  w.disk.set_full(true);
  CHECK_FALSE(w.copy().error.empty());
  CHECK_FALSE(w.has_like("snapshot-"));
  w.disk.set_full(false);
  CHECK(w.copy().error == "");
  w.say(w.state, write_state{w.put("z"), 0});
  CHECK(w.answers->states.back().error == "");
}

namespace {

/// A state in a file of its own, as the snapshot actor hands it over.
std::shared_ptr<loaded_state> other_state(writers& w, const std::string& file, std::uint64_t last_applied) {
  auto loaded = std::make_shared<loaded_state>();
  loaded->file = file;
  loaded->store = state_store::open(w.files->path(file), {"n1"}, {11}, {w.disk.vfs(), 1000});
  state_write write;
  write.last_applied = {last_applied};
  loaded->store->write(write);
  loaded->store->checkpoint();
  return loaded;
}

}  // namespace

TEST_CASE("state writer: another state takes the place of one that cannot be written, whose file goes") {
  writers w;
  w.open_state();
  w.say(w.state, write_state{w.put("a"), 0});
  w.disk.set_full(true);
  w.say(w.state, write_state{w.put("b", 100'000), 0});
  w.disk.set_full(false);
  std::vector<state_copied> copied;
  w.say(w.state, swap_state{other_state(w, "state-9-1.db", 9), {}});
  CHECK_FALSE(w.has("state.db"));
  CHECK_FALSE(w.has("state.db-wal"));
  CHECK(w.present->get() == "state-9-1.db");
  REQUIRE(w.seen->checkpoints.size() == 1);
  CHECK(w.seen->checkpoints[0].file == "state-9-1.db");
  CHECK(w.seen->checkpoints[0].index == log_index{9});
  state_write write;
  write.last_applied = {10};
  w.say(w.state, write_state{write, 1});
  // What failed before was of the other state.
  w.system.pass(milliseconds{3000});
  REQUIRE(w.answers->states.size() == 3);
  CHECK(w.answers->states[2].generation == 1);
  CHECK(w.answers->states[2].error == "");
}

TEST_CASE("state writer: a file that is evidence is kept under another name, and a copy under way ends") {
  writers w;
  w.open_state();
  for (int i = 0; i < 20; ++i)
    w.say(w.state, write_state{w.put("k" + std::to_string(i), 4000), 0});
  std::vector<state_copied> copied;
  w.tell(w.state, copy_state{[&](state_copied x) { copied.push_back(std::move(x)); }});
  for (int i = 0; i < 4; ++i)
    w.system.run_one();
  w.say(w.state, swap_state{other_state(w, "state-99-1.db", 99), "it differs"});
  CHECK_FALSE(w.has("state.db"));
  CHECK(w.has_like("state.db.damaged-"));
  REQUIRE(copied.size() == 1);
  CHECK_FALSE(copied[0].error.empty());
  CHECK_FALSE(w.has_like("snapshot-"));
}

// -- snapshots ------------------------------------------------------------------------------------

namespace {

/// A copy of a state, on the way to a peer.
struct transfer {
  explicit transfer(writers& w) : node(w) {
    w.open_state();
    w.open_snapshots();
    for (int i = 0; i < 10; ++i)
      w.say(w.state, write_state{w.put("k" + std::to_string(i), 2000), 0});
    copied = w.copy();
    bytes = w.disk.read("/" + copied.file);
    what.number = 77;
    what.base.index = copied.last_applied;
    what.base.term = copied.last_applied_term;
    what.size = copied.size;
    what.checksum = copied.checksum;
  }

  void piece(std::uint64_t offset, const snapshot_info& x, const std::string& from = "n2") {
    node.say(node.snapshots, store_snapshot{{from}, x, offset, bytes.substr(offset, 4096)});
  }
  void piece(std::uint64_t offset) { piece(offset, what); }
  void all(const snapshot_info& x) {
    for (std::uint64_t offset = 0; offset < what.size; offset += 4096)
      piece(offset, x);
  }
  const snapshot_stored& last() const { return node.answers->stored.back(); }

  writers& node;
  state_copied copied;
  std::string bytes;
  snapshot_info what;
};

}  // namespace

TEST_CASE("snapshots: pieces that come in order make a state, whole, durable and read (Raft §7)") {
  writers w;
  transfer t{w};
  CHECK(t.bytes.size() == t.copied.size);
  t.all(t.what);
  REQUIRE(w.answers->loaded.size() == 1);
  auto state = w.answers->loaded[0].state;
  CHECK(w.answers->loaded[0].number == 77);
  CHECK(state->machine->checksum() == t.what.checksum);
  CHECK(state->machine->last_applied() == t.what.base.index);
  CHECK(std::get<key_view>(state->machine->answer(get_key{"k3"})).value.size() == 2000);
  CHECK(state->store->checkpointed() == t.what.base.index);
  const auto file = state->file;
  CHECK(file.starts_with("state-" + std::to_string(t.what.base.index.value) + "-"));
  state = nullptr;
  w.answers->loaded.clear();
  w.system.kill_all();
  w.disk.crash();
  auto store = state_store::open("/" + file, {"n1"}, {11}, {w.disk.vfs(), 1000});
  CHECK(load_state_machine(*store)->checksum() == t.what.checksum);
}

TEST_CASE("snapshots: a piece that is doubled, late or after a gap is answered with how far it has come") {
  writers w;
  transfer t{w};
  t.piece(4096);
  CHECK(t.last().offset == 0);
  CHECK(t.last().error == "");
  CHECK_FALSE(w.has_like("state-"));
  t.piece(0);
  CHECK(t.last().offset == 4096);
  t.piece(0);
  CHECK(t.last().offset == 4096);
  t.piece(8192);
  CHECK(t.last().offset == 4096);
  t.piece(4096);
  CHECK(t.last().offset == 8192);
  w.say(w.snapshots, store_snapshot{{"n2"}, t.what, 0, {}});
  CHECK(t.last().offset == 8192);
  t.piece(4096);
  for (std::uint64_t offset = 8192; offset < t.what.size; offset += 4096)
    t.piece(offset);
  REQUIRE(w.answers->loaded.size() == 1);
  CHECK(w.answers->loaded[0].state->machine->checksum() == t.what.checksum);
}

TEST_CASE("snapshots: one that begins ends the one before, and a late piece of that changes nothing") {
  writers w;
  transfer t{w};
  auto other = t.what;
  other.number = 78;
  t.piece(0);
  t.piece(4096);
  t.piece(0, other, "n3");
  CHECK(t.last().number == 78);
  CHECK(t.last().offset == 4096);
  auto names = w.files->names();
  CHECK(std::count_if(names.begin(), names.end(), [](auto& x) { return x.starts_with("state-"); }) == 1);
  t.piece(8192);
  CHECK(t.last().number == 77);
  CHECK(t.last().offset == 0);
  for (std::uint64_t offset = 4096; offset < t.what.size; offset += 4096)
    t.piece(offset, other, "n3");
  REQUIRE(w.answers->loaded.size() == 1);
  CHECK(w.answers->loaded[0].number == 78);
}

TEST_CASE("snapshots: what is not what it was said to be is damage, and its file goes") {
  writers w;
  transfer t{w};
  SUBCASE("a bit") {
    t.bytes[t.bytes.find("vvvvvvvv")] ^= 4;
  }
  SUBCASE("the checksum") {
    t.what.checksum += 1;
  }
  SUBCASE("the index") {
    t.what.base.index = t.what.base.index + 1;
  }
  SUBCASE("the term") {
    t.what.base.term = {9};
  }
  SUBCASE("shorter") {
    t.what.size -= 4096;
  }
  SUBCASE("longer than it was said to be") {
    t.what.size -= 100;
  }
  t.all(t.what);
  CHECK(w.answers->loaded.empty());
  auto& stored = w.answers->stored;
  auto failed = std::find_if(stored.begin(), stored.end(), [](auto& x) { return !x.error.empty(); });
  REQUIRE(failed != stored.end());
  CHECK(failed->damaged);
  CHECK_FALSE(w.has_like("state-"));
}

TEST_CASE("snapshots: a disk that has no room is not the sender's fault") {
  writers w;
  transfer t{w};
  t.piece(0);
  w.disk.set_full(true);
  t.piece(4096);
  CHECK_FALSE(t.last().error.empty());
  CHECK_FALSE(t.last().damaged);
  CHECK_FALSE(w.has_like("state-"));
  w.disk.set_full(false);
  t.all(t.what);
  CHECK(w.answers->loaded.size() == 1);
}

TEST_CASE("snapshots: what is not wanted is removed, before it is whole and after") {
  writers w;
  transfer t{w};
  t.piece(0);
  w.say(w.snapshots, discard_snapshot{5});
  CHECK(w.has_like("state-"));
  w.say(w.snapshots, discard_snapshot{77});
  CHECK_FALSE(w.has_like("state-"));
  t.all(t.what);
  REQUIRE(w.answers->loaded.size() == 1);
  w.say(w.snapshots, discard_snapshot{77, w.answers->loaded[0].state});
  CHECK_FALSE(w.has_like("state-"));
}

TEST_CASE("snapshots: a crash at any point leaves no part of one where a start would find it") {
  for (std::uint64_t operations = 0; operations < 60; operations += 3) {
    writers w;
    transfer t{w};
    w.disk.stop_after(operations);
    t.all(t.what);
    w.answers->loaded.clear();
    w.system.kill_all();
    w.disk.crash();
    remove_unnamed(*w.files, "state.db");
    CHECK_FALSE(w.has_like("state-"));
    CHECK_FALSE(w.has_like("snapshot-"));
    CHECK(w.has("state.db"));
  }
}

TEST_CASE("snapshots: a copy is read piece by piece with the CRC of each") {
  writers w;
  transfer t{w};
  std::string read;
  for (std::uint64_t offset = 0; offset < t.what.size; offset += 10'000) {
    w.say(w.snapshots, read_snapshot{offset, t.copied.file, offset, 10'000});
    auto& answer = w.answers->reads.back();
    CHECK(answer.request == offset);
    CHECK(answer.error == "");
    CHECK(answer.crc == crc32c(answer.data));
    read += answer.data;
  }
  CHECK(read == t.bytes);
  w.say(w.snapshots, remove_snapshot{t.copied.file});
  CHECK_FALSE(w.has(t.copied.file));
  w.say(w.snapshots, read_snapshot{1, t.copied.file, 0, 10});
  CHECK_FALSE(w.answers->reads.back().error.empty());
}
