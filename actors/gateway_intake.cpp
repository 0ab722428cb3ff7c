#include "actors/gateway_intake.hpp"

#include <caf/send.hpp>
#include <utility>

namespace coordinator {
namespace {

constexpr char reason[] = "shutting_down";

struct refuse {
  void operator()(gateway_intake::write_item& x) const { x.done(not_applied()); }
  void operator()(gateway_intake::claim_item& x) const { x.done(not_applied()); }
  void operator()(gateway_intake::read_item& x) const {
    read_result result;
    result.reason = reason;
    x.done(std::move(result));
  }
  void operator()(gateway_intake::beat_item& x) const {
    beat_result result;
    result.outcome = write_result::outcome::not_applied;
    result.reason = reason;
    x.done(std::move(result));
  }
  void operator()(gateway_intake::cluster_item& x) const { x.done({}); }
  void operator()(gateway_intake::transfer_item& x) const { x.done({false, reason, {}}); }
  void operator()(gateway_intake::members_item& x) const {
    membership_result result;
    result.reason = reason;
    x.done(std::move(result));
  }
  void operator()(gateway_intake::contact_item&) const {}

  static write_result not_applied() { return {write_result::outcome::not_applied, reason, {}, {}}; }
};

}  // namespace

void gateway_intake::push(item x) {
  gateway_actor to_wake;
  {
    std::lock_guard lock{mutex_};
    if (!gone_ && (!leaving_ || std::holds_alternative<contact_item>(x))) {
      queue_.push_back(std::move(x));
      if (queue_.size() > 1 || gathering_ || !gateway_)
        return;
      to_wake = gateway_;
    }
  }
  if (to_wake)
    caf::anon_send(to_wake, gateway_wake{});
  else
    std::visit(refuse{}, x);
}

void gateway_intake::gather() {
  std::lock_guard lock{mutex_};
  // What is there already has its message under way.
  gathering_ = queue_.empty();
}

void gateway_intake::hand_over() {
  gateway_actor to_wake;
  {
    std::lock_guard lock{mutex_};
    if (std::exchange(gathering_, false) && !queue_.empty())
      to_wake = gateway_;
  }
  if (to_wake)
    caf::anon_send(to_wake, gateway_wake{});
}

void gateway_intake::leave(std::function<void()> idle) {
  gateway_actor to_wake;
  {
    std::lock_guard lock{mutex_};
    leaving_ = true;
    if (!gone_) {
      idle_ = std::exchange(idle, nullptr);
      to_wake = gateway_;
    }
  }
  if (to_wake)
    caf::anon_send(to_wake, gateway_wake{});
  if (idle)
    idle();
}

gateway_intake::knowledge gateway_intake::known() const {
  std::lock_guard lock{mutex_};
  return known_;
}

void gateway_intake::attach(const gateway_actor& gateway) {
  {
    std::lock_guard lock{mutex_};
    gateway_ = gateway;
  }
  // What came before the actor ran has woken nobody.
  caf::anon_send(gateway, gateway_wake{});
}

void gateway_intake::detach() {
  gateway_actor dropped;
  {
    std::lock_guard lock{mutex_};
    gone_ = true;
    dropped = std::exchange(gateway_, nullptr);
  }
  for (auto& each : drain())
    std::visit(refuse{}, each);
  left();
}

std::vector<gateway_intake::item> gateway_intake::drain() {
  std::lock_guard lock{mutex_};
  return std::exchange(queue_, {});
}

bool gateway_intake::leaving() const {
  std::lock_guard lock{mutex_};
  return leaving_;
}

void gateway_intake::left() {
  std::function<void()> idle;
  {
    std::lock_guard lock{mutex_};
    // What came in before the door closed is still to be taken in.
    if (queue_.empty())
      idle = std::exchange(idle_, nullptr);
  }
  if (idle)
    idle();
}

}  // namespace coordinator
