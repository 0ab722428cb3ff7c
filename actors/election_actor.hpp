#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <map>
#include <optional>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/election.hpp"

namespace coordinator {

/// Runs `election`: feeds it messages and time, and sends what it says. Passes peers' vote requests to the keeper,
/// which alone decides on them.
struct election_state {
  std::optional<election> core;
  node_clock clock;
  replication_actor keeper;
  std::map<node_id, peer_election> peers;
};

struct election_deps {
  election_config config;
  node_clock clock;
  replication_actor keeper;
};

election_actor::behavior_type election_behavior(election_actor::stateful_pointer<election_state> self,
                                                election_deps deps);

}  // namespace coordinator
