#include "http/http_server.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "http/problem.hpp"
#include "tests/support/echo_server.hpp"
#include "tests/support/raw_http.hpp"

using namespace coordinator;
using namespace std::chrono_literals;
using namespace coordinator::test;

namespace {

/// Sends `text` again and again until the server closes; false if it still listens after `limit`.
bool is_cut_off(raw_http& client, std::string_view text, std::chrono::milliseconds pause, std::chrono::seconds limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < deadline) {
    if (!client.send(text) || client.closes_within(std::max<std::chrono::milliseconds>(pause, 1ms)))
      return true;
  }
  return false;
}

}  // namespace

TEST_CASE("http server: requests on one connection are answered in order, pipelined ones too") {
  running node;
  raw_http client{node.port()};
  auto first = client.ask("GET /a%2Fb?q=1 HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(first.status == 200);
  CHECK(first.body == "GET /a%2Fb?q=1 ");
  CHECK(first.header("X-Mark") == "1");
  client.send("POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST /2 HTTP/1.1\r\nContent-Length: 2\r\n\r\nde\r\n" +
              std::string{get});
  CHECK(client.receive().body == "POST /1? abc");
  CHECK(client.receive().body == "POST /2? de");
  CHECK(client.receive().body == "GET /x? ");
}

TEST_CASE("http server: HEAD, HTTP/1.0 and Connection: close") {
  running node;
  raw_http client{node.port()};
  client.send("HEAD /x HTTP/1.1\r\n\r\n");
  auto head = client.receive(60s, true);
  CHECK(head.status == 200);
  CHECK(head.header("Content-Length") == "9");
  CHECK(client.ask("GET /x HTTP/1.1\r\nConnection: foo, Close\r\n\r\n").header("Connection") == "close");
  CHECK(client.closes_within(60s));
  // It knows no chunks, so that only the end of the connection ends a stream.
  raw_http old{node.port()};
  CHECK(old.ask("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").body == "one two");
  CHECK(old.closes_within(60s));
  raw_http kept{node.port()};
  CHECK(kept.ask("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").status == 200);
  CHECK(kept.ask(get).status == 200);
}

TEST_CASE("http server: a value with a line's end in it becomes no header") {
  running node;
  raw_http client{node.port()};
  auto answer = client.ask("GET /lines HTTP/1.1\r\n\r\n");
  CHECK(answer.status == 200);
  CHECK(answer.header("X-Sound") == "one line");
  CHECK(answer.header("X-Torn") == "");
  CHECK(answer.header("X-Smuggled") == "");
}

TEST_CASE("http server: a streamed body comes in chunks, and one that fails is not ended properly") {
  running node;
  raw_http client{node.port()};
  CHECK(client.ask("GET /stream HTTP/1.1\r\n\r\n").body == "one two");
  CHECK(client.ask(get).status == 200);
  CHECK(client.ask("GET /cut HTTP/1.1\r\n\r\n").body == "part");
  CHECK(client.closes_within(60s));
}

TEST_CASE("http server: a large answer arrives whole") {
  running node;
  raw_http client{node.port()};
  CHECK(client.ask("GET /large HTTP/1.1\r\n\r\n").body.size() == large);
  CHECK(client.ask("GET /large?thread HTTP/1.1\r\n\r\n").body.size() == large);
  CHECK(client.ask(get).status == 200);
}

TEST_CASE("http server: a client that does not read its answer is cut off") {
  bool quick = false;
  SUBCASE("a quick one") {
    quick = true;
  }
  SUBCASE("one of a thread") {}
  auto options = patient();
  options.limits.write_stall = 200ms;
  running node{options};
  raw_http client{node.port()};
  REQUIRE(node.has(1));
  client.send(std::string{"GET /large"} + (quick ? "" : "?thread") + " HTTP/1.1\r\n\r\n");
  CHECK(node.has(0));
}

TEST_CASE("http server: a handler's exception is a 500 and the connection lives on") {
  running node;
  raw_http client{node.port()};
  for (auto request : {"GET /throw HTTP/1.1\r\n\r\n", "GET /throw?thread HTTP/1.1\r\n\r\n"}) {
    auto answer = client.ask(request);
    CHECK(answer.status == 500);
    CHECK(answer.header("Content-Type") == "application/problem+json");
    CHECK(client.ask(get).status == 200);
  }
}

TEST_CASE("http server: chunked bodies are decoded, with extensions and trailers") {
  running node;
  raw_http client{node.port()};
  auto answer = client.ask(
      "POST /x HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;name=value\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: "
      "y\r\n\r\n");
  CHECK(answer.body == "POST /x? abc0123456789");
  CHECK(client.ask(get).status == 200);
}

TEST_CASE("http server: malformed chunks are refused and the connection closed") {
  for (auto body : {"zz\r\n", "3\r\nabcde\r\n0\r\n\r\n", "-1\r\n", "0x3\r\nabc\r\n0\r\n\r\n", " 3\r\nabc\r\n",
                    "ffffffffffffffffffff\r\n", "\r\n"}) {
    CAPTURE(body);
    running node;
    raw_http client{node.port()};
    CHECK(client.ask("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string{body}).status == 400);
    CHECK(client.closes_within(60s));
  }
}

TEST_CASE("http server: a body over its limit is answered 413, however it is framed") {
  auto options = patient();
  options.limits.linger = 60s;
  running node{options};
  SUBCASE("announced") {
    raw_http client{node.port()};
    CHECK(client.ask("POST /small HTTP/1.1\r\nContent-Length: 11\r\n\r\n").status == 413);
    CHECK(client.closes_within(60s));
  }
  SUBCASE("announced, and the client waits for leave to send it") {
    raw_http client{node.port()};
    CHECK(client.ask("POST /small HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n").status == 413);
  }
  SUBCASE("announced, and sent all the same: the client is not cut off before it reads why") {
    raw_http client{node.port()};
    CHECK(client.send("POST /x HTTP/1.1\r\nContent-Length: 7000000\r\n\r\n" + std::string(7'000'000, 'x')));
    auto answer = client.receive();
    CHECK(answer.status == 413);
    CHECK(answer.header("X-Mark") == "1");
  }
  SUBCASE("one chunk") {
    raw_http client{node.port()};
    CHECK(client.ask("POST /small HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n").status == 413);
  }
  SUBCASE("endless chunks") {
    raw_http client{node.port()};
    client.send("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(is_cut_off(client, "1000\r\n" + std::string(4096, 'x') + "\r\n", 0ms, 60s));
  }
  SUBCASE("endless extensions of a chunk") {
    raw_http client{node.port()};
    client.send("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;");
    CHECK(is_cut_off(client, std::string(4096, 'x'), 0ms, 60s));
  }
  SUBCASE("endless trailers") {
    raw_http client{node.port()};
    client.send("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
    CHECK(is_cut_off(client, "A: b\r\n", 0ms, 60s));
  }
  SUBCASE("at the limit") {
    raw_http client{node.port()};
    CHECK(client.ask("POST /small HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789").status == 200);
  }
}

TEST_CASE("http server: leave to send a body is given when asked for") {
  running node;
  raw_http client{node.port()};
  client.send("POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  CHECK(client.receive().status == 100);
  CHECK(client.ask("abc").body == "POST /x? abc");
}

TEST_CASE("http server: clients whose head does not come are cut off in bounded time") {
  auto options = patient();
  options.limits.head_timeout = 300ms;
  running node{options};
  SUBCASE("dripped byte by byte") {
    raw_http client{node.port()};
    client.send("GET / HTTP/1.1\r\nX: ");
    CHECK(is_cut_off(client, "x", 20ms, 60s));
  }
  SUBCASE("garbage") {
    raw_http client{node.port()};
    std::string garbage;
    for (int i = 0; i < 5000; ++i)
      garbage.push_back(static_cast<char>(i * 7919 % 251));
    client.send(garbage);
    CHECK(client.closes_within(60s));
  }
  SUBCASE("silence") {
    raw_http client{node.port()};
    CHECK(client.closes_within(60s));
  }
  // Others are answered, when they are not too slow themselves.
  auto is_answered = [&] { return raw_http{node.port()}.ask(get).status == 200; };
  auto answered = is_answered();
  for (auto end = std::chrono::steady_clock::now() + 60s; !answered && std::chrono::steady_clock::now() < end;)
    answered = is_answered();
  CHECK(answered);
}

TEST_CASE("http server: clients whose body does not come are cut off in bounded time") {
  auto options = patient();
  options.limits.body_timeout = 300ms;
  running node{options};
  SUBCASE("dripped chunk by chunk") {
    raw_http client{node.port()};
    client.send("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(is_cut_off(client, "1\r\nx\r\n", 20ms, 60s));
  }
  SUBCASE("one that stops") {
    for (std::string target : {"/x", "/x?thread"}) {
      raw_http client{node.port()};
      CHECK(client.ask("POST " + target + " HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").status == 408);
      CHECK(client.closes_within(60s));
    }
  }
  raw_http other{node.port()};
  CHECK(other.ask(get).status == 200);
}

TEST_CASE("http server: a head that does not end is cut off, and a body that ends too early answered") {
  running node;
  SUBCASE("a body that ends early") {
    for (std::string target : {"/x", "/x?thread"}) {
      raw_http client{node.port()};
      client.send("POST " + target + " HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
      client.end_sending();
      CHECK(client.receive().status == 400);
    }
  }
  SUBCASE("an endless head") {
    raw_http client{node.port()};
    client.send("GET / HTTP/1.1\r\n");
    CHECK(is_cut_off(client, "X: " + std::string(4000, 'x') + "\r\n", 0ms, 60s));
  }
  raw_http other{node.port()};
  CHECK(other.ask(get).status == 200);
}

TEST_CASE("http server: a connection that idles between requests is kept for the idle time") {
  running node;
  raw_http client{node.port()};
  CHECK(client.ask(get).status == 200);
  CHECK_FALSE(client.closes_within(1s));
  CHECK(client.ask(get).status == 200);
}

TEST_CASE("http server: heads that could be read as two requests are refused") {
  for (auto head :
       {"POST /x HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "POST /x HTTP/1.1\r\nContent-Length: 1,1\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /x HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length : 3\r\n\r\n", "GET /x HTTP/1.1\r\n Folded: 3\r\n\r\n",
        "GET /x HTTP/1.1\nHost: a\r\n\r\n", "GET /x\r\n\r\n", "GET  HTTP/1.1\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n",
        "G(T /x HTTP/1.1\r\n\r\n", "GET x HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\nA: \x01\r\n\r\n"}) {
    CAPTURE(head);
    running node;
    raw_http client{node.port()};
    auto answer = client.ask(head);
    CHECK(answer.status == 400);
    CHECK(answer.header("Content-Type") == "application/problem+json");
    CHECK(client.closes_within(60s));
  }
}

TEST_CASE("http server: too much of a head has its own answers") {
  running node;
  raw_http version{node.port()};
  CHECK(version.ask("GET /x HTTP/2.0\r\n\r\n").status == 505);
  raw_http target{node.port()};
  CHECK(target.ask("GET /" + std::string(9000, 'x') + " HTTP/1.1\r\n\r\n").status == 414);
  raw_http count{node.port()};
  std::string many = "GET /x HTTP/1.1\r\n";
  for (int i = 0; i < 101; ++i)
    many += "A: b\r\n";
  CHECK(count.ask(many + "\r\n").status == 431);
  raw_http size{node.port()};
  CHECK(size.ask("GET /x HTTP/1.1\r\nX: " + std::string(40'000, 'x') + "\r\n\r\n").status == 431);
  // Recursion over a header's length has ended servers with small stacks.
  raw_http ranges{node.port()};
  CHECK(ranges.ask("GET /x HTTP/1.1\r\nRange: bytes=0-" + std::string(20'000, '1') + "\r\n\r\n").status == 200);
}

TEST_CASE("http server: 1,000 idle long-polls keep nobody waiting") {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 8192);
  ::setrlimit(RLIMIT_NOFILE, &files);
  running node;
  std::deque<raw_http> polls;
  for (int i = 0; i < 1000; ++i) {
    polls.emplace_back(node.port());
    REQUIRE(polls.back().send("GET /wait HTTP/1.1\r\n\r\n"));
  }
  node.handler.wait_for(1000);
  raw_http client{node.port()};
  std::vector<double> took;
  for (int i = 0; i < 200; ++i) {
    auto began = std::chrono::steady_clock::now();
    REQUIRE(client.ask(get).status == 200);
    raw_http fresh{node.port()};
    REQUIRE(fresh.ask(get).status == 200);
    took.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
  }
  std::sort(took.begin(), took.end());
  MESSAGE("two requests and a connect beside 1,000 long-polls: p50 " << took[100] << " ms, p99 " << took[197] << " ms");
  node.handler.release();
  for (auto& poll : polls)
    CHECK(poll.receive().status == 200);
}

TEST_CASE("http server: past the limit of connections probes are answered, and all else is refused with 503") {
  auto options = patient();
  options.threads.limit = 2;
  options.spare_threads.limit = 8;  // A place is free again only a moment after its answer.
  running node{options};
  raw_http first{node.port()};
  raw_http second{node.port()};
  first.send("GET /wait HTTP/1.1\r\n\r\n");
  second.send("GET /wait HTTP/1.1\r\n\r\n");
  node.handler.wait_for(2);
  for (int i = 0; i < 5; ++i) {
    raw_http prober{node.port()};
    auto probed = prober.ask("GET /probe HTTP/1.1\r\n\r\n");
    CHECK(probed.status == 200);
    CHECK(probed.header("Connection") == "close");
  }
  raw_http third{node.port()};
  auto answer = third.ask("GET / HTTP/1.1\r\n\r\n");
  CHECK(answer.status == 503);
  CHECK(answer.header("Retry-After") == "1");
  CHECK(answer.header("X-Mark") == "1");
}

TEST_CASE("http server: past the limit, those who say nothing keep no probe waiting for long") {
  auto options = patient();
  options.threads.limit = 1;
  options.spare_threads.limit = 1;
  options.spare_patience = 50ms;
  running node{options};
  raw_http first{node.port()};
  first.send("GET /wait HTTP/1.1\r\n\r\n");
  node.handler.wait_for(1);
  raw_http silent{node.port()};
  // Refused at once while the one spare place is taken, and let in when its time is over.
  bool answered = false;
  for (auto deadline = std::chrono::steady_clock::now() + 60s;
       !answered && std::chrono::steady_clock::now() < deadline;) {
    raw_http prober{node.port()};
    answered = prober.ask("GET /probe HTTP/1.1\r\n\r\n").status == 200;
  }
  CHECK(answered);
}

TEST_CASE("http server: a used port is reported, not shared") {
  running node;
  echo handler;
  auto options = patient();
  options.port = node.port();
  http_server second{options, handler};
  auto error = second.start();
  CHECK(error.find("in use") != std::string::npos);
  CHECK(error.find(std::to_string(node.port())) != std::string::npos);
  options.port = 0;
  options.host = "no.such.host.invalid";
  http_server third{options, handler};
  CHECK(third.start().find("cannot be resolved") != std::string::npos);
}

TEST_CASE("http server: stopping answers what is in flight and closes what is idle") {
  running node;
  raw_http idle{node.port()};
  REQUIRE(idle.ask(get).status == 200);
  raw_http busy{node.port()};
  busy.send("GET /wait HTTP/1.1\r\n\r\n");
  node.handler.wait_for(1);
  raw_http poll{node.port()};
  poll.send("GET /later/poll?poll HTTP/1.1\r\n\r\n");
  raw_http write{node.port()};
  write.send("GET /later/write HTTP/1.1\r\n\r\n");
  {
    std::unique_lock lock{node.handler.mutex};
    REQUIRE(node.handler.changed.wait_for(lock, 30s, [&] { return node.handler.asked.size() == 2; }));
  }
  std::thread stop{[&] { node.server.stop(30s); }};
  CHECK(idle.closes_within(60s));
  CHECK(poll.receive().body == "stopping");
  for (std::size_t place : {0, 1})
    node.handler.make(place);
  CHECK(write.receive().body == "/later/write");
  node.handler.release();
  auto answer = busy.receive();
  CHECK(answer.status == 200);
  CHECK(answer.header("Connection") == "close");
  stop.join();
  CHECK(node.server.connections() == 0);
  CHECK_FALSE(raw_http{node.port()}.connected());
}
