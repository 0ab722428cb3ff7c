#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/formation.hpp"
#include "actors/replication.hpp"
#include "actors/tick_grid.hpp"

namespace coordinator {

/// Runs the keeper: `replication`, and until the node is formed `formation` beside it. For each message: feed the
/// core, give what is to be saved to the log writer, send what may be said, hand over what is committed.
struct replication_state {
  std::optional<replication> core;
  std::optional<formation> founding;  ///< Only while the node is not formed.
  node_clock clock;
  tick_grid looks_at;
  sender self_sender;
  std::string http_address;
  std::string cluster_address;
  std::mt19937_64 random;  ///< For the id of a cluster that this node proposes.
  std::string lost_disk;
  std::optional<genesis> founded;
  std::optional<replication_wiring> wiring;

  struct peer {
    sender who;
    std::string cluster_id;
    peer_handles handles;
  };
  std::map<node_id, peer> peers;

  /// Number of the write that carries the formation state to be reported as saved.
  std::uint64_t formation_write = 0;
  std::uint64_t log_life = 0;  ///< Of the last log_recovered: tells what was written and answered before it.
  unsigned ticks = 0;
  log_index announced_members;
  role_changed logged_role;
  std::function<void()> on_removed;  ///< Null once it was called.

  std::uint64_t last_injected = 0;
  std::map<std::uint64_t, injected_vote> votes;
  std::map<std::uint64_t, injected_append> appends;
  std::map<std::uint64_t, injected_state> states;
  std::uint64_t last_log_read = 0;
  std::map<std::uint64_t, get_log> log_reads;

  /// What a keeper is built from, also one that is built anew after its disk was mended.
  replication_config config;
  formation_config founding_config;
  /// A state that came from a peer and is whole, until raft.db names its file.
  std::uint64_t loaded_number = 0;
  std::shared_ptr<loaded_state> loaded;
};

struct replication_deps {
  replication_config config;
  formation_config formation;
  raft_contents contents;
  log_index last_applied;
  std::string needs_state;  ///< Not empty: why the log is well and the state is not; a peer's is fetched.
  tick_grid looks_at;
  node_clock clock;
  std::uint64_t seed = 0;
  /// Not empty: the directory is that of a node that lost its raft.db (rule 11). The node neither votes nor
  /// acknowledges nor founds, and says this as its reason.
  std::string lost_disk;
  /// Called once, on the keeper's thread, when this node has been taken out of its cluster and does not lead any more:
  /// it is to end. It must only hand that on. May be null.
  std::function<void()> on_removed;
};

replication_actor::behavior_type replication_behavior(replication_actor::stateful_pointer<replication_state> self,
                                                      replication_deps deps);

}  // namespace coordinator
