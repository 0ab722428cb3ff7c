#include <algorithm>

#include "tests/support/core_cluster.hpp"

/// The processes of a core_cluster and its network, and doing what the cores say.

namespace coordinator {

// -- processes ---------------------------------------------------------------------------

std::size_t core_cluster::find(const node_id& id) const {
  auto i = std::find_if(nodes_.begin(), nodes_.end(), [&](auto& n) { return n.who.id == id; });
  return static_cast<std::size_t>(i - nodes_.begin());
}

void core_cluster::start(std::size_t i) {
  auto& n = nodes_[i];
  ++n.boot;
  n.running = true;
  n.paused_until = {};
  n.disk_free = now_;
  n.writing.reset();
  n.beating = false;
  std::fill(std::begin(n.channel_free), std::end(n.channel_free), now_);
  replication_config config;
  config.self = n.who;
  config.append_bytes = 300;
  config.window_bytes = 1000;
  config.window_messages = 8;
  config.uncommitted_bytes = 6000;
  config.memory_bytes = 2000;
  config.apply_bytes = 500;
  config.write_bytes = 800;
  config.snapshot_bytes = 400;
  config.snapshot_window = 1500;
  config.log_retention_entries = 20;
  config.snapshot_numbers_from = draw(UINT64_MAX / 2);
  // As `open_stores` does with a file that cannot be read, or that is older than the log's beginning.
  bool lost = n.files.last_applied < n.files.base.index;
  if (lost)
    config.needs_state = "the state is gone";
  config.defects = options_.defects;
  raft_contents contents;
  contents.node = n.who.id;
  contents.incarnation = n.who.incarnation;
  contents.state = n.files.state;
  contents.founded = n.files.founded;
  contents.base = n.files.base;
  contents.state_file = n.files.state_file;
  contents.first_index = n.files.base.index + 1;
  contents.last_index = n.files.last();
  contents.last_time_ms = n.files.base.time_ms;
  for (auto& entry : n.files.log) {
    if (contents.terms.empty() || contents.terms.back().term != entry.term)
      contents.terms.push_back({entry.index, entry.term});
    contents.last_time_ms = entry.time_ms;
    if (entry.kind == entry_kind::genesis || entry.kind == entry_kind::membership)
      contents.memberships.push_back(entry);
  }
  if (!n.files.log.empty())
    contents.tail.push_back(n.files.log.back());
  n.copies.clear();
  n.incoming.reset();
  n.refuses_to_apply = lost;
  n.applied = n.commit_seen = n.files.last_applied;
  n.led_term = {};
  n.keeper = std::make_unique<replication>(config, std::move(contents), n.files.last_applied);
  n.campaigns = std::make_unique<election>(
      election_config{n.who, timeout_min, timeout_max, heartbeat_interval, draw(UINT64_MAX)});
  n.beats = std::make_unique<heartbeat>(heartbeat_config{n.who, 3 * heartbeat_interval});
  role_changed first{n.keeper->role(), n.keeper->current_term(), {}, false};
  n.beats->on_role_changed(first);
  perform(i, n.campaigns->on_role_changed(first, clock(n).steady));
  perform(i, n.campaigns->start(clock(n).steady));
  keeper_tick(i);
}

void core_cluster::crash(std::size_t i) {
  auto& n = nodes_[i];
  n.running = false;
  // What was written behind and not checkpointed may be gone.
  if (n.files.last_applied > n.files.checkpointed && chance(50))
    n.files.last_applied = n.files.checkpointed + draw(n.files.last_applied - n.files.checkpointed + 1);
  // A transaction that was being synced is there or not, as the disk pleased.
  if (n.writing && !n.disk_fails && chance(50))
    save(n, *n.writing);
  for (std::size_t j = 0; j < nodes_.size(); ++j)
    disconnect(i, j);
}

void core_cluster::keeper_tick(std::size_t i) {
  auto& n = nodes_[i];
  perform(i, n.keeper->on_tick(clock(n)));
  if (n.files.last_applied < n.applied && chance(20))
    n.files.last_applied = n.files.last_applied + 1 + draw(n.applied - n.files.last_applied);
  if (chance(5)) {
    n.files.checkpointed = n.files.last_applied;
    perform(i, n.keeper->on_checkpointed(n.files.state_file, n.files.checkpointed, clock(n)));
  }
  schedule_for(i, heartbeat_interval, [this, i] { keeper_tick(i); });
}

void core_cluster::heartbeat_tick(std::size_t i) {
  auto& n = nodes_[i];
  n.beating = false;
  perform(i, n.beats->on_tick(clock(n).steady));
}

// -- network ------------------------------------------------------------------------------

void core_cluster::connect(std::size_t i, std::size_t j) {
  if (i == j || connected_[i][j] || !nodes_[i].running || !nodes_[j].running)
    return;
  connected_[i][j] = connected_[j][i] = true;
  tell_link(i, j, true);
  tell_link(j, i, true);
}

void core_cluster::disconnect(std::size_t i, std::size_t j) {
  if (i == j || !connected_[i][j])
    return;
  connected_[i][j] = connected_[j][i] = false;
  tell_link(i, j, false);
  tell_link(j, i, false);
}

void core_cluster::tell_link(std::size_t i, std::size_t j, bool up) {
  if (!nodes_[i].running)
    return;
  auto& free = nodes_[i].link_free[j];
  free = std::max(free, now_ + up_to(milliseconds{faults_ ? 300 : 20}));
  schedule_for(i, free - now_, [this, i, j, up] {
    auto& n = nodes_[i];
    auto who = nodes_[j].who;
    if (up) {
      n.keeper->on_introduced(who.id, "h", "c");
      perform(i, n.keeper->on_peer_up(who, clock(n)));
      post(i, to_election, [this, i, who] { perform(i, nodes_[i].campaigns->on_peer_up(who.id)); });
      post(i, to_heartbeat,
           [this, i, who] { perform(i, nodes_[i].beats->on_peer_up(who.id, clock(nodes_[i]).steady)); });
    } else {
      perform(i, n.keeper->on_peer_down(who.id, clock(n)));
      post(i, to_election, [this, i, who] { nodes_[i].campaigns->on_peer_down(who.id); });
      post(i, to_heartbeat, [this, i, who] { perform(i, nodes_[i].beats->on_peer_down(who.id)); });
    }
  });
}

void core_cluster::send(std::size_t i, const node_id& to, peer_message message) {
  check_said(nodes_[i], to, message);
  auto j = find(to);
  if (j == nodes_.size())
    return violate("a message to '" + to.value + "'");
  if (i == j) {
    deliver(j, std::move(message));
    return;
  }
  if (!connected_[i][j] || deaf_[i][j] || chance(loss_percent_))
    return;
  auto copies = 1 + (faults_ && chance(2) ? 1 : 0);
  for (auto k = 0; k < copies; ++k) {
    // Most are quick; some come so late that another term has begun, or the receiver is another process.
    auto delay = faults_ && chance(3) ? up_to(milliseconds{2000}) : up_to(milliseconds{faults_ ? 15 : 5});
    schedule(delay, [this, j, message]() mutable {
      if (nodes_[j].running)
        schedule_for(j, {}, [this, j, message] { deliver(j, message); });
    });
  }
}

void core_cluster::deliver(std::size_t i, peer_message message) {
  auto& n = nodes_[i];
  auto now = clock(n);
  auto& keeper = *n.keeper;
  if (auto* m = std::get_if<append_entries>(&message))
    perform(i, keeper.on_append_entries(*m, {m->leader.id, 0}, now));
  else if (auto* m = std::get_if<append_entries_reply>(&message))
    perform(i, keeper.on_append_entries_reply(*m, now));
  else if (auto* m = std::get_if<install_snapshot>(&message))
    perform(i, keeper.on_install_snapshot(*m, now));
  else if (auto* m = std::get_if<install_snapshot_reply>(&message))
    perform(i, keeper.on_install_snapshot_reply(*m, now));
  else if (auto* m = std::get_if<state_digest>(&message))
    perform(i, keeper.on_state_digest(*m, now));
  else if (auto* m = std::get_if<propose>(&message))
    perform(i, keeper.on_propose(*m, now));
  else if (auto* m = std::get_if<read_index>(&message))
    perform(i, keeper.on_read_index(*m, now));
  else if (auto* m = std::get_if<change_membership>(&message))
    perform(i, keeper.on_change_membership(*m, now));
  else if (auto* m = std::get_if<membership_reply>(&message))
    changed_ += m->result == membership_reply::outcome::committed ? 1 : 0;
  else if (auto* m = std::get_if<transfer_leadership>(&message))
    perform(i, keeper.on_transfer_leadership(*m, now));
  else if (auto* m = std::get_if<request_vote>(&message))
    post(i, election_to_keeper, [this, i, m = *m] {
      perform(i, nodes_[i].keeper->on_request_vote(m, {m.candidate.id, 0}, clock(nodes_[i])));
    });
  else if (auto* m = std::get_if<request_vote_reply>(&message))
    perform(i, n.campaigns->on_reply(*m));
  else if (auto* m = std::get_if<timeout_now>(&message))
    perform(i, n.campaigns->on_timeout_now(*m));
  else if (auto* m = std::get_if<beat>(&message))
    post(i, heartbeat_to_keeper, [this, i, m = *m] { perform(i, nodes_[i].keeper->on_beat(m, clock(nodes_[i]))); });
  else if (auto* m = std::get_if<beat_reply>(&message))
    perform(i, n.beats->on_beat_reply(*m));
  else if (auto* m = std::get_if<read_index_reply>(&message))
    check_read(*m);
}

// -- doing what the cores say ----------------------------------------------------------------

void core_cluster::perform(std::size_t i, replication_actions actions) {
  auto& n = nodes_[i];
  if (actions.write)
    write(i, std::move(*actions.write));
  for (auto& request : actions.loads)
    load(i, request);
  for (auto& message : actions.messages)
    std::visit([&](auto& m) { send(i, message.to.node, std::move(m)); }, message.what);
  if (actions.commit_notice)
    schedule_for(i, milliseconds{5}, [this, i] { perform(i, nodes_[i].keeper->on_commit_notice(clock(nodes_[i]))); });
  if (actions.role) {
    post(i, to_election, [this, i, role = *actions.role] {
      perform(i, nodes_[i].campaigns->on_role_changed(role, clock(nodes_[i]).steady));
    });
    post(i, to_heartbeat, [this, i, role = *actions.role] { nodes_[i].beats->on_role_changed(role); });
  }
  if (actions.campaign)
    post(i, to_election, [this, i, leave = *actions.campaign] {
      perform(i, nodes_[i].campaigns->on_campaign_leave(leave, clock(nodes_[i]).steady));
    });
  if (actions.hand_over)
    post(i, to_election,
         [this, i, order = *actions.hand_over] { perform(i, nodes_[i].campaigns->on_send_timeout_now(order)); });
  if (actions.beats)
    post(i, to_heartbeat, [this, i, leave = *actions.beats] {
      perform(i, nodes_[i].beats->on_beat_leave(leave, clock(nodes_[i]).steady));
    });
  if (actions.round)
    post(i, to_heartbeat, [this, i, want = *actions.round] {
      perform(i, nodes_[i].beats->on_want_round(want, clock(nodes_[i]).steady));
    });
  perform_on_state(i, actions);
  for (auto& batch : actions.apply)
    check_applied(n, batch);
}

void core_cluster::perform_on_state(std::size_t i, replication_actions& actions) {
  auto& n = nodes_[i];
  if (actions.unusable)
    n.refuses_to_apply = true;
  if (actions.install) {
    ++installed_;
    if (!n.incoming || n.incoming->number != actions.install->number)
      return violate(n.who.id.value + " installs a snapshot that it does not have");
    auto base = n.incoming->what.base.index;
    if (!n.refuses_to_apply && base <= n.applied)
      return violate(n.who.id.value + " goes back to the state after " + std::to_string(base.value));
    n.applied = base;
    n.refuses_to_apply = false;
    n.incoming.reset();
  }
  if (actions.checkpoint)
    schedule_for(i, up_to(milliseconds{30}), [this, i] {
      auto& n = nodes_[i];
      n.files.checkpointed = n.files.last_applied;
      perform(i, n.keeper->on_checkpointed(n.files.state_file, n.files.checkpointed, clock(n)));
    });
  if (actions.copy)
    copy(i);
  if (actions.copy_check)
    schedule_for(i, up_to(milliseconds{30}), [this, i, file = *actions.copy_check] {
      perform(i, nodes_[i].keeper->on_copy_checked(file, {}, {}, clock(nodes_[i])));
    });
  for (auto& request : actions.copy_reads)
    read_copy(i, request);
  for (auto& piece : actions.pieces)
    post(i, keeper_to_files, [this, i, piece] { store(i, piece); });
  for (auto number : actions.discards)
    if (n.incoming && n.incoming->number == number)
      n.incoming.reset();
}

void core_cluster::perform(std::size_t i, election_actions actions) {
  if (actions.arm)
    schedule_for(i, actions.arm->delay, [this, i, number = actions.arm->number] {
      perform(i, nodes_[i].campaigns->on_timeout(number, clock(nodes_[i]).steady));
    });
  if (actions.term)
    post(i, election_to_keeper, [this, i, term = actions.term->term] {
      perform(i, nodes_[i].keeper->on_higher_term(term, clock(nodes_[i])));
    });
  if (actions.ask)
    post(i, election_to_keeper,
         [this, i, ask = *actions.ask] { perform(i, nodes_[i].keeper->on_ask_leave(ask, clock(nodes_[i]))); });
  if (actions.votes)
    post(i, election_to_keeper,
         [this, i, votes = *actions.votes] { perform(i, nodes_[i].keeper->on_tally(votes, clock(nodes_[i]))); });
  for (auto& [to, request] : actions.requests)
    send(i, to, request);
  if (actions.hand_over)
    send(i, actions.hand_over->first, actions.hand_over->second);
}

void core_cluster::perform(std::size_t i, heartbeat_actions actions) {
  auto& n = nodes_[i];
  for (auto& [to, one] : actions.beats)
    send(i, to, one);
  if (actions.term)
    post(i, heartbeat_to_keeper, [this, i, term = actions.term->term] {
      perform(i, nodes_[i].keeper->on_higher_term(term, clock(nodes_[i])));
    });
  if (actions.evidence)
    post(i, heartbeat_to_keeper, [this, i, evidence = *actions.evidence] {
      perform(i, nodes_[i].keeper->on_round_evidence(evidence, clock(nodes_[i])));
    });
  if (actions.gone)
    post(i, heartbeat_to_election, [this, i, gone = *actions.gone] {
      perform(i, nodes_[i].campaigns->on_suspect(gone, clock(nodes_[i]).steady));
    });
  if (n.beats->beating() && !n.beating) {
    n.beating = true;
    schedule_for(i, heartbeat_interval, [this, i] { heartbeat_tick(i); });
  }
}

}  // namespace coordinator
