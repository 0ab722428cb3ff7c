#include <doctest/doctest.h>

#include <set>

#include "tests/cluster/ledger.hpp"

using namespace coordinator;

namespace {

/// Watches that something stays as it is for a while; a thing that never happens can only be waited for.
bool stays(std::chrono::milliseconds time, const std::function<bool()>& condition) {
  return !eventually(time, [&] { return !condition(); });
}

call_options briefly() {
  call_options options;
  options.headers["X-Request-Timeout-Ms"] = "700";
  return options;
}

bool is_unformed(const cluster& nodes, int node) {
  return nodes.role(node) == "UNFORMED";
}

std::string waiting_for(const cluster& nodes, int node) {
  auto said = nodes.status(node);
  return said.is_object() ? said.value("waiting_for", "") : "";
}

}  // namespace

TEST_CASE("lost disk: a wiped node says that it is unformed, and neither votes nor acknowledges (rules 11 and 12)") {
  cluster nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  REQUIRE(nodes.put(leader, "register", "before").ok());
  auto wiped = (leader + 1) % 3;
  auto other = (leader + 2) % 3;
  nodes.kill(wiped);
  nodes.wipe(wiped);
  nodes.start(wiped);
  REQUIRE(eventually(cluster::patience, [&] { return is_unformed(nodes, wiped); }));
  CHECK(waiting_for(nodes, wiped) != "");
  CHECK(nodes.put(leader, "register", "with two of three").ok());
  auto write = nodes.put(wiped, "register", "by the wiped one", briefly());
  CHECK(write.status == 503);
  CHECK(write.json().value("outcome", "") == "not_applied");

  // With another one gone, two processes are there but only one member: no majority, neither for a write nor for a
  // vote.
  nodes.kill(other);
  CHECK(nodes.put(leader, "register", "with one and a stranger", briefly()).status == 503);
  nodes.kill(leader);
  nodes.start(leader);
  CHECK(stays(std::chrono::milliseconds{2500},
              [&] { return nodes.role(leader) != "LEADER" && is_unformed(nodes, wiped); }));

  nodes.start(other);
  auto next = nodes.wait_for_leader({wiped});
  CHECK(nodes.put(next, "register", "after").ok());
  CHECK(is_unformed(nodes, wiped));
}

TEST_CASE("lost disk: two wiped nodes form no new cluster beside the old one (rule 12)") {
  cluster nodes;
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  REQUIRE(nodes.put(leader, "register", "kept").ok());
  auto before = nodes.status(leader);
  nodes.kill_all();
  std::vector<int> wiped{(leader + 1) % 3, (leader + 2) % 3};
  for (auto i : wiped)
    nodes.wipe(i);
  auto all_unformed = [&] { return is_unformed(nodes, wiped[0]) && is_unformed(nodes, wiped[1]); };
  for (auto i : wiped)
    nodes.start(i);
  REQUIRE(eventually(cluster::patience, all_unformed));
  CHECK(stays(std::chrono::milliseconds{2000}, all_unformed));
  for (auto i : wiped) {
    CHECK(waiting_for(nodes, i).find(cluster::name(leader)) != std::string::npos);
    CHECK(nodes.put(i, "register", "new", briefly()).status == 503);
  }
  nodes.start(leader);
  CHECK(stays(std::chrono::milliseconds{2000}, [&] { return all_unformed() && nodes.role(leader) != "LEADER"; }));
  auto after = nodes.status(leader);
  CHECK(after["cluster_id"] == before["cluster_id"]);
  CHECK(after["last_log_index"].get<std::uint64_t>() >= before["last_log_index"].get<std::uint64_t>());
}

TEST_CASE("formation: nodes wait for all founders, and say for whom (rule 12)") {
  cluster nodes;
  nodes.start(0);
  nodes.start(2);
  REQUIRE(eventually(cluster::patience, [&] {
    return waiting_for(nodes, 0).find("n1") != std::string::npos &&
           waiting_for(nodes, 2).find("n1") != std::string::npos;
  }));
  CHECK(nodes.put(0, "register", "too early", briefly()).status == 503);
  CHECK(is_unformed(nodes, 0));
  nodes.start(1);
  nodes.wait_for_leader();
  CHECK(nodes.put(0, "register", "now").ok());
}

TEST_CASE("formation: a founder that is killed in the middle completes later, in the same cluster (rule 12)") {
  for (int round = 0; round < 3; ++round) {
    CAPTURE(round);
    cluster nodes;
    nodes.start_all();
    auto killed = round;
    // The moment differs from round to round: at once, when somebody has been founded, and when somebody leads.
    REQUIRE(eventually(cluster::patience, [&] {
      if (round == 0)
        return true;
      for (int i = 0; i < nodes.size(); ++i)
        if (round == 1 ? nodes.status(i).value("cluster_id", nlohmann::json{}).is_string() : nodes.role(i) == "LEADER")
          return true;
      return false;
    }));
    nodes.kill(killed);
    nodes.start(killed);
    nodes.wait_for_leader();
    std::set<std::string> ids;
    for (int i = 0; i < nodes.size(); ++i)
      ids.insert(nodes.status(i)["cluster_id"].get<std::string>());
    CHECK(ids.size() == 1);
    CHECK(nodes.put(killed, "register", "founded").ok());
  }
}
