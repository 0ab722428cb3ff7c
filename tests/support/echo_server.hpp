#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "http/http_server.hpp"

namespace coordinator::test {

using namespace std::chrono_literals;

constexpr auto get = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

/// More than the buffers of two sockets hold.
constexpr std::size_t large = 32 << 20;

/// Answers what it was asked; GET /wait waits to be released, and what begins with /later is answered by `make`.
class echo : public request_handler {
 public:
  plan plan_of(const http_request& head) const override {
    bool waits = head.path == "/wait" || head.path == "/stream" || head.path == "/cut" || head.query == "thread";
    return {head.path == "/small" ? 10U : 1'000'000U, !waits};
  }

  reply begin(http_request& request) override {
    if (request.path.rfind("/later", 0) != 0)
      return answer(request);
    awaited_response later;
    later.start = [this, path = request.path](awaited_response::completion done) {
      std::lock_guard lock{mutex};
      asked.emplace_back(path, std::move(done));
      changed.notify_all();
    };
    later.give_up = [](bool stopping) {
      http_response response;
      response.body = stopping ? "stopping" : "late";
      return response;
    };
    later.timeout = patience;
    later.needs_client = request.query == "client";
    later.long_poll = request.query == "poll";
    return later;
  }

  /// Waits until so many have been asked for, and answers the one at that place with its path.
  void make(std::size_t place) {
    std::unique_lock lock{mutex};
    REQUIRE(changed.wait_for(lock, 30s, [&] { return asked.size() > place; }));
    auto& [path, done] = asked[place];
    done([path = path] {
      http_response response;
      response.body = path;
      return response;
    });
  }

  http_response answer(http_request& request) override {
    http_response response;
    if (request.path == "/wait") {
      std::unique_lock lock{mutex};
      ++waiting;
      changed.notify_all();
      changed.wait(lock, [&] { return released || request.client->stopping(); });
    } else if (request.path == "/throw") {
      throw std::runtime_error("x");
    } else if (request.path == "/stream") {
      response.stream = [](const body_sink& sink) { return sink("one ") && sink("") && sink("two"); };
    } else if (request.path == "/cut") {
      response.stream = [](const body_sink& sink) { return sink("part") && false; };
    } else if (request.path == "/lines") {
      response.set("X-Sound", "one line");
      response.set("X-Torn", "one\r\nX-Smuggled: two");
    } else if (request.path == "/large") {
      response.body.assign(large, 'x');
    }
    if (!response.stream && response.body.empty())
      response.body = request.method + " " + request.path + "?" + request.query + " " + request.body;
    return response;
  }

  bool is_probe(const http_request& request) const override { return request.path == "/probe"; }

  void complete(http_response& response) const override { response.set("X-Mark", "1"); }

  void wait_for(int count) {
    std::unique_lock lock{mutex};
    REQUIRE(changed.wait_for(lock, 30s, [&] { return waiting >= count; }));
  }
  void release() {
    std::lock_guard lock{mutex};
    released = true;
    changed.notify_all();
  }

  std::mutex mutex;
  std::condition_variable changed;
  int waiting = 0;
  bool released = false;
  std::chrono::milliseconds patience = 60s;
  std::deque<std::pair<std::string, awaited_response::completion>> asked;
};

/// With a patience that a client of a busy machine does not use up; a test of a time-out makes that one short.
inline http_server_options patient() {
  http_server_options options;
  options.port = 0;
  options.limits.head_timeout = 60s;
  options.limits.body_timeout = 60s;
  options.limits.idle_timeout = 60s;
  options.spare_patience = 60s;
  return options;
}

struct running {
  explicit running(http_server_options options = patient()) : server(std::move(options), handler) {
    REQUIRE(server.start() == "");
  }
  ~running() { handler.release(); }

  int port() const { return server.port(); }

  /// Whether so many connections are there, soon.
  bool has(std::size_t connections) const {
    auto deadline = std::chrono::steady_clock::now() + 60s;
    while (server.connections() != connections && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    return server.connections() == connections;
  }

  echo handler;
  http_server server;
};

}  // namespace coordinator::test
