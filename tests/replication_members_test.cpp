#include <doctest/doctest.h>

#include "persistence/codec.hpp"
#include "tests/support/scripted_keeper.hpp"

using namespace coordinator;

namespace {

using change = change_membership::change;
using outcome = membership_reply::outcome;

/// Leader of term 2 over entries 1..3, the last of them its no-op; committed when `ready`.
scripted_keeper leader(bool ready = true, defect_set defects = {}) {
  scripted_keeper_options options;
  options.log = {1};
  options.defects = defects;
  scripted_keeper keeper{options};
  keeper.peers_up();
  keeper.become_leader();
  if (ready) {
    keeper.acknowledge('b', 3);
    keeper.acknowledge('c', 3);
  }
  return keeper;
}

void link(scripted_keeper& keeper, char name, std::uint64_t incarnation) {
  keeper->on_introduced(member_id(name), "http:1", "cluster:1");
  keeper.take(keeper->on_peer_up({member_id(name), {incarnation}}, keeper.now()));
}

std::optional<membership_reply> ask(scripted_keeper& keeper, change what, char name, bool force = false) {
  keeper.take(keeper->on_change_membership({member_sender('a'), 7, what, member_id(name), force}, keeper.now()));
  return keeper.said<membership_reply>();
}

}  // namespace

TEST_CASE("members: no change before an entry of the leader's term is committed (the bug of 2015)") {
  auto keeper = leader(false);
  link(keeper, 'd', 40);
  CHECK_EQ(ask(keeper, change::add, 'd')->result, outcome::busy);
  CHECK_FALSE(keeper->log().members().find(member_id('d')));
  defect_set rule;
  rule.add(defect::membership_before_own_commit);
  auto rash = leader(false, rule);
  link(rash, 'd', 40);
  ask(rash, change::add, 'd', true);
  CHECK(rash->log().members().find(member_id('d')));
}

TEST_CASE("members: a node joins as a learner once it is linked, and the answer waits for the commit") {
  auto keeper = leader();
  CHECK_EQ(ask(keeper, change::add, 'd')->result, outcome::not_connected);
  link(keeper, 'd', 40);
  CHECK_FALSE(ask(keeper, change::add, 'd'));
  auto d = keeper->log().members().find(member_id('d'));
  REQUIRE(d);
  CHECK_FALSE(d->voter);
  CHECK_EQ(d->incarnation, incarnation_id{40});
  CHECK_EQ(d->cluster_address, "cluster:1");
  // One at a time.
  link(keeper, 'e', 50);
  CHECK_EQ(ask(keeper, change::add, 'e')->result, outcome::busy);
  keeper.acknowledge('b', 4);
  CHECK_EQ(keeper.said<membership_reply>()->result, outcome::committed);
  CHECK_EQ(ask(keeper, change::add, 'd')->result, outcome::unchanged);
}

TEST_CASE("members: a learner that keeps up becomes a voter by itself, and not before") {
  auto keeper = leader();
  link(keeper, 'd', 40);
  ask(keeper, change::add, 'd');
  keeper.acknowledge('b', 4);
  CHECK_EQ(ask(keeper, change::promote, 'd')->result, outcome::not_caught_up);
  keeper.round(0, {'b', 'c'});
  keeper.tick();
  CHECK_FALSE(keeper->log().members().is_voter(member_id('d')));
  append_entries_reply reply;
  reply.from = {member_id('d'), {40}};
  reply.term = reply.answers_term = {2};
  reply.success = true;
  reply.match_index = reply.last_log_index = {4};
  keeper.take(keeper->on_append_entries_reply(reply, keeper.now()));
  keeper.tick();
  CHECK(keeper->log().members().is_voter(member_id('d')));
}

TEST_CASE("members: none is taken out if fewer than a quorum would be in contact, unless it is forced") {
  auto keeper = leader();
  // c has been silent for long.
  for (int i = 0; i < 40; ++i) {
    keeper.advance(milliseconds{50});
    keeper.round(0, {'b'});
    keeper.tick();
  }
  auto reply = ask(keeper, change::remove, 'b');
  REQUIRE(reply);
  CHECK_EQ(reply->result, outcome::unsafe);
  CHECK_NE(reply->detail.find("only 1 of then 2 voters"), std::string::npos);
  CHECK(keeper->log().members().find(member_id('b')));
  CHECK_FALSE(ask(keeper, change::remove, 'b', true));
  CHECK_FALSE(keeper->log().members().find(member_id('b')));
}

TEST_CASE("members: who is taken out is told so, and the rest goes on without it") {
  auto keeper = leader();
  keeper.take_said<append_entries>();
  CHECK_FALSE(ask(keeper, change::remove, 'c'));
  auto told = keeper.said_to<append_entries>('c');
  REQUIRE(told);
  CHECK_EQ(told->entries.back().kind, entry_kind::membership);
  keeper.acknowledge('b', 4);
  CHECK_EQ(keeper.said<membership_reply>()->result, outcome::committed);
  // Whoever asks again, because the answer was lost, is told that it is done; of a misspelt name it is not.
  CHECK_EQ(ask(keeper, change::remove, 'c')->result, outcome::unchanged);
  CHECK_EQ(ask(keeper, change::remove, 'x')->result, outcome::unknown_node);
}

TEST_CASE("members: a node that was taken out knows it once that is committed, and does not campaign") {
  scripted_keeper_options options;
  options.self = 'c';
  scripted_keeper keeper{options};
  auto rest = members_of(2);
  log_entry entry{{2}, {2}, entry_kind::membership, 5, to_bytes(rest)};
  keeper.append_entries_of('a', 2, 1, 1, {entry});
  CHECK_FALSE(keeper->removed());
  keeper.append('a', 2, 2, 2, {}, 2);
  CHECK(keeper->removed());
  keeper.advance(milliseconds{5000});
  keeper.ask_leave();
  REQUIRE(keeper.campaign);
  CHECK_EQ(keeper.campaign->leave, 0);
}

TEST_CASE("members: a lost disk comes back under its name as a learner (rule 11)") {
  auto keeper = leader();
  keeper.take(keeper->on_peer_down(member_id('c'), keeper.now()));
  link(keeper, 'c', 77);
  CHECK_FALSE(ask(keeper, change::add, 'c'));
  auto c = keeper->log().members().find(member_id('c'));
  REQUIRE(c);
  CHECK_EQ(c->incarnation, incarnation_id{77});
  CHECK_FALSE(c->voter);
}

TEST_CASE(
    "members: a member that is away and its lost disk cannot be told apart, so adding it is refused and says so") {
  auto keeper = leader();
  keeper.take(keeper->on_peer_down(member_id('c'), keeper.now()));
  auto reply = ask(keeper, change::add, 'c');
  REQUIRE(reply);
  CHECK_EQ(reply->result, outcome::not_connected);
  CHECK_NE(reply->detail.find("no node \"c\" is linked"), std::string::npos);
  CHECK_EQ(reply->members.members.size(), 3);
}

TEST_CASE("members: one that is cut off the log again has taken nobody out") {
  scripted_keeper_options options;
  options.self = 'c';
  scripted_keeper keeper{options};
  log_entry entry{{2}, {2}, entry_kind::membership, 5, to_bytes(members_of(2))};
  keeper.append_entries_of('a', 2, 1, 1, {entry});
  CHECK_FALSE(keeper->removed());
  // Another leader never had it.
  keeper.append('b', 3, 1, 1, {3}, 2);
  CHECK_FALSE(keeper->removed());
  CHECK(keeper->log().members().find(member_id('c')));
}

TEST_CASE("members: a leader that takes itself out leads until that is committed, and hands over") {
  auto keeper = leader();
  CHECK_FALSE(ask(keeper, change::remove, 'a'));
  keeper.tick();
  CHECK(keeper.leads());
  CHECK_FALSE(keeper.hand_over);
  keeper.acknowledge('b', 4);
  keeper.acknowledge('c', 4);
  CHECK_EQ(keeper.said<membership_reply>()->result, outcome::committed);
  CHECK_FALSE(keeper->removed());
  keeper.tick();
  REQUIRE(keeper.hand_over);
  CHECK(keeper.leads());
  keeper.take(keeper->on_higher_term({keeper.term() + 1}, keeper.now()));
  CHECK_FALSE(keeper.leads());
  CHECK(keeper->removed());
}

TEST_CASE("members: one that was taken out while it was away is told so when it comes back") {
  auto keeper = leader();
  keeper.take(keeper->on_peer_down(member_id('c'), keeper.now()));
  CHECK_FALSE(ask(keeper, change::remove, 'c'));
  keeper.acknowledge('b', 4);
  keeper.take_said<append_entries>();
  keeper.take(keeper->on_peer_up(member_sender('c'), keeper.now()));
  CHECK(keeper.said_to<append_entries>('c'));
  // Not for ever.
  keeper.advance(milliseconds{20'000});
  keeper.round(0, {'b'});
  keeper.tick();
  keeper.take_said<append_entries>();
  keeper.propose({"x"});
  CHECK_FALSE(keeper.said_to<append_entries>('c'));
}

TEST_CASE("members: one that was taken out while it was away, and whose log is compacted past, is told so once") {
  auto keeper = leader();
  keeper.take(keeper->on_peer_down(member_id('c'), keeper.now()));
  CHECK_FALSE(ask(keeper, change::remove, 'c'));
  link(keeper, 'd', 40);
  keeper.tick();
  CHECK_FALSE(keeper.said_to<removal_notice>('d'));  // What is not committed takes nobody out.
  keeper.acknowledge('b', 4);
  keeper.tick();
  auto notice = keeper.said_to<removal_notice>('d');
  REQUIRE(notice);
  CHECK_EQ(notice->index, log_index{4});
  CHECK_FALSE(notice->members.find(member_id('c')));
  keeper.tick();
  CHECK_FALSE(keeper.said_to<removal_notice>('d'));
  link(keeper, 'd', 40);
  keeper.tick();
  CHECK(keeper.said_to<removal_notice>('d'));
}

TEST_CASE("members: word of its removal counts at a node that was a member, until its own log knows better") {
  scripted_keeper_options options;
  options.self = 'c';
  scripted_keeper keeper{options};
  auto tell = [&](membership members, std::uint64_t index) {
    keeper.take(keeper->on_removal_notice({member_sender('a'), {index}, std::move(members)}, keeper.now()));
  };
  tell(members_of(3), 9);
  CHECK_FALSE(keeper->removed());
  tell(members_of(2), 1);
  CHECK_FALSE(keeper->removed());
  tell(members_of(2), 9);
  CHECK(keeper->removed());
  CHECK_EQ(keeper->removed_by(), log_index{9});
  keeper.advance(milliseconds{5000});
  keeper.ask_leave();
  REQUIRE(keeper.campaign);
  CHECK_EQ(keeper.campaign->leave, 0);
  // It was let in again by an entry after that one.
  std::vector<log_entry> entries;
  for (std::uint64_t i = 2; i <= 8; ++i)
    entries.push_back(entry_of(i, 2));
  entries.push_back({{9}, {2}, entry_kind::membership, 5, to_bytes(members_of(2))});
  entries.push_back({{10}, {2}, entry_kind::membership, 5, to_bytes(members_of(3))});
  keeper.append_entries_of('a', 2, 1, 1, entries);
  CHECK(keeper->removed());
  keeper.append('a', 2, 10, 2, {}, 10);
  CHECK_FALSE(keeper->removed());

  scripted_keeper_options joining;
  joining.self = 'd';
  scripted_keeper joiner{joining};
  joiner.take(joiner->on_removal_notice({member_sender('a'), {9}, members_of(3)}, joiner.now()));
  CHECK_FALSE(joiner->removed());
}
