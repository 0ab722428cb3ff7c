#include "tests/support/local_node.hpp"

namespace coordinator {
namespace {

/// Whom the keeper answers; filled in once they have been spawned.
struct fake_keeper_state {
  std::shared_ptr<fake_keeper> shared;
  std::function<std::int64_t()> wall_ms;
  std::optional<replication_wiring> wiring;
};

using keeper_pointer = replication_actor::stateful_pointer<fake_keeper_state>;

void release_all(keeper_pointer self) {
  auto& shared = *self->state.shared;
  committed batch;
  for (auto& entry : shared.log)
    if (entry.index > shared.released)
      batch.entries.push_back(entry);
  if (batch.entries.empty())
    return;
  shared.released = shared.log.back().index;
  batch.commit_index = shared.released;
  self->send(self->state.wiring->state_machine, std::move(batch));
}

void on_propose(keeper_pointer self, const propose& x) {
  auto& shared = *self->state.shared;
  shared.proposals.push_back(x);
  if (shared.deaf)
    return;
  if (!shared.leading) {
    self->send(self->state.wiring->gateway, proposal_rejected{{{"n1"}, {11}}, x.batch, shared.leader_hint, false});
    return;
  }
  for (int copy = 0; copy < shared.copies; ++copy)
    for (auto& bytes : x.commands)
      shared.log.push_back({{shared.log.size() + 1}, {1}, entry_kind::command, self->state.wall_ms(), bytes});
  if (!shared.hold)
    release_all(self);
}

replication_actor::behavior_type fake_keeper_behavior(keeper_pointer self, std::shared_ptr<fake_keeper> shared,
                                                      node_clock clock) {
  self->state.shared = std::move(shared);
  self->state.wall_ms = clock.wall_ms;
  return {
      [](const append_entries&) {},
      [](const append_entries_reply&) {},
      [=](const propose& x) { on_propose(self, x); },
      [=](const read_index& x) {
        auto& shared = *self->state.shared;
        ++shared.read_indexes;
        self->send(self->state.wiring->gateway,
                   read_index_reply{{{"n1"}, {11}}, x.request, shared.leading, shared.released, shared.leader_hint});
      },
      [=](const cluster_query& x) {
        cluster_view view;
        view.request = x.request;
        self->send(self->state.wiring->gateway, std::move(view));
      },
      [](const transfer_leadership&) {},
      [](const change_membership&) {},
      [](const install_snapshot&) {},
      [](const install_snapshot_reply&) {},
      [](const removal_notice&) {},
      [](const state_digest&) {},
      [](const formation_status&) {},
      [](const formation_offer&) {},
      [](const formation_abandon&) {},
      [=](replication_wiring& wiring) { self->state.wiring = std::move(wiring); },
      [](const peer_up&) {},
      [](const peer_down&) {},
      [](const peer_rtt&) {},
      [](const request_vote&) {},
      [](const ask_leave&) {},
      [](const tally&) {},
      [](const higher_term&) {},
      [](const beat&) {},
      [](const round_evidence&) {},
      [=](const log_written& x) { self->state.shared->log_writes.push_back(x); },
      [](const log_loaded&) {},
      [=](const log_recovered& x) { self->state.shared->recoveries.push_back(x); },
      [=](disk_recovered) { ++self->state.shared->disk_recoveries; },
      [=](const own_digest& x) { self->state.shared->digests.push_back(x); },
      [=](const state_damaged& x) { self->state.shared->damage.push_back(x.what); },
      [=](const state_checkpointed& x) { self->state.shared->checkpoints.push_back(x); },
      [=](const state_file_moved& x) { self->state.shared->moves.push_back(x); },
      [](const state_copied&) {},
      [](const snapshot_read&) {},
      [](const snapshot_checked&) {},
      [](const snapshot_stored&) {},
      [](const snapshot_loaded&) {},
      [=](const disk_failed& x) { self->state.shared->disk_errors.push_back(x.what); },
      [=](const get_raft_status& x) {
        raft_status status;
        status.node = {"n1"};
        status.leader_contact_ms = self->state.shared->leader_contact_ms;
        x.done(std::move(status));
      },
      [](const injected_vote&) {},
      [](const injected_append&) {},
      [](const injected_state&) {},
      [](const get_log& x) { x.done({}); },
      [=](keeper_tick) { release_all(self); },
      [](commit_notice_due) {},
  };
}

struct fake_writer_state {
  std::shared_ptr<fake_writer> shared;
};

state_writer_actor::behavior_type fake_writer_behavior(state_writer_actor::stateful_pointer<fake_writer_state> self,
                                                       std::shared_ptr<fake_writer> shared) {
  using asker = caf::typed_actor<caf::reacts_to<state_written>>;
  self->state.shared = std::move(shared);
  return {
      [=](const write_state& x) {
        auto& disk = *self->state.shared;
        disk.writes.push_back(x.write);
        disk.generation = x.generation;
        if (!disk.hold)
          self->send(caf::actor_cast<asker>(self->current_sender()),
                     state_written{x.write.last_applied, disk.error, x.generation});
      },
      [](const writer_wiring&) {},
      [=](const swap_state& x) { self->state.shared->swaps.push_back(x); },
      [](checkpoint_state) {},
      [](const state_file_noted&) {},
      [](const copy_state&) {},
      [](state_writer_tick) {},
  };
}

}  // namespace

replication_actor spawn_fake_keeper(caf::actor_system& system, std::shared_ptr<fake_keeper> shared,
                                    const node_clock& clock) {
  return system.spawn(fake_keeper_behavior, std::move(shared), clock);
}

local_node::local_node(std::unique_ptr<state_machine> core, const fleet_options& for_fleet) {
  auto& sys = system.system();
  const sender self{{"n1"}, {11}};
  const auto clock = system.clock();
  keeper_actor = system.own(spawn_fake_keeper(sys, keeper, clock));
  writer_actor = system.own(sys.spawn(fake_writer_behavior, disk));
  if (!core)
    core = std::make_unique<state_machine>();
  machine_actor = system.own(sys.spawn(
      state_machine_behavior, state_machine_deps{std::move(core), self.id, keeper_actor, writer_actor, present_file}));
  fleet = system.own(sys.spawn(fleet_behavior, fleet_deps{self, for_fleet, clock, machine_actor}));
  gateway_config config;
  config.self = self;
  config.boot_id = 77;
  gateway =
      system.own(sys.spawn(gateway_behavior, gateway_deps{config, clock, keeper_actor, machine_actor, fleet, intake}));
  port = make_gateway_port({self.id, "127.0.0.1:1", "127.0.0.1:2", [] { return std::string{"state.db"}; }, clock,
                            keeper_actor, machine_actor, intake});
  caf::anon_send(machine_actor, state_machine_wiring{gateway, fleet});
  caf::anon_send(fleet, fleet_wiring{gateway});
  replication_wiring wiring;
  wiring.state_machine = machine_actor;
  wiring.gateway = gateway;
  wiring.fleet = fleet;
  caf::anon_send(keeper_actor, std::move(wiring));
  system.run();
}

local_node::~local_node() {
  // The handles go before the system does.
  system.kill_all();
}

void local_node::tell(node_role role, std::uint64_t term, const std::string& leader, bool ready) {
  const role_changed x{role, {term}, {leader}, ready && role == node_role::leader};
  caf::anon_send(gateway, x);
  caf::anon_send(fleet, x);
  run();
}

void local_node::commit(command_body body, std::uint64_t session, std::uint64_t sequence) {
  command x;
  x.session = session;
  x.sequence = sequence;
  x.lowest_unanswered = sequence;
  x.body = std::move(body);
  keeper->log.push_back({{keeper->log.size() + 1}, {1}, entry_kind::command, system.clock().wall_ms(), encode(x)});
  release();
}

void local_node::release() {
  caf::anon_send(keeper_actor, keeper_tick{});
  run();
}

void local_node::answer_write() {
  caf::anon_send(machine_actor, state_written{disk->writes.back().last_applied, disk->error, disk->generation});
  run();
}

namespace {

template <class T>
std::function<void(T)> into(const std::shared_ptr<std::optional<T>>& slot) {
  return [slot](T x) {
    if (slot->has_value())
      throw std::logic_error("answered twice");
    *slot = std::move(x);
  };
}

}  // namespace

std::shared_ptr<std::optional<write_result>> local_node::write(command_body body, milliseconds timeout) {
  auto slot = std::make_shared<std::optional<write_result>>();
  write_request x;
  x.body = std::move(body);
  x.timeout = timeout;
  port->write(std::move(x), into(slot));
  return slot;
}

std::shared_ptr<std::optional<write_result>> local_node::claim(const std::string& worker, milliseconds wait) {
  auto slot = std::make_shared<std::optional<write_result>>();
  claim_request x;
  x.worker_id = worker;
  x.wait = wait;
  port->claim(std::move(x), into(slot));
  return slot;
}

std::shared_ptr<std::optional<read_result>> local_node::read(query what, bool linearizable, std::int64_t max_stale_ms) {
  auto slot = std::make_shared<std::optional<read_result>>();
  port->read({std::move(what), linearizable, milliseconds{5000}, max_stale_ms}, into(slot));
  return slot;
}

std::shared_ptr<std::optional<beat_result>> local_node::beat(worker_beat x) {
  auto slot = std::make_shared<std::optional<beat_result>>();
  port->beat(std::move(x), milliseconds{5000}, into(slot));
  return slot;
}

std::shared_ptr<std::optional<gateway_port::state_file>> local_node::flush() {
  auto slot = std::make_shared<std::optional<gateway_port::state_file>>();
  port->flush_state(into(slot));
  return slot;
}

register_worker local_node::worker(const std::string& id) {
  register_worker x;
  x.worker_id = id;
  x.host = "localhost";
  x.slots = 4;
  return x;
}

submit_tasks local_node::tasks(int count, const std::string& prefix) {
  submit_tasks x;
  for (int i = 0; i < count; ++i) {
    task_spec task;
    task.task_id = prefix + std::to_string(i);
    task.spec_json = R"({"task_id":")" + task.task_id + R"(","command":["true"]})";
    x.tasks.push_back(std::move(task));
  }
  return x;
}

}  // namespace coordinator
