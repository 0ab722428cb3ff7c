#include <doctest/doctest.h>

#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "tests/cluster/cluster.hpp"

using namespace coordinator;

namespace {

/// A worker that claims, journals and completes, and moves on to the next node with the same request when one breaks
/// off.
class worker {
 public:
  worker(const cluster& nodes, int number)
      : nodes_(nodes), name_("worker-" + std::to_string(number)), node_(number), thread_([this] { run(); }) {}
  ~worker() { finish(); }

  void finish() {
    stopping_ = true;
    if (thread_.joinable())
      thread_.join();
  }

  std::size_t completed() const { return completed_; }
  /// Every attempt that it was given, in order. Only after finish.
  const std::vector<std::pair<std::string, int>>& journal() const { return journal_; }
  const std::vector<std::string>& complaints() const { return complaints_; }

 private:
  /// Asks until some node does it.
  answer ask(const std::string& path, const nlohmann::json& body, const std::string& key) {
    call_options options;
    options.headers["Idempotency-Key"] = key;
    options.headers["X-Request-Timeout-Ms"] = "30000";
    answer said;
    auto goes_elsewhere = [&] { return said.status == 0 || said.waits_for_disk(); };
    for (int i = 0; i < 500 && goes_elsewhere(); ++i) {
      said = nodes_.request(node_ % nodes_.size(), "POST", path, body.dump(), options);
      if (goes_elsewhere()) {
        ++node_;
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
      }
    }
    if (!said.ok())
      complaints_.push_back(path + ": " + std::to_string(said.status) + " " + said.body);
    return said;
  }

  void run() {
    ask("/api/workers/register", {{"worker_id", name_}, {"host", "localhost"}, {"port", 1}, {"slots", 1}}, name_);
    for (int number = 0; !stopping_; ++number) {
      auto key = name_ + "-claim-" + std::to_string(number);
      auto given = ask("/api/tasks/claim", {{"worker_id", name_}, {"max_tasks", 1}, {"wait_ms", 200}}, key).json();
      if (!given.is_object())
        continue;
      for (auto& task : given["tasks"]) {
        auto id = task["task_id"].get<std::string>();
        auto attempt = task["attempt"].get<int>();
        journal_.emplace_back(id, attempt);
        nlohmann::json result = {{"exit_code", 0}, {"outcome", "passed"}, {"duration_ms", 1}, {"output", name_}};
        if (ask("/api/tasks/" + id + "/complete", {{"worker_id", name_}, {"attempt", attempt}, {"result", result}},
                key + "-complete")
                .ok())
          ++completed_;
      }
    }
  }

  const cluster& nodes_;
  const std::string name_;
  int node_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> completed_{0};
  std::vector<std::pair<std::string, int>> journal_;
  std::vector<std::string> complaints_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("tasks: over failovers every task is completed, and no attempt is given out twice") {
  constexpr std::size_t total = 150;
  cluster nodes;
  nodes.start_all();
  nodes.wait_for_leader();
  auto tasks = nlohmann::json::array();
  for (std::size_t i = 0; i < total; ++i)
    tasks.push_back({{"task_id", "task-" + std::to_string(i)}, {"run_id", "run"}, {"command", {"true"}}});
  auto submitted = nodes.request(0, "POST", "/api/tasks/submit", nlohmann::json{{"tasks", tasks}}.dump());
  REQUIRE_MESSAGE(submitted.ok(), submitted.status << " " << submitted.body);

  std::vector<std::unique_ptr<worker>> workers;
  for (int i = 0; i < 4; ++i)
    workers.push_back(std::make_unique<worker>(nodes, i));
  auto completed = [&] {
    std::size_t sum = 0;
    for (auto& one : workers)
      sum += one->completed();
    return sum;
  };
  for (std::size_t goal : {total / 4, total / 2}) {
    REQUIRE(eventually(cluster::patience, [&] { return completed() >= goal; }));
    auto killed = nodes.wait_for_leader();
    nodes.kill(killed);
    nodes.wait_for_leader();
    nodes.start(killed);
  }
  CHECK(eventually(2 * cluster::patience, [&] { return completed() >= total; }));
  for (auto& one : workers)
    one->finish();

  std::map<std::pair<std::string, int>, int> given;
  for (auto& one : workers) {
    CHECK(one->complaints() == std::vector<std::string>{});
    for (auto& attempt : one->journal())
      ++given[attempt];
  }
  for (auto& [attempt, times] : given)
    CHECK_MESSAGE(times == 1, attempt.first << " attempt " << attempt.second << " was given out " << times << " times");
  nodes.wait_for_leader();
  for (std::size_t i = 0; i < total; ++i) {
    auto task = nodes.get(static_cast<int>(i % 3), "/api/tasks/task-" + std::to_string(i)).json();
    REQUIRE(task.is_object());
    CHECK(task["status"] == "completed");
    CHECK(task["attempts"].size() == 1);
  }
  nodes.require_equal_states();
}
