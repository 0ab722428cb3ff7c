#include "http/worker/worker.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>

#include "http/worker/process_guard.hpp"

namespace coordinator {

namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds election_wait{5000};
constexpr milliseconds report_patience{10000};
/// Leaving must not take long when no coordinator is there any more.
constexpr milliseconds farewell_patience{3000};
/// After a drain's time is up: for SIGTERM, SIGKILL and the report of it.
constexpr milliseconds after_stop{10000};

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// What a problem document says, in one line.
std::string problem_of(const client_reply& reply) {
  if (!reply.answered())
    return reply.failure;
  auto body = json::parse(reply.body, nullptr, false);
  std::string detail = body.is_object() ? body.value("detail", body.value("title", "")) : "";
  return std::to_string(reply.status) + (detail.empty() ? "" : " " + detail);
}

client_request post(std::string path, const json& body) {
  client_request request;
  request.method = "POST";
  request.path = std::move(path);
  request.body = dump(body);
  request.applied = once::by_nature;
  return request;
}

bool was_run(const child_result& result) {
  return result.end != child_end::not_started && result.end != child_end::stopped;
}

json journal_fields(const claimed_task& task) {
  return {{"task_id", task.task_id}, {"attempt", task.attempt}};
}

}  // namespace

worker::worker(worker_options options, process_guard* guard)
    : options_(std::move(options)),
      guard_(guard),
      journal_(options_.journal_path, options_.worker_id),
      claims_(make_client(options_.claim_wait + report_patience + election_wait)),
      heartbeats_(make_client(report_patience)) {
  for (std::size_t slot = 0; slot < options_.slots; ++slot)
    reporters_.push_back(make_client(report_patience));
}

worker::~worker() {
  end_threads();
}

std::unique_ptr<client> worker::make_client(milliseconds give_up_after) const {
  client_options options;
  options.give_up_after = give_up_after;
  // Workers spread over the nodes by their names, so that no node holds all the long polls.
  options.first = std::hash<std::string>{}(options_.worker_id);
  return std::make_unique<client>(options_.coordinators, options);
}

void worker::start() {
  journal_.record("worker_started", {{"slots", options_.slots}});
  threads_.emplace_back([this] { claim_loop(); });
  threads_.emplace_back([this] { heartbeat_loop(); });
  for (auto& reporter : reporters_)
    threads_.emplace_back([this, &reporter] { slot_loop(*reporter); });
}

// -- registration -------------------------------------------------------------

/// False when it has to be tried again.
bool worker::register_with(client& via) {
  json body = {{"worker_id", options_.worker_id},
               {"host", options_.host},
               {"port", options_.port},
               {"capabilities", options_.capabilities},
               {"slots", options_.slots}};
  {
    std::lock_guard lock{mutex_};
    // Registering anew would otherwise end a drain.
    body["status"] = draining_ ? "draining" : running_.empty() ? "idle" : "running";
  }
  auto reply = via.send(post("/api/workers/register", body));
  if (reply.ok()) {
    auto answer = json::parse(reply.body, nullptr, false);
    auto interval = answer.is_object() ? answer.value("heartbeat_interval_ms", 5000) : 5000;
    spdlog::info("registered as {} at {}", options_.worker_id, reply.node);
    std::lock_guard lock{mutex_};
    heartbeat_interval_ = milliseconds{std::clamp(interval, 50, 30000)};
    changed_.notify_all();
    return true;
  }
  spdlog::warn("cannot register: {}", problem_of(reply));
  if (reply.status >= 400 && reply.status < 500 && reply.status != 408 && reply.status != 429)
    refuse("the cluster refuses this worker: " + problem_of(reply));
  return false;
}

void worker::refuse(const std::string& why) {
  {
    std::lock_guard lock{mutex_};
    if (!failure_.empty())
      return;
    failure_ = why;
  }
  options_.on_failure();
}

std::string worker::failure() const {
  std::lock_guard lock{mutex_};
  return failure_;
}

// -- claiming -----------------------------------------------------------------

void worker::claim_loop() {
  for (;;) {
    {
      std::lock_guard lock{mutex_};
      if (draining_)
        break;
    }
    if (register_with(*claims_))
      break;
    pause_claims();
  }
  while (claim_once()) {
  }
  std::lock_guard lock{mutex_};
  claim_loop_ended_ = true;
  changed_.notify_all();
}

/// Before the next try; a drain need not wait for it.
void worker::pause_claims() {
  std::unique_lock lock{mutex_};
  changed_.wait_for(lock, milliseconds{1000}, [this] { return draining_; });
}

/// False when there is nothing more to claim.
bool worker::claim_once() {
  std::size_t free = 0;
  {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return draining_ || running_.size() < options_.slots; });
    if (draining_)
      return false;
    free = options_.slots - running_.size();
  }
  auto request =
      post("/api/tasks/claim",
           {{"worker_id", options_.worker_id}, {"max_tasks", free}, {"wait_ms", options_.claim_wait.count()}});
  request.election_wait = election_wait;
  request.answer_within = options_.claim_wait + election_wait + milliseconds{5000};
  // Heartbeats are answered at once, so they find out first which node is well.
  claims_->prefer(heartbeats_->current());
  auto reply = claims_->send(request);
  if (reply.ok()) {
    take_in(reply.body);
  } else if (reply.status == 404) {
    if (!register_with(*claims_))
      pause_claims();
  } else {
    // 409: drained by an operator, or counted as offline until the next heartbeat.
    spdlog::log(reply.status == 409 ? spdlog::level::debug : spdlog::level::warn, "no claim: {}", problem_of(reply));
    pause_claims();
  }
  return true;
}

void worker::take_in(const std::string& body) {
  auto answer = json::parse(body, nullptr, false);
  auto tasks = answer.is_object() ? answer.value("tasks", json::array()) : json::array();
  std::lock_guard lock{mutex_};
  for (auto& element : tasks) {
    try {
      job work{read_claimed_task(element, options_.worker_id, options_.work_dir, options_.output_limit),
               std::make_shared<stop_event>()};
      attempt_key key{work.task.task_id, work.task.attempt};
      // The answer to a claim may come twice only if a node repeats it; running it twice would be wrong.
      if (running_.emplace(key, running_state{work.stop}).second)
        queue_.push_back(std::move(work));
    } catch (const std::exception& e) {
      spdlog::error("a claimed task is left alone: {}", e.what());
    }
  }
  changed_.notify_all();
}

// -- heartbeats ---------------------------------------------------------------

void worker::heartbeat_loop() {
  for (;;) {
    milliseconds interval;
    {
      std::unique_lock lock{mutex_};
      changed_.wait(lock, [this] { return ended_ || heartbeat_interval_ > milliseconds{0}; });
      interval = heartbeat_interval_;
    }
    if (!pause(interval))
      return;
    heartbeat_once();
  }
}

void worker::heartbeat_once() {
  std::vector<attempt_key> listed;
  json running = json::array();
  json body = {{"worker_id", options_.worker_id},
               {"cpu_usage", usage_.cpu_percent()},
               {"memory_usage", machine_usage::memory_percent()},
               {"gpu_usage", 0}};
  {
    std::lock_guard lock{mutex_};
    for (auto& [key, state] : running_) {
      listed.push_back(key);
      running.push_back({{"task_id", key.first}, {"attempt", key.second}});
    }
    body["status"] = draining_ ? "draining" : listed.empty() ? "idle" : "running";
  }
  if (!listed.empty())
    body["current_task"] = listed.front().first;
  body["running"] = std::move(running);
  auto request = post("/api/workers/status", body);
  request.election_wait = milliseconds{2000};
  request.answer_within = milliseconds{3000};
  auto before = heartbeats_->current();
  auto reply = heartbeats_->send(request);
  // The node went silent, so the claim that hangs on it will not be answered either.
  if (heartbeats_->current() != before && claims_->current() == before)
    claims_->interrupt();
  if (reply.ok())
    stop_attempts(reply.body, listed);
  else if (reply.status == 404)
    register_with(*heartbeats_);
  else
    spdlog::warn("no heartbeat: {}", problem_of(reply));
}

/// Stops what the coordinator named, but only attempts that it was told of: a later attempt of the same task, given
/// to this worker meanwhile, is not meant.
void worker::stop_attempts(const std::string& body, const std::vector<attempt_key>& listed) {
  auto answer = json::parse(body, nullptr, false);
  auto cancel = answer.is_object() ? answer.value("cancel", json::array()) : json::array();
  std::lock_guard lock{mutex_};
  for (auto& key : listed) {
    auto found = running_.find(key);
    if (found == running_.end() || found->second.taken ||
        std::find(cancel.begin(), cancel.end(), key.first) == cancel.end())
      continue;
    spdlog::info("told to stop {} attempt {}", key.first, key.second);
    found->second.taken = true;
    found->second.stop->request();
  }
}

// -- running ------------------------------------------------------------------

void worker::slot_loop(client& reporter) {
  for (;;) {
    job work;
    {
      std::unique_lock lock{mutex_};
      changed_.wait(lock, [this] { return ended_ || !queue_.empty(); });
      if (ended_)
        return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    run_job(reporter, work);
  }
}

void worker::run_job(client& reporter, const job& work) {
  auto& task = work.task;
  auto result = execute(work);
  spdlog::debug("{} attempt {} ended: {}{}", task.task_id, task.attempt, outcome_of(result),
                result.error.empty() ? "" : ", " + result.error);
  auto answer = report(reporter, task, result);
  try {
    auto fields = journal_fields(task);
    fields["answer"] = answer;
    fields["as"] = was_run(result) ? "complete" : "fail";
    journal_.record("reported", std::move(fields));
  } catch (const std::exception& e) {
    spdlog::error("{}", e.what());
  }
  finish({task.task_id, task.attempt});
}

child_result worker::execute(const job& work) {
  child_result result;
  auto& task = work.task;
  if (!task.fault.empty()) {
    result.error = task.fault;
    return result;
  }
  try {
    journal_.record("started", journal_fields(task));
    result = run_child(task.command, *work.stop, guard_);
    auto fields = journal_fields(task);
    fields["outcome"] = outcome_of(result);
    fields["exit_code"] = result.exit_code;
    fields["ran"] = was_run(result);
    fields["duration_ms"] = result.duration.count();
    journal_.record("ended", std::move(fields));
  } catch (const std::exception& e) {
    spdlog::error("{} attempt {}: {}", task.task_id, task.attempt, e.what());
    result.end = child_end::not_started;
    result.error = e.what();
  }
  return result;
}

/// Tells the cluster how the attempt ended, through any failure of nodes, and returns what it said to that:
/// `accepted`, `stale` (given to another meanwhile), `unknown`, `refused`, or `none` if this worker ended first.
std::string worker::report(client& reporter, const claimed_task& task, const child_result& result) {
  json body = {{"worker_id", options_.worker_id}, {"attempt", task.attempt}};
  auto ran = was_run(result);
  if (result.end != child_end::not_started)
    body["result"] = result_json(result);
  if (!ran) {
    body["error"] = result.end == child_end::stopped ? "stopped before its end" : result.error;
    // Another worker may have what this one lacks.
    body["retryable"] = task.fault.empty();
  }
  auto path = "/api/tasks/" + encode_component(task.task_id) + (ran ? "/complete" : "/fail");
  for (;;) {
    auto reply = reporter.send(post(path, body));
    std::string answer;
    if (reply.status == 413 && body.contains("result") && !body["result"]["output"].empty()) {
      body["result"]["output"] = "";
      body["result"]["output_truncated"] = true;
      continue;
    }
    if (definite(reply, task, answer))
      return answer;
    spdlog::warn("{} attempt {}: not reported yet: {}", task.task_id, task.attempt, problem_of(reply));
    if (!pause(milliseconds{500})) {
      std::lock_guard lock{mutex_};
      ++unreported_;
      return "none";
    }
  }
}

bool worker::definite(const client_reply& reply, const claimed_task& task, std::string& answer) const {
  if (reply.ok()) {
    answer = "accepted";
    return true;
  }
  if (reply.status < 400 || reply.status >= 500 || reply.status == 408 || reply.status == 429)
    return false;
  answer = reply.status == 409 ? "stale" : reply.status == 404 ? "unknown" : "refused";
  spdlog::warn("{} attempt {}: the result was not taken: {}", task.task_id, task.attempt, problem_of(reply));
  return true;
}

void worker::finish(const attempt_key& key) {
  std::lock_guard lock{mutex_};
  running_.erase(key);
  changed_.notify_all();
}

// -- the end ------------------------------------------------------------------

/// False if the worker ended instead.
bool worker::pause(milliseconds time) {
  std::unique_lock lock{mutex_};
  return !changed_.wait_for(lock, time, [this] { return ended_; });
}

bool worker::wait_until_idle(milliseconds time) {
  std::unique_lock lock{mutex_};
  changed_.wait_for(lock, time, [this] { return running_.empty() || hurry_; });
  return running_.empty();
}

void worker::hurry() {
  std::lock_guard lock{mutex_};
  hurry_ = true;
  changed_.notify_all();
}

bool worker::drain() {
  {
    std::lock_guard lock{mutex_};
    draining_ = true;
    changed_.notify_all();
  }
  tell_cluster("POST", "/drain");
  end_claims();
  if (!wait_until_idle(options_.drain_timeout)) {
    spdlog::warn("stopping what still runs");
    stop_all_children();
    {
      std::lock_guard lock{mutex_};
      hurry_ = false;
    }
    wait_until_idle(after_stop);
  }
  end_threads();
  tell_cluster("DELETE", "");
  std::lock_guard lock{mutex_};
  return unreported_ == 0 && running_.empty();
}

void worker::end_claims() {
  std::unique_lock lock{mutex_};
  // A stop may fall between two steps of a request that is just beginning, so it is repeated until it is seen.
  while (!changed_.wait_for(lock, milliseconds{200}, [this] { return claim_loop_ended_; })) {
    lock.unlock();
    claims_->stop();
    lock.lock();
  }
}

void worker::stop_all_children() {
  std::lock_guard lock{mutex_};
  for (auto& [key, state] : running_)
    state.stop->request();
}

void worker::end_threads() {
  {
    std::lock_guard lock{mutex_};
    draining_ = true;
    ended_ = true;
    for (auto& [key, state] : running_)
      state.stop->request();
    changed_.notify_all();
  }
  claims_->stop();
  heartbeats_->stop();
  for (auto& reporter : reporters_)
    reporter->stop();
  for (auto& thread : threads_)
    thread.join();
  threads_.clear();
}

void worker::tell_cluster(const char* method, const char* suffix) {
  auto via = make_client(farewell_patience);
  client_request request;
  request.method = method;
  request.path = "/api/workers/" + encode_component(options_.worker_id) + suffix;
  request.answer_within = farewell_patience;
  auto reply = via->send(request);
  if (!reply.ok() && reply.status != 404)
    spdlog::warn("{} {}: {}", method, request.path, problem_of(reply));
}

}  // namespace coordinator
