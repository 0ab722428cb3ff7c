#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/gateway.hpp"
#include "actors/gateway_intake.hpp"
#include "actors/observer.hpp"

namespace coordinator {

struct gateway_deps {
  gateway_config config;
  node_clock clock;
  replication_actor keeper;
  state_machine_actor machine;
  fleet_actor fleet;
  std::shared_ptr<gateway_intake> intake;
  std::shared_ptr<observer> watcher = {};  ///< Told of role and leader; may be null.
};

/// Runs `gateway`: takes in what clients ask by the intake's queue, forwards it, and calls their completions. When it
/// ends, for whatever reason, every request that is left is answered.
struct gateway_state {
  std::unique_ptr<gateway> core;
  gateway_deps deps;
  struct peer {
    peer_replication keeper;
    peer_fleet fleet;
  };
  std::map<node_id, peer> peers;

  using completion = std::variant<std::function<void(write_result)>, std::function<void(read_result)>,
                                  std::function<void(beat_result)>, std::function<void(cluster_view)>,
                                  std::function<void(transfer_result)>, std::function<void(membership_result)>>;
  std::map<ticket, completion> waiting;

  std::optional<milliseconds> armed_for;  ///< When the timer that counts fires.
  std::uint64_t timer = 0;                ///< Its number.

  ~gateway_state();
};

gateway_actor::behavior_type gateway_behavior(gateway_actor::stateful_pointer<gateway_state> self, gateway_deps deps);

/// What a port says of its node, and whom it asks beside the gateway.
struct gateway_port_deps {
  node_id node;
  std::string http_address;
  std::string cluster_address;
  std::function<std::string()> state_path;  ///< Of the present state's file; thread-safe.
  node_clock clock;
  replication_actor keeper;
  state_machine_actor machine;
  std::shared_ptr<gateway_intake> intake;
  state_writer_actor state_writer = {};
};

/// The port of one node. It may outlive the actors: then every call is answered at once.
std::shared_ptr<gateway_port> make_gateway_port(gateway_port_deps deps);

}  // namespace coordinator
