#include "tests/simulation/client_histories.hpp"

#include <doctest/doctest.h>

using namespace coordinator::simulation;

// Handmade histories: what the checks of the simulation take for linearizable, and what they do not.

namespace {

struct fixture {
  checker watch{3};
  key_history key{"key", watch};
  attempt_history attempts{watch};

  std::string broken() const { return watch.found() ? watch.found()->invariant : ""; }
};

constexpr const char* linearizable = "histories are linearizable";

}  // namespace

TEST_CASE("client histories: overlapping calls may take effect in any order") {
  fixture x;
  CHECK(x.key.begin() == 0);
  x.key.read(0, 0, "", "n1");
  x.key.begin_write("a");
  x.key.begin_write("b");
  auto reader = x.key.begin();
  // The second of two writes that overlap is ordered first, and a read in between sees it, before any answer.
  x.key.read(reader, 5, "b", "n2");
  x.key.wrote("a", 7, 0);
  x.key.wrote("b", 5, 0);
  x.key.read(x.key.begin(), 7, "a", "n1");
  // A read that began early may be answered with what was old when it ended, not when it began.
  x.key.read(reader, 5, "b", "n3");
  x.key.check_at_end();
  CHECK(x.broken() == "");
}

TEST_CASE("client histories: a write whose answer nobody heard may take effect, late or never") {
  fixture x;
  x.key.begin_write("lost");
  x.key.begin_write("late");
  x.key.begin_write("a");
  x.key.wrote("a", 3, 0);
  x.key.read(x.key.begin(), 9, "late", "n1");
  x.key.check_at_end();
  CHECK(x.broken() == "");
}

TEST_CASE("client histories: a stale read is found") {
  fixture x;
  x.key.begin_write("a");
  x.key.begin_write("b");
  x.key.wrote("a", 3, 0);
  x.key.wrote("b", 4, 0);
  SUBCASE("of an older value") {
    x.key.read(x.key.begin(), 3, "a", "n1");
  }
  SUBCASE("of no value") {
    x.key.read(x.key.begin(), 0, "", "n1");
  }
  SUBCASE("where only another read had seen the newer value") {
    x.key.begin_write("c");
    x.key.read(x.key.begin(), 5, "c", "n1");
    x.key.read(x.key.begin(), 4, "b", "n2");
  }
  CHECK(x.broken() == "a linearizable read is never stale");
}

TEST_CASE("client histories: a read that was asked for as stale may be") {
  fixture x;
  x.key.begin_write("a");
  x.key.begin_write("b");
  x.key.wrote("a", 3, 0);
  x.key.wrote("b", 4, 0);
  x.key.saw(3, "a");
  CHECK(x.broken() == "");
  // Nor does it oblige anybody to more than it saw.
  x.key.begin_write("c");
  x.key.saw(6, "c");
  x.key.read(x.key.begin(), 4, "b", "n1");
  CHECK(x.broken() == "");
}

TEST_CASE("client histories: a lost update is found") {
  fixture x;
  x.key.begin_write("a");
  x.key.wrote("a", 3, 0);
  SUBCASE("a write that is ordered before what its caller knew") {
    x.key.begin_write("b");
    x.key.wrote("b", 2, 0);
  }
  SUBCASE("the same, seen by another only") {
    x.key.begin_write("b");
    x.key.saw(2, "b");
  }
  SUBCASE("two writes that are both conditional on the same version") {
    x.key.begin_write("b");
    x.key.begin_write("c");
    x.key.wrote("b", 4, 3);
    x.key.wrote("c", 5, 3);
    x.key.check_at_end();
  }
  CHECK(x.broken() == linearizable);
}

TEST_CASE("client histories: a value from the future is found") {
  fixture x;
  x.key.read(x.key.begin(), 3, "a", "n1");
  x.key.begin_write("a");
  CHECK(x.broken() == "only what was written is read");
}

TEST_CASE("client histories: two writers of one version are found") {
  fixture x;
  x.key.begin_write("a");
  x.key.begin_write("b");
  x.key.wrote("a", 3, 0);
  SUBCASE("both told so") {
    x.key.wrote("b", 3, 0);
  }
  SUBCASE("by a reader") {
    x.key.read(0, 3, "b", "n1");
  }
  CHECK(x.broken() == linearizable);
}

TEST_CASE("client histories: a write that is applied twice is found") {
  fixture x;
  x.key.begin_write("a");
  x.key.wrote("a", 3, 0);
  x.key.saw(8, "a");
  CHECK(x.broken() == "a command is applied once");
}

TEST_CASE("client histories: a write that was refused and shows is found") {
  fixture x;
  x.key.begin_write("a");
  SUBCASE("first refused") {
    x.key.refused("a");
    x.key.saw(3, "a");
  }
  SUBCASE("first seen") {
    x.key.saw(3, "a");
    x.key.refused("a");
  }
  CHECK(x.broken() == "what is refused never shows");
}

TEST_CASE("client histories: an attempt that is given to two workers is found") {
  fixture x;
  x.attempts.given("task", 1, "one");
  x.attempts.given("task", 2, "two");
  CHECK(x.broken() == "");
  x.attempts.given("task", 2, "one");
  CHECK(x.broken() == "an attempt is given to one worker");
}

TEST_CASE("client histories: the result of an attempt that was given away is found") {
  fixture x;
  x.attempts.given("task", 1, "one");
  auto before = x.attempts.is_overtaken("task", 1);
  x.attempts.given("task", 2, "two");
  SUBCASE("a call that began before may still count") {
    x.attempts.completed("task", 1, before);
    CHECK(x.broken() == "");
  }
  SUBCASE("one that begins now may not") {
    x.attempts.completed("task", 1, x.attempts.is_overtaken("task", 1));
    CHECK(x.broken() == "the result of one attempt counts");
  }
  SUBCASE("nor may two") {
    x.attempts.completed("task", 1, before);
    x.attempts.completed("task", 2, false);
    CHECK(x.broken() == "the result of one attempt counts");
  }
}
