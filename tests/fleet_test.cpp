#include "actors/fleet.hpp"

#include <doctest/doctest.h>

#include <cmath>

using namespace coordinator;

namespace {

using ids = std::vector<std::string>;
constexpr std::int64_t start = 1'000'000;

/// A fleet at a new leader, with time of its own. Commands that it proposes are not applied unless a test does.
struct leader {
  fleet core;
  std::int64_t now = start;

  leader() { core.on_leader({}, now); }

  void registered(const std::string& id) {
    standing({id, worker_status::idle, false, false}, worker_change::registered);
  }
  void standing(worker_standing x, worker_change change = worker_change::changed) {
    core.apply(worker_event{std::move(x), change}, now);
  }
  void attempt(const attempt_ref& x, const std::string& worker, attempt_change change,
               attempt_outcome outcome = attempt_outcome::none, std::int64_t timeout_ms = 0) {
    core.apply(attempt_event{x, worker, change, outcome, timeout_ms}, now);
  }
  void assigned(const std::string& task, std::uint32_t number, const std::string& worker, std::int64_t timeout_ms = 0) {
    attempt({task, number}, worker, attempt_change::assigned, attempt_outcome::none, timeout_ms);
  }
  heard beat(const std::string& worker, std::vector<attempt_id> running, std::string status = {}) {
    worker_beat x;
    x.worker_id = worker;
    x.status = std::move(status);
    x.lists_running = true;
    x.running = std::move(running);
    return core.beat(x, now);
  }
  std::vector<command_body> tick(bool has_timed_rows = false) {
    fleet_conditions applied;
    applied.has_timed_rows = has_timed_rows;
    core.conditions(applied, now);
    return core.tick(now, now + 7);
  }

  /// Ticks for a while, with these heartbeats once a second, and gives all proposals of one kind.
  template <class Body>
  std::vector<Body> during(std::int64_t ms, const std::string& worker = {},
                           const std::vector<attempt_id>& running = {}) {
    std::vector<Body> result;
    for (auto end = now + ms; now < end;) {
      now += 250;
      if (!worker.empty() && now % 1'000 == 0)
        beat(worker, running);
      for (auto& each : tick())
        if (auto body = std::get_if<Body>(&each))
          result.push_back(*body);
    }
    return result;
  }
};

template <class Body>
const Body* find(const std::vector<command_body>& commands) {
  for (auto& each : commands)
    if (auto body = std::get_if<Body>(&each))
      return body;
  return nullptr;
}

}  // namespace

TEST_CASE("fleet: an unknown worker is told to register") {
  leader x;
  CHECK_FALSE(x.beat("w", {}).known);
  CHECK_FALSE(x.core.claimed("w", x.now).known);
  x.registered("w");
  CHECK(x.beat("w", {}).known);
  x.standing({"w", {}, false, false}, worker_change::removed);
  CHECK_FALSE(x.beat("w", {}).known);
}

TEST_CASE("fleet: a worker silent for its time-out is marked offline, one that beats or claims is not") {
  leader x;
  x.registered("silent");
  x.registered("beats");
  x.registered("claims");
  for (int i = 0; i < 29; ++i) {
    x.now += 1'000;
    x.beat("beats", {});
    x.core.claimed("claims", x.now);
    CHECK_FALSE(find<mark_offline>(x.tick()));
  }
  x.now += 1'000;
  auto commands = x.tick();
  auto offline = find<mark_offline>(commands);
  REQUIRE(offline);
  CHECK(offline->workers == ids{"silent"});
  CHECK_FALSE(find<mark_offline>(x.tick()));
  x.standing({"silent", {}, false, true});
  CHECK(x.during<mark_offline>(20'000, "beats").empty());
}

TEST_CASE("fleet: an expiry that is not applied is proposed again, whatever the worker says meanwhile") {
  leader x;
  x.registered("w");
  CHECK(x.during<mark_offline>(30'000).size() == 1);
  CHECK(x.during<mark_offline>(4'000, "w").empty());
  CHECK(x.during<mark_offline>(1'000, "w").size() == 1);
}

TEST_CASE("fleet: an offline worker that speaks again becomes idle, or what it says") {
  leader x;
  x.registered("w");
  x.standing({"w", worker_status::idle, false, true});
  CHECK(x.beat("w", {}).propose_status == worker_status::idle);
  CHECK(x.core.claimed("w", x.now).propose_status == worker_status::idle);
  CHECK(x.beat("w", {}, "busy").propose_status == worker_status::busy);
  x.standing({"w", worker_status::idle, false, false});
  CHECK_FALSE(x.beat("w", {}).propose_status);
  CHECK(x.during<mark_offline>(29'000).empty());
}

TEST_CASE("fleet: only a change of what a worker says is proposed") {
  leader x;
  x.registered("w");
  CHECK_FALSE(x.beat("w", {}, "idle").propose_status);
  CHECK_FALSE(x.beat("w", {}, "nonsense").propose_status);
  CHECK_FALSE(x.beat("w", {}, "offline").propose_status);
  CHECK(x.beat("w", {}, "busy").propose_status == worker_status::busy);
  CHECK(x.beat("w", {}, "draining").propose_status == worker_status::draining);
  x.standing({"w", worker_status::idle, true, false});
  CHECK_FALSE(x.beat("w", {}, "draining").propose_status);
  CHECK_FALSE(x.beat("w", {}, "idle").propose_status);
  // What it holds shows anyway, so its word for it costs no entry.
  x.assigned("t", 1, "w");
  CHECK_FALSE(x.beat("w", {{"t", 1}}, "running").propose_status);
}

TEST_CASE("fleet: an attempt that is listed is marked running once, and lives as long as it is listed") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  CHECK_FALSE(find<mark_running>(x.tick()));
  x.beat("w", {{"t", 1}});
  auto commands = x.tick();
  auto running = find<mark_running>(commands);
  REQUIRE(running);
  CHECK(running->attempts == std::vector<attempt_ref>{{"t", 1}});
  CHECK(x.during<mark_running>(1'000, "w", {{"t", 1}}).empty());
  x.attempt({"t", 1}, "w", attempt_change::running);
  CHECK(x.during<expire_attempts>(100'000, "w", {{"t", 1}}).empty());
}

TEST_CASE("fleet: starts are told together, one command a tick") {
  leader x;
  x.registered("w");
  for (int i = 0; i < 50; ++i)
    x.assigned("t" + std::to_string(i), 1, "w");
  for (int i = 0; i < 50; ++i)
    x.beat("w", {{"t" + std::to_string(i), 1}});
  auto commands = x.tick();
  CHECK(commands.size() == 1);
  CHECK(find<mark_running>(commands)->attempts.size() == 50);
}

TEST_CASE("fleet: an attempt that a live worker never lists goes back without using up an attempt") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  CHECK(x.during<expire_attempts>(14'500, "w").empty());
  auto expired = x.during<expire_attempts>(1'000, "w");
  REQUIRE(expired.size() == 1);
  CHECK(expired[0].attempts.at(0).attempt == attempt_ref{"t", 1});
  CHECK(expired[0].attempts.at(0).reason == attempt_outcome::lease_lost);
}

TEST_CASE("fleet: an attempt that a live worker listed and lists no more uses one up") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  x.beat("w", {{"t", 1}});
  auto expired = x.during<expire_attempts>(16'000, "w");
  REQUIRE(expired.size() == 1);
  CHECK(expired[0].attempts.at(0).reason == attempt_outcome::worker_offline);
}

TEST_CASE("fleet: silence is no sign that an attempt is lost before the worker is offline") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  x.beat("w", {{"t", 1}});
  CHECK(x.during<expire_attempts>(29'000).empty());
  CHECK(x.during<mark_offline>(1'000).size() == 1);
}

TEST_CASE("fleet: once an expiry is proposed renewals are refused and the worker is told to stop") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  CHECK(x.during<expire_attempts>(15'000, "w").size() == 1);
  CHECK(x.beat("w", {{"t", 1}}).cancel == ids{"t"});
  // The proposal was lost: it is made again, for nothing that the worker did since will count.
  CHECK(x.during<expire_attempts>(6'000, "w", {{"t", 1}}).size() == 1);
  x.attempt({"t", 1}, "w", attempt_change::ended, attempt_outcome::lease_lost);
  CHECK(x.beat("w", {{"t", 1}}).cancel == ids{"t"});

  leader y;
  y.registered("w");
  y.assigned("t", 1, "w");
  CHECK(y.during<mark_offline>(30'000).size() == 1);
  CHECK(y.beat("w", {{"t", 1}}).cancel == ids{"t"});
}

TEST_CASE("fleet: a worker whose task was cancelled is told until it has stopped") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  x.beat("w", {{"t", 1}});
  x.attempt({"t", 1}, "w", attempt_change::ended, attempt_outcome::cancelled);
  for (int i = 0; i < 60; ++i) {
    x.now += 1'000;
    CHECK(x.beat("w", {{"t", 1}}).cancel == ids{"t"});
  }
  CHECK(x.beat("w", {}).cancel.empty());
  CHECK(x.beat("w", {}).cancel.empty());
}

TEST_CASE("fleet: a task cancelled before its worker heard of it is named to it for a lease's time") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  x.attempt({"t", 1}, "w", attempt_change::ended, attempt_outcome::cancelled);
  CHECK(x.beat("w", {}).cancel == ids{"t"});
  x.now += 15'000;
  CHECK(x.beat("w", {}).cancel.empty());
}

TEST_CASE("fleet: an attempt that ended by the worker's own word is not stopped") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  x.attempt({"t", 1}, "w", attempt_change::ended, attempt_outcome::completed);
  CHECK(x.beat("w", {{"t", 1}}).cancel.empty());
  x.assigned("u", 1, "w");
  x.attempt({"u", 1}, "w", attempt_change::ended, attempt_outcome::failed);
  CHECK(x.beat("w", {{"u", 1}}).cancel.empty());
}

TEST_CASE("fleet: a newer attempt of the same task by the same worker is not stopped for the older one's sake") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  x.attempt({"t", 1}, "w", attempt_change::ended, attempt_outcome::lease_lost);
  x.assigned("t", 2, "w");
  CHECK(x.beat("w", {{"t", 2}}).cancel.empty());
  CHECK(x.beat("w", {}).cancel.empty());
}

TEST_CASE("fleet: an attempt that is not known here is stopped only after applying had time to catch up") {
  leader x;
  x.registered("w");
  CHECK(x.beat("w", {{"t", 1}}).cancel.empty());
  x.now += 1'999;
  CHECK(x.beat("w", {{"t", 1}}).cancel.empty());
  x.now += 1;
  CHECK(x.beat("w", {{"t", 1}}).cancel == ids{"t"});
  x.assigned("t", 1, "w");
  CHECK(x.beat("w", {{"t", 1}}).cancel.empty());
}

TEST_CASE("fleet: an attempt of another worker is not renewed by who lists it") {
  leader x;
  x.registered("w");
  x.registered("thief");
  x.assigned("t", 1, "w");
  std::vector<expire_attempts> expired;
  for (int i = 0; i < 16; ++i) {
    x.now += 1'000;
    x.beat("w", {});
    x.beat("thief", {{"t", 1}});
    for (auto& each : x.tick())
      if (auto body = std::get_if<expire_attempts>(&each))
        expired.push_back(*body);
  }
  CHECK(expired.size() == 1);
  CHECK(x.beat("thief", {{"t", 1}}).cancel == ids{"t"});
}

TEST_CASE("fleet: without a running list the current task stands for it") {
  leader x;
  x.registered("w");
  x.assigned("t", 3, "w");
  worker_beat beat;
  beat.worker_id = "w";
  beat.current_task = "t";
  for (int i = 0; i < 40; ++i) {
    x.now += 1'000;
    CHECK(x.core.beat(beat, x.now).cancel.empty());
    CHECK_FALSE(find<expire_attempts>(x.tick()));
  }
  x.attempt({"t", 3}, "w", attempt_change::ended, attempt_outcome::cancelled);
  x.now += 60'000;
  CHECK(x.core.beat(beat, x.now).cancel == ids{"t"});
}

TEST_CASE("fleet: an attempt that outlives its task's time-out by a lease is ended though it is listed") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w", 20'000);
  CHECK(x.during<expire_attempts>(34'000, "w", {{"t", 1}}).empty());
  auto expired = x.during<expire_attempts>(1'000, "w", {{"t", 1}});
  REQUIRE(expired.size() == 1);
  CHECK(expired[0].attempts.at(0).reason == attempt_outcome::timeout);
}

TEST_CASE("fleet: a new leader gives every worker and every lease one full period of grace") {
  fleet core;
  fleet_view view;
  view.workers = {{"w", worker_status::idle, false, false}, {"gone", worker_status::idle, false, true}};
  view.attempts = {{{"assigned", 1}, "w", false, 0}, {{"running", 1}, "w", true, 1}};
  core.on_leader(view, start);
  CHECK(core.tick(start + 14'999, 0).empty());
  // The attempt with a time-out gets it anew, and then its lease.
  auto commands = core.tick(start + 15'001, 0);
  CHECK(find<expire_attempts>(commands)->attempts.at(0).attempt == attempt_ref{"running", 1});
  CHECK_FALSE(find<mark_offline>(core.tick(start + 29'999, 0)));
  commands = core.tick(start + 30'000, 0);
  CHECK(find<mark_offline>(commands)->workers == ids{"w"});
  core.off_leader();
  CHECK(core.tick(start + 90'000, 0).empty());
}

TEST_CASE("fleet: what ran under the leader before and is listed no more uses up an attempt") {
  leader x;
  fleet_view view;
  view.workers = {{"w", worker_status::idle, false, false}};
  view.attempts = {{{"running", 1}, "w", true, 0}, {{"assigned", 1}, "w", false, 0}};
  x.core.on_leader(view, x.now);
  auto expired = x.during<expire_attempts>(16'000, "w");
  REQUIRE(expired.size() == 1);
  REQUIRE(expired[0].attempts.size() == 2);
  CHECK(expired[0].attempts[0].reason == attempt_outcome::lease_lost);
  CHECK(expired[0].attempts[1].reason == attempt_outcome::worker_offline);
}

TEST_CASE("fleet: that others changed a worker is no sign of its life") {
  leader x;
  x.registered("w");
  x.now += 20'000;
  x.standing({"w", worker_status::idle, true, false});
  CHECK(x.during<mark_offline>(10'000).size() == 1);
}

TEST_CASE("fleet: figures go in one command a second, of those that beat since") {
  leader x;
  for (auto id : {"a", "b", "c"})
    x.registered(id);
  std::size_t reports = 0;
  for (int i = 0; i < 40; ++i) {
    x.now += 250;
    worker_beat beat;
    beat.worker_id = i % 2 == 0 ? "a" : "b";
    beat.cpu_usage = 50;
    beat.memory_usage = std::nan("");
    beat.current_task = "t";
    x.core.beat(beat, x.now);
    auto commands = x.tick();
    auto figures = find<report_figures>(commands);
    if (!figures)
      continue;
    ++reports;
    CHECK(validate(*figures).ok());
    CHECK(figures->workers.size() == 2);
    CHECK(figures->workers[0].cpu_usage.value() == 50);
    CHECK(figures->workers[0].memory_usage.value() == 0);
    CHECK(figures->workers[0].current_task == "t");
    CHECK(figures->workers[1].last_heartbeat_ms == x.now + 7);
  }
  CHECK(reports == 10);
  CHECK(x.during<report_figures>(5'000).empty());
}

TEST_CASE("fleet: a figure that was not said keeps its value") {
  leader x;
  x.registered("w");
  worker_beat beat;
  beat.worker_id = "w";
  beat.cpu_usage = 50;
  beat.gpu_usage = 1e300;
  x.core.beat(beat, x.now);
  beat.cpu_usage = -1;
  beat.gpu_usage = -1;
  x.core.beat(beat, x.now);
  x.now += 1'000;
  auto commands = x.tick();
  auto figures = find<report_figures>(commands);
  REQUIRE(figures);
  CHECK(figures->workers.at(0).cpu_usage.value() == 50);
  CHECK(figures->workers.at(0).gpu_usage.value() == limits::capability_number);
  CHECK(validate(*figures).ok());
}

TEST_CASE("fleet: time is carried once a second while rows end with it, and by no entry of its own otherwise") {
  leader x;
  std::size_t ticks = 0;
  for (int i = 0; i < 40; ++i) {
    x.now += 250;
    auto commands = x.tick(true);
    CHECK(commands.size() <= 1);
    ticks += find<tick>(commands) ? 1 : 0;
  }
  CHECK(ticks == 10);
  for (int i = 0; i < 40; ++i) {
    x.now += 250;
    CHECK(x.tick(false).empty());
  }
}

TEST_CASE("fleet: a worker that registers again keeps its leases and is alive") {
  leader x;
  x.registered("w");
  x.assigned("t", 1, "w");
  CHECK(x.during<mark_offline>(30'000).size() == 1);
  x.registered("w");
  CHECK(x.during<mark_offline>(29'000).empty());
}
