#include "actors/gateway_actor.hpp"

#include <doctest/doctest.h>

#include <caf/scheduled_actor.hpp>

#include "tests/support/local_node.hpp"

using namespace coordinator;

namespace {

using outcome = enum write_result::outcome;

bool applied(const std::shared_ptr<std::optional<write_result>>& slot) {
  return slot->has_value() && (*slot)->outcome == outcome::applied && (*slot)->result.ok();
}

std::string value_of(const read_result& x) {
  auto found = std::get_if<key_view>(&x.result);
  return found ? found->value : "";
}

}  // namespace

TEST_CASE("gateway actor: what many threads ask while it is busy goes to the keeper as one message") {
  local_node node;
  node.lead();
  node.keeper->proposals.clear();
  std::vector<std::shared_ptr<std::optional<write_result>>> slots;
  for (int i = 0; i < 100; ++i)
    slots.push_back(node.write(local_node::put("k" + std::to_string(i), "v")));
  node.run();
  CHECK(node.keeper->proposals.size() == 1);
  for (auto& slot : slots)
    CHECK(applied(slot));
}

TEST_CASE("gateway actor: a queue that is not empty wakes nobody a second time") {
  local_node node;
  node.lead();
  for (int i = 0; i < 10; ++i)
    node.write(local_node::put("k", "v"));
  auto& mailbox = dynamic_cast<caf::scheduled_actor&>(*caf::actor_cast<caf::abstract_actor*>(node.gateway)).mailbox();
  mailbox.fetch_more();
  CHECK(mailbox.size() == 1);
  node.run();
}

TEST_CASE("gateway actor: what is gathered goes on its way once it is handed over") {
  local_node node;
  node.lead();
  node.port->gather();
  auto first = node.write(local_node::put("k", "v"));
  auto second = node.write(local_node::put("l", "v"));
  node.run();
  CHECK_FALSE(first->has_value());
  node.port->hand_over();
  node.run();
  CHECK(applied(first));
  CHECK(applied(second));
  // What waited before has its message under way, and takes what is gathered with it.
  auto before = node.write(local_node::put("k", "w"));
  node.port->gather();
  auto among = node.write(local_node::put("l", "w"));
  node.port->hand_over();
  auto& mailbox = dynamic_cast<caf::scheduled_actor&>(*caf::actor_cast<caf::abstract_actor*>(node.gateway)).mailbox();
  mailbox.fetch_more();
  CHECK(mailbox.size() == 1);
  node.run();
  CHECK(applied(before));
  CHECK(applied(among));
  // Nothing was gathered.
  node.port->gather();
  node.port->hand_over();
  auto after = node.write(local_node::put("k", "x"));
  node.run();
  CHECK(applied(after));
}

TEST_CASE("gateway actor: requests that came before a leader was known are answered when one is") {
  local_node node;
  auto slot = node.write(local_node::put("k", "v"));
  auto read = node.read(get_key{"k"});
  node.pass(1000);
  CHECK_FALSE(slot->has_value());
  node.lead();
  CHECK(applied(slot));
  CHECK(read->has_value());
}

TEST_CASE("gateway actor: a linearizable read sees what was written before it") {
  local_node node;
  node.lead();
  auto written = node.write(local_node::put("k", "v1"));
  node.run();
  auto read = node.read(get_key{"k"});
  node.run();
  REQUIRE(read->has_value());
  CHECK((*read)->ok);
  CHECK(value_of(**read) == "v1");
  CHECK((*read)->applied_index >= (*written)->index);
}

TEST_CASE("gateway actor: a stale read needs no leader and says how old its knowledge may be") {
  local_node node;
  node.keeper->leader_contact_ms = 400;
  auto any = node.read(get_key{"k"}, false);
  auto fresh = node.read(get_key{"k"}, false, 100);
  node.run();
  REQUIRE(any->has_value());
  CHECK((*any)->ok);
  CHECK((*any)->leader_contact_ms == 400);
  REQUIRE(fresh->has_value());
  CHECK((*fresh)->reason == "too_stale");
  CHECK(node.keeper->read_indexes == 0);
}

TEST_CASE("gateway actor: however many copies of a command reach the log, it applies once") {
  local_node node;
  node.lead();
  node.keeper->copies = 3;
  auto slot = node.write(put_key{"k", "v", {}, true, false});
  node.run();
  CHECK(applied(slot));

  // Lost on its way to the leader, sent to the next one, which has it twice in the end.
  node.keeper->copies = 1;
  node.keeper->hold = true;
  auto second = node.write(put_key{"l", "v", {}, true, false});
  node.run();
  node.tell(node_role::candidate, 2, "");
  node.tell(node_role::leader, 2, "n1");
  CHECK(node.keeper->logged<put_key>().size() == 5);
  node.release();
  CHECK(applied(second));
}

TEST_CASE("gateway actor: a lost proposal is made again when nothing is heard of it") {
  local_node node;
  node.lead();
  node.keeper->deaf = true;
  auto slot = node.write(local_node::put("k", "v"));
  node.run();
  node.keeper->deaf = false;
  node.pass(900);
  CHECK_FALSE(slot->has_value());
  node.pass(200);
  CHECK(applied(slot));
}

TEST_CASE("gateway actor: a time-out with a copy under way is unknown, without one it is not_applied") {
  local_node node;
  auto nobody = node.write(local_node::put("k", "v"), milliseconds{200});
  node.pass(300);
  REQUIRE(nobody->has_value());
  CHECK((*nobody)->outcome == outcome::not_applied);
  CHECK((*nobody)->reason == "unformed");
  node.lead();
  node.keeper->deaf = true;
  auto lost = node.write(local_node::put("k", "v"), milliseconds{200});
  node.pass(300);
  REQUIRE(lost->has_value());
  CHECK((*lost)->outcome == outcome::unknown);
}

TEST_CASE("gateway actor: a session closed by others is opened again and the command applies in it") {
  local_node node;
  node.lead();
  node.commit(open_session{{"n1"}, {11}, 78});
  auto slot = node.write(local_node::put("k", "v"));
  node.run();
  CHECK(applied(slot));
  CHECK(node.keeper->logged<open_session>().size() == 3);
}

TEST_CASE("gateway actor: one task wakes one of those that wait, and it gets the task") {
  local_node node;
  node.lead();
  for (auto id : {"w1", "w2", "w3"})
    node.write(local_node::worker(id));
  node.run();
  std::vector<std::shared_ptr<std::optional<write_result>>> claims;
  for (auto id : {"w1", "w2", "w3"})
    claims.push_back(node.claim(id, milliseconds{10000}));
  node.run();
  CHECK(node.keeper->logged<claim_tasks>().empty());
  node.write(local_node::tasks(1));
  node.run();
  CHECK(node.keeper->logged<claim_tasks>().size() == 1);
  REQUIRE(applied(claims[0]));
  CHECK((*claims[0])->result.assignments.size() == 1);
  CHECK_FALSE(claims[1]->has_value());
  node.write(local_node::tasks(2, "u"));
  node.run();
  CHECK(node.keeper->logged<claim_tasks>().size() == 3);
  CHECK(applied(claims[1]));
  CHECK(applied(claims[2]));
}

TEST_CASE("gateway actor: work promised to one claim wakes no other, whatever happens meanwhile") {
  local_node node;
  node.lead();
  node.commit(open_session{{"n2"}, {12}, 5});
  const auto other = node.keeper->log.back().index.value;
  node.commit(local_node::worker("w1"), other, 1);
  node.commit(local_node::worker("w2"), other, 2);
  node.claim("w1", milliseconds{60000});
  node.claim("w2", milliseconds{60000});
  node.run();
  node.keeper->proposals.clear();
  node.keeper->deaf = true;
  node.commit(local_node::tasks(1), other, 3);
  node.commit(local_node::worker("w3"), other, 4);
  std::size_t claims = 0;
  for (auto& message : node.keeper->proposals)
    claims += message.commands.size();
  CHECK(claims == 1);
}

TEST_CASE("gateway actor: work promised to a claim that failed is given to the next one") {
  local_node node;
  node.lead();
  for (auto id : {"w1", "w2"})
    node.write(local_node::worker(id));
  node.run();
  auto first = node.claim("w1", milliseconds{100});
  auto second = node.claim("w2", milliseconds{60000});
  node.run();
  node.write(local_node::tasks(1));
  // The claim is woken by the task and then lost.
  node.keeper->hold = true;
  node.run();
  node.keeper->deaf = true;
  node.keeper->hold = false;
  node.release();
  CHECK_FALSE(second->has_value());
  node.keeper->proposals.clear();
  node.pass(5500);
  node.keeper->deaf = false;
  node.pass(3000);
  REQUIRE(first->has_value());
  CHECK((*first)->outcome == outcome::unknown);
  REQUIRE(applied(second));
  CHECK((*second)->result.assignments.size() == 1);
}

TEST_CASE("gateway actor: a claim answers an empty list when its time is up, and an unknown worker at once") {
  local_node node;
  node.lead();
  node.write(local_node::worker("w"));
  node.run();
  auto waiting = node.claim("w", milliseconds{1000});
  auto unknown = node.claim("nobody", milliseconds{1000});
  node.run();
  REQUIRE(unknown->has_value());
  CHECK((*unknown)->result.code == result_code::not_found);
  node.pass(900);
  CHECK_FALSE(waiting->has_value());
  node.pass(200);
  REQUIRE(applied(waiting));
  CHECK((*waiting)->result.assignments.empty());
}

TEST_CASE("gateway actor: the view needs no quorum, and leadership no message") {
  local_node node;
  node.tell(node_role::follower, 4, "n2");
  node.commit(set_maintenance{true});
  std::optional<node_view> view;
  node.port->view([&](node_view x) { view = std::move(x); });
  node.run();
  REQUIRE(view);
  CHECK(view->last_applied == log_index{1});
  CHECK(view->http_address == "127.0.0.1:1");
  auto known = node.port->current_leadership();
  CHECK(known.node == node_id{"n1"});
  CHECK(known.leader == node_id{"n2"});
  CHECK(known.term == term_number{4});
}

TEST_CASE("gateway actor: an idle node has no timers") {
  local_node node;
  node.tell(node_role::follower, 4, "n2");
  node.pass(2000);
  CHECK_FALSE(node.system.has_timer());
}

TEST_CASE("gateway actor: leaving answers what is in flight and refuses what comes later") {
  local_node node;
  node.lead();
  node.write(local_node::worker("w"));
  node.run();
  node.keeper->hold = true;
  auto write = node.write(local_node::put("k", "v"));
  auto claim = node.claim("w", milliseconds{60000});
  node.run();
  bool idle = false;
  node.intake->leave([&] { idle = true; });
  auto late = node.write(local_node::put("l", "v"));
  node.run();
  REQUIRE(late->has_value());
  CHECK((*late)->reason == "shutting_down");
  CHECK(claim->has_value());
  CHECK_FALSE(write->has_value());
  CHECK_FALSE(idle);
  node.release();
  CHECK(applied(write));
  CHECK(idle);
}

TEST_CASE("gateway actor: what came in before the door closed is answered before it counts as left") {
  local_node node;
  node.lead();
  node.keeper->hold = true;
  // Another message is in the mailbox already, so it is handled before the queue is looked at.
  caf::anon_send(node.gateway, gateway_tick{});
  caf::anon_send(node.gateway, role_changed{node_role::leader, {1}, {"n1"}, true});
  auto write = node.write(local_node::put("k", "v"));
  bool idle = false;
  node.intake->leave([&] { idle = true; });
  node.run();
  CHECK_FALSE(idle);
  node.release();
  CHECK(applied(write));
  CHECK(idle);
}

TEST_CASE("gateway actor: when the actors end, everything is answered") {
  local_node node;
  node.lead();
  node.keeper->hold = true;
  node.keeper->leading = false;
  auto write = node.write(local_node::put("k", "v"));
  auto read = node.read(get_key{"k"});
  auto beat = node.beat({});
  node.run();
  auto queued = node.write(local_node::put("l", "v"));
  bool idle = false;
  node.intake->leave([&] { idle = true; });
  node.system.kill_all();
  CHECK(idle);
  for (auto& slot : {write, queued}) {
    REQUIRE(slot->has_value());
    CHECK((*slot)->reason == "shutting_down");
  }
  REQUIRE(read->has_value());
  CHECK_FALSE((*read)->ok);
  CHECK(beat->has_value());
  int answered = 0;
  node.port->view([&](node_view) { ++answered; });
  node.port->inject(request_vote{}, [&](auto, std::string error) { answered += error.empty() ? 0 : 1; });
  node.port->read_log({1}, 10, [&](auto) { ++answered; });
  node.port->flush_state([&](gateway_port::state_file x) { answered += x.error.empty() ? 0 : 1; });
  node.port->cluster(milliseconds{100}, [&](auto) { ++answered; });
  CHECK(answered == 5);
}
