#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

namespace coordinator {

/// Durations counted in steps of an eighth of a power of two: a percentile is at most 12.5 % too high.
class duration_counts {
 public:
  void add(std::chrono::microseconds x);
  std::uint64_t total() const { return total_; }
  /// The upper end of the step that holds the given share (0 to 1) of all; negative where there is none.
  std::int64_t percentile_us(double share) const;

 private:
  static constexpr std::size_t steps = 256;
  static std::size_t step_of(std::uint64_t us);
  static std::uint64_t upper_end(std::size_t step);

  std::array<std::uint32_t, steps> counts_{};
  std::uint64_t total_ = 0;
};

/// The last minutes of a node in steps of some seconds: how much was committed, and how long writing took. For a
/// page that is opened now and is to show what was before. Thread-safe; takes the time with each call, on any clock
/// that only goes forward.
class latency_history {
 public:
  using time = std::chrono::milliseconds;
  static constexpr time step{2'000};
  static constexpr std::size_t kept = 300;

  void committed(std::uint64_t entries, time now);
  void written(std::chrono::microseconds taken, time now);
  void synced(std::chrono::microseconds taken, time now);

  struct point {
    std::int64_t number = 0;  ///< Of the step; one more than that of the step before.
    time age{0};              ///< Since its end.
    std::uint64_t committed = 0;
    std::uint64_t writes = 0;
    std::int64_t write_p50_us = -1;  ///< Negative: there was none.
    std::int64_t write_p99_us = -1;
    std::uint64_t syncs = 0;
    std::int64_t sync_p50_us = -1;
    std::int64_t sync_p99_us = -1;
  };
  /// The steps that are complete, the oldest first, also those in which nothing happened, but none from before the
  /// first call of any function.
  std::vector<point> points(time now) const;

 private:
  struct slot {
    std::int64_t number = -1;
    std::uint64_t committed = 0;
    duration_counts writes;
    duration_counts syncs;
  };
  slot& at(time now);

  mutable std::mutex mutex_;
  mutable std::int64_t first_ = -1;
  std::vector<slot> slots_ = std::vector<slot>(kept + 1);
};

}  // namespace coordinator
