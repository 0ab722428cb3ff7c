#include "http/recovery/lease.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <thread>

#include "http/recovery/journal.hpp"
#include "tests/support/fake_coordinator.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;
using namespace std::chrono_literals;
using recovery::lease;

namespace {

struct desk {
  explicit desk(const fake_coordinator& node, std::chrono::milliseconds patience = 60s)
      : cluster{parse_endpoints(node.url()),
                {.connect_timeout = patience, .give_up_after = patience, .retry = true, .first = 0}} {}
  client cluster;
};

client_reply send(client& cluster, const std::string& method, const std::string& body = {}) {
  client_request request;
  request.method = method;
  request.path = "/api/kv/" + encode_component(recovery::lease_key);
  request.body = body;
  return cluster.send(request);
}

bool comes(lease& x, lease::state wanted, std::chrono::milliseconds patience = 60s) {
  for (auto end = std::chrono::steady_clock::now() + patience; std::chrono::steady_clock::now() < end;) {
    if (x.hold() == wanted)
      return true;
    std::this_thread::sleep_for(20ms);
  }
  return false;
}

}  // namespace

TEST_CASE("recovery lease: one has it at a time, and who gives it back lets the next one have it at once") {
  fake_coordinator node;
  desk a{node}, b{node};
  lease one{a.cluster, "one", 60s}, other{b.cluster, "other", 60s};
  CHECK(one.hold() == lease::state::held);
  CHECK(one.is_held());
  CHECK(other.hold() == lease::state::taken);
  CHECK(other.holder() == "one");
  CHECK_FALSE(other.is_held());
  CHECK(one.hold(true) == lease::state::held);
  one.release();
  CHECK_FALSE(one.is_held());
  CHECK(send(a.cluster, "GET").status == 404);
  CHECK(other.hold() == lease::state::held);
  CHECK(one.hold() == lease::state::taken);
  // What is not ours is not given back.
  one.release();
  CHECK(send(a.cluster, "GET").ok());
}

TEST_CASE("recovery lease: of one that died it is taken only after its whole time has been seen to pass") {
  fake_coordinator node;
  desk a{node}, b{node};
  lease dead{a.cluster, "dead", 1000ms}, next{b.cluster, "next", 60s};
  REQUIRE(dead.hold() == lease::state::held);
  auto began = std::chrono::steady_clock::now();
  CHECK(next.hold() == lease::state::taken);
  REQUIRE(comes(next, lease::state::held));
  // However slow the machine is, it is never earlier; and the dead one has given up before.
  CHECK(std::chrono::steady_clock::now() - began >= 1000ms);
  CHECK_FALSE(dead.is_held());
  CHECK(dead.hold() == lease::state::taken);
}

TEST_CASE("recovery lease: one that is renewed is never taken") {
  fake_coordinator node;
  desk a{node}, b{node};
  lease alive{a.cluster, "alive", 1000ms}, next{b.cluster, "next", 1000ms};
  for (auto end = std::chrono::steady_clock::now() + 2500ms; std::chrono::steady_clock::now() < end;) {
    REQUIRE(alive.hold(true) == lease::state::held);
    CHECK(next.hold() == lease::state::taken);
    std::this_thread::sleep_for(50ms);
  }
}

TEST_CASE("recovery lease: whoever finds it taken away has it no longer") {
  fake_coordinator node;
  desk a{node};
  lease mine{a.cluster, "mine", 60s};
  REQUIRE(mine.hold() == lease::state::held);
  REQUIRE(send(a.cluster, "PUT", R"({"holder":"thief","lease_ms":60000})").ok());
  // Before each step it is asked for surely.
  CHECK(mine.hold(true) == lease::state::taken);
  CHECK_FALSE(mine.is_held());
  CHECK(mine.holder() == "thief");
}

TEST_CASE("recovery lease: a cluster that grants nothing is told apart from one that refuses") {
  fake_coordinator node;
  desk a{node, 2s};
  lease mine{a.cluster, "mine", 60s}, late{a.cluster, "late", 60s};
  REQUIRE(mine.hold() == lease::state::held);
  node.stop();
  CHECK(late.hold() == lease::state::unreachable);
  CHECK(mine.hold() == lease::state::held);
  CHECK(mine.hold(true) == lease::state::unreachable);
}

TEST_CASE("recovery lease: what is no lease is taken over after the own time") {
  fake_coordinator node;
  desk a{node};
  REQUIRE(send(a.cluster, "PUT", "something else").ok());
  lease mine{a.cluster, "mine", 300ms};
  CHECK(mine.hold() == lease::state::taken);
  CHECK(comes(mine, lease::state::held));
}

TEST_CASE("recovery log: what was done is read back from it, and nothing else") {
  temporary_directory directory;
  auto file = directory / "recovery.log";
  CHECK(recovery::journal::latest_actions(file).empty());
  {
    recovery::journal log{file};
    recovery::entry done;
    done.time_ms = 7;
    done.event = "action";
    done.strategy = "process_crash";
    done.node = "n1";
    done.action = "start";
    done.seen = "line one\nline two \xff";
    log.add(done);
    done.dry_run = true;
    log.add(done);
    done.dry_run = false;
    done.event = "noticed";
    log.add(done);
  }
  std::ofstream{file, std::ios::app} << "not ours\n[]\n{\"event\":\"action\",\"dry_run\":false,\"node\":3}\n";
  auto found = recovery::journal::latest_actions(file);
  REQUIRE(found.size() == 2);
  CHECK(found[0].time_ms == 7);
  CHECK(found[0].strategy == "process_crash");
  CHECK(found[0].node == "n1");
  CHECK(found[0].action == "start");
  CHECK(found[1].node.empty());
}
