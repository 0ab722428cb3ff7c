#include "actors/gateway_reads.hpp"

#include <doctest/doctest.h>

#include "tests/support/gateway_rig.hpp"

using namespace coordinator;

namespace {

using rig = gateway_rig;

}  // namespace

TEST_CASE("gateway: reads share a read_index, but ride only on one that was sent after they came in") {
  auto r = rig::following();
  auto a = r->get();
  auto b = r->get();
  r->flush();
  REQUIRE(r->indexes.size() == 1);
  auto c = r->get();
  r->flush();
  CHECK(r->indexes.size() == 1);
  r->x->indexed(indexed("n2", r->indexes[0].second, 50), r->now);
  r->flush();
  REQUIRE(r->queries.size() == 2);
  CHECK(r->queries[0].request == a);
  CHECK(r->queries[1].request == b);
  CHECK(r->queries[0].min_index == log_index{50});
  // The third one rides on the next, which leaves as the first returns.
  REQUIRE(r->indexes.size() == 2);
  r->x->indexed(indexed("n2", r->indexes[0].second, 51), r->now);
  r->flush();
  CHECK(r->queries.size() == 2);
  r->x->indexed(indexed("n2", r->indexes[1].second, 52), r->now);
  r->flush();
  REQUIRE(r->queries.size() == 3);
  CHECK(r->queries[2].request == c);
  r->x->answered({c, {53}, key_view{"k", "v", 5, 0}});
  r->flush();
  REQUIRE(r->answer<read_result>(c));
  CHECK(r->answer<read_result>(c)->ok);
  CHECK(r->answer<read_result>(c)->applied_index == log_index{53});
}

TEST_CASE("gateway: a read waits out an election and asks the new leader") {
  auto r = rig::following();
  auto t = r->get();
  r->flush();
  r->x->peer_down({"n2"});
  r->lead_by("", 4);
  CHECK(r->indexes.size() == 1);
  r->lead_by("n3", 4);
  REQUIRE(r->indexes.size() == 2);
  CHECK(r->indexes[1].first == node_id{"n3"});
  // The old leader's late answer counts for nothing: it may have been deposed when it gave it.
  r->x->indexed(indexed("n2", r->indexes[0].second, 50), r->now);
  r->flush();
  CHECK(r->queries.empty());
  r->x->indexed(indexed("n3", r->indexes[1].second, 60), r->now);
  r->flush();
  REQUIRE(r->queries.size() == 1);
  CHECK(r->queries[0].request == t);
  CHECK(r->queries[0].min_index == log_index{60});
}

TEST_CASE("gateway: a refused or unanswered read_index is repeated after a pause") {
  auto r = rig::following();
  r->get();
  r->flush();
  r->x->indexed({{{"n2"}, {1}}, r->indexes.at(0).second.request, false, {}, {}}, r->now);
  r->flush();
  CHECK(r->indexes.size() == 1);
  r->pass(20);
  CHECK(r->indexes.size() == 2);
  r->pass(300);
  CHECK(r->indexes.size() == 3);
  CHECK(r->indexes[2].second.request != r->indexes[1].second.request);
}

TEST_CASE("gateway: a leader that is not ready is not asked for a read index") {
  rig r;
  r.x->role({node_role::leader, {3}, {"n1"}, false});
  r.get();
  r.flush();
  CHECK(r.indexes.empty());
  r.lead_by("n1", 3);
  REQUIRE(r.indexes.size() == 1);
  CHECK(r.indexes[0].first == node_id{"n1"});
}

TEST_CASE("gateway: a read that timed out is answered once and keeps no question going") {
  auto r = rig::following();
  auto t = r->get(true, 100);
  r->flush();
  r->pass(100);
  REQUIRE(r->answer<read_result>(t));
  CHECK_FALSE(r->answer<read_result>(t)->ok);
  CHECK(r->answer<read_result>(t)->reason == "timeout");
  r->pass(300);
  CHECK(r->indexes.size() == 1);
  CHECK_FALSE(r->x->next_wake());
}

TEST_CASE("gateway: a stale read needs no leader, and is refused past its age") {
  rig r;
  auto any = r.get(false);
  auto fresh = r.get(false, 5000, 100);
  r.flush();
  CHECK(r.status_asked == 1);
  CHECK(r.indexes.empty());
  r.x->leader_contact(250);
  r.flush();
  REQUIRE(r.queries.size() == 1);
  CHECK(r.queries[0].request == any);
  CHECK(r.queries[0].min_index == log_index{0});
  REQUIRE(r.answer<read_result>(fresh));
  CHECK(r.answer<read_result>(fresh)->reason == "too_stale");
  r.x->answered({any, {9}, key_view{}});
  r.flush();
  CHECK(r.answer<read_result>(any)->leader_contact_ms == 250);
}
