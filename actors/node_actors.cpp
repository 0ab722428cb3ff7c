#include "actors/node_actors.hpp"

#include <spdlog/spdlog.h>

#include <caf/actor_system.hpp>
#include <caf/send.hpp>
#include <random>

#include "actors/election_actor.hpp"
#include "actors/fleet_actor.hpp"
#include "actors/gateway_actor.hpp"
#include "actors/heartbeat_actor.hpp"
#include "actors/log_writer_actor.hpp"
#include "actors/replication_actor.hpp"
#include "actors/snapshot_actor.hpp"
#include "actors/state_machine_actor.hpp"
#include "actors/state_writer_actor.hpp"

namespace coordinator {
namespace {

void open_state(data_directory& directory, const node_id& id, const std::string& vfs, const defect_set& defects,
                node_stores& stores) {
  try {
    stores.state = state_store::open(stores.state_path, id, stores.incarnation, {vfs});
    stores.machine = load_state_machine(*stores.state, defects);
    return;
  } catch (const damaged_error& e) {
    spdlog::error("{}; setting it aside and building it anew from the log", e.what());
  }
  stores.state.reset();
  set_aside(directory.files(), "state.db", std::chrono::system_clock::now());
  stores.state = state_store::open(stores.state_path, id, stores.incarnation, {vfs});
}

}  // namespace

std::vector<std::pair<const char*, caf::strong_actor_ptr>> node_actors::all() const {
  auto strong = [](const auto& handle) { return caf::actor_cast<caf::strong_actor_ptr>(handle); };
  return {
      {"fleet", strong(fleet)},           {"gateway", strong(gateway)},           {"election", strong(election)},
      {"heartbeat", strong(heartbeat)},   {"replication", strong(keeper)},        {"state machine", strong(machine)},
      {"log writer", strong(log_writer)}, {"state writer", strong(state_writer)}, {"snapshots", strong(snapshots)}};
}

node_stores open_stores(data_directory& directory, const node_id& id, const std::string& vfs,
                        std::uint64_t new_incarnation, const defect_set& defects) {
  node_stores stores;
  stores.state_path = directory.state_path();
  if (directory.condition() == directory_condition::lost_disk) {
    stores.lost_disk = directory.damage();
    return stores;
  }
  raft_store_options options;
  options.vfs = vfs;
  options.new_incarnation = new_incarnation;
  options.create = directory.condition() == directory_condition::empty;
  try {
    stores.raft = raft_store::open(directory.raft_path(), id, options);
  } catch (const damaged_error& e) {
    stores.lost_disk = e.what();
    return stores;
  }
  stores.incarnation = stores.raft->contents().incarnation;
  open_state(directory, id, vfs, defects, stores);
  if (stores.state->meta().last_applied > stores.raft->last_index()) {
    stores.lost_disk = directory.raft_path() + " ends at entry " + std::to_string(stores.raft->last_index().value) +
                       ", before what " + stores.state_path + " has applied: it is an older copy";
    stores.raft.reset();
    stores.state.reset();
    stores.machine.reset();
  }
  return stores;
}

node_actors spawn_node_actors(caf::actor_system& system, const node_settings& settings, node_stores stores) {
  std::mt19937_64 seeds{settings.seed};
  node_actors actors;
  actors.self = {settings.id, stores.incarnation};
  actors.boot_id = seeds() | 1;

  replication_deps keeper;
  keeper.config.self = actors.self;
  keeper.config.election_timeout_min = settings.election_timeout_min;
  keeper.config.election_timeout_max = settings.election_timeout_max;
  keeper.config.defects = settings.defects;
  keeper.formation = {actors.self, settings.http_address, settings.cluster_address, settings.peers, settings.defects};
  if (stores.raft)
    keeper.contents = stores.raft->take_contents();
  if (stores.state)
    keeper.last_applied = stores.state->meta().last_applied;
  keeper.interval = settings.heartbeat_interval;
  keeper.clock = settings.clock;
  keeper.seed = seeds();
  keeper.lost_disk = stores.lost_disk;
  auto machine = std::move(stores.machine);
  if (!machine)
    machine = stores.state ? load_state_machine(*stores.state, settings.defects)
                           : std::make_unique<state_machine>(settings.defects);
  actors.keeper = system.spawn(replication_behavior, std::move(keeper));

  if (settings.detached_writers) {
    actors.log_writer = system.spawn<caf::detached>(log_writer_behavior, std::move(stores.raft));
    actors.state_writer = system.spawn<caf::detached>(state_writer_behavior, std::move(stores.state));
    actors.snapshots = system.spawn<caf::detached>(snapshot_behavior);
  } else {
    actors.log_writer = system.spawn(log_writer_behavior, std::move(stores.raft));
    actors.state_writer = system.spawn(state_writer_behavior, std::move(stores.state));
    actors.snapshots = system.spawn(snapshot_behavior);
  }
  actors.election = system.spawn(
      election_behavior, election_deps{{actors.self, settings.election_timeout_min, settings.election_timeout_max,
                                        settings.heartbeat_interval, seeds()},
                                       settings.clock,
                                       actors.keeper});
  actors.heartbeat = system.spawn(heartbeat_behavior, heartbeat_deps{{actors.self, settings.election_timeout_min},
                                                                     settings.heartbeat_interval,
                                                                     settings.clock,
                                                                     actors.keeper,
                                                                     actors.election});
  actors.machine = system.spawn(
      state_machine_behavior, state_machine_deps{std::move(machine), settings.id, actors.keeper, actors.state_writer});
  fleet_options fleet;
  fleet.retention_ms = settings.retention.count();
  fleet.quota_bytes = settings.quota_bytes;
  actors.fleet = system.spawn(fleet_behavior, fleet_deps{actors.self, fleet, settings.clock, actors.machine});
  actors.intake = std::make_shared<gateway_intake>();
  gateway_config gateway;
  gateway.self = actors.self;
  gateway.boot_id = actors.boot_id;
  actors.gateway = system.spawn(gateway_behavior, gateway_deps{gateway, settings.clock, actors.keeper, actors.machine,
                                                               actors.fleet, actors.intake});
  actors.port = make_gateway_port({settings.id, settings.http_address, settings.cluster_address, stores.state_path,
                                   settings.clock, actors.keeper, actors.machine, actors.intake});
  return actors;
}

void wire(const node_actors& actors, caf::typed_actor<caf::reacts_to<cluster_known>> links) {
  caf::anon_send(actors.machine, state_machine_wiring{actors.gateway, actors.fleet});
  caf::anon_send(actors.fleet, fleet_wiring{actors.gateway});
  caf::anon_send(actors.keeper, replication_wiring{actors.election, actors.heartbeat, actors.log_writer, actors.machine,
                                                   actors.state_writer, actors.snapshots, actors.gateway, actors.fleet,
                                                   std::move(links)});
}

}  // namespace coordinator
