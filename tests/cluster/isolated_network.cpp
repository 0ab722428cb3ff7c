#include "tests/cluster/isolated_network.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace coordinator {

namespace {

/// Runs one line of shell and says whether it went well.
bool run(const std::string& command) {
  return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

void must_run(const std::string& command) {
  if (!run(command))
    throw std::runtime_error("`" + command + "` failed");
}

/// Moves the calling thread into a network namespace of its own. An ordinary user needs a user namespace for that,
/// which only a process with a single thread can enter.
void enter_namespace() {
  if (::unshare(CLONE_NEWNET) == 0)
    return;
  auto user = std::to_string(::geteuid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
    throw std::runtime_error(std::string{"no network namespace for this process: "} + std::strerror(errno));
  std::ofstream{"/proc/self/uid_map"} << "0 " + user + " 1";
}

}  // namespace

isolated_network::isolated_network(int machines) {
  if (!run("ip -V && nsenter -V"))
    throw std::runtime_error("the programs ip and nsenter are not both there");
  file_descriptor home{::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
  enter_namespace();
  home_ = std::move(home);
  try {
    must_run("ip link set lo up");
    must_run("echo 1 > /proc/sys/net/ipv4/ip_forward");
    for (int i = 0; i < machines; ++i) {
      machine m;
      // The holder tells by a line that it has moved.
      m.holder = std::make_unique<child_process>(
          "/usr/bin/unshare", std::vector<std::string>{"-n", "/bin/sh", "-c", "echo moved; exec sleep 1000"},
          child_options{});
      if (!m.holder->read_line(std::chrono::seconds{5}))
        throw std::runtime_error("no second network namespace");
      auto pid = std::to_string(m.holder->pid());
      m.space = file_descriptor{::open(("/proc/" + pid + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC)};
      auto name = "machine" + std::to_string(i);
      auto router = "10.77." + std::to_string(i) + ".1";
      must_run("ip link add " + name + " type veth peer name uplink netns " + pid);
      must_run("ip addr add " + router + "/24 dev " + name);
      must_run("ip link set " + name + " up");
      auto inside = "nsenter -t " + pid + " -n ip ";
      must_run(inside + "link set lo up");
      must_run(inside + "addr add " + address(i) + "/24 dev uplink");
      must_run(inside + "link set uplink up");
      must_run(inside + "route add default via " + router);
      machines_.push_back(std::move(m));
    }
  } catch (...) {
    machines_.clear();
    ::setns(home_.get(), CLONE_NEWNET);
    throw;
  }
}

isolated_network::~isolated_network() {
  machines_.clear();
  ::setns(home_.get(), CLONE_NEWNET);
}

std::string isolated_network::address(int machine) const {
  return "10.77." + std::to_string(machine) + ".2";
}

int isolated_network::network_namespace(int machine) const {
  return machines_.at(static_cast<std::size_t>(machine)).space.get();
}

void isolated_network::cut(int a, int b) {
  // The packets are dropped on their way through the router, as by a broken switch: no machine sees its link go down.
  must_run("ip rule add from " + address(a) + " to " + address(b) + " blackhole");
  must_run("ip rule add from " + address(b) + " to " + address(a) + " blackhole");
}

void isolated_network::heal(int a, int b) {
  must_run("ip rule del from " + address(a) + " to " + address(b) + " blackhole");
  must_run("ip rule del from " + address(b) + " to " + address(a) + " blackhole");
}

}  // namespace coordinator
