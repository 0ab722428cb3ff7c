#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <list>
#include <thread>
#include <vector>

#include "actors/link_socket.hpp"

namespace coordinator {

/// Stands between two nodes and passes their connections on, until it is told to be a bad network.
class tcp_relay {
 public:
  explicit tcp_relay(host_port target)
      : target_(std::move(target)),
        listener_(listen_on({"127.0.0.1", 0}).socket),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        thread_([this] { run(); }) {}
  ~tcp_relay() {
    stop_ = true;
    wake();
    thread_.join();
  }

  host_port address() const { return {"127.0.0.1", local_port(listener_.get())}; }
  /// Connections stay open and new ones are taken by the kernel, but no byte moves, as with a stopped process.
  void hang() {
    hung_ = true;
    wake();
  }
  void resume() {
    hung_ = false;
    wake();
  }
  /// Closes all connections there are.
  void cut() {
    cut_ = true;
    wake();
  }

 private:
  struct pair {
    file_descriptor from, to;
  };

  void wake() {
    std::uint64_t one = 1;
    [[maybe_unused]] auto n = ::write(wake_.get(), &one, sizeof one);
  }

  void run() {
    while (!stop_) {
      std::vector<pollfd> watched{{wake_.get(), POLLIN, 0}};
      if (!hung_) {
        watched.push_back({listener_.get(), POLLIN, 0});
        for (auto& x : pairs_) {
          watched.push_back({x.from.get(), POLLIN, 0});
          watched.push_back({x.to.get(), POLLIN, 0});
        }
      }
      ::poll(watched.data(), watched.size(), -1);
      std::uint64_t count;
      [[maybe_unused]] auto n = ::read(wake_.get(), &count, sizeof count);
      if (cut_.exchange(false))
        pairs_.clear();
      if (!hung_)
        pass_on();
    }
  }

  void pass_on() {
    while (file_descriptor from{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)}) {
      tune_link_socket(from.get());
      auto to = connect_to(target_, std::chrono::steady_clock::now() + std::chrono::seconds{1});
      if (to.socket)
        pairs_.push_back({std::move(from), std::move(to.socket)});
    }
    for (auto i = pairs_.begin(); i != pairs_.end();)
      i = move_bytes(i->from, i->to) && move_bytes(i->to, i->from) ? std::next(i) : pairs_.erase(i);
  }

  static bool move_bytes(const file_descriptor& from, const file_descriptor& to) {
    char buffer[65536];
    auto n = ::recv(from.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n <= 0)
      return n < 0 && errno == EAGAIN;
    for (ssize_t sent = 0; sent < n;) {
      auto m = ::send(to.get(), buffer + sent, static_cast<std::size_t>(n - sent), MSG_NOSIGNAL);
      if (m < 0 && errno != EAGAIN)
        return false;
      if (m > 0)
        sent += m;
    }
    return true;
  }

  host_port target_;
  file_descriptor listener_;
  file_descriptor wake_;
  std::list<pair> pairs_;
  std::atomic<bool> hung_{false}, cut_{false}, stop_{false};
  std::thread thread_;
};

}  // namespace coordinator
