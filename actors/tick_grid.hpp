#pragma once

#include <chrono>
#include <cstdint>

namespace coordinator {

/// The times at which a node's periodic timers fire. All of them keep the same ones, so that a thread that wakes for
/// one does the others' work as well; each node has a phase of its own, so that nodes are not all busy at once.
struct tick_grid {
  std::chrono::milliseconds interval{50};
  std::chrono::milliseconds phase{0};

  static tick_grid of(std::chrono::milliseconds interval, std::uint64_t seed) {
    return {interval, std::chrono::milliseconds{static_cast<std::int64_t>(seed % 1'000)}};
  }

  /// From `now`, which is not negative, to the next tick: more than nothing, `interval` at most. One that came late
  /// does not move the next.
  std::chrono::milliseconds until_next(std::chrono::milliseconds now) const {
    return interval - (now + interval - phase % interval) % interval;
  }
};

}  // namespace coordinator
