#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace coordinator {

/// Owns a descriptor and closes it. Holds none when `get()` is negative.
class file_descriptor {
 public:
  file_descriptor() = default;
  explicit file_descriptor(int fd) : fd_(fd) {}
  file_descriptor(file_descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~file_descriptor() { reset(); }

  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  /// Gives the descriptor away; the caller closes it.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

/// Where a node listens: a numeric address or a DNS name, and a port.
struct host_port {
  std::string host;  ///< Without the brackets of an IPv6 address.
  std::uint16_t port = 0;

  friend bool operator==(const host_port&, const host_port&) = default;
};

/// Reads "host:port" or "[ipv6]:port". Nothing for anything else, as for an IPv6 address without brackets.
std::optional<host_port> parse_host_port(std::string_view);
/// The same form, with brackets where the host has a colon.
std::string to_string(const host_port&);

/// Whether a host means this machine alone: 127.0.0.0/8, ::1 or localhost.
bool is_loopback(const std::string& host);

/// A socket, or what went wrong in words; exactly one of the two.
struct socket_result {
  file_descriptor socket;
  std::string error;
};

/// Connects without ever blocking longer than until `deadline`, but for the look-up of a DNS name, which happens
/// at each call, because names move, and has no time limit of its own. Every address of a name is tried, each for
/// its share of the time. The socket comes back non-blocking and tuned.
socket_result connect_to(const host_port&, std::chrono::steady_clock::time_point deadline);

/// Listens, non-blocking, with a backlog of 1024: a burst of strangers must not push a peer's SYN out, which the
/// peer would repeat only a second later. Port 0 lets the system choose.
socket_result listen_on(const host_port&);

/// A socket for datagrams, non-blocking, bound to that address. Port 0 lets the system choose.
socket_result datagrams_on(const host_port&);

/// Where datagrams go.
struct socket_address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

/// The first address of a host that a socket of datagrams can send to; nothing if there is none. A name may take as
/// long as the system's look-ups do.
std::optional<socket_address> look_up_for(int socket, const host_port&);

/// Makes a connection notice within seconds that the other end is gone: keepalive after one second, and
/// TCP_USER_TIMEOUT of 3 s for data that nobody acknowledges. No Nagle.
void tune_link_socket(int fd);

/// The local port, or 0 for anything that has none.
std::uint16_t local_port(int fd);
/// "address:port" of the other end, for messages to people; empty if it is gone.
std::string remote_address(int fd);

}  // namespace coordinator
