#pragma once

#include <caf/typed_event_based_actor.hpp>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "actors/actors.hpp"
#include "actors/clock.hpp"
#include "actors/observer.hpp"
#include "actors/present_state_file.hpp"
#include "actors/state_machine.hpp"
#include "persistence/state_store.hpp"

namespace coordinator {

/// Rebuilds the applied state from what state.db holds. Blocks on the disk: to be called before the actor is spawned.
/// Throws as `state_store::load` does, and damaged_error for rows that do not fit together.
std::unique_ptr<state_machine> load_state_machine(state_store& store, const defect_set& defects = {});

/// Claims that wait for work, first come first served.
struct claim_line {
  std::vector<claimant> waiting;
  std::vector<std::uint64_t> requests;  ///< Of the claimant in the same place.
};

/// A read that waits for its index.
struct query_in_line {
  std::uint64_t request = 0;
  query what;
};

/// Runs `state_machine`: applies what the keeper says is committed, tells the gateway and the fleet what came of it,
/// answers reads once it has applied far enough, and writes behind: within 500 ms, one transaction at a time. Takes
/// another state in its place when the keeper says so, and until then none when the one it has must not be used.
struct state_machine_state {
  std::unique_ptr<state_machine> core;
  node_id self_id;
  replication_actor keeper;
  state_writer_actor writer;
  std::shared_ptr<present_state_file> present_file;
  state_machine_wiring wiring;
  std::shared_ptr<observer> watcher;

  /// Sessions that this node's gateways opened, closed ones included: their refusals have to be told, too.
  std::set<std::uint64_t> own_sessions;
  std::multimap<log_index, query_in_line> queries;  ///< By the index that they wait for.
  claim_line claims;
  fleet_conditions told_fleet;

  log_index written;  ///< What state.db is known to hold.
  term_number written_term;
  bool writing = false;  ///< Up to the next two.
  log_index writing_to;
  term_number writing_term;
  std::string write_error;  ///< Why the write under way has not been made yet; its writer goes on trying.
  /// Counts the states that were installed: what the writer answers for the one before says nothing of this one.
  std::uint64_t generation = 0;
  std::string unusable;  ///< Not empty: nothing is applied, read or written until a state is installed.
  bool flush_armed = false;
  struct flush_waiter {
    log_index need;
    flush_state what;
  };
  std::vector<flush_waiter> flushes;

  log_index digested;  ///< The last index whose checksum the keeper was told.
  bool digest_armed = false;
};

struct state_machine_deps {
  std::unique_ptr<state_machine> core;
  node_id self_id;
  replication_actor keeper;
  state_writer_actor writer;
  /// Told the name of a state's file that is installed, before anybody hears that it is.
  std::shared_ptr<present_state_file> present_file = {};
  std::string unusable = {};               ///< As state_unusable's, from the start on.
  std::shared_ptr<observer> watcher = {};  ///< Told what was applied; may be null.
};

state_machine_actor::behavior_type state_machine_behavior(
    state_machine_actor::stateful_pointer<state_machine_state> self, state_machine_deps deps);

}  // namespace coordinator
