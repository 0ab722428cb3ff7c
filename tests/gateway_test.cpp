#include "actors/gateway.hpp"

#include <doctest/doctest.h>

#include "tests/support/gateway_rig.hpp"

using namespace coordinator;

namespace {

using outcome = enum write_result::outcome;
using rig = gateway_rig;

ticket claim(rig& r, int wait_ms, std::string key = {}) {
  auto t = r.x->claim({"w", 2, milliseconds{wait_ms}, milliseconds{5000}, std::move(key), 0}, r.now);
  r.flush();
  return t;
}

void apply_claim(rig& r, std::uint64_t sequence, bool with_task) {
  applied_command done;
  done.session = 40;
  done.sequence = sequence;
  if (with_task)
    done.result.assignments.push_back({"t", 1, "{}"});
  r.x->applied({done}, r.now);
  r.flush();
}

}  // namespace

TEST_CASE("gateway: a claim counts as a heartbeat and waits for work before it is proposed") {
  auto r = rig::following();
  auto t = claim(*r, 30000);
  REQUIRE(r->beats.size() == 1);
  CHECK(r->beats[0].first == node_id{"n2"});
  CHECK(r->beats[0].second.worker_id == "w");
  CHECK(r->beats[0].second.request == 0);
  REQUIRE(r->polls.size() == 1);
  CHECK(r->polls[0].worker_id == "w");
  CHECK(r->polls[0].max_tasks == 2);
  CHECK(r->proposals.empty());
  r->x->work_ready(t);
  r->flush();
  REQUIRE(r->proposals.size() == 1);
  CHECK(std::get<claim_tasks>(rig::sent(r->proposals[0].second).body).max_tasks == 2);
  apply_claim(*r, 1, true);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->result.assignments.size() == 1);
  // The work that was kept back for it is free again.
  REQUIRE(r->polls.size() == 2);
  CHECK(r->polls[1].cancelled);
}

TEST_CASE("gateway: a claim that came too late waits again, and answers an empty list at its end") {
  auto r = rig::following();
  auto t = claim(*r, 1000);
  r->x->work_ready(t);
  r->flush();
  apply_claim(*r, 1, false);
  CHECK_FALSE(r->written(t));
  REQUIRE(r->polls.size() == 2);
  CHECK_FALSE(r->polls[1].cancelled);
  r->pass(1000);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->outcome == outcome::applied);
  CHECK(r->written(t)->result.ok());
  CHECK(r->written(t)->result.assignments.empty());
  CHECK(r->polls.back().cancelled);
}

TEST_CASE("gateway: a claim that does not wait is decided by the log") {
  auto r = rig::following();
  auto t = claim(*r, 0);
  CHECK(r->polls.empty());
  REQUIRE(r->proposals.size() == 1);
  apply_claim(*r, 1, false);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->result.assignments.empty());
}

TEST_CASE("gateway: a refused claim is answered at once") {
  auto r = rig::following();
  auto t = claim(*r, 30000);
  r->x->work_ready(t);
  r->flush();
  r->apply(40, 1, result_code::not_found);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->result.code == result_code::not_found);
}

TEST_CASE("gateway: a claim with an idempotency key asks the log first") {
  auto r = rig::following();
  claim(*r, 30000, "key");
  REQUIRE(r->proposals.size() == 1);
  CHECK(rig::sent(r->proposals[0].second).idempotency_key == "key");
}

TEST_CASE("gateway: leaving ends the long polls and lets the rest finish") {
  auto r = rig::following();
  auto c = claim(*r, 30000);
  auto w = r->put("a");
  r->flush();
  r->x->end_polls("shutting_down");
  r->flush();
  REQUIRE(r->written(c));
  CHECK(r->written(c)->outcome == outcome::not_applied);
  CHECK(r->written(c)->reason == "shutting_down");
  CHECK_FALSE(r->written(w));
  CHECK_FALSE(r->x->idle());
  r->apply(40, 1);
  CHECK(r->x->idle());
}

TEST_CASE("gateway: giving up answers everything once") {
  auto r = rig::following();
  std::vector<ticket> all{r->put("a"),
                          r->get(),
                          r->get(false),
                          claim(*r, 30000),
                          claim(*r, 0),
                          r->x->beat({}, milliseconds{5000}, r->now),
                          r->x->cluster(milliseconds{5000}, r->now),
                          r->x->transfer({}, milliseconds{5000}, r->now),
                          r->x->change_members({{}, {"n4"}}, r->now)};
  r->flush();
  auto unsent = r->put("b");
  r->x->give_up("shutting_down");
  r->flush();
  for (auto t : all)
    CHECK(r->answers.contains(t));
  CHECK(r->written(all[0])->outcome == outcome::unknown);
  CHECK(r->written(unsent)->outcome == outcome::not_applied);
  CHECK(r->x->idle());
  CHECK_FALSE(r->x->next_wake());
}

TEST_CASE("gateway: while nothing is applied at its node, what has not left is refused at once, with the reason") {
  auto r = rig::following();
  auto under_way = r->put("a");
  r->flush();
  auto poll = claim(*r, 30000);
  auto unsent = r->put("b");
  auto read = r->get();
  r->x->stand_still({"disk_failed"});
  r->flush();
  for (auto t : {unsent, poll}) {
    REQUIRE(r->written(t));
    CHECK(r->written(t)->outcome == outcome::not_applied);
    CHECK(r->written(t)->reason == "disk_failed");
  }
  REQUIRE(r->answer<read_result>(read));
  CHECK_FALSE(r->answer<read_result>(read)->ok);
  CHECK(r->answer<read_result>(read)->reason == "disk_failed");
  // A copy of this one may be applied elsewhere: that is not known before its time is up, or the disk works again.
  CHECK_FALSE(r->written(under_way));

  const auto sent = r->proposals.size();
  const auto beats = r->beats.size();
  for (auto t : {r->put("c"), claim(*r, 30000), claim(*r, 0)}) {
    r->flush();
    REQUIRE(r->written(t));
    CHECK(r->written(t)->outcome == outcome::not_applied);
    CHECK(r->written(t)->reason == "disk_failed");
  }
  CHECK(r->proposals.size() == sent);
  CHECK(r->beats.size() == beats);
  auto stale = r->get(false);
  r->flush();
  CHECK_FALSE(r->answers.contains(stale));
  CHECK(r->status_asked == 1);
}

TEST_CASE("gateway: once its node applies again it serves again, and what was under way gets its answer") {
  auto r = rig::following();
  auto under_way = r->put("a");
  r->flush();
  r->x->stand_still({"disk_failed"});
  r->flush();
  r->x->stand_still({});
  r->apply(40, 1);
  REQUIRE(r->written(under_way));
  CHECK(r->written(under_way)->outcome == outcome::applied);
  auto next = r->put("b");
  r->get();
  r->flush();
  CHECK(rig::sent(r->proposals.back().second).sequence == 2);
  CHECK(r->indexes.size() == 1);
  r->apply(40, 2);
  CHECK(r->written(next)->outcome == outcome::applied);
}

TEST_CASE("gateway: a read that waits at the state machine for its index is refused when applying stops") {
  auto r = rig::following();
  auto t = r->get();
  r->flush();
  r->x->indexed(indexed("n2", r->indexes[0].second, 9), r->now);
  r->flush();
  REQUIRE(r->queries.size() == 1);
  r->x->stand_still({"state_unusable"});
  r->flush();
  REQUIRE(r->answer<read_result>(t));
  CHECK(r->answer<read_result>(t)->reason == "state_unusable");
  // The late answer is nobody's.
  r->x->answered({t, {9}, {}});
  r->flush();
}

TEST_CASE("gateway: a heartbeat that changes the status is refused when applying stops before it left") {
  auto r = rig::following();
  auto t = r->x->beat({}, milliseconds{5000}, r->now);
  r->flush();
  r->x->stand_still({"disk_failed"});
  auto reply = beaten(r->beats[0].second);
  reply.propose_status = "busy";
  r->x->beaten(reply, r->now);
  r->flush();
  REQUIRE(r->answer<beat_result>(t));
  CHECK(r->answer<beat_result>(t)->outcome == outcome::not_applied);
  CHECK(r->answer<beat_result>(t)->reason == "disk_failed");
}
