#pragma once

#include <caf/fwd.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/formation.hpp"
#include "actors/gateway_intake.hpp"
#include "actors/node.hpp"
#include "actors/present_state_file.hpp"
#include "actors/rules.hpp"
#include "actors/state_machine.hpp"
#include "persistence/node_files.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"

namespace coordinator {

/// The files of one node, opened. Both null where the node lost its disk.
struct node_stores {
  std::unique_ptr<raft_store> raft;
  std::unique_ptr<state_store> state;
  std::unique_ptr<state_machine> machine;  ///< What `state` holds.
  incarnation_id incarnation;
  std::string state_file;  ///< Name of `state` within the directory.
  std::string lost_disk;   ///< Not empty: why nothing was opened.
  /// Not empty: why the log alone cannot rebuild the state. `state` is not to be used until a peer's has come.
  std::string needs_state;

  /// For opening the same again.
  std::shared_ptr<node_files> files;
  raft_store_options raft_options;
  state_store_options state_options;
};

/// What `open_stores` opens, and how.
struct stores_to_open {
  std::shared_ptr<node_files> files;
  node_id id;
  bool create = false;  ///< The directory is an empty one.
  std::uint64_t new_incarnation = 0;
  defect_set defects;
  std::optional<int> checkpoint_pages = {};              ///< Not what the stores choose themselves.
  std::optional<std::size_t> tail_bytes = {};            ///< Likewise.
  std::chrono::system_clock::time_point wall_time = {};  ///< Goes into the name of what is set aside.
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
  std::size_t snapshot_bytes = 64 << 10;                 ///< See replication_config.
  std::size_t snapshot_window = 1 << 20;                 ///< See replication_config.
  verify_level verify = verify_level::quick;
  /// The two writers wait for the disk and so have threads of their own. A simulation, whose disk never waits,
  /// schedules them like any other actor.
  bool detached_writers = true;
  std::shared_ptr<observer> watcher;  ///< Told what happens; may be null.
  bool auto_promote = true;           ///< Learners that keep up become voters by themselves.
  std::function<void()> on_removed;   ///< See replication_deps; null in a simulation.
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
  std::shared_ptr<present_state_file> state_file;

  /// What peers are given.
  peer_handles handles() const { return {election, heartbeat, keeper, gateway, fleet}; }
  /// Every one of them with its name, writers last: the order in which they are to be ended.
  std::vector<std::pair<const char*, caf::strong_actor_ptr>> all() const;
};

/// Opens a node's files: raft.db, and the state's file that it names; what an interrupted start or installation left
/// behind is finished or removed. A raft.db that is damaged, or that ends before what the state has applied, is a lost
/// disk. A damaged state is set aside; where it is gone, or ends before the log begins, a peer has to give one.
/// Throws what the stores throw.
node_stores open_stores(const stores_to_open& what);

/// The same for a directory that was judged already. One that is a lost disk gives no stores.
node_stores open_stores(data_directory& directory, const node_id& id, const std::string& vfs,
                        std::uint64_t new_incarnation, const defect_set& defects);

/// Spawns a node's actors. They do nothing yet: `wire` starts them.
node_actors spawn_node_actors(caf::actor_system& system, const node_settings& settings, node_stores stores);

/// Tells the actors of each other; from here on the node runs.
void wire(const node_actors& actors, caf::typed_actor<caf::reacts_to<cluster_known>> links);

}  // namespace coordinator
