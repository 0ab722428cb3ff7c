#pragma once

#include <caf/fwd.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/formation.hpp"
#include "actors/gateway_intake.hpp"
#include "actors/node.hpp"
#include "actors/rules.hpp"
#include "actors/state_machine.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"

namespace coordinator {

/// The files of one node, opened. Both null where the node lost its disk.
struct node_stores {
  std::unique_ptr<raft_store> raft;
  std::unique_ptr<state_store> state;
  std::unique_ptr<state_machine> machine;  ///< What `state` holds; null: not read yet.
  incarnation_id incarnation;
  std::string state_path;
  std::string lost_disk;  ///< Not empty: why nothing was opened.
};

struct node_settings {
  node_id id;
  std::string http_address;
  std::string cluster_address;
  std::vector<formation_config::peer> peers;
  milliseconds election_timeout_min{150};
  milliseconds election_timeout_max{300};
  milliseconds heartbeat_interval{50};
  node_clock clock;
  std::uint64_t seed = 0;
  defect_set defects;
  milliseconds retention = std::chrono::hours{14 * 24};  ///< Of finished tasks; 0: for ever.
  std::uint64_t quota_bytes = std::uint64_t{8} << 30;    ///< Of the node's files; 0: none.
  std::uint64_t log_retention_entries = 10'000;          ///< Log entries kept behind compaction, for slow followers.
  verify_level verify = verify_level::quick;
  /// The two writers wait for the disk and so have threads of their own. A simulation, whose disk never waits,
  /// schedules them like any other actor.
  bool detached_writers = true;
};

/// One node's actors but for its links, which connect them to others: real ones, or a simulated network.
struct node_actors {
  sender self;
  std::uint64_t boot_id = 0;
  election_actor election;
  heartbeat_actor heartbeat;
  replication_actor keeper;
  log_writer_actor log_writer;
  state_machine_actor machine;
  state_writer_actor state_writer;
  snapshot_actor snapshots;
  gateway_actor gateway;
  fleet_actor fleet;
  std::shared_ptr<gateway_intake> intake;
  std::shared_ptr<gateway_port> port;

  /// What peers are given.
  peer_handles handles() const { return {election, heartbeat, keeper, gateway, fleet}; }
  /// Every one of them with its name, writers last: the order in which they are to be ended.
  std::vector<std::pair<const char*, caf::strong_actor_ptr>> all() const;
};

/// Opens a node's files. A raft.db that is damaged, or that ends before what state.db has applied, is a lost disk; a
/// damaged state.db is set aside, for the log can rebuild it. Throws node_error, data_directory_error and
/// what the stores throw.
node_stores open_stores(data_directory& directory, const node_id& id, const std::string& vfs,
                        std::uint64_t new_incarnation, const defect_set& defects);

/// Spawns a node's actors. They do nothing yet: `wire` starts them.
node_actors spawn_node_actors(caf::actor_system& system, const node_settings& settings, node_stores stores);

/// Tells the actors of each other; from here on the node runs.
void wire(const node_actors& actors, caf::typed_actor<caf::reacts_to<cluster_known>> links);

}  // namespace coordinator
