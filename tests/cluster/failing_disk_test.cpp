#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/cluster/ledger.hpp"
#include "tests/cluster/small_disk.hpp"

// Disks that are full, hang or fail, on real file systems where the system allows that.

namespace fs = std::filesystem;

using namespace coordinator;

namespace {

/// A file system of a node's own, in an image that can be frozen, and whose disk can be taken away.
class own_file_system {
 public:
  explicit own_file_system(std::string directory) : directory_(std::move(directory)), image_(directory_ + ".img") {
    fs::create_directories(directory_);
    std::ofstream{image_}.close();
    fs::resize_file(image_, 64 << 20);
    mounted_ = run("mkfs.ext4 -q -F '" + image_ + "' && mount -o loop '" + image_ + "' '" + directory_ + "'");
  }
  ~own_file_system() {
    if (mounted_)
      run("umount -l '" + directory_ + "'");
  }
  own_file_system(const own_file_system&) = delete;
  own_file_system& operator=(const own_file_system&) = delete;

  bool mounted() const { return mounted_; }
  /// Writes hang from here on.
  bool freeze() { return run("fsfreeze -f '" + directory_ + "'"); }
  void thaw() { run("fsfreeze -u '" + directory_ + "'"); }
  /// What ext4 does when its disk has gone: from here on every write and sync fails.
  bool take_away() {
    constexpr unsigned long shutdown_request = _IOR('X', 125, std::uint32_t);
    std::uint32_t without_flushing = 2;
    file_descriptor root{::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    return ::ioctl(root.get(), shutdown_request, &without_flushing) == 0;
  }

 private:
  static bool run(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

  std::string directory_;
  std::string image_;
  bool mounted_ = false;
};

/// A cluster whose nodes have a file system each, where the system allows that.
template <class Disk>
class on_own_disks {
 public:
  on_own_disks() {
    for (int i = 0; i < nodes.size(); ++i)
      disks_.push_back(std::make_unique<Disk>(nodes.data_dir(i)));
  }
  ~on_own_disks() { nodes.kill_all(); }
  on_own_disks(const on_own_disks&) = delete;
  on_own_disks& operator=(const on_own_disks&) = delete;

  bool are_mounted() const {
    if (!disks_.front()->mounted())
      MESSAGE("no file system can be mounted here: skipped");
    return disks_.front()->mounted();
  }
  Disk& disk_of(int node) { return *disks_[static_cast<std::size_t>(node)]; }

  cluster nodes{{.calm = true}};

 private:
  std::vector<std::unique_ptr<Disk>> disks_;
};

/// The node whose disk does not work says so, leads no longer, and refuses at once what it could not answer, so that
/// nobody waits for it; what needs no disk it still gives.
void expect_out_of_service(const cluster& nodes, int node) {
  REQUIRE(eventually(cluster::patience, [&] {
    auto ready = nodes.get(node, "/readyz?verbose");
    return ready.status == 503 && ready.body.find("disk") != std::string::npos;
  }));
  nodes.wait_for_leader({node});
  CHECK(nodes.role(node) != "LEADER");
  call_options patient;
  patient.headers["X-Request-Timeout-Ms"] = "60000";
  answer refused;
  CHECK_MESSAGE(eventually(cluster::patience,
                           [&] {
                             refused = nodes.put(node, "refused", "by its disk", patient);
                             return refused.status == 503 && refused.json()["code"] == "disk_failed";
                           }),
                refused.status << " " << refused.body);
  CHECK(refused.json()["outcome"] == "not_applied");
  auto read = nodes.get(node, "/api/kv?prefix=ledger-&limit=1", patient);
  CHECK_MESSAGE(read.status == 503, read.body);
  CHECK(nodes.get(node, "/api/kv?prefix=ledger-&limit=1&consistency=stale").status == 200);
}

/// It takes part again, and nothing that was acknowledged is missing anywhere.
void expect_back_in_service(const cluster& nodes, int node, ledger& writes) {
  REQUIRE(eventually(cluster::patience, [&] { return nodes.get(node, "/readyz").status == 200; }));
  REQUIRE(writes.wait_for_more(100));
  writes.stop();
  for (auto& complaint : writes.complaints())
    MESSAGE(complaint);
  CHECK(writes.complaints().empty());
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(writes.what_is_lost(i) == "");
  nodes.require_equal_states();
}

}  // namespace

TEST_CASE("durability: a leader whose disk is full hands over, says so, and takes part again once there is room") {
  on_own_disks<small_disk> with;
  if (!with.are_mounted())
    return;
  auto& nodes = with.nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(100));
  with.disk_of(leader).fill();
  expect_out_of_service(nodes, leader);
  REQUIRE(writes.wait_for_more(100));
  with.disk_of(leader).make_room();
  expect_back_in_service(nodes, leader, writes);
}

TEST_CASE("durability: a leader whose writes hang steps down, says so, and takes part again when they are done") {
  on_own_disks<own_file_system> with;
  if (!with.are_mounted())
    return;
  auto& nodes = with.nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(100));
  REQUIRE(with.disk_of(leader).freeze());
  expect_out_of_service(nodes, leader);
  REQUIRE(writes.wait_for_more(100));
  with.disk_of(leader).thaw();
  expect_back_in_service(nodes, leader, writes);
}

TEST_CASE("durability: a leader whose disk fails every write and sync hands over and says so, and nothing is lost") {
  on_own_disks<own_file_system> with;
  if (!with.are_mounted())
    return;
  auto& nodes = with.nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(100));
  REQUIRE(with.disk_of(leader).take_away());
  expect_out_of_service(nodes, leader);
  REQUIRE(writes.wait_for_more(100));
  writes.stop();
  // What was under way at the node that cannot apply any more may end as unknown, and nothing else.
  for (auto& complaint : writes.complaints())
    CHECK_MESSAGE(complaint.find("\"outcome\":\"unknown\"") != std::string::npos, complaint);
  for (int i = 0; i < nodes.size(); ++i)
    if (i != leader)
      CHECK(writes.what_is_lost(i) == "");
}
