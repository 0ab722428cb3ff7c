#include <doctest/doctest.h>

#include <stdexcept>

#include "tests/cluster/ledger.hpp"

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
  network->cut(cut_off, a);
  network->cut(cut_off, b);

  auto refused = nodes.put(cut_off, "register", "by the one cut off", within(1500));
  CHECK(refused.status == 503);
  CHECK(nodes.get(cut_off, "/api/kv/register", within(500)).status == 503);
  nodes.wait_for_leader({cut_off});
  CHECK(nodes.put(a, "register", "by the majority", within(10'000)).ok());
  CHECK(eventually(cluster::patience, [&] { return nodes.role(cut_off) != "LEADER"; }));
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
  cluster nodes{settings};
  nodes.start_all();
  auto leader = nodes.wait_for_leader();
  auto deaf = (leader + 1) % 3;
  auto third = (leader + 2) % 3;
  auto term = nodes.status(leader)["term"];
  ledger writes{nodes, {leader, third}, 2};
  network->cut(leader, deaf);
  // Ten of its time-outs, during which the third node, which hears the leader, grants it nothing.
  auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < std::chrono::seconds{4})
    REQUIRE(writes.wait_for_more(1));
  network->heal(leader, deaf);
  writes.stop();
  nodes.wait_for_leader();
  CHECK(nodes.status(leader)["role"] == "LEADER");
  CHECK(nodes.status(leader)["term"] == term);
  CHECK(writes.complaints() == std::vector<std::string>{});
  CHECK(writes.what_is_lost(deaf) == "");
}
