#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace httplib {
class Server;
struct Request;
struct Response;
}  // namespace httplib

namespace coordinator {

/// A stand-in for one coordinator node on a loopback port of its own: as much of the HTTP contract as the client,
/// coordctl and the worker need, in memory and with no care for time-outs. What it was asked is kept for the test.
class fake_coordinator {
 public:
  struct seen {
    std::string method, path, body, idempotency_key;
  };
  /// Answers a request before the fake does; returns whether it did. Runs on the server's threads.
  using hook = std::function<bool(const httplib::Request&, httplib::Response&)>;

  fake_coordinator();
  ~fake_coordinator();

  std::string url() const;
  int port() const { return port_; }
  /// Closes its port, as a killed node would.
  void stop();
  void set_hook(hook h);

  void submit(nlohmann::json task);
  /// Takes a running task away from its worker, as an expired lease does: its present attempt becomes stale, and the
  /// worker is told to stop it by its next heartbeat.
  void take_away(const std::string& task_id);
  void forget_workers();

  nlohmann::json task(const std::string& id) const;
  nlohmann::json workers() const;
  std::vector<seen> requests(const std::string& method, const std::string& path) const;

  /// Waits until `done`, evaluated under the lock, is true; false after ten seconds.
  bool eventually(const std::function<bool(const nlohmann::json& tasks, const nlohmann::json& workers)>& done) const;

 private:
  using handler = std::function<void(const httplib::Request&, httplib::Response&)>;
  /// httplib::Server's Get, Post, Put or Delete.
  using add_handler = httplib::Server& (httplib::Server::*)(const std::string&, handler);

  void on(add_handler add, const std::string& pattern, handler own);
  void add_routes();
  void add_worker_routes();
  void add_task_routes();
  void add_key_routes();
  void claim(const httplib::Request& request, httplib::Response& response);
  void end_attempt(const httplib::Request& request, httplib::Response& response, bool completed);

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool stopped_ = false;
  hook hook_;
  nlohmann::json tasks_ = nlohmann::json::object();
  std::vector<std::string> order_;
  nlohmann::json workers_ = nlohmann::json::object();
  std::map<std::string, std::pair<std::uint64_t, std::string>> keys_;
  std::uint64_t version_ = 0;
  std::vector<seen> seen_;
  std::unique_ptr<httplib::Server> server_;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace coordinator
