#include "actors/path_probe.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>

#include "tests/support/link_net.hpp"

namespace coordinator {
namespace {

using link_net::eventually;

const cluster_secret secret = *cluster_secret::from_text(std::string(32, 'x'));

std::array<unsigned char, 32> key_of(unsigned char first) {
  std::array<unsigned char, 32> key{};
  key[0] = first;
  return key;
}

/// One node's probe on a port of loopback, and how many datagrams of its one peer arrived.
struct end {
  explicit end(const std::string& name) : name(name) {
    auto opened = datagrams_on({"127.0.0.1", 0});
    REQUIRE(opened.error == "");
    address = "127.0.0.1:" + std::to_string(local_port(opened.socket.get()));
    socket = std::move(opened.socket);
  }
  void start(const cluster_secret& with = secret) {
    probe =
        std::make_unique<path_probe>(std::move(socket), with, node_id{name}, 7, [this](const node_id&) { ++arrived; });
  }

  std::string name;
  std::string address;
  file_descriptor socket;
  std::atomic<int> arrived{0};
  std::unique_ptr<path_probe> probe;
};

void send(const std::string& to, const std::string& bytes) {
  auto from = datagrams_on({"127.0.0.1", 0});
  auto where = look_up_for(from.socket.get(), *parse_host_port(to));
  REQUIRE(where);
  REQUIRE(::sendto(from.socket.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&where->storage),
                   where->size) == static_cast<ssize_t>(bytes.size()));
}

}  // namespace

TEST_CASE("path probe: a datagram is read by who holds the key, and by nobody else") {
  const probe_datagram x{{"node-1"}, {"node-2"}, 5, 9};
  auto bytes = seal(x, key_of(1));
  auto read = unseal(bytes, key_of(1));
  REQUIRE(read);
  CHECK(read->from == x.from);
  CHECK(read->to == x.to);
  CHECK(read->boot_id == 5);
  CHECK(read->number == 9);
  CHECK_FALSE(unseal(bytes, key_of(2)));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    CHECK_FALSE(unseal(bytes.substr(0, i), key_of(1)));
    auto spoilt = bytes;
    spoilt[i] = static_cast<char>(spoilt[i] ^ 1);
    CHECK_FALSE(unseal(spoilt, key_of(1)));
  }
}

TEST_CASE("path probe: each direction is told by itself") {
  end a{"a"}, b{"b"};
  a.start();
  b.start();
  // Only b sends: what a hears says nothing of the way back.
  a.probe->aim({{{"b"}, "127.0.0.1:1"}});
  b.probe->aim({{{"a"}, a.address}});
  CHECK(eventually([&] { return a.arrived >= 2; }));
  CHECK(b.arrived == 0);
  a.probe->aim({{{"b"}, b.address}});
  CHECK(eventually([&] { return b.arrived >= 2; }));
}

TEST_CASE("path probe: strangers, other keys, other addressees and repeated datagrams are not counted") {
  end a{"a"}, b{"b"}, other{"b"};
  auto relay = datagrams_on({"127.0.0.1", 0});
  auto relay_address = "127.0.0.1:" + std::to_string(local_port(relay.socket.get()));
  a.start();
  b.start();
  other.start(*cluster_secret::from_text(std::string(32, 'y')));
  a.probe->aim({{{"b"}, "127.0.0.1:1"}});
  b.probe->aim({{{"a"}, relay_address}});
  other.probe->aim({{{"a"}, a.address}});
  std::string bytes;
  REQUIRE(eventually([&] {
    char buffer[1024];
    auto n = ::recv(relay.socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n > 0)
      bytes.assign(buffer, static_cast<std::size_t>(n));
    return n > 0;
  }));
  send(a.address, "");
  send(a.address, std::string(1024, 'z'));
  // It does not know b before its next turn, and what came until then counts for nothing.
  CHECK(eventually([&] {
    send(a.address, bytes);
    return a.arrived == 1;
  }));
  // What comes after the repeated ones shows that they have been read.
  constexpr int often = 50;
  for (int i = 0; i < often; ++i)
    send(a.address, bytes);
  send(b.address, bytes);
  b.probe->aim({{{"a"}, a.address}});
  CHECK(eventually([&] { return a.arrived >= 3; }));
  CHECK(a.arrived < often);
  CHECK(b.arrived == 0);
}

}  // namespace coordinator
