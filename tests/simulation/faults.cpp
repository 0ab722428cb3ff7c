#include "tests/simulation/faults.hpp"

#include <algorithm>

namespace coordinator::simulation {
namespace {

// By then a change that was asked for is in the leader's log or refused, however long that one stood still.
constexpr microseconds change_takes{3'000'000};

std::vector<profile> make_profiles() {
  weather fair;
  weather rough{100, 20'000, 30, 30, 5, false};
  weather quick{50, 400, 0, 0, 0, true};
  std::vector<profile> all;
  auto add = [&](profile x) { all.push_back(std::move(x)); };
  add({.name = "calm", .what = "no faults at all", .sky = fair, .stall_ms = 500, .tasks = true});
  add({.name = "messages", .what = "loss, delay, duplicates, reordering", .sky = rough, .stall_ms = 300});
  add({.name = "partitions", .what = "cuts of every shape", .sky = fair, .partition_ms = 1200, .stall_ms = 400});
  add({.name = "steady",
       .what = "cuts alone: a leader that reaches a majority stays, one that does not goes",
       .sky = {200, 1000, 0, 0, 0, true, false},
       .partition_ms = 4000,
       .hang_ms = 9000,
       .quiet_ms = 8000,
       .strict = true});
  add({.name = "crashes",
       .what = "processes and machines die and return",
       .sky = fair,
       .crash_ms = 1500,
       .ambush_ms = 900,
       .massacre_ms = 6000,
       .stall_ms = 400,
       .slow_disk_ms = 2500});
  add({.name = "disks",
       .what = "slow, failing and full disks",
       .sky = fair,
       .crash_ms = 5000,
       .slow_disk_ms = 1200,
       .disk_fault_ms = 2500,
       .full_disk_ms = 5000});
  add({.name = "pauses",
       .what = "nodes and actors stand still",
       .sky = fair,
       .partition_ms = 4000,
       .pause_ms = 1200,
       .stall_ms = 100,
       .drift_permille = 20});
  add({.name = "clocks",
       .what = "clocks that drift and jump, leadership handed over",
       .sky = fair,
       .partition_ms = 3000,
       .clock_jump_ms = 700,
       .drift_permille = 80,
       .transfer_ms = 900,
       .tasks = true});
  add({.name = "leaders",
       .what = "leaders that die or are cut off as soon as they lead (figure 8)",
       .sky = quick,
       .partition_ms = 500,
       .crash_ms = 3000,
       .ambush_ms = 350,
       .stall_ms = 200,
       .slow_disk_ms = 1500,
       .injection_ms = 200});
  add({.name = "reads",
       .what = "leaders that are replaced while answers to them are still on their way",
       .sky = fair,
       .partition_ms = 2500,
       .crash_ms = 6000,
       .stall_ms = 400,
       .late_answers_ms = 800,
       .stranded_ms = 1800});
  add({.name = "echoes",
       .what = "messages that come again seconds later, also to and from nodes that have been restarted",
       .sky = {200, 5000, 10, 20, 5, false, true, 60},
       .partition_ms = 3000,
       .crash_ms = 1200,
       .power_percent = 30,
       .stall_ms = 400,
       .transfer_ms = 4000,
       .tasks = true});
  add({.name = "replaced",
       .what = "disks that are gone for good",
       .sky = rough,
       .partition_ms = 2000,
       .crash_ms = 3000,
       .ambush_ms = 3000,
       .stall_ms = 400,
       .slow_disk_ms = 3000,
       .lost_disk_ms = 4000});
  add({.name = "oblivion",
       .what = "a majority of disks that are gone at once",
       .sky = rough,
       .crash_ms = 3000,
       .stall_ms = 400,
       .oblivion_ms = 8000});
  add({.name = "founding",
       .what = "faults from the first moment on",
       .sky = rough,
       .partition_ms = 1500,
       .crash_ms = 700,
       .stall_ms = 300,
       .slow_disk_ms = 2000,
       .late_founders = true});
  add({.name = "snapshots",
       .what = "nodes that need the state of another, and whatever can happen to it on its way",
       .sky = {100, 8'000, 20, 30, 10, false, true, 40},
       .partition_ms = 4000,
       .crash_ms = 4000,
       .stall_ms = 300,
       .slow_disk_ms = 3000,
       .disk_fault_ms = 7000,
       .absence_ms = 2000,
       .transfer_fault_ms = 700,
       .spoil_ms = 4000});
  add({.name = "mending",
       .what = "disks that fail and work again, and nobody restarts anything",
       .sky = fair,
       .partition_ms = 4000,
       .crash_ms = 6000,
       .stall_ms = 300,
       .slow_disk_ms = 2500,
       .disk_fault_ms = 900,
       .full_disk_ms = 2000,
       .spoil_ms = 6000,
       .hands_off = true});
  add({.name = "members",
       .what = "nodes that join, leave and come back with a new disk",
       .sky = {100, 3'000, 10, 20, 5, false},
       .partition_ms = 2500,
       .crash_ms = 3500,
       .stall_ms = 300,
       .slow_disk_ms = 4000,
       .transfer_ms = 4000,
       .members_ms = 350,
       .replace_ms = 5000,
       .farewell_ms = 2500,
       .spoil_ms = 9000});
  add({.name = "tasks",
       .what = "tasks and workers through crashes and cuts",
       .sky = rough,
       .partition_ms = 3000,
       .crash_ms = 4000,
       .stall_ms = 400,
       .transfer_ms = 3000,
       .tasks = true});
  add({.name = "chaos",
       .what = "all of it",
       .sky = rough,
       .partition_ms = 2000,
       .crash_ms = 2500,
       .ambush_ms = 2000,
       .massacre_ms = 9000,
       .pause_ms = 3000,
       .stall_ms = 200,
       .slow_disk_ms = 2500,
       .disk_fault_ms = 6000,
       .full_disk_ms = 9000,
       .clock_jump_ms = 3000,
       .drift_permille = 30,
       .transfer_ms = 3000,
       .absence_ms = 6000,
       .transfer_fault_ms = 3000,
       .members_ms = 700,
       .replace_ms = 9000,
       .spoil_ms = 8000,
       .tasks = true});
  return all;
}

}  // namespace

const std::vector<profile>& profiles() {
  static const auto all = make_profiles();
  return all;
}

const profile* find_profile(const std::string& name) {
  for (auto& x : profiles())
    if (x.name == name)
      return &x;
  return nullptr;
}

faults::faults(const profile& what, unsigned founders, cluster& nodes, machine_room& room, chance& random)
    : what_(what), founders_(founders), nodes_(nodes), room_(room), random_(random) {
  nodes_.on_ambush = [this](unsigned node) { doomed_[room_.steps() + 1 + random_.below(30)] = node; };
  nodes_.on_carried = [this](unsigned from, unsigned to, const caf::message& x) { on_carried(from, to, x); };
}

void faults::start() {
  nodes_.set_drift(what_.drift_permille);
  nodes_.sky = what_.sky;
  nodes_.strict = what_.strict;
  for (unsigned i = founders_; i < nodes_.size(); ++i)
    room_.after(microseconds{random_.below(4'000'000)}, [this, i] { nodes_.start(i); });
  for (unsigned i = 0; i < founders_; ++i)
    if (what_.late_founders)
      room_.after(microseconds{random_.below(2'000'000)}, [this, i] { nodes_.start(i); });
    else
      nodes_.start(i);
  // Most histories are about clusters that exist.
  room_.after(microseconds{what_.late_founders ? 0 : 1'500'000}, [this] {
    every(what_.partition_ms, "partitions", &faults::partition);
    every(what_.crash_ms, "crashes", &faults::crash_one);
    every(what_.ambush_ms, "ambushes", &faults::ambush_one);
    every(what_.massacre_ms, "crashes of many", &faults::massacre);
    every(what_.pause_ms, "pauses", &faults::pause_one);
    every(what_.stall_ms, "stalled actors", &faults::stall_one);
    every(what_.slow_disk_ms, "slow disks", &faults::slow_disk);
    every(what_.disk_fault_ms, "failing disks", &faults::disk_fault);
    every(what_.full_disk_ms, "full disks", &faults::full_disk);
    every(what_.clock_jump_ms, "clock jumps", &faults::jump_clock);
    every(what_.hang_ms, "hung disks", &faults::hang_disk);
    every(what_.lost_disk_ms, "lost disks", &faults::lose_disk);
    every(what_.transfer_ms, "transfers", &faults::transfer);
    every(what_.oblivion_ms, "majorities without disks", &faults::oblivion);
    every(what_.late_answers_ms, "late answers", &faults::late_answers);
    every(what_.stranded_ms, "stranded readers", &faults::strand_readers);
    every(what_.quiet_ms, "quiet cuts", &faults::quiet_cut);
    every(what_.injection_ms, "injected heartbeats", &faults::inject);
    every(what_.members_ms, "changes of members asked for", &faults::change_members);
    every(what_.replace_ms, "members' disks replaced", &faults::replace_disk);
    every(what_.farewell_ms, "leaders cut off as they leave", &faults::farewell);
    every(what_.absence_ms, "long absences", &faults::absence);
    every(what_.transfer_fault_ms, "faults while a state is sent", &faults::transfer_fault);
    every(what_.spoil_ms, "spoilt states", &faults::spoil);
  });
}

void faults::every(unsigned mean_ms, const std::string& name, void (faults::*what)()) {
  if (mean_ms == 0)
    return;
  room_.after(microseconds{random_.below(std::uint64_t{2000} * mean_ms)}, [this, mean_ms, name, what] {
    if (over_)
      return;
    ++counts_[name];
    (this->*what)();
    every(mean_ms, name, what);
  });
}

void faults::end() {
  over_ = true;
  lies_in_wait_ = false;
  nodes_.strict = false;
  doomed_.clear();
  nodes_.sky = {};
  nodes_.unblock_all();
  for (unsigned i = 0; i < nodes_.size(); ++i)
    for (unsigned j = 0; j < nodes_.size(); ++j)
      nodes_.slow_path(i, j, {});
  nodes_.quiet_until = {};
  room_.release_all();
  mend();
  // What failed a moment ago may not have been noticed yet.
  for (auto later : {100'000, 300'000, 600'000})
    room_.after(microseconds{later}, [this] { mend(); });
}

void faults::mend() {
  for (unsigned i = 0; i < nodes_.size(); ++i) {
    nodes_.lay_ambush(i, ambush::none);
    nodes_.disk(i).set_full(false);
    nodes_.disk(i).fail_write(0);
    nodes_.disk(i).fail_sync(0);
    nodes_.slow_disk(i, {}, {});
    if (nodes_.ill(i) && !what_.hands_off)
      nodes_.stop(i, false);
    if (!nodes_.up(i)) {
      nodes_.disk(i).restart();
      nodes_.start(i);
    }
  }
}

void faults::before_step() {
  while (!doomed_.empty() && doomed_.begin()->first <= room_.steps()) {
    auto node = doomed_.begin()->second;
    doomed_.erase(doomed_.begin());
    ++counts_["ambushes sprung"];
    crash(node, random_.below(100) < what_.power_percent);
    revive_later(node);
  }
}

unsigned faults::some_node() {
  return static_cast<unsigned>(random_.below(nodes_.size()));
}

unsigned faults::victim() {
  auto leader = nodes_.leader();
  return leader < nodes_.size() && random_.one_in(2) ? leader : some_node();
}

void faults::crash(unsigned node, bool power) {
  nodes_.stop(node, power);
}

void faults::revive_later(unsigned node) {
  auto longest = random_.one_in(3) ? 3'000'000 : 400'000;
  room_.after(microseconds{random_.below(longest)}, [this, node] { revive(node); });
}

void faults::revive(unsigned node) {
  if (!nodes_.start(node))
    room_.after(microseconds{500'000}, [this, node] { revive(node); });
}

void faults::cut(unsigned from, unsigned to) {
  if (from == to)
    return;
  nodes_.block(from, to, true);
}

void faults::partition() {
  auto n = nodes_.size();
  nodes_.unblock_all();
  auto pivot = victim();
  auto both = [this](unsigned a, unsigned b) {
    cut(a, b);
    cut(b, a);
  };
  switch (random_.below(7)) {
    case 0:  // One alone.
      for (unsigned i = 0; i < n; ++i)
        both(pivot, i);
      break;
    case 1:  // Two parts.
      for (unsigned i = 0; i < n; ++i)
        for (unsigned j = i + 1; j < n; ++j)
          if (((i + pivot) % n < n / 2) != ((j + pivot) % n < n / 2))
            both(i, j);
      break;
    case 2:  // Only one way: it speaks and hears nothing, or the other way round.
      for (unsigned i = 0; i < n; ++i)
        random_.one_in(2) ? cut(pivot, i) : cut(i, pivot);
      break;
    case 3:  // Quorum loss: all see one node only.
      for (unsigned i = 0; i < n; ++i)
        for (unsigned j = i + 1; j < n; ++j)
          if (i != pivot && j != pivot)
            both(i, j);
      break;
    case 4:  // Constrained: the leader is cut off from all but one, who sees everybody.
      for (unsigned i = 0; i < n; ++i)
        if (i != (pivot + 1) % n)
          both(pivot, i);
      break;
    case 5:  // Chained: each sees its neighbours only.
      for (unsigned i = 0; i < n; ++i)
        for (unsigned j = i + 2; j < n; ++j)
          both(i, j);
      break;
    default:  // Anything.
      for (unsigned i = 0; i < n; ++i)
        for (unsigned j = 0; j < n; ++j)
          if (random_.one_in(3))
            cut(i, j);
  }
  room_.after(microseconds{random_.between(50'000, random_.one_in(3) ? 5'000'000 : 1'200'000)}, [this] {
    if (!over_)
      nodes_.unblock_all();
  });
}

void faults::crash_one() {
  auto node = victim();
  crash(node, random_.below(100) < what_.power_percent);
  revive_later(node);
}

void faults::ambush_one() {
  nodes_.lay_ambush(some_node(), static_cast<ambush>(random_.between(1, 3)));
}

void faults::massacre() {
  auto count = random_.one_in(2) ? nodes_.size() : nodes_.quorum();
  auto first = some_node();
  auto power = random_.below(100) < what_.power_percent;
  for (unsigned i = 0; i < count; ++i) {
    crash((first + i) % nodes_.size(), power);
    revive_later((first + i) % nodes_.size());
  }
}

void faults::pause_one() {
  nodes_.pause(victim(), microseconds{random_.between(100'000, 2'000'000)});
}

void faults::stall_one() {
  room_.hold({victim(), static_cast<unsigned>(random_.below(roles))},
             room_.now() + microseconds{random_.between(100, random_.one_in(4) ? 300'000 : 20'000)});
}

void faults::slow_disk() {
  nodes_.slow_disk(victim(), microseconds{random_.one_in(6) ? 3'000'000 : 80'000},
                   microseconds{random_.between(200'000, 3'000'000)});
}

void faults::disk_fault() {
  auto node = victim();
  if (random_.one_in(2))
    nodes_.disk(node).fail_write(1 + random_.below(20));
  else
    nodes_.disk(node).fail_sync(1 + random_.below(10));
  // Somebody restarts a node that says that it is ill.
  room_.after(microseconds{random_.between(100'000, 3'000'000)}, [this, node] {
    if (over_ || !nodes_.ill(node) || what_.hands_off)
      return;
    nodes_.stop(node, random_.one_in(3));
    revive(node);
  });
}

void faults::full_disk() {
  auto node = victim();
  nodes_.disk(node).set_full(true);
  room_.after(microseconds{random_.between(100'000, 2'000'000)}, [this, node] {
    nodes_.disk(node).set_full(false);
    if (over_ || !nodes_.ill(node) || what_.hands_off)
      return;
    nodes_.stop(node, false);
    revive(node);
  });
}

void faults::jump_clock() {
  auto ms = static_cast<std::int64_t>(random_.below(random_.one_in(3) ? 7'200'000 : 2'000));
  nodes_.jump_clock(some_node(), random_.one_in(2) ? ms : -ms);
}

void faults::hang_disk() {
  nodes_.hang_disk(victim(), microseconds{5'000'000});
}

void faults::lose_disk() {
  unsigned lost = 0;
  for (unsigned i = 0; i < nodes_.size(); ++i)
    lost += nodes_.lost(i);
  if (lost >= nodes_.size() - nodes_.quorum())
    return;
  auto node = some_node();
  nodes_.lose_disk(node);
  revive_later(node);
}

void faults::oblivion() {
  // Once all have lost theirs, a new cluster may be founded in good faith: one has to remember.
  for (unsigned i = 0; i < nodes_.size(); ++i)
    if (nodes_.lost(i))
      return;
  auto first = some_node();
  for (unsigned i = 0; i < nodes_.quorum(); ++i) {
    auto node = (first + i) % nodes_.size();
    nodes_.lose_disk(node);
    revive_later(node);
  }
}

/// The leader's last beats are still being answered while another is elected: such answers prove that it led when it
/// sent them, and no more.
void faults::late_answers() {
  auto leader = nodes_.leader();
  if (leader == nodes_.size())
    return;
  microseconds late{random_.between(60'000, 280'000)};
  for (unsigned i = 0; i < nodes_.size(); ++i)
    nodes_.slow_path(i, leader, late);
  room_.after(microseconds{random_.between(20'000, 120'000)}, [this, leader] {
    if (over_)
      return;
    for (unsigned i = 0; i < nodes_.size(); ++i)
      cut(leader, i);
  });
  room_.after(microseconds{random_.between(350'000, 900'000)}, [this, leader] {
    if (over_)
      return;
    for (unsigned i = 0; i < nodes_.size(); ++i)
      nodes_.slow_path(i, leader, {});
    nodes_.unblock_all();
  });
}

/// Leaves the leader with a minority, in which nobody asks anything before the others have elected another; then brings
/// the old one to power again. What it was asked in between is not to be answered by what it then knew.
void faults::strand_readers() {
  auto leader = nodes_.leader();
  if (leader == nodes_.size() || nodes_.size() < 5)
    return;
  auto friend_of_it = (leader + 1) % nodes_.size();
  auto with_it = [=](unsigned i) { return i == leader || i == friend_of_it; };
  nodes_.quiet_until = room_.now() + microseconds{random_.between(180'000, 280'000)};
  room_.after(microseconds{20'000}, [this, with_it] {
    if (over_)
      return;
    nodes_.unblock_all();
    for (unsigned i = 0; i < nodes_.size(); ++i)
      for (unsigned j = 0; j < nodes_.size(); ++j)
        if (with_it(i) != with_it(j))
          cut(i, j);
  });
  room_.after(microseconds{500'000}, [this] {
    if (!over_)
      nodes_.unblock_all();
  });
  room_.after(microseconds{random_.between(700'000, 900'000)}, [this, leader] {
    auto now = nodes_.leader();
    if (!over_ && now != nodes_.size())
      nodes_.port(now).transfer({nodes_.name(leader)}, milliseconds{1000}, [](transfer_result) {});
  });
}

/// A leader with nothing to do makes all the progress there is: only that nobody answers can tell it that it is alone.
void faults::quiet_cut() {
  nodes_.quiet_until = room_.now() + microseconds{6'000'000};
  room_.after(microseconds{1'000'000}, [this] {
    auto leader = nodes_.leader();
    if (over_ || leader == nodes_.size())
      return;
    nodes_.unblock_all();
    for (unsigned i = 0; i < nodes_.size(); ++i) {
      cut(leader, i);
      cut(i, leader);
    }
  });
  room_.after(microseconds{5'500'000}, [this] {
    if (!over_)
      nodes_.unblock_all();
  });
}

/// An append_entries without entries after any committed index is what a leader may always say (Raft §5.2), and over
/// HTTP it comes by another way than the leader's own.
void faults::inject() {
  auto leader = nodes_.leader();
  auto to = some_node();
  if (leader == nodes_.size() || leader == to || !nodes_.up(to))
    return;
  auto& keeper = nodes_.keeper(leader);
  append_entries heartbeat;
  heartbeat.leader.id = {nodes_.name(leader)};
  heartbeat.term = keeper.current_term();
  heartbeat.leader_commit = keeper.commit_index();
  auto back = random_.below(std::min<std::uint64_t>(keeper.commit_index().value, 10));
  heartbeat.prev_log_index = {keeper.commit_index().value - back};
  heartbeat.prev_log_term = keeper.log().term_at(heartbeat.prev_log_index);
  nodes_.port(to).inject(heartbeat, [](std::optional<append_entries_reply>, const std::string&) {});
}

/// What an operator does who takes care that those that stay can go on. Others' care is the product's.
void faults::change_members() {
  using change = change_membership::change;
  auto node = some_node();
  auto leader = nodes_.leader();
  if (leader == nodes_.size())
    return;
  auto& members = nodes_.keeper(leader).log().members();
  auto m = members.find({nodes_.name(node)});
  if (!nodes_.is_member(node)) {
    change_asked_ = room_.now();
    return nodes_.change_members(change::add, node);
  }
  if (!m->voter) {
    change_asked_ = room_.now();
    return nodes_.change_members(random_.one_in(4) ? change::remove : change::promote, node);
  }
  if (members.voter_count() > 3 && nodes_.settled()) {
    change_asked_ = room_.now();
    nodes_.change_members(change::remove, random_.one_in(3) ? leader : node);
  }
}

void faults::replace_disk() {
  auto node = some_node();
  // One that is no member may lose its disk at any time.
  bool safe = nodes_.settled() && room_.now() - change_asked_ > change_takes;
  if (!safe)
    return;
  nodes_.lose_disk(node);
  revive_later(node);
}

void faults::farewell() {
  auto leader = nodes_.leader();
  if (!nodes_.settled() || nodes_.keeper(leader).log().members().voter_count() < 4)
    return;
  auto companion = (leader + 1 + static_cast<unsigned>(random_.below(nodes_.size() - 1))) % nodes_.size();
  auto with_it = [=](unsigned i) { return i == leader || i == companion; };
  for (unsigned i = 0; i < nodes_.size(); ++i)
    if (!with_it(i))
      cut(i, leader);
  change_asked_ = room_.now();
  nodes_.change_members(change_membership::change::remove, leader);
  room_.after(microseconds{random_.between(1'000, 9'000)}, [this, with_it] {
    for (unsigned i = 0; i < nodes_.size() && !over_; ++i)
      for (unsigned j = 0; j < nodes_.size(); ++j)
        if (with_it(i) != with_it(j))
          cut(i, j);
  });
  room_.after(microseconds{random_.between(500'000, 900'000)}, [this] {
    if (!over_)
      nodes_.unblock_all();
  });
}

/// Cut off, or down, until the others' logs have lost what it would need.
void faults::absence() {
  auto node = some_node();
  auto leader = nodes_.leader();
  if (leader == node && !random_.one_in(4))
    node = (node + 1) % nodes_.size();
  microseconds away{random_.between(1'000'000, 3'500'000)};
  if (random_.one_in(2)) {
    crash(node, random_.one_in(2));
    room_.after(away, [this, node] { revive(node); });
    return;
  }
  for (unsigned i = 0; i < nodes_.size(); ++i) {
    cut(node, i);
    cut(i, node);
  }
  room_.after(away, [this] {
    if (!over_)
      nodes_.unblock_all();
  });
}

/// What the next piece of a state, or the word that it is installed, brings with it.
void faults::transfer_fault() {
  lies_in_wait_ = true;
}

void faults::on_carried(unsigned from, unsigned to, const caf::message& x) {
  auto piece = x.match_elements<install_snapshot>();
  auto answer = x.match_elements<install_snapshot_reply>();
  if (!lies_in_wait_ || !(piece || answer) || !random_.one_in(6))
    return;
  lies_in_wait_ = false;
  auto sender = piece ? from : to;
  auto receiver = piece ? to : from;
  ++counts_["faults while a state is sent, sprung"];
  switch (random_.below(6)) {
    case 0:  // Between any two steps of storing, loading and installing.
    case 1:
      doomed_[room_.steps() + 1 + random_.below(piece ? 120 : 10)] = receiver;
      break;
    case 2:
      doomed_[room_.steps() + 1 + random_.below(30)] = sender;
      break;
    case 3:
      nodes_.disk(receiver).fail_write(1 + random_.below(60));
      break;
    case 4:
      nodes_.disk(receiver).fail_sync(1 + random_.below(4));
      break;
    default:  // Another one leads from here on, with another copy.
      room_.after(microseconds{1}, [this, sender, receiver] {
        if (over_ || !nodes_.up(sender))
          return;
        if (random_.one_in(2))
          return nodes_.port(sender).transfer({}, milliseconds{1000}, [](transfer_result) {});
        for (unsigned i = 0; i < nodes_.size(); ++i)
          if (i != receiver) {
            cut(sender, i);
            cut(i, sender);
          }
        room_.after(microseconds{600'000}, [this] {
          if (!over_)
            nodes_.unblock_all();
        });
      });
  }
}

/// One node's state alone, so that the others have it still.
void faults::spoil() {
  auto node = some_node();
  if (what_.members_ms != 0 && (!nodes_.settled() || room_.now() - change_asked_ < change_takes))
    return;
  for (unsigned i = 0; i < nodes_.size(); ++i)
    if (!nodes_.up(i) || nodes_.lost(i) || nodes_.spoilt(i))
      return;
  crash(node, random_.one_in(2));
  nodes_.spoil_state(node);
  revive_later(node);
}

void faults::transfer() {
  auto leader = nodes_.leader();
  if (leader == nodes_.size())
    return;
  node_id to;
  if (random_.one_in(2))
    to = {nodes_.name(some_node())};
  nodes_.port(random_.one_in(2) && nodes_.up(0) ? 0 : leader).transfer(to, milliseconds{1000}, [](transfer_result) {});
}

}  // namespace coordinator::simulation
