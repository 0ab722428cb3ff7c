#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/fleet_actor.hpp"
#include "actors/gateway_actor.hpp"
#include "actors/state_machine_actor.hpp"
#include "tests/support/deterministic_system.hpp"

namespace coordinator {

/// What stands for the keeper: it leads at once, and commits what it is given as soon as it is told.
struct fake_keeper {
  bool leading = true;
  node_id leader_hint;
  bool deaf = false;  ///< Proposals are lost.
  bool hold = false;  ///< Entries are appended, and committed only by `release`.
  int copies = 1;     ///< How often each command is appended.
  std::int64_t leader_contact_ms = 0;

  std::vector<propose> proposals;
  std::vector<log_entry> log;
  log_index released;
  int read_indexes = 0;
  std::vector<std::string> disk_errors;
  int disk_recoveries = 0;
  std::vector<own_digest> digests;
  std::vector<state_checkpointed> checkpoints;
  std::vector<state_file_moved> moves;
  std::vector<std::string> damage;
  std::vector<log_recovered> recoveries;
  std::vector<log_written> log_writes;

  /// Commands in the log whose body is a T.
  template <class T>
  std::vector<T> logged() const {
    std::vector<T> result;
    for (auto& entry : log)
      if (auto x = decode(entry.payload))
        if (auto body = std::get_if<T>(&x->body))
          result.push_back(*body);
    return result;
  }
};

/// What stands for the writer of state.db.
struct fake_writer {
  bool hold = false;  ///< Answer nothing yet; `writes` shows what is wanted.
  std::string error;  ///< What every write fails with.
  std::vector<state_write> writes;
  std::uint64_t generation = 0;  ///< Of the last one.
  std::vector<swap_state> swaps;
};

replication_actor spawn_fake_keeper(caf::actor_system& system, std::shared_ptr<fake_keeper> shared,
                                    const node_clock& clock);

/// One node's gateway, state machine and fleet, with their real shells and without links, disk or Raft.
struct local_node {
  /// `core` is an empty state unless given.
  explicit local_node(std::unique_ptr<state_machine> core = nullptr, const fleet_options& for_fleet = {});
  ~local_node();

  /// Tells the actors of a role, as the keeper would.
  void tell(node_role role, std::uint64_t term, const std::string& leader, bool ready = true);
  void lead() { tell(node_role::leader, 1, "n1"); }

  /// Appends and commits entries that did not come from this node's gateway.
  void commit(command_body body, std::uint64_t session = 0, std::uint64_t sequence = 0);
  /// Commits what the keeper held.
  void release();
  void answer_write();

  /// Each gives the slot that its answer will be in.
  std::shared_ptr<std::optional<write_result>> write(command_body body, milliseconds timeout = milliseconds{5000});
  std::shared_ptr<std::optional<write_result>> claim(const std::string& worker, milliseconds wait);
  std::shared_ptr<std::optional<read_result>> read(query what, bool linearizable = true,
                                                   std::int64_t max_stale_ms = -1);
  std::shared_ptr<std::optional<beat_result>> beat(worker_beat x);
  std::shared_ptr<std::optional<gateway_port::state_file>> flush();
  void pass(int ms) { system.pass(milliseconds{ms}); }
  void run() { system.run(); }

  static put_key put(const std::string& key, const std::string& value) { return {key, value, {}, false, false}; }
  static register_worker worker(const std::string& id);
  static submit_tasks tasks(int count, const std::string& prefix = "t");

  deterministic_system system;
  std::shared_ptr<fake_keeper> keeper = std::make_shared<fake_keeper>();
  std::shared_ptr<fake_writer> disk = std::make_shared<fake_writer>();
  std::shared_ptr<gateway_intake> intake = std::make_shared<gateway_intake>();
  std::shared_ptr<gateway_port> port;
  std::shared_ptr<present_state_file> present_file = std::make_shared<present_state_file>("state.db");

  replication_actor keeper_actor;
  state_writer_actor writer_actor;
  state_machine_actor machine_actor;
  fleet_actor fleet;
  gateway_actor gateway;
};

}  // namespace coordinator
