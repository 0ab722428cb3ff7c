#include "actors/fleet_actor.hpp"

#include <string>

namespace coordinator {
namespace {

using self_pointer = fleet_actor::stateful_pointer<fleet_state>;

constexpr milliseconds tick_interval{250};

std::int64_t now_ms(self_pointer self) {
  return self->state.clock.steady().count();
}

void propose(self_pointer self, std::vector<command_body> commands) {
  if (!commands.empty())
    self->send(self->state.wiring.gateway, fleet_commands{std::move(commands)});
}

void answer(self_pointer self, const node_id& to, worker_beat_reply reply) {
  auto& state = self->state;
  reply.from = state.self_sender;
  if (to == state.self_sender.id)
    self->send(state.wiring.gateway, std::move(reply));
  else if (auto peer = state.gateways.find(to); peer != state.gateways.end())
    self->send(peer->second, std::move(reply));
}

void on_role(self_pointer self, const role_changed& role) {
  auto& state = self->state;
  // A leader that lost a term and won another one was not the leader in between.
  const bool leads = role.role == node_role::leader && role.leader_ready;
  const bool same = leads && state.asked && role.term == state.role.term;
  state.role = role;
  if (same)
    return;
  state.core->off_leader();
  state.following = false;
  state.asked = leads;
  if (leads)
    self->send(state.machine, get_fleet_snapshot{});
}

void on_snapshot(self_pointer self, const fleet_snapshot& x) {
  auto& state = self->state;
  if (!state.asked || state.following)
    return;
  state.following = true;
  state.followed_to = x.last_applied;
  state.core->on_leader(x.view, now_ms(self));
  state.core->conditions(x.conditions, now_ms(self));
  if (!state.ticking) {
    state.ticking = true;
    self->delayed_send(self, tick_interval, fleet_tick{});
  }
}

void on_events(self_pointer self, const fleet_events& x) {
  auto& state = self->state;
  // Up to the snapshot's index the snapshot has it.
  if (!state.following || x.last_applied <= state.followed_to)
    return;
  state.followed_to = x.last_applied;
  state.core->conditions(x.conditions, now_ms(self));
  for (auto& event : x.events)
    state.core->apply(event, now_ms(self));
}

void on_tick(self_pointer self) {
  auto& state = self->state;
  if (!state.following) {
    state.ticking = false;
    return;
  }
  propose(self, state.core->tick(now_ms(self), state.clock.wall_ms()));
  self->delayed_send(self, tick_interval, fleet_tick{});
}

void on_beat(self_pointer self, const worker_beat& x) {
  auto& state = self->state;
  worker_beat_reply reply;
  reply.request = x.request;
  if (!state.following) {
    reply.result = worker_beat_reply::outcome::not_leader;
    reply.leader = state.role.leader;
    if (x.request != 0)
      answer(self, x.from.id, std::move(reply));
    return;
  }
  // Where no answer is wanted it is a claim's, which lists nothing; then nobody else proposes what it comes to.
  if (x.request == 0) {
    if (auto status = state.core->claimed(x.worker_id, now_ms(self)).propose_status)
      propose(self, {set_worker_status{x.worker_id, *status, {}}});
    return;
  }
  auto heard = state.core->beat(x, now_ms(self));
  if (!heard.known)
    reply.result = worker_beat_reply::outcome::unknown_worker;
  reply.cancel = std::move(heard.cancel);
  if (heard.propose_status)
    reply.propose_status = to_string(*heard.propose_status);
  answer(self, x.from.id, std::move(reply));
}

}  // namespace

fleet_actor::behavior_type fleet_behavior(self_pointer self, fleet_deps deps) {
  auto& state = self->state;
  state.core.emplace(deps.options);
  state.clock = deps.clock;
  state.self_sender = deps.self_sender;
  state.machine = deps.machine;
  return {
      [=](const worker_beat& x) { on_beat(self, x); },
      [=](fleet_wiring& wiring) { self->state.wiring = std::move(wiring); },
      [=](peer_up& up) { self->state.gateways[up.who.id] = up.handles.gateway; },
      [=](const peer_down& down) { self->state.gateways.erase(down.id); },
      [=](const role_changed& role) { on_role(self, role); },
      [=](const fleet_events& events) { on_events(self, events); },
      [=](const fleet_snapshot& snapshot) { on_snapshot(self, snapshot); },
      [=, watcher = deps.watcher](const storage_use& x) {
        auto& state = self->state;
        (x.of == storage_use::part::log ? state.log_bytes : state.state_bytes) = x.bytes;
        state.core->storage_use(state.log_bytes + state.state_bytes);
        if (watcher)
          watcher->storage(state.log_bytes + state.state_bytes);
      },
      [=](fleet_tick) { on_tick(self); },
  };
}

}  // namespace coordinator
