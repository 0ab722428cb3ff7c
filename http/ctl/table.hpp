#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace coordinator::ctl {

/// Rows for people: columns as wide as their widest cell, two spaces apart. Control characters in a cell are shown as
/// `?`, so that what a stranger stored cannot steer the reader's terminal.
class table {
 public:
  explicit table(std::vector<std::string> head) : rows_{std::move(head)} {}

  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::size_t size() const { return rows_.size() - 1; }
  void print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// The text with control characters replaced, for one line of a terminal; cut to `width` characters with an ellipsis
/// (0: not cut).
std::string for_terminal(const std::string& text, std::size_t width = 0);

}  // namespace coordinator::ctl
