#include <doctest/doctest.h>

#include "actors/heartbeat.hpp"
#include "tests/support/scripted_keeper.hpp"

using namespace coordinator;

namespace {

constexpr milliseconds start{1'000};

beat_leave leave_of(std::uint64_t leave, std::uint64_t term = 3) {
  return {leave, term_number{term}, {{member_id('b'), log_index{7}}, {member_id('c'), log_index{5}}}};
}

heartbeat connected_heartbeat() {
  heartbeat beats{{member_sender('a'), milliseconds{150}}};
  for (auto name : {'b', 'c'})
    beats.on_peer_up(member_id(name), start);
  return beats;
}

beat_reply answer(char from, std::uint64_t round, std::uint64_t term = 3, std::uint64_t answers = 3) {
  return {member_sender(from), term_number{term}, term_number{answers}, round};
}

}  // namespace

TEST_CASE("heartbeat: without leave there is no beat") {
  auto beats = connected_heartbeat();
  CHECK_FALSE(beats.beating());
  CHECK(beats.on_tick(start).beats.empty());
  beats.on_beat_leave(leave_of(1), start);
  CHECK(beats.beating());
  beats.on_beat_leave({}, start);
  CHECK_FALSE(beats.beating());
  CHECK(beats.on_tick(start).beats.empty());
}

TEST_CASE("heartbeat: new leave is followed by a beat at once, with each peer's own commit index (rule 4)") {
  auto beats = connected_heartbeat();
  auto actions = beats.on_beat_leave(leave_of(1), start);
  REQUIRE_EQ(actions.beats.size(), 2);
  CHECK_EQ(actions.beats[0].first, member_id('b'));
  CHECK_EQ(actions.beats[0].second.commit_index, log_index{7});
  CHECK_EQ(actions.beats[1].second.commit_index, log_index{5});
  CHECK_EQ(actions.beats[0].second.term, term_number{3});
  CHECK(beats.on_beat_leave(leave_of(1), start).beats.empty());
}

TEST_CASE("heartbeat: leave that is not renewed runs out, as when the keeper hangs (rule 5)") {
  auto beats = connected_heartbeat();
  beats.on_beat_leave(leave_of(1), start);
  CHECK_EQ(beats.on_tick(start + milliseconds{149}).beats.size(), 2);
  CHECK(beats.on_tick(start + milliseconds{150}).beats.empty());
  beats.on_beat_leave(leave_of(1), start + milliseconds{200});
  CHECK_EQ(beats.on_tick(start + milliseconds{200}).beats.size(), 2);
}

TEST_CASE("heartbeat: says who answered which round, and when that began") {
  auto beats = connected_heartbeat();
  auto round = beats.on_beat_leave(leave_of(1), start).beats[0].second.round;
  auto one = beats.on_beat_reply(answer('b', round));
  REQUIRE(one.evidence);
  CHECK_EQ(one.evidence->leave, 1);
  CHECK_EQ(one.evidence->began, start);
  CHECK_EQ(one.evidence->answered, std::vector<sender>{member_sender('b')});
  CHECK_EQ(beats.on_beat_reply(answer('b', round)).evidence->answered.size(), 1);
  CHECK_EQ(beats.on_beat_reply(answer('c', round)).evidence->answered.size(), 2);
  // Another round, other answers.
  auto next = beats.on_tick(start + milliseconds{50}).beats[0].second.round;
  CHECK_EQ(beats.on_beat_reply(answer('b', next)).evidence->answered.size(), 1);
}

TEST_CASE("heartbeat: a round is for the reads that came before it, and no others (rule 7)") {
  auto beats = connected_heartbeat();
  auto before = beats.on_beat_leave(leave_of(1), start).beats[0].second.round;
  auto actions = beats.on_want_round({1, 9}, start + milliseconds{10});
  REQUIRE_EQ(actions.beats.size(), 2);
  CHECK_EQ(beats.on_beat_reply(answer('b', before)).evidence->read, 0);
  CHECK_EQ(beats.on_beat_reply(answer('b', actions.beats[0].second.round)).evidence->read, 9);
  // Where an answer was lost, a later round serves as well.
  auto later = beats.on_tick(start + milliseconds{50}).beats[0].second.round;
  CHECK_EQ(beats.on_beat_reply(answer('b', later)).evidence->read, 9);
}

TEST_CASE("heartbeat: a read that came while the leave had run out is served after its renewal") {
  auto beats = connected_heartbeat();
  beats.on_beat_leave(leave_of(1), start);
  CHECK(beats.on_want_round({1, 9}, start + milliseconds{400}).beats.empty());
  beats.on_beat_leave(leave_of(1), start + milliseconds{401});
  auto actions = beats.on_tick(start + milliseconds{402});
  REQUIRE_EQ(actions.beats.size(), 2);
  CHECK_EQ(beats.on_beat_reply(answer('b', actions.beats[0].second.round)).evidence->read, 9);
}

TEST_CASE("heartbeat: a round for another leave is none of its business (rule 7)") {
  auto beats = connected_heartbeat();
  beats.on_beat_leave(leave_of(1), start);
  CHECK(beats.on_want_round({2, 9}, start).beats.empty());
  auto round = beats.on_tick(start).beats[0].second.round;
  CHECK_EQ(beats.on_beat_reply(answer('b', round)).evidence->read, 0);
}

TEST_CASE("heartbeat: answers to the beats of an earlier leave, or of another term, prove nothing") {
  auto beats = connected_heartbeat();
  auto old = beats.on_beat_leave(leave_of(1), start).beats[0].second.round;
  beats.on_beat_leave(leave_of(2, 4), start);
  CHECK_FALSE(beats.on_beat_reply(answer('b', old, 4, 4)).evidence);
  auto round = beats.on_tick(start).beats[0].second.round;
  CHECK_FALSE(beats.on_beat_reply(answer('b', round, 4, 3)).evidence);
  CHECK_FALSE(beats.on_beat_reply(answer('b', round, 3, 4)).evidence);
  CHECK(beats.on_beat_reply(answer('b', round, 4, 4)).evidence);
}

TEST_CASE("heartbeat: a later term in an answer goes to the keeper (rule 1)") {
  auto beats = connected_heartbeat();
  auto round = beats.on_beat_leave(leave_of(1), start).beats[0].second.round;
  auto actions = beats.on_beat_reply(answer('b', round, 8));
  REQUIRE(actions.term);
  CHECK_EQ(actions.term->term, term_number{8});
  CHECK_FALSE(actions.evidence);
  // Also when nothing is led any more.
  beats.on_beat_leave({}, start);
  CHECK(beats.on_beat_reply(answer('b', round, 9)).term);
}

TEST_CASE("heartbeat: who comes back hears the leader at once, who is away is not written to") {
  auto beats = connected_heartbeat();
  beats.on_beat_leave(leave_of(1), start);
  beats.on_peer_down(member_id('c'));
  CHECK_EQ(beats.on_tick(start).beats.size(), 1);
  auto actions = beats.on_peer_up(member_id('c'), start);
  REQUIRE_EQ(actions.beats.size(), 1);
  CHECK_EQ(actions.beats[0].first, member_id('c'));
  CHECK(beats.on_peer_up(member_id('z'), start).beats.empty());
}

TEST_CASE("heartbeat: tells election when the leader's link breaks, and only then") {
  auto beats = connected_heartbeat();
  beats.on_role_changed({node_role::follower, term_number{3}, member_id('b'), false});
  CHECK_FALSE(beats.on_peer_down(member_id('c')).gone);
  auto actions = beats.on_peer_down(member_id('b'));
  REQUIRE(actions.gone);
  CHECK_EQ(actions.gone->leader, member_id('b'));
  CHECK_EQ(actions.gone->term, term_number{3});
}
