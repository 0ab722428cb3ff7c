#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace coordinator::ctl {

struct doctest_case {
  std::string name;
  std::string file;  ///< As doctest lists it.

  friend bool operator==(const doctest_case&, const doctest_case&) = default;
};

/// The test cases in what `PROGRAM --list-test-cases --reporters=xml` wrote, each (name, file) once and in that order.
std::vector<doctest_case> parse_doctest_list(std::string_view xml);

/// The argument that makes doctest run the cases of this name and no other: commas and backslashes are escaped.
/// (A name with `*` or `?` may match further names too; there is no escape for these.)
std::string doctest_filter(std::string_view option, std::string_view value);

/// Whether doctest's closing line says that no test case was run. False where there is no such line.
bool ran_no_case(std::string_view output);

}  // namespace coordinator::ctl
