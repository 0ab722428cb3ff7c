#include "actors/link_socket.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <vector>

namespace coordinator {
namespace {

using namespace std::chrono_literals;

std::chrono::steady_clock::time_point soon() {
  return std::chrono::steady_clock::now() + 60s;
}

unsigned option(int fd, int level, int name) {
  unsigned value = 0;
  socklen_t size = sizeof value;
  CHECK(::getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

}  // namespace

TEST_CASE("socket: an address is host:port, with brackets around IPv6") {
  CHECK(parse_host_port("node-1:80") == host_port{"node-1", 80});
  CHECK(parse_host_port("127.0.0.1:65535") == host_port{"127.0.0.1", 65535});
  CHECK(parse_host_port("[::1]:80") == host_port{"::1", 80});
  for (auto wrong :
       {"", "host", "host:", ":80", "host:65536", "host:-1", "host:80x", "::1:80", "[]:80", "[::1:80", "a:b:1"})
    CHECK_MESSAGE(!parse_host_port(wrong), wrong);
  CHECK(to_string(host_port{"::1", 80}) == "[::1]:80");
  CHECK(to_string(host_port{"node-1", 80}) == "node-1:80");
}

TEST_CASE("socket: connections are non-blocking, closed on exec, and notice a silent peer within seconds") {
  for (auto host : {"127.0.0.1", "localhost", "::1"}) {
    auto listener = listen_on({host, 0});
    if (!listener.socket && std::string_view{host} == "::1") {
      MESSAGE("skipped: this machine has no IPv6 loopback");
      continue;
    }
    REQUIRE(listener.error == "");
    auto connected = connect_to({host, local_port(listener.socket.get())}, soon());
    REQUIRE(connected.error == "");
    auto fd = connected.socket.get();
    CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(option(fd, IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(option(fd, SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 3000);
    CHECK(!remote_address(fd).empty());
  }
}

TEST_CASE("socket: what cannot be reached is an error that names the address") {
  std::uint16_t free_port = 0;
  {
    auto listener = listen_on({"127.0.0.1", 0});
    free_port = local_port(listener.socket.get());
  }
  auto refused = connect_to({"127.0.0.1", free_port}, soon());
  CHECK(!refused.socket);
  CHECK(refused.error == "cannot connect to 127.0.0.1:" + std::to_string(free_port) + ": Connection refused");
  CHECK(connect_to({"no-such-host.invalid", 80}, soon()).error.find("cannot look up no-such-host.invalid") == 0);
  auto taken = listen_on({"127.0.0.1", 0});
  auto port = local_port(taken.socket.get());
  CHECK(listen_on({"127.0.0.1", port}).error ==
        "cannot listen on 127.0.0.1:" + std::to_string(port) + ": Address already in use");
}

TEST_CASE("socket: a connection that nobody answers is given up at the deadline") {
  // A listener whose queue is full lets further connections hang, as a machine that is off does.
  file_descriptor listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(listener.get(), 0) == 0);
  host_port where{"127.0.0.1", local_port(listener.get())};
  std::vector<file_descriptor> queue;
  std::string error;
  for (int i = 0; i < 5 && error.empty(); ++i) {
    auto result = connect_to(where, std::chrono::steady_clock::now() + 100ms);
    error = result.error;
    queue.push_back(std::move(result.socket));
  }
  CHECK(error == "cannot connect to " + to_string(where) + ": Connection timed out");
}

}  // namespace coordinator
