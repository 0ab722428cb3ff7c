#include "tests/simulation/client_histories.hpp"

#include <algorithm>

namespace coordinator::simulation {
namespace {

constexpr const char* linearizable = "histories are linearizable";

/// Without what only makes it long.
std::string named(const std::string& value) {
  return value.substr(0, value.find('.'));
}

}  // namespace

void key_history::begin_write(const std::string& value) {
  written_.emplace(value, floor_);
}

void key_history::wrote(const std::string& value, std::uint64_t version, std::uint64_t if_match) {
  if (if_match != 0)
    conditional_.emplace_back(if_match, version);
  saw(version, value);
  floor_ = std::max(floor_, version);
}

void key_history::refused(const std::string& value) {
  refused_.insert(value);
  if (versions_.contains(value))
    watch_.violate("what is refused never shows", named(value) + " was refused, and has been read");
}

void key_history::read(std::uint64_t floor, std::uint64_t version, const std::string& value, const std::string& where) {
  if (version < floor)
    return watch_.violate("a linearizable read is never stale", where + " answered version " + std::to_string(version) +
                                                                    " of " + name_ + ", after version " +
                                                                    std::to_string(floor) + " had been answered");
  if (version == 0)
    return;
  saw(version, value);
  floor_ = std::max(floor_, version);
}

void key_history::saw(std::uint64_t version, const std::string& value) {
  auto where = name_ + " version " + std::to_string(version);
  auto begun = written_.find(value);
  if (begun == written_.end())
    return watch_.violate("only what was written is read", where + " is " + named(value));
  if (refused_.contains(value))
    return watch_.violate("what is refused never shows", where + " is " + named(value) + ", which was refused");
  auto [at, fresh] = values_.emplace(version, value);
  if (!fresh && at->second != value)
    return watch_.violate(linearizable, where + " is " + named(value) + " and " + named(at->second));
  auto [known, first] = versions_.emplace(value, version);
  if (!first && known->second != version)
    return watch_.violate("a command is applied once", named(value) + " is version " + std::to_string(known->second) +
                                                           " and " + std::to_string(version));
  if (version <= begun->second)
    watch_.violate(linearizable, named(value) + " was written as version " + std::to_string(version) +
                                     ", after version " + std::to_string(begun->second) + " was answered");
}

void key_history::check_at_end() {
  for (auto& [seen, version] : conditional_)
    if (auto next = values_.upper_bound(seen); next != values_.end() && next->first < version)
      watch_.violate(linearizable, "version " + std::to_string(next->first) +
                                       " came between a conditional write and what it had seen");
}

void attempt_history::given(const std::string& task, std::uint32_t attempt, const std::string& worker) {
  auto [known, fresh] = given_[task].emplace(attempt, worker);
  if (!fresh)
    watch_.violate(
        "an attempt is given to one worker",
        task + " attempt " + std::to_string(attempt) + " was given to " + known->second + " and again to " + worker);
}

bool attempt_history::is_overtaken(const std::string& task, std::uint32_t attempt) const {
  auto all = given_.find(task);
  return all != given_.end() && all->second.rbegin()->first > attempt;
}

void attempt_history::completed(const std::string& task, std::uint32_t attempt, bool overtaken) {
  auto [done, fresh] = completed_.emplace(task, attempt);
  if (overtaken || (!fresh && done->second != attempt))
    watch_.violate("the result of one attempt counts",
                   task + " attempt " + std::to_string(attempt) + " was accepted after a later attempt was given out");
}

}  // namespace coordinator::simulation
