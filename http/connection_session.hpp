#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "http/connection_loop.hpp"

namespace coordinator {

/// One connection of a `connection_loop`, and where it stands.
struct connection_loop::session {
  enum class phase : std::uint8_t {
    idle,       ///< Nothing of a request has come.
    head,       ///< A part of its head.
    body,       ///< Its head, and a part of its body.
    answering,  ///< The answer is awaited.
    away,       ///< A job has it.
    lingering,  ///< The last answer was sent; the client is to end its side.
    closed,
  };

  session(std::uint64_t the_id, socket_t socket, const connection_limits& limits, bool past_limit)
      : id(the_id), client(socket, limits), spare(past_limit) {}

  const std::uint64_t id;
  connection client;
  const bool spare;
  phase now = phase::idle;
  bool readable = false;  ///< Something may have come that was not taken.
  bool ended = false;     ///< The client has ended its side.
  std::uint64_t asked{};  ///< The number of its requests, so that an answer that comes late is not taken for the next.
  std::optional<request_head> head;
  std::size_t discarded = 0;
  std::function<http_response(bool)> give_up;
  bool needs_client = false;
  bool long_poll = false;
  clock::time_point deadline = clock::time_point::max();
};

/// What comes from other threads. It outlives the loop, for an answer may come after its end.
class connection_loop::inbox {
 public:
  struct made {
    std::uint64_t session;
    std::uint64_t asked;
    awaited_response::maker make;
  };
  struct returned {
    std::uint64_t session;
    bool keep_alive;
  };
  enum class order : std::uint8_t { drain, break_off, quit };
  using item = std::variant<made, returned, order>;

  inbox() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~inbox() { ::close(wake_); }
  inbox(const inbox&) = delete;
  inbox& operator=(const inbox&) = delete;

  /// Readable at an edge, after each push to a loop that sleeps.
  int descriptor() const { return wake_; }

  void push(item x) {
    bool wake = false;
    {
      std::lock_guard lock{mutex_};
      items_.push_back(std::move(x));
      wake = std::exchange(asleep_, false);
    }
    if (wake) {
      std::uint64_t one = 1;
      (void)!::write(wake_, &one, sizeof one);
    }
  }

  std::vector<item> take() {
    std::lock_guard lock{mutex_};
    asleep_ = false;
    return std::exchange(items_, {});
  }

  /// False if there is something to take; otherwise the next push wakes the loop.
  bool may_sleep() {
    std::lock_guard lock{mutex_};
    asleep_ = items_.empty();
    return asleep_;
  }

 private:
  const int wake_;
  std::mutex mutex_;
  std::vector<item> items_;
  bool asleep_ = false;
};

}  // namespace coordinator
