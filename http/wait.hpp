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

/// An answer that is made by `render` of a std::optional<T>: of what `start`'s completion is given, or of nothing when
/// that did not come in time.
template <class T, class Start, class Render>
awaited_response when_done(Start start, std::chrono::milliseconds timeout, Render render) {
  awaited_response later;
  later.timeout = timeout;
  later.give_up = [render](bool) { return render(std::optional<T>{}); };
  later.start = [start = std::move(start), render = std::move(render)](awaited_response::completion done) mutable {
    start([done = std::move(done), render = std::move(render)](T value) {
      auto held = std::make_shared<std::optional<T>>(std::move(value));
      done([held, render] { return render(std::move(*held)); });
    });
  };
  return later;
}

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

/// The answer, waited for on this thread.
inline http_response wait_for(reply given, const client_watch* client) {
  if (auto* there = std::get_if<http_response>(&given))
    return std::move(*there);
  auto& later = std::get<awaited_response>(given);
  auto made = wait_for<awaited_response::maker>([&](auto done) { later.start(std::move(done)); }, later.timeout,
                                                later.needs_client ? client : nullptr, later.long_poll);
  return made ? (*made)() : later.give_up(later.long_poll && client && client->stopping());
}

}  // namespace coordinator
