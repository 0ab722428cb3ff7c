#include <doctest/doctest.h>

#include "tests/simulation/scenario.hpp"

using namespace coordinator;
using namespace coordinator::simulation;

// What survives crashes, by the names of MIT's 6.5840 Raft lab. Each crash is a loss of power: what was not synced may
// be gone, torn or out of order.

TEST_CASE("lab: persist 1") {
  scenario x{3};
  x.agree(3);
  for (unsigned i = 0; i < 3; ++i)
    x.crash(i);
  for (unsigned i = 0; i < 3; ++i)
    x.restart(i);
  x.agree(3);

  auto first = x.leader();
  x.crash(first);
  x.restart(first);
  x.agree(3);

  auto second = x.leader();
  x.crash(second);
  x.agree(2);
  x.restart(second);
  x.agree(3);

  auto follower = (x.leader() + 1) % 3;
  x.crash(follower);
  x.agree(2);
  x.restart(follower);
  x.agree(3);
  CHECK(x.until(milliseconds{1000}, [&] { return x.all_equal(); }));
}

TEST_CASE("lab: persist 2") {
  scenario x{5};
  log_index last;
  for (unsigned round = 0; round < 5; ++round) {
    last = x.agree(5);
    auto leader = x.leader();
    auto at = [&](unsigned i) { return (leader + i) % 5; };
    x.crash(at(1));
    x.crash(at(2));
    last = x.agree(3);

    // Of those that know the newest entry, one comes back, with the two that do not.
    x.crash(at(0));
    x.crash(at(3));
    x.crash(at(4));
    x.restart(at(1));
    x.restart(at(2));
    x.pass(milliseconds{1000});
    CHECK(!x.is_led());
    x.restart(at(3));
    CHECK(x.leader() == at(3));
    CHECK(x.agree(3) > last);
    x.restart(at(4));
    x.restart(at(0));
  }
  x.agree(5);
  CHECK(x.until(milliseconds{1000}, [&] { return x.all_equal(); }));
}

TEST_CASE("lab: persist 3") {
  scenario x{3};
  x.agree(3);
  auto leader = x.leader();
  auto at = [&](unsigned i) { return (leader + i) % 3; };
  x.crash(at(2));
  auto kept = x.agree(2);

  // A partitioned leader and one follower crash; the leader comes back with the one that missed the last entry.
  x.crash(at(0));
  x.crash(at(1));
  x.restart(at(2));
  x.restart(at(0));
  CHECK(x.agree(2) > kept);
  CHECK(x.leader() == at(0));
  x.restart(at(1));
  x.agree(3);
  CHECK(x.until(milliseconds{1000}, [&] { return x.all_equal(); }));
}

TEST_CASE("lab: figure 8") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    scenario x{5, seed};
    x.agree(1);
    unsigned up = 5;
    for (unsigned round = 0; round < 150; ++round) {
      auto leader = x.size();
      for (unsigned i = 0; i < 5; ++i)
        if (x.nodes().up(i) && x.nodes().keeper(i).role() == node_role::leader) {
          x.ask(i, milliseconds{500});
          leader = i;
        }
      x.pass(milliseconds{x.random().below(x.random().one_in(10) ? 500 : 13)});
      // Leaders die before, while and after they replicate what they took.
      if (leader != x.size()) {
        x.crash(leader);
        --up;
      }
      if (up < 3) {
        auto node = static_cast<unsigned>(x.random().below(5));
        if (!x.nodes().up(node)) {
          x.restart(node);
          ++up;
        }
      }
    }
    for (unsigned i = 0; i < 5; ++i)
      if (!x.nodes().up(i))
        x.restart(i);
    x.agree(5);
    CHECK(x.until(milliseconds{2000}, [&] { return x.all_equal(); }));
  }
}
