#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/simulation/checker.hpp"

namespace coordinator::simulation {

/// What callers were told about one key, and whether one order of all their calls explains it (linearizability).
///
/// Each answer carries the version of what it wrote or read, which the system gives to each write in rising order, and
/// each value is written by one call only. So there is no order to search for: the system has named the only one
/// it can mean. Calls are to be ordered by their version, a write before the reads of what it wrote, and those reads by
/// time. That order explains every answer if
/// - a version is of one value, and a value of one version;
/// - what is read was being written by then;
/// - no call has a version at or, for a read, below the highest that had been answered when it began; for a write whose
///   answer nobody heard this holds as soon as somebody sees it;
/// - nothing comes between a conditional write and what it had seen.
/// And where one of these fails, none does: two calls of which one ended before the other began are then the wrong
/// way round, or the versions are not those of one register. It costs a look-up a call, whatever the history's length.
class key_history {
 public:
  key_history(std::string name, checker& watch) : name_(std::move(name)), watch_(watch) {}

  /// A call begins: the highest version that had been answered, which the call's own must not be below.
  std::uint64_t begin() const { return floor_; }
  /// A write of that value, which no other call writes, begins.
  void begin_write(const std::string& value);
  /// That write was answered with its version. `if_match` is what it was conditional on; 0: on nothing.
  void wrote(const std::string& value, std::uint64_t version, std::uint64_t if_match);
  /// That write was answered as one that was not and never will be applied.
  void refused(const std::string& value);
  /// A linearizable read that began at `floor` was answered; version 0: there is no such key.
  void read(std::uint64_t floor, std::uint64_t version, const std::string& value, const std::string& where);
  /// Somebody saw it, in a stale read or in a node's state: that says nothing about the present.
  void saw(std::uint64_t version, const std::string& value);
  /// After everything.
  void check_at_end();

 private:
  std::string name_;
  checker& watch_;
  std::uint64_t floor_ = 0;                       // Highest version in any answer.
  std::map<std::string, std::uint64_t> written_;  // With the floor at which each write began.
  std::set<std::string> refused_;
  std::map<std::uint64_t, std::string> values_;
  std::map<std::string, std::uint64_t> versions_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> conditional_;
};

/// Who was given which attempt of which task, and whose results counted.
class attempt_history {
 public:
  explicit attempt_history(checker& watch) : watch_(watch) {}

  void given(const std::string& task, std::uint32_t attempt, const std::string& worker);
  /// Whether a later attempt has been given out by now: a result of this one must not count any more.
  bool is_overtaken(const std::string& task, std::uint32_t attempt) const;
  /// A result was accepted; `overtaken` as it was when the call began.
  void completed(const std::string& task, std::uint32_t attempt, bool overtaken);

 private:
  checker& watch_;
  std::map<std::string, std::map<std::uint32_t, std::string>> given_;
  std::map<std::string, std::uint32_t> completed_;
};

}  // namespace coordinator::simulation
