#include "http/connection_loop.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/support/echo_server.hpp"
#include "tests/support/raw_http.hpp"

using namespace coordinator;
using namespace coordinator::test;

TEST_CASE("connection loop: quick requests and those of threads take turns on one connection") {
  running node;
  raw_http client{node.port()};
  std::string all;
  for (int i = 0; i < 20; ++i)
    all += "POST /" + std::to_string(i) + (i % 3 == 0 ? "?thread" : "") + " HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
  client.send(all);
  for (int i = 0; i < 20; ++i)
    CHECK(client.receive().body == "POST /" + std::to_string(i) + (i % 3 == 0 ? "?thread ab" : "? ab"));
  CHECK(client.ask(get).status == 200);
}

TEST_CASE("connection loop: whoever asks much at once gets all of it, and others theirs meanwhile") {
  running node;
  raw_http client{node.port()};
  std::string all;
  constexpr int count = 2000;
  for (int i = 0; i < count; ++i)
    all += get;
  client.send(all);
  raw_http other{node.port()};
  CHECK(other.ask(get).status == 200);
  int answered = 0;
  for (int i = 0; i < count; ++i)
    answered += client.receive().status == 200 ? 1 : 0;
  CHECK(answered == count);
}

TEST_CASE("connection loop: stopping while clients come and ask harms nobody") {
  for (int round = 0; round < 20; ++round) {
    running node;
    std::vector<std::thread> clients;
    for (int i = 0; i < 4; ++i)
      clients.emplace_back([port = node.port(), i] {
        for (int j = 0; j < 50; ++j) {
          raw_http one{port};
          one.send(i % 2 == 0 ? get : "GET /x?thread HTTP/1.1\r\n\r\n");
          if (one.connected())
            one.receive(1s);
        }
      });
    node.server.stop(0ms);
    for (auto& each : clients)
      each.join();
    CHECK(node.server.connections() == 0);
  }
}

TEST_CASE("connection loop: a request that comes in pieces is put together") {
  running node;
  for (std::string target : {"/x", "/x?thread"}) {
    CAPTURE(target);
    raw_http client{node.port()};
    auto text = "POST " + target + " HTTP/1.1\r\nContent-Length: 5\r\n\r\nab\r\n";
    for (char c : text) {
      client.send(std::string_view{&c, 1});
      std::this_thread::yield();
    }
    client.send("cGET /y HTTP/1.1\r");
    CHECK(client.receive().body == "POST " + target + (target == "/x" ? "?" : "") + " ab\r\nc");
    client.send("\n\r\n");
    CHECK(client.receive().body == "GET /y? ");
  }
}

TEST_CASE("connection loop: answers that come later go to who asked, in whatever order they come") {
  running node;
  std::deque<raw_http> clients;
  for (std::size_t i = 0; i < 50; ++i) {
    clients.emplace_back(node.port());
    clients.back().send("GET /later/" + std::to_string(i) + " HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n");
  }
  for (std::size_t i = 50; i-- > 0;)
    node.handler.make(i);
  for (std::size_t i = 0; i < 50; ++i) {
    CHECK(clients[i].receive().body == "/later/" + std::to_string(i));
    CHECK(clients[i].receive().body == "GET /x? ");
  }
}

TEST_CASE("connection loop: an answer that does not come is given up, and nobody gets it later") {
  running node;
  node.handler.patience = 100ms;
  raw_http client{node.port()};
  CHECK(client.ask("GET /later/1 HTTP/1.1\r\n\r\n").body == "late");
  node.handler.patience = 60s;
  client.send("GET /later/2 HTTP/1.1\r\n\r\n");
  node.handler.make(1);
  node.handler.make(0);
  CHECK(client.receive().body == "/later/2");
  CHECK(client.ask(get).body == "GET /x? ");
}

TEST_CASE("connection loop: who has gone is waited for only where the answer matters all the same") {
  running node;
  {
    raw_http read{node.port()};
    read.send("GET /later/1?client HTTP/1.1\r\n\r\n");
    raw_http written{node.port()};
    written.send("GET /later/2 HTTP/1.1\r\n\r\n");
    REQUIRE(node.has(2));
    std::unique_lock lock{node.handler.mutex};
    REQUIRE(node.handler.changed.wait_for(lock, 30s, [&] { return node.handler.asked.size() == 2; }));
  }
  CHECK(node.has(1));
  for (std::size_t place : {0, 1})
    node.handler.make(place);
  CHECK(node.has(0));
  // One that only ended its side reads its answer.
  raw_http half{node.port()};
  half.send("GET /x HTTP/1.1\r\n\r\n");
  half.end_sending();
  CHECK(half.receive().status == 200);
}
