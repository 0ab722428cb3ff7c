#pragma once

#include <boost/histogram.hpp>
#include <chrono>
#include <cstdint>

namespace coordinator::bench {

/// Latencies from 1 µs to 100 s, each counted at most 1 % too high. Costs the same however many there are.
class latency_histogram {
 public:
  void add(std::chrono::nanoseconds latency) {
    const auto us = std::chrono::duration<double, std::micro>(latency).count();
    counts_(us);
    ++total_;
    longest_us_ = std::max(longest_us_, us);
  }

  std::uint64_t total() const { return total_; }
  double longest_ms() const { return longest_us_ / 1000; }

  /// The latency that the given share (0 to 1) of all stays within; 0 where there is none.
  double quantile_ms(double share) const {
    const auto wanted = share * static_cast<double>(total_);
    double seen = 0;
    // From what is below the first step to what is past the last.
    for (int i = -1; i <= counts_.axis().size(); ++i) {
      seen += counts_.at(i);
      if (seen >= wanted && seen > 0)
        return std::min(i < 0 ? 0.001 : counts_.axis().value(i + 1) / 1000, longest_ms());
    }
    return 0;
  }

 private:
  using axis = boost::histogram::axis::regular<double, boost::histogram::axis::transform::log>;
  static constexpr unsigned steps = 1852;  // ln(1e8) / ln(1.01)

  using storage = boost::histogram::dense_storage<double>;
  decltype(boost::histogram::make_histogram_with(storage{}, axis{})) counts_ =
      boost::histogram::make_histogram_with(storage{}, axis{steps, 1, 1e8});
  std::uint64_t total_ = 0;
  double longest_us_ = 0;
};

}  // namespace coordinator::bench
