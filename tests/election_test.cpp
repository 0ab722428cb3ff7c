#include <doctest/doctest.h>

#include "actors/election.hpp"
#include "tests/support/scripted_keeper.hpp"

using namespace coordinator;

namespace {

constexpr milliseconds start{1'000};

election new_election(std::uint64_t seed = 1) {
  return election{{member_sender('a'), milliseconds{150}, milliseconds{300}, milliseconds{50}, seed}};
}

election connected_election() {
  auto campaigns = new_election();
  for (auto name : {'b', 'c'})
    campaigns.on_peer_up(member_id(name));
  return campaigns;
}

campaign_leave leave_for(std::uint64_t leave, std::uint64_t term, bool pre_vote) {
  campaign_leave result;
  result.leave = leave;
  result.term = term_number{term};
  result.pre_vote = pre_vote;
  result.last_log_index = log_index{8};
  result.last_log_term = term_number{3};
  result.voters = {member_sender('b'), member_sender('c')};
  return result;
}

request_vote_reply vote(char from, std::uint64_t term, std::uint64_t leave, bool pre_vote, bool granted = true) {
  return {member_sender(from), term_number{term}, granted, pre_vote, leave};
}

role_changed role(node_role what, std::uint64_t term, const char* leader = "") {
  return {what, term_number{term}, {leader}, false};
}

}  // namespace

TEST_CASE("election: the same seed draws the same time-outs, on every machine") {
  auto a = new_election(7), b = new_election(7), c = new_election(8);
  CHECK_EQ(a.start(start).arm->delay, b.start(start).arm->delay);
  std::vector<milliseconds> one, other;
  for (int i = 0; i < 5; ++i) {
    one.push_back(a.on_campaign_leave(leave_for(1, 2, true), start).arm->delay);
    other.push_back(c.on_campaign_leave(leave_for(1, 2, true), start).arm->delay);
  }
  CHECK_NE(one, other);
}

TEST_CASE("election: when its time-out passes it asks the keeper, and says how long it waited") {
  auto campaigns = new_election();
  auto timer = *campaigns.start(start).arm;
  auto actions = campaigns.on_timeout(timer.number, start + timer.delay);
  REQUIRE(actions.ask);
  CHECK_EQ(actions.ask->timeout, timer.delay);
  CHECK_EQ(actions.ask->transfer, term_number{0});
  // If the keeper hangs, it is asked again.
  CHECK(actions.arm);
}

TEST_CASE("election: a timer that was armed anew does not count") {
  auto campaigns = new_election();
  auto first = *campaigns.start(start).arm;
  campaign_leave refusal;
  refusal.retry_after = milliseconds{500};
  auto second = *campaigns.on_campaign_leave(refusal, start).arm;
  CHECK_FALSE(campaigns.on_timeout(first.number, start + first.delay).ask);
  CHECK(campaigns.on_timeout(second.number, start + second.delay).ask);
}

TEST_CASE("election: a late timer waits once more, by as much as it was late and one time-out at most (rule 6)") {
  auto late_by = [](milliseconds late) {
    auto campaigns = new_election();
    auto timer = *campaigns.start(start).arm;
    auto actions = campaigns.on_timeout(timer.number, start + timer.delay + late);
    if (actions.ask)
      return milliseconds{0};
    auto again = *actions.arm;
    // However late the second one is, it is not put off again.
    CHECK(campaigns.on_timeout(again.number, start + timer.delay + late + again.delay + milliseconds{900}).ask);
    return again.delay;
  };
  CHECK_EQ(late_by(milliseconds{25}), milliseconds{0});
  CHECK_EQ(late_by(milliseconds{26}), milliseconds{26});
  CHECK_EQ(late_by(milliseconds{5'000}), milliseconds{300});
}

TEST_CASE("election: refused, it asks again when the contact will be old enough") {
  auto campaigns = new_election();
  campaigns.start(start);
  campaign_leave refusal;
  refusal.retry_after = milliseconds{77};
  auto actions = campaigns.on_campaign_leave(refusal, start);
  REQUIRE(actions.arm);
  CHECK_EQ(actions.arm->delay, milliseconds{77});
  CHECK(actions.requests.empty());
}

TEST_CASE("election: with leave it asks all voters whose link is up, and the others when theirs comes up") {
  auto campaigns = new_election();
  campaigns.on_peer_up(member_id('b'));
  auto actions = campaigns.on_campaign_leave(leave_for(4, 6, false), start);
  REQUIRE_EQ(actions.requests.size(), 1);
  auto& [to, ask] = actions.requests[0];
  CHECK_EQ(to, member_id('b'));
  CHECK_EQ(ask.candidate, member_sender('a'));
  CHECK_EQ(ask.term, term_number{6});
  CHECK_EQ(ask.last_log_index, log_index{8});
  CHECK_EQ(ask.last_log_term, term_number{3});
  CHECK_FALSE(ask.pre_vote);
  CHECK_EQ(ask.leave, 4);
  CHECK_EQ(campaigns.on_peer_up(member_id('c')).requests.size(), 1);
  // Not who has granted already, nor who is no voter.
  campaigns.on_reply(vote('b', 6, 4, false));
  CHECK(campaigns.on_peer_up(member_id('b')).requests.empty());
  CHECK(campaigns.on_peer_up(member_id('z')).requests.empty());
}

TEST_CASE("election: reports who granted, with their incarnations, and counts nothing itself") {
  auto campaigns = connected_election();
  campaigns.on_campaign_leave(leave_for(4, 6, false), start);
  auto one = campaigns.on_reply(vote('b', 6, 4, false));
  REQUIRE(one.votes);
  CHECK_EQ(one.votes->leave, 4);
  CHECK_EQ(one.votes->granted, std::vector<sender>{member_sender('b')});
  auto two = campaigns.on_reply(vote('c', 6, 4, false));
  CHECK_EQ(two.votes->granted.size(), 2);
  CHECK_EQ(campaigns.on_reply(vote('c', 6, 4, false)).votes->granted.size(), 2);
}

TEST_CASE("election: refusals, answers to another campaign and pre-votes for a vote are no votes") {
  auto campaigns = connected_election();
  campaigns.on_campaign_leave(leave_for(4, 6, false), start);
  CHECK_FALSE(campaigns.on_reply(vote('b', 6, 4, false, false)).votes);
  CHECK_FALSE(campaigns.on_reply(vote('b', 6, 3, false)).votes);
  CHECK_FALSE(campaigns.on_reply(vote('b', 5, 4, true)).votes);
}

TEST_CASE("election: a vote of an earlier term is none, though leaves are numbered anew after a restart") {
  auto campaigns = connected_election();
  campaigns.on_campaign_leave(leave_for(2, 6, false), start);
  // Given to this node's last process, under leave 2 as well, in term 5.
  CHECK_FALSE(campaigns.on_reply(vote('b', 5, 2, false)).votes);
  CHECK(campaigns.on_reply(vote('b', 6, 2, false)).votes);
}

TEST_CASE("election: a later term in any answer goes to the keeper (rule 1)") {
  auto campaigns = connected_election();
  campaigns.on_role_changed(role(node_role::follower, 5), start);
  CHECK_EQ(campaigns.on_reply(vote('b', 6, 1, true, false)).term->term, term_number{6});
  campaigns.on_campaign_leave(leave_for(4, 6, true), start);
  // A pre-vote for term 6 is asked for in term 5.
  CHECK_EQ(campaigns.on_reply(vote('b', 6, 4, true, false)).term->term, term_number{6});
  CHECK_FALSE(campaigns.on_reply(vote('b', 5, 4, true, false)).term);
  // Late, and for nobody any more.
  CHECK_EQ(campaigns.on_reply(vote('c', 9, 1, false, false)).term->term, term_number{9});
}

TEST_CASE("election: a leader that appears ends the campaign") {
  auto campaigns = connected_election();
  campaigns.on_campaign_leave(leave_for(4, 6, false), start);
  campaigns.on_role_changed(role(node_role::follower, 6, "c"), start);
  CHECK_FALSE(campaigns.on_reply(vote('b', 6, 4, false)).votes);
  CHECK(campaigns.on_peer_up(member_id('b')).requests.empty());
}

TEST_CASE("election: so does a later term") {
  auto campaigns = connected_election();
  campaigns.on_campaign_leave(leave_for(4, 6, false), start);
  campaigns.on_role_changed(role(node_role::follower, 7), start);
  CHECK_FALSE(campaigns.on_reply(vote('b', 6, 4, false)).votes);
}

TEST_CASE("election: a candidate that begins anew keeps its new campaign, though word of its old role comes after it") {
  auto campaigns = connected_election();
  campaigns.on_role_changed(role(node_role::candidate, 6), start);
  campaigns.on_campaign_leave(leave_for(5, 7, true), start);
  campaigns.on_role_changed(role(node_role::follower, 6), start);
  CHECK(campaigns.on_reply(vote('b', 6, 5, true)).votes);
}

TEST_CASE("election: a leader has no time-out, and a new one when it leads no more") {
  auto campaigns = new_election();
  auto timer = *campaigns.start(start).arm;
  campaigns.on_role_changed(role(node_role::leader, 6, "a"), start);
  auto fired = campaigns.on_timeout(timer.number, start + timer.delay);
  CHECK_FALSE(fired.ask);
  CHECK_FALSE(fired.arm);
  auto actions = campaigns.on_role_changed(role(node_role::follower, 6), start);
  REQUIRE(actions.arm);
  CHECK(campaigns.on_timeout(actions.arm->number, start + actions.arm->delay).ask);
}

TEST_CASE("election: when the leader's link breaks it waits a short random time only") {
  auto campaigns = new_election();
  campaigns.start(start);
  campaigns.on_role_changed(role(node_role::follower, 6, "c"), start);
  CHECK_FALSE(campaigns.on_suspect({member_id('b'), term_number{6}}, start).arm);
  auto actions = campaigns.on_suspect({member_id('c'), term_number{6}}, start);
  REQUIRE(actions.arm);
  CHECK_LE(actions.arm->delay, milliseconds{150});
  auto fired = campaigns.on_timeout(actions.arm->number, start + actions.arm->delay);
  REQUIRE(fired.ask);
  CHECK(fired.ask->suspect);
}

TEST_CASE("election: timeout_now is for its own term only (rule 6)") {
  auto campaigns = new_election();
  campaigns.on_role_changed(role(node_role::follower, 6, "c"), start);
  CHECK_FALSE(campaigns.on_timeout_now({member_sender('c'), term_number{5}}).ask);
  auto actions = campaigns.on_timeout_now({member_sender('c'), term_number{6}});
  REQUIRE(actions.ask);
  CHECK_EQ(actions.ask->transfer, term_number{6});
}

TEST_CASE("election: a transfer's vote requests say so") {
  auto campaigns = connected_election();
  auto leave = leave_for(4, 6, false);
  leave.transfer = true;
  auto actions = campaigns.on_campaign_leave(leave, start);
  REQUIRE_EQ(actions.requests.size(), 2);
  CHECK(actions.requests[0].second.transfer);
}
