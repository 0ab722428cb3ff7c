#include "tests/support/fake_coordinator.hpp"

#include <httplib.h>

#include <algorithm>

namespace coordinator {

namespace {

using httplib::Request;
using httplib::Response;
using nlohmann::json;

void answer(Response& response, const json& body, int status = 200) {
  response.status = status;
  response.set_content(body.dump(), "application/json");
}

void problem(Response& response, int status, const std::string& code) {
  response.status = status;
  response.set_content(json{{"title", code}, {"status", status}, {"code", code}, {"detail", code + " here"}}.dump(),
                       "application/problem+json");
}

/// Lists leave out what may be long.
json as_listed(json task) {
  task.erase("attempts");
  if (task.contains("result"))
    task["result"].erase("output");
  return task;
}

}  // namespace

fake_coordinator::fake_coordinator() : server_(std::make_unique<httplib::Server>()) {
  server_->new_task_queue = [] { return new httplib::ThreadPool{16}; };
  server_->set_tcp_nodelay(true);
  server_->set_keep_alive_timeout(1);
  add_routes();
  port_ = server_->bind_to_any_port("127.0.0.1");
  thread_ = std::thread{[this] { server_->listen_after_bind(); }};
  // stop() has no effect on a server that is not yet in its loop.
  while (!server_->is_running())
    std::this_thread::yield();
}

fake_coordinator::~fake_coordinator() {
  stop();
}

std::string fake_coordinator::url() const {
  return "http://127.0.0.1:" + std::to_string(port_);
}

void fake_coordinator::stop() {
  {
    std::lock_guard lock{mutex_};
    stopped_ = true;
    changed_.notify_all();
  }
  server_->stop();
  if (thread_.joinable())
    thread_.join();
}

void fake_coordinator::set_hook(hook h) {
  std::lock_guard lock{mutex_};
  hook_ = std::move(h);
}

void fake_coordinator::submit(json task) {
  std::lock_guard lock{mutex_};
  auto id = task.at("task_id").get<std::string>();
  task["status"] = "pending";
  task["attempts"] = json::array();
  tasks_[id] = std::move(task);
  order_.push_back(id);
  changed_.notify_all();
}

void fake_coordinator::take_away(const std::string& task_id) {
  std::lock_guard lock{mutex_};
  tasks_.at(task_id)["status"] = "pending";
  tasks_.at(task_id)["attempts"].back()["outcome"] = "worker_offline";
  tasks_.at(task_id)["held_back"] = true;
}

void fake_coordinator::forget_workers() {
  std::lock_guard lock{mutex_};
  workers_ = json::object();
}

json fake_coordinator::task(const std::string& id) const {
  std::lock_guard lock{mutex_};
  return tasks_.value(id, json{});
}

json fake_coordinator::workers() const {
  std::lock_guard lock{mutex_};
  return workers_;
}

std::vector<fake_coordinator::seen> fake_coordinator::requests(const std::string& method,
                                                               const std::string& path) const {
  std::lock_guard lock{mutex_};
  std::vector<seen> result;
  for (auto& one : seen_)
    if (one.method == method && one.path == path)
      result.push_back(one);
  return result;
}

bool fake_coordinator::eventually(const std::function<bool(const json&, const json&)>& done) const {
  std::unique_lock lock{mutex_};
  return changed_.wait_for(lock, std::chrono::seconds{60}, [&] { return done(tasks_, workers_); });
}

void fake_coordinator::on(add_handler add, const std::string& pattern, handler own) {
  // Not a pre-routing handler: these come before the body is read.
  (server_.get()->*add)(pattern, [this, own](const Request& request, Response& response) {
    hook first;
    {
      std::lock_guard lock{mutex_};
      seen_.push_back({request.method, request.path, request.body, request.get_header_value("Idempotency-Key")});
      first = hook_;
      changed_.notify_all();
    }
    response.set_header("X-Coordinator-Node", "fake-" + std::to_string(port_));
    if (!first || !first(request, response))
      own(request, response);
  });
}

void fake_coordinator::add_routes() {
  on(&httplib::Server::Get, "/api/status", [this](const Request&, Response& response) {
    answer(response, {{"status", "running"}, {"node_id", "fake"}, {"role", "LEADER"}, {"uptime_ms", 5000}});
  });
  // What only hooks answer.
  auto none = [](const Request&, Response& response) { problem(response, 404, "not_found"); };
  on(&httplib::Server::Get, "/readyz", none);
  on(&httplib::Server::Get, "/api/health", none);
  on(&httplib::Server::Get, "/api/cluster", none);
  on(&httplib::Server::Post, "/api/cluster/members", none);
  on(&httplib::Server::Post, "/api/cluster/members/([^/]+)/promote", none);
  on(&httplib::Server::Delete, "/api/cluster/members/([^/]+)", none);
  on(&httplib::Server::Post, "/api/snapshots", none);
  on(&httplib::Server::Get, "/api/snapshots/([^/]+)", none);
  on(&httplib::Server::Delete, "/api/snapshots/([^/]+)", none);
  add_worker_routes();
  add_task_routes();
  add_key_routes();
}

void fake_coordinator::add_worker_routes() {
  on(&httplib::Server::Post, "/api/workers/register", [this](const Request& request, Response& response) {
    auto body = json::parse(request.body);
    std::lock_guard lock{mutex_};
    workers_[body.at("worker_id").get<std::string>()] = body;
    changed_.notify_all();
    answer(response,
           {{"success", true}, {"worker_id", body["worker_id"]}, {"heartbeat_interval_ms", 50}, {"session", 1}});
  });
  on(&httplib::Server::Post, "/api/workers/status", [this](const Request& request, Response& response) {
    auto body = json::parse(request.body);
    std::lock_guard lock{mutex_};
    auto id = body.at("worker_id").get<std::string>();
    if (!workers_.contains(id))
      return problem(response, 404, "worker_not_found");
    workers_[id].update(body);
    auto cancel = json::array();
    for (auto& one : body.at("running"))
      if (auto& task = tasks_.at(one.at("task_id").get<std::string>()); task["status"] != "assigned")
        cancel.push_back(one.at("task_id"));
    changed_.notify_all();
    answer(response, {{"success", true}, {"cancel", cancel}});
  });
  on(&httplib::Server::Get, "/api/workers", [this](const Request&, Response& response) {
    std::lock_guard lock{mutex_};
    answer(response, workers_);
  });
  on(&httplib::Server::Post, "/api/workers/([^/]+)/drain", [this](const Request& request, Response& response) {
    std::lock_guard lock{mutex_};
    workers_[request.matches[1].str()]["status"] = "draining";
    changed_.notify_all();
    answer(response, {{"success", true}});
  });
  on(&httplib::Server::Delete, "/api/workers/([^/]+)", [this](const Request& request, Response& response) {
    std::lock_guard lock{mutex_};
    workers_.erase(request.matches[1].str());
    changed_.notify_all();
    answer(response, {{"success", true}});
  });
}

void fake_coordinator::claim(const Request& request, Response& response) {
  auto body = json::parse(request.body);
  auto given = json::array();
  std::unique_lock lock{mutex_};
  if (!workers_.contains(body.at("worker_id").get<std::string>()))
    return problem(response, 404, "worker_not_found");
  auto ready = [&](const std::string& id) {
    return tasks_[id]["status"] == "pending" && !tasks_[id].contains("held_back");
  };
  changed_.wait_for(lock, std::chrono::milliseconds{body.at("wait_ms").get<int>()},
                    [&] { return stopped_ || std::any_of(order_.begin(), order_.end(), ready); });
  // As a node does: whoever left or drains while its claim waited gets nothing.
  auto worker = workers_.find(body["worker_id"].get<std::string>());
  if (worker == workers_.end() || worker->value("status", "") == "draining")
    return problem(response, 409, "worker_unavailable");
  for (auto& id : order_) {
    if (!ready(id) || given.size() == body.at("max_tasks").get<std::size_t>())
      continue;
    auto& task = tasks_[id];
    task["status"] = "assigned";
    task["worker_id"] = body["worker_id"];
    task["attempts"].push_back(
        {{"attempt", task["attempts"].size() + 1}, {"worker_id", body["worker_id"]}, {"outcome", nullptr}});
    auto copy = task;
    copy["attempt"] = task["attempts"].size();
    copy["lease_ms"] = 15000;
    given.push_back(std::move(copy));
  }
  changed_.notify_all();
  answer(response, {{"tasks", given}});
}

void fake_coordinator::end_attempt(const Request& request, Response& response, bool completed) {
  auto body = json::parse(request.body);
  std::lock_guard lock{mutex_};
  auto found = tasks_.find(request.matches[1].str());
  if (found == tasks_.end())
    return problem(response, 404, "task_not_found");
  auto& task = *found;
  auto present = task["attempts"].size();
  auto& last = task["attempts"].back();
  if (body.at("attempt") != present || body.at("worker_id") != last["worker_id"])
    return problem(response, 409, "stale_attempt");
  auto outcome = completed ? "completed" : "failed";
  if (last["outcome"] == outcome)
    return answer(response, {{"success", true}});
  if (!last["outcome"].is_null())
    return problem(response, 409, "stale_attempt");
  last["outcome"] = outcome;
  task["status"] = outcome;
  if (body.contains("result"))
    task["result"] = body["result"];
  if (body.contains("error"))
    task["error"] = body["error"];
  changed_.notify_all();
  answer(response, {{"success", true}});
}

void fake_coordinator::add_task_routes() {
  on(&httplib::Server::Post, "/api/tasks/claim",
     [this](const Request& request, Response& response) { claim(request, response); });
  on(&httplib::Server::Post, "/api/tasks/submit", [this](const Request& request, Response& response) {
    auto body = json::parse(request.body);
    auto ids = json::array();
    for (auto task : body.at("tasks")) {
      if (!task.contains("task_id"))
        task["task_id"] = "made-" + std::to_string(order_.size() + 1);
      ids.push_back(task["task_id"]);
      submit(std::move(task));
    }
    answer(response, {{"success", true}, {"task_ids", ids}});
  });
  on(&httplib::Server::Get, "/api/tasks", [this](const Request& request, Response& response) {
    std::lock_guard lock{mutex_};
    auto matches = [&](const json& task, const char* field) {
      return !request.has_param(field) || task.value(field, "") == request.get_param_value(field);
    };
    // Pages of three at most, so that every reader has to follow the cursor.
    auto limit = std::min<std::size_t>(3, std::stoul(request.get_param_value("limit")));
    auto begin = request.has_param("cursor") ? std::stoul(request.get_param_value("cursor")) : 0;
    auto page = json::array();
    json next = nullptr;
    for (auto i = begin; i < order_.size() && next.is_null(); ++i) {
      auto& task = tasks_[order_[i]];
      if (matches(task, "run_id") && matches(task, "status"))
        page.push_back(as_listed(task));
      if (page.size() == limit && i + 1 < order_.size())
        next = std::to_string(i + 1);
    }
    answer(response, {{"tasks", page}, {"next_cursor", next}});
  });
  on(&httplib::Server::Get, "/api/tasks/([^/]+)", [this](const Request& request, Response& response) {
    std::lock_guard lock{mutex_};
    auto found = tasks_.find(request.matches[1].str());
    if (found == tasks_.end())
      return problem(response, 404, "task_not_found");
    answer(response, *found);
  });
  on(&httplib::Server::Post, "/api/tasks/([^/]+)/complete",
     [this](const Request& request, Response& response) { end_attempt(request, response, true); });
  on(&httplib::Server::Post, "/api/tasks/([^/]+)/fail",
     [this](const Request& request, Response& response) { end_attempt(request, response, false); });
  on(&httplib::Server::Post, "/api/tasks/([^/]+)/cancel", [this](const Request& request, Response& response) {
    std::lock_guard lock{mutex_};
    auto& task = tasks_[request.matches[1].str()];
    task["status"] = "cancelled";
    if (!task["attempts"].empty() && task["attempts"].back()["outcome"].is_null())
      task["attempts"].back()["outcome"] = "cancelled";
    changed_.notify_all();
    answer(response, {{"success", true}});
  });
}

void fake_coordinator::add_key_routes() {
  on(&httplib::Server::Get, "/api/kv/(.+)", [this](const Request& request, Response& response) {
    std::lock_guard lock{mutex_};
    auto found = keys_.find(request.matches[1].str());
    if (found == keys_.end())
      return problem(response, 404, "key_not_found");
    response.set_header("ETag", "\"" + std::to_string(found->second.first) + "\"");
    response.set_content(found->second.second, "application/octet-stream");
  });
  on(&httplib::Server::Put, "/api/kv/(.+)", [this](const Request& request, Response& response) {
    std::lock_guard lock{mutex_};
    auto found = keys_.find(request.matches[1].str());
    auto present = found == keys_.end() ? std::string{} : "\"" + std::to_string(found->second.first) + "\"";
    auto wanted = request.get_header_value("If-Match");
    if ((!wanted.empty() && wanted != present) || (request.has_header("If-None-Match") && !present.empty()))
      return problem(response, 412, "precondition_failed");
    keys_[request.matches[1].str()] = {++version_, request.body};
    answer(response, {{"version", version_}});
    response.set_header("ETag", "\"" + std::to_string(version_) + "\"");
  });
  on(&httplib::Server::Delete, "/api/kv/(.+)", [this](const Request& request, Response& response) {
    std::lock_guard lock{mutex_};
    auto found = keys_.find(request.matches[1].str());
    auto wanted = request.get_header_value("If-Match");
    if (!wanted.empty() && (found == keys_.end() || wanted != "\"" + std::to_string(found->second.first) + "\""))
      return problem(response, 412, "precondition_failed");
    if (keys_.erase(request.matches[1].str()) == 0)
      return problem(response, 404, "key_not_found");
    answer(response, {{"success", true}});
  });
}

}  // namespace coordinator
