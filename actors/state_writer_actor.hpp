#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <memory>

#include "actors/actors.hpp"
#include "persistence/state_store.hpp"

namespace coordinator {

/// Writes state.db, one transaction a message, and answers the sender when it is done. Waits for the disk. Without a
/// store, at a node that lost its disk, every request fails.
struct state_writer_state {
  std::unique_ptr<state_store> store;
};

state_writer_actor::behavior_type state_writer_behavior(state_writer_actor::stateful_pointer<state_writer_state> self,
                                                        std::unique_ptr<state_store> store);

}  // namespace coordinator
