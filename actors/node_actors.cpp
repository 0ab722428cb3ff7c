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
#include "persistence/recover.hpp"

namespace coordinator {
namespace {

/// Opens the state's file and reads it; damaged, it is set aside and an empty one is there instead.
void open_state(const stores_to_open& what, node_stores& stores) {
  const auto path = stores.files->path(stores.state_file);
  const auto& base = stores.raft->contents().base;
  std::string gone;
  if (stores.files->has(stores.state_file)) {
    try {
      stores.state = state_store::open(path, what.id, stores.incarnation, stores.state_options);
      stores.machine = load_state_machine(*stores.state, what.defects);
    } catch (const damaged_error& e) {
      gone = e.what();
      stores.state.reset();
      auto name = set_aside(*stores.files, stores.state_file, what.wall_time);
      spdlog::error("{}; it is kept as {}", gone, name);
    }
  } else if (base.index.value > 0) {
    gone = path + " is missing";
    // A WAL that outlived its database would be replayed into the new one.
    set_aside(*stores.files, stores.state_file, what.wall_time);
  }
  if (!stores.state) {
    stores.state = state_store::open(path, what.id, stores.incarnation, stores.state_options);
    stores.machine = std::make_unique<state_machine>(what.defects);
  }
  if (const auto last = stores.state->meta().last_applied; last < base.index) {
    stores.needs_state = gone.empty() ? path + " ends at entry " + std::to_string(last.value) +
                                            ", and the log begins after entry " + std::to_string(base.index.value)
                                      : gone;
    spdlog::error("{}: this node needs the state of a peer", stores.needs_state);
  } else if (!gone.empty()) {
    spdlog::info("the log rebuilds the state");
  }
}

/// Those that wait for the disk.
void spawn_writers(caf::actor_system& system, const node_settings& settings, node_stores& stores, node_actors& actors) {
  // Apart from those of what decides: the names of files are not to change what a seed plays.
  std::mt19937_64 names{settings.seed + 1};
  log_writer_deps log;
  log.store = std::move(stores.raft);
  log.keeper = actors.keeper;
  log.files = stores.files;
  log.node = settings.id;
  log.options = stores.raft_options;
  log.clock = settings.clock;
  log.watcher = settings.watcher;

  state_writer_deps state;
  state.store = std::move(stores.state);
  state.file = stores.state_file;
  state.keeper = actors.keeper;
  state.files = stores.files;
  state.node = settings.id;
  state.incarnation = stores.incarnation;
  state.options = stores.state_options;
  state.present_file = actors.state_file;
  state.clock = settings.clock;
  state.seed = names();

  snapshot_deps snapshots{stores.files,         settings.id,      stores.incarnation,
                          stores.state_options, settings.defects, names()};

  if (settings.detached_writers) {
    actors.log_writer = system.spawn<caf::detached>(log_writer_behavior, std::move(log));
    actors.state_writer = system.spawn<caf::detached>(state_writer_behavior, std::move(state));
    actors.snapshots = system.spawn<caf::detached>(snapshot_behavior, std::move(snapshots));
  } else {
    actors.log_writer = system.spawn(log_writer_behavior, std::move(log));
    actors.state_writer = system.spawn(state_writer_behavior, std::move(state));
    actors.snapshots = system.spawn(snapshot_behavior, std::move(snapshots));
  }
}

}  // namespace

std::vector<std::pair<const char*, caf::strong_actor_ptr>> node_actors::all() const {
  auto strong = [](const auto& handle) { return caf::actor_cast<caf::strong_actor_ptr>(handle); };
  return {
      {"fleet", strong(fleet)},           {"gateway", strong(gateway)},           {"election", strong(election)},
      {"heartbeat", strong(heartbeat)},   {"replication", strong(keeper)},        {"state machine", strong(machine)},
      {"log writer", strong(log_writer)}, {"state writer", strong(state_writer)}, {"snapshots", strong(snapshots)}};
}

node_stores open_stores(const stores_to_open& what) {
  node_stores stores;
  stores.files = what.files;
  stores.raft_options.vfs = stores.state_options.vfs = what.files->vfs();
  stores.raft_options.new_incarnation = what.new_incarnation;
  stores.raft_options.create = what.create;
  if (what.checkpoint_pages)
    stores.raft_options.checkpoint_pages = stores.state_options.checkpoint_pages = *what.checkpoint_pages;
  if (what.tail_bytes)
    stores.raft_options.tail_bytes = *what.tail_bytes;
  finish_recovery(*what.files);
  try {
    stores.raft = raft_store::open(what.files->path("raft.db"), what.id, stores.raft_options);
  } catch (const damaged_error& e) {
    stores.lost_disk = e.what();
    return stores;
  }
  stores.incarnation = stores.raft->contents().incarnation;
  stores.state_file = stores.raft->contents().state_file;
  remove_unnamed(*what.files, stores.state_file);
  open_state(what, stores);
  if (stores.state->meta().last_applied > stores.raft->last_index()) {
    stores.lost_disk = what.files->path("raft.db") + " ends at entry " +
                       std::to_string(stores.raft->last_index().value) + ", before what " +
                       what.files->path(stores.state_file) + " has applied: it is an older copy";
    stores.raft.reset();
    stores.state.reset();
    stores.machine.reset();
  }
  return stores;
}

node_stores open_stores(data_directory& directory, const node_id& id, const std::string& vfs,
                        std::uint64_t new_incarnation, const defect_set& defects) {
  auto files = std::make_shared<real_files>(directory.path().string(), vfs);
  if (directory.condition() == directory_condition::lost_disk) {
    node_stores stores;
    stores.files = std::move(files);
    stores.lost_disk = directory.damage();
    return stores;
  }
  stores_to_open what;
  what.files = std::move(files);
  what.id = id;
  what.create = directory.condition() == directory_condition::empty;
  what.new_incarnation = new_incarnation;
  what.defects = defects;
  what.wall_time = std::chrono::system_clock::now();
  return open_stores(what);
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
  keeper.config.auto_promote = settings.auto_promote;
  keeper.config.log_retention_entries = settings.log_retention_entries;
  keeper.config.snapshot_bytes = settings.snapshot_bytes;
  keeper.config.snapshot_window = settings.snapshot_window;
  keeper.formation = {actors.self, settings.http_address, settings.cluster_address, settings.peers, settings.defects};
  if (stores.raft)
    keeper.contents = stores.raft->take_contents();
  if (stores.state)
    keeper.last_applied = stores.state->meta().last_applied;
  const auto node_ticks = tick_grid::of(settings.heartbeat_interval, settings.seed);
  keeper.looks_at = node_ticks;
  keeper.clock = settings.clock;
  keeper.seed = seeds();
  keeper.lost_disk = stores.lost_disk;
  keeper.needs_state = stores.needs_state;
  keeper.on_removed = settings.on_removed;
  auto machine = std::move(stores.machine);
  if (!machine)
    machine = std::make_unique<state_machine>(settings.defects);
  actors.keeper = system.spawn(replication_behavior, std::move(keeper));
  actors.state_file = std::make_shared<present_state_file>(stores.state_file);
  spawn_writers(system, settings, stores, actors);
  actors.election = system.spawn(
      election_behavior, election_deps{{actors.self, settings.election_timeout_min, settings.election_timeout_max,
                                        settings.heartbeat_interval, seeds()},
                                       settings.clock,
                                       actors.keeper});
  actors.heartbeat = system.spawn(
      heartbeat_behavior,
      heartbeat_deps{
          {actors.self, settings.election_timeout_min}, node_ticks, settings.clock, actors.keeper, actors.election});
  actors.machine = system.spawn(state_machine_behavior,
                                state_machine_deps{std::move(machine), settings.id, actors.keeper, actors.state_writer,
                                                   actors.state_file, stores.needs_state, settings.watcher});
  fleet_options fleet;
  fleet.retention_ms = settings.retention.count();
  fleet.quota_bytes = settings.quota_bytes;
  actors.fleet =
      system.spawn(fleet_behavior, fleet_deps{actors.self, fleet, settings.clock, actors.machine, settings.watcher});
  actors.intake = std::make_shared<gateway_intake>();
  gateway_config gateway;
  gateway.defects = settings.defects;
  gateway.self = actors.self;
  gateway.boot_id = actors.boot_id;
  actors.gateway = system.spawn(gateway_behavior, gateway_deps{gateway, settings.clock, actors.keeper, actors.machine,
                                                               actors.fleet, actors.intake, settings.watcher});
  auto state_path = [files = stores.files, name = actors.state_file] { return files->path(name->get()); };
  actors.port = make_gateway_port({settings.id, settings.http_address, settings.cluster_address, state_path,
                                   settings.clock, actors.keeper, actors.machine, actors.intake, actors.state_writer});
  return actors;
}

void wire(const node_actors& actors, caf::typed_actor<caf::reacts_to<cluster_known>> links) {
  caf::anon_send(actors.machine, state_machine_wiring{actors.gateway, actors.fleet});
  caf::anon_send(actors.fleet, fleet_wiring{actors.gateway});
  caf::anon_send(actors.log_writer, writer_wiring{actors.fleet});
  caf::anon_send(actors.state_writer, writer_wiring{actors.fleet});
  caf::anon_send(actors.keeper, replication_wiring{actors.election, actors.heartbeat, actors.log_writer, actors.machine,
                                                   actors.state_writer, actors.snapshots, actors.gateway, actors.fleet,
                                                   std::move(links)});
}

}  // namespace coordinator
