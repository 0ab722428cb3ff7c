#include <doctest/doctest.h>

#include <deque>
#include <random>

#include "actors/formation.hpp"
#include "tests/support/scripted_keeper.hpp"

using namespace coordinator;

namespace {

/// Nodes that have nothing, and links between them; what they say arrives in order. A name is a node's address too.
class founders {
 public:
  explicit founders(std::string names) : names_(std::move(names)) {
    for (auto name : names_)
      nodes_[name].who = member_sender(name);
  }

  /// Starts the process, with what its disk holds; it is told of all that run.
  void start(char name, bool with_ids = true) {
    auto& n = nodes_[name];
    formation_config config;
    config.self = n.who;
    config.http_address = std::string(1, name);
    for (auto other : n.peers.empty() ? names_ : n.peers)
      if (other != name)
        config.peers.push_back({with_ids ? std::optional{member_id(other)} : std::nullopt, std::string(1, other)});
    if (!n.founded)
      n.core.emplace(config, n.disk);
    n.running = true;
    for (auto& [other, m] : nodes_)
      if (other != name && m.running) {
        link(name, other);
        link(other, name);
      }
  }
  void start_all() {
    for (auto name : names_)
      start(name);
  }
  void stop(char name) {
    nodes_[name].running = false;
    nodes_[name].saving.reset();
    for (auto& [other, m] : nodes_)
      if (m.running && m.core)
        m.core->on_peer_down(member_id(name));
  }
  /// A new disk, and so another incarnation.
  void wipe(char name) {
    stop(name);
    auto& n = nodes_[name];
    n.disk = {};
    n.founded.reset();
    n.who.incarnation = n.who.incarnation + 100;
  }
  /// What it names in its --peers, itself included.
  void expects(char name, std::string peers) { nodes_[name].peers = std::move(peers); }
  /// Its disk takes as long as the test wants.
  void hold_disk(char name, bool hold) {
    nodes_[name].disk_held = hold;
    if (!hold)
      save(name);
  }

  void tick(char name) {
    auto& n = nodes_[name];
    if (n.running && n.core)
      perform(name, n.core->on_tick("cluster " + std::to_string(++proposals_), 1'000));
    deliver();
  }
  void rounds(int count = 10) {
    for (int i = 0; i < count; ++i)
      for (auto name : names_)
        tick(name);
  }

  const std::optional<genesis>& founded(char name) { return nodes_[name].founded; }
  formation_state& disk(char name) { return nodes_[name].disk; }
  std::string waiting_for(char name) { return nodes_[name].core->waiting_for(); }
  bool all_founded_the_same() {
    for (auto name : names_)
      if (!founded(name) || !(*founded(name) == *founded(names_[0])))
        return false;
    return true;
  }
  bool none_founded() {
    for (auto name : names_)
      if (founded(name))
        return false;
    return true;
  }

  /// Anything may happen, once: a message late or lost, a disk that is slow, a process that ends, and with `wipes` a
  /// disk that is lost.
  void anything(std::uint64_t random, bool wipes) {
    by_hand_ = true;
    auto name = names_[random / 100 % names_.size()];
    auto& n = nodes_[name];
    auto what = random % 100;
    if (what < 60 && !bag_.empty())
      deliver_one(random / 1000 % bag_.size());
    else if (what < 62 && !bag_.empty())
      bag_.erase(bag_.begin());
    else if (what < 84)
      tick(name);
    else if (what < 92)
      hold_disk(name, !n.disk_held);
    else if (what < 95 && n.running)
      stop(name);
    else if (what == 95 && n.running && wipes)
      wipe(name);
    else if (!n.running)
      start(name);
  }
  void calm() {
    by_hand_ = false;
    for (auto name : names_) {
      hold_disk(name, false);
      if (!nodes_[name].running)
        start(name);
    }
    deliver();
  }
  /// No two nodes are in different clusters.
  bool one_cluster_at_most() {
    const genesis* first = nullptr;
    for (auto name : names_)
      if (auto& f = founded(name)) {
        if (first && !(*first == *f))
          return false;
        first = &*f;
      }
    return true;
  }

 private:
  using message = std::variant<formation_status, formation_offer, formation_abandon>;
  struct node {
    sender who;
    std::string peers;
    bool running = false;
    bool disk_held = false;
    std::optional<formation> core;  // Not once it is formed.
    formation_state disk;
    std::optional<formation_state> saving;
    std::optional<genesis> founded;
  };

  void link(char name, char other) {
    auto& n = nodes_[name];
    if (n.core)
      n.core->on_peer_up(nodes_[other].who, std::string(1, other));
    bag_.push_back({name, other, status(name)});
    deliver();
  }

  formation_status status(char name) {
    auto& n = nodes_[name];
    if (n.core)
      return n.core->status();
    formation_status said;
    said.from = n.who;
    said.http_address = std::string(1, name);
    said.founded = *n.founded;
    return said;
  }

  void perform(char name, formation_actions actions) {
    auto& n = nodes_[name];
    for (auto& [to, m] : actions.messages)
      bag_.push_back({name, to.value[0], m});
    if (actions.save) {
      n.saving = actions.save;
      if (!n.disk_held)
        save(name);
    }
    if (actions.found && n.core) {
      n.founded = actions.found;
      n.core.reset();
      for (auto other : names_)
        if (other != name)
          bag_.push_back({name, other, status(name)});
    }
  }

  void save(char name) {
    auto& n = nodes_[name];
    if (!n.saving)
      return;
    n.disk = *std::exchange(n.saving, std::nullopt);
    if (n.core)
      perform(name, n.core->on_saved());
    deliver();
  }

  void deliver() {
    while (!bag_.empty() && !by_hand_)
      deliver_one(0);
  }

  void deliver_one(std::size_t which) {
    auto [from, to, m] = bag_[which];
    bag_.erase(bag_.begin() + static_cast<std::ptrdiff_t>(which));
    auto& n = nodes_[to];
    if (!n.running || (!nodes_[from].running && !by_hand_))
      return;
    if (!n.core) {
      if (auto s = std::get_if<formation_status>(&m); s && s->founded.cluster_id.empty())
        bag_.push_back({to, from, status(to)});
    } else if (auto s = std::get_if<formation_status>(&m)) {
      perform(to, n.core->on_status(*s));
    } else if (auto o = std::get_if<formation_offer>(&m)) {
      perform(to, n.core->on_offer(*o));
    } else {
      perform(to, n.core->on_abandon(std::get<formation_abandon>(m)));
    }
  }

  struct sent {
    char from, to;
    message what;
  };
  std::string names_;
  std::map<char, node> nodes_;
  std::deque<sent> bag_;
  bool by_hand_ = false;
  int proposals_ = 0;
};

}  // namespace

TEST_CASE("formation: nodes that all have nothing found one cluster, with every incarnation in it (rule 12)") {
  founders nodes{"abc"};
  nodes.start_all();
  nodes.rounds(3);
  REQUIRE(nodes.all_founded_the_same());
  auto& members = nodes.founded('b')->founders.members;
  REQUIRE_EQ(members.size(), 3);
  CHECK_EQ(members[0].id, member_id('a'));
  CHECK_EQ(members[2].id, member_id('c'));
  CHECK_EQ(members[2].incarnation, member_sender('c').incarnation);
  CHECK_EQ(members[2].http_address, "c");
  CHECK(members[2].voter);
}

TEST_CASE("formation: a node alone founds alone") {
  founders nodes{"a"};
  nodes.start('a');
  nodes.rounds(2);
  CHECK(nodes.all_founded_the_same());
}

TEST_CASE("formation: ids that --peers does not give are learnt from the links") {
  founders nodes{"abc"};
  for (auto name : {'a', 'b', 'c'})
    nodes.start(name, false);
  nodes.rounds(3);
  CHECK(nodes.all_founded_the_same());
}

TEST_CASE("formation: where a peer is missing nothing is founded, and it says so") {
  founders nodes{"abc"};
  nodes.start('a');
  nodes.start('b');
  nodes.rounds();
  CHECK(nodes.none_founded());
  CHECK_NE(nodes.waiting_for('a').find("peer c"), std::string::npos);
  CHECK_NE(nodes.waiting_for('b').find("peer c"), std::string::npos);
  nodes.start('c');
  nodes.rounds(3);
  CHECK(nodes.all_founded_the_same());
}

TEST_CASE("formation: peers that name different nodes found nothing, and say who differs") {
  founders nodes{"abc"};
  nodes.expects('c', "bcd");
  nodes.start_all();
  nodes.rounds();
  CHECK(nodes.none_founded());
  CHECK(nodes.disk('a').proposal.cluster_id.empty());
  CHECK_NE(nodes.waiting_for('a').find("peer c at c does not name the same nodes"), std::string::npos);
}

TEST_CASE("formation: only the lowest id proposes, and a founder saves one proposal at a time") {
  founders nodes{"abc"};
  nodes.start_all();
  nodes.hold_disk('c', true);
  nodes.tick('b');
  CHECK(nodes.disk('b').proposal.cluster_id.empty());
  nodes.tick('a');
  nodes.rounds(3);
  auto id = nodes.disk('a').proposal.cluster_id;
  CHECK_FALSE(id.empty());
  CHECK_EQ(nodes.disk('b').proposal.cluster_id, id);
  CHECK(nodes.none_founded());
  nodes.hold_disk('c', false);
  nodes.rounds(2);
  REQUIRE(nodes.all_founded_the_same());
  CHECK_EQ(nodes.founded('c')->cluster_id, id);
}

TEST_CASE("formation: processes that end half way go on from what they saved") {
  founders nodes{"abc"};
  nodes.start_all();
  nodes.hold_disk('c', true);
  nodes.rounds(3);
  auto id = nodes.disk('a').proposal.cluster_id;
  for (auto name : {'a', 'b', 'c'})
    nodes.stop(name);
  nodes.hold_disk('c', false);
  nodes.start_all();
  nodes.rounds(3);
  REQUIRE(nodes.all_founded_the_same());
  CHECK_EQ(nodes.founded('a')->cluster_id, id);
}

TEST_CASE("formation: a founder that missed the end completes from a formed peer") {
  founders nodes{"abc"};
  nodes.start_all();
  nodes.hold_disk('c', true);
  nodes.rounds(3);
  nodes.hold_disk('c', false);
  nodes.stop('b');
  nodes.rounds(1);
  // a and c have heard everyone; b was away when the last one saved.
  nodes.start('b');
  nodes.rounds(3);
  CHECK(nodes.all_founded_the_same());
}

TEST_CASE("formation: a node whose disk is another one than the cluster's founder had is not let in") {
  founders nodes{"abc"};
  nodes.start_all();
  nodes.rounds(3);
  REQUIRE(nodes.all_founded_the_same());
  nodes.wipe('b');
  nodes.start('b');
  nodes.rounds();
  CHECK_FALSE(nodes.founded('b'));
  CHECK_NE(nodes.waiting_for('b').find("coordctl cluster add b"), std::string::npos);
}

TEST_CASE("formation: nor do wiped nodes found a second cluster beside one that is left of the first") {
  founders nodes{"abc"};
  nodes.start_all();
  nodes.rounds(3);
  auto id = nodes.founded('c')->cluster_id;
  nodes.wipe('a');
  nodes.wipe('b');
  nodes.start('a');
  nodes.start('b');
  nodes.rounds();
  CHECK_FALSE(nodes.founded('a'));
  CHECK_FALSE(nodes.founded('b'));
  // And not while the formed one is away, either.
  nodes.stop('c');
  nodes.rounds();
  CHECK_FALSE(nodes.founded('a'));
  CHECK_EQ(nodes.founded('c')->cluster_id, id);
}

TEST_CASE("formation: a proposal whose founder lost its disk is replaced once a majority has given it up") {
  for (char lost : {'a', 'b', 'c'}) {
    CAPTURE(lost);
    founders nodes{"abc"};
    nodes.start_all();
    nodes.hold_disk('c', true);
    nodes.rounds(3);
    REQUIRE(nodes.none_founded());
    auto old = nodes.disk('a').proposal.cluster_id;
    nodes.wipe(lost);
    nodes.hold_disk('c', false);
    REQUIRE(nodes.none_founded());
    nodes.start(lost);
    nodes.rounds();
    REQUIRE(nodes.all_founded_the_same());
    CHECK_NE(nodes.founded('a')->cluster_id, old);
  }
}

TEST_CASE("formation: where a majority of its founders lost their disks an operator decides") {
  founders nodes{"abc"};
  nodes.start_all();
  nodes.hold_disk('c', true);
  nodes.rounds(3);
  REQUIRE_FALSE(nodes.disk('b').proposal.cluster_id.empty());
  nodes.wipe('a');
  nodes.wipe('c');
  nodes.hold_disk('c', false);
  nodes.start('a');
  nodes.start('c');
  nodes.rounds();
  CHECK(nodes.none_founded());
}

TEST_CASE("formation: who promised never to finish a proposal does not, but from a formed peer") {
  founders nodes{"abc"};
  nodes.start_all();
  nodes.hold_disk('c', true);
  nodes.rounds(3);
  auto id = nodes.disk('a').proposal.cluster_id;
  for (auto name : {'a', 'b', 'c'})
    nodes.stop(name);
  nodes.hold_disk('c', false);
  nodes.disk('b').abandoned = id;
  nodes.start_all();
  nodes.rounds(1);
  for (auto name : {'a', 'b', 'c'})
    if (nodes.founded(name))
      CHECK_NE(nodes.founded(name)->cluster_id, id);
}

TEST_CASE("formation: two proposals that were both given up are out of the way for a third") {
  founders nodes{"abc"};
  nodes.start_all();
  // The first is saved by a and b, and given up for c's lost disk; the second by a alone, when c loses it again.
  nodes.hold_disk('c', true);
  nodes.rounds(3);
  nodes.wipe('c');
  nodes.hold_disk('c', false);
  auto first = nodes.disk('b').proposal;
  nodes.disk('b').abandoned = first.cluster_id;
  genesis second = first;
  second.cluster_id = "the second";
  second.founders.members[2].incarnation = member_sender('c').incarnation + 100;
  nodes.disk('a') = {second, first.cluster_id};
  nodes.stop('a');
  nodes.stop('b');
  nodes.wipe('c');
  nodes.start_all();
  nodes.rounds();
  REQUIRE(nodes.all_founded_the_same());
  CHECK_NE(nodes.founded('a')->cluster_id, first.cluster_id);
  CHECK_NE(nodes.founded('a')->cluster_id, second.cluster_id);
}

TEST_CASE("formation: whatever goes wrong, there are never two clusters, and one in the end if no disk was lost") {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random{seed};
    bool wipes = seed % 2 == 1;
    founders nodes{seed % 3 == 0 ? "abcde" : "abc"};
    for (int i = 0; i < 1'000; ++i) {
      nodes.anything(random(), wipes);
      REQUIRE(nodes.one_cluster_at_most());
    }
    nodes.calm();
    nodes.rounds();
    CHECK(nodes.one_cluster_at_most());
    if (!wipes)
      CHECK(nodes.all_founded_the_same());
  }
}

TEST_CASE("formation: what an older incarnation said is not what its node says") {
  formation_config config;
  config.self = member_sender('a');
  config.http_address = "a";
  config.peers = {{member_id('b'), "b"}};
  formation founding{config, {}};
  founding.on_peer_up({member_id('b'), incarnation_id{77}}, "b");
  std::vector<node_id> both{member_id('a'), member_id('b')};
  founding.on_status({member_sender('b'), "b", "", both, {}, {}, {}});
  CHECK_FALSE(founding.on_tick("x", 1).save);
  founding.on_status({{member_id('b'), incarnation_id{77}}, "b", "", both, {}, {}, {}});
  CHECK(founding.on_tick("x", 1).save);
}

TEST_CASE("formation: a founder saves only a proposal of its own set, with the disks that are there, one at a time") {
  formation_config config;
  config.self = member_sender('b');
  config.http_address = "b";
  config.peers = {{member_id('a'), "a"}, {member_id('c'), "c"}};
  genesis proposal{"one", members_of(3), 1};
  auto offered = [&](formation_state saved, genesis what, char from = 'a') {
    formation founding{config, std::move(saved)};
    founding.on_peer_up(member_sender('a'), "a");
    founding.on_peer_up(member_sender('c'), "c");
    return founding.on_offer({member_sender(from), std::move(what)}).save.has_value();
  };
  CHECK(offered({}, proposal));
  CHECK_FALSE(offered({}, proposal, 'c'));
  CHECK_FALSE(offered({}, {"two", members_of(4), 1}));
  auto of_another_disk = proposal;
  of_another_disk.founders.members[2].incarnation = incarnation_id{99};
  CHECK_FALSE(offered({}, of_another_disk));
  auto without_us = proposal;
  without_us.founders.members[1].incarnation = incarnation_id{99};
  CHECK_FALSE(offered({}, without_us));
  genesis other{"two", members_of(3), 1};
  CHECK_FALSE(offered({proposal, {}}, other));
  CHECK(offered({proposal, "one"}, other));
  CHECK_FALSE(offered({{}, "one"}, proposal));
}

TEST_CASE("formation: only what is saved is said") {
  formation_config config;
  config.self = member_sender('a');
  config.http_address = "a";
  formation founding{config, {}};
  auto actions = founding.on_tick("x", 1);
  REQUIRE(actions.save);
  CHECK_FALSE(actions.found);
  CHECK(founding.status().proposal.cluster_id.empty());
  CHECK(founding.on_saved().found);
  CHECK_EQ(founding.status().proposal.cluster_id, "x");
}
