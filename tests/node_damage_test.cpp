#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "actors/node_actors.hpp"
#include "actors/state_machine.hpp"
#include "persistence/codec.hpp"
#include "persistence/verify.hpp"
#include "tests/support/fault_files.hpp"

// A node whose files were damaged while it was down: what a start makes of it, and what it would answer then.

using namespace coordinator;

namespace {

const node_id self{"n1"};
constexpr incarnation_id life{11};
constexpr const char* state_name = "state-12-1.db";
constexpr unsigned flips = 1000;

/// What a node that was killed leaves behind, and what its state was after each entry.
struct killed_node {
  std::map<std::string, std::string> files;
  std::map<log_index, std::uint64_t> checksums;
  log_index last_index;
};

/// The key and the value that an entry puts. Those of the first twenty are long and put once, so that they lie in pages
/// that nothing of what comes later, in a WAL, hides.
std::pair<std::string, std::string> put_by(std::uint64_t index) {
  if (index <= 20)
    return {"old" + std::to_string(index), std::string(3000 + index, static_cast<char>('a' + index))};
  return {"key" + std::to_string(index % 3), std::string(index * 97 % 1800, 'v')};
}

log_entry entry_of(std::uint64_t index) {
  command x;
  if (index == 2) {
    x.body = open_session{self, life, 1};
  } else {
    x.session = 2;
    x.sequence = x.lowest_unanswered = index - 2;
    auto [key, value] = put_by(index);
    x.body = put_key{std::move(key), std::move(value), {}, false, false};
  }
  return {{index}, {1}, entry_kind::command, static_cast<std::int64_t>(1000 + index), encode(x)};
}

/// Entries up to 40 in raft.db of which the first 10 were dropped; the state up to 12 in a file, up to 36 in its WAL.
/// One that is stopped in an orderly way leaves no WAL.
killed_node make_node(bool stopped = false) {
  killed_node node;
  fault_disk disk{"node-damage-make", 1};
  raft_store_options options;
  options.vfs = disk.vfs();
  options.new_incarnation = life.value;
  auto raft = raft_store::open("/raft.db", self, options);
  auto state = state_store::open(std::string{"/"} + state_name, self, life, {disk.vfs(), 1000});
  membership members{{{self, life, "a:1", "a:2", true}}};
  genesis founded{"00112233445566778899aabbccddeeff", members, 1};
  state_machine core;
  raft_write write;
  write.state = hard_state{{1}, self};
  write.formed = founded;
  write.entries.push_back({{1}, {1}, entry_kind::genesis, 1, to_bytes(founded)});
  write.state_file = state_name;
  raft->write(write);
  core.apply(write.entries[0]);
  for (std::uint64_t index = 2; index <= 40; ++index) {
    raft_write next{.entries = {entry_of(index)}};
    if (index == 30)
      next.compact_to = log_index{10};
    raft->write(next);
    core.apply(next.entries[0]);
    node.checksums[{index}] = core.checksum();
    if (index <= 36)
      state->write(core.take_dirty());
    if (index == 12)
      REQUIRE(state->checkpoint());
    // What is copied into the database leaves an empty WAL, so that both files of each have their part.
    if (index == 20) {
      raft.reset();
      raft = raft_store::open("/raft.db", self, options);
    }
  }
  node.last_index = {40};
  if (stopped) {
    raft.reset();
    state.reset();
  }
  for (auto& path : disk.files())
    node.files[path] = disk.read(path);
  return node;
}

enum class ending { serves, serves_less, found_by_a_check, waits_for_a_peer, lost_disk, does_not_start };

/// Starts it, and has it replay its log as the keeper would. Whatever it would serve then has to be right.
ending start(const killed_node& was, fault_disk& disk) {
  stores_to_open what;
  what.files = std::make_shared<fault_files>(disk);
  what.id = self;
  what.new_incarnation = 99;
  node_stores stores;
  try {
    stores = open_stores(what);
  } catch (const database_error& e) {
    // The one line that the program ends with names the file.
    CHECK_MESSAGE(std::string{e.what()}.find(".db") != std::string::npos, e.what());
    return ending::does_not_start;
  } catch (const refused_error& e) {
    CHECK_MESSAGE(std::string{e.what()}.find(".db") != std::string::npos, e.what());
    return ending::does_not_start;
  }
  if (!stores.lost_disk.empty())
    return ending::lost_disk;
  if (!stores.needs_state.empty())
    return ending::waits_for_a_peer;
  auto& core = *stores.machine;
  const auto last = stores.raft->last_index();
  try {
    if (core.last_applied() < last)
      for (auto& entry : stores.raft->read_entries(core.last_applied() + 1, last, 100 << 20))
        core.apply(entry);
  } catch (const damaged_error&) {
    return ending::lost_disk;
  }
  CHECK(core.last_applied() == last);
  REQUIRE(was.checksums.contains(last));
  CHECK(core.checksum() == was.checksums.at(last));
  std::map<std::string, std::string> values;
  for (std::uint64_t index = 3; index <= last.value; ++index) {
    auto [key, value] = put_by(index);
    values[key] = value;
  }
  for (auto& [key, value] : values) {
    auto found = core.answer(get_key{key});
    auto* view = std::get_if<key_view>(&found);
    REQUIRE(view);
    CHECK(view->value == value);
  }
  // What no read has touched the checks in the background find.
  const std::atomic<bool> go_on{false};
  if (scan_log("/raft.db", disk.vfs(), go_on) || quick_check("/raft.db", disk.vfs(), go_on) ||
      quick_check(std::string{"/"} + state_name, disk.vfs(), go_on))
    return ending::found_by_a_check;
  return last == was.last_index ? ending::serves : ending::serves_less;
}

}  // namespace

TEST_CASE("node damage: of 1,000 flipped bits, in every region of every file, none is answered from or ends the node") {
  const auto was = make_node();
  REQUIRE(was.files.size() >= 4);
  std::map<ending, int> endings;
  std::map<std::string, std::map<ending, int>> by_file;
  for (unsigned seed = 0; seed < flips; ++seed) {
    std::mt19937 random{seed};
    auto file = std::next(was.files.begin(), seed % was.files.size());
    if (file->second.empty())
      continue;
    // In turns through the whole of the file, at random within each region.
    const auto rounds = flips / was.files.size() + 1;
    const auto region = std::max<std::size_t>(file->second.size() / rounds, 1);
    const auto byte = std::min(seed / was.files.size() * region + random() % region, file->second.size() - 1);
    fault_disk disk{"node-damage", seed};
    for (auto& [path, bytes] : was.files)
      disk.write(path, bytes);
    disk.flip_bit(file->first, byte, random() % 8);
    CAPTURE(seed);
    CAPTURE(file->first);
    CAPTURE(byte);
    const auto what = start(was, disk);
    ++endings[what];
    ++by_file[file->first][what];
    // Only the end of a WAL may go unnoticed: a power failure leaves the same.
    if (what == ending::serves_less)
      CHECK(file->first == "/raft.db-wal");
    // A state that is damaged costs the node nothing but its rebuilding.
    if (file->first.starts_with("/state"))
      CHECK(what != ending::lost_disk);
  }
  for (auto& [file, counts] : by_file)
    MESSAGE(file << ": serves " << counts[ending::serves] << ", without the last write " << counts[ending::serves_less]
                 << ", found by a check " << counts[ending::found_by_a_check] << ", waits for a peer's state "
                 << counts[ending::waits_for_a_peer] << ", lost disk " << counts[ending::lost_disk]
                 << ", does not start " << counts[ending::does_not_start]);
  CHECK(endings[ending::waits_for_a_peer] > 10);
  CHECK(endings[ending::lost_disk] > 50);
}

TEST_CASE("node damage: whatever bit of a file's header is flipped, the node starts and says what it lacks") {
  // With a WAL its copy of the first page would hide the one in the database.
  const auto was = make_node(true);
  REQUIRE(was.files.size() == 2);
  std::map<std::string, std::map<ending, int>> by_file;
  for (auto path : {std::string{"/raft.db"}, std::string{"/"} + state_name})
    for (std::size_t bit = 0; bit < 800; ++bit) {
      fault_disk disk{"node-damage", bit};
      for (auto& [name, bytes] : was.files)
        disk.write(name, bytes);
      disk.flip_bit(path, bit / 8, bit % 8);
      CAPTURE(path);
      CAPTURE(bit);
      const auto what = start(was, disk);
      ++by_file[path][what];
      CHECK(what != ending::does_not_start);
      CHECK(what != ending::serves_less);
      if (path != "/raft.db")
        CHECK(what != ending::lost_disk);
    }
  for (auto& [file, counts] : by_file)
    MESSAGE(file << ": serves " << counts[ending::serves] << ", found by a check " << counts[ending::found_by_a_check]
                 << ", waits for a peer's state " << counts[ending::waits_for_a_peer] << ", lost disk "
                 << counts[ending::lost_disk] << ", does not start " << counts[ending::does_not_start]);
}
