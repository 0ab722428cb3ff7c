#include <doctest/doctest.h>

#include <vector>

#include "tests/simulation/scenario.hpp"

using namespace coordinator;
using namespace coordinator::simulation;

// Networks that lose messages and nodes that come and go, by the names of MIT's 6.5840 Raft lab. Those about snapshots
// belong into a file beside this one.

namespace {

/// Callers go on asking while nodes are cut off, die and return. What was answered as applied must be there in the end.
void churn(bool unreliable, std::uint64_t seed) {
  scenario x{5, seed};
  x.agree(5);
  x.unreliable(unreliable);
  std::vector<scenario::pending> asked;
  auto ask_somebody = [&] {
    auto node = static_cast<unsigned>(x.random().below(5));
    if (x.nodes().up(node))
      asked.push_back(x.ask(node, milliseconds{3000}));
  };
  for (unsigned round = 0; round < 20; ++round) {
    auto node = [&] { return static_cast<unsigned>(x.random().below(5)); };
    if (x.random().below(1000) < 200)
      x.disconnect(node());
    if (x.random().below(1000) < 500) {
      auto back = node();
      if (!x.nodes().up(back))
        x.restart(back);
      x.connect(back);
    }
    if (x.random().below(1000) < 200)
      x.crash(node());
    for (unsigned i = 0; i < 7; ++i) {
      for (unsigned caller = 0; caller < 3; ++caller)
        ask_somebody();
      x.pass(milliseconds{100});
    }
  }
  x.unreliable(false);
  for (unsigned i = 0; i < 5; ++i) {
    if (!x.nodes().up(i))
      x.restart(i);
    x.connect(i);
  }
  x.agree(5);
  x.pass(milliseconds{4000});
  unsigned applied = 0;
  for (auto& each : asked) {
    if (!each->applied())
      continue;
    ++applied;
    CHECK(x.applied_by(*each) == 5);
  }
  CHECK(applied > 50);
  CHECK(x.until(milliseconds{1000}, [&] { return x.all_equal(); }));
}

}  // namespace

TEST_CASE("lab: unreliable agree") {
  scenario x{5};
  x.agree(5);
  x.unreliable(true);
  std::vector<scenario::pending> asked;
  for (unsigned round = 0; round < 20; ++round) {
    for (unsigned i = 0; i < 4; ++i)
      asked.push_back(x.ask(static_cast<unsigned>(x.random().below(5)), milliseconds{10'000}));
    x.agree(1);
  }
  x.unreliable(false);
  x.pass(milliseconds{3000});
  x.agree(5);
  for (auto& each : asked) {
    REQUIRE(each->answer);
    CHECK(each->applied());
    CHECK(x.applied_by(*each) == 5);
  }
}

TEST_CASE("lab: figure 8 unreliable") {
  scenario x{5};
  x.agree(1);
  x.unreliable(true);
  for (unsigned round = 0; round < 200; ++round) {
    auto leader = x.size();
    for (unsigned i = 0; i < 5; ++i) {
      if (x.nodes().keeper(i).role() == node_role::leader && x.connected(i))
        leader = i;
      x.ask(i, milliseconds{400});
    }
    x.pass(milliseconds{x.random().below(x.random().one_in(10) ? 500 : 13)});
    if (leader != x.size() && x.random().one_in(2))
      x.disconnect(leader);
    unsigned connected = 0;
    for (unsigned i = 0; i < 5; ++i)
      connected += x.connected(i);
    if (connected < 3)
      x.connect(static_cast<unsigned>(x.random().below(5)));
    // Some messages take longer than an election.
    x.nodes().sky.late_permille = round > 100 ? 200 : 10;
  }
  x.heal();
  x.unreliable(false);
  x.agree(5);
  CHECK(x.until(milliseconds{4000}, [&] { return x.all_equal(); }));
}

TEST_CASE("lab: reliable churn") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    churn(false, seed);
  }
}

TEST_CASE("lab: unreliable churn") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    churn(true, seed);
  }
}
