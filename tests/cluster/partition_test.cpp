#include <doctest/doctest.h>

#include <stdexcept>

#include "tests/cluster/cluster.hpp"

using namespace coordinator;

namespace {

/// A network that can be cut, or nothing, with a line that says so, where this machine allows none.
std::unique_ptr<isolated_network> make_network(int machines) {
  try {
    return std::make_unique<isolated_network>(machines);
  } catch (const std::runtime_error& e) {
    MESSAGE("SKIPPED: " << e.what());
    return nullptr;
  }
}

call_options within(int timeout_ms) {
  call_options options;
  options.headers["X-Request-Timeout-Ms"] = std::to_string(timeout_ms);
  return options;
}

}  // namespace

TEST_CASE("partition: a leader that is cut off acknowledges nothing and comes back without harm") {
  auto network = make_network(3);
  if (!network)
    return;
  cluster_settings settings;
  settings.network = network.get();
  cluster nodes{settings};
  nodes.start_all();
  auto cut_off = nodes.wait_for_leader();
  auto a = (cut_off + 1) % 3;
  auto b = (cut_off + 2) % 3;
  REQUIRE(nodes.put(cut_off, "register", "before").ok());
  REQUIRE(nodes.value(cut_off, "register") == "before");
  network->cut(cut_off, a);
  network->cut(cut_off, b);

  // Without a word from anybody it must step down by itself; a write that waits in vain would make it do so, too.
  CHECK(eventually(cluster::patience, [&] { return nodes.role(cut_off) != "LEADER"; }));
  auto refused = nodes.put(cut_off, "register", "by the one cut off", within(1500));
  CHECK(refused.status == 503);
  CHECK(nodes.get(cut_off, "/api/kv/register", within(500)).status == 503);
  nodes.wait_for_leader({cut_off});
  CHECK(nodes.put(a, "register", "by the majority").ok());
  CHECK(nodes.get(cut_off, "/api/kv/register?consistency=stale").body == "before");

  network->heal(cut_off, a);
  network->heal(cut_off, b);
  nodes.wait_for_leader();
  CHECK(nodes.value(cut_off, "register") == "by the majority");
  nodes.require_equal_states();
}

TEST_CASE("partition: a follower that cannot hear the leader campaigns in vain (thesis §9.6)") {
  auto network = make_network(3);
  if (!network)
    return;
  cluster_settings settings;
  settings.network = network.get();
  settings.calm = true;
  cluster nodes{settings};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto deaf = (leader + 1) % 3;
  auto third = (leader + 2) % 3;
  REQUIRE(nodes.put(leader, "register", "before").ok());
  REQUIRE(nodes.value(deaf, "register") == "before");
  auto term = nodes.status(leader)["term"];
  network->cut(leader, deaf);
  // Two of its longest time-outs. Nobody writes, so its log stays as good as any, and it is refused for one reason
  // alone: the third node hears the leader.
  auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < std::chrono::seconds{9})
    REQUIRE(nodes.value(third, "register") == "before");
  CHECK(nodes.status(leader)["term"] == term);
  REQUIRE(nodes.put(third, "register", "after").ok());
  network->heal(leader, deaf);
  CHECK(nodes.wait_for_leader() == leader);
  CHECK(nodes.status(leader)["term"] == term);
  CHECK(nodes.value(deaf, "register") == "after");
}
