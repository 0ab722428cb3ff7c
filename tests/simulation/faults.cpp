#include "tests/simulation/faults.hpp"

#include <algorithm>

namespace coordinator::simulation {
namespace {

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

faults::faults(const profile& what, cluster& nodes, machine_room& room, chance& random)
    : what_(what), nodes_(nodes), room_(room), random_(random) {
  nodes_.on_ambush = [this](unsigned node) { doomed_[room_.steps() + 1 + random_.below(30)] = node; };
}

void faults::start() {
  nodes_.set_drift(what_.drift_permille);
  nodes_.sky = what_.sky;
  nodes_.strict = what_.strict;
  for (unsigned i = 0; i < nodes_.size(); ++i)
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
    if (nodes_.ill(i))
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
    if (over_ || !nodes_.ill(node))
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
    if (over_ || !nodes_.ill(node))
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
