#include <doctest/doctest.h>

#include "actors/leader_clock.hpp"

using namespace coordinator;
using std::chrono::milliseconds;

namespace {

/// Stamps once every `step` until `span` has passed, with the wall clock `ahead` of true time; the last stamp.
std::int64_t run(leader_clock& clock, milliseconds from, milliseconds span, milliseconds step,
                 std::int64_t wall_at_from) {
  std::int64_t last = 0;
  for (milliseconds t{0}; t <= span; t += step)
    last = clock.stamp(from + t, wall_at_from + t.count());
  return last;
}

}  // namespace

TEST_CASE("leader_clock: goes on from the log's newest time (rule 9)") {
  leader_clock clock;
  clock.start(5'000, milliseconds{100});
  CHECK_EQ(clock.stamp(milliseconds{100}, 999'999), 5'000);
}

TEST_CASE("leader_clock: keeps pace with a wall clock that is right") {
  leader_clock clock;
  clock.start(5'000, milliseconds{0});
  CHECK_EQ(run(clock, milliseconds{0}, milliseconds{60'000}, milliseconds{7}, 5'000), 5'000 + 59'997);
}

TEST_CASE("leader_clock: catches up with a wall clock that is ahead at double speed, never by a jump") {
  leader_clock clock;
  clock.start(0, milliseconds{0});
  CHECK_EQ(clock.stamp(milliseconds{1'000}, 3'600'000), 2'000);
  CHECK_EQ(clock.stamp(milliseconds{2'000}, 3'601'000), 4'000);
  CHECK_EQ(clock.stamp(milliseconds{3'000}, 4'500), 4'500);
}

TEST_CASE("leader_clock: waits for a wall clock that is behind at half speed, and never goes back") {
  leader_clock clock;
  clock.start(10'000, milliseconds{0});
  CHECK_EQ(clock.stamp(milliseconds{1'000}, 0), 10'500);
  CHECK_EQ(clock.stamp(milliseconds{2'000}, 1'000), 11'000);
  CHECK_EQ(clock.stamp(milliseconds{2'000}, -1'000'000), 11'000);
}

TEST_CASE("leader_clock: stamps in quick succession lose no time") {
  leader_clock clock;
  clock.start(1'000, milliseconds{0});
  CHECK_EQ(run(clock, milliseconds{0}, milliseconds{10'000}, milliseconds{1}, 1'000), 11'000);
  // Behind: half speed, whatever the step.
  leader_clock slow;
  slow.start(100'000, milliseconds{0});
  auto last = run(slow, milliseconds{0}, milliseconds{10'000}, milliseconds{1}, 0);
  CHECK_GE(last, 105'000);
  CHECK_LE(last, 107'000);
}

TEST_CASE("leader_clock: a next leader with another wall clock makes no time limit pass at once") {
  leader_clock first;
  first.start(0, milliseconds{0});
  auto newest = run(first, milliseconds{0}, milliseconds{1'000}, milliseconds{10}, 0);
  leader_clock second;
  second.start(newest, milliseconds{777'000});
  CHECK_LE(second.stamp(milliseconds{778'000}, 86'400'000), newest + 2'000);
}
