#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "http/client/client.hpp"
#include "http/recovery/strategy.hpp"

namespace coordinator::recovery {

/// One line of the recovery log.
struct entry {
  std::int64_t time_ms = 0;  ///< Since the epoch.
  std::string event{};       ///< `noticed`, `action`, `mended`, `withheld` or `daemon`.
  std::string strategy{};
  std::string node{};
  std::string seen{};
  std::string action{};   ///< Of an action: the verb.
  std::string outcome{};  ///< `done`, `failed`, `mended`, or why nothing was done.
  std::string detail{};
  std::int64_t took_ms = -1;  ///< Of a mended failure.
  bool dry_run = false;
  std::string daemon{};
  std::string id{};  ///< Tells actions apart, whoever did them.
};

std::string to_json_line(const entry& x);

/// The recovery log: a file of JSON lines, one write each, that is only ever appended to.
class journal {
 public:
  /// Throws std::runtime_error saying why it cannot be opened.
  explicit journal(const std::string& file);
  ~journal();
  journal(const journal&) = delete;
  journal& operator=(const journal&) = delete;

  void add(const entry& x);

  /// The latest actions of such a file that were done and not only played through, the oldest first; none where it
  /// cannot be read. Lines that are none of ours are passed over.
  static std::vector<entry> latest_actions(const std::string& file);

 private:
  int file_ = -1;
};

/// What was done, in the cluster itself: every node shows it in its metrics and events, and the next daemon to hold the
/// lease learns of it. The keys are a ring, so that they stay few. Writes only while its owner holds the lease; what
/// comes before that waits.
class shared_record {
 public:
  explicit shared_record(client& cluster) : cluster_(cluster) {}

  void add(const entry& x);
  bool has_unwritten() const { return !unwritten_.empty(); }
  /// Writes what waits; what fails waits on.
  void write();
  /// Hands over the actions that others have written since, the oldest first.
  void learn(const std::function<void(const entry&)>& use);

 private:
  client& cluster_;
  std::deque<entry> unwritten_;
  std::set<std::string> known_;
  std::uint64_t next_ = 0;
};

}  // namespace coordinator::recovery
