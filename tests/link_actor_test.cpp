#include <doctest/doctest.h>
#include <netinet/in.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/link_net.hpp"
#include "tests/support/link_node.hpp"
#include "tests/support/tcp_relay.hpp"

namespace coordinator {
namespace {

using link_net::eventually;
using namespace std::chrono_literals;

struct port {
  file_descriptor listener;
  std::string address;
};

/// Ports in ascending order of their addresses: the first node is the one that dials.
std::vector<port> make_ports(std::size_t count) {
  std::vector<port> ports;
  for (std::size_t i = 0; i < count; ++i) {
    auto listener = listen_on({"127.0.0.1", 0});
    REQUIRE(listener.error == "");
    auto address = "127.0.0.1:" + std::to_string(local_port(listener.socket.get()));
    ports.push_back({std::move(listener.socket), address});
  }
  std::sort(ports.begin(), ports.end(), [](auto& x, auto& y) { return x.address < y.address; });
  return ports;
}

link_target to(const std::string& address, const std::string& id = {}) {
  return {node_id{id}, address, "configured-" + address};
}

std::uint64_t next_round() {
  static std::uint64_t last = 0;
  return ++last;
}

/// Says something until it is heard: while a link is being replaced, what is said may be lost.
bool is_heard(link_node& from, const std::string& to_id, link_node& at) {
  return eventually([&] {
    auto round = next_round();
    return from.say(to_id, round) && eventually([&] { return at.has_heard(round); }, 200ms);
  });
}

bool linked(link_node& a, link_node& b) {
  return is_heard(a, "b", b) && is_heard(b, "a", a);
}

std::string last_error(link_node& node) {
  auto status = node.status();
  return status.empty() ? "" : status.front().last_error;
}

bool fails_with(link_node& node, const std::string& words) {
  return eventually([&] { return last_error(node).find(words) != std::string::npos; });
}

/// A node a that reaches b through a relay, and is not reached by b in any other way.
struct relayed_pair {
  explicit relayed_pair(bool holds_on_to_handles = false) {
    auto ports = make_ports(2);
    relay = std::make_unique<tcp_relay>(*parse_host_port(ports[1].address));
    link_node::options b_options{"b"};
    b_options.holds_on_to_handles = holds_on_to_handles;
    b = std::make_unique<link_node>(b_options, std::move(ports[1].listener));
    link_node::options a_options{"a", {to(to_string(relay->address()))}};
    a_options.holds_on_to_handles = holds_on_to_handles;
    a_options.advertise = "0";  // Before every address, so that it is always the one that dials.
    a = std::make_unique<link_node>(a_options, std::move(ports[0].listener));
  }

  std::unique_ptr<tcp_relay> relay;
  std::unique_ptr<link_node> b, a;
};

std::size_t count(const std::vector<std::string>& events, const std::string& what) {
  return static_cast<std::size_t>(std::count(events.begin(), events.end(), what));
}

}  // namespace

TEST_CASE("links: two nodes use one connection, both ways, and measure it") {
  link_net::stall_watch machine;
  auto ports = make_ports(2);
  link_node a{{"a", {to(ports[1].address)}}, std::move(ports[0].listener)};
  link_node b{{"b", {to(ports[0].address)}}, std::move(ports[1].listener)};
  CHECK(linked(a, b));
  CHECK((machine.stood_still() || a.counters().admitted + b.counters().admitted == 1));
  CHECK((machine.stood_still() || a.events() == std::vector<std::string>{"up b"}));
  CHECK((machine.stood_still() || b.events() == std::vector<std::string>{"up a"}));
  CHECK(a.configured_address("b") == "configured-" + b.address());
  CHECK(b.configured_address("a") == "configured-" + a.address());
  CHECK(eventually([&] { return a.has_measured("b") && b.has_measured("a"); }));
  auto status = a.status();
  REQUIRE(status.size() == 1);
  CHECK(status[0].id == node_id{"b"});
  CHECK(status[0].up);
  CHECK(status[0].rtt_us >= 0);
}

TEST_CASE("links: the node that is to be dialled dials itself when nobody comes") {
  auto ports = make_ports(2);
  link_node a{{"a"}, std::move(ports[0].listener)};
  link_node b{{"b", {to(ports[0].address)}}, std::move(ports[1].listener)};
  CHECK(linked(a, b));
  CHECK(a.counters().admitted == 1);
  CHECK(b.configured_address("a") == "configured-" + a.address());
}

TEST_CASE("links: three nodes find each other by names, whatever they are called in --peers") {
  auto ports = make_ports(3);
  std::vector<std::string> aliases;
  for (auto& x : ports)
    aliases.push_back("localhost" + x.address.substr(x.address.find(':')));
  std::vector<std::unique_ptr<link_node>> nodes;
  const std::string ids[] = {"a", "b", "c"};
  for (std::size_t i = 0; i < 3; ++i) {
    link_node::options options{ids[i]};
    for (std::size_t j = 0; j < 3; ++j)
      if (j != i)
        options.targets.push_back(to(aliases[j]));
    nodes.push_back(std::make_unique<link_node>(options, std::move(ports[i].listener)));
  }
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      if (j != i)
        CHECK(eventually([&] { return nodes[i]->configured_address(ids[j]) == "configured-" + aliases[j]; }));
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      if (j != i)
        CHECK(is_heard(*nodes[i], ids[j], *nodes[j]));
}

TEST_CASE("links: another secret, cluster, id or version never comes up, and the status says why") {
  auto ports = make_ports(2);
  link_node::options a{"a", {to(ports[1].address)}};
  link_node::options b{"b"};
  std::string expected;
  SUBCASE("another secret") {
    b.secret = 'b';
    expected = "does it have the same cluster secret?";
  }
  SUBCASE("another cluster") {
    a.cluster_id = "cluster-a";
    b.cluster_id = "cluster-b";
    expected = "refused: a belongs to cluster \"cluster-a\", b to cluster \"cluster-b\"";
  }
  SUBCASE("the same id") {
    b.id = "a";
    expected = "refused: node id \"a\" is in use both at";
  }
  SUBCASE("the same boot id") {
    a.boot_id = b.boot_id = 7;
    expected = "refused: boot id 7 of \"a\" is that of \"b\"";
  }
  SUBCASE("another id than --peers says") {
    a.targets = {to(ports[1].address, "c")};
    expected = "found node \"b\" at " + ports[1].address + " where \"c\" should be";
  }
  SUBCASE("the node itself") {
    a.targets = {to(ports[0].address)};
    expected = "does a peer's address lead back to the node itself?";
  }
  link_node other{b, std::move(ports[1].listener)};
  link_node node{a, std::move(ports[0].listener)};
  CHECK(fails_with(node, expected));
  CHECK(node.events().empty());
  CHECK(other.events().empty());
}

TEST_CASE("links: nodes of two protocol versions do not link, and both sides name the versions") {
  auto text = std::make_shared<std::ostringstream>();
  auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("versions", std::make_shared<spdlog::sinks::ostream_sink_mt>(*text)));
  auto ports = make_ports(2);
  {
    link_node::options a{"a", {to(ports[1].address)}};
    link_node::options b{"b"};
    a.protocol_version = link_protocol_version + 1;
    link_node other{b, std::move(ports[1].listener)};
    link_node node{a, std::move(ports[0].listener)};
    CHECK(fails_with(node, "refused: protocol version 3 where b speaks version 2"));
    CHECK(node.events().empty());
    CHECK(other.events().empty());
  }
  spdlog::set_default_logger(before);
  CHECK_MESSAGE(text->str().find("no link with a at " + ports[0].address +
                                 ": protocol version 3 where b speaks version 2") != std::string::npos,
                text->str());
}

TEST_CASE("links: a node that is not formed links with one that is, until it belongs to another cluster (rule 12)") {
  auto ports = make_ports(2);
  link_node b{{"b", {}, 'a', "cluster-b"}, std::move(ports[1].listener)};
  link_node a{{"a", {to(ports[1].address)}}, std::move(ports[0].listener)};
  REQUIRE(linked(a, b));
  a.know_cluster("cluster-a");
  CHECK(eventually([&] { return count(a.events(), "down b") == 1; }));
  CHECK(eventually([&] { return count(b.events(), "down a") == 1; }));
  CHECK(fails_with(a, "cluster \"cluster-b\""));
  CHECK(!a.is_up("b"));
}

TEST_CASE("links: a peer that starts again is linked again") {
  auto ports = make_ports(2);
  auto where = *parse_host_port(ports[1].address);
  link_node a{{"a", {to(ports[1].address)}}, std::move(ports[0].listener)};
  auto listener = std::move(ports[1].listener);
  for (std::size_t i = 1; i <= 3; ++i) {
    if (!listener)
      REQUIRE(eventually([&] { return static_cast<bool>(listener = listen_on(where).socket); }));
    link_node b{{"b", {to(a.address())}}, std::move(listener)};
    CHECK(linked(a, b));
    CHECK(count(a.events(), "up b") >= i);
  }
  CHECK(eventually([&] { return !a.is_up("b"); }));
}

TEST_CASE("links: a hung connection is given up on both sides, and used again once it moves") {
  relayed_pair pair;
  for (std::size_t i = 1; i <= 3; ++i) {
    REQUIRE(linked(*pair.a, *pair.b));
    pair.relay->hang();
    // The silence of the connection itself is what counts; that nobody answers is noticed later.
    CHECK(eventually([&] { return last_error(*pair.a) == "the connection broke"; }));
    CHECK(eventually([&] { return !pair.a->is_up("b") && !pair.b->is_up("a"); }));
    pair.relay->resume();
  }
  CHECK(linked(*pair.a, *pair.b));
}

TEST_CASE("links: a connection that is cut again and again comes back each time") {
  relayed_pair pair;
  for (std::size_t i = 1; i <= 10; ++i) {
    REQUIRE(linked(*pair.a, *pair.b));
    auto lost = count(pair.a->events(), "down b");
    pair.relay->cut();
    CHECK(eventually([&] { return count(pair.a->events(), "down b") > lost; }));
    CHECK(eventually([&] { return last_error(*pair.a) == "the connection broke"; }));
  }
  CHECK(linked(*pair.a, *pair.b));
}

TEST_CASE("links: who lets go of a broken link's handles late does not break the next link") {
  relayed_pair pair{true};
  REQUIRE(linked(*pair.a, *pair.b));
  pair.relay->cut();
  REQUIRE(eventually([&] { return count(pair.a->events(), "down b") > 0 && count(pair.b->events(), "down a") > 0; }));
  // CAF keeps its proxies by the actor they stand for: the old ones must not take the new ones with them.
  REQUIRE(linked(*pair.a, *pair.b));
  pair.a->let_go();
  pair.b->let_go();
  for (int i = 0; i < 20; ++i)
    CHECK(linked(*pair.a, *pair.b));
  CHECK(count(pair.a->events(), "up b") == 2);
}

TEST_CASE("links: strangers at the gate do not disturb a link") {
  link_net::stall_watch machine;
  auto ports = make_ports(2);
  link_node b{{"b"}, std::move(ports[1].listener)};
  link_node a{{"a", {to(ports[1].address)}}, std::move(ports[0].listener)};
  REQUIRE(linked(a, b));
  auto where = *parse_host_port(b.address());
  auto context = link_net::make_context('b');
  // A client handshake of BASP with an empty payload: it ends a process that takes it unchecked.
  std::string basp_killer(32, '\0');
  basp_killer[0] = 1;
  std::vector<file_descriptor> strangers;
  for (int i = 0; i < 300; ++i) {
    auto stranger = connect_to(where, std::chrono::steady_clock::now() + 60s);
    REQUIRE(stranger.error == "");
    if (i % 3 == 0)
      ::send(stranger.socket.get(), basp_killer.data(), basp_killer.size(), MSG_NOSIGNAL);
    if (i % 3 == 1)
      tls_session{*context, stranger.socket.get(), tls_side::client}.handshake();
    strangers.push_back(std::move(stranger.socket));
  }
  CHECK(linked(a, b));
  CHECK(eventually([&] {
    auto x = b.counters();
    return x.refused + x.timed_out + x.evicted >= 300;
  }));
  CHECK(linked(a, b));
  CHECK((machine.stood_still() || a.events() == std::vector<std::string>{"up b"}));
  CHECK((machine.stood_still() || b.events() == std::vector<std::string>{"up a"}));
}

TEST_CASE("links: a peer that does not answer keeps no other peer waiting") {
  link_net::stall_watch machine;
  // A listener whose queue is full: connecting to it hangs until the deadline, each time.
  file_descriptor full{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(full.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(full.get(), 0) == 0);
  std::vector<file_descriptor> queue;
  while (queue.size() < 5) {
    auto one = connect_to({"127.0.0.1", local_port(full.get())}, std::chrono::steady_clock::now() + 50ms);
    queue.push_back(std::move(one.socket));
  }
  auto ports = make_ports(2);
  auto hangs = "127.0.0.1:" + std::to_string(local_port(full.get()));
  link_node b{{"b"}, std::move(ports[1].listener)};
  link_node::options options{"a", {to(hangs), to(ports[1].address)}};
  options.advertise = "0";
  link_node a{options, std::move(ports[0].listener)};
  CHECK(linked(a, b));
  // Up with b at the first attempt, before the other one has failed even once, which takes it half a second.
  CHECK((machine.stood_still() || last_error(a) == ""));
  CHECK(fails_with(a, "Connection timed out"));
  CHECK((machine.stood_still() || a.events() == std::vector<std::string>{"up b"}));
}

TEST_CASE("links: who connects to a peer ends when the peer is taken out of the cluster") {
  auto ports = make_ports(3);
  link_node a{{"a", {to(ports[1].address, "b"), to(ports[2].address, "c")}, 'a', "x"}, std::move(ports[0].listener)};
  link_node b{{"b", {}, 'a', "x"}, std::move(ports[1].listener)};
  ports[2].listener.reset();
  membership members;
  for (auto [id, i] : {std::pair{"a", 0}, {"b", 1}, {"c", 2}})
    members.members.push_back({node_id{id}, {1}, "h", ports[static_cast<std::size_t>(i)].address, true});
  a.know_cluster("x", members);
  REQUIRE(eventually([&] { return a.is_up("b") && a.dialers() == 2; }));
  members.members.pop_back();
  a.know_cluster("x", members);
  CHECK(eventually([&] { return a.dialers() == 1; }));
  CHECK(a.status().size() == 1);
  CHECK(linked(a, b));
}

TEST_CASE("links: members that --peers does not name are linked once the cluster is known") {
  auto ports = make_ports(2);
  link_node b{{"b"}, std::move(ports[1].listener)};
  link_node a{{"a"}, std::move(ports[0].listener)};
  membership members;
  members.members = {{node_id{"a"}, {}, "http-a", a.address(), true}, {node_id{"b"}, {}, "http-b", b.address(), true}};
  a.know_cluster("cluster-a", members);
  b.know_cluster("cluster-a", members);
  CHECK(linked(a, b));
  CHECK(a.configured_address("b") == "");
}

}  // namespace coordinator
