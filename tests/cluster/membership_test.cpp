#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "tests/cluster/ledger.hpp"

using namespace coordinator;

namespace {

using nlohmann::json;

struct ended {
  int status = -1;
  std::string out;
  std::string errors;
};

/// Runs coordctl against one node.
ended coordctl(const cluster& nodes, int at, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"--coordinator", "http://" + to_string(nodes.address(at))});
  child_process process{COORDCTL_PROGRAM, arguments, {}};
  ended result;
  while (auto line = process.read_line(2 * cluster::patience))
    result.out += *line + "\n";
  result.status = process.wait(cluster::patience).value_or(-1);
  result.errors = process.read_errors();
  return result;
}

/// The names of the voters, or of all members, as that node sees them.
std::string members(const cluster& nodes, int at, bool voters = true) {
  auto view = nodes.get(at, "/api/cluster").json();
  std::string result;
  if (view.is_object())
    for (auto& m : view["members"])
      if (!voters || m["voter"] == true)
        result += m["node_id"].get<std::string>() + " ";
  return result;
}

bool will_be(const cluster& nodes, int at, const std::string& voters) {
  auto well = eventually(cluster::patience, [&] { return members(nodes, at) == voters; });
  CHECK_MESSAGE(well, "the voters at " << cluster::name(at) << " are " << members(nodes, at));
  return well;
}

/// Adds a node that has just been started: at first the leader may not be linked with it.
void add(const cluster& nodes, int at, int joiner) {
  ended said;
  auto added = eventually(cluster::patience, [&] {
    said = coordctl(nodes, at, {"cluster", "add", cluster::name(joiner)});
    return said.status == 0;
  });
  REQUIRE_MESSAGE(added, said.status << " " << said.errors);
}

answer remove(const cluster& nodes, int at, int node, const std::string& query = {}, int timeout_ms = 30'000) {
  call_options options;
  options.headers["X-Request-Timeout-Ms"] = std::to_string(timeout_ms);
  return nodes.request(at, "DELETE", "/api/cluster/members/" + cluster::name(node) + query, {}, options);
}

/// The same, once the leader is in contact with those who have to be: on a busy machine it may miss one for a while.
answer remove_safely(const cluster& nodes, int at, int node) {
  answer said;
  eventually(cluster::patience, [&] {
    said = remove(nodes, at, node);
    return said.status != 409;
  });
  return said;
}

void require_nothing_lost(const cluster& nodes, ledger& writes, const std::vector<int>& at) {
  writes.stop();
  CHECK(writes.complaints() == std::vector<std::string>{});
  for (auto i : at)
    CHECK(writes.what_is_lost(i) == "");
  nodes.require_equal_states();
}

/// A node that was taken out ends by itself, and does not start again on what it has.
void require_refused(cluster& nodes, int node) {
  auto error = nodes.try_start(node);
  CHECK_MESSAGE(error.starts_with("status 1: "), error);
  CHECK_MESSAGE(error.find("was removed from its cluster; to let it join again, give an empty --data-dir and run "
                           "coordctl cluster add " +
                           cluster::name(node)) != std::string::npos,
                error);
}

void require_gone_for_good(cluster& nodes, int node) {
  CHECK(nodes.wait_for_end(node) == 0);
  require_refused(nodes, node);
}

/// It may learn of its removal, and end, before it was seen to serve.
void require_learns_of_removal(cluster& nodes, int node) {
  auto error = nodes.try_start(node);
  if (error.empty())
    CHECK(nodes.wait_for_end(node) == 0);
  else
    CHECK_MESSAGE(error.starts_with("status 0: "), error);
  require_refused(nodes, node);
}

}  // namespace

TEST_CASE("membership: a node alone becomes three under writes, from a log that has been compacted") {
  cluster nodes{programs(3, {"--log-retention-entries", "10"})};
  nodes.set_peers(0, {});
  nodes.set_peers(1, {0});
  nodes.set_peers(2, {0, 1});
  nodes.start(0);
  nodes.wait_for_leader();
  ledger writes{nodes, {0}, 2};
  REQUIRE(writes.wait_for_more(100));
  REQUIRE(eventually(cluster::patience, [&] { return nodes.status(0)["first_log_index"].get<int>() > 1; }));
  nodes.start(1);
  REQUIRE(eventually(cluster::patience, [&] {
    return nodes.status(1).value("waiting_for", "").find("coordctl cluster add n1") != std::string::npos;
  }));
  CHECK(nodes.role(1) == "UNFORMED");
  add(nodes, 0, 1);
  REQUIRE(will_be(nodes, 0, "n0 n1 "));
  nodes.start(2);
  add(nodes, 1, 2);
  REQUIRE(will_be(nodes, 0, "n0 n1 n2 "));
  REQUIRE(writes.wait_for_more(50));
  require_nothing_lost(nodes, writes, {0, 1, 2});
  CHECK(nodes.status(1)["cluster_id"] == nodes.status(0)["cluster_id"]);

  nodes.kill(0);
  auto leader = nodes.wait_for_leader();
  CHECK(leader != 0);
  CHECK(nodes.put(leader, "register", "without the first").ok());
  CHECK(writes.what_is_lost(leader) == "");
}

TEST_CASE("membership: three become five under writes, and then two may fail") {
  cluster nodes{programs(5)};
  for (int i = 0; i < 3; ++i)
    nodes.set_peers(i, {0, 1, 2});
  nodes.set_peers(3, {0, 1, 2});
  nodes.set_peers(4, {0, 1, 2});
  for (int i = 0; i < 3; ++i)
    nodes.start(i);
  nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(20));
  for (int joiner : {3, 4}) {
    nodes.start(joiner);
    add(nodes, joiner - 3, joiner);
  }
  REQUIRE(will_be(nodes, 0, "n0 n1 n2 n3 n4 "));
  REQUIRE(writes.wait_for_more(20));
  auto leader = nodes.wait_for_leader();
  nodes.kill(leader);
  nodes.kill((leader + 1) % 5);
  nodes.wait_for_leader();
  REQUIRE(writes.wait_for_more(20));
  std::vector<int> left;
  for (int i = 0; i < 5; ++i)
    if (nodes.runs(i))
      left.push_back(i);
  require_nothing_lost(nodes, writes, left);
}

TEST_CASE("membership: a follower that is removed ends, starts no more, and disturbs nobody") {
  cluster nodes{calm(programs(3))};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto gone = (leader + 1) % 3;
  auto other = (leader + 2) % 3;
  auto term = nodes.status(leader)["term"];
  ledger writes{nodes, {leader, other}, 3};
  REQUIRE(writes.wait_for_more(20));
  ended said;
  auto removed = eventually(cluster::patience, [&] {
    said = coordctl(nodes, other, {"cluster", "remove", cluster::name(gone)});
    return said.status == 0;
  });
  REQUIRE_MESSAGE(removed, said.errors);
  require_gone_for_good(nodes, gone);
  REQUIRE(writes.wait_for_more(20));
  CHECK(nodes.status(leader)["term"] == term);
  // Whoever asks again, because an answer was lost, is told that it is done; a misspelt name is not taken for that.
  auto again = coordctl(nodes, leader, {"cluster", "remove", cluster::name(gone)});
  CHECK(again.status == 0);
  CHECK(again.out.find("is no member") != std::string::npos);
  CHECK(coordctl(nodes, leader, {"cluster", "remove", "misspelt"}).status == 3);

  // Its name is free for an empty disk.
  nodes.wipe(gone);
  nodes.start(gone);
  add(nodes, leader, gone);
  REQUIRE(will_be(nodes, leader, "n0 n1 n2 "));
  require_nothing_lost(nodes, writes, {0, 1, 2});
}

TEST_CASE("membership: a node that is removed while it is down learns it when it starts, and ends") {
  cluster nodes{calm(programs(3))};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto gone = (leader + 1) % 3;
  nodes.kill(gone);
  auto removed = remove_safely(nodes, leader, gone);
  REQUIRE_MESSAGE(removed.status == 200, removed.body);
  CHECK(removed.json()["changed"] == true);
  CHECK(removed.json()["members"].size() == 2);
  auto term = nodes.status(leader)["term"];
  require_learns_of_removal(nodes, gone);
  CHECK(nodes.status(leader)["term"] == term);
  CHECK(nodes.put(leader, "register", "after").ok());
}

TEST_CASE("membership: one that is removed while it is down learns it also where the log does not begin early enough") {
  cluster nodes{calm(programs(3, {"--log-retention-entries", "10"}))};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto gone = (leader + 1) % 3;
  auto other = (leader + 2) % 3;
  auto last = nodes.status(gone)["last_log_index"].get<int>();
  nodes.kill(gone);
  REQUIRE(remove_safely(nodes, leader, gone).status == 200);
  ledger writes{nodes, {leader, other}, 2};
  REQUIRE(writes.wait_for_more(100));
  for (auto i : {leader, other})
    REQUIRE(eventually(cluster::patience, [&] { return nodes.status(i)["first_log_index"].get<int>() > last + 5; }));
  auto term = nodes.status(leader)["term"];
  require_learns_of_removal(nodes, gone);
  CHECK(nodes.status(leader)["term"] == term);
  require_nothing_lost(nodes, writes, {leader, other});
}

TEST_CASE("membership: a leader that is removed hands over and ends, and no write fails") {
  cluster nodes{calm(programs(3))};
  nodes.start_all();
  auto gone = nodes.wait_for_leader();
  std::vector<int> left{(gone + 1) % 3, (gone + 2) % 3};
  ledger writes{nodes, left, 3};
  REQUIRE(writes.wait_for_more(20));
  auto said = remove_safely(nodes, left[0], gone);
  REQUIRE_MESSAGE(said.status == 200, said.body);
  require_gone_for_good(nodes, gone);
  nodes.wait_for_leader();
  REQUIRE(writes.wait_for_more(20));
  REQUIRE(will_be(nodes, left[0],
                  cluster::name(std::min(left[0], left[1])) + " " + cluster::name(std::max(left[0], left[1])) + " "));
  require_nothing_lost(nodes, writes, left);
}

TEST_CASE("membership: a lost disk is replaced by one command, and a learner that lags is not promoted (rule 11)") {
  cluster nodes{calm(programs(3, {"--auto-promote", "off"}))};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto lost = (leader + 1) % 3;
  ledger writes{nodes, {leader, (leader + 2) % 3}, 2};
  REQUIRE(writes.wait_for_more(20));
  nodes.kill(lost);
  nodes.wipe(lost);
  nodes.start(lost);
  REQUIRE(eventually(cluster::patience, [&] { return nodes.role(lost) == "UNFORMED"; }));
  add(nodes, leader, lost);
  REQUIRE(eventually(cluster::patience, [&] { return nodes.role(lost) == "LEARNER"; }));
  nodes.pause(lost);
  // What it lacks now is more than the leader takes for nearly nothing.
  REQUIRE(writes.wait_for_more(300));
  auto early = nodes.request(leader, "POST", "/api/cluster/members/" + cluster::name(lost) + "/promote");
  CHECK_MESSAGE(early.status == 409, early.body);
  CHECK(early.json().value("code", "") == "not_caught_up");
  nodes.resume(lost);
  ended promoted;
  REQUIRE(eventually(cluster::patience, [&] {
    promoted = coordctl(nodes, leader, {"cluster", "promote", cluster::name(lost)});
    return promoted.status == 0;
  }));
  REQUIRE(will_be(nodes, leader, "n0 n1 n2 "));
  require_nothing_lost(nodes, writes, {0, 1, 2});
}

TEST_CASE("membership: what would do harm is refused with the reason, and force says what it risks") {
  cluster nodes{calm(programs(3))};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto unknown = coordctl(nodes, leader, {"cluster", "add", "n9"});
  CHECK(unknown.status == 5);
  CHECK_MESSAGE(unknown.errors.find("no node \"n9\" is linked with the leader") != std::string::npos, unknown.errors);
  CHECK(nodes.request(leader, "DELETE", "/api/cluster/members/n9").status == 404);
  CHECK(nodes.request(leader, "POST", "/api/cluster/members/n9/promote").status == 404);
  auto again = nodes.request(leader, "POST", "/api/cluster/members", R"({"node_id":"n0"})");
  CHECK(again.status == 200);
  CHECK(again.json()["changed"] == false);

  auto down = (leader + 1) % 3;
  auto victim = (leader + 2) % 3;
  nodes.kill(down);
  // That it is silent takes the leader a moment to notice.
  answer refused;
  REQUIRE(eventually(cluster::patience, [&] {
    auto view = nodes.get(leader, "/api/cluster").json();
    return view.is_object() && view["quorum"]["healthy"] == 2;
  }));
  refused = remove(nodes, leader, victim);
  CHECK(refused.status == 409);
  CHECK(refused.json().value("code", "") == "unsafe");
  CHECK(refused.json().value("detail", "").find("only 1 of then 2 voters are in contact") != std::string::npos);
  CHECK(members(nodes, leader) == "n0 n1 n2 ");
  CHECK(nodes.put(leader, "register", "kept").ok());

  // Forced, it is done as far as it can be: nothing commits until the third is back.
  auto forced = remove(nodes, leader, victim, "?force=true", 1500);
  CHECK_MESSAGE(forced.status == 503, forced.body);
  CHECK(forced.json().value("outcome", "") == "unknown");
  nodes.start(down);
  REQUIRE(eventually(cluster::patience, [&] {
    auto said = remove(nodes, leader, victim, {}, 3000);
    return said.status == 200 || said.status == 404;
  }));
  CHECK(nodes.wait_for_end(victim) == 0);
  auto next = nodes.wait_for_leader();
  CHECK(nodes.value(next, "register") == "kept");
}

TEST_CASE("membership: leadership moves under writes, to a named node and to the best") {
  cluster nodes{calm(programs(3))};
  nodes.start_all();
  nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(20));
  std::vector<std::int64_t> pauses;
  for (int round = 0; round < 6; ++round) {
    auto leader = nodes.wait_for_leader();
    std::atomic<bool> done{false};
    std::int64_t longest = 0;
    // Through a node that does not lead, as a client that knows nothing of the change.
    std::thread watch{[&] {
      while (!done) {
        auto began = std::chrono::steady_clock::now();
        if (nodes.put((leader + 2) % 3, "pause", "x").ok())
          longest = std::max<std::int64_t>(
              longest,
              std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began).count());
      }
    }};
    auto to = (leader + 1) % 3;
    auto said = nodes.request(leader, "POST", "/api/cluster/transfer_leadership",
                              round % 2 == 0 ? json{{"to", cluster::name(to)}}.dump() : "{}");
    CHECK_MESSAGE(said.status == 200, said.body);
    if (round % 2 == 0)
      CHECK(said.json()["leader"] == cluster::name(to));
    CHECK(said.json()["leader"] != cluster::name(leader));
    writes.wait_for_more(10);
    done = true;
    watch.join();
    pauses.push_back(longest);
  }
  std::string text;
  for (auto pause : pauses)
    text += std::to_string(pause) + " ";
  MESSAGE("slowest write around each handover, in ms: " << text);
  require_nothing_lost(nodes, writes, {0, 1, 2});
}

TEST_CASE("membership: a rolling restart by the plan loses and fails no write") {
  cluster nodes{calm(programs(3))};
  nodes.start_all();
  nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(20));
  auto plan = coordctl(nodes, 0, {"cluster", "restart-plan", "-o", "json"});
  REQUIRE_MESSAGE(plan.status == 0, plan.errors);
  auto steps = json::parse(plan.out)["steps"];
  REQUIRE(steps.size() == 4);
  CHECK(steps[0]["role"] == "FOLLOWER");
  CHECK(steps[1]["role"] == "FOLLOWER");
  CHECK(steps[2]["step"] == "transfer");
  CHECK(steps[3]["role"] == "LEADER");
  for (auto& step : steps) {
    if (step["step"] == "transfer") {
      CHECK(coordctl(nodes, 0, {"cluster", "transfer"}).status == 0);
      continue;
    }
    auto node = std::stoi(step["node_id"].get<std::string>().substr(1));
    nodes.stop(node);
    nodes.start(node);
    REQUIRE(eventually(cluster::patience, [&] { return nodes.get(node, "/readyz").ok(); }));
    REQUIRE(writes.wait_for_more(10));
  }
  require_nothing_lost(nodes, writes, {0, 1, 2});
}

TEST_CASE("membership: a cluster that was forced anew, or restored from a snapshot, grows back to three") {
  cluster nodes{programs(3)};
  temporary_directory directory;
  nodes.start_all();
  nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(50));
  writes.stop();
  auto file = directory / "snapshot";
  auto saved = coordctl(nodes, 0, {"snapshot", "save", file});
  REQUIRE_MESSAGE(saved.status == 0, saved.errors);
  nodes.require_equal_states();
  auto old_id = nodes.status(0)["cluster_id"];
  nodes.kill_all();
  nodes.wipe(1);
  nodes.wipe(2);
  ended mended;
  SUBCASE("forced anew") {
    mended =
        coordctl(nodes, 0, {"cluster", "force-new", "--data-dir", nodes.data_dir(0), "--yes-i-accept-losing-writes"});
  }
  SUBCASE("restored") {
    nodes.wipe(0);
    mended = coordctl(nodes, 0, {"snapshot", "restore", file, "--data-dir", nodes.data_dir(0), "--node-id", "n0"});
  }
  REQUIRE_MESSAGE(mended.status == 0, mended.errors);
  nodes.start_all();
  REQUIRE(eventually(cluster::patience, [&] { return nodes.role(0) == "LEADER"; }));
  for (int joiner : {1, 2})
    add(nodes, 0, joiner);
  REQUIRE(will_be(nodes, 0, "n0 n1 n2 "));
  CHECK(nodes.status(2)["cluster_id"] != old_id);
  CHECK(nodes.status(2)["cluster_id"] == nodes.status(0)["cluster_id"]);
  require_nothing_lost(nodes, writes, {0, 1, 2});
  nodes.kill(0);
  auto leader = nodes.wait_for_leader();
  CHECK(nodes.put(leader, "register", "without the one that was mended").ok());
}
