#include "actors/gateway_writes.hpp"

#include <doctest/doctest.h>

#include "tests/support/gateway_rig.hpp"

using namespace coordinator;

namespace {

using outcome = enum write_result::outcome;
using rig = gateway_rig;

}  // namespace

// -- sessions and sequences ---------------------------------------------------------------

TEST_CASE("gateway: a session is opened as soon as a leader is known, and commands wait for it") {
  rig r;
  auto t = r.put("a");
  r.flush();
  CHECK(r.proposals.empty());
  r.x->peer_up({"n2"});
  r.lead_by("n2", 3);
  REQUIRE(r.proposals.size() == 1);
  auto open = rig::sent(r.proposals[0].second);
  CHECK(r.proposals[0].first == node_id{"n2"});
  CHECK(open.session == 0);
  CHECK(std::get<open_session>(open.body).node == node_id{"n1"});
  CHECK(std::get<open_session>(open.body).boot_id == 77);
  r.open(40);
  REQUIRE(r.proposals.size() == 1);
  auto c = rig::sent(r.proposals[0].second);
  CHECK(c.session == 40);
  CHECK(c.sequence == 1);
  CHECK(c.lowest_unanswered == 1);
  r.apply(40, 1);
  REQUIRE(r.written(t));
  CHECK(r.written(t)->outcome == outcome::applied);
  CHECK(r.written(t)->index == log_index{101});
}

TEST_CASE("gateway: a session that an earlier gateway of this node opened is not taken for its own") {
  rig r;
  r.x->peer_up({"n2"});
  r.lead_by("n2", 3);
  r.apply_open(12, 76);
  CHECK(r.x->session() == 0);
  r.apply_open(40);
  CHECK(r.x->session() == 40);
}

TEST_CASE("gateway: opening a session is proposed again when nothing came of it") {
  rig r;
  r.x->peer_up({"n2"});
  r.lead_by("n2", 3);
  auto first = r.proposals.at(0).second;
  r.x->rejected(rejection("n2", first, ""), r.now);
  r.pass(100);
  REQUIRE(r.proposals.size() == 2);
  r.pass(2000);
  REQUIRE(r.proposals.size() == 3);
  CHECK(r.proposals[2].second.commands == first.commands);
}

TEST_CASE("gateway: all that came in goes out as one message") {
  auto r = rig::following();
  for (int i = 0; i < 50; ++i)
    r->put("k" + std::to_string(i));
  r->flush();
  REQUIRE(r->proposals.size() == 1);
  CHECK(r->proposals[0].second.commands.size() == 50);
  CHECK(rig::sent(r->proposals[0].second, 49).sequence == 50);
}

TEST_CASE("gateway: the lowest unanswered sequence moves on with answers and with what was given up") {
  auto r = rig::following();
  auto first = r->put("a", 100);
  r->put("b", 60000);
  r->flush();
  r->apply(40, 2);
  r->put("c", 60000);
  r->flush();
  CHECK(rig::sent(r->proposals.back().second).sequence == 3);
  CHECK(rig::sent(r->proposals.back().second).lowest_unanswered == 1);
  r->pass(150);
  REQUIRE(r->written(first));
  r->put("d", 60000);
  r->flush();
  CHECK(rig::sent(r->proposals.back().second).lowest_unanswered == 3);
}

TEST_CASE("gateway: what no state would accept is refused at once") {
  auto r = rig::following();
  auto t = r->put(std::string(limits::key_size + 1, 'k'));
  r->flush();
  REQUIRE(r->written(t));
  CHECK(r->written(t)->result.code == result_code::invalid);
  CHECK(r->proposals.empty());
}

// -- failover -----------------------------------------------------------------------------

TEST_CASE("gateway: after a failover the same bytes go to the new leader, and one answer comes of them") {
  auto r = rig::following();
  auto t = r->put("a");
  r->flush();
  auto first = r->proposals.at(0).second;
  r->x->peer_down({"n2"});
  r->flush();
  CHECK(r->proposals.size() == 1);
  r->lead_by("", 4);
  CHECK(r->proposals.size() == 1);
  r->lead_by("n3", 4);
  REQUIRE(r->proposals.size() == 2);
  CHECK(r->proposals[1].first == node_id{"n3"});
  CHECK(r->proposals[1].second.commands == first.commands);
  r->apply(40, 1);
  r->apply(40, 1);
  CHECK(r->answers.size() == 1);
  CHECK(r->written(t)->outcome == outcome::applied);
}

TEST_CASE("gateway: a leader elected again in a later term is sent everything again") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->lead_by("n2", 4);
  REQUIRE(r->proposals.size() == 2);
  CHECK(r->proposals[1].second.commands == r->proposals[0].second.commands);
}

TEST_CASE("gateway: a refusal that names another leader is followed at once, but only once") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->x->rejected(rejection("n2", r->proposals.at(0).second, "n3"), r->now);
  r->flush();
  REQUIRE(r->proposals.size() == 2);
  CHECK(r->proposals[1].first == node_id{"n3"});
  r->x->rejected(rejection("n3", r->proposals[1].second, "n2"), r->now);
  r->flush();
  CHECK(r->proposals.size() == 2);
  REQUIRE(r->x->next_wake());
  CHECK(*r->x->next_wake() == r->now + milliseconds{20});
  r->pass(20);
  REQUIRE(r->proposals.size() == 3);
  CHECK(r->proposals[2].second.commands == r->proposals[0].second.commands);
}

TEST_CASE("gateway: a busy leader is asked again after a pause, in the order things came in") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->x->rejected(rejection("n2", r->proposals.at(0).second, "n2", true), r->now);
  r->put("b");
  r->flush();
  CHECK(r->proposals.size() == 1);
  r->pass(20);
  REQUIRE(r->proposals.size() == 2);
  REQUIRE(r->proposals[1].second.commands.size() == 2);
  CHECK(rig::sent(r->proposals[1].second, 0).sequence == 1);
}

TEST_CASE("gateway: a command without an answer is sent again, less and less often") {
  auto r = rig::following();
  r->put("a", 60000);
  r->flush();
  r->pass(999);
  CHECK(r->proposals.size() == 1);
  r->pass(1);
  CHECK(r->proposals.size() == 2);
  r->pass(1999);
  CHECK(r->proposals.size() == 2);
  r->pass(1);
  CHECK(r->proposals.size() == 3);
  CHECK(r->proposals[2].second.commands == r->proposals[0].second.commands);
}

TEST_CASE("gateway: a late refusal of an older batch does not send its commands a third time") {
  auto r = rig::following();
  r->put("a", 60000);
  r->flush();
  r->pass(1000);
  REQUIRE(r->proposals.size() == 2);
  r->x->rejected(rejection("n2", r->proposals[0].second, ""), r->now);
  r->pass(100);
  CHECK(r->proposals.size() == 2);
}

// -- time-outs ----------------------------------------------------------------------------

TEST_CASE("gateway: a time-out is not_applied as long as no copy left, and unknown afterwards") {
  rig waiting;
  auto t = waiting.put("a", 100);
  waiting.x->role({node_role::candidate, {2}, {}, false});
  waiting.pass(100);
  REQUIRE(waiting.written(t));
  CHECK(waiting.written(t)->outcome == outcome::not_applied);
  CHECK(waiting.written(t)->reason == "no_leader");

  auto r = rig::following();
  auto u = r->put("a", 100);
  r->flush();
  r->pass(99);
  CHECK_FALSE(r->written(u));
  r->pass(1);
  REQUIRE(r->written(u));
  CHECK(r->written(u)->outcome == outcome::unknown);
  CHECK(r->written(u)->reason == "timeout");
  // It may still be applied; nobody waits any more.
  r->apply(40, 1);
  CHECK(r->answers.size() == 1);
}

TEST_CASE("gateway: a refusal by a keeper proves nothing, because another copy may be under way") {
  auto r = rig::following();
  auto t = r->put("a", 100);
  r->flush();
  r->x->rejected(rejection("n2", r->proposals.at(0).second, ""), r->now);
  r->lead_by("", 4);
  r->pass(100);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->outcome == outcome::unknown);
}

TEST_CASE("gateway: an unformed node says so when the time is up") {
  rig r;
  auto w = r.put("a", 100);
  auto g = r.get(true, 100);
  r.pass(100);
  REQUIRE(r.written(w));
  CHECK(r.written(w)->reason == "unformed");
  CHECK(r.answer<read_result>(g)->reason == "unformed");
}

// -- closed sessions ------------------------------------------------------------------------

TEST_CASE("gateway: a closed session's refusal proves that the command was not applied, and it goes on in a new one") {
  auto r = rig::following();
  auto a = r->put("a");
  auto b = r->put("b");
  r->flush();
  r->apply(40, 1, result_code::closed_session);
  CHECK_FALSE(r->written(a));
  r->open(90);
  REQUIRE(r->proposals.size() == 1);
  REQUIRE(r->proposals[0].second.commands.size() == 1);
  auto again = rig::sent(r->proposals[0].second);
  CHECK(again.session == 90);
  CHECK(again.sequence == 1);
  CHECK(again.lowest_unanswered == 1);
  CHECK(std::get<put_key>(again.body).key == "a");
  // The other one has not been refused: it may have been applied before the session closed.
  r->pass(1000);
  auto& old = r->proposals.back().second;
  CHECK(rig::sent(old, old.commands.size() - 1).session == 40);
  r->apply(40, 2);
  REQUIRE(r->written(b));
  CHECK(r->written(b)->outcome == outcome::applied);
  r->apply(90, 1);
  CHECK(r->written(a)->outcome == outcome::applied);
}

TEST_CASE("gateway: after a proven refusal a time-out is not_applied") {
  auto r = rig::following();
  auto t = r->put("a", 100);
  r->flush();
  r->apply(40, 1, result_code::closed_session);
  r->pass(100);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->outcome == outcome::not_applied);
}

TEST_CASE("gateway: once another state was installed, a closed session's refusal proves nothing about earlier copies") {
  auto r = rig::following();
  auto plain = r->put("a");
  write_request w;
  w.body = put_key{"b", "v", {}, false, false};
  w.idempotency_key = "key";
  w.timeout = milliseconds{5000};
  auto keyed = r->x->write(std::move(w), r->now);
  r->flush();
  r->x->replaced();
  auto later = r->put("c");
  r->flush();
  for (std::uint64_t sequence = 1; sequence <= 3; ++sequence)
    r->apply(40, sequence, result_code::closed_session);
  REQUIRE(r->written(plain));
  CHECK(r->written(plain)->outcome == outcome::unknown);
  CHECK(r->written(plain)->reason == "state_replaced");
  // The idempotency key makes a second copy harmless, and what left after the state came has been seen since.
  CHECK_FALSE(r->written(keyed));
  CHECK_FALSE(r->written(later));
  r->open(90);
  REQUIRE(r->proposals.size() == 1);
  CHECK(r->proposals[0].second.commands.size() == 2);
}

TEST_CASE("gateway: what a state installed meanwhile may hold is never said to be not applied") {
  auto r = rig::following();
  write_request w;
  w.body = put_key{"b", "v", {}, false, false};
  w.idempotency_key = "key";
  w.timeout = milliseconds{5000};
  auto keyed = r->x->write(std::move(w), r->now);
  r->flush();
  r->x->replaced();
  r->apply(40, 1, result_code::closed_session);
  // It waits for a new session with no copy under way.
  r->x->stand_still({"disk_failed"});
  r->flush();
  CHECK_FALSE(r->written(keyed));
  r->pass(5000);
  REQUIRE(r->written(keyed));
  CHECK(r->written(keyed)->outcome == outcome::unknown);
}

TEST_CASE("gateway: a delayed copy of the opening proposal moves the gateway to the session it opened") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->apply_open(60);
  r->put("b");
  r->flush();
  auto c = rig::sent(r->proposals.back().second);
  CHECK(c.session == 60);
  CHECK(c.sequence == 1);
}

TEST_CASE("gateway: a stale sequence is proven not applied and gets another number") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->apply(40, 1, result_code::stale_sequence);
  REQUIRE(r->proposals.size() == 2);
  CHECK(rig::sent(r->proposals[1].second).sequence == 2);
}

// -- the window -----------------------------------------------------------------------------

TEST_CASE("gateway: bytes under way are bounded, and a command larger than the window goes alone") {
  auto r = rig::following(10000);
  r->put("a", 60000, std::string(6000, 'x'));
  r->put("b", 60000, std::string(6000, 'x'));
  r->put("c", 60000, std::string(20000, 'x'));
  r->flush();
  CHECK(r->proposals.size() == 1);
  CHECK(r->x->bytes_under_way() < 10000);
  r->apply(40, 1);
  CHECK(r->proposals.size() == 2);
  r->apply(40, 2);
  REQUIRE(r->proposals.size() == 3);
  CHECK(r->x->bytes_under_way() > 20000);
  r->apply(40, 3);
  CHECK(r->x->bytes_under_way() == 0);
  // Waiting for room is no reason to wake up.
  CHECK_FALSE(r->x->next_wake());
}

TEST_CASE("gateway: a full window does not make the gateway spin after a pause") {
  auto r = rig::following(10000);
  r->put("a", 60000, std::string(6000, 'x'));
  r->flush();
  r->x->rejected(rejection("n2", r->proposals.at(0).second, "", true), r->now);
  r->put("b", 60000, std::string(6000, 'x'));
  r->pass(20);
  CHECK(r->proposals.size() == 2);
  REQUIRE(r->x->next_wake());
  CHECK(*r->x->next_wake() > r->now + milliseconds{100});
}

TEST_CASE("gateway: messages to another node are small, so that beats pass") {
  auto r = rig::following();
  for (int i = 0; i < 10; ++i)
    r->put("k" + std::to_string(i), 5000, std::string(30000, 'x'));
  r->flush();
  CHECK(r->proposals.size() == 5);
}

// -- the leader's own commands --------------------------------------------------------------------

TEST_CASE("gateway: the fleet's commands are proposed only while this node leads") {
  rig r;
  r.x->peer_up({"n2"});
  r.x->propose_own({mark_offline{{"w"}}}, r.now);
  r.lead_by("n1", 3);
  r.open(40);
  CHECK(r.proposals.empty());
  r.x->propose_own({mark_offline{{"w"}}, report_figures{}}, r.now);
  r.flush();
  REQUIRE(r.proposals.size() == 1);
  CHECK(r.proposals[0].first == node_id{"n1"});
  CHECK(r.proposals[0].second.commands.size() == 2);
  r.lead_by("n2", 4);
  CHECK(r.proposals.size() == 1);
  CHECK(r.x->idle());
}
