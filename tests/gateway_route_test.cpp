#include "actors/gateway_route.hpp"

#include <doctest/doctest.h>

using namespace coordinator;
using std::chrono::milliseconds;

namespace {

const node_id n2{"n2"};
const node_id n3{"n3"};
const node_id none;

/// At n1, a follower of n2, linked to all.
gateway_route following() {
  gateway_route route{{"n1"}};
  route.peer_up(n2);
  route.peer_up(n3);
  route.role({node_role::follower, {3}, n2, false});
  return route;
}

}  // namespace

TEST_CASE("gateway route: a hint is followed, and the keeper's word ends it") {
  auto route = following();
  CHECK(route.redirect(n2, n3, milliseconds{100}));
  REQUIRE(route.target());
  CHECK(*route.target() == n3);
  CHECK(route.redirects() == 1);
  CHECK(route.role({node_role::follower, {4}, n3, false}));
  CHECK(*route.target() == n3);
  CHECK(route.role({node_role::follower, {5}, n2, false}));
  CHECK(*route.target() == n2);
}

TEST_CASE("gateway route: a leader that named a successor which never took over is asked again") {
  auto route = following();
  REQUIRE(route.redirect(n2, n3, milliseconds{100}));
  // The keeper has nothing to say: leader and term are what they were. The refusal is no reason to ask at once.
  CHECK_FALSE(route.redirect(n3, n2, milliseconds{101}));
  CHECK(*route.target() == n2);
  CHECK(route.redirects() == 1);
}

TEST_CASE("gateway route: a hint to a node that says nothing, or is gone, does not last") {
  auto route = following();
  REQUIRE(route.redirect(n2, n3, milliseconds{100}));
  route.expire(milliseconds{1099});
  CHECK(*route.target() == n3);
  route.expire(milliseconds{1100});
  CHECK(*route.target() == n2);
  REQUIRE(route.redirect(n2, n3, milliseconds{1200}));
  CHECK(route.peer_down(n3));
  CHECK(*route.target() == n2);
  CHECK(route.peer_down(n2));
  CHECK_FALSE(route.target());
}

TEST_CASE("gateway route: what names nobody else, or comes from a node not asked, is no hint") {
  auto route = following();
  CHECK_FALSE(route.redirect(n2, none, milliseconds{100}));
  CHECK_FALSE(route.redirect(n2, n2, milliseconds{100}));
  CHECK_FALSE(route.redirect(n2, {"n1"}, milliseconds{100}));
  CHECK_FALSE(route.redirect(n3, n2, milliseconds{100}));
  CHECK(*route.target() == n2);
  CHECK(route.redirects() == 0);
}
