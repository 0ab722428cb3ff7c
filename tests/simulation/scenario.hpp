#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "tests/simulation/chance.hpp"
#include "tests/simulation/checker.hpp"
#include "tests/simulation/cluster.hpp"
#include "tests/simulation/machine_room.hpp"

namespace coordinator::simulation {

/// A cluster of real nodes for one named scenario: who is cut off, dies and returns is the test's, and not chance's.
/// Every step is watched as in any history; a broken promise ends the test. Times are virtual.
class scenario {
 public:
  explicit scenario(unsigned nodes, std::uint64_t seed = 1);
  ~scenario();

  unsigned size() const { return nodes_->size(); }
  chance& random() { return random_; }
  cluster& nodes() { return *nodes_; }
  milliseconds now() const { return std::chrono::duration_cast<milliseconds>(room_.now()); }

  void pass(milliseconds time);
  /// False: it did not come true in that time.
  bool until(milliseconds most, const std::function<bool()>& condition);

  // -- the network
  /// Loses, doubles, delays and reorders messages from now on, or no longer.
  void unreliable(bool yes);
  void disconnect(unsigned node);
  void connect(unsigned node);
  bool connected(unsigned node) const { return !apart_.contains(node); }
  void cut(unsigned a, unsigned b);
  /// Mends the network; who had been disconnected is connected again.
  void heal();

  // -- nodes
  /// Ends it with all that was not synced.
  void crash(unsigned node);
  void restart(unsigned node);

  // -- who leads
  /// The one leader among those that are connected, once there is one; a test ends where none stands within 2 s, or two
  /// lead in one term.
  unsigned leader();
  /// Whether any connected node takes itself for the leader.
  bool is_led() const;
  term_number term(unsigned node) const { return nodes_->keeper(node).current_term(); }

  // -- commands
  struct command {
    std::string key;
    std::string value;
    std::optional<write_result> answer;

    bool applied() const { return answer && answer->outcome == write_result::outcome::applied; }
  };
  using pending = std::shared_ptr<command>;
  /// Asks that node for one more command, and does not wait.
  pending ask(unsigned node, milliseconds timeout = milliseconds{2000}, std::size_t bytes = 0);
  /// How many running nodes have applied it.
  unsigned applied_by(const command&) const;
  /// Has one more command applied by so many nodes, asking whoever is connected for as long as 10 s, and gives its
  /// index.
  log_index agree(unsigned by, std::size_t bytes = 0);
  /// Every node has applied the same, up to the leader's last entry.
  bool all_equal() const;

  /// Requests between nodes so far: beats, append_entries and request_vote.
  std::uint64_t requests() const { return requests_; }
  /// Bytes of entries in append_entries so far.
  std::uint64_t entry_bytes() const { return entry_bytes_; }

 private:
  void step();
  void join(unsigned node);

  chance random_;
  machine_room room_;
  checker watch_;
  std::unique_ptr<cluster> nodes_;
  std::set<unsigned> apart_;
  std::uint64_t commands_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t entry_bytes_ = 0;
};

}  // namespace coordinator::simulation
