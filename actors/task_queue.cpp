#include "actors/task_queue.hpp"

#include <algorithm>
#include <queue>

namespace coordinator {

task_queue::class_id task_queue::acquire(const capability_map& requirements) {
  byte_writer writer;
  auto copy = requirements;
  writer(copy);
  auto key = writer.take();
  if (auto found = by_requirements_.find(key); found != by_requirements_.end()) {
    ++classes_[found->second].users;
    return found->second;
  }
  class_id id = 0;
  if (free_.empty()) {
    id = static_cast<class_id>(classes_.size());
    classes_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  auto& fresh = classes_[id];
  fresh.requirements = requirements;
  fresh.key = key;
  fresh.users = 1;
  by_requirements_.emplace(std::move(key), id);
  return id;
}

void task_queue::release(class_id id) {
  auto& x = classes_[id];
  if (--x.users > 0)
    return;
  by_requirements_.erase(x.key);
  x = {};
  free_.push_back(id);
}

void task_queue::push(class_id id, std::int32_t priority, task_ordinal task) {
  auto& pending = classes_[id].pending;
  // Most tasks come in order and with one priority: the end is the right place.
  auto before = pending.size();
  pending.insert(pending.end(), {-static_cast<std::int64_t>(priority), task});
  if (before == 0)
    with_pending_.insert(id);
  size_ += pending.size() - before;
}

void task_queue::remove(class_id id, std::int32_t priority, task_ordinal task) {
  auto& pending = classes_[id].pending;
  size_ -= pending.erase({-static_cast<std::int64_t>(priority), task});
  if (pending.empty())
    with_pending_.erase(id);
}

std::vector<task_ordinal> task_queue::pick(const capability_map& offered, std::size_t most) const {
  using iterator = std::set<place>::const_iterator;
  using head = std::pair<iterator, iterator>;
  auto later = [](const head& x, const head& y) { return *y.first < *x.first; };
  std::priority_queue<head, std::vector<head>, decltype(later)> heads{later};
  for (auto id : with_pending_)
    if (meets(offered, classes_[id].requirements))
      heads.emplace(classes_[id].pending.begin(), classes_[id].pending.end());
  std::vector<task_ordinal> result;
  while (result.size() < most && !heads.empty()) {
    auto best = heads.top();
    heads.pop();
    result.push_back(best.first->task);
    if (++best.first != best.second)
      heads.push(best);
  }
  return result;
}

std::vector<std::size_t> task_queue::serve(const std::vector<wish>& wishes) const {
  std::vector<std::pair<class_id, std::size_t>> left;
  for (auto id : with_pending_)
    left.emplace_back(id, classes_[id].pending.size());
  auto total = size_;
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < wishes.size() && total > 0; ++i) {
    auto open = wishes[i].most;
    for (auto& [id, count] : left) {
      if (count == 0 || open == 0 || !meets(*wishes[i].offered, classes_[id].requirements))
        continue;
      auto taken = std::min(open, count);
      count -= taken;
      open -= taken;
      total -= taken;
    }
    if (open < wishes[i].most)
      result.push_back(i);
  }
  return result;
}

std::vector<task_queue::line> task_queue::longest(std::size_t most) const {
  constexpr std::size_t most_heads = 200;
  std::vector<line> result;
  for (auto id : with_pending_)
    result.push_back({id, classes_[id].pending.size(), {}});
  auto longer = [](const line& a, const line& b) { return a.tasks > b.tasks; };
  auto kept = result.begin() + static_cast<std::ptrdiff_t>(std::min(most, result.size()));
  std::partial_sort(result.begin(), kept, result.end(), longer);
  result.erase(kept, result.end());
  for (auto& each : result) {
    auto& pending = classes_[each.id].pending;
    for (auto i = pending.begin(); i != pending.end() && each.heads.size() < most_heads;) {
      each.heads.push_back(i->task);
      i = pending.upper_bound({i->negated_priority, UINT32_MAX});
    }
  }
  return result;
}

}  // namespace coordinator
