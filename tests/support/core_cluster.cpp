#include "tests/support/core_cluster.hpp"

#include <algorithm>

#include "persistence/checksum.hpp"
#include "persistence/codec.hpp"

namespace coordinator {
namespace {

constexpr milliseconds heartbeat_interval{50};
constexpr milliseconds timeout_min{150};
constexpr milliseconds timeout_max{300};

node_id name(std::size_t i) {
  return {std::string("n") + static_cast<char>('1' + i)};
}

}  // namespace

core_cluster::core_cluster(core_cluster_options options)
    : options_(options),
      random_(options.seed),
      nodes_(options.nodes + options.joiners),
      fault_percent_(options.seed % 3 == 0 ? 20 : 4) {
  genesis founding{"0123456789abcdef0123456789abcdef", {}, 1'700'000'000'000};
  for (std::size_t i = 0; i < options_.nodes; ++i)
    founding.founders.members.push_back({name(i), incarnation_id{i + 1}, "h", "c", true});
  log_entry first{log_index{1}, term_number{1}, entry_kind::genesis, founding.time_ms, to_bytes(founding)};
  written_[{first.index, first.term}] = {first, {}};
  committed_.push_back(first.term);
  committed_in_.push_back(first.term);
  connected_.assign(nodes_.size(), std::vector<bool>(nodes_.size(), false));
  deaf_ = connected_;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    auto& n = nodes_[i];
    n.who = {name(i), incarnation_id{i + 1}};
    n.files.state.current_term = term_number{1};
    n.files.founded = founding;
    n.files.log.push_back(first);
    n.skew = milliseconds{draw(100'000)};
    n.link_free.assign(nodes_.size(), microseconds{0});
    start(i);
  }
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      connect(i, j);
}

// -- time ------------------------------------------------------------------------------

instant core_cluster::clock(const node& n) const {
  auto ms = std::chrono::duration_cast<milliseconds>(now_);
  return {ms + n.skew, 1'700'000'000'000 + 3 * n.skew.count() + ms.count()};
}

void core_cluster::schedule(microseconds delay, std::function<void()> run) {
  events_.push({now_ + delay, ++last_event_, std::move(run)});
}

void core_cluster::schedule_for(std::size_t i, microseconds delay, std::function<void()> run) {
  push_for(i, now_ + delay, ++last_event_, std::move(run));
}

/// What a paused process has to wait with keeps its number, and so its order.
void core_cluster::push_for(std::size_t i, microseconds at, std::uint64_t number, std::function<void()> run) {
  events_.push({at, number, [this, i, boot = nodes_[i].boot, number, run = std::move(run)] {
                  auto& n = nodes_[i];
                  if (!n.running || n.boot != boot)
                    return;
                  if (n.paused_until > now_) {
                    push_for(i, n.paused_until, number, run);
                    return;
                  }
                  run();
                  if (violation_.empty())
                    check_node(n);
                }});
}

/// Messages between two actors of one node keep their order.
void core_cluster::post(std::size_t i, channel c, std::function<void()> run) {
  auto& free = nodes_[i].channel_free[c];
  free = std::max(free, now_ + up_to(milliseconds{1}));
  schedule_for(i, free - now_, std::move(run));
}

void core_cluster::step_until(microseconds end) {
  while (violation_.empty() && !events_.empty() && events_.top().at <= end) {
    auto next = events_.top();
    events_.pop();
    now_ = next.at;
    next.run();
  }
  now_ = std::max(now_, end);
}

void core_cluster::run(milliseconds duration) {
  auto end = now_ + duration;
  while (violation_.empty() && now_ < end) {
    auto next = now_ + up_to(milliseconds{20});
    step_until(next);
    one_request();
    if (chance(fault_percent_))
      one_fault();
  }
}

void core_cluster::settle() {
  faults_ = false;
  loss_percent_ = 0;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    auto& n = nodes_[i];
    std::fill(deaf_[i].begin(), deaf_[i].end(), false);
    n.disk_stalled_until = {};
    if (n.running && (n.disk_fails || !n.keeper->writable()))
      crash(i);
    n.disk_fails = false;
    if (!n.running)
      start(i);
  }
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      connect(i, j);
  // Ten times as long as a leader may go without progress.
  step_until(now_ + milliseconds{10'000});
  if (!violation_.empty())
    return;
  auto leader =
      std::find_if(nodes_.begin(), nodes_.end(), [](auto& n) { return n.keeper->role() == node_role::leader; });
  // One that lacks a state cannot lead, and may have more of the log than the other: two voters then wait for help.
  auto is_stuck = [](auto& n) {
    return !n.keeper->state_error().empty() && n.keeper->log().members().voter_count() < 3;
  };
  if (leader == nodes_.end() && std::any_of(nodes_.begin(), nodes_.end(), is_stuck))
    return;
  if (leader == nodes_.end()) {
    violate("no leader though nothing is in the way:" + standing());
    return;
  }
  auto i = static_cast<std::size_t>(leader - nodes_.begin());
  auto read = ++last_read_;
  reads_[read] = {log_index{committed_.size()}, false};
  // Enough for every state to be compared with the others', and for another one to be fetched.
  for (auto k = 0; k < 12; ++k) {
    deliver(i, propose{leader->who, 0, {"settled"}});
    step_until(now_ + milliseconds{300});
  }
  if (!violation_.empty())
    return;
  leader = std::find_if(nodes_.begin(), nodes_.end(), [](auto& n) { return n.keeper->role() == node_role::leader; });
  if (leader == nodes_.end()) {
    violate("no leader though nothing is in the way:" + standing());
    return;
  }
  i = static_cast<std::size_t>(leader - nodes_.begin());
  deliver(i, propose{leader->who, 0, {"settled"}});
  deliver(i, read_index{leader->who, read});
  step_until(now_ + milliseconds{2'000});
  if (violation_.empty() && !reads_[read].answered)
    violate("a read was not answered though nothing is in the way");
  auto last = leader->keeper->log().last_index();
  for (auto& n : nodes_)
    // Of two that differ nobody can tell which one is right.
    if (violation_.empty() && is_member(n) && leader->keeper->log().members().voter_count() > 2 &&
        (n.files.spoilt || !n.keeper->state_error().empty()))
      violate(n.who.id.value + " still has a spoilt state though nothing is in the way");
  for (auto& n : nodes_)
    if (violation_.empty() && is_member(n) && n.applied != last)
      violate(n.who.id.value + " has applied " + std::to_string(n.applied.value) + " of " + std::to_string(last.value) +
              " entries though nothing is in the way");
}

milliseconds core_cluster::fail_over(milliseconds after) {
  faults_ = false;
  step_until(now_ + after);
  auto is_ready = [](const node& n) {
    return n.running && n.keeper->role() == node_role::leader && n.commit_seen == n.keeper->log().last_index();
  };
  auto leader = std::find_if(nodes_.begin(), nodes_.end(), is_ready);
  if (leader == nodes_.end()) {
    violate("no leader though nothing is in the way:" + standing());
    return {};
  }
  crash(static_cast<std::size_t>(leader - nodes_.begin()));
  auto begin = now_;
  while (violation_.empty() && now_ < begin + milliseconds{10'000} &&
         std::none_of(nodes_.begin(), nodes_.end(), is_ready))
    step_until(now_ + milliseconds{1});
  return std::chrono::duration_cast<milliseconds>(now_ - begin);
}

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
  else if (auto* m = std::get_if<removal_notice>(&message))
    perform(i, keeper.on_removal_notice(*m, now));
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

// -- disk -------------------------------------------------------------------------------------

void core_cluster::write(std::size_t i, raft_write write) {
  auto& n = nodes_[i];
  check_write(n, write);
  n.writing = std::move(write);
  auto begin = std::max({n.disk_free, n.disk_stalled_until, now_});
  n.disk_free = begin + up_to(milliseconds{8});
  schedule_for(i, n.disk_free - now_, [this, i] {
    auto& n = nodes_[i];
    auto done = std::move(*n.writing);
    n.writing.reset();
    if (!n.disk_fails)
      save(n, done);
    perform(i,
            n.keeper->on_written(done.number, n.disk_fails ? "disk I/O error" : "", n.files.base.index + 1, clock(n)));
  });
}

void core_cluster::save(node& n, const raft_write& write) {
  check_saved(n, write);
  if (write.state)
    n.files.state = *write.state;
  auto& files = n.files;
  auto drop = [&](log_index to) {
    auto count = std::min<std::uint64_t>(to - files.base.index, files.log.size());
    files.log.erase(files.log.begin(), files.log.begin() + static_cast<std::ptrdiff_t>(count));
  };
  if (write.install) {
    auto& base = write.install->base;
    if (base.index < files.base.index)
      return violate(n.who.id.value + " installs a state from before its log");
    if (write.install->keep_suffix)
      drop(base.index);
    else
      files.log.clear();
    files.base = base;
  }
  if (write.state_file) {
    files.state_file = *write.state_file;
    files.last_applied = files.checkpointed = n.incoming->what.base.index;
    files.spoilt = false;
  }
  if (write.truncate_from && *write.truncate_from <= files.last())
    files.log.resize(*write.truncate_from - files.base.index - 1);
  for (auto& entry : write.entries) {
    if (entry.index != files.last() + 1)
      return violate(n.who.id.value + " writes a log with a gap");
    files.log.push_back(entry);
  }
  if (write.compact_to && *write.compact_to > files.base.index) {
    ++compacted_;
    auto to = std::min(*write.compact_to, files.base.index + 1 + draw(30));
    if (to > files.last())
      return violate(n.who.id.value + " compacts more than its log");
    for (auto at = files.base.index + 1; at <= to; ++at) {
      auto& entry = files.log[at - files.base.index - 1];
      if (entry.kind == entry_kind::genesis)
        files.base.members = files.founded->founders;
      else if (entry.kind != entry_kind::membership || !from_bytes(entry.payload, files.base.members))
        continue;
      files.base.members_index = at;
    }
    files.base.term = files.log[to - files.base.index - 1].term;
    files.base.time_ms = files.log[to - files.base.index - 1].time_ms;
    drop(to);
    files.base.index = to;
  }
}

void core_cluster::load(std::size_t i, const load_request& request) {
  auto& n = nodes_[i];
  n.disk_free = std::max({n.disk_free, n.disk_stalled_until, now_}) + up_to(milliseconds{2});
  schedule_for(i, n.disk_free - now_, [this, i, request] {
    auto& n = nodes_[i];
    std::vector<log_entry> found;
    std::size_t bytes = 0;
    if (request.from > n.files.base.index)
      for (auto at = request.from; at <= request.to && at <= n.files.last(); ++at) {
        auto& entry = n.files.log[at - n.files.base.index - 1];
        bytes += entry.payload.size();
        if (!found.empty() && bytes > request.max_bytes)
          break;
        found.push_back(entry);
      }
    perform(i, n.keeper->on_loaded(request.request, std::move(found), clock(n)));
  });
}

// -- the state and its copies -----------------------------------------------------------------

/// What a copy of the state after `index` holds; the same bytes at every node.
std::string piece_of_state(log_index index, std::uint64_t offset, std::uint64_t bytes) {
  std::string piece;
  for (auto at = offset; at < offset + bytes; ++at)
    piece += static_cast<char>((index.value * 31 + at * 7) % 251);
  return piece;
}

void core_cluster::copy(std::size_t i) {
  schedule_for(i, up_to(milliseconds{100}), [this, i] {
    auto& n = nodes_[i];
    state_copied copied;
    copied.file = "copy-" + std::to_string(++last_file_);
    copied.last_applied = n.files.last_applied;
    if (copied.last_applied > log_index{})
      copied.last_applied_term = committed_[copied.last_applied.value - 1];
    copied.size = 900 + draw(3000);
    if (faults_ && chance(5))
      copied.error = "no space";
    n.copies[copied.file] = copied.last_applied;
    perform(i, n.keeper->on_copied(copied, clock(n)));
  });
}

void core_cluster::read_copy(std::size_t i, const copy_request& request) {
  schedule_for(i, up_to(milliseconds{3}), [this, i, request] {
    auto& n = nodes_[i];
    auto data = piece_of_state(n.copies.at(request.file), request.offset, request.bytes);
    auto crc = crc32c(data);
    // Rarely a bit flips on the way.
    if (faults_ && chance(2))
      data.front() = static_cast<char>(data.front() ^ 1);
    perform(i, n.keeper->on_copy_read(request.request, data, crc, "", clock(n)));
  });
}

void core_cluster::store(std::size_t i, incoming_piece piece) {
  auto& n = nodes_[i];
  if (piece.offset == 0)
    n.incoming = incoming_file{piece.what.number, piece.what, 0, {}};
  if (!n.incoming || n.incoming->number != piece.what.number)
    return;
  auto& file = *n.incoming;
  if (piece.data != piece_of_state(piece.what.base.index, piece.offset, piece.data.size()))
    return violate(n.who.id.value + " stores a piece that was not sent");
  if (piece.offset == file.size)
    file.size += piece.data.size();
  auto number = file.number;
  if (faults_ && chance(1)) {
    n.incoming.reset();
    perform(i, n.keeper->on_snapshot_stored(number, 0, "damaged", chance(50), clock(n)));
    return;
  }
  bool whole = file.size == file.what.size;
  if (whole) {
    file.name = "state-" + std::to_string(++last_file_);
    schedule_for(i, milliseconds{1} + up_to(milliseconds{faults_ ? 1500 : 50}), [this, i, number] {
      auto& n = nodes_[i];
      if (n.incoming && n.incoming->number == number)
        perform(i, n.keeper->on_snapshot_loaded(number, n.incoming->name, clock(n)));
    });
  }
  perform(i, n.keeper->on_snapshot_stored(number, file.size, "", false, clock(n)));
}

/// One state goes wrong while all others are well: found at once, or only by comparing it with theirs.
void core_cluster::spoil(std::size_t i) {
  auto& n = nodes_[i];
  bool others_well = std::all_of(nodes_.begin(), nodes_.end(), [](const node& other) {
    return other.running && !other.files.spoilt && !other.refuses_to_apply && other.keeper->writable();
  });
  if (!others_well || nodes_.size() < 3)
    return;
  n.files.spoilt = true;
  if (chance(50))
    perform(i, n.keeper->on_state_damaged("spoilt", clock(n)));
}

// -- what happens to it -------------------------------------------------------------------------

void core_cluster::one_request() {
  auto i = draw(nodes_.size());
  auto& n = nodes_[i];
  if (!n.running)
    return;
  auto to = n.keeper->leader();
  if (to.empty())
    return;
  if (chance(70)) {
    propose batch{n.who, ++last_command_, {}};
    for (auto k = 1 + draw(4); k > 0; --k)
      batch.commands.push_back("command " + std::to_string(++last_command_) +
                               std::string(draw(chance(3) ? 1500 : 120), 'x'));
    send(i, to, std::move(batch));
  } else {
    // Whatever is known to be committed by now may have been acknowledged to somebody.
    reads_[++last_read_] = {log_index{committed_.size()}, false};
    send(i, to, read_index{n.who, last_read_});
  }
}

/// What each node thinks, for a failure's text.
std::string core_cluster::standing() const {
  std::string text;
  for (auto& n : nodes_) {
    text += " " + n.who.id.value + ":" + to_string(n.keeper->role()) + " term " +
            std::to_string(n.keeper->current_term().value) + " last " +
            std::to_string(n.keeper->log().last_index().value) + " [";
    for (auto& m : n.keeper->log().members().members)
      text += m.id.value + (m.voter ? " " : "(learner) ");
    text += "] " + n.keeper->state_error() + ";";
  }
  return text;
}

/// As a node that leads now sees it.
bool core_cluster::is_member(const node& n) const {
  auto leader = std::find_if(nodes_.begin(), nodes_.end(),
                             [](auto& one) { return one.running && one.keeper->role() == node_role::leader; });
  return leader != nodes_.end() && leader->keeper->log().members().find(n.who.id);
}

void core_cluster::change_members() {
  auto& asker = nodes_[draw(nodes_.size())];
  auto who = nodes_[draw(nodes_.size())].who.id;
  if (!asker.running || asker.keeper->leader().empty())
    return;
  using change = change_membership::change;
  auto what = chance(50) ? change::add : chance(70) ? change::remove : change::promote;
  send(static_cast<std::size_t>(&asker - nodes_.data()), asker.keeper->leader(),
       change_membership{asker.who, 1, what, who, chance(20)});
}

void core_cluster::one_fault() {
  auto i = draw(nodes_.size());
  auto j = draw(nodes_.size());
  auto& n = nodes_[i];
  if (options_.joiners > 0 && chance(25)) {
    change_members();
    return;
  }
  switch (draw(14)) {
    case 0:
    case 1:
      if (n.running) {
        crash(i);
        n.disk_fails = false;
      }
      schedule(up_to(milliseconds{1500}), [this, i] {
        if (nodes_[i].running)
          return;
        start(i);
        for (std::size_t k = 0; k < nodes_.size(); ++k)
          connect(i, k);
      });
      break;
    case 2:
    case 3:
      disconnect(i, j);
      schedule(up_to(milliseconds{1500}), [this, i, j] { connect(i, j); });
      break;
    case 4:
      for (std::size_t k = 0; k < nodes_.size(); ++k)
        disconnect(i, k);
      schedule(up_to(milliseconds{2000}), [this, i] {
        for (std::size_t k = 0; k < nodes_.size(); ++k)
          connect(i, k);
      });
      break;
    case 5:
      if (i != j) {
        deaf_[i][j] = true;
        schedule(up_to(milliseconds{1500}), [this, i, j] { deaf_[i][j] = false; });
      }
      break;
    case 6:
      n.disk_stalled_until = now_ + up_to(milliseconds{1500});
      break;
    case 7:
      // Never shortened: what waits for its end would be overtaken by what comes after.
      n.paused_until = std::max(n.paused_until, now_ + up_to(milliseconds{700}));
      break;
    case 8:
      loss_percent_ = static_cast<unsigned>(draw(20));
      break;
    case 9:
      loss_percent_ = 0;
      break;
    case 10:
      if (n.running && !n.keeper->leader().empty())
        send(i, n.keeper->leader(), transfer_leadership{n.who, 1, chance(50) ? nodes_[j].who.id : node_id{}});
      break;
    case 11:
      spoil(i);
      break;
    case 12:
      // Long enough for the log of the others to be compacted meanwhile.
      for (std::size_t k = 0; k < nodes_.size(); ++k)
        disconnect(i, k);
      schedule(milliseconds{2000} + up_to(milliseconds{2000}), [this, i] {
        for (std::size_t k = 0; k < nodes_.size(); ++k)
          connect(i, k);
      });
      break;
    default:
      // Rare: it lasts until the node is started anew.
      if (chance(20))
        n.disk_fails = true;
  }
}

}  // namespace coordinator
