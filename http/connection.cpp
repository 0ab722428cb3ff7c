#include "http/connection.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace coordinator {
namespace {

constexpr std::size_t read_size = 16 * 1024;
constexpr std::size_t write_buffer = 32 * 1024;
constexpr std::size_t chunk_line_bytes = 256;
constexpr std::size_t trailer_bytes = 8 * 1024;

/// Waits until the socket is ready for `events`, or the deadline has passed. An error or a hang-up counts as
/// ready: the call that follows reports it.
bool ready(socket_t socket, short events, std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd p{socket, events, 0};
    auto n = ::poll(&p, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (n > 0)
      return true;
    if (n == 0 || errno != EINTR)
      return false;
  }
}

int hex_value(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

/// The size on a chunk's first line; extensions behind a ';' are allowed and ignored (RFC 9112 §7.1.1).
std::optional<std::uint64_t> chunk_size(std::string_view line) {
  std::uint64_t size = 0;
  std::size_t digits = 0;
  while (digits < line.size() && hex_value(line[digits]) >= 0) {
    if (digits == 15)
      return std::nullopt;
    size = size * 16 + static_cast<std::uint64_t>(hex_value(line[digits++]));
  }
  auto rest = line.substr(digits);
  while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t'))
    rest.remove_prefix(1);
  if (digits == 0 || (!rest.empty() && rest.front() != ';'))
    return std::nullopt;
  return size;
}

/// A connection that idles keeps no more than a small buffer.
void forget(std::string& buffer) {
  if (buffer.capacity() > 2 * write_buffer)
    buffer = {};
  else
    buffer.clear();
}

void read_address(const sockaddr_storage& from, std::string& ip, int& port, bool& loopback) {
  char text[INET6_ADDRSTRLEN] = {};
  loopback = false;
  if (from.ss_family == AF_INET) {
    auto& a = reinterpret_cast<const sockaddr_in&>(from);
    ::inet_ntop(AF_INET, &a.sin_addr, text, sizeof text);
    port = ntohs(a.sin_port);
    loopback = (ntohl(a.sin_addr.s_addr) >> 24) == 127;
  } else if (from.ss_family == AF_INET6) {
    auto& a = reinterpret_cast<const sockaddr_in6&>(from);
    ::inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof text);
    port = ntohs(a.sin6_port);
    loopback =
        IN6_IS_ADDR_LOOPBACK(&a.sin6_addr) || (IN6_IS_ADDR_V4MAPPED(&a.sin6_addr) && a.sin6_addr.s6_addr[12] == 127);
  }
  ip = text;
}

}  // namespace

connection::connection(socket_t socket, const connection_limits& limits)
    : socket_(socket), limits_(limits), answer_began_(clock::now()) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) == 0)
    read_address(peer, peer_address_, peer_port_, from_loopback_);
}

bool connection::wait_for_request(std::chrono::milliseconds timeout) {
  return !buffered().empty() || fill(clock::now() + timeout) == outcome::ok;
}

connection::outcome connection::find_head(std::string_view& head) {
  // A client may send an empty line after its last body; it is not part of the next head (RFC 9112 §2.2).
  while (buffered().substr(0, 2) == "\r\n")
    consume(2);
  auto text = buffered();
  auto end = text.find("\r\n\r\n", searched_);
  if (end != std::string_view::npos) {
    head = text.substr(0, end + 4);
    return outcome::ok;
  }
  if (text.size() >= limits_.head_bytes)
    return outcome::too_large;
  searched_ = text.size() < 3 ? 0 : text.size() - 3;
  return outcome::timed_out;
}

connection::outcome connection::read_head(std::string& head) {
  auto deadline = clock::now() + limits_.head_timeout;
  for (;;) {
    std::string_view found;
    auto result = find_head(found);
    if (result == outcome::ok) {
      head = found;
      consume(found.size());
      return outcome::ok;
    }
    if (result == outcome::too_large)
      return result;
    if (auto filled = fill(deadline); filled != outcome::ok)
      return filled;
  }
}

connection::outcome connection::read_body(const request_head& head, std::size_t limit, std::string& body) {
  auto deadline = clock::now() + limits_.body_timeout;
  if (head.chunked)
    return read_chunked(deadline, limit, body);
  auto length = head.content_length.value_or(0);
  if (length > limit)
    return outcome::too_large;
  return read_exactly(deadline, static_cast<std::size_t>(length), body);
}

connection::outcome connection::read_chunked(clock::time_point deadline, std::size_t limit, std::string& body) {
  std::string line;
  // Tiny chunks cost several times their content on the wire, so that is limited, too.
  std::size_t overhead = limit + trailer_bytes;
  for (;;) {
    std::size_t budget = std::min(chunk_line_bytes, overhead);
    if (auto result = read_line(deadline, budget, line); result != outcome::ok)
      return result;
    auto size = chunk_size(line);
    if (!size)
      return outcome::malformed;
    if (*size == 0)
      break;
    if (*size > limit - body.size() || overhead < line.size() + 4)
      return outcome::too_large;
    overhead -= line.size() + 4;
    if (auto result = read_exactly(deadline, static_cast<std::size_t>(*size), body); result != outcome::ok)
      return result;
    budget = 2;
    if (auto result = read_line(deadline, budget, line); result != outcome::ok)
      return result == outcome::too_large ? outcome::malformed : result;
    if (!line.empty())
      return outcome::malformed;
  }
  for (std::size_t budget = trailer_bytes;;) {
    if (auto result = read_line(deadline, budget, line); result != outcome::ok)
      return result;
    if (line.empty())
      return outcome::ok;
  }
}

connection::outcome connection::read_line(clock::time_point deadline, std::size_t& budget, std::string& line) {
  for (;;) {
    auto text = buffered().substr(0, budget);
    auto end = text.find("\r\n");
    if (end != std::string_view::npos) {
      line = text.substr(0, end);
      budget -= end + 2;
      consume(end + 2);
      return outcome::ok;
    }
    if (text.size() >= budget)
      return outcome::too_large;
    if (auto result = fill(deadline); result != outcome::ok)
      return result;
  }
}

connection::outcome connection::read_exactly(clock::time_point deadline, std::size_t count, std::string& to) {
  while (count > 0) {
    auto piece = buffered().substr(0, count);
    if (piece.empty()) {
      if (auto result = fill(deadline); result != outcome::ok)
        return result;
      continue;
    }
    to.append(piece);
    count -= piece.size();
    consume(piece.size());
  }
  return outcome::ok;
}

connection::outcome connection::receive(bool& drained) {
  char bytes[read_size];
  for (;;) {
    auto n = ::recv(socket_, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n > 0) {
      in_.append(bytes, static_cast<std::size_t>(n));
      drained = static_cast<std::size_t>(n) < sizeof bytes;
      return outcome::ok;
    }
    if (n < 0 && errno == EINTR)
      continue;
    drained = true;
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? outcome::timed_out : outcome::closed;
  }
}

connection::outcome connection::fill(clock::time_point deadline) {
  // A client that waits for "100 Continue" sends nothing before it has that.
  if (!flush())
    return outcome::closed;
  for (bool drained = false;;) {
    auto result = receive(drained);
    if (result != outcome::timed_out || !ready(socket_, POLLIN, deadline))
      return result;
  }
}

void connection::consume(std::size_t count) {
  searched_ = 0;
  in_begin_ += count;
  if (in_begin_ == in_.size()) {
    forget(in_);
    in_begin_ = 0;
  } else if (in_begin_ >= read_size) {
    in_.erase(0, in_begin_);
    in_begin_ = 0;
  }
}

void connection::present(std::string text) {
  presented_ = std::move(text);
  presented_begin_ = 0;
}

void connection::begin_answer(bool endless) {
  answer_began_ = clock::now();
  answer_bytes_ = 0;
  endless_ = endless;
  write_through_ = false;
}

bool connection::try_flush() {
  while (out_begin_ < out_.size() && !broken_) {
    auto n = ::send(socket_, out_.data() + out_begin_, out_.size() - out_begin_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      out_begin_ += static_cast<std::size_t>(n);
      answer_bytes_ += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return false;
    } else {
      broken_ = errno != EINTR;
    }
  }
  forget(out_);
  out_begin_ = 0;
  return true;
}

bool connection::flush() {
  while (!try_flush()) {
    auto now = clock::now();
    auto deadline = now + limits_.write_stall;
    if (!endless_) {
      auto earned = std::chrono::seconds{static_cast<std::int64_t>(answer_bytes_ / limits_.write_rate)};
      deadline = std::min(deadline, answer_began_ + limits_.write_grace + earned);
    }
    broken_ = now >= deadline || !ready(socket_, POLLOUT, deadline);
  }
  return !broken_;
}

void connection::linger() {
  flush();
  ::shutdown(socket_, SHUT_WR);
  auto deadline = clock::now() + limits_.linger;
  char bytes[read_size];
  std::size_t discarded = 0;
  while (discarded < limits_.body_bytes && clock::now() < deadline && ready(socket_, POLLIN, deadline)) {
    auto n = ::recv(socket_, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0)
      return;
    discarded += static_cast<std::size_t>(n);
  }
}

bool connection::is_readable() const {
  return presented_begin_ < presented_.size();
}

bool connection::is_writable() const {
  return !broken_;
}

ssize_t connection::read(char* to, size_t size) {
  auto n = std::min(size, presented_.size() - presented_begin_);
  std::memcpy(to, presented_.data() + presented_begin_, n);
  presented_begin_ += n;
  return static_cast<ssize_t>(n);
}

ssize_t connection::write(const char* from, size_t size) {
  if (broken_)
    return -1;
  out_.append(from, size);
  if ((write_through_ || out_.size() - out_begin_ >= write_buffer) && !flush())
    return -1;
  return static_cast<ssize_t>(size);
}

void connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  ip = peer_address_;
  port = peer_port_;
}

void connection::get_local_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
}

}  // namespace coordinator
