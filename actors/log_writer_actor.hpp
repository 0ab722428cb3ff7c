#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <memory>

#include "actors/actors.hpp"
#include "persistence/raft_store.hpp"

namespace coordinator {

/// Writes raft.db, one transaction a message, reads it, and answers the sender. Waits for the disk. Without a store, at
/// a node that lost its disk, every request fails.
struct log_writer_state {
  std::unique_ptr<raft_store> store;
};

log_writer_actor::behavior_type log_writer_behavior(log_writer_actor::stateful_pointer<log_writer_state> self,
                                                    std::unique_ptr<raft_store> store);

}  // namespace coordinator
