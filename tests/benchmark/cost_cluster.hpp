#pragma once

#include <caf/message.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "actors/node_actors.hpp"
#include "actors/observer.hpp"
#include "tests/support/deterministic_system.hpp"

namespace coordinator::bench {

/// Three nodes in one process, the same in every run: the actors and the stores that ship, over real files, on CAF's
/// test scheduler and virtual time. In the place of links stands a wire that puts every message into BASP's bytes and
/// takes it out again, at once and without TLS. Nothing fails.
class cost_cluster {
 public:
  static constexpr unsigned size = 3;

  /// The nodes keep their files in `directory`. Throws std::runtime_error if they found no cluster.
  explicit cost_cluster(const std::filesystem::path& directory);
  ~cost_cluster();

  unsigned leader() const { return leader_; }
  unsigned follower() const { return (leader_ + 1) % size; }
  gateway_port& port(unsigned node) { return *nodes_[node].actors.port; }

  /// Handles messages, and lets time pass where there are none, until `done`. Throws std::runtime_error after ten
  /// seconds of virtual time.
  void run_until(const std::function<bool()>& done);
  void pass(milliseconds time) { system_.pass(time); }

  /// Handled by actors so far.
  std::uint64_t messages() const { return system_.handled(); }
  /// Sent between nodes so far, BASP's headers included.
  std::uint64_t wire_bytes() const { return wire_bytes_; }

 private:
  struct node {
    node_id id;
    std::string address;
    std::shared_ptr<observer> watcher;
    node_actors actors;
  };

  void start(unsigned number, const std::filesystem::path& directory);
  void connect(unsigned whom, unsigned about);
  caf::strong_actor_ptr wire_to(caf::strong_actor_ptr target);
  void carry(caf::message what, const caf::strong_actor_ptr& to);

  deterministic_system system_;
  std::vector<node> nodes_;
  std::vector<char> bytes_;
  std::uint64_t wire_bytes_ = 0;
  unsigned leader_ = size;
};

}  // namespace coordinator::bench
