#include <doctest/doctest.h>

#include "persistence/codec.hpp"
#include "tests/support/scripted_keeper.hpp"

using namespace coordinator;

namespace {

using terms = std::vector<std::uint64_t>;

/// A leader of term 2 whose no-op, entry 3, is everywhere and committed.
scripted_keeper leader(scripted_keeper_options options = {}) {
  options.log = {1};
  scripted_keeper keeper{options};
  keeper.peers_up();
  keeper.become_leader();
  for (std::size_t i = 1; i < options.members; ++i)
    keeper.acknowledge(static_cast<char>('a' + i), 3);
  keeper.take_said<append_entries>();
  return keeper;
}

std::size_t count_to(scripted_keeper& keeper, char to) {
  std::size_t n = 0;
  for (auto& [id, message] : keeper.take_said<append_entries>())
    n += id == member_id(to) && !message.commit_only ? 1 : 0;
  return n;
}

}  // namespace

// -- replicating ----------------------------------------------------------------------------

TEST_CASE("replication: a peer that fits gets append after append, without waiting for answers") {
  auto keeper = leader();
  for (int i = 0; i < 5; ++i)
    keeper.propose({"x"});
  CHECK_EQ(count_to(keeper, 'b'), 5);
}

TEST_CASE("replication: a probe goes alone until it is answered") {
  scripted_keeper keeper{{.log = {1}}};
  keeper.peers_up();
  keeper.become_leader();
  CHECK_EQ(count_to(keeper, 'b'), 1);
  for (int i = 0; i < 5; ++i)
    keeper.propose({"x"});
  CHECK_EQ(count_to(keeper, 'b'), 0);
  // The answer to it, though not durable over there yet.
  keeper.acknowledge('b', 2);
  CHECK_EQ(count_to(keeper, 'b'), 1);
}

TEST_CASE("replication: what is under way to a peer is bounded, and goes on as it is acknowledged") {
  auto keeper = leader({.window_messages = 3});
  for (int i = 0; i < 10; ++i)
    keeper.propose({"x"});
  CHECK_EQ(count_to(keeper, 'b'), 3);
  keeper.acknowledge('b', 4);
  CHECK_EQ(count_to(keeper, 'b'), 1);
  keeper.acknowledge('b', 13);
  CHECK_EQ(count_to(keeper, 'b'), 0);
}

TEST_CASE("replication: entries go in messages of bounded size, a large one by itself") {
  auto keeper = leader({.append_bytes = 100});
  keeper.take(keeper->on_peer_down(member_id('b'), keeper.now()));
  keeper.propose({std::string(60, 'x'), std::string(60, 'x'), std::string(500, 'x'), "y", "z"});
  keeper.take_said<append_entries>();
  keeper.take(keeper->on_peer_up(member_sender('b'), keeper.now()));
  keeper.acknowledge('b', 3);
  std::vector<std::size_t> sizes;
  for (auto& [to, message] : keeper.take_said<append_entries>())
    if (to == member_id('b'))
      sizes.push_back(message.entries.size());
  CHECK_EQ(sizes, std::vector<std::size_t>{1, 1, 1, 2});
}

TEST_CASE("replication: what a lost link took with it is sent again, from the first that was not acknowledged") {
  auto keeper = leader();
  for (int i = 0; i < 4; ++i)
    keeper.propose({"x"});
  keeper.acknowledge('b', 5);
  keeper.take_said<append_entries>();
  keeper.take(keeper->on_peer_down(member_id('b'), keeper.now()));
  keeper.propose({"x"});
  CHECK_EQ(count_to(keeper, 'b'), 0);
  keeper.take(keeper->on_peer_up(member_sender('b'), keeper.now()));
  auto again = keeper.said_to<append_entries>('b');
  REQUIRE(again);
  CHECK_EQ(again->prev_log_index, log_index{5});
  CHECK_EQ(again->entries.size(), 3);
}

TEST_CASE("replication: refusals of what was sent before a rewind do not rewind again") {
  auto keeper = leader();
  for (int i = 0; i < 3; ++i)
    keeper.propose({"x"});
  keeper.take_said<append_entries>();
  // Entry 4 was lost: 5 and 6 are refused.
  keeper.refuse('b', 4, 0, 4);
  CHECK_EQ(count_to(keeper, 'b'), 1);
  keeper.refuse('b', 5, 0, 4);
  CHECK_EQ(count_to(keeper, 'b'), 0);
  keeper.acknowledge('b', 6);
  keeper.refuse('b', 4, 0, 4);
  CHECK_EQ(count_to(keeper, 'b'), 0);
}

TEST_CASE("replication: who is behind the memory gets its entries from raft.db, one read at a time") {
  scripted_keeper keeper{{.log = {1, 1, 1, 1, 1}, .last_applied = 6, .append_bytes = 40}};
  keeper.peers_up();
  keeper.become_leader();
  keeper.refuse('b', 6, 0, 2);
  keeper.propose({"x"});
  REQUIRE_EQ(keeper.loads.size(), 1);
  CHECK_EQ(keeper.loads[0].from, log_index{2});
  keeper.take_said<append_entries>();
  keeper.load();
  auto sent = keeper.said_to<append_entries>('b');
  REQUIRE(sent);
  CHECK_EQ(sent->prev_log_index, log_index{1});
  CHECK_FALSE(sent->entries.empty());
}

TEST_CASE("replication: a read of raft.db that comes back to another leadership is not sent") {
  scripted_keeper keeper{{.log = {1, 1, 1, 1, 1}, .last_applied = 6}};
  keeper.peers_up();
  keeper.become_leader();
  keeper.refuse('b', 6, 0, 2);
  REQUIRE_EQ(keeper.loads.size(), 1);
  keeper.take(keeper->on_higher_term(term_number{5}, keeper.now()));
  keeper.take_said<append_entries>();
  keeper.load();
  CHECK_FALSE(keeper.said<append_entries>());
  CHECK(keeper->writable());
}

TEST_CASE("replication: what the file still holds of a log that was cut off is not sent") {
  scripted_keeper keeper{{.term = 2, .log = {1, 1, 2, 2}, .last_applied = 3, .slow_disk = true}};
  // Entries 4 and 5 of term 2 give way to one of term 3, which waits behind a write.
  keeper.append('b', 3, 3, 1, {3});
  auto stale = keeper.disk;
  keeper.write();
  keeper.advance(milliseconds{400});
  keeper.peers_up();
  keeper.become_leader();
  REQUIRE(keeper.leads());
  keeper.refuse('b', 4, 0, 2);
  REQUIRE_EQ(keeper.loads.size(), 1);
  auto request = std::exchange(keeper.loads, {}).front();
  keeper.take_said<append_entries>();
  stale.erase(stale.begin());
  keeper.take(keeper->on_loaded(request.request, stale, keeper.now()));
  auto sent = keeper.said_to<append_entries>('b');
  REQUIRE(sent);
  CHECK_EQ(sent->entries.size(), 2);
  CHECK_EQ(sent->entries.back().index, log_index{3});
}

TEST_CASE("replication: a peer that is no member is not written to, and harms nobody") {
  auto keeper = leader();
  keeper.take(keeper->on_peer_up({member_id('z'), incarnation_id{50}}, keeper.now()));
  keeper.propose({"x"});
  keeper.advance(milliseconds{250});
  keeper.tick();
  CHECK_EQ(count_to(keeper, 'z'), 0);
  CHECK(keeper.leads());
}

TEST_CASE("replication: idle followers are told of commitment a little later, and not twice") {
  auto keeper = leader();
  keeper.commit_notice();
  keeper.take_said<append_entries>();
  CHECK_EQ(keeper.notices_wanted, 0);
  keeper.propose({"x"});
  keeper.take_said<append_entries>();
  keeper.acknowledge('b', 4);
  CHECK_FALSE(keeper.said<append_entries>());
  CHECK_EQ(keeper.notices_wanted, 1);
  keeper.acknowledge('c', 4);
  CHECK_EQ(keeper.notices_wanted, 1);
  keeper.commit_notice();
  auto sent = keeper.take_said<append_entries>();
  REQUIRE_EQ(sent.size(), 2);
  for (auto& [to, notice] : sent) {
    CHECK(notice.commit_only);
    CHECK_EQ(notice.leader_commit, log_index{4});
    CHECK_EQ(notice.prev_log_index, log_index{4});
  }
  CHECK_EQ(keeper.notices_wanted, 0);
  keeper.commit_notice();
  CHECK_FALSE(keeper.said<append_entries>());
}

TEST_CASE("replication: an append tells of commitment as well, and then nothing else does") {
  auto keeper = leader();
  keeper.commit_notice();
  keeper.propose({"x"});
  keeper.acknowledge('b', 4);
  keeper.acknowledge('c', 4);
  keeper.take_said<append_entries>();
  keeper.propose({"y"});
  CHECK_EQ(keeper.said_to<append_entries>('b')->leader_commit, log_index{4});
  keeper.commit_notice();
  CHECK_FALSE(keeper.said<append_entries>());
}

TEST_CASE("replication: whose clients wait for a commitment is told at once, though more is under way to it") {
  auto keeper = leader();
  keeper.commit_notice();
  propose batch{member_sender('c'), 1, {"x"}};
  keeper.take(keeper->on_propose(batch, keeper.now()));
  keeper.take_said<append_entries>();
  keeper.acknowledge('b', 4);
  auto sent = keeper.take_said<append_entries>();
  REQUIRE_EQ(sent.size(), 1);
  CHECK_EQ(sent[0].first, member_id('c'));
  CHECK(sent[0].second.commit_only);
  CHECK_EQ(sent[0].second.leader_commit, log_index{4});
  // Not beyond what the peer is known to have: its own log says whether that is all.
  CHECK_EQ(sent[0].second.prev_log_index, log_index{3});
}

TEST_CASE("replication: whose reads wait for an entry is told at once that it is committed") {
  auto keeper = leader();
  keeper.commit_notice();
  keeper.propose({"x"});
  keeper.acknowledge('b', 4);
  keeper.acknowledge('c', 4);
  keeper.take_said<append_entries>();
  keeper.take(keeper->on_read_index({member_sender('b'), 7}, keeper.now()));
  REQUIRE(keeper.wanted);
  keeper.round(keeper.wanted->read, {'c'});
  CHECK_EQ(keeper.said_to<read_index_reply>('b')->index, log_index{4});
  auto sent = keeper.take_said<append_entries>();
  REQUIRE_EQ(sent.size(), 1);
  CHECK_EQ(sent[0].first, member_id('b'));
  CHECK_EQ(sent[0].second.leader_commit, log_index{4});
}

TEST_CASE("replication: a beat says no more than its peer is known to have (rule 4)") {
  auto keeper = leader();
  keeper.propose({"x"});
  keeper.acknowledge('b', 4);
  keeper.tick();
  REQUIRE_EQ(keeper.beats->targets.size(), 2);
  CHECK_EQ(keeper.beats->targets[0].commit_index, log_index{4});
  CHECK_EQ(keeper.beats->targets[1].commit_index, log_index{3});
}

TEST_CASE("replication: match_index never falls, and answers to another term are nobody's") {
  auto keeper = leader();
  keeper.propose({"x"});
  append_entries_reply reply;
  reply.from = member_sender('b');
  reply.term = reply.answers_term = term_number{1};
  reply.success = true;
  reply.match_index = log_index{4};
  keeper.take(keeper->on_append_entries_reply(reply, keeper.now()));
  CHECK_EQ(keeper.commit(), 3);
  keeper.acknowledge('b', 2);
  CHECK_EQ(keeper->view(1, keeper.now()).members[1].match_index, log_index{3});
}

TEST_CASE("replication: what a peer had in an earlier leadership is not known in the next") {
  auto keeper = leader({.members = 5});
  for (int i = 0; i < 6; ++i)
    keeper.propose({"x"});
  keeper.acknowledge('b', 9);
  REQUIRE_EQ(keeper.commit(), 3);
  // Another leader replaces these entries, here and with b.
  keeper.append('c', 3, 3, 2, {3});
  keeper.advance(milliseconds{400});
  keeper.become_leader();
  REQUIRE_EQ(keeper.log_terms(), terms{1, 1, 2, 3, 4});
  CHECK_EQ(keeper->view(1, keeper.now()).members[1].match_index, log_index{0});
  keeper.acknowledge('c', 5);
  CHECK_EQ(keeper.commit(), 3);
  keeper.acknowledge('d', 5);
  CHECK_EQ(keeper.commit(), 5);
}

TEST_CASE("replication: a learner gets the log and counts in no majority") {
  scripted_keeper keeper{{.log = {1}}};
  auto members = members_of(4);
  members.members[3].voter = false;
  log_entry entry{log_index{3}, term_number{1}, entry_kind::membership, 0, to_bytes(members)};
  keeper.append_entries_of('b', 1, 2, 1, {entry});
  keeper.advance(milliseconds{400});
  keeper.peers_up();
  keeper.take(keeper->on_peer_up(member_sender('d'), keeper.now()));
  keeper.become_leader();
  REQUIRE(keeper.leads());
  CHECK_EQ(count_to(keeper, 'd'), 1);
  keeper.acknowledge('d', 4);
  CHECK_EQ(keeper.commit(), 1);
  keeper.acknowledge('b', 4);
  CHECK_EQ(keeper.commit(), 4);
}

// -- proposals --------------------------------------------------------------------------------

TEST_CASE("replication: too much that is not committed is refused as busy, and taken again when it is") {
  auto keeper = leader();
  keeper.propose({std::string(65 << 20, 'x')});
  CHECK_FALSE(keeper.said<proposal_rejected>());
  keeper.propose({"y"});
  auto rejected = keeper.said<proposal_rejected>();
  REQUIRE(rejected);
  CHECK(rejected->busy);
  keeper.acknowledge('b', 4);
  keeper.propose({"y"});
  CHECK_FALSE(keeper.said<proposal_rejected>());
}

TEST_CASE("replication: the time of entries never decreases, over leaders too (rule 9)") {
  auto keeper = leader();
  std::int64_t last = 0;
  for (int i = 0; i < 20; ++i) {
    keeper.advance(milliseconds{i});
    keeper.propose({"x"});
    CHECK_GE(keeper.disk.back().time_ms, last);
    last = keeper.disk.back().time_ms;
  }
  CHECK_GT(last, keeper.disk[2].time_ms);
}

// -- progress and contact --------------------------------------------------------------------------

TEST_CASE("replication: a node alone leads on under steady load") {
  scripted_keeper keeper{{.members = 1, .log = {1}, .slow_disk = true}};
  keeper.become_leader();
  REQUIRE(keeper.leads());
  // There is always something that is not committed yet, and always a write that completes.
  for (int i = 0; i < 100; ++i) {
    keeper.propose({"x"});
    keeper.advance(milliseconds{50});
    keeper.write(false);
    keeper.propose({"y"});
    keeper.tick();
    REQUIRE(keeper.leads());
  }
}

TEST_CASE("replication: a slow follower is progress as long as it moves (rule 5)") {
  auto keeper = leader();
  for (int i = 0; i < 20; ++i)
    keeper.propose({"x"});
  for (int i = 0; i < 20; ++i) {
    keeper.advance(milliseconds{290});
    keeper.acknowledge('b', static_cast<std::uint64_t>(4 + i));
    keeper.tick();
    REQUIRE(keeper.leads());
  }
}

TEST_CASE("replication: contact is when a round began, not when its answer came (rule 5)") {
  auto keeper = leader();
  auto leave = keeper.beats->leave;
  auto began = keeper.now().steady;
  keeper.advance(milliseconds{299});
  keeper.take(keeper->on_round_evidence({leave, 0, {member_sender('b')}, began}, keeper.now()));
  keeper.advance(milliseconds{1});
  keeper.tick();
  CHECK_FALSE(keeper.leads());
}

TEST_CASE("replication: a leader that steps down answers the reads that wait, and stops beating") {
  auto keeper = leader();
  keeper.read(5);
  keeper.advance(milliseconds{300});
  keeper.tick();
  auto reply = keeper.said<read_index_reply>();
  REQUIRE(reply);
  CHECK_FALSE(reply->ok);
  CHECK_EQ(keeper.beats->leave, 0);
  CHECK_EQ(keeper.announced->role, node_role::follower);
}

// -- reads ---------------------------------------------------------------------------------------------

TEST_CASE("replication: reads share rounds (rule 7)") {
  auto keeper = leader();
  keeper.read(1);
  auto first = keeper.wanted->read;
  keeper.wanted.reset();
  for (std::uint64_t i = 2; i <= 9; ++i)
    keeper.read(i);
  CHECK_FALSE(keeper.wanted);
  keeper.round(first, {'b'});
  CHECK_EQ(keeper.take_said<read_index_reply>().size(), 1);
  REQUIRE(keeper.wanted);
  keeper.round(keeper.wanted->read, {'b'});
  CHECK_EQ(keeper.take_said<read_index_reply>().size(), 8);
}

TEST_CASE("replication: a read needs a majority of the present voters") {
  auto keeper = leader({.members = 5});
  keeper.read(1);
  keeper.round(keeper.wanted->read, {'b'});
  CHECK_FALSE(keeper.said<read_index_reply>());
  keeper.round(keeper.wanted->read, {'b', 'c'});
  CHECK(keeper.said<read_index_reply>()->ok);
}

TEST_CASE("replication: a node alone answers reads by itself, once its own entry is committed") {
  scripted_keeper keeper{{.members = 1, .log = {1}, .slow_disk = true}};
  keeper.ask_leave();
  keeper.write(false);
  REQUIRE(keeper.leads());
  keeper.read(1);
  CHECK_FALSE(keeper.said<read_index_reply>());
  keeper.write();
  CHECK_EQ(keeper.said<read_index_reply>()->index, log_index{3});
}

TEST_CASE("replication: who does not lead says who does") {
  scripted_keeper keeper{{.log = {1}}};
  keeper.append('c', 1, 2, 1);
  keeper.read(1);
  auto reply = keeper.said<read_index_reply>();
  REQUIRE(reply);
  CHECK_FALSE(reply->ok);
  CHECK_EQ(reply->leader, member_id('c'));
}

// -- transfer ----------------------------------------------------------------------------------------------

namespace {

transfer_reply transfer(scripted_keeper& keeper, node_id to) {
  keeper.take(keeper->on_transfer_leadership({member_sender('a'), 1, std::move(to)}, keeper.now()));
  return *keeper.said<transfer_reply>();
}

using outcome = transfer_reply::outcome;

}  // namespace

TEST_CASE("replication: leadership goes to the best follower, which is brought up to date first") {
  auto keeper = leader();
  keeper.propose({"x"});
  keeper.acknowledge('c', 4);
  keeper.propose({"y"});
  auto reply = transfer(keeper, {});
  CHECK_EQ(reply.result, outcome::started);
  CHECK_EQ(reply.to, member_id('c'));
  CHECK_FALSE(keeper.hand_over);
  // Meanwhile nothing new is taken.
  keeper.propose({"z"});
  CHECK(keeper.said<proposal_rejected>()->busy);
  keeper.acknowledge('c', 5);
  REQUIRE(keeper.hand_over);
  CHECK_EQ(*keeper.hand_over, send_timeout_now{member_id('c'), term_number{2}});
}

TEST_CASE("replication: a transfer that comes to nothing ends, and work goes on") {
  auto keeper = leader();
  auto wait = [&](milliseconds time) {
    for (; time > milliseconds{0}; time -= milliseconds{50}) {
      keeper.advance(milliseconds{50});
      keeper.round(0, {'b', 'c'});
      keeper.tick();
    }
    keeper.take_said<proposal_rejected>();
    keeper.propose({"x"});
    return !keeper.said<proposal_rejected>();
  };
  SUBCASE("the target was told and did not campaign") {
    transfer(keeper, member_id('b'));
    REQUIRE(keeper.hand_over);
    CHECK_FALSE(wait(milliseconds{250}));
    CHECK(wait(milliseconds{50}));
  }
  SUBCASE("the target does not catch up") {
    keeper.propose({"x"});
    keeper.acknowledge('c', 4);
    transfer(keeper, member_id('b'));
    CHECK_FALSE(wait(milliseconds{950}));
    CHECK(wait(milliseconds{50}));
    CHECK_FALSE(keeper.hand_over);
  }
  CHECK(keeper.leads());
}

TEST_CASE("replication: a transfer to whom it cannot go is refused") {
  auto keeper = leader();
  CHECK_EQ(transfer(keeper, member_id('z')).result, outcome::unknown_node);
  keeper.take(keeper->on_peer_down(member_id('b'), keeper.now()));
  CHECK_EQ(transfer(keeper, member_id('b')).result, outcome::no_candidate);
  keeper.propose({"x"});
  CHECK_FALSE(keeper.said<proposal_rejected>());
  CHECK_EQ(transfer(keeper, member_id('c')).result, outcome::started);
  CHECK_EQ(transfer(keeper, member_id('c')).result, outcome::started);
  CHECK_EQ(transfer(keeper, member_id('a')).result, outcome::busy);

  scripted_keeper follower{{.log = {1}}};
  CHECK_EQ(transfer(follower, {}).result, outcome::not_leader);
}

TEST_CASE("replication: a node alone has nobody to hand over to") {
  scripted_keeper keeper{{.members = 1, .log = {1}}};
  keeper.become_leader();
  CHECK_EQ(transfer(keeper, {}).result, outcome::no_candidate);
  CHECK_EQ(transfer(keeper, member_id('a')).result, outcome::started);
  keeper.propose({"x"});
  CHECK_FALSE(keeper.said<proposal_rejected>());
}
