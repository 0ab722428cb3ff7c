#include <doctest/doctest.h>

#include "actors/election.hpp"
#include "actors/heartbeat.hpp"
#include "tests/support/scripted_keeper.hpp"

// A case for each rule of figure 2 and section 5 of "In Search of an Understandable Consensus Algorithm".

using namespace coordinator;

namespace {

using terms = std::vector<std::uint64_t>;

// Entry 1 is the genesis of term 1 in every log here, so the paper's logs begin at index 2.
scripted_keeper keeper_with(terms log, std::uint64_t term, std::size_t members = 3) {
  return scripted_keeper{{.members = members, .term = term, .log = std::move(log)}};
}

}  // namespace

// -- figure 2: state ------------------------------------------------------------------

TEST_CASE("paper: term, vote and log survive a restart (Raft figure 2, persistent state)") {
  auto keeper = keeper_with({1}, 1);
  keeper.append('b', 3, 2, 1, {3, 3});
  keeper.request_vote('c', 5, 9, 4);
  keeper.restart();
  CHECK_EQ(keeper.term(), 5);
  CHECK_EQ(keeper->voted_for(), member_id('c'));
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 3, 3});
}

TEST_CASE("paper: a server begins as a follower, with nothing led and nobody followed (Raft §5.2)") {
  auto keeper = keeper_with({1, 2}, 2);
  CHECK_EQ(keeper->role(), node_role::follower);
  CHECK(keeper->leader().empty());
  CHECK_EQ(keeper.commit(), 1);
}

// -- figure 2: AppendEntries, receiver -----------------------------------------------------

TEST_CASE("paper: append_entries of an older term is refused with the newer one (Raft §5.1)") {
  auto keeper = keeper_with({1, 2}, 4);
  keeper.append('b', 3, 3, 2, {3});
  auto reply = keeper.said_to<append_entries_reply>('b');
  REQUIRE(reply);
  CHECK_FALSE(reply->success);
  CHECK_EQ(reply->term, term_number{4});
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 2});
  CHECK(keeper->leader().empty());
}

TEST_CASE("paper: a follower refuses entries after a gap (Raft §5.3)") {
  auto keeper = keeper_with({1, 1}, 1);
  keeper.append('b', 2, 5, 2, {2});
  auto reply = keeper.said_to<append_entries_reply>('b');
  REQUIRE(reply);
  CHECK_FALSE(reply->success);
  CHECK_EQ(reply->conflict_index, log_index{4});
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 1});
}

TEST_CASE("paper: a follower refuses entries after one of another term, and names that term's first (Raft §5.3)") {
  auto keeper = keeper_with({1, 2, 2, 2}, 2);
  keeper.append('b', 4, 5, 3, {4});
  auto reply = keeper.said_to<append_entries_reply>('b');
  REQUIRE(reply);
  CHECK_FALSE(reply->success);
  CHECK_EQ(reply->conflict_term, term_number{2});
  CHECK_EQ(reply->conflict_index, log_index{3});
  CHECK_EQ(reply->prev_log_index, log_index{5});
}

TEST_CASE("paper: a conflicting entry goes, with all that follow it (Raft §5.3)") {
  auto keeper = keeper_with({1, 2, 2, 2}, 2);
  keeper.append('b', 3, 2, 1, {3});
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 3});
  CHECK_EQ(keeper.disk.size(), 3);
}

TEST_CASE("paper: entries that are there already are not touched (Raft §5.3)") {
  auto keeper = keeper_with({1, 2, 2, 2}, 2);
  keeper.append('b', 2, 2, 1, {2});
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 2, 2, 2});
  auto reply = keeper.said_to<append_entries_reply>('b');
  REQUIRE(reply);
  CHECK(reply->success);
  CHECK_EQ(reply->match_index, log_index{3});
}

TEST_CASE("paper: new entries are appended (Raft §5.3)") {
  auto keeper = keeper_with({1}, 1);
  keeper.append('b', 1, 2, 1, {1, 1});
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 1, 1});
  CHECK_EQ(keeper.said_to<append_entries_reply>('b')->match_index, log_index{4});
}

TEST_CASE("paper: a log converges to the leader's, whatever it was (Raft §5.3, figure 7)") {
  const terms leader{1, 1, 1, 4, 4, 5, 5, 6, 6, 6};
  const std::vector<terms> followers{
      {1, 1, 4, 4, 5, 5, 6, 6},          {1, 1, 4},          {1, 1, 4, 4, 5, 5, 6, 6, 6, 6},
      {1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7}, {1, 1, 4, 4, 4, 4}, {1, 1, 2, 2, 2, 3, 3, 3, 3, 3}};
  for (auto& log : followers) {
    auto keeper = keeper_with(log, 7);
    auto prev = leader.size();
    // As a leader goes back: to the conflicting term's first index, at each refusal.
    for (int round = 0; round < 10; ++round) {
      keeper.append('b', 8, prev, leader[prev - 1],
                    terms(leader.begin() + static_cast<std::ptrdiff_t>(prev), leader.end()));
      auto reply = keeper.said_to<append_entries_reply>('b');
      REQUIRE(reply);
      if (reply->success)
        break;
      prev = reply->conflict_index.value - 1;
    }
    keeper.append('b', 8, leader.size(), leader.back(), {8});
    auto expected = leader;
    expected.push_back(8);
    CHECK_EQ(keeper.log_terms(), expected);
  }
}

TEST_CASE("paper: commit_index becomes the leader's, but no more than the last new entry (Raft figure 2)") {
  auto keeper = keeper_with({1, 1, 1}, 1);
  keeper.append('b', 1, 2, 1, {1}, 9);
  CHECK_EQ(keeper.commit(), 3);
  keeper.append('b', 1, 3, 1, {1}, 3);
  CHECK_EQ(keeper.commit(), 3);
  keeper.append('b', 1, 4, 1, {}, 4);
  CHECK_EQ(keeper.commit(), 4);
  keeper.append('b', 1, 3, 1, {}, 2);
  CHECK_EQ(keeper.commit(), 4);
}

// -- figure 2: RequestVote, receiver -----------------------------------------------------------

TEST_CASE("paper: a vote request of an older term is refused with the newer one (Raft §5.1)") {
  auto keeper = keeper_with({1}, 4);
  keeper.request_vote('b', 3, 9, 3);
  auto reply = keeper.said_to<request_vote_reply>('b');
  REQUIRE(reply);
  CHECK_FALSE(reply->vote_granted);
  CHECK_EQ(reply->term, term_number{4});
}

TEST_CASE("paper: one vote a term, for who asks first (Raft §5.2)") {
  auto keeper = keeper_with({1}, 1);
  keeper.request_vote('b', 2, 2, 1);
  CHECK(keeper.said_to<request_vote_reply>('b')->vote_granted);
  keeper.request_vote('c', 2, 9, 1);
  CHECK_FALSE(keeper.said_to<request_vote_reply>('c')->vote_granted);
  // The same candidate may ask again: its answer may have been lost.
  keeper.request_vote('b', 2, 2, 1);
  CHECK(keeper.said_to<request_vote_reply>('b')->vote_granted);
  keeper.request_vote('c', 3, 2, 1);
  CHECK(keeper.said_to<request_vote_reply>('c')->vote_granted);
}

TEST_CASE("paper: one vote a term, across a restart too (Raft §5.2)") {
  auto keeper = keeper_with({1}, 1);
  keeper.request_vote('b', 2, 2, 1);
  keeper.restart();
  keeper.request_vote('c', 2, 9, 1);
  CHECK_FALSE(keeper.said_to<request_vote_reply>('c')->vote_granted);
}

TEST_CASE("paper: a vote goes only to a log that is at least as up to date (Raft §5.4.1)") {
  struct {
    terms voter;
    std::uint64_t last_index, last_term;
    bool granted;
  } const cases[] = {
      {{1, 1}, 3, 1, true},   // Equal.
      {{1, 1}, 4, 1, true},   // Longer.
      {{1, 1}, 2, 1, false},  // Shorter.
      {{1, 1}, 2, 2, true},   // Shorter, of a later term.
      {{1, 2}, 9, 1, false},  // Longer, of an earlier term.
      {{2, 2}, 3, 2, true},
  };
  for (auto& c : cases) {
    CAPTURE(c.last_index);
    CAPTURE(c.last_term);
    auto keeper = keeper_with(c.voter, 3);
    keeper.request_vote('b', 4, c.last_index, c.last_term);
    CHECK_EQ(keeper.said_to<request_vote_reply>('b')->vote_granted, c.granted);
    // The term is taken over all the same.
    CHECK_EQ(keeper.term(), 4);
  }
}

// -- figure 2: all servers --------------------------------------------------------------------

TEST_CASE("paper: what is committed is applied, in order and once (Raft §5.3)") {
  auto keeper = keeper_with({1, 1, 1}, 1);
  keeper.append('b', 1, 4, 1, {}, 3);
  keeper.load();
  CHECK_EQ(keeper.applied.size(), 3);
  keeper.append('b', 1, 4, 1, {1, 1}, 6);
  keeper.load();
  REQUIRE_EQ(keeper.applied.size(), 6);
  for (std::size_t i = 0; i < 6; ++i)
    CHECK_EQ(keeper.applied[i].index, log_index{i + 1});
}

TEST_CASE("paper: a later term in any message makes a follower of anyone (Raft §5.1)") {
  SUBCASE("in append_entries") {
    auto keeper = keeper_with({1}, 1);
    keeper.become_leader();
    REQUIRE(keeper.leads());
    keeper.append('b', 9, 2, 1);
    CHECK_EQ(keeper->role(), node_role::follower);
    CHECK_EQ(keeper.term(), 9);
    CHECK_EQ(keeper->leader(), member_id('b'));
  }
  SUBCASE("in the answer to append_entries") {
    auto keeper = keeper_with({1}, 1);
    keeper.become_leader();
    append_entries_reply reply;
    reply.from = member_sender('b');
    reply.term = term_number{9};
    reply.answers_term = keeper->current_term();
    keeper.take(keeper->on_append_entries_reply(reply, keeper.now()));
    CHECK_EQ(keeper->role(), node_role::follower);
    CHECK_EQ(keeper.term(), 9);
  }
  SUBCASE("in a vote request, even one that is refused") {
    auto keeper = keeper_with({1, 1}, 1);
    keeper.become_leader();
    keeper.request_vote('b', 9, 1, 1);
    CHECK_FALSE(keeper.said_to<request_vote_reply>('b')->vote_granted);
    CHECK_EQ(keeper->role(), node_role::follower);
    CHECK_EQ(keeper.term(), 9);
  }
  SUBCASE("in the answer to a vote request or a beat") {
    auto keeper = keeper_with({1}, 1);
    keeper.become_leader();
    keeper.take(keeper->on_higher_term(term_number{9}, keeper.now()));
    CHECK_EQ(keeper->role(), node_role::follower);
    CHECK_EQ(keeper.term(), 9);
  }
  SUBCASE("in a beat") {
    auto keeper = keeper_with({1}, 1);
    keeper.become_leader();
    keeper.beat('c', 9);
    CHECK_EQ(keeper->role(), node_role::follower);
    CHECK_EQ(keeper->leader(), member_id('c'));
  }
}

// -- figure 2: followers and candidates ----------------------------------------------------------

TEST_CASE("paper: a follower that hears a leader or votes does not campaign (Raft §5.2)") {
  auto keeper = keeper_with({1}, 1);
  keeper.append('b', 1, 2, 1);
  keeper.advance(milliseconds{100});
  keeper.ask_leave(milliseconds{200});
  REQUIRE(keeper.campaign);
  CHECK_EQ(keeper.campaign->leave, 0);
  CHECK_EQ(keeper.campaign->retry_after, milliseconds{100});
  keeper.request_vote('c', 2, 2, 1);
  keeper.advance(milliseconds{150});
  keeper.ask_leave(milliseconds{200});
  CHECK_EQ(keeper.campaign->leave, 0);
  CHECK_EQ(keeper.campaign->retry_after, milliseconds{50});
}

TEST_CASE("paper: on conversion to candidate it raises its term, votes for itself and asks all (Raft §5.2)") {
  auto keeper = keeper_with({1, 3}, 3, 5);
  keeper.ask_leave();
  REQUIRE(keeper.campaign);
  CHECK(keeper.campaign->pre_vote);
  keeper.tally(keeper.campaign->leave, {'b', 'c'});
  CHECK_EQ(keeper->role(), node_role::candidate);
  CHECK_EQ(keeper.term(), 4);
  CHECK_EQ(keeper->voted_for(), member_id('a'));
  CHECK_FALSE(keeper.campaign->pre_vote);
  CHECK_EQ(keeper.campaign->term, term_number{4});
  CHECK_EQ(keeper.campaign->last_log_index, log_index{3});
  CHECK_EQ(keeper.campaign->last_log_term, term_number{3});
  CHECK_EQ(keeper.campaign->voters.size(), 4);

  election campaigns{{member_sender('a'), milliseconds{150}, milliseconds{300}, milliseconds{50}, 1}};
  for (auto name : {'b', 'c', 'd', 'e'})
    campaigns.on_peer_up(member_id(name));
  auto actions = campaigns.on_campaign_leave(*keeper.campaign, milliseconds{0});
  REQUIRE_EQ(actions.requests.size(), 4);
  CHECK_EQ(actions.requests[0].second.term, term_number{4});
  CHECK(actions.arm);
}

TEST_CASE("paper: votes of a majority make a leader, fewer do not (Raft §5.2)") {
  for (std::size_t members : {1, 2, 3, 4, 5}) {
    CAPTURE(members);
    auto keeper = keeper_with({1}, 1, members);
    keeper.ask_leave();
    if (members > 1)
      keeper.tally(keeper.campaign->leave, {'b', 'c', 'd', 'e'});
    std::vector<char> others{'b', 'c', 'd', 'e'};
    for (std::size_t votes = 1; votes < members / 2 + 1; ++votes) {
      CHECK_FALSE(keeper.leads());
      coordinator::tally counted{keeper.campaign->leave, {}};
      for (std::size_t i = 0; i < votes; ++i)
        counted.granted.push_back(member_sender(others[i]));
      keeper.take(keeper->on_tally(counted, keeper.now()));
    }
    CHECK(keeper.leads());
    CHECK_EQ(keeper.term(), 2);
  }
}

TEST_CASE("paper: one voter's vote counts once (Raft §5.2)") {
  auto keeper = keeper_with({1}, 1, 5);
  keeper.ask_leave();
  keeper.tally(keeper.campaign->leave, {'b', 'c'});
  keeper.tally(keeper.campaign->leave, {'b', 'b', 'b'});
  CHECK_EQ(keeper->role(), node_role::candidate);
}

TEST_CASE("paper: a candidate gives way to a leader of its own term, not to one of an older (Raft §5.2)") {
  auto keeper = keeper_with({1}, 1);
  keeper.ask_leave();
  keeper.tally(keeper.campaign->leave, {'b'});
  REQUIRE_EQ(keeper->role(), node_role::candidate);
  keeper.append('c', 1, 2, 1);
  CHECK_EQ(keeper->role(), node_role::candidate);
  CHECK_EQ(keeper.said_to<append_entries_reply>('c')->term, term_number{2});
  keeper.append('c', 2, 2, 1);
  CHECK_EQ(keeper->role(), node_role::follower);
  CHECK_EQ(keeper->leader(), member_id('c'));
  CHECK_EQ(keeper->voted_for(), member_id('a'));
}

TEST_CASE("paper: a candidate that wins nothing in its time begins anew, in a later term (Raft §5.2)") {
  auto keeper = keeper_with({1}, 1);
  keeper.ask_leave();
  keeper.tally(keeper.campaign->leave, {'b'});
  REQUIRE_EQ(keeper.term(), 2);
  keeper.advance(milliseconds{300});
  keeper.ask_leave();
  REQUIRE_NE(keeper.campaign->leave, 0);
  keeper.tally(keeper.campaign->leave, {'b'});
  CHECK_EQ(keeper.term(), 3);
}

TEST_CASE("paper: time-outs are drawn at random from their range (Raft §5.2)") {
  std::set<milliseconds> drawn;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    election campaigns{{member_sender('a'), milliseconds{150}, milliseconds{300}, milliseconds{50}, seed}};
    auto delay = campaigns.start(milliseconds{0}).arm->delay;
    CHECK_GE(delay, milliseconds{150});
    CHECK_LE(delay, milliseconds{300});
    drawn.insert(delay);
  }
  CHECK_GT(drawn.size(), 25);
}

// -- figure 2: leaders ----------------------------------------------------------------------------

TEST_CASE("paper: a new leader is heard at once, and again and again (Raft §5.2)") {
  auto keeper = keeper_with({1}, 1);
  keeper.peers_up();
  keeper.become_leader();
  REQUIRE(keeper.beats);
  REQUIRE_EQ(keeper.beats->targets.size(), 2);
  heartbeat beats{{member_sender('a'), milliseconds{150}}};
  beats.on_peer_up(member_id('b'), milliseconds{0});
  CHECK_EQ(beats.on_beat_leave(*keeper.beats, milliseconds{0}).beats.size(), 1);
  CHECK_EQ(beats.on_tick(milliseconds{50}).beats.size(), 1);
}

TEST_CASE("paper: a command is appended to the leader's log and sent to all (Raft §5.3)") {
  auto keeper = keeper_with({1}, 1);
  keeper.peers_up();
  keeper.become_leader();
  keeper.acknowledge('b', 3);
  keeper.acknowledge('c', 3);
  keeper.take_said<append_entries>();
  keeper.propose({"x", "y"});
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 2, 2, 2});
  auto sent = keeper.take_said<append_entries>();
  REQUIRE_EQ(sent.size(), 2);
  CHECK_EQ(sent[0].second.prev_log_index, log_index{3});
  CHECK_EQ(sent[0].second.prev_log_term, term_number{2});
  REQUIRE_EQ(sent[0].second.entries.size(), 2);
  CHECK_EQ(sent[0].second.entries[1].payload, "y");
}

TEST_CASE("paper: only a leader takes commands, the others say who leads (Raft §8)") {
  auto keeper = keeper_with({1}, 1);
  keeper.append('b', 1, 2, 1);
  keeper.propose({"x"});
  auto reply = keeper.said<proposal_rejected>();
  REQUIRE(reply);
  CHECK_EQ(reply->leader, member_id('b'));
  CHECK_EQ(keeper.log_terms(), terms{1, 1});
}

TEST_CASE("paper: next_index starts after the leader's last entry and goes back over conflicts (Raft §5.3)") {
  auto keeper = keeper_with({1, 2, 2, 4}, 4);
  keeper.peers_up();
  keeper.become_leader();
  auto probe = keeper.said_to<append_entries>('b');
  REQUIRE(probe);
  CHECK_EQ(probe->prev_log_index, log_index{5});
  // Its log is too short.
  keeper.refuse('b', 5, 0, 5);
  probe = keeper.said_to<append_entries>('b');
  REQUIRE(probe);
  CHECK_EQ(probe->prev_log_index, log_index{4});
  CHECK_EQ(probe->entries.size(), 2);
  SUBCASE("after its own last entry of the term in the way, where it has that term") {
    keeper.refuse('b', 4, 1, 1);
    keeper.load();
    probe = keeper.said_to<append_entries>('b');
    REQUIRE(probe);
    CHECK_EQ(probe->prev_log_index, log_index{2});
  }
  SUBCASE("before all of that term, where it does not") {
    keeper.refuse('b', 4, 3, 2);
    keeper.load();
    probe = keeper.said_to<append_entries>('b');
    REQUIRE(probe);
    CHECK_EQ(probe->prev_log_index, log_index{1});
  }
  keeper.acknowledge('b', 6);
  CHECK_EQ(keeper.commit(), 6);
}

TEST_CASE("paper: append_entries is sent again until it is answered (Raft §5.3)") {
  auto keeper = keeper_with({1}, 1);
  keeper.peers_up();
  keeper.become_leader();
  keeper.take_said<append_entries>();
  for (int i = 0; i < 5; ++i) {
    // The other follower keeps the leader in contact.
    keeper.advance(milliseconds{299});
    keeper.acknowledge('c', 3);
    keeper.advance(milliseconds{1});
    keeper.tick();
    auto again = keeper.said_to<append_entries>('b');
    REQUIRE(again);
    CHECK_EQ(again->prev_log_index, log_index{2});
    CHECK_EQ(again->entries.size(), 1);
  }
}

TEST_CASE("paper: an entry of the own term is committed once it is on a majority (Raft §5.3)") {
  auto keeper = keeper_with({1}, 1, 5);
  keeper.peers_up();
  keeper.become_leader();
  keeper.propose({"x"});
  keeper.acknowledge('b', 4);
  CHECK_EQ(keeper.commit(), 1);
  keeper.acknowledge('c', 3);
  CHECK_EQ(keeper.commit(), 3);
  keeper.acknowledge('d', 4);
  CHECK_EQ(keeper.commit(), 4);
}

TEST_CASE("paper: an entry of an earlier term does not commit by counting (Raft §5.4.2, figure 8)") {
  auto keeper = keeper_with({2}, 3);
  keeper.peers_up();
  keeper.become_leader();
  keeper.acknowledge('b', 2);
  keeper.acknowledge('c', 2);
  CHECK_EQ(keeper.commit(), 1);
  keeper.acknowledge('b', 3);
  CHECK_EQ(keeper.commit(), 3);
}

TEST_CASE("paper: a leader never overwrites or deletes its own entries (Raft figure 3)") {
  auto keeper = keeper_with({1}, 1);
  keeper.become_leader();
  keeper.append('b', 2, 1, 1, {2});
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 2});
  CHECK(keeper.leads());
}

// -- the rest of section 5, and section 8 --------------------------------------------------------------

TEST_CASE("paper: answers and requests that come twice change nothing (Raft §5.5)") {
  auto follower = keeper_with({1}, 1);
  for (int i = 0; i < 3; ++i)
    follower.append('b', 1, 2, 1, {1, 1}, 3);
  CHECK_EQ(follower.log_terms(), terms{1, 1, 1, 1});
  CHECK_EQ(follower.disk.size(), 4);
  follower.load();
  CHECK_EQ(follower.applied.size(), 3);

  auto leader = keeper_with({1}, 1);
  leader.peers_up();
  leader.become_leader();
  for (int i = 0; i < 3; ++i)
    leader.acknowledge('b', 3);
  leader.acknowledge('b', 2);
  CHECK_EQ(leader.commit(), 3);
}

TEST_CASE("paper: a new leader commits an entry of its term at once (Raft §8)") {
  auto keeper = keeper_with({1}, 1);
  keeper.become_leader();
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 2});
  CHECK_EQ(keeper.disk.back().kind, entry_kind::noop);
}

TEST_CASE("paper: a read waits for a round of beats that began after it (Raft §8)") {
  auto keeper = keeper_with({1}, 1);
  keeper.peers_up();
  keeper.become_leader();
  keeper.acknowledge('b', 3);
  keeper.read(1);
  CHECK_FALSE(keeper.said<read_index_reply>());
  REQUIRE(keeper.wanted);
  keeper.round(keeper.wanted->read, {'c'});
  auto reply = keeper.said<read_index_reply>();
  REQUIRE(reply);
  CHECK(reply->ok);
  CHECK_EQ(reply->index, log_index{3});
}
