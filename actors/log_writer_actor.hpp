#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <memory>
#include <string>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/observer.hpp"
#include "persistence/node_files.hpp"
#include "persistence/raft_store.hpp"

namespace coordinator {

struct log_writer_deps {
  std::unique_ptr<raft_store> store;  ///< Null: a node that lost its disk; every request fails.
  replication_actor keeper;
  std::shared_ptr<node_files> files;  ///< Null: what has failed is left as it is.
  node_id node;
  raft_store_options options;  ///< For opening the file again.
  node_clock clock;
  milliseconds retry_interval{1'000};
  std::shared_ptr<observer> watcher = {};  ///< Told how long each write took; may be null.
};

/// Writes raft.db, one transaction a message, reads it, and answers the sender. Waits for the disk.
///
/// After a failure every request fails, and once a `retry_interval` it tries to open the file anew, through a copy
/// where a sync had failed. When that works the keeper is told what the file holds, and only what it writes after it
/// has heard that is written. A file whose contents are damaged is left as it is: the node has lost its disk (rule 11).
struct log_writer_state {
  log_writer_deps deps;
  caf::typed_actor<caf::reacts_to<storage_use>> fleet;
  std::string error;       ///< Why requests fail.
  int error_code = 0;      ///< SQLite's, of the failure that ended the store.
  bool hopeless = false;   ///< Nothing will mend it but its owner.
  std::uint64_t life = 0;  ///< How often the file was opened again.
  milliseconds measure_at{0};
};

log_writer_actor::behavior_type log_writer_behavior(log_writer_actor::stateful_pointer<log_writer_state> self,
                                                    log_writer_deps deps);

}  // namespace coordinator
