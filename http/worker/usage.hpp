#pragma once

#include <cstdint>

namespace coordinator {

/// How busy this machine is, from /proc, in percent. CPU is the mean since the call before; 0 at the first.
class machine_usage {
 public:
  double cpu_percent();
  static double memory_percent();

 private:
  std::uint64_t busy_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace coordinator
