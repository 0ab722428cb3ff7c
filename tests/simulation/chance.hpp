#pragma once

#include <cstdint>

namespace coordinator::simulation {

/// All chance of a history (SplitMix64). Distributions of the standard library are left out: their results are not
/// the same everywhere.
class chance {
 public:
  explicit chance(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    auto x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  /// 0 to n - 1; 0 for n = 0.
  std::uint64_t below(std::uint64_t n) { return n == 0 ? 0 : next() % n; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  bool one_in(std::uint64_t n) { return n != 0 && below(n) == 0; }
  bool permille(std::uint64_t n) { return below(1000) < n; }

 private:
  std::uint64_t state_;
};

}  // namespace coordinator::simulation
