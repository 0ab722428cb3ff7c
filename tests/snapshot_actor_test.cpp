#include "actors/snapshot_actor.hpp"

#include <doctest/doctest.h>

#include "actors/state_machine_actor.hpp"
#include "persistence/checksum.hpp"
#include "tests/support/writers.hpp"

using namespace coordinator;

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

TEST_CASE("snapshots: a copy is checked from end to end") {
  writers w;
  transfer t{w};
  const auto path = "/" + t.copied.file;
  auto check = [&] {
    w.say(w.snapshots, check_snapshot{t.copied.file});
    return w.answers->checks.back();
  };
  CHECK(check().file == t.copied.file);
  CHECK(check().damage == "");
  CHECK(check().error == "");
  SUBCASE("a row") {
    w.disk.flip_bit(path, t.bytes.find("vvvvvvvv"), 2);
    CHECK(check().damage != "");
  }
  SUBCASE("what no row is in") {
    // The list of free blocks of a page, by which rows that are changed get their place.
    auto page = 4096 * (t.bytes.find("vvvvvvvv") / 4096);
    w.disk.flip_bit(path, page + 7, 3);
    CHECK(check().damage != "");
  }
  SUBCASE("a part of it is gone") {
    w.disk.write(path, t.bytes.substr(0, t.bytes.size() / 2));
    CHECK(check().damage != "");
  }
  SUBCASE("it is gone") {
    w.say(w.snapshots, remove_snapshot{t.copied.file});
    CHECK(check().damage == "");
    CHECK(check().error != "");
  }
  // A reader must not leave anything beside it.
  w.say(w.snapshots, remove_snapshot{t.copied.file});
  CHECK_FALSE(w.has_like("snapshot-"));
}
