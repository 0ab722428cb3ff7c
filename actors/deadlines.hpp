#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace coordinator {

/// Times at which something is due, by number; a number has one time at most. Costs nothing while nothing is due.
class deadlines {
 public:
  using milliseconds = std::chrono::milliseconds;

  /// Replaces the number's earlier time.
  void set(std::uint64_t number, milliseconds at) {
    auto [i, is_new] = times_.try_emplace(number, at);
    if (!is_new) {
      order_.erase({i->second, number});
      i->second = at;
    }
    order_.emplace(at, number);
  }

  void erase(std::uint64_t number) {
    auto i = times_.find(number);
    if (i == times_.end())
      return;
    order_.erase({i->second, number});
    times_.erase(i);
  }

  /// The earliest time of all.
  std::optional<milliseconds> next() const {
    if (order_.empty())
      return std::nullopt;
    return order_.begin()->first;
  }

  /// Takes out a number whose time has come, the earliest first.
  std::optional<std::uint64_t> take(milliseconds now) {
    if (order_.empty() || order_.begin()->first > now)
      return std::nullopt;
    auto number = order_.begin()->second;
    order_.erase(order_.begin());
    times_.erase(number);
    return number;
  }

 private:
  std::map<std::uint64_t, milliseconds> times_;
  std::set<std::pair<milliseconds, std::uint64_t>> order_;
};

/// The earlier of two times, either of which may be missing.
inline std::optional<std::chrono::milliseconds> earlier(std::optional<std::chrono::milliseconds> x,
                                                        std::optional<std::chrono::milliseconds> y) {
  if (!x || !y)
    return x ? x : y;
  return *x < *y ? x : y;
}

}  // namespace coordinator
