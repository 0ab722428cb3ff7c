#include "http/worker/usage.hpp"

#include <fstream>
#include <string>

namespace coordinator {

double machine_usage::cpu_percent() {
  std::ifstream file{"/proc/stat"};
  std::string label;
  file >> label;
  // user nice system idle iowait irq softirq steal; what follows is counted in user and nice already.
  std::uint64_t busy = 0, total = 0, value = 0;
  for (int column = 0; column < 8 && file >> value; ++column) {
    total += value;
    if (column != 3 && column != 4)
      busy += value;
  }
  auto had_before = total_ != 0;
  auto busy_ticks = static_cast<double>(busy - busy_);
  auto all_ticks = static_cast<double>(total - total_);
  busy_ = busy;
  total_ = total;
  return had_before && all_ticks > 0 ? 100.0 * busy_ticks / all_ticks : 0;
}

double machine_usage::memory_percent() {
  std::ifstream file{"/proc/meminfo"};
  std::string name, unit;
  double value = 0, all = 0, available = 0;
  while (file >> name >> value && std::getline(file, unit)) {
    if (name == "MemTotal:")
      all = value;
    if (name == "MemAvailable:")
      available = value;
  }
  return all > 0 ? 100.0 * (all - available) / all : 0;
}

}  // namespace coordinator
