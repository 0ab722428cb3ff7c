#include <doctest/doctest.h>

#include <algorithm>

#include "actors/node_actors.hpp"
#include "tests/support/fault_files.hpp"

using namespace coordinator;

namespace {

/// The directory of one node on a simulated disk, opened again and again.
struct node_directory {
  node_stores open(bool create = false) {
    stores_to_open what;
    what.files = files;
    what.id = {"n1"};
    what.create = create;
    what.new_incarnation = 11;
    return open_stores(what);
  }

  /// A node whose log begins after entry 5, with its state in `state-5-1.db`, at `last_applied`.
  void make_compacted(std::uint64_t last_applied = 5) {
    auto stores = open(true);
    auto state = state_store::open("/state-5-1.db", {"n1"}, {11}, {disk.vfs(), 1000});
    state_write applied;
    applied.last_applied = {last_applied};
    applied.last_applied_term = {1};
    state->write(applied);
    raft_write write;
    write.number = 1;
    write.state = hard_state{{1}, std::nullopt};
    raft_write::snapshot install;
    install.base.index = {5};
    install.base.term = {1};
    install.base.members_index = {1};
    install.base.members.members.push_back({{"n1"}, {11}, "127.0.0.1:1", "127.0.0.1:2", true});
    write.install = install;
    write.state_file = "state-5-1.db";
    stores.raft->write(write);
  }

  bool has_like(const std::string& part) const {
    auto names = files->names();
    return std::any_of(names.begin(), names.end(), [&](auto& x) { return x.find(part) != std::string::npos; });
  }
  void spoil(const std::string& path) {
    for (std::size_t byte = 0; byte < 200; ++byte)
      disk.flip_bit(path, byte, byte % 8);
  }

  fault_disk disk{"open-stores", 3};
  std::shared_ptr<node_files> files = std::make_shared<fault_files>(disk);
};

}  // namespace

TEST_CASE("open stores: the state is in the file that raft.db names, and what nothing names goes") {
  node_directory node;
  node.make_compacted();
  node.disk.write("/state-9-2.db", "half of a snapshot");
  node.disk.write("/snapshot-3-4.db", "a copy");
  auto stores = node.open();
  CHECK(stores.lost_disk == "");
  CHECK(stores.needs_state == "");
  CHECK(stores.state_file == "state-5-1.db");
  CHECK(stores.state->meta().last_applied == log_index{5});
  CHECK_FALSE(node.files->has("state-9-2.db"));
  CHECK_FALSE(node.files->has("snapshot-3-4.db"));
  CHECK_FALSE(node.files->has("state.db"));
}

TEST_CASE("open stores: a damaged state that the log rebuilds is set aside, and the node needs nobody") {
  node_directory node;
  node.open(true);
  node.spoil("/state.db");
  auto stores = node.open();
  CHECK(stores.needs_state == "");
  CHECK(stores.state->meta().last_applied == log_index{0});
  CHECK(stores.machine);
  CHECK(node.has_like("state.db.damaged-"));
}

TEST_CASE("open stores: a damaged or missing state that the log does not reach back to has to come from a peer") {
  node_directory node;
  node.make_compacted();
  bool damaged = false;
  SUBCASE("damaged") {
    node.spoil("/state-5-1.db");
    damaged = true;
  }
  SUBCASE("missing") {
    node.files->remove("state-5-1.db");
  }
  for (int start = 0; start < 2; ++start) {
    auto stores = node.open();
    CHECK(stores.lost_disk == "");
    CHECK(stores.needs_state != "");
    CHECK(stores.raft);
    CHECK(stores.state->meta().last_applied == log_index{0});
    CHECK(stores.state_file == "state-5-1.db");
  }
  CHECK(node.has_like("state-5-1.db.damaged-") == damaged);
}

TEST_CASE("open stores: a start that is cut short anywhere while it sets a damaged state aside can be made again") {
  for (std::uint64_t operations = 0; operations < 80; ++operations) {
    node_directory node;
    node.make_compacted();
    node.spoil("/state-5-1.db");
    node.disk.stop_after(operations);
    try {
      node.open();
    } catch (const std::runtime_error&) {
    }
    node.disk.crash();
    CAPTURE(operations);
    auto stores = node.open();
    CHECK(stores.lost_disk == "");
    CHECK(stores.needs_state != "");
    CHECK(stores.raft);
    CHECK(stores.state->meta().last_applied == log_index{0});
    CHECK(node.has_like("state-5-1.db.damaged-"));
  }
}

TEST_CASE("open stores: a state that ends before the log begins has to come from a peer") {
  node_directory node;
  node.make_compacted(3);
  CHECK(node.open().needs_state.find("ends at entry 3") != std::string::npos);
}

TEST_CASE("open stores: a state that is ahead of the log is a lost disk (rule 11)") {
  node_directory node;
  node.make_compacted(6);
  auto stores = node.open();
  CHECK(stores.lost_disk != "");
  CHECK_FALSE(stores.raft);
  CHECK_FALSE(stores.state);
}
