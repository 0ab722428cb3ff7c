#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "actors/actors.hpp"
#include "actors/rules.hpp"
#include "persistence/node_files.hpp"
#include "persistence/snapshot_file.hpp"
#include "persistence/state_store.hpp"

namespace coordinator {

struct snapshot_deps {
  std::shared_ptr<node_files> files;
  node_id node;
  incarnation_id incarnation;
  state_store_options options;  ///< For the state that comes of a snapshot.
  defect_set defects;
  std::uint64_t seed = 0;  ///< Of the names of new files.
};

/// Reads and writes the files of snapshots, and answers the sender. Waits for the disk.
///
/// One snapshot comes in at a time. Its pieces are written in order into a new file that nothing names yet; once it is
/// whole it is checked from its first byte to its last, and read: only then does the keeper hear of a state.
struct snapshot_state {
  snapshot_deps deps;
  std::mt19937_64 random;

  struct incoming {
    node_id source;
    snapshot_info what;
    std::string name;
    std::unique_ptr<snapshot_file> file;
    std::uint64_t offset = 0;  ///< All bytes before it have been written.
  };
  std::optional<incoming> coming;

  std::string reading;  ///< Name of the file that `reader` has open.
  std::unique_ptr<snapshot_file> reader;
};

snapshot_actor::behavior_type snapshot_behavior(snapshot_actor::stateful_pointer<snapshot_state> self,
                                                snapshot_deps deps);

}  // namespace coordinator
