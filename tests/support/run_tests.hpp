#pragma once

#include <doctest/doctest.h>

#include <cstdio>

// For the one file of a test program that implements doctest.

namespace coordinator {

/// Sees whether the filters of the command line left any test case at all.
struct selection_listener : doctest::IReporter {
  inline static bool is_empty = false;

  explicit selection_listener(const doctest::ContextOptions&) {}
  void test_run_end(const doctest::TestRunStats& stats) override { is_empty = stats.numTestCasesPassingFilters == 0; }

  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

REGISTER_LISTENER("selection", 1, selection_listener);

/// Runs what the command line selects. A selection of nothing fails: CTest selects each case by its name, and one whose
/// name it cannot pass on, such as one with a semicolon, would be taken for passed without ever having run.
inline int run_tests(int argc, char** argv) {
  auto status = doctest::Context{argc, argv}.run();
  if (status != 0 || !selection_listener::is_empty)
    return status;
  std::fputs("no test case matches\n", stderr);
  return 1;
}

}  // namespace coordinator
