#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "actors/clock.hpp"
#include "actors/gateway_port.hpp"
#include "actors/options.hpp"
#include "actors/rules.hpp"
#include "persistence/data_directory.hpp"

namespace caf {
class actor_system;
class actor_system_config;
}  // namespace caf

namespace coordinator {

class observer;

/// What a node cannot start with: one line that names what is wrong and what would do.
class node_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What is given to a node from outside besides its options, so that tests can choose it.
struct node_environment {
  node_clock clock = node_clock::system();
  std::uint64_t seed = 0;  ///< Of everything random: time-outs, ids. Drawn by the program, fixed by tests.
  std::string vfs;         ///< SQLite's VFS; empty: the system's own.
  defect_set defects;
  std::shared_ptr<observer> watcher;  ///< Told what happens; may be null.
  /// Called once when the node has been taken out of its cluster: it is to be stopped. On a thread of the actor system,
  /// so it must only hand that on. May be null.
  std::function<void()> on_removed;
};

/// Announces messages and sets what nodes need of CAF: its scheduler and its network layer. Before the actor_system.
void configure_node(caf::actor_system_config& config);

/// One coordinator: opens the stores, spawns the actors, wires them, listens for peers. Every spawn option, detached
/// or not, is in node.cpp and nowhere else.
class node {
 public:
  /// Binds the cluster port first, then opens the stores, then starts everything. `directory` must outlive the node.
  /// Throws node_error, with nothing started, for a port in use, a secret that cannot be read, or stores
  /// that cannot be opened. Of a directory that is a lost disk nothing is opened: the node starts, takes no
  /// part in anything, and says so in its status.
  node(caf::actor_system& system, const node_options& options, data_directory& directory, node_environment environment);
  /// Stops if that has not been done.
  ~node();
  node(const node&) = delete;
  node& operator=(const node&) = delete;

  /// What the HTTP front asks of this node. Valid as long as the node; answers `shutting_down` after `stop`.
  gateway_port& port();

  /// The port for peers, also where the system chose it.
  std::uint16_t cluster_port() const;

  /// Hands leadership over if it has it, waiting for the new leader a few time-outs at most; answers what is in
  /// flight; ends the links and the actors; writes what is dirty and closes the stores, in this order. Blocks;
  /// not to be called on an actor's thread.
  void stop();

 private:
  class implementation;
  std::unique_ptr<implementation> impl_;
};

}  // namespace coordinator
