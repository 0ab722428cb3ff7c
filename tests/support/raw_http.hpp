#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <string_view>

namespace coordinator::test {

/// One TCP connection to a server on loopback, for requests that no proper client would send. Every call ends
/// within its time-out.
class raw_http {
 public:
  struct answer {
    int status = 0;  ///< 0: none came.
    std::string head;
    std::string body;

    /// The value of a header, its name in the spelling in which it is sent; empty where there is none.
    std::string header(std::string_view name) const {
      auto at = head.find("\r\n" + std::string{name} + ": ");
      if (at == std::string::npos)
        return {};
      at += name.size() + 4;
      return head.substr(at, head.find("\r\n", at) - at);
    }
  };

  explicit raw_http(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  raw_http(raw_http&& x) noexcept
      : socket_(std::exchange(x.socket_, -1)), connected_(x.connected_), in_(std::move(x.in_)) {}
  raw_http& operator=(raw_http&&) = delete;
  ~raw_http() {
    if (socket_ >= 0)
      ::close(socket_);
  }

  bool connected() const { return connected_; }

  /// False once the server has closed its side.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      auto n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0)
        return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  void end_sending() { ::shutdown(socket_, SHUT_WR); }

  /// Reads one answer, a chunked one decoded. `head_only` for answers to HEAD.
  answer receive(std::chrono::milliseconds timeout = std::chrono::seconds{60}, bool head_only = false) {
    auto deadline = std::chrono::steady_clock::now() + timeout;
    answer a;
    std::size_t end;
    while ((end = in_.find("\r\n\r\n")) == std::string::npos)
      if (!fill(deadline))
        return a;
    a.head = in_.substr(0, end + 2);
    in_.erase(0, end + 4);
    a.status = std::atoi(a.head.c_str() + 9);
    if (head_only || a.status == 100)
      return a;
    if (a.header("Transfer-Encoding") == "chunked") {
      receive_chunks(deadline, a.body);
    } else if (auto length = a.header("Content-Length"); !length.empty()) {
      a.body = take(deadline, std::stoul(length));
    } else {
      while (fill(deadline)) {
      }
      a.body = std::exchange(in_, {});
    }
    return a;
  }

  answer ask(std::string_view bytes) {
    send(bytes);
    return receive();
  }

  /// Takes what has come, or comes next, as it is. False if the server has closed or the time-out passed first.
  bool read_some(std::string& to, std::chrono::milliseconds timeout) {
    if (in_.empty() && !fill(std::chrono::steady_clock::now() + timeout))
      return false;
    to += std::exchange(in_, {});
    return true;
  }

  /// Whether the server closes the connection within the time-out; what it still sends is passed over.
  bool closes_within(std::chrono::milliseconds timeout) {
    auto deadline = std::chrono::steady_clock::now() + timeout;
    while (fill(deadline)) {
    }
    return closed_;
  }

 private:
  bool fill(std::chrono::steady_clock::time_point deadline) {
    using std::chrono::milliseconds;
    auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd p{socket_, POLLIN, 0};
    if (left <= 0 || ::poll(&p, 1, static_cast<int>(left)) <= 0)
      return false;
    char bytes[65536];
    auto n = ::recv(socket_, bytes, sizeof bytes, 0);
    if (n <= 0) {
      closed_ = true;
      return false;
    }
    in_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  std::string take(std::chrono::steady_clock::time_point deadline, std::size_t count) {
    while (in_.size() < count && fill(deadline)) {
    }
    auto n = std::min(count, in_.size());
    auto piece = in_.substr(0, n);
    in_.erase(0, n);
    return piece;
  }

  void receive_chunks(std::chrono::steady_clock::time_point deadline, std::string& body) {
    for (;;) {
      std::size_t end;
      while ((end = in_.find("\r\n")) == std::string::npos)
        if (!fill(deadline))
          return;
      auto size = std::stoul(in_.substr(0, end), nullptr, 16);
      in_.erase(0, end + 2);
      body += take(deadline, size);
      take(deadline, 2);
      if (size == 0)
        return;
    }
  }

  int socket_;
  bool connected_ = false;
  bool closed_ = false;
  std::string in_;
};

}  // namespace coordinator::test
