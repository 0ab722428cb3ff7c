#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "tests/support/link_net.hpp"
#include "tests/support/link_node.hpp"

namespace coordinator {
namespace {

using link_net::eventually;

bool run(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

/// Two network namespaces with a wire between them.
class two_networks {
 public:
  two_networks() {
    made_ = run("ip netns add " + left()) && run("ip netns add " + right()) &&
            run("ip link add veth0 netns " + left() + " type veth peer name veth0 netns " + right()) &&
            set_up(left(), "10.213.0.1") && set_up(right(), "10.213.0.2");
  }
  ~two_networks() {
    run("ip netns del " + left());
    run("ip netns del " + right());
  }

  bool made() const { return made_; }
  std::string left() const { return "coordinator-l" + std::to_string(::getpid()); }
  std::string right() const { return "coordinator-r" + std::to_string(::getpid()); }

  /// Packets vanish on the way, as when a cable is pulled at a switch: they go to a station that is not there.
  void cut() {
    CHECK(neighbour(left(), "10.213.0.2", "02:00:00:00:00:99"));
    CHECK(neighbour(right(), "10.213.0.1", "02:00:00:00:00:99"));
  }
  void heal() {
    CHECK(run("ip -n " + left() + " neigh del 10.213.0.2 dev veth0"));
    CHECK(run("ip -n " + right() + " neigh del 10.213.0.1 dev veth0"));
  }

 private:
  static bool set_up(const std::string& name, const std::string& address) {
    return run("ip -n " + name + " addr add " + address + "/24 dev veth0") &&
           run("ip -n " + name + " link set veth0 up") && run("ip -n " + name + " link set lo up");
  }
  static bool neighbour(const std::string& name, const std::string& address, const std::string& station) {
    return run("ip -n " + name + " neigh replace " + address + " lladdr " + station + " nud permanent dev veth0");
  }

  bool made_ = false;
};

/// Makes a node in a network: all of its threads come from one that has entered it, and so stay there.
std::unique_ptr<link_node> make_node(const std::string& network, const host_port& where, link_node::options options) {
  std::unique_ptr<link_node> node;
  std::string error;
  std::thread{[&] {
    file_descriptor name{::open(("/run/netns/" + network).c_str(), O_RDONLY | O_CLOEXEC)};
    if (!name || ::setns(name.get(), CLONE_NEWNET) != 0) {
      error = "cannot enter " + network;
      return;
    }
    auto listener = listen_on(where);
    error = listener.error;
    if (listener.socket) {
      options.advertise = to_string(host_port{where.host, local_port(listener.socket.get())});
      node = std::make_unique<link_node>(options, std::move(listener.socket));
    }
  }}.join();
  CHECK(error == "");
  return node;
}

bool hears(link_node& from, const std::string& to_id, link_node& at) {
  static std::uint64_t round = 1'000'000;
  return eventually([&] {
    auto mine = ++round;
    return from.say(to_id, mine) && eventually([&] { return at.has_heard(mine); }, std::chrono::milliseconds{200});
  });
}

}  // namespace

TEST_CASE("links: a partition is noticed on both sides, and a healed one is used again") {
  two_networks networks;
  if (!networks.made()) {
    MESSAGE("skipped: no network namespaces here");
    return;
  }
  auto b = make_node(networks.right(), {"10.213.0.2", 0}, {"b"});
  REQUIRE(b);
  auto a = make_node(networks.left(), {"10.213.0.1", 0}, {"a", {{{}, b->address(), "b"}}});
  REQUIRE(a);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(hears(*a, "b", *b));
    REQUIRE(hears(*b, "a", *a));
    networks.cut();
    CHECK(eventually([&] { return !a->is_up("b") && !b->is_up("a"); }));
    // A while of attempts that hang, none of which may keep the first that succeeds waiting.
    auto failed = [&] { return a->status().at(0).last_error.find("timed out") != std::string::npos; };
    CHECK(eventually(failed));
    networks.heal();
    auto healed = std::chrono::steady_clock::now();
    CHECK(eventually([&] { return a->is_up("b") && b->is_up("a"); }));
    MESSAGE("in use again after "
            << std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - healed).count()
            << " ms");
  }
  CHECK(hears(*a, "b", *b));
}

}  // namespace coordinator
