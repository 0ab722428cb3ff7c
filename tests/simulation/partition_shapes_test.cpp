#include <doctest/doctest.h>

#include "tests/simulation/scenario.hpp"

using namespace coordinator;
using namespace coordinator::simulation;

// Partial partitions that stop or disturb some protocols: the three shapes of the OmniPaxos paper (§2), and what befell
// an etcd cluster at Cloudflare in November 2020.

namespace {

/// Leaves only the connections of `hub`.
void star(scenario& x, unsigned hub) {
  for (unsigned i = 0; i < x.size(); ++i)
    for (unsigned j = i + 1; j < x.size(); ++j)
      if (i != hub && j != hub)
        x.cut(i, j);
}

}  // namespace

TEST_CASE("shapes: quorum loss: the only node that sees a majority leads") {
  scenario x{5};
  x.agree(5);
  auto old = x.leader();
  auto hub = (old + 2) % 5;
  star(x, hub);
  // The old leader still hears one node, which is too few. Whoever is left leads soon, and serves.
  auto hub_leads = [&] {
    return x.nodes().keeper(hub).role() == node_role::leader && x.nodes().keeper(old).role() != node_role::leader;
  };
  CHECK(x.until(milliseconds{2000}, hub_leads));
  auto through_hub = x.ask(hub);
  CHECK(x.until(milliseconds{2000}, [&] { return through_hub->applied() && x.applied_by(*through_hub) == 5; }));
  auto term = x.term(hub);
  x.pass(milliseconds{5000});
  CHECK(hub_leads());
  CHECK(x.term(hub) == term);
}

TEST_CASE("shapes: constrained election: the hub leads once the leader is gone") {
  scenario x{5};
  x.agree(5);
  auto old = x.leader();
  auto hub = (old + 2) % 5;
  star(x, hub);
  x.cut(old, hub);
  CHECK(x.until(milliseconds{2000}, [&] { return x.nodes().keeper(hub).role() == node_role::leader; }));
  auto through_hub = x.ask(hub);
  CHECK(x.until(milliseconds{2000}, [&] { return through_hub->applied() && x.applied_by(*through_hub) == 4; }));
}

TEST_CASE("shapes: constrained election: a hub that missed an entry leads nobody, and nothing is lost (Raft §5.4.1)") {
  scenario x{5};
  x.agree(5);
  auto old = x.leader();
  auto hub = (old + 2) % 5;
  x.disconnect(hub);
  x.agree(4);
  auto before = x.nodes().keeper(old).commit_index();
  x.connect(hub);
  // Not a moment for it to catch up.
  star(x, hub);
  x.cut(old, hub);
  x.pass(milliseconds{3000});
  // With so few paths Raft has to wait: who has the entry does not see a majority, and who sees one lacks it.
  CHECK(!x.is_led());
  x.heal();
  x.leader();
  x.agree(5);
  for (unsigned i = 0; i < 5; ++i)
    CHECK(x.nodes().keeper(i).commit_index() > before);
  CHECK(x.until(milliseconds{1000}, [&] { return x.all_equal(); }));
}

TEST_CASE("shapes: chained: nodes that see only their neighbours do not depose each other in turn") {
  for (unsigned end = 0; end < 3; ++end) {
    CAPTURE(end);
    scenario x{3};
    x.agree(3);
    auto leader = x.leader();
    auto term = x.term(leader);
    // One of the three connections is gone: the leader is at an end of the chain, at the other, or in its middle.
    x.cut((leader + end) % 3, (leader + end + 1) % 3);
    for (unsigned i = 0; i < 20; ++i) {
      x.pass(milliseconds{500});
      auto done = x.ask(leader);
      CHECK(x.until(milliseconds{2000}, [&] { return done->applied(); }));
    }
    CHECK(x.leader() == leader);
    CHECK(x.term(leader) == term);
  }
}

TEST_CASE("shapes: Cloudflare 2020: a node that only its leader does not see neither deposes it nor stops writes") {
  scenario x{3};
  x.agree(3);
  auto leader = x.leader();
  auto term = x.term(leader);
  auto blind = (leader + 1) % 3;
  auto both = (leader + 2) % 3;
  // It still sees the third node, which goes on following the leader, and asks it for votes again and again.
  x.cut(leader, blind);
  // As long as nothing is written its log is as good as any: only that the third one hears the leader holds it back.
  x.pass(milliseconds{5000});
  REQUIRE(x.nodes().keeper(leader).role() == node_role::leader);
  for (unsigned i = 0; i < 60; ++i) {
    auto done = x.ask(i % 2 == 0 ? leader : both);
    REQUIRE(x.until(milliseconds{1000}, [&] { return done->applied() && x.applied_by(*done) == 2; }));
    x.pass(milliseconds{200});
    REQUIRE(x.nodes().keeper(leader).role() == node_role::leader);
  }
  CHECK(x.term(leader) == term);
  CHECK(x.term(blind) == term);

  x.heal();
  x.agree(3);
  CHECK(x.leader() == leader);
  CHECK(x.term(leader) == term);
  CHECK(x.until(milliseconds{1000}, [&] { return x.all_equal(); }));
}
