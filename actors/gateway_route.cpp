#include "actors/gateway_route.hpp"

namespace coordinator {

bool gateway_route::role(const role_changed& x) {
  // A leader that is elected again in a later term may have lost what it had not replicated.
  const bool moved = x.leader != leader_ || x.term != term_ || x.role != role_;
  role_ = x.role;
  term_ = x.term;
  told_ = leader_ = x.leader;
  ready_ = x.leader_ready;
  redirected_ = false;
  return moved;
}

bool gateway_route::peer_up(const node_id& id) {
  up_.insert(id);
  return id == leader_;
}

bool gateway_route::peer_down(const node_id& id) {
  up_.erase(id);
  if (id != leader_)
    return false;
  forget_hint();
  return true;
}

bool gateway_route::redirect(const node_id& asked, const node_id& hint, milliseconds now) {
  if (asked != leader_)
    return false;
  if (redirected_) {
    forget_hint();
    return false;
  }
  // That this node leads is its own keeper's to say.
  if (hint.empty() || hint == asked || hint == self_)
    return false;
  leader_ = hint;
  redirected_ = true;
  redirected_at_ = now;
  ++redirects_;
  return true;
}

void gateway_route::expire(milliseconds now) {
  if (redirected_ && now - redirected_at_ >= hint_for)
    forget_hint();
}

void gateway_route::forget_hint() {
  leader_ = told_;
  redirected_ = false;
}

const node_id* gateway_route::target() const {
  if (leader_.empty())
    return nullptr;
  if (leader_ == self_)
    return leads() ? &leader_ : nullptr;
  return up_.contains(leader_) ? &leader_ : nullptr;
}

const char* gateway_route::why_waiting() const {
  if (role_ == node_role::unformed)
    return "unformed";
  return target() ? "timeout" : "no_leader";
}

}  // namespace coordinator
