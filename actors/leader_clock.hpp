#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace coordinator {

/// The time that a leader writes into entries (rule 9): goes on from the log's newest time on the monotonic clock,
/// and approaches wall time by running at up to double or down to half speed, so that a wall clock that jumps,
/// here or at the next leader, never makes a time limit pass at once.
class leader_clock {
 public:
  /// `time_ms` is the log's newest time, `now` the monotonic time at which this node became leader.
  void start(std::int64_t time_ms, std::chrono::milliseconds now) {
    time_ms_ = time_ms;
    at_ = now;
  }

  /// Milliseconds since the Unix epoch; never decreases.
  std::int64_t stamp(std::chrono::milliseconds now, std::int64_t wall_ms) {
    auto elapsed = (now - at_).count();
    if (elapsed < 2)  // Halving one millisecond would lose it.
      return time_ms_;
    at_ = now;
    auto behind = wall_ms - (time_ms_ + elapsed);
    time_ms_ += elapsed + std::clamp<std::int64_t>(behind, -elapsed / 2, elapsed);
    return time_ms_;
  }

 private:
  std::int64_t time_ms_ = 0;
  std::chrono::milliseconds at_{0};
};

}  // namespace coordinator
