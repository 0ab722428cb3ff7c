#include <doctest/doctest.h>

#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "http/api.hpp"
#include "http/event_json.hpp"
#include "http/http_server.hpp"
#include "http/junit.hpp"
#include "tests/support/fake_port.hpp"
#include "tests/support/raw_http.hpp"

using namespace coordinator;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

struct server_event {
  std::string id, name, data;
};

/// A reader of server-sent events.
class event_reader {
 public:
  event_reader(int port, const std::string& headers = {}, const std::string& query = {}) : http_(port) {
    http_.send("GET /api/events" + query + " HTTP/1.1\r\nHost: a\r\n" + headers + "\r\n");
  }

  /// The next event with one of these names (any, if there is none); an empty one when none came in time, or the stream
  /// has ended.
  server_event next(const std::string& name = {}) {
    auto deadline = std::chrono::steady_clock::now() + 60s;
    while (std::chrono::steady_clock::now() < deadline) {
      auto end = text_.find("\n\n");
      if (end == std::string::npos) {
        if (ended_ || !http_.read_some(raw_, 60s))
          return {};
        decode();
        if (!head_.empty() && head_.find(" 200 ") == std::string::npos)
          return {};
        continue;
      }
      auto event = parse(text_.substr(0, end + 1));
      text_.erase(0, end + 2);
      if (!event.name.empty() && (name.empty() || event.name == name))
        return event;
    }
    return {};
  }

  const std::string& head() const { return head_; }
  bool ended() const { return ended_; }
  /// Whole chunks that did not hold exactly one event or one line without meaning.
  int odd_chunks = 0;

 private:
  static server_event parse(const std::string& text) {
    server_event event;
    for (auto [mark, to] : {std::pair{"id: ", &event.id}, {"event: ", &event.name}, {"data: ", &event.data}}) {
      auto at = text.rfind(mark, 0) == 0 ? 0 : text.find(std::string{"\n"} + mark);
      if (at == std::string::npos)
        continue;
      at = text.find(mark, at) + std::string_view{mark}.size();
      *to = text.substr(at, text.find('\n', at) - at);
    }
    return event;
  }

  void decode() {
    if (head_.empty()) {
      auto end = raw_.find("\r\n\r\n");
      if (end == std::string::npos)
        return;
      head_ = raw_.substr(0, end + 2);
      raw_.erase(0, end + 4);
    }
    for (;;) {
      auto end = raw_.find("\r\n");
      if (end == std::string::npos)
        return;
      auto size = std::stoul(raw_.substr(0, end), nullptr, 16);
      if (raw_.size() < end + 2 + size + 2)
        return;
      auto chunk = raw_.substr(end + 2, size);
      raw_.erase(0, end + 2 + size + 2);
      ended_ = ended_ || size == 0;
      if (size > 0 && chunk.find("\n\n") != chunk.size() - 2)
        ++odd_chunks;
      text_ += chunk;
    }
  }

  test::raw_http http_;
  std::string raw_, head_, text_;
  bool ended_ = false;
};

struct watched_node {
  explicit watched_node(std::size_t most_streams = 256) {
    api_options for_api;
    for_api.watcher = watcher;
    for_api.most_event_streams = most_streams;
    port.on_read = [this](const read_request& x) { return answer(x); };
    membership members;
    for (auto id : {"node-1", "node-2", "node-3"})
      members.members.push_back({node_id{id}, {1}, std::string{id} + ":80", std::string{id} + ":81", true});
    watcher->members(members);
    routes.emplace(port, for_api);
    http_server_options options;
    options.port = 0;
    server.emplace(options, *routes);
    REQUIRE(server->start() == "");
  }

  read_result answer(const read_request& x) {
    read_result result;
    result.ok = true;
    if (std::holds_alternative<get_figures>(x.what)) {
      figures_view view;
      view.tasks_by_status[0] = 4;
      view.workers_by_status[4] = 1;
      view.waiting.push_back({{{"cuda", true}}, 4, 1});
      result.result = view;
    } else if (std::holds_alternative<list_workers>(x.what)) {
      worker_page page;
      page.workers.emplace_back();
      page.workers.back().worker_id = "w1";
      page.workers.back().status = worker_status::offline;
      result.result = page;
    } else if (auto list = std::get_if<list_runs>(&x.what)) {
      run_page page;
      page.runs.push_back(run);
      page.next_cursor = list->cursor.empty() ? "abc" : "";
      result.result = page;
    } else if (auto wanted = std::get_if<get_run>(&x.what)) {
      if (wanted->run_id == run.run_id)
        result.result = run;
      else
        result.result = query_error{};
    } else if (auto page = std::get_if<list_tasks>(&x.what)) {
      // Two tasks a page: whoever wants them all has to follow the cursor.
      task_page found;
      std::size_t first = page->cursor.empty() ? 0 : std::stoul(page->cursor);
      for (auto i = first; i < tasks.size() && i < first + 2; ++i)
        found.tasks.push_back(tasks[i]);
      if (first + 2 < tasks.size())
        found.next_cursor = std::to_string(first + 2);
      result.result = found;
    }
    return result;
  }

  void add_task(const std::string& id, task_status status, const json& result, const json& spec = json::object()) {
    task_view t;
    t.task_id = id;
    t.run_id = run.run_id;
    t.status = status;
    t.worker_id = "w1";
    t.attempt = 1;
    t.spec_json = spec.dump();
    t.result_json = result.is_null() ? "" : result.dump();
    tasks.push_back(t);
    ++run.tasks;
    ++run.by_status[static_cast<std::size_t>(status)];
    run.passed += result.is_object() && result["outcome"] == "passed";
  }

  test::raw_http::answer get(const std::string& target) {
    test::raw_http http{server->port()};
    return http.ask("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n");
  }
  void happen(std::vector<cluster_event> events) { watcher->events().add(1, std::move(events)); }

  std::shared_ptr<observer> watcher = std::make_shared<observer>(node_id{"node-1"}, 0xabc);
  test::fake_port port;
  run_view run{"r 1", 0, {}, 0, 1'000, 0};
  std::vector<task_view> tasks;
  std::optional<api> routes;
  std::optional<http_server> server;
};

task_event transition(const std::string& id, task_status status) {
  return {id, "run-1", "w1", status};
}

}  // namespace

TEST_CASE("events: a stream begins with the present state, and then tells what happens") {
  watched_node node;
  event_reader reader{node.server->port()};
  auto state = reader.next();
  CHECK(state.name == "state");
  auto data = json::parse(state.data);
  CHECK(data["leader"] == "node-2");
  CHECK(data["members"].size() == 3);
  CHECK(data["workers"]["w1"] == "offline");
  CHECK(data["tasks"]["pending"] == 4);
  CHECK(reader.head().find("text/event-stream") != std::string::npos);

  node.watcher->role({node_role::leader, {8}, {"node-1"}, true});
  node.watcher->link_up({"node-3"});
  node.watcher->link_down({"node-3"}, "the connection broke");
  node.happen({transition("t", task_status::running), maintenance_event{true},
               worker_event{{"w", worker_status::idle, true, false}, worker_change::changed}});
  auto leadership = reader.next();
  CHECK(leadership.name == "leadership");
  CHECK(json::parse(leadership.data)["leader"] == "node-1");
  CHECK(json::parse(leadership.data)["term"] == 8);
  CHECK(json::parse(reader.next("node_health").data)["healthy"] == true);
  auto lost = json::parse(reader.next("node_health").data);
  CHECK(lost["node_id"] == "node-3");
  CHECK(lost["healthy"] == false);
  CHECK(json::parse(reader.next("task").data)["status"] == "running");
  CHECK(json::parse(reader.next("maintenance").data)["enabled"] == true);
  CHECK(json::parse(reader.next("worker").data)["status"] == "draining");
  CHECK(reader.odd_chunks == 0);
}

TEST_CASE("events: Last-Event-ID goes on after that event, with nothing lost or twice") {
  watched_node node;
  server_event second;
  {
    event_reader reader{node.server->port()};
    reader.next("state");
    node.happen({transition("a", task_status::pending), transition("b", task_status::pending)});
    reader.next("task");
    second = reader.next("task");
  }
  node.happen({transition("c", task_status::pending)});
  event_reader again{node.server->port(), "Last-Event-ID: " + second.id + "\r\n"};
  auto next = again.next();
  CHECK(next.name == "task");
  CHECK(json::parse(next.data)["task_id"] == "c");
}

TEST_CASE("events: an id that is not this process's is answered by reset and the present state") {
  watched_node node;
  for (auto id :
       {"1", "0000000000000abc-999", "0000000000000abd-1", "0000000000000abc-01", "0000000000000abc-", "x-y"}) {
    CAPTURE(id);
    event_reader reader{node.server->port(), std::string{"Last-Event-ID: "} + id + "\r\n"};
    auto reset = reader.next();
    CHECK(reset.name == "reset");
    CHECK(json::parse(reset.data)["reason"] == "unknown_id");
    CHECK(reader.next().name == "state");
  }
  for (std::size_t i = 0; i <= event_log::most_events; ++i)
    node.happen({transition("t", task_status::pending)});
  event_reader reader{node.server->port(), "Last-Event-ID: 0000000000000abc-1\r\n"};
  CHECK(json::parse(reader.next().data)["reason"] == "too_old");
  CHECK(reader.next().name == "state");
}

TEST_CASE("events: a reader that does not keep up is cut off by an event that says so") {
  watched_node node;
  event_reader slow{node.server->port()};
  event_reader quick{node.server->port()};
  slow.next("state");
  quick.next("state");
  // Until both sockets' buffers and the log hold no more, without a read of the slow one.
  auto streams = [&] {
    auto metrics = node.get("/metrics").body;
    auto line = metrics.find("\ncoordinator_event_streams ");
    REQUIRE(line != std::string::npos);
    return std::stoi(metrics.substr(metrics.find(' ', line)));
  };
  std::size_t sent = 0;
  const std::string name(200, 'n');
  std::size_t seen = 0;
  while (sent < 4 * event_log::most_events && (sent % 1000 != 0 || streams() == 2)) {
    std::vector<cluster_event> some;
    for (int i = 0; i < 100; ++i)
      some.push_back(transition(name + std::to_string(++sent), task_status::pending));
    node.happen(std::move(some));
    // The quick one sees them all.
    for (; seen < sent; ++seen)
      if (quick.next("task").name.empty())
        break;
    REQUIRE(seen == sent);
  }
  CHECK(slow.next("cut_off").name == "cut_off");
  slow.next();
  CHECK(slow.ended());
}

TEST_CASE("events: past the limit streams are refused, and a closed one makes room") {
  watched_node node{1};
  {
    event_reader first{node.server->port()};
    CHECK(first.next().name == "state");
    auto refused = node.get("/api/events");
    CHECK(refused.status == 503);
    CHECK(json::parse(refused.body)["code"] == "too_many_streams");
    CHECK(refused.header("Retry-After") == "5");
    CHECK(node.get("/api/status").status == 200);
  }
  auto deadline = std::chrono::steady_clock::now() + 60s;
  std::string name;
  while (name.empty() && std::chrono::steady_clock::now() < deadline) {
    event_reader next{node.server->port()};
    name = next.next().name;
  }
  CHECK(name == "state");
}

TEST_CASE("events: a server that stops ends its streams without waiting out its grace") {
  watched_node node;
  event_reader reader{node.server->port()};
  reader.next("state");
  node.server->stop(std::chrono::minutes{5});
  reader.next();
  CHECK(reader.ended());
}

TEST_CASE("events: figures come by themselves where they are asked for") {
  watched_node node;
  event_reader reader{node.server->port(), {}, "?figures=1"};
  auto data = json::parse(reader.next("figures").data);
  CHECK(data["nodes"].size() == 3);
  CHECK(reader.next("figures").name == "figures");
}

TEST_CASE("monitor: links, and what may still fail, come from what the nodes tell each other") {
  watched_node node;
  node_report second;
  second.node = {"node-2"};
  second.last_applied = {90};
  second.commit_index = {100};
  second.role = static_cast<std::uint8_t>(node_role::leader);
  second.links = {{{"node-1"}, true, 150, 20, 5}, {{"node-3"}, true, 900, 10, -1}};
  node.watcher->link_up({"node-2"});
  node.watcher->pong({"node-2"}, 250us, {second});
  auto seen = json::parse(node.get("/api/monitor").body);
  CHECK(seen["node_id"] == "node-1");
  CHECK(seen["leader"] == "node-2");
  CHECK(seen["quorum"] == json{{"size", 2}, {"voters", 3}, {"healthy", 3}});
  CHECK(seen["failure_tolerance"] == 1);
  auto& nodes = seen["nodes"];
  CHECK(nodes[0]["links"][0]["rtt_ms"] == 0.25);
  CHECK(nodes[1]["lag"] == 10);
  CHECK(nodes[1]["links"][1]["rtt_ms"] == 0.9);
  CHECK(nodes[1]["links"][0]["arrived_ms"] >= 5);
  CHECK(nodes[1]["links"][1]["arrived_ms"].is_null());
  // This node has no link to it, but the other one has.
  CHECK(nodes[2]["healthy"] == true);
  CHECK(nodes[2]["role"].is_null());
  CHECK(seen["queue"][0]["requirement"] == "cuda");
  CHECK(seen["workers"][0]["worker_id"] == "w1");
  CHECK(seen["runs"][0]["run_id"] == "r 1");

  node.watcher->link_down({"node-2"}, "gone");
  seen = json::parse(node.get("/api/monitor").body);
  CHECK(seen["quorum"]["healthy"] == 1);
  CHECK(seen["failure_tolerance"] == 0);
  CHECK(seen["leader"].is_null());
  CHECK(seen["nodes"][1]["healthy"] == false);
  CHECK(seen["timeline"].back()["event"] == "node_health");
}

TEST_CASE("monitor: metrics, page and health are answered while the node's own actors hang") {
  watched_node node;
  node.port.silent = true;
  CHECK(node.get("/metrics").body.find("coordinator_has_leader 1") != std::string::npos);
  CHECK(node.get("/api/monitor").status == 200);
  CHECK(node.get("/").status == 200);
}

TEST_CASE("metrics: requests are counted by route template, never by path") {
  watched_node node;
  node.get("/api/runs/no-such-run");
  node.get("/api/runs/neither");
  node.get("/no/such/route");
  auto text = node.get("/metrics").body;
  CHECK(
      text.find(
          R"(coordinator_http_request_duration_seconds_count{code="404",method="GET",route="/api/runs/{run_id}"} 2)") !=
      std::string::npos);
  CHECK(text.find("neither") == std::string::npos);
  CHECK(text.find(R"(route="unmatched")") != std::string::npos);
  CHECK(text.find("coordinator_workers{state=\"offline\"} 1") != std::string::npos);
}

TEST_CASE("page: it names no other host, and runs no script but its own") {
  watched_node node;
  auto page = node.get("/");
  CHECK(page.header("Content-Type") == "text/html; charset=utf-8");
  CHECK(page.header("Content-Security-Policy").find("default-src 'none'") != std::string::npos);
  CHECK(page.body.find("<script>") == std::string::npos);
  for (std::string file : {"index.html", "monitor.css", "monitor.js", "charts.js"}) {
    CAPTURE(file);
    auto answer = node.get("/monitor/" + file);
    CHECK(answer.status == 200);
    CHECK(answer.body.size() > 1'000);
    if (file != "index.html")
      CHECK(page.body.find("/monitor/" + file) != std::string::npos);
    for (auto scheme : {"http://", "https://"})
      for (auto at = answer.body.find(scheme); at != std::string::npos; at = answer.body.find(scheme, at + 1))
        CHECK(answer.body.substr(at + std::string_view{scheme}.size(), 10) == "www.w3.org");
  }
  CHECK(node.get("/monitor/other").status == 404);
}

TEST_CASE("runs: counts, the slowest, and failures with the end of their output") {
  watched_node node;
  node.add_task("a", task_status::completed, {{"outcome", "passed"}, {"duration_ms", 50}});
  node.add_task("b", task_status::completed,
                {{"outcome", "failed"}, {"duration_ms", 700}, {"output", std::string(20'000, 'x') + "the end"}},
                {{"name", "second"}});
  node.add_task("c", task_status::failed, nullptr);
  node.add_task("d", task_status::running, nullptr);
  node.add_task("e", task_status::cancelled, nullptr);
  auto list = json::parse(node.get("/api/runs?limit=1").body);
  CHECK(list["runs"][0]["tasks"] == 5);
  CHECK(list["runs"][0]["passed"] == 1);
  CHECK(list["runs"][0]["finished_ms"].is_null());
  CHECK(list["next_cursor"] == "abc");
  auto run = json::parse(node.get("/api/runs/r%201").body);
  CHECK(run["by_status"]["completed"] == 2);
  CHECK(run["outcomes"] == json{{"passed", 1}, {"failed", 1}, {"error", 1}, {"running", 1}, {"cancelled", 1}});
  CHECK(run["slowest"][0]["task_id"] == "b");
  CHECK(run["slowest"][0]["duration_ms"] == 700);
  CHECK(run["failures_total"] == 2);
  CHECK(run["failures"][0]["name"] == "second");
  auto output = run["failures"][0]["output"].get<std::string>();
  CHECK(output.size() == 8 * 1024);
  CHECK(output.substr(output.size() - 7) == "the end");
  CHECK(node.get("/api/runs/other").status == 404);
}

TEST_CASE("runs: JUnit XML holds every task, and nothing that XML cannot hold") {
  watched_node node;
  node.run.run_id = "r";
  node.add_task("a", task_status::completed, {{"outcome", "passed"}, {"duration_ms", 1'050}});
  node.add_task("b", task_status::completed,
                {{"outcome", "failed"}, {"output", "x < y && \x1b[31m \"q\" \xef\xbf\xbf"}}, {{"name", "<b>"}});
  node.add_task("c", task_status::failed, nullptr);
  node.add_task("d", task_status::pending, nullptr);
  auto answer = node.get("/api/runs/r/junit.xml");
  CHECK(answer.header("Content-Type") == "application/xml; charset=utf-8");
  auto& xml = answer.body;
  CHECK(xml.find(R"(tests="4" failures="1" errors="1" skipped="1" time="1.050")") != std::string::npos);
  CHECK(xml.find(R"(<testcase name="a" classname="r" time="1.050"></testcase>)") != std::string::npos);
  CHECK(xml.find(R"(name="&lt;b&gt;")") != std::string::npos);
  CHECK(xml.find("<system-out>x &lt; y &amp;&amp; ?[31m &quot;q&quot; ?</system-out>") != std::string::npos);
  CHECK(xml.find(R"(<skipped message="pending"/>)") != std::string::npos);
  CHECK(xml.substr(xml.size() - 14) == "</testsuites>\n");
  CHECK(node.get("/api/runs/other/junit.xml").status == 404);
}
