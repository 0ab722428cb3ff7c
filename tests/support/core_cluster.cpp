#include "tests/support/core_cluster.hpp"

#include <algorithm>

#include "persistence/codec.hpp"

namespace coordinator {
namespace {

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
