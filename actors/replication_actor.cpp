#include "actors/replication_actor.hpp"

#include <spdlog/spdlog.h>

#include <cstdio>
#include <utility>

#include "actors/invariant.hpp"
#include "persistence/codec.hpp"

namespace coordinator {
namespace {

using self_pointer = replication_actor::stateful_pointer<replication_state>;

// Reads of the log for people are numbered apart from those that replication asks for.
constexpr std::uint64_t people_read = std::uint64_t{1} << 63;
// What one answer of the log route may hold.
constexpr std::size_t people_read_bytes = 4 << 20;
// How often, in ticks, a node says where it stands while its cluster is being founded.
constexpr unsigned formation_ticks = 4;
// How long word of commitment waits for an append that carries it.
constexpr milliseconds commit_notice_delay{5};

instant now(self_pointer self) {
  return {self->state.clock.steady(), self->state.clock.wall_ms()};
}

// -- sending ------------------------------------------------------------------------

struct deliver {
  self_pointer self;
  const reply_address& to;

  replication_state::peer* peer() const {
    auto i = self->state.peers.find(to.node);
    return i == self->state.peers.end() ? nullptr : &i->second;
  }

  void operator()(append_entries& x) const {
    if (auto p = peer())
      self->send(p->handles.replication, std::move(x));
  }
  void operator()(append_entries_reply& x) const {
    if (to.injected != 0) {
      auto asked = self->state.appends.extract(to.injected);
      if (!asked.empty())
        asked.mapped().done(std::move(x), {});
    } else if (auto p = peer()) {
      self->send(p->handles.replication, std::move(x));
    }
  }
  void operator()(install_snapshot& x) const {
    if (auto p = peer())
      self->send(p->handles.replication, std::move(x));
  }
  void operator()(install_snapshot_reply& x) const {
    if (to.injected != 0) {
      auto asked = self->state.states.extract(to.injected);
      if (!asked.empty())
        asked.mapped().done(x, {});
    } else if (auto p = peer())
      self->send(p->handles.replication, std::move(x));
  }
  void operator()(removal_notice& x) const {
    if (auto p = peer())
      self->send(p->handles.replication, std::move(x));
  }
  void operator()(state_digest& x) const {
    if (auto p = peer())
      self->send(p->handles.replication, x);
  }
  void operator()(request_vote_reply& x) const {
    if (to.injected != 0) {
      auto asked = self->state.votes.extract(to.injected);
      if (!asked.empty())
        asked.mapped().done(std::move(x), {});
    } else if (auto p = peer()) {
      self->send(p->handles.election, std::move(x));
    }
  }
  void operator()(beat_reply& x) const {
    if (auto p = peer())
      self->send(p->handles.heartbeat, std::move(x));
  }
  // The rest answers a gateway, perhaps this node's own.
  template <class T>
  void operator()(T& x) const {
    if (to.node == self->state.self_sender.id)
      self->send(self->state.wiring->gateway, std::move(x));
    else if (auto p = peer())
      self->send(p->handles.gateway, std::move(x));
  }
};

void tell_cluster(self_pointer self) {
  auto& state = self->state;
  if (!state.core->formed() || state.announced_members == state.core->log().members_index())
    return;
  state.announced_members = state.core->log().members_index();
  self->send(state.wiring->links, cluster_known{state.founded->cluster_id, state.core->log().members()});
}

void tell_removed(self_pointer self) {
  auto& state = self->state;
  if (!state.on_removed || !state.core->removed())
    return;
  spdlog::warn("this node was removed from cluster {} by entry {}: it stops", state.founded->cluster_id,
               state.core->removed_by().value);
  std::exchange(state.on_removed, nullptr)();
}

void log_role(self_pointer self, const role_changed& role) {
  auto& logged = self->state.logged_role;
  // Campaigns come and go; who leads is news.
  if (role.leader.empty() || (role.leader == logged.leader && role.term == logged.term))
    return;
  logged = role;
  spdlog::info("{} leads in term {}{}", role.leader.value, role.term.value,
               role.leader == self->state.self_sender.id ? ": this node" : "");
}

/// The state machine goes on from the state that came.
void install(self_pointer self, const installation& what) {
  auto& state = self->state;
  COORDINATOR_INVARIANT(state.loaded && state.loaded_number == what.number);
  spdlog::info("state as of entry {} installed", state.core->log().base().index.value);
  self->send(state.wiring->state_machine, install_state{std::move(state.loaded), what.set_aside});
  state.loaded.reset();
}

/// What goes to those who handle the state's files.
void run_state(self_pointer self, replication_actions& actions) {
  auto& state = self->state;
  auto& wiring = *state.wiring;
  if (actions.checkpoint) {
    // What is still in memory is written first: the log is to lose as much as it can.
    auto writer = wiring.state_writer;
    self->send(wiring.state_machine, flush_state{[writer](log_index, term_number, const std::string&) {
                 caf::anon_send(writer, checkpoint_state{});
               }});
  }
  if (actions.noted_file)
    self->send(wiring.state_writer, state_file_noted{*actions.noted_file});
  if (actions.copy) {
    auto keeper = caf::actor_cast<replication_actor>(self);
    self->send(wiring.state_writer, copy_state{[keeper](state_copied x) { caf::anon_send(keeper, std::move(x)); }});
  }
  for (auto& read : actions.copy_reads)
    self->send(wiring.snapshots, read_snapshot{read.request, read.file, read.offset, read.bytes});
  if (actions.copy_check)
    self->send(wiring.snapshots, check_snapshot{*actions.copy_check});
  for (auto& file : actions.spent_copies)
    self->send(wiring.snapshots, remove_snapshot{file});
  for (auto& piece : actions.pieces)
    self->send(wiring.snapshots, store_snapshot{piece.source, piece.what, piece.offset, std::move(piece.data)});
  for (auto number : actions.discards) {
    discard_snapshot discard{number, {}};
    if (state.loaded_number == number)
      discard.state = std::move(state.loaded);
    self->send(wiring.snapshots, std::move(discard));
  }
}

/// Does what the core said, in its order: save, send, apply.
void run(self_pointer self, replication_actions actions) {
  auto& state = self->state;
  auto& wiring = *state.wiring;
  if (actions.write)
    self->send(wiring.log_writer, write_log{std::move(*actions.write), state.log_life});
  for (auto& load : actions.loads)
    self->send(wiring.log_writer, load_log{load.request, load.from, load.to, load.max_bytes});
  for (auto& message : actions.messages)
    std::visit(deliver{self, message.to}, message.what);
  if (actions.commit_notice)
    self->delayed_send(self, commit_notice_delay, commit_notice_due{});
  // The role goes first: what follows is meant for one who knows it.
  if (actions.role) {
    log_role(self, *actions.role);
    self->send(wiring.election, *actions.role);
    self->send(wiring.heartbeat, *actions.role);
    self->send(wiring.gateway, *actions.role);
    self->send(wiring.fleet, *actions.role);
  }
  if (actions.standstill)
    self->send(wiring.gateway, *actions.standstill);
  if (actions.campaign)
    self->send(wiring.election, std::move(*actions.campaign));
  if (actions.hand_over)
    self->send(wiring.election, std::move(*actions.hand_over));
  if (actions.beats)
    self->send(wiring.heartbeat, std::move(*actions.beats));
  if (actions.round)
    self->send(wiring.heartbeat, *actions.round);
  if (actions.unusable) {
    spdlog::error("{}; this node serves no reads until it has another state", *actions.unusable);
    self->send(wiring.state_machine, state_unusable{*actions.unusable});
  }
  if (actions.install)
    install(self, *actions.install);
  for (auto& batch : actions.apply)
    self->send(wiring.state_machine, std::move(batch));
  run_state(self, actions);
  tell_cluster(self);
  tell_removed(self);
}

// -- founding ------------------------------------------------------------------------

formation_status own_status(self_pointer self) {
  auto& state = self->state;
  if (state.founding)
    return state.founding->status();
  formation_status status;
  status.from = state.self_sender;
  status.http_address = state.http_address;
  status.cluster_address = state.cluster_address;
  status.founded = *state.founded;
  status.members = state.core->log().members();
  return status;
}

void run(self_pointer self, formation_actions actions) {
  auto& state = self->state;
  for (auto& [to, message] : actions.messages) {
    auto peer = state.peers.find(to);
    if (peer == state.peers.end())
      continue;
    std::visit([&](auto& m) { self->send(peer->second.handles.replication, std::move(m)); }, message);
  }
  if (actions.save) {
    auto saving = state.core->save_formation(to_bytes(*actions.save), now(self));
    state.formation_write = state.core->newest_write();
    run(self, std::move(saving));
  }
  if (actions.found) {
    state.founded = *actions.found;
    spdlog::info("member of cluster {} with {} founders", state.founded->cluster_id,
                 state.founded->founders.members.size());
    state.founding.reset();
    run(self, state.core->found(*state.founded, {}, now(self)));
    for (auto& [id, peer] : state.peers)
      self->send(peer.handles.replication, own_status(self));
  }
}

void on_formation_status(self_pointer self, const formation_status& status) {
  auto& state = self->state;
  if (state.founding) {
    run(self, state.founding->on_status(status));
    return;
  }
  // One that is not formed learns here that there is a cluster, and whether it is one of its founders.
  auto peer = state.peers.find(status.from.id);
  if (state.founded && status.founded.cluster_id.empty() && peer != state.peers.end())
    self->send(peer->second.handles.replication, own_status(self));
}

void on_written(self_pointer self, const log_written& done) {
  auto& state = self->state;
  if (done.life != state.log_life)
    return;
  if (!done.error.empty())
    spdlog::error("raft.db cannot be written: {}; this node neither leads nor acknowledges any more", done.error);
  run(self, state.core->on_written(done.number, done.error, done.first_index, now(self)));
  if (state.founding && state.formation_write != 0 && state.core->durable_write() >= state.formation_write) {
    state.formation_write = 0;
    run(self, state.founding->on_saved());
  }
}

void on_loaded_snapshot(self_pointer self, snapshot_loaded& x) {
  auto& state = self->state;
  state.loaded_number = x.number;
  state.loaded = std::move(x.state);
  auto file = state.loaded->file;
  run(self, state.core->on_snapshot_loaded(x.number, file, now(self)));
}

/// Begins as a node does at its start. What was asked of the one before it, it does not know.
void build_core(self_pointer self, raft_contents contents, log_index last_applied) {
  auto& state = self->state;
  state.founded = contents.founded;
  state.founding.reset();
  if (!state.founded) {
    formation_state saved;
    if (!contents.formation.empty() && !from_bytes(contents.formation, saved))
      state.lost_disk = "raft.db holds a founding that this version cannot read";
    state.founding.emplace(state.founding_config, std::move(saved));
  }
  state.core.emplace(state.config, std::move(contents), last_applied);
}

void announce_role(self_pointer self) {
  auto& state = self->state;
  auto status = state.core->status(now(self));
  role_changed role{status.role, status.term, status.leader, false};
  self->send(state.wiring->election, role);
  self->send(state.wiring->gateway, role);
  self->send(state.wiring->fleet, role);
  self->send(state.wiring->gateway, state.core->standing_still(now(self)));
}

/// The disk takes writes again. What it holds is all that is certain, so the keeper begins anew from there, as after
/// a crash; the state machine has applied only what was durable.
void on_recovered(self_pointer self, log_recovered& x) {
  auto& state = self->state;
  state.log_life = x.life;
  spdlog::warn("raft.db can be written again");
  auto handed = state.core->handed();
  const auto state_disk_error = state.core->state_disk_error();
  state.config.needs_state = state.core->state_error();
  state.config.numbers_from = state.core->numbers_used();
  state.config.snapshot_numbers_from = state.random();
  if (state.loaded && x.contents->state_file == state.loaded->file) {
    // The write that installs it was made.
    handed = x.contents->base.index;
    state.config.needs_state.clear();
    self->send(state.wiring->state_machine, install_state{std::move(state.loaded), {}});
  } else if (state.loaded) {
    self->send(state.wiring->snapshots, discard_snapshot{state.loaded_number, std::move(state.loaded)});
  }
  state.loaded.reset();
  build_core(self, std::move(*x.contents), handed);
  if (!state_disk_error.empty())
    run(self, state.core->on_disk_failed(state_disk_error, now(self)));
  run(self, state.core->on_tick(now(self)));
  announce_role(self);
  for (auto& [id, peer] : state.peers)
    run(self, state.core->on_peer_up(peer.who, now(self)));
}

void on_tick(self_pointer self) {
  auto& state = self->state;
  run(self, state.core->on_tick(now(self)));
  if (state.founding && state.lost_disk.empty() && state.ticks++ % formation_ticks == 0) {
    char id[33];
    std::snprintf(id, sizeof id, "%016llx%016llx", static_cast<unsigned long long>(state.random()),
                  static_cast<unsigned long long>(state.random()));
    run(self, state.founding->on_tick(id, state.clock.wall_ms()));
  }
  self->delayed_send(self, state.looks_at.until_next(state.clock.steady()), keeper_tick{});
}

// -- the HTTP front ---------------------------------------------------------------------

raft_status status(self_pointer self) {
  auto& state = self->state;
  auto result = state.core->status(now(self));
  if (!state.lost_disk.empty())
    result.waiting_for = state.lost_disk;
  else if (state.founding)
    result.waiting_for = state.founding->waiting_for();
  return result;
}

/// Why a message that claims to come from `id` may not be taken in over HTTP; empty: it may.
std::string refuse_injected(self_pointer self, const node_id& id, const char* field) {
  auto& core = *self->state.core;
  if (!core.formed())
    return "this node is not formed and takes part in no cluster";
  if (!core.log().members().find(id))
    return std::string{field} + " \"" + id.value + "\" is not a member of this cluster";
  if (id == self->state.self_sender.id)
    return std::string{field} + " is this node itself";
  return {};
}

void on_injected_vote(self_pointer self, injected_vote ask) {
  auto& state = self->state;
  auto error = refuse_injected(self, ask.request.candidate.id, "candidate_id");
  if (!error.empty()) {
    ask.done(std::nullopt, std::move(error));
    return;
  }
  ask.request.candidate.incarnation = state.core->log().members().find(ask.request.candidate.id)->incarnation;
  auto request = ask.request;
  auto number = ++state.last_injected;
  state.votes.emplace(number, std::move(ask));
  run(self, state.core->on_request_vote(request, {{}, number}, now(self)));
}

void on_injected_append(self_pointer self, injected_append ask) {
  auto& state = self->state;
  auto& core = *state.core;
  auto& leader = ask.request.leader;
  auto error = refuse_injected(self, leader.id, "leader_id");
  if (error.empty() && ask.request.term == core.current_term() && !core.leader().empty() && core.leader() != leader.id)
    error = "term " + std::to_string(ask.request.term.value) + " has a leader already: \"" + core.leader().value + "\"";
  if (!error.empty()) {
    ask.done(std::nullopt, std::move(error));
    return;
  }
  leader.incarnation = core.log().members().find(leader.id)->incarnation;
  auto request = ask.request;
  auto number = ++state.last_injected;
  state.appends.emplace(number, std::move(ask));
  run(self, core.on_append_entries(std::move(request), {{}, number}, now(self)));
}

void on_injected_state(self_pointer self, injected_state ask) {
  auto& state = self->state;
  auto& core = *state.core;
  auto& leader = ask.whole.leader;
  auto error = refuse_injected(self, leader.id, "leader_id");
  if (error.empty() && ask.whole.term == core.current_term() && !core.leader().empty() && core.leader() != leader.id)
    error = "term " + std::to_string(ask.whole.term.value) + " has a leader already: \"" + core.leader().value + "\"";
  if (!error.empty()) {
    ask.done(std::nullopt, std::move(error));
    return;
  }
  leader.incarnation = core.log().members().find(leader.id)->incarnation;
  ask.whole.what.number = state.random() | 1;
  auto whole = std::move(ask.whole);
  auto number = ++state.last_injected;
  state.states.emplace(number, std::move(ask));
  run(self, core.on_injected_snapshot(std::move(whole), number, now(self)));
}

void on_get_log(self_pointer self, get_log ask) {
  auto& state = self->state;
  auto& log = state.core->log();
  auto from = std::max(ask.from, log.first_index());
  if (from > log.last_index() || ask.limit == 0) {
    ask.done({});
    return;
  }
  auto to = std::min(log.last_index(), from + (ask.limit - 1));
  if (auto entries = log.entries(from, to, people_read_bytes)) {
    ask.done(std::move(*entries));
    return;
  }
  auto number = people_read | ++state.last_log_read;
  state.log_reads.emplace(number, std::move(ask));
  self->send(state.wiring->log_writer, load_log{number, from, to, people_read_bytes});
}

void on_loaded(self_pointer self, log_loaded& loaded) {
  auto& state = self->state;
  if (!loaded.error.empty()) {
    spdlog::error("raft.db cannot be read: {}", loaded.error);
    run(self, state.core->on_disk_failed(loaded.error, now(self)));
  }
  if ((loaded.request & people_read) == 0) {
    run(self, state.core->on_loaded(loaded.request, std::move(loaded.entries), now(self)));
    return;
  }
  auto asked = state.log_reads.extract(loaded.request);
  if (!asked.empty())
    asked.mapped().done(std::move(loaded.entries));
}

// -- links ----------------------------------------------------------------------------------

void on_peer_up(self_pointer self, peer_up& up) {
  auto& state = self->state;
  auto who = up.who;
  state.peers[who.id] = {who, up.cluster_id, up.handles};
  state.core->on_introduced(who.id, up.http_address, up.cluster_address);
  if (state.founding) {
    state.founding->on_peer_up(who, up.configured_address);
    self->send(up.handles.replication, own_status(self));
  }
  run(self, state.core->on_peer_up(who, now(self)));
}

void on_peer_down(self_pointer self, const peer_down& down) {
  auto& state = self->state;
  state.peers.erase(down.id);
  if (state.founding)
    state.founding->on_peer_down(down.id);
  run(self, state.core->on_peer_down(down.id, now(self)));
}

}  // namespace

replication_actor::behavior_type replication_behavior(self_pointer self, replication_deps deps) {
  auto& state = self->state;
  state.clock = deps.clock;
  state.looks_at = deps.looks_at;
  state.self_sender = deps.config.self;
  state.http_address = deps.formation.http_address;
  state.cluster_address = deps.formation.cluster_address;
  state.random.seed(deps.seed);
  state.lost_disk = deps.lost_disk;
  state.on_removed = std::move(deps.on_removed);
  state.config = std::move(deps.config);
  state.config.needs_state = deps.needs_state;
  state.config.snapshot_numbers_from = state.random();
  state.founding_config = std::move(deps.formation);
  build_core(self, std::move(deps.contents), deps.last_applied);
  return {
      // Raft and clients' requests, from peers and from this node's own gateway.
      [=](append_entries& append) {
        auto from = append.leader.id;
        run(self, self->state.core->on_append_entries(std::move(append), {from, 0}, now(self)));
      },
      [=](const append_entries_reply& reply) {
        run(self, self->state.core->on_append_entries_reply(reply, now(self)));
      },
      [=](install_snapshot& piece) { run(self, self->state.core->on_install_snapshot(std::move(piece), now(self))); },
      [=](const install_snapshot_reply& reply) {
        run(self, self->state.core->on_install_snapshot_reply(reply, now(self)));
      },
      [=](const removal_notice& notice) { run(self, self->state.core->on_removal_notice(notice, now(self))); },
      [=](const state_digest& digest) { run(self, self->state.core->on_state_digest(digest, now(self))); },
      [=](propose& batch) { run(self, self->state.core->on_propose(std::move(batch), now(self))); },
      [=](const read_index& ask) { run(self, self->state.core->on_read_index(ask, now(self))); },
      [=](const cluster_query& ask) {
        outgoing answer{{ask.from.id, 0}, self->state.core->view(ask.request, now(self))};
        std::visit(deliver{self, answer.to}, answer.what);
      },
      [=](const transfer_leadership& ask) { run(self, self->state.core->on_transfer_leadership(ask, now(self))); },
      [=](const change_membership& ask) { run(self, self->state.core->on_change_membership(ask, now(self))); },
      [=](const formation_status& status) { on_formation_status(self, status); },
      [=](const formation_offer& offer) {
        if (self->state.founding && self->state.lost_disk.empty())
          run(self, self->state.founding->on_offer(offer));
      },
      [=](const formation_abandon& ask) {
        if (self->state.founding && self->state.lost_disk.empty())
          run(self, self->state.founding->on_abandon(ask));
      },
      // The node.
      [=](replication_wiring& wiring) {
        self->state.wiring = std::move(wiring);
        run(self, self->state.core->on_tick(now(self)));
        announce_role(self);
        if (auto& why = self->state.core->state_error(); !why.empty())
          self->send(self->state.wiring->state_machine, state_unusable{why});
        self->send(self, keeper_tick{});
      },
      [=](peer_up& up) { on_peer_up(self, up); },
      [=](const peer_down& down) { on_peer_down(self, down); },
      [=](const peer_rtt& rtt) { self->state.core->on_rtt(rtt.id, rtt.rtt_us); },
      // Election and heartbeat.
      [=](const request_vote& ask) {
        run(self, self->state.core->on_request_vote(ask, {ask.candidate.id, 0}, now(self)));
      },
      [=](const ask_leave& ask) {
        if (self->state.wiring)
          run(self, self->state.core->on_ask_leave(ask, now(self)));
      },
      [=](const tally& votes) { run(self, self->state.core->on_tally(votes, now(self))); },
      [=](const higher_term& higher) { run(self, self->state.core->on_higher_term(higher.term, now(self))); },
      [=](const beat& b) { run(self, self->state.core->on_beat(b, now(self))); },
      [=](const round_evidence& round) { run(self, self->state.core->on_round_evidence(round, now(self))); },
      // The stores.
      [=](const log_written& done) { on_written(self, done); },
      [=](log_loaded& loaded) { on_loaded(self, loaded); },
      [=](const disk_failed& failed) { run(self, self->state.core->on_disk_failed(failed.what, now(self))); },
      [=](log_recovered& x) { on_recovered(self, x); },
      [=](disk_recovered) { run(self, self->state.core->on_disk_recovered(now(self))); },
      // The state and its files.
      [=](const own_digest& x) { run(self, self->state.core->on_own_digest(x.index, x.checksum, now(self))); },
      [=](const state_damaged& x) { run(self, self->state.core->on_state_damaged(x.what, now(self))); },
      [=](const state_checkpointed& x) { run(self, self->state.core->on_checkpointed(x.file, x.index, now(self))); },
      [=](const state_file_moved& x) { run(self, self->state.core->on_state_file_moved(x.file, x.before, now(self))); },
      [=](const state_copied& x) { run(self, self->state.core->on_copied(x, now(self))); },
      [=](snapshot_read& x) {
        run(self, self->state.core->on_copy_read(x.request, std::move(x.data), x.crc, x.error, now(self)));
      },
      [=](const snapshot_checked& x) {
        run(self, self->state.core->on_copy_checked(x.file, x.damage, x.error, now(self)));
      },
      [=](const snapshot_stored& x) {
        run(self, self->state.core->on_snapshot_stored(x.number, x.offset, x.error, x.damaged, now(self)));
      },
      [=](snapshot_loaded& x) { on_loaded_snapshot(self, x); },
      // The HTTP front.
      [=](get_raft_status& ask) { ask.done(status(self)); },
      [=](injected_vote& ask) { on_injected_vote(self, std::move(ask)); },
      [=](injected_append& ask) { on_injected_append(self, std::move(ask)); },
      [=](injected_state& ask) { on_injected_state(self, std::move(ask)); },
      [=](get_log& ask) { on_get_log(self, std::move(ask)); },
      // The timer.
      [=](keeper_tick) { on_tick(self); },
      [=](commit_notice_due) { run(self, self->state.core->on_commit_notice(now(self))); },
  };
}

}  // namespace coordinator
