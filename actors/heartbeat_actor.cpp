#include "actors/heartbeat_actor.hpp"

namespace coordinator {
namespace {

using self_pointer = heartbeat_actor::stateful_pointer<heartbeat_state>;

void run(self_pointer self, heartbeat_actions actions) {
  auto& state = self->state;
  for (auto& [to, beat] : actions.beats)
    if (auto peer = state.peers.find(to); peer != state.peers.end())
      self->send(peer->second, beat);
  if (actions.term)
    self->send(state.keeper, *actions.term);
  if (actions.evidence)
    self->send(state.keeper, std::move(*actions.evidence));
  if (actions.gone)
    self->send(state.election, *actions.gone);
  // Followers need no timer, and an idle cluster should cost nothing.
  if (state.core->beating() && !state.ticking) {
    state.ticking = true;
    self->delayed_send(self, state.beats_at.until_next(state.clock.steady()), heartbeat_tick{});
  }
}

}  // namespace

heartbeat_actor::behavior_type heartbeat_behavior(self_pointer self, heartbeat_deps deps) {
  auto& state = self->state;
  state.core.emplace(deps.config);
  state.clock = deps.clock;
  state.beats_at = deps.beats_at;
  state.keeper = deps.keeper;
  state.election = deps.election;
  return {
      [=](const beat& b) { self->send(self->state.keeper, b); },
      [=](const beat_reply& reply) { run(self, self->state.core->on_beat_reply(reply)); },
      [=](peer_up& up) {
        self->state.peers[up.who.id] = up.handles.heartbeat;
        run(self, self->state.core->on_peer_up(up.who.id, self->state.clock.steady()));
      },
      [=](const peer_down& down) {
        self->state.peers.erase(down.id);
        run(self, self->state.core->on_peer_down(down.id));
      },
      [=](const beat_leave& leave) { run(self, self->state.core->on_beat_leave(leave, self->state.clock.steady())); },
      [=](const want_round& want) { run(self, self->state.core->on_want_round(want, self->state.clock.steady())); },
      [=](const role_changed& role) { self->state.core->on_role_changed(role); },
      [=](heartbeat_tick) {
        self->state.ticking = false;
        run(self, self->state.core->on_tick(self->state.clock.steady()));
      },
  };
}

}  // namespace coordinator
