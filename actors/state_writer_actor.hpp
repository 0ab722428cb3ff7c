#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/present_state_file.hpp"
#include "persistence/node_files.hpp"
#include "persistence/state_store.hpp"

namespace coordinator {

struct state_writer_deps {
  std::unique_ptr<state_store> store;  ///< Null: a node that lost its disk; every request fails.
  std::string file;                    ///< Its name within the data directory.
  replication_actor keeper;
  std::shared_ptr<node_files> files;  ///< Null: what has failed is left as it is, and no copies are made.
  node_id node;
  incarnation_id incarnation;
  state_store_options options;                       ///< For opening the file again.
  std::shared_ptr<present_state_file> present_file;  ///< Told where the file is when it has moved. Perhaps null.
  node_clock clock;
  std::uint64_t seed = 0;  ///< Of the names of new files.
  milliseconds retry_interval{1'000};
  int copy_pages = 256;  ///< Of a copy, between two other messages: 1 MiB.
};

/// Writes the state's file, one transaction a message, answers the sender when it is done, and makes copies of it
/// between writes. Waits for the disk.
///
/// After a failure it says so once, keeps the write that it could not make, and once a `retry_interval` opens the
/// file anew: through a copy under a new name where a sync had failed. The old file stays until raft.db names the new
/// one. Then it makes the write, and answers a second time. Where the file is damaged it waits for another state.
struct state_writer_state {
  state_writer_deps deps;
  caf::typed_actor<caf::reacts_to<storage_use>> fleet;
  std::mt19937_64 random;

  std::string error;               ///< Why nothing can be written now.
  int error_code = 0;              ///< SQLite's, of the failure that ended the store.
  bool damaged = false;            ///< Opening it again is of no use.
  std::optional<state_meta> held;  ///< After a failure: what the file held before the write that failed.
  struct failed_write {
    write_state what;
    caf::strong_actor_ptr from;
  };
  std::optional<failed_write> failed;
  std::vector<std::string> former;  ///< Names that raft.db may still have for the file, oldest first.
  log_index told_checkpointed;
  bool mend_armed = false;

  std::deque<copy_state> copies;  ///< Asked for; the first is under way while `copy` is set.
  std::unique_ptr<state_copy> copy;
  std::string copy_file;
  bool copy_armed = false;
  milliseconds measure_at{0};
};

state_writer_actor::behavior_type state_writer_behavior(state_writer_actor::stateful_pointer<state_writer_state> self,
                                                        state_writer_deps deps);

}  // namespace coordinator
