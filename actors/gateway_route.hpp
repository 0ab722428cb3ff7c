#pragma once

#include <set>

#include "actors/keeper_messages.hpp"

namespace coordinator {

/// Where a gateway's requests go: the leader as this node's keeper knows it, corrected by what those that were asked
/// said. It decides nothing but an address: whoever is asked judges for itself whether it leads.
class gateway_route {
 public:
  explicit gateway_route(node_id self) : self_(std::move(self)) {}

  /// Each of these is true when what is under way may be lost and should be sent again.
  bool role(const role_changed& x);
  bool peer_up(const node_id& id);
  bool peer_down(const node_id& id);

  /// `asked` does not lead and named another. False when that is no reason to ask elsewhere at once: nobody was named,
  /// or `asked` had itself been named so, and what the keeper said holds again. So two nodes which each name the
  /// other cannot keep a request going round without a pause, and no hint outlives the node that it led to.
  bool redirect(const node_id& asked, const node_id& hint, milliseconds now);
  /// How often a hint was followed: what is under way to the node before has to be sent again.
  std::uint64_t redirects() const { return redirects_; }
  /// A hint counts for `hint_for`: the node that was named may never have become leader and be silent.
  void expire(milliseconds now);

  /// Whom to send to; null when no leader is known or it cannot be reached.
  const node_id* target() const;
  /// False only while this node leads and has no entry of its own term committed: reads have to wait.
  bool can_read() const { return !leads() || ready_; }
  bool leads() const { return role_ == node_role::leader && leader_ == self_; }
  bool is_up(const node_id& id) const { return id == self_ || up_.contains(id); }

  const node_id& self() const { return self_; }
  /// Empty: none known.
  const node_id& leader() const { return leader_; }
  term_number term() const { return term_; }

  /// Why a request that waited got nowhere, as the answers' reasons spell it.
  const char* why_waiting() const;

 private:
  node_id self_;
  node_role role_ = node_role::unformed;
  term_number term_;
  node_id leader_;
  bool ready_ = false;
  static constexpr milliseconds hint_for{1000};
  void forget_hint();

  node_id told_;  ///< The leader as the keeper said it; `leader_` is another one while a hint is followed.
  bool redirected_ = false;
  milliseconds redirected_at_{0};
  std::uint64_t redirects_ = 0;
  std::set<node_id> up_;
};

}  // namespace coordinator
