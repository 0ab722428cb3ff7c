#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "http/message.hpp"

namespace coordinator {

/// Starts something that answers by a completion on another thread, and waits for it on this one. The completion
/// hands the value over and wakes this thread, and does nothing else; it may come late or never.
/// Nothing when no answer came within `timeout`, or, where there is a `client` to watch, once it has gone; a long poll
/// asks to be ended once the server is being stopped, too.
///
/// `start` is given the completion: `wait_for<T>([&](auto done) { port.write(request, done); }, ...)`.
template <class T, class Start>
std::optional<T> wait_for(Start&& start, std::chrono::milliseconds timeout, const client_watch* client = nullptr,
                          bool long_poll = false) {
  struct slot {
    std::mutex mutex;
    std::condition_variable filled;
    std::optional<T> value;
  };
  auto s = std::make_shared<slot>();
  start([s](T value) {
    {
      std::lock_guard lock{s->mutex};
      if (!s->value)
        s->value = std::move(value);
    }
    // Not under the lock, or the thread would wake only to wait for that.
    s->filled.notify_one();
  });
  constexpr std::chrono::milliseconds look{500};
  auto deadline = std::chrono::steady_clock::now() + timeout;
  std::unique_lock lock{s->mutex};
  while (!s->value) {
    auto until = client ? std::min(deadline, std::chrono::steady_clock::now() + look) : deadline;
    s->filled.wait_until(lock, until, [&] { return s->value.has_value(); });
    if (!s->value && (std::chrono::steady_clock::now() >= deadline ||
                      (client && (client->gone() || (long_poll && client->stopping())))))
      return std::nullopt;
  }
  return std::move(s->value);
}

}  // namespace coordinator
