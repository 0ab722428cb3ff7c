#pragma once

#include <cstdint>
#include <functional>

#include "tests/simulation/history.hpp"

namespace coordinator::simulation {

struct run_request {
  history_options each;  ///< Its seed does not count.
  std::uint64_t first = 1;
  std::uint64_t last = 1;  ///< Inclusive.
  unsigned jobs = 1;
  /// Called for each history as it ends, in any order. False: enough has been seen.
  std::function<bool(std::uint64_t seed, const history_result&)> ended;
};

/// Plays the histories of all seeds in processes of their own. A history that ends its process, as the product's own
/// invariants do, counts as a violation, and the others go on.
void play_all(const run_request& request);

}  // namespace coordinator::simulation
