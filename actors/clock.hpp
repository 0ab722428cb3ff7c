#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace coordinator {

/// A node's clocks, given from outside so that a simulation can run them at any speed. Time-outs and leases use
/// `steady`, which never goes back; `wall_ms` may jump: the keeper reads it for its leader_clock, and the fleet for the
/// time of a heartbeat that people see.
struct node_clock {
  std::function<std::chrono::milliseconds()> steady;
  std::function<std::int64_t()> wall_ms;  ///< Milliseconds since the Unix epoch.

  static node_clock system() {
    using namespace std::chrono;
    return {[] { return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()); },
            [] { return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count(); }};
  }
};

}  // namespace coordinator
