#include "actors/fleet_actor.hpp"

#include <doctest/doctest.h>

#include "tests/support/local_node.hpp"

using namespace coordinator;

namespace {

worker_beat beat_of(const std::string& worker, const std::string& status = {}) {
  worker_beat x;
  x.worker_id = worker;
  x.status = status;
  return x;
}

}  // namespace

TEST_CASE("fleet actor: a heartbeat that changes the status is answered when the change is committed") {
  local_node node;
  node.lead();
  node.write(local_node::worker("w"));
  node.run();
  node.keeper->hold = true;
  auto slot = node.beat(beat_of("w", "busy"));
  node.run();
  CHECK_FALSE(slot->has_value());
  node.release();
  REQUIRE(slot->has_value());
  CHECK((*slot)->outcome == write_result::outcome::applied);
  CHECK(node.keeper->logged<set_worker_status>().size() == 1);
  node.keeper->hold = false;
  auto again = node.beat(beat_of("w", "busy"));
  node.run();
  CHECK(again->has_value());
  CHECK(node.keeper->logged<set_worker_status>().size() == 1);
}

TEST_CASE("fleet actor: a worker that nobody registered is told so") {
  local_node node;
  node.lead();
  auto slot = node.beat(beat_of("w"));
  node.run();
  REQUIRE(slot->has_value());
  CHECK((*slot)->unknown_worker);
}

TEST_CASE("fleet actor: a silent worker is taken offline, one that is heard is not, and a claim is heard") {
  local_node node;
  node.lead();
  for (auto id : {"silent", "beating", "claiming"})
    node.write(local_node::worker(id));
  node.run();
  for (int second = 0; second < 40; second += 10) {
    node.beat(beat_of("beating"));
    node.claim("claiming", milliseconds{5000});
    node.pass(10000);
  }
  auto offline = node.keeper->logged<mark_offline>();
  REQUIRE(offline.size() == 1);
  CHECK(offline[0].workers == std::vector<std::string>{"silent"});
}

TEST_CASE("fleet actor: a claim of a worker that was taken for dead brings it back") {
  local_node node;
  node.lead();
  node.write(local_node::worker("w"));
  node.run();
  node.pass(31000);
  REQUIRE(node.keeper->logged<mark_offline>().size() == 1);
  node.claim("w", milliseconds{1000});
  node.pass(100);
  CHECK(node.keeper->logged<set_worker_status>().size() == 1);
}

TEST_CASE("fleet actor: a new leader starts from the applied state and gives everybody a period of grace") {
  local_node node;
  node.tell(node_role::follower, 1, "n2");
  node.commit(open_session{{"n2"}, {12}, 5});
  node.commit(local_node::worker("w"), 1, 1);
  node.pass(60000);
  CHECK(node.keeper->logged<mark_offline>().empty());
  node.tell(node_role::leader, 2, "n1");
  node.pass(29000);
  CHECK(node.keeper->logged<mark_offline>().empty());
  node.pass(2000);
  CHECK(node.keeper->logged<mark_offline>().size() == 1);
}

TEST_CASE("fleet actor: leadership won again in a later term starts anew") {
  local_node node;
  node.lead();
  node.write(local_node::worker("w"));
  node.run();
  node.pass(20000);
  node.tell(node_role::leader, 2, "n1");
  node.pass(20000);
  CHECK(node.keeper->logged<mark_offline>().empty());
}

TEST_CASE("fleet actor: a node that does not lead proposes nothing and has no timer") {
  local_node node;
  node.lead();
  node.write(local_node::worker("w"));
  node.run();
  node.tell(node_role::follower, 2, "n2");
  node.pass(40000);
  CHECK(node.keeper->logged<mark_offline>().empty());
  CHECK_FALSE(node.system.has_timer());
}

TEST_CASE("fleet actor: rows that end with time get an entry a second, and an idle log none") {
  local_node node;
  node.lead();
  node.write(local_node::put("k", "v"));
  node.run();
  node.pass(10000);
  CHECK(node.keeper->logged<tick>().empty());
  write_request keyed;
  keyed.body = local_node::put("k", "v");
  keyed.idempotency_key = "once";
  node.port->write(std::move(keyed), [](write_result) {});
  node.pass(10000);
  auto ticks = node.keeper->logged<tick>().size();
  CHECK(ticks >= 7);
  CHECK(ticks <= 11);
}

TEST_CASE("fleet actor: finished tasks leave once they are old enough in applied time, with no entry before") {
  fleet_options options;
  options.retention_ms = 60'000;
  local_node node{nullptr, options};
  node.lead();
  node.write(local_node::tasks(1'200));
  node.run();
  for (int i = 0; i < 1'200; ++i)
    node.write(cancel_task{"t" + std::to_string(i)});
  node.run();
  node.pass(59'000);
  CHECK(node.keeper->logged<tick>().empty());
  node.pass(5'000);
  CHECK(node.keeper->logged<retire_tasks>().size() == 3);
  CHECK(node.keeper->logged<tick>().size() <= 3);
  auto counts = node.read(get_counts{});
  node.run();
  REQUIRE(counts->has_value());
  CHECK(std::get<counts_view>((*counts)->result).tasks_by_status == status_counts{});
  auto entries = node.keeper->log.size();
  node.pass(60'000);
  CHECK(node.keeper->log.size() == entries);
}

TEST_CASE("fleet actor: new tasks are refused while the node's files hold more than the quota") {
  fleet_options options;
  options.quota_bytes = 1'000;
  local_node node{nullptr, options};
  node.lead();
  auto submit = [&](const std::string& prefix) {
    auto slot = node.write(local_node::tasks(1, prefix));
    node.pass(500);
    REQUIRE(slot->has_value());
    return (*slot)->result.code;
  };
  CHECK(submit("a") == result_code::ok);
  caf::anon_send(node.fleet, storage_use{1'001});
  node.pass(500);
  CHECK(submit("b") == result_code::storage_full);
  CHECK(node.intake->known().storage_full);
  caf::anon_send(node.fleet, storage_use{950});
  node.pass(500);
  CHECK(submit("b") == result_code::storage_full);
  caf::anon_send(node.fleet, storage_use{800});
  node.pass(500);
  CHECK(submit("b") == result_code::ok);
  CHECK_FALSE(node.intake->known().storage_full);
  CHECK(node.keeper->logged<set_storage_alarm>().size() == 2);
}
