#include <doctest/doctest.h>

#include "actors/fleet.hpp"

using namespace coordinator;

namespace {

constexpr std::int64_t start = 1'000'000;
constexpr std::int64_t retention = 60'000;
constexpr std::uint64_t quota = 1'000;

fleet_options limited(std::int64_t retention_ms = retention, std::uint64_t quota_bytes = quota) {
  fleet_options options;
  options.retention_ms = retention_ms;
  options.quota_bytes = quota_bytes;
  return options;
}

/// A fleet at a new leader, with what applying would tell it. Proposals are applied only where a test does it.
struct upkeep {
  fleet core;
  std::int64_t now = start;
  fleet_conditions applied;

  explicit upkeep(fleet_options options = limited()) : core(options) { lead(); }

  void lead() {
    core.on_leader({}, now);
    tell();
  }
  void tell() { core.conditions(applied, now); }

  /// All proposals of one kind in this time, at most one kind of which a test expects.
  template <class Body>
  std::vector<Body> during(std::int64_t ms) {
    std::vector<Body> result;
    for (auto end = now + ms; now < end;) {
      now += 250;
      for (auto& each : core.tick(now, now))
        if (auto body = std::get_if<Body>(&each))
          result.push_back(*body);
    }
    return result;
  }
};

}  // namespace

TEST_CASE("fleet: finished tasks cost no entry before they are due, and then one that brings the time") {
  upkeep x;
  x.applied.applied_time_ms = 500'000;
  x.applied.oldest_finished_ms = 500'000;
  x.tell();
  CHECK(x.during<tick>(retention).empty());
  CHECK(x.during<retire_tasks>(0).empty());
  CHECK(x.during<tick>(1'000).size() == 1);
  // The clock of the log may be slower than this node's: asked for again, once a second.
  x.applied.applied_time_ms += retention / 2;
  x.tell();
  CHECK(x.during<tick>(retention / 2).empty());
  CHECK(x.during<tick>(10'000).size() <= 10);
}

TEST_CASE("fleet: applied time, and it alone, lets finished tasks leave") {
  upkeep x;
  x.applied.applied_time_ms = 500'000 + retention;
  x.applied.oldest_finished_ms = 500'000;
  x.tell();
  CHECK(x.during<retire_tasks>(100'000).empty());
  x.applied.applied_time_ms += 1;
  x.tell();
  auto steps = x.during<retire_tasks>(250);
  REQUIRE(steps.size() == 1);
  CHECK(steps[0].finished_before_ms == 500'001);
  CHECK(steps[0].limit == limits::retired_tasks);
}

TEST_CASE("fleet: one step is proposed after the other was applied, and one that was lost again") {
  upkeep x;
  x.applied.applied_time_ms = 900'000;
  x.applied.oldest_finished_ms = 500'000;
  x.tell();
  CHECK(x.during<retire_tasks>(5'000).size() == 1);
  CHECK(x.during<retire_tasks>(500).size() == 1);
  // Many tasks finished at one time: that the oldest is as old as before does not hold the next step up.
  ++x.applied.retire_steps;
  x.tell();
  CHECK(x.during<retire_tasks>(250).size() == 1);
  ++x.applied.retire_steps;
  x.applied.oldest_finished_ms = 0;
  x.tell();
  CHECK(x.during<retire_tasks>(20'000).empty());
}

TEST_CASE("fleet: a new leader does not wait for the step of the one before") {
  upkeep x;
  x.applied.applied_time_ms = 900'000;
  x.applied.oldest_finished_ms = 500'000;
  x.tell();
  CHECK(x.during<retire_tasks>(250).size() == 1);
  x.core.off_leader();
  x.lead();
  CHECK(x.during<retire_tasks>(250).size() == 1);
}

TEST_CASE("fleet: without a retention finished tasks stay and cost no entry") {
  upkeep x{limited(0, 0)};
  x.applied.applied_time_ms = 900'000;
  x.applied.oldest_finished_ms = 1;
  x.tell();
  CHECK(x.during<retire_tasks>(5'000).empty());
  CHECK(x.during<tick>(5'000).empty());
}

TEST_CASE("fleet: the alarm goes on past the quota and off below nine tenths of it") {
  upkeep x;
  auto step = [&](std::uint64_t bytes) {
    x.core.storage_use(bytes);
    auto proposed = x.during<set_storage_alarm>(250);
    CHECK(proposed.size() <= 1);
    if (proposed.empty())
      return -1;
    x.applied.storage_full = proposed[0].full;
    x.tell();
    return proposed[0].full ? 1 : 0;
  };
  CHECK(x.during<set_storage_alarm>(1'000).empty());
  CHECK(step(quota) == -1);
  CHECK(step(quota + 1) == 1);
  CHECK(step(quota) == -1);
  CHECK(step(quota / 10 * 9) == -1);
  CHECK(step(quota / 10 * 9 - 1) == 0);
  CHECK(step(quota) == -1);
  CHECK(step(2 * quota) == 1);
}

TEST_CASE("fleet: an alarm that was not applied is proposed again, and not every time") {
  upkeep x;
  x.core.storage_use(quota + 1);
  CHECK(x.during<set_storage_alarm>(5'000).size() == 1);
  CHECK(x.during<set_storage_alarm>(500).size() == 1);
}

TEST_CASE("fleet: a new leader judges the alarm by its own disk") {
  upkeep x;
  x.applied.storage_full = true;
  x.core.off_leader();
  x.core.storage_use(quota);
  x.lead();
  auto proposed = x.during<set_storage_alarm>(250);
  REQUIRE(proposed.size() == 1);
  CHECK_FALSE(proposed[0].full);
  x.core.storage_use(quota + 1);
  x.lead();
  CHECK(x.during<set_storage_alarm>(250).empty());
}

TEST_CASE("fleet: without a quota an alarm that is left over ends") {
  upkeep x{limited(0, 0)};
  x.core.storage_use(UINT64_MAX);
  CHECK(x.during<set_storage_alarm>(1'000).empty());
  x.applied.storage_full = true;
  x.tell();
  auto proposed = x.during<set_storage_alarm>(250);
  REQUIRE(proposed.size() == 1);
  CHECK_FALSE(proposed[0].full);
}
