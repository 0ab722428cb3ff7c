#include "tests/support/state_driver.hpp"

using namespace coordinator;
using namespace coordinator::testing;

namespace {

using ids = std::vector<std::string>;

worker_status status_of(state_driver& x, const std::string& id) {
  return x.worker_of(id).status;
}

}  // namespace

TEST_CASE("workers: a registration is kept as it came, and another one updates it") {
  state_driver x;
  register_worker w;
  w.worker_id = "w";
  w.host = "host-1";
  w.port = 9000;
  w.capabilities = {{"cpu", 8}};
  w.capabilities_json = R"({"cpu":8})";
  w.slots = 2;
  auto first = x.run(w);
  CHECK(first.version == x.machine().last_applied().value);
  x.submit(task("a"));
  CHECK(x.claim("w") == ids{"a"});
  w.host = "host-2";
  auto second = x.outcome(w);
  CHECK(second.result.version > first.version);
  CHECK(std::get<worker_event>(second.events.fleet.at(0)).change == worker_change::registered);
  x.restart();
  auto view = x.worker_of("w");
  CHECK(view.host == "host-2");
  CHECK(view.port == 9000);
  CHECK(view.capabilities_json == R"({"cpu":8})");
  CHECK(view.session == second.result.version);
  CHECK(view.registered_ms == x.now_ms);
  CHECK(view.attempts == std::vector<attempt_ref>{{"a", 1}});
}

TEST_CASE("workers: what a worker holds shows as running without a word of its own") {
  state_driver x;
  x.worker("w");
  CHECK(status_of(x, "w") == worker_status::idle);
  x.submit(task("a"));
  x.claim("w");
  CHECK(status_of(x, "w") == worker_status::running);
  x.run(complete_task{"a", "w", 1, "{}"});
  CHECK(status_of(x, "w") == worker_status::idle);
  x.run(set_worker_status{"w", worker_status::busy, "mine"});
  CHECK(status_of(x, "w") == worker_status::busy);
  CHECK(x.worker_of("w").current_task == "mine");
}

TEST_CASE("workers: unknown ones are sent to register") {
  state_driver x;
  CHECK(x.code(claim_tasks{"w", 1}) == result_code::not_found);
  CHECK(x.code(set_worker_status{"w", worker_status::idle, {}}) == result_code::not_found);
  CHECK(x.code(drain_worker{"w"}) == result_code::not_found);
  CHECK(x.code(remove_worker{"w"}) == result_code::not_found);
  CHECK(x.code(mark_offline{{"w"}}) == result_code::ok);
  CHECK(x.code(report_figures{{{"w", 1, 1, 1, 1, {}}}}) == result_code::ok);
  CHECK(x.get<query_error>(get_worker{"w"}).code == query_error::kind::not_found);
}

TEST_CASE("workers: a draining one keeps what it has and gets no more until it registers again") {
  state_driver x;
  x.worker("w", 2);
  x.submit(task("a"));
  x.submit(task("b"));
  x.claim("w");
  x.run(drain_worker{"w"});
  CHECK(status_of(x, "w") == worker_status::draining);
  x.run(set_worker_status{"w", worker_status::idle, {}});
  x.restart();
  CHECK(status_of(x, "w") == worker_status::draining);
  CHECK(x.code(claim_tasks{"w", 1}) == result_code::worker_unavailable);
  CHECK(x.code(complete_task{"a", "w", 1, "{}"}) == result_code::ok);
  x.worker("w", 2);
  CHECK(x.claim("w") == ids{"b"});
  x.run(set_worker_status{"w", worker_status::draining, {}});
  CHECK(x.code(claim_tasks{"w", 1}) == result_code::worker_unavailable);
}

TEST_CASE("workers: an offline one loses its tasks to the queue, and is idle again once it speaks") {
  state_driver x;
  x.worker("w", 2);
  x.worker("v");
  x.submit(task("a"));
  x.submit(task("b"));
  x.claim("w", 2);
  x.run(mark_running{{{"a", 1}}});
  auto outcome = x.outcome(mark_offline{{"w", "nobody"}});
  CHECK(outcome.events.work_available);
  CHECK(outcome.events.fleet.size() == 3);
  CHECK(status_of(x, "w") == worker_status::offline);
  CHECK(x.status("a") == task_status::pending);
  CHECK(x.task("a").attempts[0].outcome == attempt_outcome::worker_offline);
  CHECK(x.code(claim_tasks{"w", 1}) == result_code::worker_unavailable);
  CHECK(x.claim("v") == ids{"a"});
  CHECK(x.task("a").attempt == 2);
  CHECK(x.code(complete_task{"a", "w", 1, "{}"}) == result_code::stale_attempt);
  x.run(set_worker_status{"w", worker_status::idle, {}});
  CHECK(status_of(x, "w") == worker_status::idle);
  CHECK(x.claim("w", 2) == ids{"b"});
}

TEST_CASE("workers: a removed one is gone, and its tasks go back to the queue") {
  state_driver x;
  x.worker("w", 2);
  x.worker("v", 2);
  x.submit(task("a"));
  x.claim("w");
  auto outcome = x.outcome(remove_worker{"w"});
  CHECK(std::get<worker_event>(outcome.events.fleet.back()).change == worker_change::removed);
  CHECK(x.get<query_error>(get_worker{"w"}).code == query_error::kind::not_found);
  x.restart();
  CHECK(x.get<worker_page>(list_workers{"", 10}).workers.size() == 1);
  CHECK(x.claim("v") == ids{"a"});
}

TEST_CASE("workers: figures are kept, and time of the last heartbeat does not go back") {
  state_driver x;
  x.worker("w");
  x.run(report_figures{{{"w", x.now_ms + 100, 12.5, 34.25, 0.1, "a"}}});
  x.run(report_figures{{{"w", x.now_ms + 50, 12.5, 34.25, 0.1, "a"}}});
  x.restart();
  auto view = x.worker_of("w");
  CHECK(view.last_heartbeat_ms == x.now_ms + 100);
  CHECK(view.cpu_usage == 12.5);
  CHECK(view.memory_usage == 34.25);
  CHECK(view.gpu_usage == doctest::Approx(0.1));
  CHECK(view.current_task == "a");
}

TEST_CASE("workers: of those who wait, as many are called as there is work for, or they would be refused") {
  state_driver x;
  x.worker("a");
  x.worker("b");
  x.worker("c");
  x.worker("full");
  x.worker("drained");
  x.submit(task("0"));
  x.claim("full");
  x.run(drain_worker{"drained"});
  x.submit(task("1"));
  x.submit(task("2"));
  using places = std::vector<std::size_t>;
  auto pick = [&](std::vector<claimant> waiting) { return x.machine().pick_claimants(waiting); };
  CHECK(pick({{"full"}, {"a"}, {"b"}, {"c"}}) == places{1, 2});
  // Work that was promised to one is not offered to another, wherever the promise stands in the list.
  CHECK(pick({{"a"}, {"b"}, {"c", 1, true}}) == places{0});
  CHECK(pick({{"unknown"}, {"drained"}, {"a"}}) == places{0, 1, 2});
  CHECK(pick({{"unknown", 1, true}}).empty());
}

TEST_CASE("workers: the fleet's view holds all workers and all active attempts") {
  state_driver x;
  x.worker("a", 2);
  x.worker("b");
  auto timed = task("1");
  timed.timeout_ms = 500;
  x.submit(timed);
  x.submit(task("2"));
  x.submit(task("3"));
  x.claim("a", 2);
  x.run(mark_running{{{"2", 1}}});
  x.run(mark_offline{{"b"}});
  auto view = x.machine().view_for_fleet();
  REQUIRE(view.workers.size() == 2);
  CHECK(view.workers[1].offline);
  REQUIRE(view.attempts.size() == 2);
  CHECK(view.attempts[0].attempt == attempt_ref{"1", 1});
  CHECK(view.attempts[0].timeout_ms == 500);
  CHECK_FALSE(view.attempts[0].running);
  CHECK(view.attempts[1].running);
  CHECK(view.attempts[1].worker_id == "a");
}
