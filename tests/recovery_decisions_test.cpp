#include <doctest/doctest.h>

#include <algorithm>

#include "http/recovery/decisions.hpp"

using namespace coordinator::recovery;
using namespace std::chrono_literals;

namespace {

recovery_config three_nodes() {
  recovery_config config;
  for (auto name : {"a", "b", "c"})
    config.nodes.push_back({.name = name, .http = {}, .data_dir = std::string{"/"} + name, .host = {}, .restart = {}});
  return config;
}

/// A cluster as it is seen, well at first: a leads.
struct scene {
  recovery_config config = three_nodes();
  observation seen;
  decisions core{config};
  milliseconds now{1'000'000};
  std::vector<notice> notices;

  scene() {
    for (auto& node : config.nodes) {
      node_look look;
      look.name = node.name;
      seen.nodes.push_back(look);
      seen.members.push_back({node.name, true});
      revive(seen.nodes.back());
    }
  }

  static void revive(node_look& look) {
    look.answers = look.live = look.ready = true;
    look.status = status_look{};
    look.status->role = look.name == "a" ? "LEADER" : "FOLLOWER";
    look.status->leader = "a";
    look.status->term = 3;
    look.status->commit_index = look.status->last_applied = look.status->last_log_index = 100;
    look.status->cluster_id = "one";
    for (auto peer : {"a", "b", "c"})
      if (look.name != peer)
        look.links[peer] = true;
    look.process = {};
    look.process.here = true;
    look.process.pid = 10 + look.name[0];
    look.process.state = 'S';
    look.process.age = 3600s;
  }

  static void crash(node_look& look) {
    look.answers = look.live = look.ready = false;
    look.status.reset();
    look.links.clear();
    look.process.pid = 0;
  }

  node_look& node(char name) { return seen.nodes.at(static_cast<std::size_t>(name - 'a')); }

  /// One look after an interval.
  std::vector<intent> look() {
    now += config.when.interval;
    auto decided = core.look(seen, now);
    notices.insert(notices.end(), decided.notices.begin(), decided.notices.end());
    return decided.intents;
  }

  /// Looks until something is to be done, and notes that it was done; nothing if nothing is for so long.
  std::optional<intent> next(milliseconds patience = 300s) {
    for (auto end = now + patience; now < end;) {
      auto intents = look();
      if (intents.empty())
        continue;
      core.acted(intents[0].what, intents[0].node, intents[0].act, now, intents[0].permission);
      return intents[0];
    }
    return std::nullopt;
  }

  std::string next_word(milliseconds patience = 300s) {
    auto found = next(patience);
    return found ? std::string{word(found->what)} + " " + found->node + " " + std::string{word(found->act)} : "nothing";
  }

  std::size_t told(notice::kind kind) const {
    return static_cast<std::size_t>(
        std::count_if(notices.begin(), notices.end(), [&](auto& n) { return n.what == kind; }));
  }
};

}  // namespace

TEST_CASE("recovery: of a cluster that is well nothing is said, and nothing is done to it") {
  scene s;
  CHECK(s.next_word() == "nothing");
  CHECK(s.notices.empty());
  CHECK(s.core.open() == 0);
}

TEST_CASE("recovery: a process that is gone is started once several looks agree, and its return is noticed") {
  scene s;
  s.look();
  scene::crash(s.node('b'));
  CHECK(s.look().empty());
  CHECK(s.look().empty());
  CHECK(s.core.suspected() == 1);
  auto intents = s.look();
  REQUIRE(intents.size() == 1);
  CHECK(intents[0].act == verb::start);
  CHECK(intents[0].node == "b");
  CHECK(intents[0].lease == lease_need::where_possible);
  CHECK(s.told(notice::kind::noticed) == 1);
  s.core.acted(strategy::process_crash, "b", verb::start, s.now);
  scene::revive(s.node('b'));
  for (int i = 0; i < 3; ++i)
    CHECK(s.look().empty());
  REQUIRE(s.told(notice::kind::mended) == 1);
  CHECK(s.notices.back().took == 3 * s.config.when.interval);
  CHECK(s.core.open() == 0);
}

TEST_CASE("recovery: a process that does not stay up is started five times, a minute apart, and then left alone") {
  scene s;
  scene::crash(s.node('b'));
  std::vector<milliseconds> starts;
  while (auto found = s.next(600s)) {
    CHECK(found->act == verb::start);
    starts.push_back(s.now);
  }
  REQUIRE(starts.size() == 5);
  for (std::size_t i = 1; i < starts.size(); ++i) {
    CHECK(starts[i] - starts[i - 1] >= 60s);
    CHECK(starts[i] - starts[i - 1] < 65s);
  }
  CHECK(s.told(notice::kind::withheld) == 1);
  CHECK(s.notices.back().text.find("given up after 5 tries") != std::string::npos);

  // A node that was well for long has its tries back; a short recovery is none.
  scene::revive(s.node('b'));
  CHECK(s.next_word(120s) == "nothing");
  scene::crash(s.node('b'));
  CHECK(s.next_word() == "nothing");
  scene::revive(s.node('b'));
  CHECK(s.next_word(700s) == "nothing");
  scene::crash(s.node('b'));
  CHECK(s.next_word() == "process_crash b start");
}

TEST_CASE("recovery: what another daemon did before counts against the limit") {
  scene s;
  for (int i = 5; i > 0; --i)
    s.core.acted(strategy::process_crash, "b", verb::start, s.now - i * 60s);
  scene::crash(s.node('b'));
  CHECK(s.next_word() == "nothing");
}

TEST_CASE("recovery: a majority that crashed is started one node after the other") {
  scene s;
  s.look();
  scene::crash(s.node('a'));
  scene::crash(s.node('b'));
  s.node('c').ready = false;
  s.node('c').status->role = "CANDIDATE";
  s.seen.members.clear();
  CHECK(s.next_word() == "process_crash a start");
  CHECK(s.look().empty());
  // It runs, and cannot be ready before another one does.
  s.node('a').answers = s.node('a').live = true;
  s.node('a').process.pid = 99;
  s.node('a').status = status_look{};
  s.node('a').status->role = "FOLLOWER";
  CHECK(s.next_word(10s) == "process_crash b start");
}

TEST_CASE("recovery: what the operator keeps hands off, took out, or does not allow is not started") {
  scene s;
  scene::crash(s.node('b'));
  SUBCASE("a mark is there") {
    s.node('b').process.held = true;
    CHECK(s.next_word() == "nothing");
    CHECK(s.notices.empty());
  }
  SUBCASE("it was removed from the cluster") {
    s.node('b').process.removed = true;
    CHECK(s.next_word() == "nothing");
  }
  SUBCASE("it is on another machine") {
    s.node('b').process.here = false;
    CHECK(s.next_word() == "network_partition b report");
    CHECK(s.next_word() == "nothing");
  }
  SUBCASE("starting is not allowed") {
    s.config.allow.start_crashed = false;
    auto found = s.next();
    REQUIRE(found);
    CHECK(found->act == verb::report);
    CHECK(found->seen.find("allow.start_crashed would let it be mended by start") != std::string::npos);
    CHECK(s.next_word() == "nothing");
  }
  SUBCASE("another node answers at its address") {
    scene::revive(s.node('b'));
    s.node('b').stranger = "z";
    s.node('b').status->state_error = "its own";
    CHECK(s.next_word() == "nothing");
  }
}

TEST_CASE("recovery: a partition is reported, never touched, and its healing confirmed") {
  scene s;
  s.look();
  s.node('a').links["b"] = false;
  s.node('b').links["a"] = false;
  s.node('b').ready = false;
  s.node('b').status->term = 1;
  CHECK(s.next_word() == "network_partition a-b report");
  CHECK(s.next_word(3600s) == "nothing");
  // That a node falls silent is not the end of it.
  s.node('b').live = s.node('b').answers = false;
  s.node('b').links.clear();
  s.node('a').links["b"] = false;
  for (int i = 0; i < 4; ++i)
    s.look();
  CHECK(s.told(notice::kind::mended) == 0);
  for (auto& node : s.seen.nodes)
    scene::revive(node);
  for (int i = 0; i < 3; ++i)
    s.look();
  CHECK(s.told(notice::kind::mended) >= 1);
  CHECK(s.core.open() == 0);
}

TEST_CASE("recovery: a node that is too slow to hear others, which hear it, is not cut off") {
  scene s;
  s.look();
  s.node('b').links["a"] = s.node('b').links["c"] = false;
  CHECK(s.next_word() == "nothing");
  CHECK(s.notices.empty());
}

TEST_CASE("recovery: two leaders in one term stop everything but the keeping of evidence") {
  scene s;
  s.look();
  SUBCASE("at once") {
    s.node('c').status->role = "LEADER";
  }
  SUBCASE("one after the other") {
    s.node('a').status->role = "FOLLOWER";
    s.look();
    s.node('c').status->role = "LEADER";
  }
  SUBCASE("in clusters that should be one") {
    s.node('c').status->role = "LEADER";
    s.node('c').status->cluster_id = "two";
  }
  scene::crash(s.node('b'));
  auto intents = s.look();
  REQUIRE(intents.size() == 1);
  CHECK(intents[0].act == verb::keep_evidence);
  CHECK(intents[0].what == strategy::split_brain);
  CHECK(intents[0].node == "a-c");
  CHECK(intents[0].lease == lease_need::none);
  s.core.acted(intents[0].what, intents[0].node, intents[0].act, s.now);
  CHECK(s.core.frozen());
  CHECK(s.next_word() == "nothing");
}

TEST_CASE("recovery: leaders of different terms, or of clusters that came after each other, are no split brain") {
  scene s;
  s.look();
  s.node('a').status->role = "FOLLOWER";
  s.look();
  for (auto& node : s.seen.nodes) {
    node.status->cluster_id = "two";
    node.status->term = 3;
  }
  s.node('c').status->role = "LEADER";
  s.look();
  // A leader that does not know yet that it was followed by another one.
  s.node('a').status->role = "LEADER";
  s.node('a').status->term = 2;
  s.node('c').status->term = 4;
  s.look();
  CHECK_FALSE(s.core.frozen());
}

TEST_CASE("recovery: an operator's mark stops all actions, and its removal lets them go on") {
  scene s;
  s.core.freeze();
  scene::crash(s.node('b'));
  CHECK(s.next_word() == "nothing");
  s.core.thaw();
  CHECK(s.next_word() == "process_crash b start");
}

TEST_CASE("recovery: a damaged state is left to the node, which is restarted only if it does not rebuild it") {
  scene s;
  s.look();
  auto& b = s.node('b');
  b.status->state_error = "state.db is damaged";
  b.ready = false;
  CHECK(s.next_word() == "database_corruption b report");
  SUBCASE("it rebuilds it") {
    for (int i = 0; i < 100; ++i) {
      b.status->snapshot_received = 1000 * i;
      CHECK(s.look().empty());
    }
    scene::revive(b);
    for (int i = 0; i < 3; ++i)
      CHECK(s.look().empty());
    CHECK(s.told(notice::kind::mended) == 1);
  }
  SUBCASE("it does not") {
    auto noticed = s.now;
    CHECK(s.next_word() == "database_corruption b restart");
    CHECK(s.now - noticed >= s.config.when.rebuild_patience);
  }
  SUBCASE("it does not, and cannot be spared") {
    scene::crash(s.node('c'));
    s.config.allow.start_crashed = false;
    s.config.limits.restarts = 100;
    CHECK(s.next_word() == "process_crash c report");
    CHECK(s.next_word() == "nothing");
    CHECK(s.notices.back().text.find("no majority without b") != std::string::npos);
  }
}

TEST_CASE("recovery: a state that was set aside and rebuilt between two looks is noticed by what is left of it") {
  scene s;
  s.node('b').process.set_aside = {"state.db.damaged-1"};
  s.look();
  CHECK(s.next_word(60s) == "nothing");
  s.node('b').process.set_aside.push_back("state.db.damaged-2");
  CHECK(s.next_word() == "database_corruption b report");
  for (int i = 0; i < 6; ++i)
    s.look();
  CHECK(s.told(notice::kind::mended) == 1);
}

TEST_CASE("recovery: a node without its raft.db is replaced only where that is allowed and others lead") {
  scene s;
  auto& b = s.node('b');
  s.look();
  b.ready = false;
  b.status->role = "UNFORMED";
  b.status->waiting_for = "raft.db is missing beside other files";
  SUBCASE("not allowed") {
    auto found = s.next();
    REQUIRE(found);
    CHECK(found->act == verb::report);
    CHECK(found->seen.find("allow.replace_lost") != std::string::npos);
    CHECK(s.next_word() == "nothing");
  }
  SUBCASE("allowed") {
    s.config.allow.replace_lost = true;
    auto found = s.next();
    REQUIRE(found);
    CHECK(found->act == verb::replace);
    CHECK(found->lease == lease_need::always);
  }
  SUBCASE("nobody leads") {
    s.config.allow.replace_lost = true;
    s.node('a').status->role = "FOLLOWER";
    CHECK(s.next_word() == "log_corruption b report");
    CHECK(s.next_word() == "nothing");
  }
  SUBCASE("a node that founds a cluster with others has lost nothing") {
    s.config.allow.replace_lost = true;
    b.status->waiting_for = "c";
    s.seen.members.clear();
    CHECK(s.next_word() == "nothing");
  }
}

TEST_CASE("recovery: a node that is stopped is restarted where that is allowed, after its evidence was kept") {
  scene s;
  s.look();
  auto& b = s.node('b');
  b.answers = b.live = b.ready = false;
  b.status.reset();
  b.process.state = 'T';
  auto began = s.now;
  auto found = s.next();
  REQUIRE(found);
  CHECK(found->act == verb::keep_evidence);
  CHECK(found->what == strategy::deadlock);
  CHECK(found->seen.find("which is stopped") != std::string::npos);
  CHECK(s.now - began >= s.config.when.hang_after);
  SUBCASE("not allowed") {
    CHECK(s.next_word() == "deadlock b report");
    CHECK(s.next_word() == "nothing");
  }
  SUBCASE("allowed") {
    s.config.allow.restart_stuck = true;
    CHECK(s.next_word() == "deadlock b restart");
  }
  SUBCASE("a process that reads its files after a start is not stuck") {
    b.process.pid = 77;
    b.process.age = 5s;
    CHECK(s.next_word(60s) == "nothing");
  }
}

TEST_CASE("recovery: applying that stands still is a deadlock, and a leader hands over first") {
  scene s;
  s.config.allow.restart_stuck = true;
  s.look();
  SUBCASE("of a follower") {
    s.node('b').status->commit_index = 150;
    CHECK(s.next_word() == "deadlock b keep_evidence");
    CHECK(s.next_word() == "deadlock b restart");
  }
  SUBCASE("of the leader") {
    s.node('a').status->last_log_index = 150;
    CHECK(s.next_word() == "deadlock a keep_evidence");
    CHECK(s.next_word() == "deadlock a hand_over");
    CHECK(s.next_word() == "deadlock a restart");
  }
  SUBCASE("without a majority nobody is to blame") {
    s.node('a').status->last_log_index = 150;
    scene::crash(s.node('b'));
    scene::crash(s.node('c'));
    s.config.allow.start_crashed = false;
    CHECK(s.next_word() == "process_crash b report");
    CHECK(s.next_word() == "process_crash c report");
    CHECK(s.next_word() == "nothing");
  }
  SUBCASE("as long as it moves it is none") {
    s.node('b').status->commit_index = 100'000;
    for (int i = 0; i < 50; ++i) {
      ++s.node('b').status->last_applied;
      s.config.when.slow_lag = 1'000'000;
      CHECK(s.look().empty());
    }
  }
}

TEST_CASE("recovery: a term that runs away is reported until all agree again") {
  scene s;
  s.look();
  s.node('b').status->term = 60;
  auto found = s.look();
  REQUIRE(found.size() == 1);
  CHECK(found[0].what == strategy::term_divergence);
  CHECK(found[0].act == verb::report);
  CHECK(found[0].seen.find("from 3 to 60") != std::string::npos);
  s.core.acted(found[0].what, found[0].node, found[0].act, s.now);
  for (auto& node : s.seen.nodes)
    node.status->term = 61;
  for (int i = 0; i < 10; ++i)
    CHECK(s.look().empty());
  CHECK(s.told(notice::kind::mended) == 1);
}

TEST_CASE("recovery: a node that stays in another term is restarted only where that is allowed") {
  scene s;
  s.look();
  s.node('b').status->term = 2;
  CHECK(s.next_word() == "term_divergence b report");
  SUBCASE("not allowed") {
    CHECK(s.next_word() == "term_divergence b report");
    CHECK(s.next_word() == "nothing");
  }
  SUBCASE("allowed") {
    s.config.allow.restart_term = true;
    CHECK(s.next_word() == "term_divergence b restart");
  }
}

TEST_CASE("recovery: of three states the one that differs is the wrong one, and of two neither is known to be") {
  scene s;
  s.look();
  for (auto& node : s.seen.nodes)
    node.checksum = checksum_look{100, "right"};
  s.node('c').checksum->value = "wrong";
  CHECK(s.next_word() == "state_divergence c report");
  for (auto& node : s.seen.nodes)
    node.checksum.reset();
  CHECK(s.look().empty());
  CHECK(s.core.open() == 1);
  SUBCASE("the node synchronises anew") {
    for (auto& node : s.seen.nodes)
      node.checksum = checksum_look{120, "right"};
    for (int i = 0; i < 4; ++i)
      s.look();
    CHECK(s.core.open() == 0);
    CHECK(s.told(notice::kind::mended) == 1);
  }
  SUBCASE("it does not") {
    CHECK(s.next_word() == "state_divergence c rebuild");
  }
}

TEST_CASE("recovery: a full disk is told, load is shed where that is allowed, and taken on again afterwards") {
  scene s;
  s.config.allow.shed_load = true;
  s.look();
  s.node('b').process.disk_free_bytes = 1000;
  CHECK(s.next_word() == "resource_exhaustion b report");
  CHECK(s.next_word() == "resource_exhaustion b shed");
  CHECK(s.next_word() == "nothing");
  s.node('b').process.disk_free_bytes = std::int64_t{1} << 40;
  CHECK(s.next_word() == "resource_exhaustion b unshed");
  CHECK(s.next_word() == "nothing");
}

TEST_CASE("recovery: a leader short of descriptors hands over before it is restarted") {
  scene s;
  s.config.allow.restart_exhausted = true;
  s.look();
  s.node('a').process.open_files = 95;
  s.node('a').process.open_files_limit = 100;
  CHECK(s.next_word() == "resource_exhaustion a report");
  CHECK(s.next_word() == "resource_exhaustion a hand_over");
  CHECK(s.next_word() == "resource_exhaustion a report");
  CHECK(s.next_word() == "resource_exhaustion a restart");
}

TEST_CASE("recovery: a follower that falls behind is given the state, and demoted only where that is allowed") {
  scene s;
  s.look();
  auto fall_behind = [&](std::int64_t lag) {
    auto& leader = *s.node('a').status;
    leader.commit_index += 1000;
    leader.last_applied = leader.last_log_index = leader.commit_index;
    s.node('c').status->last_applied = s.node('c').status->commit_index = leader.commit_index;
    s.node('b').status->commit_index = s.node('b').status->last_applied = leader.commit_index - lag;
  };
  auto run = [&](std::int64_t first, std::int64_t more_each_look, milliseconds time) {
    std::vector<std::string> done;
    for (auto end = s.now + time; s.now < end; first += more_each_look) {
      fall_behind(first);
      for (auto& what : s.look()) {
        done.push_back(std::string{word(what.act)});
        s.core.acted(what.what, what.node, what.act, s.now, what.permission);
      }
    }
    return done;
  };
  s.node('a').status->commit_index = 10'000'000;
  using words = std::vector<std::string>;
  SUBCASE("it catches up") {
    CHECK(run(200'000, -1000, 300s) == words{"report", "resync"});
  }
  SUBCASE("not allowed") {
    CHECK(run(20'000, 100, 300s) == words{"report", "resync", "report"});
  }
  SUBCASE("allowed") {
    s.config.allow.demote_slow = true;
    auto done = run(20'000, 100, 180s);
    REQUIRE(done.size() >= 3);
    CHECK(done[2] == "demote");
  }
}

TEST_CASE("recovery: while one node is not well again after an action, no other one is touched") {
  scene s;
  s.config.allow.restart_stuck = true;
  s.look();
  s.node('b').answers = s.node('b').live = s.node('b').ready = false;
  s.node('b').status.reset();
  CHECK(s.next_word() == "deadlock b keep_evidence");
  CHECK(s.next_word() == "deadlock b restart");
  auto acted = s.now;
  scene::crash(s.node('c'));
  CHECK(s.next_word() == "process_crash c start");
  CHECK(s.now - acted >= s.config.limits.settle);
}
