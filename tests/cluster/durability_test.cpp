#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/cluster/damage.hpp"
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

bool has_caught_up(const cluster& nodes, int node, int leader) {
  auto applied = number(nodes, node, "last_applied");
  return applied > 0 && applied >= number(nodes, leader, "commit_index");
}

}  // namespace

TEST_CASE("durability: under steady writes the log is dropped behind what is checkpointed, on every node") {
  cluster nodes{{.flags = retaining(500)}};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  {
    ledger writes{nodes, {0, 1, 2}, 4};
    for (int round = 0; round < 8; ++round) {
      REQUIRE(writes.wait_for_more(400));
      // How far the file of the state is behind, and the log longer for that, depends on the disk.
      for (int i = 0; i < nodes.size(); ++i)
        CHECK(eventually(cluster::patience, [&] { return log_length(nodes, i) <= 1000; }));
    }
    writes.stop();
    CHECK(writes.complaints().empty());
    CHECK(writes.what_is_lost((leader + 1) % 3) == "");
  }
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(eventually(cluster::patience, [&] { return number(nodes, i, "first_log_index") > 1000; }));
  nodes.require_equal_states();
}

TEST_CASE("durability: a follower that was away for long gets the state, and disturbs neither writes nor leader") {
  cluster nodes{{.flags = retaining(100), .calm = true}};
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
  REQUIRE(eventually(cluster::patience, [&] {
    return !files_with(nodes.data_dir(damaged), ".damaged-").empty() && has_caught_up(nodes, damaged, leader);
  }));
  nodes.require_equal_states();
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
  change_value(nodes, wrong, "key-1");
  nodes.start(wrong);
  REQUIRE(eventually(cluster::patience, [&] { return has_caught_up(nodes, wrong, leader); }));
  REQUIRE(eventually(cluster::patience, [&] {
    write_some(nodes, leader, 20, "more-");
    return !files_with(nodes.data_dir(wrong), ".damaged-").empty() && has_caught_up(nodes, wrong, leader);
  }));
  nodes.require_equal_states();
}

namespace {

/// Flips one bit of one of the files in a killed node's directory, and says which.
std::string flip_one_bit(const std::string& directory, std::mt19937_64& random) {
  std::vector<std::string> files;
  for (auto& entry : fs::directory_iterator{directory})
    if (entry.is_regular_file() && entry.file_size() > 0 && entry.path().filename() != "lock")
      files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  auto& path = files.at(random() % files.size());
  const auto byte = static_cast<std::streamoff>(random() % fs::file_size(path));
  std::fstream file{path, std::ios::in | std::ios::out | std::ios::binary};
  file.seekg(byte);
  const auto before = static_cast<char>(file.get());
  file.seekp(byte);
  file.put(static_cast<char>(before ^ (1 << random() % 8)));
  return fs::path{path}.filename().string() + " at byte " + std::to_string(byte);
}

}  // namespace

TEST_CASE("durability: a bit flipped in any file of a killed node is never answered from, and harms nobody") {
  cluster nodes{{.flags = retaining(100)}};
  nodes.start_all();
  nodes.wait_for_leader();
  std::mt19937_64 random{11};
  // Each key is written once: whoever answers anything else answers from what was damaged.
  int written = 0;
  auto write = [&](int node) {
    for (int i = 0; i < 40; ++i, ++written)
      REQUIRE(nodes.put(node, "once-" + std::to_string(written), "value " + std::to_string(written)).ok());
  };
  write(0);
  const auto rounds = std::getenv("FLIP_ROUNDS") ? std::atoi(std::getenv("FLIP_ROUNDS")) : 12;
  for (int round = 0; round < rounds; ++round) {
    const auto victim = static_cast<int>(random() % 3);
    const auto other = (victim + 1) % 3;
    write(other);
    nodes.kill(victim);
    const auto sound = nodes.data_dir(victim) + ".sound";
    fs::copy(nodes.data_dir(victim), sound, fs::copy_options::recursive);
    const auto what = flip_one_bit(nodes.data_dir(victim), random);
    CAPTURE(what);
    const auto error = nodes.try_start(victim);
    auto is_back = [&] {
      for (int i = 0; i < 5; ++i) {
        const auto number = std::to_string(random() % static_cast<unsigned>(written));
        auto stale = nodes.get(victim, "/api/kv/once-" + number + "?consistency=stale");
        if (stale.status == 200)
          CHECK_MESSAGE(stale.body == "value " + number, what);
        call_options briefly;
        briefly.headers["X-Request-Timeout-Ms"] = "100";
        auto read = nodes.get(victim, "/api/kv/once-" + number, briefly);
        if (read.status == 200)
          CHECK_MESSAGE(read.body == "value " + number, what);
        CHECK_MESSAGE(read.status != 404, what);
      }
      return nodes.role(victim) == "UNFORMED" || has_caught_up(nodes, victim, nodes.wait_for_leader());
    };
    if (error.empty())
      REQUIRE_MESSAGE(eventually(cluster::patience, is_back), what);
    MESSAGE(what << ": " << (error.empty() ? nodes.role(victim) : error));
    if (!error.empty() || nodes.role(victim) == "UNFORMED") {
      // It has taken part in nothing since: what it had before is what it has promised.
      nodes.kill(victim);
      fs::remove_all(nodes.data_dir(victim));
      fs::rename(sound, nodes.data_dir(victim));
      nodes.start(victim);
      REQUIRE(eventually(cluster::patience, [&] { return has_caught_up(nodes, victim, nodes.wait_for_leader()); }));
    }
    fs::remove_all(sound);
  }
  nodes.require_equal_states();
}

TEST_CASE("durability: nodes that are killed at any moment lose nothing that was acknowledged") {
  cluster nodes{{.flags = retaining(200)}};
  nodes.start_all();
  nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 4};
  std::mt19937_64 random{7};
  // Without a number of rounds it takes as many as come in a minute on a busy machine.
  const auto given = std::getenv("KILL_ROUNDS");
  const auto rounds = given ? std::atoi(given) : 100;
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes{1};
  int round = 0;
  for (; round < rounds && (given || round < 10 || std::chrono::steady_clock::now() < end); ++round) {
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
  MESSAGE(writes.size() << " writes acknowledged over " << round << " rounds of kills");
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(writes.what_is_lost(i) == "");
  nodes.require_equal_states();
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

TEST_CASE("durability: past the quota new tasks are turned away until there is room again, and the rest goes on") {
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
  CHECK(eventually(cluster::patience, [&] { return nodes.status(leader)["storage_full"] == true; }));
  // Shared keys, results and cancellations still pass.
  CHECK(nodes.put(leader, "register", "value").ok());
  for (auto& id : ids) {
    auto done = nodes.request(leader, "POST", "/api/tasks/" + id + "/cancel", "{}");
    REQUIRE_MESSAGE(done.ok(), done.status << " " << done.body);
  }
  // What is finished leaves after its time, and with it the reason.
  REQUIRE(eventually(cluster::patience, [&] {
    nodes.put(leader, "register", "time goes on");
    return submit(100'000).ok();
  }));
  nodes.require_equal_states();
}
