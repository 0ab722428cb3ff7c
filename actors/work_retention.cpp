#include <algorithm>

#include "actors/work_table.hpp"

namespace coordinator {

std::int64_t work_table::oldest_finished_ms() const {
  return finished_.empty() ? 0 : tasks_[finished_.front()].finished_ms;
}

command_result work_table::apply(const retire_tasks& x, context c) {
  ++retire_steps_;
  // At this very time others may finish yet, and would then belong between those that have left.
  const auto before = std::min(x.finished_before_ms, c.now_ms);
  command_result result;
  while (result.version < x.limit && !finished_.empty() && oldest_finished_ms() < before) {
    order_oldest_finished();
    auto ordinal = finished_.front();
    finished_.pop_front();
    retire(ordinal);
    ++result.version;
  }
  return result;
}

void work_table::order_oldest_finished() {
  // Tasks come here in the order in which they were ended, which the rows do not tell: after a restart, and so on all
  // nodes, their ordinals decide.
  const auto oldest = oldest_finished_ms();
  if (ordered_ms_ == oldest)
    return;
  ordered_ms_ = oldest;
  auto end = std::partition_point(finished_.begin(), finished_.end(),
                                  [&](task_ordinal each) { return tasks_[each].finished_ms == oldest; });
  std::sort(finished_.begin(), end);
}

void work_table::retire(task_ordinal ordinal) {
  auto& t = tasks_[ordinal];
  rows_.erase(row_kind::task, ordered_id(ordinal), t.hash);
  tasks_by_id_.erase(t.id);
  tasks_by_status_[static_cast<std::size_t>(t.status)].erase(ordinal);
  if (!t.attempts.empty())
    worker_names_[t.attempts.back().worker].value.tasks.erase(ordinal);
  for (auto& each : t.attempts)
    forget_attempt(each.worker);
  const auto run = t.run;
  const auto type = t.type;
  --runs_[run].value.by_status[static_cast<std::size_t>(t.status)];
  runs_[run].value.passed -= t.has_passed();
  tasks_.remove(ordinal);
  remove_from(runs_[run].value.tasks);
  if (runs_[run].value.tasks.size() == 0) {
    if (!runs_[run].name.empty())
      runs_by_start_.erase(runs_[run].value.began);
    runs_.release(run);
  }
  remove_from(types_[type].value);
  if (types_[type].value.size() == 0)
    types_.release(type);
}

void work_table::remove_from(task_list& list) {
  ++list.gone;
  while (list.first < list.all.size() && !tasks_.contains(list.all[list.first]))
    ++list.first;
  if (list.gone * 2 <= list.all.size())
    return;
  std::erase_if(list.all, [&](task_ordinal each) { return !tasks_.contains(each); });
  list.all.shrink_to_fit();
  list.first = 0;
  list.gone = 0;
}

void work_table::forget_attempt(std::uint32_t worker) {
  if (--worker_names_[worker].value.attempts == 0)
    worker_names_.release(worker);
}

}  // namespace coordinator
