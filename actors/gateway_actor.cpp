#include "actors/gateway_actor.hpp"

#include <algorithm>
#include <utility>

namespace coordinator {
namespace {

using self_pointer = gateway_actor::stateful_pointer<gateway_state>;

milliseconds now(self_pointer self) {
  return self->state.deps.clock.steady();
}

void complete(gateway_state& state, ticket owner, gateway_output::result& result) {
  auto waiting = state.waiting.extract(owner);
  if (waiting.empty())
    return;
  std::visit(
      [&](auto& done) {
        using argument = typename std::decay_t<decltype(done)>;
        if constexpr (std::is_same_v<argument, std::function<void(write_result)>>)
          done(std::move(std::get<write_result>(result)));
        else if constexpr (std::is_same_v<argument, std::function<void(read_result)>>)
          done(std::move(std::get<read_result>(result)));
        else if constexpr (std::is_same_v<argument, std::function<void(beat_result)>>)
          done(std::move(std::get<beat_result>(result)));
        else if constexpr (std::is_same_v<argument, std::function<void(cluster_view)>>)
          done(std::move(std::get<cluster_view>(result)));
        else if constexpr (std::is_same_v<argument, std::function<void(transfer_result)>>)
          done(std::move(std::get<transfer_result>(result)));
        else
          done(std::move(std::get<membership_result>(result)));
      },
      waiting.mapped());
}

void ask_status(self_pointer self) {
  auto intake = self->state.deps.intake;
  self->send(self->state.deps.keeper, get_raft_status{[intake](raft_status x) {
               intake->push(gateway_intake::contact_item{x.leader_contact_ms});
             }});
}

/// Arms the timer for the next thing that becomes due by itself; an idle gateway has none.
void arm(self_pointer self) {
  auto& state = self->state;
  auto next = state.core->next_wake();
  if (!next || (state.armed_for && *state.armed_for <= *next))
    return;
  state.armed_for = next;
  self->delayed_send(self, std::max(*next - now(self), milliseconds{1}), gateway_tick{++state.timer});
}

/// Does everything that the core wants done after what this message brought.
void settle(self_pointer self) {
  auto& state = self->state;
  auto out = state.core->flush(now(self));
  const auto& own = state.deps.config.self.id;
  for (auto& [to, message] : out.to_keeper) {
    auto peer = state.peers.find(to);
    std::visit(
        [&, to = std::cref(to)](auto& x) {
          if (to.get() == own)
            self->send(state.deps.keeper, std::move(x));
          else if (peer != state.peers.end())
            self->send(peer->second.keeper, std::move(x));
        },
        message);
  }
  for (auto& [to, beat] : out.to_fleet) {
    if (to == own)
      self->send(state.deps.fleet, std::move(beat));
    else if (auto peer = state.peers.find(to); peer != state.peers.end())
      self->send(peer->second.fleet, std::move(beat));
  }
  if (!out.queries.empty())
    self->send(state.deps.machine, run_queries{std::move(out.queries)});
  for (auto& poll : out.polls)
    self->send(state.deps.machine, std::move(poll));
  if (out.ask_status)
    ask_status(self);
  for (auto& [owner, result] : out.answers)
    complete(state, owner, result);
  arm(self);
  if (state.core->idle() && state.deps.intake->leaving())
    state.deps.intake->left();
}

// -- what clients ask ------------------------------------------------------------------

struct take_in {
  gateway_state& state;
  milliseconds now;

  void operator()(gateway_intake::write_item& x) const { wait(state.core->write(std::move(x.what), now), x.done); }
  void operator()(gateway_intake::read_item& x) const { wait(state.core->read(std::move(x.what), now), x.done); }
  void operator()(gateway_intake::claim_item& x) const { wait(state.core->claim(std::move(x.what), now), x.done); }
  void operator()(gateway_intake::beat_item& x) const {
    wait(state.core->beat(std::move(x.what), x.timeout, now), x.done);
  }
  void operator()(gateway_intake::cluster_item& x) const { wait(state.core->cluster(x.timeout, now), x.done); }
  void operator()(gateway_intake::transfer_item& x) const {
    wait(state.core->transfer(std::move(x.to), x.timeout, now), x.done);
  }
  void operator()(gateway_intake::members_item& x) const {
    wait(state.core->change_members(std::move(x.what), now), x.done);
  }
  void operator()(gateway_intake::contact_item& x) const { state.core->leader_contact(x.leader_contact_ms); }

  template <class Done>
  void wait(ticket owner, Done& done) const {
    state.waiting.emplace(owner, std::move(done));
  }
};

void on_wake(self_pointer self) {
  auto& state = self->state;
  const take_in take{state, now(self)};
  for (auto& item : state.deps.intake->drain())
    std::visit(take, item);
  if (state.deps.intake->leaving())
    state.core->end_polls("shutting_down");
  settle(self);
}

void on_role(self_pointer self, const role_changed& role) {
  auto& state = self->state;
  if (state.deps.watcher)
    state.deps.watcher->role(role);
  state.core->role(role);
  state.deps.intake->publish([&](gateway_intake::knowledge& known) {
    known.leadership.leader = role.leader;
    known.leadership.term = role.term;
  });
  settle(self);
}

template <class Applied>
void publish_applied(self_pointer self, const Applied& x) {
  self->state.deps.intake->publish([&](gateway_intake::knowledge& known) {
    known.last_applied = x.last_applied;
    known.last_applied_term = x.last_applied_term;
    known.maintenance = x.maintenance;
    known.storage_full = x.storage_full;
  });
}

void on_applied(self_pointer self, const applied_batch& x) {
  auto& state = self->state;
  // Published first: a client that was answered finds at least its own write applied.
  publish_applied(self, x);
  if (x.commands.empty())
    return;
  state.core->applied(x.commands, now(self));
  settle(self);
}

}  // namespace

gateway_state::~gateway_state() {
  if (!core)
    return;
  core->give_up("shutting_down");
  auto out = core->flush(deps.clock.steady());
  for (auto& [owner, result] : out.answers)
    complete(*this, owner, result);
  deps.intake->detach();
}

gateway_actor::behavior_type gateway_behavior(self_pointer self, gateway_deps deps) {
  auto& state = self->state;
  state.core = std::make_unique<gateway>(deps.config);
  state.deps = std::move(deps);
  state.deps.intake->publish(
      [&](gateway_intake::knowledge& known) { known.leadership.node = state.deps.config.self.id; });
  state.deps.intake->attach(self);
  return {
      [=](const proposal_rejected& x) {
        self->state.core->rejected(x, now(self));
        settle(self);
      },
      [=](const read_index_reply& x) {
        self->state.core->indexed(x, now(self));
        settle(self);
      },
      [=](const worker_beat_reply& x) {
        self->state.core->beaten(x, now(self));
        settle(self);
      },
      [=](const cluster_view& x) {
        self->state.core->viewed(x);
        settle(self);
      },
      [=](const transfer_reply& x) {
        self->state.core->transferred(x, now(self));
        settle(self);
      },
      [=](const membership_reply& x) {
        self->state.core->members_changed(x, now(self));
        settle(self);
      },
      [=](peer_up& up) {
        self->state.peers[up.who.id] = {up.handles.replication, up.handles.fleet};
        self->state.core->peer_up(up.who.id);
        settle(self);
      },
      [=](const peer_down& down) {
        self->state.peers.erase(down.id);
        self->state.core->peer_down(down.id);
        settle(self);
      },
      [=](const role_changed& role) { on_role(self, role); },
      [=](const standstill& x) {
        self->state.core->stand_still(x);
        settle(self);
      },
      [=](gateway_wake) { on_wake(self); },
      [=](const applied_batch& x) { on_applied(self, x); },
      [=](const query_answers& x) {
        for (auto& each : x.answers)
          self->state.core->answered(each);
        settle(self);
      },
      [=](const work_ready& x) {
        self->state.core->work_ready(x.request);
        settle(self);
      },
      [=](fleet_commands& x) {
        self->state.core->propose_own(std::move(x.commands), now(self));
        settle(self);
      },
      [=](const state_replaced& x) {
        publish_applied(self, x);
        self->state.core->replaced();
        settle(self);
      },
      [=](const gateway_tick& x) {
        if (x.number != self->state.timer)
          return;
        self->state.armed_for.reset();
        settle(self);
      },
  };
}

}  // namespace coordinator
