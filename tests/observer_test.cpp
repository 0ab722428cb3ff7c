#include "actors/observer.hpp"

#include <doctest/doctest.h>

#include <thread>

#include "actors/recovery_note.hpp"

using namespace coordinator;
using namespace std::chrono_literals;

namespace {

task_event task(const std::string& id) {
  return {id, "run", {}, task_status::pending};
}

role_changed led_by(const std::string& leader, std::uint64_t term, node_role role = node_role::follower) {
  return {role, {term}, {leader}, false};
}

membership members_of(std::initializer_list<const char*> ids) {
  membership result;
  for (auto id : ids)
    result.members.push_back({node_id{id}, {1}, std::string{id} + ":80", std::string{id} + ":81", true});
  return result;
}

template <class T>
std::vector<T> all_of(observer& watcher) {
  std::vector<T> found;
  for (auto& event : watcher.events().after(0, 1'000, 0ms).events)
    if (auto x = std::get_if<T>(&event.what))
      found.push_back(*x);
  return found;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("event log: readers go on from where they were, in order") {
  event_log log;
  log.add(1, {task("a"), task("b")});
  log.add(2, {task("c")});
  auto page = log.after(1, 10, 0ms);
  CHECK_FALSE(page.lost);
  REQUIRE(page.events.size() == 2);
  CHECK(page.events[0].number == 2);
  CHECK(std::get<task_event>(page.events[1].what).task_id == "c");
  CHECK(page.events[1].at_ms == 2);
  CHECK(log.after(0, 2, 0ms).events.size() == 2);
  CHECK(log.after(3, 10, 0ms).events.empty());
  CHECK_FALSE(log.after(3, 10, 0ms).lost);
}

TEST_CASE("event log: a place in the future, or one that is gone, is lost") {
  event_log log;
  CHECK(log.after(1, 10, 0ms).lost);
  for (std::size_t i = 0; i < event_log::most_events + 5; ++i)
    log.add(1, {task("t")});
  CHECK(log.last() == event_log::most_events + 5);
  CHECK(log.after(4, 10, 0ms).lost);
  CHECK_FALSE(log.after(5, 10, 0ms).lost);
  CHECK(log.after(5, 1, 0ms).events[0].number == 6);
}

TEST_CASE("event log: long ids cost the oldest events, not memory") {
  event_log log;
  for (int i = 0; i < 200; ++i)
    log.add(1, {task(std::string(1 << 20, 'x'))});
  CHECK(log.last() == 200);
  CHECK(log.after(150, 10, 0ms).lost);
  CHECK_FALSE(log.after(190, 10, 0ms).lost);
}

TEST_CASE("event log: what is rare is remembered when tasks have long pushed it out") {
  event_log log;
  log.add(7, {leadership_event{{"n1"}, {3}, node_role::leader}});
  for (std::size_t i = 0; i <= event_log::most_events; ++i)
    log.add(8, {task("t")});
  REQUIRE(log.notable().size() == 1);
  CHECK(log.notable()[0].at_ms == 7);
}

TEST_CASE("event log: a reader that waits is woken") {
  event_log log;
  std::thread writer{[&] { log.add(1, {task("a")}); }};
  CHECK(log.after(0, 10, 30s).events.size() == 1);
  writer.join();
}

TEST_CASE("latency history: percentiles are at most an eighth too high") {
  duration_counts counts;
  CHECK(counts.percentile_us(0.5) == -1);
  for (int i = 1; i <= 1'000; ++i)
    counts.add(std::chrono::microseconds{i * 10});
  CHECK(counts.total() == 1'000);
  for (auto share : {0.01, 0.5, 0.99, 1.0}) {
    auto exact = static_cast<std::int64_t>(share * 10'000);
    CAPTURE(share);
    CHECK(counts.percentile_us(share) >= exact);
    CHECK(counts.percentile_us(share) <= exact + exact / 8 + 1);
  }
  duration_counts ends;
  ends.add(std::chrono::microseconds{-5});
  CHECK(ends.percentile_us(1) == 0);
  ends.add(std::chrono::hours{1'000'000});
  CHECK(ends.percentile_us(1) > 0);
}

TEST_CASE("latency history: steps without anything are there, and old ones leave") {
  latency_history history;
  const auto step = latency_history::step;
  history.committed(3, step * 10);
  history.written(2ms, step * 10 + 1ms);
  history.committed(1, step * 12);
  auto points = history.points(step * 13 + 5ms);
  REQUIRE(points.size() == 3);
  CHECK(points[0].number == 10);
  CHECK(points[0].committed == 3);
  CHECK(points[0].writes == 1);
  CHECK(points[0].write_p99_us >= 2'000);
  CHECK(points[0].sync_p50_us == -1);
  CHECK(points[1].committed == 0);
  CHECK(points[2].committed == 1);
  CHECK(points[2].age == 5ms);
  auto later = history.points(step * 1'000);
  CHECK(later.size() == latency_history::kept);
  for (auto& point : later)
    CHECK(point.committed == 0);
}

TEST_CASE("observer: a new leader is an event and counts, and the same one again is neither") {
  observer watcher{node_id{"n1"}, 5};
  watcher.role(led_by("n2", 1));
  watcher.role(led_by("n2", 1));
  watcher.role(led_by("", 2, node_role::candidate));
  watcher.role(led_by("n2", 2));
  watcher.role(led_by("n3", 3));
  auto events = all_of<leadership_event>(watcher);
  REQUIRE(events.size() == 4);
  CHECK(events[1].leader.empty());
  CHECK(events[3].leader.value == "n3");
  CHECK(contains(watcher.figures().text(), "coordinator_leader_changes_total 2"));
}

TEST_CASE("observer: a peer that is lost, and comes back, is told once each time") {
  observer watcher{node_id{"n1"}, 5};
  watcher.link_up({"n2"});
  watcher.pong({"n2"}, 100us, {});
  watcher.link_down({"n2"}, "the connection broke");
  watcher.link_down({"n2"}, "the connection broke");
  watcher.link_up({"n2"});
  auto events = all_of<node_health_event>(watcher);
  REQUIRE(events.size() == 3);
  CHECK(events[0].healthy);
  CHECK_FALSE(events[1].healthy);
  CHECK(events[1].reason == "the connection broke");
  CHECK(events[2].healthy);
}

TEST_CASE("observer: a peer whose link is up and that does not answer is lost, until it answers") {
  observer watcher{node_id{"n1"}, 5};
  watcher.link_up({"n2"});
  watcher.look_for_silence();
  CHECK(all_of<node_health_event>(watcher).size() == 1);
  auto deadline = std::chrono::steady_clock::now() + 30s;
  while (all_of<node_health_event>(watcher).size() < 2 && std::chrono::steady_clock::now() < deadline) {
    watcher.look_for_silence();
    std::this_thread::sleep_for(10ms);
  }
  auto events = all_of<node_health_event>(watcher);
  REQUIRE(events.size() == 2);
  CHECK(events[1].reason == "it does not answer");
  CHECK_FALSE(watcher.peers()[0].up);
  watcher.pong({"n2"}, 100us, {});
  CHECK(all_of<node_health_event>(watcher).size() == 3);
  CHECK(watcher.peers()[0].up);
}

TEST_CASE("observer: of two reports on a node the younger one is kept, and passed on with its age") {
  observer watcher{node_id{"n1"}, 5};
  node_report fresh;
  fresh.node = {"n3"};
  fresh.last_applied = {20};
  node_report old = fresh;
  old.last_applied = {10};
  old.age_ms = 5'000;
  node_report own;
  own.node = {"n1"};
  own.last_applied = {99};
  watcher.pong({"n2"}, 100us, {fresh, own});
  watcher.pong({"n2"}, 100us, {old});
  auto reports = watcher.reports();
  REQUIRE(reports.size() == 2);
  CHECK(reports[0].node.value == "n1");
  CHECK(reports[0].last_applied.value == 0);
  CHECK(reports[1].last_applied.value == 20);
  old.age_ms = observer::report_life.count() + 1;
  old.node = {"n4"};
  watcher.pong({"n2"}, 100us, {old});
  CHECK(watcher.reports().size() == 2);
}

TEST_CASE("observer: members that have left are forgotten") {
  observer watcher{node_id{"n1"}, 5};
  node_report report;
  report.node = {"n3"};
  watcher.link_up({"n3"});
  watcher.pong({"n3"}, 100us, {report});
  watcher.link_down({"n3"}, "gone");
  watcher.members(members_of({"n1", "n2"}));
  watcher.members(members_of({"n1", "n2"}));
  CHECK(all_of<membership_event>(watcher).size() == 1);
  CHECK(watcher.reports().size() == 1);
  CHECK(watcher.peers().empty());
}

TEST_CASE("metrics: recoveries are there from the beginning, and strange strategies make no lines") {
  observer watcher{node_id{"n1"}, 5};
  CHECK(contains(watcher.figures().text(), "coordinator_recovery_actions_total{strategy=\"split_brain\"} 0"));
  watcher.recovered({"slow_follower", "n2", "done", {}});
  watcher.recovered({"made up", "n2", "done", {}});
  auto text = watcher.figures().text();
  CHECK(contains(text, "coordinator_recovery_actions_total{strategy=\"slow_follower\"} 1"));
  CHECK_FALSE(contains(text, "made up"));
  CHECK(all_of<recovery_event>(watcher).size() == 2);
}

TEST_CASE("metrics: a queue that is empty again leaves, and too many different ones share a line") {
  metrics figures{node_id{"n1"}, "1"};
  figures_view view;
  view.waiting.push_back({{{"cuda", true}, {"memory_gb", decimal{16.5}}, {"os", std::string{"linux"}}}, 3, 4'000});
  figures.set(view, 10'000);
  auto text = figures.text();
  CHECK(contains(text, "coordinator_queue_depth{requirement=\"cuda,memory_gb>=16.5,os=linux\"} 3"));
  CHECK(contains(text, "coordinator_queue_oldest_age_seconds{requirement=\"cuda,memory_gb>=16.5,os=linux\"} 6"));
  CHECK(contains(text, "coordinator_queue_depth{requirement=\"any\"} 0"));
  view.waiting.clear();
  for (int i = 0; i < 80; ++i)
    view.waiting.push_back({{{"c" + std::to_string(i), true}}, 2, 9'000});
  figures.set(view, 10'000);
  text = figures.text();
  CHECK_FALSE(contains(text, "cuda"));
  CHECK(contains(text, "coordinator_queue_depth{requirement=\"others\"} 60"));
  CHECK_FALSE(contains(text, "c79"));
}

TEST_CASE("observer: datagrams that arrive are told apart from answers, so that a one-way fault shows") {
  observer watcher{node_id{"n1"}, 5};
  watcher.link_up({"n2"});
  watcher.arrived_from({"n2"});
  auto link = watcher.reports()[0].links[0];
  CHECK(link.arrived_ms >= 0);
  CHECK(link.heard_ms == -1);
  watcher.pong({"n2"}, 100us, {});
  CHECK(watcher.reports()[0].links[0].heard_ms >= 0);
}

TEST_CASE("observer: what was committed a while ago is remembered, to compare it with what others said then") {
  observer watcher{node_id{"n1"}, 5};
  CHECK(watcher.committed_at(observer::steady_ms()) == log_index{});
  state_events none;
  watcher.applied({7}, {7}, none);
  watcher.look_for_silence();
  const auto then = observer::steady_ms();
  while (observer::steady_ms() == then)
    std::this_thread::yield();
  watcher.applied({9}, {9}, none);
  watcher.look_for_silence();
  CHECK(watcher.committed_at(observer::steady_ms()) == log_index{9});
  CHECK(watcher.committed_at(then) == log_index{7});
  CHECK(watcher.committed_at(0ms) == log_index{7});
}

TEST_CASE("observer: what a daemon wrote down of a recovery is told by its key, and nothing else is taken for it") {
  auto entry_of = [](const std::string& key, const std::string& value) {
    put_key put;
    put.key = key;
    put.value = value;
    command whole;
    whole.body = put;
    return log_entry{{7}, {1}, entry_kind::command, 0, encode(whole)};
  };
  const std::string key{recovery_actions_prefix};
  auto told = recovery_told_by(entry_of(
      key + "3",
      R"({"strategy":"process_crash","node":"n2","action":"start","outcome":"done","detail":"started it","took_ms":5})"));
  REQUIRE(told);
  CHECK(told->strategy == "process_crash");
  CHECK(told->target == "n2");
  CHECK(told->outcome == "start done");
  CHECK(told->detail == "started it");
  CHECK_FALSE(recovery_told_by(entry_of("x/" + key, R"({"strategy":"process_crash"})")));
  CHECK_FALSE(recovery_told_by(entry_of(key + "3", "no JSON")));
  CHECK_FALSE(recovery_told_by(entry_of(key + "3", R"({"strategy":7})")));
  CHECK_FALSE(recovery_told_by(entry_of("mine", R"({"strategy":"process_crash"})")));

  observer watcher{node_id{"n1"}, 5};
  watcher.recovered(*told);
  watcher.recovered({"process_crash", "n2", "mended", "after 5 ms"});
  CHECK(contains(watcher.figures().text(), "coordinator_recovery_actions_total{strategy=\"process_crash\"} 1"));
  CHECK(all_of<recovery_event>(watcher).size() == 2);
}
