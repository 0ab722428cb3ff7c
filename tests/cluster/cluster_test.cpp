#include "tests/cluster/cluster.hpp"

#include <doctest/doctest.h>

#include <set>

#include "tests/cluster/ledger.hpp"

using namespace coordinator;

namespace {

std::vector<int> others(const cluster& nodes, int but) {
  std::vector<int> result;
  for (int i = 0; i < nodes.size(); ++i)
    if (i != but)
      result.push_back(i);
  return result;
}

call_options within(int timeout_ms) {
  call_options options;
  options.headers["X-Request-Timeout-Ms"] = std::to_string(timeout_ms);
  return options;
}

}  // namespace

TEST_CASE("cluster: three empty nodes form a cluster and elect one leader (Raft §5.2)") {
  cluster nodes{{.calm = true}};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  std::set<std::string> ids;
  for (int i = 0; i < nodes.size(); ++i) {
    auto said = nodes.status(i);
    CHECK(said["role"] == (i == leader ? "LEADER" : "FOLLOWER"));
    CHECK(said["node_id"] == cluster::name(i));
    CHECK(said["http_address"] == to_string(nodes.address(i)));
    ids.insert(said["cluster_id"].get<std::string>());
    auto view = nodes.get(i, "/api/cluster").json();
    CHECK(view["leader"] == cluster::name(leader));
    CHECK(view["members"].size() == 3);
    CHECK(view["quorum"]["size"] == 2);
  }
  CHECK(ids.size() == 1);
  CHECK(ids.begin()->size() == 32);
}

TEST_CASE("cluster: a write at any node is read at every node at once") {
  cluster nodes;
  nodes.start_all();
  nodes.wait_for_leader();
  for (int round = 0; round < 30; ++round) {
    auto value = "round " + std::to_string(round);
    auto written = nodes.put(round % 3, "register", value);
    REQUIRE_MESSAGE(written.ok(), written.status << " " << written.body);
    for (int i = 0; i < nodes.size(); ++i)
      CHECK(nodes.value(i, "register") == value);
  }
  nodes.require_equal_states();
}

TEST_CASE("cluster: when the leader is killed, writes are answered late and none is lost") {
  cluster nodes;
  nodes.start_all();
  nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 4};
  REQUIRE(writes.wait_for_more(20));
  for (int round = 0; round < 3; ++round) {
    auto killed = nodes.wait_for_leader();
    nodes.kill(killed);
    // Sent while nobody leads: answered by the new leader, and not an error.
    auto survivor = (killed + 1) % 3;
    auto key = "during-" + std::to_string(round);
    auto late = nodes.put(survivor, key, "kept");
    CHECK_MESSAGE(late.status == 200, late.status << " " << late.body);
    CHECK(nodes.value((killed + 2) % 3, key) == "kept");
    REQUIRE(writes.wait_for_more(20));
    nodes.start(killed);
    nodes.wait_for_leader();
    CHECK(nodes.value(killed, key) == "kept");
    REQUIRE(writes.wait_for_more(20));
  }
  writes.stop();
  CHECK(writes.complaints() == std::vector<std::string>{});
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(writes.what_is_lost(i) == "");
  nodes.require_equal_states();
}

TEST_CASE("cluster: a leader that was paused is replaced, and reads nothing old when it goes on (Raft §8)") {
  cluster nodes;
  nodes.start_all();
  auto paused = nodes.wait_for_leader();
  REQUIRE(nodes.put(paused, "register", "old").ok());
  auto term = nodes.status(paused)["term"].get<std::uint64_t>();
  nodes.pause(paused);
  auto next = nodes.wait_for_leader({paused});
  REQUIRE(nodes.put(next, "register", "new").ok());
  nodes.resume(paused);
  // It may still believe that it leads; what it answers must have been confirmed by a majority all the same.
  auto read = nodes.get(paused, "/api/kv/register");
  CHECK_MESSAGE((read.status == 503 || (read.status == 200 && read.body == "new")), read.status << " " << read.body);
  nodes.wait_for_leader();
  CHECK(nodes.status(paused)["term"].get<std::uint64_t>() > term);
  CHECK(nodes.value(paused, "register") == "new");
  nodes.require_equal_states();
}

TEST_CASE("cluster: a follower that was paused longer than any time-out disturbs nobody") {
  cluster nodes{{.calm = true}};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto paused = (leader + 1) % 3;
  auto before = nodes.status(leader);
  nodes.pause(paused);
  ledger writes{nodes, others(nodes, paused), 2};
  // Two of its longest time-outs, in which it would miss dozens of beats.
  auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < std::chrono::seconds{8})
    REQUIRE(writes.wait_for_more(1));
  nodes.resume(paused);
  REQUIRE(writes.wait_for_more(10));
  writes.stop();
  nodes.wait_for_leader();
  CHECK(writes.complaints() == std::vector<std::string>{});
  CHECK(writes.what_is_lost(paused) == "");
  auto after = nodes.status(leader);
  CHECK(after["role"] == "LEADER");
  CHECK(after["term"] == before["term"]);
}

TEST_CASE("cluster: without a majority nothing is acknowledged, and stale reads still work") {
  cluster nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  REQUIRE(nodes.put(leader, "register", "before").ok());
  auto left = (leader + 1) % 3;
  REQUIRE(nodes.value(left, "register") == "before");
  for (auto i : others(nodes, left))
    nodes.kill(i);
  auto write = nodes.put(left, "register", "after", within(700));
  CHECK(write.status == 503);
  CHECK(write.header("content-type").starts_with("application/problem+json"));
  CHECK(write.header("retry-after") != "");
  auto outcome = write.json().value("outcome", "");
  CHECK_MESSAGE((outcome == "not_applied" || outcome == "unknown"), write.body);
  auto read = nodes.get(left, "/api/kv/register", within(700));
  CHECK(read.status == 503);
  CHECK(read.header("retry-after") != "");
  auto stale = nodes.get(left, "/api/kv/register?consistency=stale");
  CHECK(stale.status == 200);
  CHECK(stale.body == "before");
  CHECK(stale.header("x-coordinator-leader-contact-ms") != "");
  CHECK(nodes.get(left, "/api/kv/register?consistency=stale&max_stale_ms=1").status == 503);
  // Had it come to lead just before, it finds out by itself that it cannot any longer.
  CHECK(eventually(cluster::patience, [&] { return nodes.role(left) != "LEADER"; }));

  for (auto i : others(nodes, left))
    nodes.start(i);
  nodes.wait_for_leader();
  auto found = nodes.value(left, "register");
  if (outcome == "not_applied")
    CHECK(found == "before");
  CHECK(nodes.put(left, "register", "later").ok());
  nodes.require_equal_states();
}

TEST_CASE("cluster: everything is still there after all nodes were killed at once") {
  cluster nodes;
  nodes.start_all();
  nodes.wait_for_leader();
  ledger writes{nodes, {0, 1, 2}, 3};
  REQUIRE(writes.wait_for_more(60));
  writes.stop();
  auto before = nodes.status(0);
  auto last = nodes.put(1, "last", "word");
  REQUIRE(last.ok());
  nodes.kill_all();
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  for (int i = 0; i < nodes.size(); ++i) {
    CHECK(writes.what_is_lost(i) == "");
    CHECK(nodes.value(i, "last") == "word");
    CHECK(nodes.status(i)["cluster_id"] == before["cluster_id"]);
  }
  CHECK(nodes.status(leader)["term"].get<std::uint64_t>() > before["term"].get<std::uint64_t>());
  // The version of a key goes on, too: what a client remembers of it stays true.
  call_options condition;
  condition.headers["If-Match"] = "\"" + last.json()["version"].dump() + "\"";
  CHECK(nodes.put(0, "last", "again", condition).status == 200);
  CHECK(nodes.put(0, "last", "and again", condition).status == 412);
  nodes.require_equal_states();
}

TEST_CASE("cluster: a node alone, without redundancy, serves by the same code") {
  cluster_settings settings;
  settings.size = 1;
  settings.redundancy = false;
  cluster nodes{settings};
  nodes.start(0);
  nodes.wait_for_leader();
  REQUIRE(nodes.put(0, "register", "kept").ok());
  auto before = nodes.status(0);
  nodes.kill(0);
  nodes.start(0);
  nodes.wait_for_leader();
  CHECK(nodes.value(0, "register") == "kept");
  CHECK(nodes.status(0)["cluster_id"] == before["cluster_id"]);
  CHECK(nodes.get(0, "/api/cluster").json()["members"].size() == 1);
}

TEST_CASE("cluster: a leader that is stopped hands over, and what is in flight is answered") {
  cluster nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  ledger writes{nodes, others(nodes, leader), 3};
  REQUIRE(writes.wait_for_more(20));
  nodes.stop(leader);
  nodes.wait_for_leader();
  REQUIRE(writes.wait_for_more(20));
  nodes.start(leader);
  nodes.wait_for_leader();
  writes.stop();
  CHECK(writes.complaints() == std::vector<std::string>{});
  for (int i = 0; i < nodes.size(); ++i)
    CHECK(writes.what_is_lost(i) == "");
}
