#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <map>
#include <optional>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/heartbeat.hpp"
#include "actors/tick_grid.hpp"

namespace coordinator {

/// Runs `heartbeat`: beats while the keeper gives leave, and reports who answered. Passes a leader's beats to the
/// keeper, whose answer is the one that counts.
struct heartbeat_state {
  std::optional<heartbeat> core;
  node_clock clock;
  tick_grid beats_at;
  replication_actor keeper;
  election_actor election;
  std::map<node_id, peer_heartbeat> peers;
  bool ticking = false;
};

struct heartbeat_deps {
  heartbeat_config config;
  tick_grid beats_at;
  node_clock clock;
  replication_actor keeper;
  election_actor election;
};

heartbeat_actor::behavior_type heartbeat_behavior(heartbeat_actor::stateful_pointer<heartbeat_state> self,
                                                  heartbeat_deps deps);

}  // namespace coordinator
