#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <map>
#include <optional>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/fleet.hpp"
#include "actors/observer.hpp"

namespace coordinator {

/// Runs `fleet` while this node leads and is ready: from a snapshot of the applied state on it follows what applying
/// changes, takes workers' heartbeats, and has its gateway propose what they come to. Elsewhere it only says who leads,
/// and has no timer.
struct fleet_state {
  std::optional<fleet> core;
  node_clock clock;
  sender self_sender;
  state_machine_actor machine;
  fleet_wiring wiring;
  std::map<node_id, peer_gateway> gateways;

  role_changed role;
  bool following = false;  ///< This node leads, and the snapshot is in.
  bool asked = false;      ///< The snapshot has been asked for in this leadership.
  log_index followed_to;   ///< What the core knows.
  bool ticking = false;

  std::uint64_t log_bytes = 0;  ///< What the node's files hold.
  std::uint64_t state_bytes = 0;
};

struct fleet_deps {
  sender self_sender;
  fleet_options options;
  node_clock clock;
  state_machine_actor machine;
  std::shared_ptr<observer> watcher = {};  ///< Told how much the node's files hold; may be null.
};

fleet_actor::behavior_type fleet_behavior(fleet_actor::stateful_pointer<fleet_state> self, fleet_deps deps);

}  // namespace coordinator
