#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "actors/queries.hpp"

namespace coordinator {

/// How one task of a run went, for people.
struct task_result {
  std::string task_id;
  std::string name;  ///< The task's own `name`, or its id.
  std::string worker_id;
  std::uint32_t attempt = 0;
  /// passed, failed, error, timeout or cancelled; the task's status while it has not ended.
  std::string outcome;
  std::int64_t duration_ms = 0;
  std::string error;
  std::string output;

  bool ended() const {
    return outcome == "passed" || outcome == "failed" || outcome == "error" || outcome == "timeout" ||
           outcome == "cancelled";
  }
};
/// A task that the cluster gave up, or that was completed without a known outcome, is an error.
task_result result_of(const task_view& task);

/// A run as JUnit XML, in pieces: the head, a piece a task, the end.
struct junit_sums {
  std::uint64_t tests = 0;
  std::uint64_t failures = 0;
  std::uint64_t errors = 0;
  std::uint64_t skipped = 0;  ///< Cancelled, or not ended yet.
  std::int64_t duration_ms = 0;

  void add(const task_result& x);
};
std::string junit_head(const std::string& run_id, const junit_sums& sums);
std::string junit_case(const std::string& run_id, const task_result& x);
inline constexpr std::string_view junit_end = "</testsuite>\n</testsuites>\n";

/// For an attribute or for text; what XML 1.0 cannot hold becomes '?'.
std::string xml_escape(std::string_view text);

}  // namespace coordinator
