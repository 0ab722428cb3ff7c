#include "actors/gateway_calls.hpp"

#include <doctest/doctest.h>

#include "tests/support/gateway_rig.hpp"

using namespace coordinator;

namespace {

using outcome = enum write_result::outcome;
using rig = gateway_rig;

}  // namespace

// -- heartbeats, members, transfer --------------------------------------------------------------

TEST_CASE("gateway: a heartbeat goes to the leader's fleet, and again to the next leader's") {
  auto r = rig::following();
  worker_beat beat;
  beat.worker_id = "w";
  auto t = r->x->beat(beat, milliseconds{5000}, r->now);
  r->flush();
  REQUIRE(r->beats.size() == 1);
  CHECK(r->beats[0].second.request == t);
  r->x->beaten(beaten(r->beats[0].second, worker_beat_reply::outcome::not_leader), r->now);
  r->flush();
  CHECK(r->beats.size() == 1);
  r->lead_by("n3", 4);
  REQUIRE(r->beats.size() == 2);
  CHECK(r->beats[1].first == node_id{"n3"});
  auto reply = beaten(r->beats[1].second);
  reply.cancel = {"t9"};
  r->x->beaten(reply, r->now);
  r->flush();
  REQUIRE(r->answer<beat_result>(t));
  CHECK(r->answer<beat_result>(t)->cancel == std::vector<std::string>{"t9"});
  r->pass(1000);
  CHECK(r->beats.size() == 2);
}

TEST_CASE("gateway: a heartbeat without an answer is sent again") {
  auto r = rig::following();
  r->x->beat({}, milliseconds{5000}, r->now);
  r->flush();
  r->pass(300);
  CHECK(r->beats.size() == 2);
}

TEST_CASE("gateway: a heartbeat that changes the status is answered when the change is committed") {
  auto r = rig::following();
  worker_beat beat;
  beat.worker_id = "w";
  auto t = r->x->beat(beat, milliseconds{5000}, r->now);
  r->flush();
  auto reply = beaten(r->beats.at(0).second);
  reply.propose_status = "busy";
  reply.cancel = {"t9"};
  r->x->beaten(reply, r->now);
  r->x->beaten(reply, r->now);
  r->flush();
  CHECK_FALSE(r->answer<beat_result>(t));
  REQUIRE(r->proposals.size() == 1);
  REQUIRE(r->proposals[0].second.commands.size() == 1);
  CHECK(std::get<set_worker_status>(rig::sent(r->proposals[0].second).body).status == worker_status::busy);
  r->apply(40, 1);
  REQUIRE(r->answer<beat_result>(t));
  CHECK(r->answer<beat_result>(t)->outcome == outcome::applied);
  CHECK(r->answer<beat_result>(t)->cancel == std::vector<std::string>{"t9"});
}

TEST_CASE("gateway: the leader's view of the members is preferred, this node's own is better than none") {
  auto r = rig::following();
  auto t = r->x->cluster(milliseconds{5000}, r->now);
  r->flush();
  REQUIRE(r->clusters.size() == 1);
  CHECK(r->clusters[0].first == node_id{"n2"});
  r->pass(500);
  REQUIRE(r->clusters.size() == 2);
  CHECK(r->clusters[1].first == node_id{"n1"});
  cluster_view view;
  view.request = t;
  view.term = {3};
  r->x->viewed(view);
  r->flush();
  REQUIRE(r->answer<cluster_view>(t));
  CHECK(r->answer<cluster_view>(t)->term == term_number{3});

  rig alone;
  alone.x->cluster(milliseconds{5000}, alone.now);
  alone.flush();
  REQUIRE(alone.clusters.size() == 1);
  CHECK(alone.clusters[0].first == node_id{"n1"});
}

TEST_CASE("gateway: a transfer is done when the other node leads") {
  auto r = rig::following();
  auto t = r->x->transfer({"n3"}, milliseconds{5000}, r->now);
  r->flush();
  REQUIRE(r->transfers.size() == 1);
  CHECK(r->transfers[0].second.to == node_id{"n3"});
  transfer_reply reply;
  reply.from = {{"n2"}, {1}};
  reply.request = t;
  r->x->transferred(reply, r->now);
  r->lead_by("", 4);
  CHECK_FALSE(r->answer<transfer_result>(t));
  r->lead_by("n3", 4);
  REQUIRE(r->answer<transfer_result>(t));
  CHECK(r->answer<transfer_result>(t)->ok);
  CHECK(r->answer<transfer_result>(t)->leader == node_id{"n3"});
}

TEST_CASE("gateway: a transfer to the leader is done, to an unknown node refused, and one that fails times out") {
  auto r = rig::following();
  auto done = r->x->transfer({"n2"}, milliseconds{5000}, r->now);
  auto refused = r->x->transfer({"n9"}, milliseconds{5000}, r->now);
  auto late = r->x->transfer({}, milliseconds{5000}, r->now);
  r->flush();
  CHECK(r->answer<transfer_result>(done)->ok);
  transfer_reply reply;
  reply.from = {{"n2"}, {1}};
  reply.request = refused;
  reply.result = transfer_reply::outcome::unknown_node;
  r->x->transferred(reply, r->now);
  r->flush();
  CHECK(r->answer<transfer_result>(refused)->reason == "unknown_node");
  r->pass(5000);
  CHECK(r->answer<transfer_result>(late)->reason == "timeout");
}

namespace {

membership_reply answer(const std::pair<node_id, change_membership>& to, membership_reply::outcome result,
                        std::string leader = {}) {
  return {{to.first, {1}}, to.second.request, result, "why", {std::move(leader)}, {}};
}

}  // namespace

TEST_CASE("gateway: a change of the members goes to the leader and is answered once it is committed") {
  using outcome = membership_reply::outcome;
  auto r = rig::following();
  auto t = r->x->change_members({change_membership::change::remove, {"n3"}, true}, r->now);
  r->flush();
  REQUIRE(r->changes.size() == 1);
  CHECK(r->changes[0].first == node_id{"n2"});
  CHECK(r->changes[0].second.id == node_id{"n3"});
  CHECK(r->changes[0].second.force);
  r->x->members_changed(answer(r->changes[0], outcome::committed, "n2"), r->now);
  r->flush();
  REQUIRE(r->answer<membership_result>(t));
  CHECK(r->answer<membership_result>(t)->ok);
  CHECK(r->answer<membership_result>(t)->changed);
  CHECK(r->x->idle());
  CHECK_FALSE(r->x->next_wake());
}

TEST_CASE("gateway: a change that is refused says why, and one that is so already is no failure") {
  using outcome = membership_reply::outcome;
  for (auto [said, reason] : {std::pair{outcome::unknown_node, "unknown_node"},
                              {outcome::not_connected, "not_connected"},
                              {outcome::not_caught_up, "not_caught_up"},
                              {outcome::unsafe, "unsafe"},
                              {outcome::unchanged, ""}}) {
    auto r = rig::following();
    auto t = r->x->change_members({change_membership::change::remove, {"n9"}}, r->now);
    r->flush();
    r->x->members_changed(answer(r->changes[0], said), r->now);
    r->flush();
    REQUIRE(r->answer<membership_result>(t));
    auto result = *r->answer<membership_result>(t);
    CHECK(result.reason == reason);
    CHECK(result.detail == "why");
    CHECK(result.ok == result.reason.empty());
    CHECK_FALSE(result.changed);
    CHECK_FALSE(result.unknown);
  }
}

TEST_CASE("gateway: whether a change happened whose leader fell is learnt from the next one") {
  using outcome = membership_reply::outcome;
  for (bool happened : {true, false}) {
    auto r = rig::following();
    auto t = r->x->change_members({change_membership::change::remove, {"n9"}}, r->now);
    r->flush();
    r->x->members_changed(answer(r->changes[0], outcome::unknown), r->now);
    r->lead_by("", 4);
    CHECK_FALSE(r->answer<membership_result>(t));
    r->lead_by("n3", 4);
    REQUIRE(r->changes.size() == 2);
    CHECK(r->changes[1].first == node_id{"n3"});
    r->x->members_changed(answer(r->changes[1], happened ? outcome::unknown_node : outcome::unsafe), r->now);
    r->flush();
    REQUIRE(r->answer<membership_result>(t));
    CHECK(r->answer<membership_result>(t)->ok == happened);
    CHECK(r->answer<membership_result>(t)->changed == happened);
    CHECK_FALSE(r->answer<membership_result>(t)->unknown);
  }
}

TEST_CASE("gateway: a leader that is busy for a moment is asked again, and one that stays so refuses") {
  using outcome = membership_reply::outcome;
  auto r = rig::following();
  auto t = r->x->change_members({change_membership::change::add, {"n4"}}, r->now);
  auto never = r->x->change_members({change_membership::change::add, {"n5"}}, r->now);
  r->flush();
  REQUIRE(r->changes.size() == 2);
  for (auto each : std::vector{r->changes})
    r->x->members_changed(answer(each, outcome::busy), r->now);
  r->flush();
  CHECK(r->changes.size() == 2);
  r->pass(50);
  REQUIRE(r->changes.size() == 4);
  r->x->members_changed(answer(r->changes[2], outcome::committed), r->now);
  r->pass(1100);
  CHECK(r->answer<membership_result>(t)->ok);
  CHECK_FALSE(r->answer<membership_result>(never));
  r->x->members_changed(answer(r->changes[3], outcome::busy), r->now);
  r->flush();
  REQUIRE(r->answer<membership_result>(never));
  CHECK(r->answer<membership_result>(never)->reason == "busy");
  CHECK_FALSE(r->answer<membership_result>(never)->unknown);
}

TEST_CASE("gateway: a change that gets no answer in time says that it may happen yet") {
  auto r = rig::following();
  auto t = r->x->change_members({change_membership::change::add, {"n4"}}, r->now);
  r->flush();
  r->pass(5000);
  REQUIRE(r->answer<membership_result>(t));
  CHECK(r->answer<membership_result>(t)->unknown);
  CHECK(r->answer<membership_result>(t)->reason == "timeout");
  CHECK(r->answer<membership_result>(t)->detail != "");
  rig alone;
  auto unsent = alone.x->change_members({change_membership::change::add, {"n4"}}, alone.now);
  alone.pass(5000);
  REQUIRE(alone.answer<membership_result>(unsent));
  CHECK_FALSE(alone.answer<membership_result>(unsent)->unknown);
  CHECK(alone.answer<membership_result>(unsent)->reason != "timeout");
}
