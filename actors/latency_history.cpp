#include "actors/latency_history.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace coordinator {

// Below 8 µs each has a step of its own; from there on every power of two is cut into eight.
std::size_t duration_counts::step_of(std::uint64_t us) {
  if (us < 8)
    return static_cast<std::size_t>(us);
  auto power = static_cast<std::size_t>(std::bit_width(us)) - 1;
  return std::min(steps - 1, (power - 2) * 8 + static_cast<std::size_t>(us >> (power - 3)) - 8);
}

std::uint64_t duration_counts::upper_end(std::size_t step) {
  if (step < 8)
    return step;
  auto power = step / 8 + 2;
  return (std::uint64_t{step % 8 + 9} << (power - 3)) - 1;
}

void duration_counts::add(std::chrono::microseconds x) {
  ++counts_[step_of(static_cast<std::uint64_t>(std::max<std::int64_t>(x.count(), 0)))];
  ++total_;
}

std::int64_t duration_counts::percentile_us(double share) const {
  if (total_ == 0)
    return -1;
  auto wanted = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(total_))));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < steps; ++i)
    if ((seen += counts_[i]) >= wanted)
      return static_cast<std::int64_t>(upper_end(i));
  return static_cast<std::int64_t>(upper_end(steps - 1));
}

latency_history::slot& latency_history::at(time now) {
  auto number = now / step;
  if (first_ < 0)
    first_ = number;
  auto& found = slots_[static_cast<std::size_t>(number) % slots_.size()];
  if (found.number != number) {
    found = {};
    found.number = number;
  }
  return found;
}

void latency_history::committed(std::uint64_t entries, time now) {
  std::lock_guard lock{mutex_};
  at(now).committed += entries;
}

void latency_history::written(std::chrono::microseconds taken, time now) {
  std::lock_guard lock{mutex_};
  at(now).writes.add(taken);
}

void latency_history::synced(std::chrono::microseconds taken, time now) {
  std::lock_guard lock{mutex_};
  at(now).syncs.add(taken);
}

std::vector<latency_history::point> latency_history::points(time now) const {
  std::lock_guard lock{mutex_};
  std::vector<point> result;
  auto current = now / step;
  if (first_ < 0)
    first_ = current;
  for (auto number = std::max<std::int64_t>(first_, current - static_cast<std::int64_t>(kept)); number < current;
       ++number) {
    point p;
    p.number = number;
    p.age = now - step * (number + 1);
    auto& s = slots_[static_cast<std::size_t>(number) % slots_.size()];
    if (s.number == number)
      p = {p.number,
           p.age,
           s.committed,
           s.writes.total(),
           s.writes.percentile_us(0.5),
           s.writes.percentile_us(0.99),
           s.syncs.total(),
           s.syncs.percentile_us(0.5),
           s.syncs.percentile_us(0.99)};
    result.push_back(p);
  }
  return result;
}

}  // namespace coordinator
