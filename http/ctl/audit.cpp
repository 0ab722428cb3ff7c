#include "http/ctl/audit.hpp"

#include <istream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "http/ctl/session.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;

/// One task as its workers saw it.
struct own_account {
  std::map<std::int64_t, int> started;
  std::set<std::int64_t> ended;
  std::set<std::int64_t> accepted;  ///< Attempts whose completion was accepted.
};

using own_accounts = std::unordered_map<std::string, own_account>;

own_accounts group_by_task(const std::vector<journal_line>& journals) {
  own_accounts result;
  for (auto& line : journals) {
    auto& task = result[line.task_id];
    if (line.event == "started")
      ++task.started[line.attempt];
    else if (line.event == "ended")
      task.ended.insert(line.attempt);
    else if (line.event == "reported" && line.complete && line.answer == "accepted")
      task.accepted.insert(line.attempt);
  }
  return result;
}

std::set<std::int64_t> completed_attempts(const json& task) {
  std::set<std::int64_t> result;
  auto attempts = task.find("attempts");
  if (attempts == task.end() || !attempts->is_array())
    return result;
  for (auto& attempt : *attempts)
    if (text_at(attempt, "outcome") == "completed")
      result.insert(attempt.value("attempt", std::int64_t{0}));
  return result;
}

std::string listed(const std::set<std::int64_t>& numbers) {
  std::string result;
  for (auto number : numbers)
    result += (result.empty() ? "" : " and ") + std::to_string(number);
  return result;
}

/// What the two accounts say of one completed task.
void judge_completed(audit_report& report, const std::string& id, const json& task, const own_account* own) {
  auto completed = completed_attempts(task);
  if (completed.size() > 1)
    report.run_twice.push_back(id + ": attempts " + listed(completed) + " are both recorded as completed");
  if (!own)
    return;
  for (auto attempt : completed)
    if (!own->ended.contains(attempt))
      report.lost.push_back(id + ": recorded as completed by attempt " + std::to_string(attempt) +
                            ", which no worker ended");
  for (auto attempt : own->accepted)
    if (!completed.contains(attempt))
      report.lost.push_back(id + ": the result of attempt " + std::to_string(attempt) +
                            " was accepted and is not in the record");
}

void judge_journal(audit_report& report, const std::string& id, const own_account& own) {
  for (auto& [attempt, times] : own.started) {
    report.attempts_started += static_cast<std::size_t>(times);
    if (times > 1)
      report.run_twice.push_back(id + ": attempt " + std::to_string(attempt) + " was started " + std::to_string(times) +
                                 " times");
  }
  if (own.started.size() > 1)
    ++report.tasks_started_again;
  if (own.accepted.size() > 1)
    report.run_twice.push_back(id + ": completions of attempts " + listed(own.accepted) + " were both accepted");
}

void judge(audit_report& report, const std::string& id, const json* task, const own_account* own) {
  if (own)
    judge_journal(report, id, *own);
  if (!task) {
    report.lost.push_back(id + ": the cluster does not know it");
    return;
  }
  auto status = text_at(*task, "status");
  if (status == "completed") {
    ++report.completed;
    if (auto result = task->find("result"); result != task->end() && text_at(*result, "outcome") == "passed")
      ++report.passed;
    judge_completed(report, id, *task, own);
  } else if (own && !own->accepted.empty()) {
    report.lost.push_back(id + ": a result was accepted, and its status is " + status);
  } else if (status == "failed") {
    ++report.failed;
  } else if (status == "cancelled") {
    ++report.cancelled;
  } else {
    report.lost.push_back(id + ": it did not end; its status is " + status);
  }
}

}  // namespace

void read_journal(std::istream& in, std::vector<journal_line>& lines) {
  for (std::string text; std::getline(in, text);) {
    auto line = json::parse(text, nullptr, false);
    if (!line.is_object() || !line.contains("task_id"))
      continue;
    lines.push_back({text_at(line, "event"), text_at(line, "worker_id"), text_at(line, "task_id"),
                     line.value("attempt", std::int64_t{0}), text_at(line, "answer"),
                     text_at(line, "as") == "complete"});
  }
}

audit_report audit_tasks(const std::vector<std::string>& submitted, const std::vector<json>& tasks,
                         const std::vector<journal_line>& journals) {
  std::unordered_map<std::string, const json*> recorded;
  for (auto& task : tasks)
    recorded[text_at(task, "task_id")] = &task;
  auto own = group_by_task(journals);
  static const own_account nothing_seen;
  audit_report report;
  for (auto& id : std::set<std::string>(submitted.begin(), submitted.end())) {
    ++report.submitted;
    auto task = recorded.find(id);
    auto account = own.find(id);
    auto silent = journals.empty() ? nullptr : &nothing_seen;
    judge(report, id, task == recorded.end() ? nullptr : task->second,
          account == own.end() ? silent : &account->second);
  }
  return report;
}

}  // namespace coordinator::ctl
