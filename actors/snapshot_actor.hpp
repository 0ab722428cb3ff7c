#pragma once

#include <caf/typed_event_based_actor.hpp>

#include "actors/actors.hpp"

namespace coordinator {

/// Reads and writes the files of snapshots, and answers the sender. Waits for the disk.
struct snapshot_state {};

snapshot_actor::behavior_type snapshot_behavior(snapshot_actor::stateful_pointer<snapshot_state> self);

}  // namespace coordinator
