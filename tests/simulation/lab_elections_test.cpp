#include <doctest/doctest.h>

#include "tests/simulation/scenario.hpp"

using namespace coordinator;
using namespace coordinator::simulation;

// The elections of MIT's 6.5840 Raft lab, by its names.

TEST_CASE("lab: initial election") {
  scenario x{3};
  auto first = x.leader();
  // Word of the new term reaches everybody with the first beat.
  x.pass(milliseconds{100});
  auto term = x.term(first);
  for (unsigned i = 0; i < x.size(); ++i)
    CHECK(x.term(i) == term);
  // Nothing fails, so nothing changes.
  x.pass(milliseconds{5000});
  CHECK(x.leader() == first);
  CHECK(x.term(first) == term);
}

TEST_CASE("lab: re-election") {
  scenario x{3};
  auto first = x.leader();
  x.disconnect(first);
  auto second = x.leader();
  CHECK(second != first);

  // The old leader comes back as a follower and disturbs nobody.
  auto term = x.term(second);
  x.connect(first);
  x.pass(milliseconds{1000});
  CHECK(x.leader() == second);
  CHECK(x.term(second) == term);
  CHECK(x.nodes().keeper(first).role() == node_role::follower);

  // Nobody leads without a majority.
  x.disconnect(second);
  x.disconnect((second + 1) % 3);
  x.pass(milliseconds{1000});
  CHECK(!x.is_led());

  x.connect((second + 1) % 3);
  auto third = x.leader();
  x.connect(second);
  x.pass(milliseconds{1000});
  CHECK(x.leader() == third);
}

TEST_CASE("lab: many elections") {
  scenario x{7};
  x.leader();
  for (unsigned round = 0; round < 10; ++round) {
    auto first = static_cast<unsigned>(x.random().below(7));
    for (unsigned i = 0; i < 3; ++i)
      x.disconnect((first + i * 2) % 7);
    x.leader();
    for (unsigned i = 0; i < 3; ++i)
      x.connect((first + i * 2) % 7);
    x.pass(milliseconds{x.random().below(400)});
  }
  x.leader();
  x.agree(7);
}
