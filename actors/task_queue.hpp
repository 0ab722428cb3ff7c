#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/commands.hpp"

namespace coordinator {

/// A task's place in the order of submission, dense from 0. Tasks refer to each other by it.
using task_ordinal = std::uint32_t;

/// The pending tasks, grouped by what they require of a worker, so that a claim looks at the head of each group that
/// it may take from and never at the tasks behind it. What is picked depends on the set of pending tasks alone, not on
/// the numbers that the groups happen to have.
class task_queue {
 public:
  using class_id = std::uint32_t;

  /// The class of tasks with these requirements. Counts one user more: the class lives until as many `release`.
  class_id acquire(const capability_map& requirements);
  void release(class_id id);
  const capability_map& requirements(class_id id) const { return classes_[id].requirements; }

  /// Adds a task that is not in the queue, or removes one that is. Same class and priority in both.
  void push(class_id id, std::int32_t priority, task_ordinal task);
  void remove(class_id id, std::int32_t priority, task_ordinal task);

  /// Up to `most` tasks for a worker with these capabilities, highest priority first and then in the order of
  /// submission. They stay in the queue.
  std::vector<task_ordinal> pick(const capability_map& offered, std::size_t most) const;

  /// A worker that would claim now.
  struct wish {
    const capability_map* offered;
    std::size_t most;
  };
  /// Which wishes would get at least one task if they were served in this order; indexes into `wishes`.
  std::vector<std::size_t> serve(const std::vector<wish>& wishes) const;

  /// Pending tasks of one class. The oldest of them is among `heads`, unless there are hundreds of priorities.
  struct line {
    class_id id = 0;
    std::size_t tasks = 0;
    std::vector<task_ordinal> heads;  ///< Of each priority the first.
  };
  /// The classes with the most pending tasks, the longest first.
  std::vector<line> longest(std::size_t most) const;

  std::size_t size() const { return size_; }
  std::size_t class_count() const { return by_requirements_.size(); }

 private:
  /// Ascending order is the order of claims: the priority is negated.
  struct place {
    std::int64_t negated_priority;
    task_ordinal task;
    friend auto operator<=>(const place&, const place&) = default;
  };
  struct requirement_class {
    capability_map requirements;
    std::string key;
    std::size_t users = 0;
    std::set<place> pending;
  };

  std::vector<requirement_class> classes_;
  std::vector<class_id> free_;
  std::unordered_map<std::string, class_id> by_requirements_;
  std::set<class_id> with_pending_;
  std::size_t size_ = 0;
};

}  // namespace coordinator
