#pragma once

#include <cstdint>
#include <iosfwd>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace coordinator::ctl {

/// One line of a worker's journal.
struct journal_line {
  std::string event;  ///< `started`, `ended`, `reported`; others are of no interest here.
  std::string worker_id;
  std::string task_id;
  std::int64_t attempt = 0;
  std::string answer;     ///< Of `reported`: `accepted`, `stale`, …
  bool complete = false;  ///< Of `reported`: it was a completion, not a failure.
};

/// Adds the lines of one journal. A line that is not whole JSON (a worker died while it wrote) is passed over.
void read_journal(std::istream& in, std::vector<journal_line>& lines);

/// What became of a list of tasks, from two accounts that must agree: what the cluster recorded, and what the workers
/// wrote down themselves.
struct audit_report {
  std::size_t submitted = 0;
  std::size_t completed = 0;
  std::size_t passed = 0;  ///< Of the completed ones.
  std::size_t failed = 0;  ///< Status `failed`: no attempt left.
  std::size_t cancelled = 0;
  std::size_t attempts_started = 0;     ///< In the journals.
  std::size_t tasks_started_again = 0;  ///< Tasks with more than one attempt in the journals: allowed after a fault.

  /// Tasks that the cluster does not know, that did not end, whose accepted result it does not show, or that it shows
  /// as completed by an attempt that no worker ended. One sentence each.
  std::vector<std::string> lost;
  /// Tasks with two completed attempts in the cluster's record, with two completions that workers were told were
  /// accepted, or with one attempt that was started twice. One sentence each.
  std::vector<std::string> run_twice;

  bool clean() const { return lost.empty() && run_twice.empty(); }
};

/// `tasks` are the cluster's task objects, in any order; those that were not submitted are left out of account.
/// Without any journal line only the cluster's account is judged.
audit_report audit_tasks(const std::vector<std::string>& submitted, const std::vector<nlohmann::json>& tasks,
                         const std::vector<journal_line>& journals);

}  // namespace coordinator::ctl
