#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "tests/simulation/scenario.hpp"

using namespace coordinator;
using namespace coordinator::simulation;

// Agreement on log entries, by the names of MIT's 6.5840 Raft lab.

namespace {

std::vector<scenario::pending> ask_many(scenario& x, unsigned node, unsigned count, milliseconds timeout) {
  std::vector<scenario::pending> all;
  for (unsigned i = 0; i < count; ++i)
    all.push_back(x.ask(node, timeout));
  return all;
}

bool all_answered(const std::vector<scenario::pending>& all) {
  for (auto& each : all)
    if (!each->answer)
      return false;
  return true;
}

}  // namespace

TEST_CASE("lab: basic agreement") {
  scenario x{5};
  log_index last;
  for (unsigned i = 0; i < 3; ++i) {
    auto index = x.agree(5);
    CHECK(index > last);
    last = index;
  }
  CHECK(x.until(milliseconds{500}, [&] { return x.all_equal(); }));
}

TEST_CASE("lab: RPC bytes") {
  scenario x{3};
  x.agree(3);
  auto before = x.entry_bytes();
  constexpr std::uint64_t commands = 10;
  constexpr std::uint64_t bytes = 5000;
  for (unsigned i = 0; i < commands; ++i)
    x.agree(3, bytes);
  // Each entry goes to each of the two followers once.
  auto sent = x.entry_bytes() - before;
  CHECK(sent >= 2 * commands * bytes);
  CHECK(sent < 2 * commands * (bytes + 500));
}

TEST_CASE("lab: follower failure") {
  scenario x{3};
  x.agree(3);
  auto leader = x.leader();
  x.disconnect((leader + 1) % 3);
  x.agree(2);
  x.pass(milliseconds{1000});
  CHECK(x.leader() == leader);
  x.agree(2);

  x.disconnect((leader + 2) % 3);
  auto alone = x.ask(leader, milliseconds{1000});
  x.pass(milliseconds{2000});
  REQUIRE(alone->answer);
  CHECK(!alone->applied());
  CHECK(x.applied_by(*alone) == 0);
}

TEST_CASE("lab: leader failure") {
  scenario x{3};
  x.agree(3);
  auto first = x.leader();
  x.disconnect(first);
  x.agree(2);
  x.pass(milliseconds{1000});
  x.agree(2);

  x.disconnect(x.leader());
  std::vector<scenario::pending> asked;
  for (unsigned i = 0; i < 3; ++i)
    asked.push_back(x.ask(i, milliseconds{1000}));
  x.pass(milliseconds{2000});
  for (auto& each : asked) {
    REQUIRE(each->answer);
    CHECK(!each->applied());
    CHECK(x.applied_by(*each) == 0);
  }
}

TEST_CASE("lab: fail agree") {
  scenario x{3};
  x.agree(3);
  auto follower = (x.leader() + 1) % 3;
  x.disconnect(follower);
  x.agree(2);
  x.agree(2);
  x.pass(milliseconds{1000});
  x.agree(2);
  x.agree(2);
  auto term = x.term(x.leader());

  // The follower has missed four commands. It takes them over, and its return costs no election.
  x.connect(follower);
  x.agree(3);
  x.pass(milliseconds{1000});
  x.agree(3);
  CHECK(x.term(x.leader()) == term);
  CHECK(x.until(milliseconds{500}, [&] { return x.all_equal(); }));
}

TEST_CASE("lab: fail no agree") {
  scenario x{5};
  x.agree(5);
  auto leader = x.leader();
  for (unsigned i = 1; i <= 3; ++i)
    x.disconnect((leader + i) % 5);
  auto alone = x.ask(leader, milliseconds{1000});
  x.pass(milliseconds{2000});
  REQUIRE(alone->answer);
  CHECK(alone->answer->outcome == write_result::outcome::unknown);
  CHECK(x.applied_by(*alone) == 0);

  // Whether the entry survives is the next leader's to decide; all nodes then agree about it.
  x.heal();
  x.leader();
  x.agree(5);
  CHECK(x.until(milliseconds{500}, [&] { return x.all_equal(); }));
  auto by = x.applied_by(*alone);
  CHECK((by == 0 || by == 5));
}

TEST_CASE("lab: concurrent starts") {
  scenario x{3};
  auto leader = x.leader();
  auto term = x.term(leader);
  auto asked = ask_many(x, leader, 5, milliseconds{2000});
  REQUIRE(x.until(milliseconds{2000}, [&] { return all_answered(asked); }));
  std::set<std::uint64_t> indexes;
  for (auto& each : asked) {
    REQUIRE(each->applied());
    indexes.insert(each->answer->index.value);
    CHECK(x.until(milliseconds{500}, [&] { return x.applied_by(*each) == 3; }));
  }
  CHECK(indexes.size() == 5);
  CHECK(x.term(leader) == term);
}

TEST_CASE("lab: rejoin") {
  scenario x{3};
  x.agree(3);
  auto first = x.leader();
  x.disconnect(first);
  // It writes them to its own log, for nobody else. Their callers are told that nobody knows.
  auto before = x.nodes().keeper(first).log().last_index();
  auto lost = ask_many(x, first, 3, milliseconds{250});
  x.pass(milliseconds{250});
  CHECK(x.nodes().keeper(first).log().last_index() == before + 3);
  auto of_first = x.agree(2);
  CHECK(of_first > before);

  auto second = x.leader();
  x.disconnect(second);
  x.connect(first);
  x.agree(2);
  x.connect(second);
  x.agree(3);
  CHECK(x.until(milliseconds{500}, [&] { return x.all_equal(); }));
  for (auto& each : lost) {
    REQUIRE(each->answer);
    CHECK(each->answer->outcome == write_result::outcome::unknown);
    CHECK(x.applied_by(*each) == 0);
  }
}

TEST_CASE("lab: backup") {
  scenario x{5};
  x.agree(5);
  auto first = x.leader();
  auto at = [&](unsigned i) { return (first + i) % 5; };
  constexpr unsigned many = 50;
  auto ask_in_vain = [&](unsigned node) {
    auto before = x.nodes().keeper(node).log().last_index();
    auto asked = ask_many(x, node, many, milliseconds{200});
    x.pass(milliseconds{200});
    CHECK(x.nodes().keeper(node).log().last_index() == before + many);
    return asked;
  };

  // The leader with one follower: fifty entries that are not committed.
  for (unsigned i = 2; i < 5; ++i)
    x.disconnect(at(i));
  auto lost = ask_in_vain(first);
  x.disconnect(at(0));
  x.disconnect(at(1));

  // The three others agree on fifty.
  for (unsigned i = 2; i < 5; ++i)
    x.connect(at(i));
  x.leader();
  for (unsigned i = 0; i < many; ++i)
    x.agree(3);
  auto second = x.leader();
  auto other = second == at(2) ? at(3) : at(2);
  x.disconnect(other);
  auto also_lost = ask_in_vain(second);
  lost.insert(lost.end(), also_lost.begin(), also_lost.end());

  // The first pair with the one that was left out, which alone knows what was agreed on.
  for (unsigned i = 0; i < 5; ++i)
    x.disconnect(i);
  x.connect(at(0));
  x.connect(at(1));
  x.connect(other);
  CHECK(x.leader() == other);
  for (unsigned i = 0; i < many; ++i)
    x.agree(3);

  x.heal();
  x.agree(5);
  CHECK(x.until(milliseconds{2000}, [&] { return x.all_equal(); }));
  for (auto& each : lost)
    CHECK(x.applied_by(*each) == 0);
}

TEST_CASE("lab: count") {
  scenario x{3};
  x.leader();
  // Founding aside, an election costs a few requests.
  CHECK(x.requests() < 60);
  x.agree(3);
  x.pass(milliseconds{200});

  auto before = x.requests();
  auto began = x.now();
  auto asked = ask_many(x, x.leader(), 10, milliseconds{2000});
  REQUIRE(x.until(milliseconds{2000}, [&] { return all_answered(asked); }));
  auto beats = static_cast<std::uint64_t>((x.now() - began).count()) / 50 * 2 + 2;
  CHECK(x.requests() - before <= (10 + 1 + 3) * 3 + beats);

  // An idle leader only beats: every 50 ms, to two followers.
  before = x.requests();
  x.pass(milliseconds{1000});
  CHECK(x.requests() - before <= 3 * 20);
}
