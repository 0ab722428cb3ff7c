#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "actors/rules.hpp"
#include "tests/simulation/checker.hpp"

namespace coordinator::simulation {

struct history_options {
  std::uint64_t seed = 1;
  unsigned nodes = 0;  ///< 0: the seed draws 3 or 5.
  std::chrono::seconds virtual_time{20};
  std::string profile;  ///< Empty: the seed draws one.
  defect_set defects;
  std::function<void(const std::string&)> trace;  ///< Called with each line; empty: none wanted.
};

struct history_result {
  std::optional<violation> found;
  std::string profile;
  unsigned nodes = 0;
  std::uint64_t fingerprint = 0;  ///< Of everything that happened.
  std::uint64_t steps = 0;
  std::uint64_t messages = 0;
  std::uint64_t lost = 0;
  std::uint64_t calls = 0;
  std::uint64_t answered = 0;
  std::uint64_t committed = 0;
  std::uint64_t terms = 0;
  std::chrono::microseconds virtual_time{0};
  std::map<std::string, std::uint64_t> faults;
  std::map<std::string, std::uint64_t> events;  ///< What the nodes did that is not done in every history.
};

/// Plays one history: faults for `virtual_time`, then a healed network, in which a leader must stand within 2 s, all
/// nodes converge and every call end. The same options give the same history.
history_result play(const history_options& options);

/// The command line that plays it again.
std::string replay_command(const std::string& program, const history_options& options);

}  // namespace coordinator::simulation
