#include "actors/tick_grid.hpp"

#include <doctest/doctest.h>

using namespace coordinator;
using namespace std::chrono_literals;

TEST_CASE("ticks: timers that were armed at different times fire at the same ones") {
  const auto grid = tick_grid::of(50ms, 17);
  for (auto now = 0ms; now < 300ms; ++now) {
    const auto wait = grid.until_next(now);
    CHECK(wait > 0ms);
    CHECK(wait <= 50ms);
    CHECK_EQ((now + wait) % 50ms, 17ms);
  }
}

TEST_CASE("ticks: one that came late does not move the next one") {
  const tick_grid grid{50ms, 0ms};
  CHECK_EQ(grid.until_next(100ms), 50ms);
  CHECK_EQ(grid.until_next(130ms), 20ms);
  CHECK_EQ(grid.until_next(149ms), 1ms);
}

TEST_CASE("ticks: timers of other intervals meet where one is a multiple of the other") {
  const auto slow = tick_grid::of(200ms, 123'456);
  const auto fast = tick_grid::of(50ms, 123'456);
  for (auto now = 0ms; now < 1'000ms; ++now) {
    const auto next = now + slow.until_next(now);
    CHECK_EQ(fast.until_next(next), 50ms);
  }
}

TEST_CASE("ticks: nodes with different seeds have phases of their own") {
  CHECK_NE(tick_grid::of(50ms, 1).until_next(0ms), tick_grid::of(50ms, 2).until_next(0ms));
  // Also where the phase is longer than the interval.
  CHECK_EQ(tick_grid::of(50ms, 999).until_next(0ms), 49ms);
  CHECK_EQ(tick_grid::of(7ms, 50).until_next(0ms), 1ms);
}
