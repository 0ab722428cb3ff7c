#pragma once

#include <atomic>
#include <caf/detail/thread_safe_actor_clock.hpp>
#include <functional>
#include <mutex>

namespace coordinator {

/// CAF's clock without a thread of its own: whoever has time asks for what has fallen due.
///
/// CAF's own clock is a thread that is woken for each delayed message when it is sent, wakes again when it is due, and
/// then wakes another thread for its receiver: three switches for a tick. Here the thread that waited for the due time
/// goes on with the receiver itself, see `local_first`.
///
/// May be used by any thread. A delayed message never comes early.
class worker_clock : public caf::detail::thread_safe_actor_clock {
 public:
  /// `sooner` is called after something was scheduled that is due before all else, by the thread that did it and with
  /// no lock held.
  explicit worker_clock(std::function<void(time_point due)> sooner) : sooner_(std::move(sooner)) {}

  /// When the next is due; `time_point::max()` if nothing is.
  time_point next() const { return next_; }
  /// Delivers everything that is due at `now`.
  void ship_due(time_point now);

  void set_ordinary_timeout(time_point, caf::abstract_actor*, caf::atom_value, std::uint64_t) override;
  void set_request_timeout(time_point, caf::abstract_actor*, caf::message_id) override;
  void set_multi_timeout(time_point, caf::abstract_actor*, caf::atom_value, std::uint64_t) override;
  void cancel_ordinary_timeout(caf::abstract_actor*, caf::atom_value) override;
  void cancel_request_timeout(caf::abstract_actor*, caf::message_id) override;
  void cancel_timeouts(caf::abstract_actor*) override;
  void schedule_message(time_point, caf::strong_actor_ptr receiver, caf::mailbox_element_ptr) override;
  void schedule_message(time_point, caf::group, caf::strong_actor_ptr sender, caf::message) override;
  /// Forgets everything. The actors that were kept for it may end in this call.
  void cancel_all() override;

 private:
  using super = caf::detail::simple_actor_clock;

  template <class Change>
  void change(Change);

  std::function<void(time_point)> sooner_;
  /// Of `schedule_` and `actor_lookup_`. No actor is delivered to or destroyed under it: both come back to this clock.
  std::mutex mutex_;
  std::atomic<time_point> next_{time_point::max()};
};

}  // namespace coordinator
