#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "actors/rules.hpp"
#include "tests/simulation/checker.hpp"

namespace coordinator::simulation {

/// A rule taken out, and the history that shows what it prevents.
struct defect_row {
  defect what;
  const char* name;
  const char* profile;    ///< Where it shows soonest; empty: in none, for want of what `invariant` says.
  std::uint64_t seed;     ///< The first that shows it.
  const char* invariant;  ///< What breaks.
};

const std::vector<defect_row>& defect_rows();
/// Null for an unknown name.
const defect_row* find_defect(const std::string& name);

/// Whether rules can be switched off in this program.
bool rules_are_switchable();

struct finding {
  std::uint64_t seed = 0;
  violation what;
};

/// The first of these seeds, both included, that breaks something once the row's rule is out.
std::optional<finding> find_violation(const defect_row& row, std::uint64_t first, std::uint64_t last,
                                      unsigned jobs = 1);

/// Replays every row's seed and prints the table. Returns how many did not break what they should.
unsigned replay_defects(unsigned jobs);
/// Looks for the first seed up to `most` that breaks something, for one defect or for all; prints the table.
unsigned search_defects(const std::string& name, std::uint64_t most, unsigned jobs);

}  // namespace coordinator::simulation
