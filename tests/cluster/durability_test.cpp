#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "persistence/state_store.hpp"
#include "tests/cluster/ledger.hpp"

namespace fs = std::filesystem;

using namespace coordinator;

namespace {

std::vector<std::string> retaining(int entries) {
  return {"--log-retention-entries", std::to_string(entries)};
}

std::uint64_t number(const cluster& nodes, int node, const char* field) {
  auto said = nodes.status(node);
  return said.is_object() ? said.value(field, std::uint64_t{0}) : 0;
}

std::size_t log_length(const cluster& nodes, int node) {
  auto said = nodes.status(node);
  return said["last_log_index"].get<std::size_t>() + 1 - said["first_log_index"].get<std::size_t>();
}

void write_some(const cluster& nodes, int node, int count, const std::string& prefix) {
  for (int i = 0; i < count; ++i) {
    auto done = nodes.put(node, prefix + std::to_string(i % 50), "value " + std::to_string(i));
    REQUIRE_MESSAGE(done.ok(), done.status << " " << done.body);
  }
}

std::vector<std::string> files_with(const std::string& directory, const std::string& part) {
  std::vector<std::string> found;
  for (auto& entry : fs::directory_iterator{directory})
    if (auto name = entry.path().filename().string(); name.find(part) != std::string::npos)
      found.push_back(name);
  return found;
}

/// The file that holds a stopped node's state.
std::string state_file(const std::string& directory) {
  for (auto& entry : fs::directory_iterator{directory})
    if (auto name = entry.path().filename().string();
        name.starts_with("state") && name.ends_with(".db") && name.find("damaged") == std::string::npos)
      return entry.path().string();
  return {};
}

void spoil(const std::string& path, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  auto size = fs::file_size(path);
  std::fstream file{path, std::ios::in | std::ios::out | std::ios::binary};
  for (int i = 0; i < 200; ++i) {
    file.seekp(static_cast<std::streamoff>(random() % size));
    file.put(static_cast<char>(random()));
  }
}

bool has_caught_up(const cluster& nodes, int node, int leader) {
  auto applied = number(nodes, node, "last_applied");
  return applied > 0 && applied >= number(nodes, leader, "commit_index");
}

}  // namespace

TEST_CASE("durability: under steady writes the log is dropped behind what is checkpointed, on every node") {
  cluster nodes{{.flags = retaining(300)}};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  std::size_t longest = 0;
  {
    ledger writes{nodes, {0, 1, 2}, 4};
    for (int round = 0; round < 8; ++round) {
      REQUIRE(writes.wait_for_more(400));
      longest = std::max(longest, log_length(nodes, leader));
    }
    writes.stop();
    CHECK(writes.complaints().empty());
    CHECK(writes.what_is_lost((leader + 1) % 3) == "");
  }
  MESSAGE("the log held " << longest << " entries at most");
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(eventually(cluster::patience, [&] { return number(nodes, i, "first_log_index") > 1000; }));
  nodes.require_equal_states();
}

TEST_CASE("durability: a follower that was away for long gets the state, and disturbs neither writes nor leader") {
  cluster nodes{{.flags = retaining(100)}};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  write_some(nodes, leader, 50, "early-");
  auto away = (leader + 1) % 3;
  nodes.kill(away);
  write_some(nodes, leader, 1500, "late-");
  REQUIRE(eventually(cluster::patience, [&] { return number(nodes, leader, "first_log_index") > 600; }));
  auto term = number(nodes, leader, "term");
  ledger writes{nodes, {leader}, 3};
  REQUIRE(writes.wait_for_more(50));
  nodes.start(away);
  REQUIRE(eventually(cluster::patience, [&] { return number(nodes, away, "snapshot_index") > 600; }));
  REQUIRE(writes.wait_for_more(100));
  writes.stop();
  CHECK(writes.complaints().empty());
  CHECK(number(nodes, leader, "term") == term);
  nodes.require_equal_states();
  CHECK(nodes.value(away, "late-7").has_value());
  CHECK(state_file(nodes.data_dir(away)).find("state-") != std::string::npos);

  // It starts again from what it was given.
  nodes.kill(away);
  nodes.start(away);
  write_some(nodes, leader, 20, "again-");
  nodes.require_equal_states();
}

TEST_CASE("durability: a follower that lacks a few entries gets these, and no state") {
  cluster nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  write_some(nodes, leader, 200, "early-");
  auto away = (leader + 1) % 3;
  nodes.kill(away);
  write_some(nodes, leader, 300, "late-");
  nodes.start(away);
  REQUIRE(eventually(cluster::patience, [&] { return has_caught_up(nodes, away, leader); }));
  nodes.require_equal_states();
  CHECK(fs::exists(fs::path{nodes.data_dir(away)} / "state.db"));
  CHECK(files_with(nodes.data_dir(away), "state-").empty());
}

TEST_CASE("durability: a damaged state is set aside and rebuilt from a peer when the log no longer can") {
  cluster nodes{{.flags = retaining(50)}};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  write_some(nodes, leader, 600, "key-");
  auto damaged = (leader + 2) % 3;
  REQUIRE(eventually(cluster::patience, [&] { return number(nodes, damaged, "first_log_index") > 300; }));
  nodes.stop(damaged);
  spoil(state_file(nodes.data_dir(damaged)), 1);
  nodes.start(damaged);
  REQUIRE(eventually(std::chrono::milliseconds{30'000}, [&] { return has_caught_up(nodes, damaged, leader); }));
  nodes.require_equal_states();
  CHECK_FALSE(files_with(nodes.data_dir(damaged), ".damaged-").empty());
  CHECK(nodes.status(damaged).value("state_error", "") == "");
}

TEST_CASE("durability: a node with a damaged raft.db takes no part, and says why (rule 11)") {
  cluster nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  write_some(nodes, leader, 300, "key-");
  auto damaged = (leader + 1) % 3;
  nodes.stop(damaged);
  spoil(nodes.data_dir(damaged) + "/raft.db", 2);
  nodes.start(damaged);
  REQUIRE(eventually(cluster::patience, [&] { return nodes.role(damaged) == "UNFORMED"; }));
  CHECK(nodes.status(damaged).value("waiting_for", "").find("raft.db") != std::string::npos);
  CHECK(nodes.get(damaged, "/readyz").status == 503);
  // With it alone there is no majority.
  nodes.kill((leader + 2) % 3);
  call_options briefly;
  briefly.headers["X-Request-Timeout-Ms"] = "700";
  CHECK(nodes.put(leader, "key-1", "nobody acknowledges this", briefly).status == 503);
}

TEST_CASE("durability: a state that differs from the majority's is found while running, and replaced") {
  cluster nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  write_some(nodes, leader, 100, "key-");
  auto wrong = (leader + 1) % 3;
  nodes.require_equal_states();
  auto who = nodes.status(wrong);
  nodes.stop(wrong);
  {
    // A row more, with all checksums as they should be: no check of the file alone can find it.
    auto path = state_file(nodes.data_dir(wrong));
    auto incarnation = incarnation_id{};
    {
      database db{path, {.read_only = true}};
      statement query{db, "SELECT incarnation FROM meta"};
      REQUIRE(query.step());
      incarnation = {query.number(0)};
    }
    auto store = state_store::open(path, {cluster::name(wrong)}, incarnation, {});
    auto meta = store->meta();
    std::string id = "key-1", body;
    std::uint8_t kind = 0;
    std::uint64_t old = 0;
    store->load([&](const row_view& row) {
      if (row.id == id)
        kind = row.kind, body = row.body, old = row.hash;
    });
    REQUIRE(old != 0);
    body.back() = static_cast<char>(body.back() ^ 1);
    auto hash = row_hash(kind, id, body);
    store->write({meta.last_applied,
                  meta.last_applied_term,
                  meta.applied_time_ms,
                  meta.checksum - old + hash,
                  {{kind, id, body, hash}}});
  }
  nodes.start(wrong);
  REQUIRE(eventually(cluster::patience, [&] { return has_caught_up(nodes, wrong, leader); }));
  REQUIRE(eventually(std::chrono::milliseconds{30'000}, [&] {
    write_some(nodes, leader, 20, "more-");
    return !files_with(nodes.data_dir(wrong), ".damaged-").empty() && has_caught_up(nodes, wrong, leader);
  }));
  nodes.require_equal_states();
}

TEST_CASE("durability: nodes that are killed at any moment lose nothing that was acknowledged") {
  cluster nodes{{.flags = retaining(200)}};
  nodes.start_all();
  nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 4};
  std::mt19937_64 random{7};
  auto rounds = std::getenv("KILL_ROUNDS") ? std::atoi(std::getenv("KILL_ROUNDS")) : 100;
  for (int round = 0; round < rounds; ++round) {
    auto victim = static_cast<int>(random() % 3);
    // Sometimes two at once, sometimes all.
    auto also = random() % 8 == 0 ? (victim + 1) % 3 : victim;
    REQUIRE(writes.wait_for_more(1 + random() % 60));
    nodes.kill(victim);
    if (also != victim)
      nodes.kill(also);
    std::this_thread::sleep_for(std::chrono::milliseconds{random() % 200});
    nodes.start(victim);
    if (also != victim)
      nodes.start(also);
  }
  REQUIRE(writes.wait_for_more(20));
  writes.stop();
  for (auto& complaint : writes.complaints())
    MESSAGE(complaint);
  CHECK(writes.complaints().empty());
  MESSAGE(writes.size() << " writes acknowledged over " << rounds << " kills");
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(writes.what_is_lost(i) == "");
  nodes.require_equal_states();
}

namespace {

/// A small file system of its own at a node's data directory, where the system allows that.
class small_disk {
 public:
  explicit small_disk(std::string directory) : directory_(std::move(directory)) {
    fs::create_directories(directory_);
    mounted_ = ::mount("tmpfs", directory_.c_str(), "tmpfs", 0, "size=24m,mode=0700") == 0;
  }
  ~small_disk() {
    if (mounted_)
      ::umount2(directory_.c_str(), MNT_DETACH);
  }
  small_disk(const small_disk&) = delete;
  small_disk& operator=(const small_disk&) = delete;

  bool mounted() const { return mounted_; }
  /// Takes all the room that is left.
  void fill() {
    std::ofstream file{directory_ + "/ballast", std::ios::binary};
    std::string block(1 << 16, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void make_room() { fs::remove(directory_ + "/ballast"); }

 private:
  std::string directory_;
  bool mounted_ = false;
};

}  // namespace

TEST_CASE("durability: a leader whose disk is full hands over, says so, and takes part again once there is room") {
  cluster nodes;
  std::vector<std::unique_ptr<small_disk>> disks;
  for (int i = 0; i < nodes.size(); ++i)
    disks.push_back(std::make_unique<small_disk>(nodes.data_dir(i)));
  if (!disks.front()->mounted()) {
    MESSAGE("no file system can be mounted here: skipped");
    return;
  }
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(100));
  disks[static_cast<std::size_t>(leader)]->fill();
  REQUIRE(eventually(cluster::patience, [&] {
    auto ready = nodes.get(leader, "/readyz?verbose");
    return ready.status == 503 && ready.body.find("disk") != std::string::npos;
  }));
  nodes.wait_for_leader({leader});
  CHECK(nodes.role(leader) != "LEADER");
  REQUIRE(writes.wait_for_more(100));
  disks[static_cast<std::size_t>(leader)]->make_room();
  REQUIRE(eventually(cluster::patience, [&] { return nodes.get(leader, "/readyz").status == 200; }));
  REQUIRE(writes.wait_for_more(100));
  writes.stop();
  for (auto& complaint : writes.complaints())
    MESSAGE(complaint);
  CHECK(writes.complaints().empty());
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(writes.what_is_lost(i) == "");
  nodes.require_equal_states();
  nodes.kill_all();
}

TEST_CASE("durability: a tool gives a node the state of another one as JSON") {
  cluster nodes{{.flags = retaining(50)}};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto behind = (leader + 1) % 3;
  auto other = (leader + 2) % 3;
  write_some(nodes, leader, 50, "early-");
  nodes.require_equal_states();
  nodes.kill(behind);
  write_some(nodes, leader, 300, "late-");
  auto state = nodes.get(leader, "/api/state?image=true").json();
  REQUIRE(state.is_object());
  REQUIRE(state.contains("image"));
  auto term = number(nodes, leader, "term");
  // The others are gone: the node can have it from nobody but the tool.
  nodes.kill(leader);
  nodes.kill(other);
  nodes.start(behind);
  nlohmann::json body = {{"term", term + 100},
                         {"leader_id", cluster::name(leader)},
                         {"state", state},
                         {"last_applied", state["last_applied"]},
                         {"last_applied_term", state["last_applied_term"]}};
  auto said = nodes.request(behind, "POST", "/api/raft/sync_state", body.dump());
  REQUIRE_MESSAGE(said.ok(), said.status << " " << said.body);
  CHECK(said.json()["success"] == true);
  CHECK(said.json()["last_applied"] >= state["image"]["last_applied"]);
  CHECK(eventually(cluster::patience,
                   [&] { return nodes.get(behind, "/api/kv/late-7?consistency=stale").body == "value 257"; }));
  // Spoilt on its way, it is refused and changes nothing.
  auto spoilt = body;
  auto file = spoilt["state"]["image"]["file"].get<std::string>();
  file[file.size() / 2] = file[file.size() / 2] == 'A' ? 'B' : 'A';
  spoilt["state"]["image"]["file"] = file;
  spoilt["state"]["image"]["last_applied"] = state["image"]["last_applied"].get<std::uint64_t>() + 1;
  auto refused = nodes.request(behind, "POST", "/api/raft/sync_state", spoilt.dump());
  CHECK_FALSE((refused.ok() && refused.json()["success"] == true));
  nodes.start(leader);
  nodes.start(other);
  nodes.wait_for_leader();
  nodes.require_equal_states();
}

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

}  // namespace

TEST_CASE("durability: a leader whose writes hang steps down, and takes part again when they are done") {
  cluster nodes;
  std::vector<std::unique_ptr<own_file_system>> disks;
  for (int i = 0; i < nodes.size(); ++i)
    disks.push_back(std::make_unique<own_file_system>(nodes.data_dir(i)));
  if (!disks.front()->mounted()) {
    MESSAGE("no file system can be mounted here: skipped");
    return;
  }
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(100));
  auto& disk = *disks[static_cast<std::size_t>(leader)];
  REQUIRE(disk.freeze());
  nodes.wait_for_leader({leader});
  REQUIRE(writes.wait_for_more(100));
  CHECK(nodes.role(leader) != "LEADER");
  disk.thaw();
  REQUIRE(eventually(cluster::patience, [&] { return nodes.get(leader, "/readyz").status == 200; }));
  REQUIRE(writes.wait_for_more(100));
  writes.stop();
  CHECK(writes.complaints().empty());
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(writes.what_is_lost(i) == "");
  nodes.require_equal_states();
  nodes.kill_all();
}

TEST_CASE("durability: a leader whose disk fails every write and sync hands over and says so; nothing is lost") {
  cluster nodes;
  std::vector<std::unique_ptr<own_file_system>> disks;
  for (int i = 0; i < nodes.size(); ++i)
    disks.push_back(std::make_unique<own_file_system>(nodes.data_dir(i)));
  if (!disks.front()->mounted()) {
    MESSAGE("no file system can be mounted here: skipped");
    return;
  }
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(100));
  REQUIRE(disks[static_cast<std::size_t>(leader)]->take_away());
  REQUIRE(eventually(cluster::patience, [&] {
    auto ready = nodes.get(leader, "/readyz?verbose");
    return ready.status == 503 && ready.body.find("disk") != std::string::npos;
  }));
  nodes.wait_for_leader({leader});
  CHECK(nodes.role(leader) != "LEADER");
  REQUIRE(writes.wait_for_more(100));
  writes.stop();
  // What was under way at the node that cannot apply any more may end as unknown, and nothing else.
  for (auto& complaint : writes.complaints())
    CHECK_MESSAGE(complaint.find("\"outcome\":\"unknown\"") != std::string::npos, complaint);
  for (int i = 0; i < nodes.size(); ++i)
    if (i != leader)
      CHECK(writes.what_is_lost(i) == "");
  nodes.kill_all();
}

TEST_CASE("durability: past the quota new tasks are turned away until there is room again; the rest goes on") {
  cluster nodes{{.flags = {"--quota-bytes", "1M", "--retention", "1s", "--log-retention-entries", "20"}}};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  std::vector<std::string> ids;
  answer last;
  auto submit = [&](int number) {
    nlohmann::json task = {
        {"task_id", "t" + std::to_string(number)}, {"command", {"true"}}, {"note", std::string(20'000, 'x')}};
    return nodes.request(number % 3, "POST", "/api/tasks/submit", task.dump());
  };
  REQUIRE(eventually(cluster::patience, [&] {
    last = submit(static_cast<int>(ids.size()));
    if (last.ok())
      ids.push_back("t" + std::to_string(ids.size()));
    return last.status == 507;
  }));
  CHECK(last.json()["outcome"] == "not_applied");
  CHECK(nodes.status(leader)["storage_full"] == true);
  // Shared keys, results and cancellations still pass.
  CHECK(nodes.put(leader, "register", "value").ok());
  for (auto& id : ids) {
    auto done = nodes.request(leader, "POST", "/api/tasks/" + id + "/cancel", "{}");
    REQUIRE_MESSAGE(done.ok(), done.status << " " << done.body);
  }
  // What is finished leaves after its time, and with it the reason.
  REQUIRE(eventually(std::chrono::milliseconds{40'000}, [&] {
    nodes.put(leader, "register", "time goes on");
    return submit(100'000).ok();
  }));
  nodes.require_equal_states();
}
