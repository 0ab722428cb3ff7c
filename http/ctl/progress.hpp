#pragma once

#include <chrono>
#include <cstddef>
#include <iosfwd>
#include <string>

namespace coordinator::ctl {

/// Tells how far something is: on a terminal one line that is written over, elsewhere a line for each tenth.
class progress {
 public:
  progress(std::ostream& out, bool terminal, std::string what);
  /// Leaves the terminal's line as it is, so that later output begins on a new one.
  ~progress();
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  void show(std::size_t done, std::size_t total);

 private:
  std::ostream& out_;
  bool terminal_;
  std::string what_;
  bool line_open_ = false;
  int last_tenth_ = -1;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace coordinator::ctl
