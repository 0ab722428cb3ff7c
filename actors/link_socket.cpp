#include "actors/link_socket.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

namespace coordinator {

namespace {

using std::chrono::milliseconds;
using time_point = std::chrono::steady_clock::time_point;

constexpr int listen_backlog = 1024;
constexpr unsigned user_timeout_ms = 3000;

using address_list = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

address_list look_up(const host_port& where, int flags, std::string& error, int family = AF_UNSPEC,
                     int type = SOCK_STREAM) {
  addrinfo hints{};
  hints.ai_family = family;
  hints.ai_socktype = type;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  auto code = ::getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found);
  if (code != 0)
    error = "cannot look up " + where.host + ": " + (code == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(code));
  return {code == 0 ? found : nullptr, ::freeaddrinfo};
}

file_descriptor make_socket(const addrinfo& address) {
  return file_descriptor{::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
}

/// Zero, or the errno of the failure.
int wait_for_connect(int fd, time_point deadline) {
  for (;;) {
    auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0)
      return ETIMEDOUT;
    pollfd waiting{fd, POLLOUT, 0};
    auto ready = ::poll(&waiting, 1, static_cast<int>(left));
    if (ready < 0 && errno != EINTR)
      return errno;
    if (ready <= 0)
      continue;
    int error = 0;
    socklen_t size = sizeof error;
    return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
  }
}

int connect_one(const addrinfo& address, time_point deadline, file_descriptor& out) {
  auto fd = make_socket(address);
  if (!fd)
    return errno;
  if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS)
      return errno;
    if (auto error = wait_for_connect(fd.get(), deadline); error != 0)
      return error;
  }
  out = std::move(fd);
  return 0;
}

int listen_one(const addrinfo& address, file_descriptor& out) {
  auto fd = make_socket(address);
  if (!fd)
    return errno;
  const bool stream = address.ai_socktype == SOCK_STREAM;
  int on = 1;
  int off = 0;
  if (stream)
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.ai_family == AF_INET6)
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0 || (stream && ::listen(fd.get(), listen_backlog) != 0))
    return errno;
  out = std::move(fd);
  return 0;
}

socket_result bind_to(const host_port& where, int type) {
  socket_result result;
  auto addresses = look_up(where, AI_PASSIVE, result.error, AF_UNSPEC, type);
  if (!addresses)
    return result;
  int error = 0;
  for (auto i = addresses.get(); i; i = i->ai_next)
    if (error = listen_one(*i, result.socket); error == 0)
      return result;
  result.error = "cannot listen on " + to_string(where) + ": " + std::strerror(error);
  return result;
}

template <class Call>
std::optional<host_port> numeric_name(int fd, Call call) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[NI_MAXHOST];
  char service[NI_MAXSERV];
  if (call(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, service, sizeof service,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return std::nullopt;
  host_port result{host, 0};
  std::from_chars(service, service + std::strlen(service), result.port);
  return result;
}

}  // namespace

void file_descriptor::reset() {
  if (fd_ >= 0)
    ::close(fd_);
  fd_ = -1;
}

std::optional<host_port> parse_host_port(std::string_view text) {
  auto colon = text.rfind(':');
  if (colon == std::string_view::npos)
    return std::nullopt;
  auto host = text.substr(0, colon);
  auto digits = text.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  else if (host.find_first_of(":[]") != std::string_view::npos)
    return std::nullopt;
  host_port result{std::string{host}, 0};
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), result.port);
  if (host.empty() || digits.empty() || error != std::errc{} || end != digits.data() + digits.size())
    return std::nullopt;
  return result;
}

bool is_loopback(const std::string& host) {
  in_addr four{};
  if (::inet_pton(AF_INET, host.c_str(), &four) == 1)
    return (ntohl(four.s_addr) >> 24) == 127;
  in6_addr six{};
  if (::inet_pton(AF_INET6, host.c_str(), &six) == 1)
    return IN6_IS_ADDR_LOOPBACK(&six);
  return ::strcasecmp(host.c_str(), "localhost") == 0;
}

std::string to_string(const host_port& x) {
  auto bracketed = x.host.find(':') != std::string::npos;
  return (bracketed ? "[" + x.host + "]" : x.host) + ":" + std::to_string(x.port);
}

socket_result connect_to(const host_port& where, time_point deadline) {
  socket_result result;
  auto addresses = look_up(where, AI_ADDRCONFIG, result.error);
  if (!addresses)
    addresses = look_up(where, 0, result.error);  // AI_ADDRCONFIG finds nothing on a machine with loopback alone.
  if (!addresses)
    return result;
  result.error.clear();
  int left = 0;
  for (auto i = addresses.get(); i; i = i->ai_next)
    ++left;
  int error = ETIMEDOUT;
  for (auto i = addresses.get(); i; i = i->ai_next, --left) {
    // One address that swallows packets must not use up the time of the one that answers.
    auto now = std::chrono::steady_clock::now();
    error = connect_one(*i, now + (deadline - now) / left, result.socket);
    if (error == 0) {
      tune_link_socket(result.socket.get());
      return result;
    }
  }
  result.error = "cannot connect to " + to_string(where) + ": " + std::strerror(error);
  return result;
}

socket_result listen_on(const host_port& where) {
  return bind_to(where, SOCK_STREAM);
}

socket_result datagrams_on(const host_port& where) {
  return bind_to(where, SOCK_DGRAM);
}

std::optional<socket_address> look_up_for(int socket, const host_port& where) {
  socket_address result;
  result.size = sizeof result.storage;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&result.storage), &result.size) != 0)
    return std::nullopt;
  const int family = result.storage.ss_family;
  std::string error;
  auto found = look_up(where, family == AF_INET6 ? AI_V4MAPPED : 0, error, family, SOCK_DGRAM);
  if (!found || found->ai_addrlen > sizeof result.storage)
    return std::nullopt;
  std::memcpy(&result.storage, found->ai_addr, found->ai_addrlen);
  result.size = found->ai_addrlen;
  return result;
}

void tune_link_socket(int fd) {
  auto set = [fd](int level, int option, unsigned value) { ::setsockopt(fd, level, option, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 1);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout_ms);
}

std::uint16_t local_port(int fd) {
  auto name = numeric_name(fd, ::getsockname);
  return name ? name->port : 0;
}

std::string remote_address(int fd) {
  auto name = numeric_name(fd, ::getpeername);
  return name ? to_string(*name) : std::string{};
}

}  // namespace coordinator
