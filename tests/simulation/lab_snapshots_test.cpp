#include <doctest/doctest.h>

#include "tests/simulation/scenario.hpp"

using namespace coordinator;
using namespace coordinator::simulation;

// Logs that are cut short and states that take their place, by the names of MIT's 6.5840 Raft lab. A node keeps 30
// entries behind its checkpoint, so that one who is away for longer needs the state of another.

namespace {

// More than any log of these scenarios may hold.
constexpr std::uint64_t longest_log = 150;

std::uint64_t log_length(scenario& x, unsigned node) {
  auto& log = x.nodes().keeper(node).log();
  return log.last_index() - log.base().index;
}

/// Has so many commands applied, and waits for the last one by `by` nodes.
void go_on(scenario& x, unsigned commands, unsigned by) {
  for (unsigned i = 0; i < commands; i += 10) {
    // Ten at a time, as clients ask.
    auto leader = x.leader();
    for (unsigned j = 0; j < 9; ++j)
      x.ask(leader, milliseconds{500});
    x.agree(by);
  }
}

struct trouble {
  bool disconnects = false;
  bool unreliable = false;
  bool crashes = false;
};

/// The lab's `snapcommon`: again and again one node misses more than the others' logs keep.
void install(const trouble& what) {
  scenario x{3, what.unreliable ? 7u : 3u};
  x.unreliable(what.unreliable);
  x.agree(3);
  for (unsigned round = 0; round < 12; ++round) {
    auto leader = x.leader();
    auto victim = (leader + 1) % 3;
    auto other = leader;
    // Each third time it is the leader who misses it.
    if (round % 3 == 1) {
      other = (leader + 1) % 3;
      victim = leader;
    }
    auto base = x.nodes().keeper(other).log().base().index;
    if (what.disconnects)
      x.disconnect(victim);
    if (what.crashes)
      x.crash(victim);
    x.pass(milliseconds{500});
    go_on(x, 80, 2);
    // The state is written behind, and checkpointed for the log's sake.
    INFO("round ", round);
    CHECK(x.until(milliseconds{5000}, [&] { return x.nodes().keeper(other).log().base().index > base; }));
    if (what.disconnects)
      x.connect(victim);
    if (what.crashes)
      x.restart(victim);
    x.agree(2);
    // Pieces that are lost are sent again once a longest time-out.
    CHECK(x.until(milliseconds{10'000}, [&] { return x.all_equal(); }));
  }
  CHECK(x.nodes().snapshots() > 5);
  x.unreliable(false);
  CHECK(x.until(milliseconds{3000}, [&] { return x.all_equal(); }));
}

}  // namespace

TEST_CASE("lab: snapshots basic") {
  scenario x{3};
  x.agree(3);
  for (unsigned round = 0; round < 10; ++round) {
    go_on(x, 50, 3);
    x.pass(milliseconds{1000});
    for (unsigned i = 0; i < 3; ++i)
      CHECK(log_length(x, i) < longest_log);
  }
  for (unsigned i = 0; i < 3; ++i)
    CHECK(x.nodes().keeper(i).log().base().index > log_index{200});
  // Nobody was away, and nobody was sent a state.
  CHECK(x.nodes().snapshots() == 0);
}

TEST_CASE("lab: install snapshots (disconnect)") {
  install({.disconnects = true, .unreliable = false, .crashes = false});
}

TEST_CASE("lab: install snapshots (disconnect, unreliable)") {
  install({.disconnects = true, .unreliable = true, .crashes = false});
}

TEST_CASE("lab: install snapshots (crash)") {
  install({.disconnects = false, .unreliable = false, .crashes = true});
}

TEST_CASE("lab: install snapshots (unreliable, crash)") {
  install({.disconnects = false, .unreliable = true, .crashes = true});
}

TEST_CASE("lab: crash and restart all servers, with snapshots") {
  scenario x{3};
  auto last = x.agree(3);
  for (unsigned round = 0; round < 5; ++round) {
    go_on(x, 60, 3);
    for (unsigned i = 0; i < 3; ++i)
      x.crash(i);
    for (unsigned i = 0; i < 3; ++i)
      x.restart(i);
    auto next = x.agree(3);
    CHECK(next > last);
    last = next;
  }
  CHECK(x.nodes().keeper(0).log().base().index > log_index{100});
  CHECK(x.until(milliseconds{2000}, [&] { return x.all_equal(); }));
}
