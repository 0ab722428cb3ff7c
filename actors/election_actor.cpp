#include "actors/election_actor.hpp"

namespace coordinator {
namespace {

using self_pointer = election_actor::stateful_pointer<election_state>;

void run(self_pointer self, election_actions actions) {
  auto& state = self->state;
  if (actions.arm)
    self->delayed_send(self, actions.arm->delay, election_timeout{actions.arm->number});
  if (actions.term)
    self->send(state.keeper, *actions.term);
  if (actions.ask)
    self->send(state.keeper, *actions.ask);
  if (actions.votes)
    self->send(state.keeper, std::move(*actions.votes));
  for (auto& [to, request] : actions.requests)
    if (auto peer = state.peers.find(to); peer != state.peers.end())
      self->send(peer->second, std::move(request));
  if (actions.hand_over)
    if (auto peer = state.peers.find(actions.hand_over->first); peer != state.peers.end())
      self->send(peer->second, actions.hand_over->second);
}

}  // namespace

election_actor::behavior_type election_behavior(self_pointer self, election_deps deps) {
  auto& state = self->state;
  state.core.emplace(deps.config);
  state.clock = deps.clock;
  state.keeper = deps.keeper;
  run(self, state.core->start(state.clock.steady()));
  return {
      [=](request_vote& ask) { self->send(self->state.keeper, std::move(ask)); },
      [=](const request_vote_reply& reply) { run(self, self->state.core->on_reply(reply)); },
      [=](const timeout_now& ask) { run(self, self->state.core->on_timeout_now(ask)); },
      [=](peer_up& up) {
        self->state.peers[up.who.id] = up.handles.election;
        run(self, self->state.core->on_peer_up(up.who.id));
      },
      [=](const peer_down& down) {
        self->state.peers.erase(down.id);
        self->state.core->on_peer_down(down.id);
      },
      [=](const campaign_leave& leave) {
        run(self, self->state.core->on_campaign_leave(leave, self->state.clock.steady()));
      },
      [=](const role_changed& role) { run(self, self->state.core->on_role_changed(role, self->state.clock.steady())); },
      [=](const send_timeout_now& order) { run(self, self->state.core->on_send_timeout_now(order)); },
      [=](const suspect& gone) { run(self, self->state.core->on_suspect(gone, self->state.clock.steady())); },
      [=](const election_timeout& timer) {
        run(self, self->state.core->on_timeout(timer.number, self->state.clock.steady()));
      },
  };
}

}  // namespace coordinator
