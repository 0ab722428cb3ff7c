#include "actors/event_log.hpp"

#include <utility>

namespace coordinator {
namespace {

std::size_t size_of(const cluster_event& event) {
  std::size_t text = 0;
  if (auto task = std::get_if<task_event>(&event))
    text = task->task_id.size() + task->run_id.size() + task->worker_id.size();
  else if (auto worker = std::get_if<worker_event>(&event))
    text = worker->worker.worker_id.size();
  else if (auto recovery = std::get_if<recovery_event>(&event))
    text = recovery->strategy.size() + recovery->target.size() + recovery->outcome.size() + recovery->detail.size();
  return sizeof(recorded_event) + text;
}

bool is_notable(const cluster_event& event) {
  return !std::holds_alternative<task_event>(event) && !std::holds_alternative<worker_event>(event);
}

}  // namespace

void event_log::add(std::int64_t at_ms, std::vector<cluster_event> events) {
  if (events.empty())
    return;
  {
    std::lock_guard lock{mutex_};
    for (auto& event : events) {
      bytes_ += size_of(event);
      recorded_event next{++last_, at_ms, std::move(event)};
      if (is_notable(next.what)) {
        notable_.push_back(next);
        if (notable_.size() > most_notable)
          notable_.pop_front();
      }
      events_.push_back(std::move(next));
    }
    while (events_.size() > most_events || bytes_ > most_bytes) {
      bytes_ -= size_of(events_.front().what);
      events_.pop_front();
    }
  }
  grown_.notify_all();
}

std::uint64_t event_log::last() const {
  std::lock_guard lock{mutex_};
  return last_;
}

event_log::page event_log::after(std::uint64_t number, std::size_t most, std::chrono::milliseconds patience) const {
  std::unique_lock lock{mutex_};
  if (number > last_)
    return {true, {}};
  grown_.wait_for(lock, patience, [&] { return last_ > number; });
  page result;
  if (last_ == number)
    return result;
  auto first = last_ - events_.size() + 1;
  if (number + 1 < first)
    return {true, {}};
  auto begin = events_.begin() + static_cast<std::ptrdiff_t>(number + 1 - first);
  auto count = std::min<std::size_t>(most, static_cast<std::size_t>(last_ - number));
  result.events.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
  return result;
}

std::vector<recorded_event> event_log::notable() const {
  std::lock_guard lock{mutex_};
  return {notable_.begin(), notable_.end()};
}

}  // namespace coordinator
