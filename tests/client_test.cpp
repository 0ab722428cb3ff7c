#include "http/client/client.hpp"

#include <doctest/doctest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>
#include <thread>

#include "tests/support/fake_coordinator.hpp"

using namespace coordinator;
using std::chrono::milliseconds;

namespace {

/// A port on which connections are taken by the kernel and never answered; or, unheard, refused.
class mute_port {
 public:
  explicit mute_port(bool listening) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    if (listening)
      REQUIRE(::listen(socket_, 16) == 0);
  }
  ~mute_port() { ::close(socket_); }
  endpoint where() const { return {"127.0.0.1", port_}; }

 private:
  int socket_;
  int port_;
};

endpoint at(const fake_coordinator& node) {
  return {"127.0.0.1", node.port()};
}

client_request put(const std::string& key, const std::string& value) {
  client_request request;
  request.method = "PUT";
  request.path = "/api/kv/" + key;
  request.body = value;
  return request;
}

client_options patient_for(milliseconds time) {
  client_options options;
  options.give_up_after = time;
  return options;
}

bool busy(httplib::Response& response, const char* retry_after, int status = 503) {
  response.status = status;
  response.set_header("Retry-After", retry_after);
  response.set_content(R"({"code":"no_leader"})", "application/problem+json");
  return true;
}

}  // namespace

TEST_CASE("endpoint: URLs of every form are read, and a list of them") {
  auto nodes = parse_endpoints("http://a:1,b,[::1]:3/,http://10.0.0.1");
  REQUIRE(nodes.size() == 4);
  CHECK(nodes[0] == endpoint{"a", 1});
  CHECK(nodes[1] == endpoint{"b", 8080});
  CHECK(nodes[2] == endpoint{"::1", 3});
  CHECK(nodes[2].url() == "http://[::1]:3");
  CHECK(nodes[3].url() == "http://10.0.0.1:8080");
}

TEST_CASE("endpoint: what is no URL of a coordinator is refused") {
  for (auto text :
       {"", "https://a:1", "a:0", "a:65536", "a:1x", "a:", ":1", "http://a/b", "[::1", "[::1]x", "a,", "a b", "user@a"})
    CHECK_THROWS_AS(parse_endpoints(text), std::invalid_argument);
}

TEST_CASE("endpoint: an id stays one part of a path, whatever is in it") {
  CHECK(encode_component("a-b_c.d~1") == "a-b_c.d~1");
  CHECK(encode_component("a/b %\n\xC3\xBC") == "a%2Fb%20%25%0A%C3%BC");
}

TEST_CASE("client: goes to the next node when one refuses the connection, and stays there") {
  mute_port dead{false};
  fake_coordinator alive;
  client c{{dead.where(), at(alive)}};
  auto reply = c.send(put("k", "v"));
  CHECK(reply.status == 200);
  CHECK(reply.node == "fake-" + std::to_string(alive.port()));
  CHECK(c.current() == 1);
}

TEST_CASE("client: goes to the next node when one takes the connection and stays silent") {
  mute_port silent{true};
  fake_coordinator alive;
  client c{{silent.where(), at(alive)}};
  auto request = put("k", "v");
  request.answer_within = milliseconds{100};
  CHECK(c.send(request).status == 200);
}

TEST_CASE("client: a write that is tried again carries the key of the first try") {
  fake_coordinator first, second;
  first.set_hook([](auto&, auto& response) { return busy(response, "20"); });
  client c{{at(first), at(second)}};
  CHECK(c.send(put("k", "v")).status == 200);
  CHECK(c.send(put("k", "w")).status == 200);
  auto refused = first.requests("PUT", "/api/kv/k");
  auto taken = second.requests("PUT", "/api/kv/k");
  REQUIRE(refused.size() == 1);
  REQUIRE(taken.size() == 2);
  CHECK(refused[0].idempotency_key.size() == 32);
  CHECK(taken[0].idempotency_key == refused[0].idempotency_key);
  CHECK(taken[1].idempotency_key != refused[0].idempotency_key);
}

TEST_CASE("client: reads, and writes that are idempotent by nature, carry no key") {
  fake_coordinator node;
  client c{{at(node)}};
  client_request get;
  get.path = "/api/kv/k";
  CHECK(c.send(get).status == 404);
  auto write = put("k", "v");
  write.applied = once::by_nature;
  CHECK(c.send(write).status == 200);
  CHECK(node.requests("GET", "/api/kv/k").at(0).idempotency_key.empty());
  CHECK(node.requests("PUT", "/api/kv/k").at(0).idempotency_key.empty());
}

TEST_CASE("client: a node that said Retry-After is not asked again before") {
  fake_coordinator node;
  node.set_hook([](auto&, auto& response) { return busy(response, "20"); });
  client c{{at(node)}, patient_for(milliseconds{10'000})};
  CHECK(c.send(put("k", "v")).status == 503);
  CHECK(node.requests("PUT", "/api/kv/k").size() == 1);
}

TEST_CASE("client: one that is not to retry gives the first answer, or none") {
  fake_coordinator node;
  node.set_hook([](const httplib::Request&, httplib::Response& response) { return busy(response, "0"); });
  mute_port closed{false};
  auto once_for = [](const endpoint& where) {
    auto options = patient_for(milliseconds{10'000});
    options.retry = false;
    client one{{where, where}, options};
    return one.send(put("k", "v"));
  };
  CHECK(once_for(at(node)).status == 503);
  CHECK(node.requests("PUT", "/api/kv/k").size() == 1);
  CHECK_FALSE(once_for(closed.where()).answered());
}

TEST_CASE("client: after Retry-After it does ask again") {
  fake_coordinator node;
  std::atomic<int> tries{0};
  node.set_hook([&](auto&, auto& response) { return tries++ == 0 && busy(response, "1"); });
  client c{{at(node)}};
  CHECK(c.send(put("k", "v")).status == 200);
  CHECK(tries == 2);
}

TEST_CASE("client: a queue limit is the whole cluster's, so no other node is asked before Retry-After") {
  fake_coordinator first, second;
  first.set_hook([](auto&, auto& response) { return busy(response, "20", 429); });
  client c{{at(first), at(second)}, patient_for(milliseconds{10'000})};
  CHECK(c.send(put("k", "v")).status == 429);
  CHECK(second.requests("PUT", "/api/kv/k").empty());
}

TEST_CASE("client: a refusal is an answer, and not tried again") {
  fake_coordinator node;
  node.set_hook([](auto&, auto& response) {
    response.status = 422;
    return true;
  });
  client c{{at(node)}};
  CHECK(c.send(put("k", "v")).status == 422);
  CHECK(node.requests("PUT", "/api/kv/k").size() == 1);
}

TEST_CASE("client: when no node answers it gives up and says which was tried") {
  mute_port dead{false};
  client c{{dead.where()}, patient_for(milliseconds{200})};
  auto reply = c.send(put("k", "v"));
  CHECK(reply.status == 0);
  CHECK(reply.failure == dead.where().url() + ": no connection");
}

TEST_CASE("client: a node that died between two requests is left for the next") {
  auto first = std::make_unique<fake_coordinator>();
  fake_coordinator second;
  client c{{at(*first), at(second)}};
  CHECK(c.send(put("k", "v")).status == 200);
  first.reset();
  CHECK(c.send(put("k", "w")).status == 200);
  CHECK(second.requests("PUT", "/api/kv/k").size() == 1);
}

TEST_CASE("client: stop ends a request that waits, and every later one") {
  mute_port silent{true};
  client c{{silent.where()}, patient_for(milliseconds{60'000})};
  auto request = put("k", "v");
  request.answer_within = milliseconds{60'000};
  std::atomic<bool> ended{false};
  std::thread waiting{[&] {
    CHECK(c.send(request).status == 0);
    ended = true;
  }};
  while (!ended) {
    c.stop();
    std::this_thread::sleep_for(milliseconds{5});
  }
  waiting.join();
  CHECK(c.send(request).status == 0);
}

TEST_CASE("client: interrupt gives up the node that is waited for, not the request") {
  mute_port silent{true};
  fake_coordinator alive;
  client c{{silent.where(), at(alive)}, patient_for(milliseconds{60'000})};
  auto request = put("k", "v");
  request.answer_within = milliseconds{60'000};
  std::atomic<bool> ended{false};
  std::thread waiting{[&] {
    CHECK(c.send(request).status == 200);
    ended = true;
  }};
  while (!ended) {
    c.interrupt();
    std::this_thread::sleep_for(milliseconds{5});
  }
  waiting.join();
}
