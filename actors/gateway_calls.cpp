#include "actors/gateway_calls.hpp"

#include <algorithm>

namespace coordinator {

namespace {

const char* reason_of(membership_reply::outcome x) {
  switch (x) {
    case membership_reply::outcome::unknown_node:
      return "unknown_node";
    case membership_reply::outcome::not_connected:
      return "not_connected";
    case membership_reply::outcome::not_caught_up:
      return "not_caught_up";
    case membership_reply::outcome::unsafe:
      return "unsafe";
    default:
      return "busy";
  }
}

const char* reason_of(transfer_reply::outcome x) {
  switch (x) {
    case transfer_reply::outcome::unknown_node:
      return "unknown_node";
    case transfer_reply::outcome::not_a_voter:
      return "not_a_voter";
    case transfer_reply::outcome::no_candidate:
      return "no_candidate";
    case transfer_reply::outcome::busy:
      return "busy";
    default:
      return "no_leader";
  }
}

}  // namespace

void gateway_calls::beat(ticket owner, worker_beat x, milliseconds deadline) {
  x.from = config_.self;
  x.request = owner;
  auto& call = beats_[owner];
  call.what = std::move(x);
  call.deadline = deadline;
  unsent_.insert(owner);
  due_.set(owner, deadline);
}

void gateway_calls::cluster(ticket owner, milliseconds now, milliseconds deadline) {
  auto& call = clusters_[owner];
  call.deadline = deadline;
  call.own_at = now + std::min(config_.cluster_patience, (deadline - now) / 2);
  unsent_.insert(owner);
  due_.set(owner, deadline);
}

void gateway_calls::transfer(ticket owner, node_id to, milliseconds deadline) {
  auto& call = transfers_[owner];
  call.to = std::move(to);
  call.deadline = deadline;
  unsent_.insert(owner);
  due_.set(owner, deadline);
}

void gateway_calls::change_members(ticket owner, membership_request x, milliseconds now) {
  auto& call = changes_[owner];
  call.deadline = now + x.timeout;
  call.what = std::move(x);
  unsent_.insert(owner);
  due_.set(owner, call.deadline);
}

void gateway_calls::give_up_all(const char* reason, gateway_output& out) {
  while (!beats_.empty())
    expire_beat(beats_.begin()->first, reason, out);
  while (!clusters_.empty())
    finish(clusters_, clusters_.begin()->first, cluster_view{}, out);
  while (!transfers_.empty())
    finish(transfers_, transfers_.begin()->first, transfer_result{false, reason, {}}, out);
  while (!changes_.empty()) {
    membership_result result;
    result.reason = reason;
    result.unknown = changes_.begin()->second.times > 0;
    finish(changes_, changes_.begin()->first, std::move(result), out);
  }
}

std::optional<gateway_calls::status_change> gateway_calls::beaten(const worker_beat_reply& x, gateway_route& route,
                                                                  milliseconds now, gateway_output& out) {
  auto i = beats_.find(x.request);
  if (i == beats_.end() || i->second.cancel)
    return std::nullopt;
  auto& call = i->second;
  if (x.result == worker_beat_reply::outcome::not_leader) {
    if (route.redirect(x.from.id, x.leader, now))
      repeat(route, out);
    else
      due_.set(x.request, std::min(call.deadline, now + config_.pause));
    return std::nullopt;
  }
  beat_result result;
  result.outcome = write_result::outcome::applied;
  result.unknown_worker = x.result == worker_beat_reply::outcome::unknown_worker;
  const auto status = worker_status_from(x.propose_status);
  if (result.unknown_worker || !status) {
    result.cancel = x.cancel;
    finish(beats_, x.request, std::move(result), out);
    return std::nullopt;
  }
  call.cancel = x.cancel;
  unsent_.erase(x.request);
  // From here on the write has the deadline.
  due_.erase(x.request);
  return status_change{x.request, {call.what.worker_id, *status, call.what.current_task}, call.deadline};
}

bool gateway_calls::status_written(ticket owner, const write_result& x, gateway_output& out) {
  auto i = beats_.find(owner);
  if (i == beats_.end())
    return false;
  beat_result result;
  result.outcome = x.outcome;
  result.reason = x.reason;
  result.unknown_worker = x.outcome == write_result::outcome::applied && x.result.code == result_code::not_found;
  result.cancel = std::move(*i->second.cancel);
  finish(beats_, owner, std::move(result), out);
  return true;
}

void gateway_calls::viewed(const cluster_view& x, gateway_output& out) {
  if (clusters_.contains(x.request))
    finish(clusters_, x.request, x, out);
}

void gateway_calls::transferred(const transfer_reply& x, gateway_route& route, milliseconds now, gateway_output& out) {
  auto i = transfers_.find(x.request);
  if (i == transfers_.end() || i->second.asked != x.from.id)
    return;
  switch (x.result) {
    case transfer_reply::outcome::started:
      i->second.started = true;
      due_.set(x.request, i->second.deadline);
      return;
    case transfer_reply::outcome::not_leader:
      i->second.asked = {};
      if (route.redirect(x.from.id, x.leader, now))
        repeat(route, out);
      else
        due_.set(x.request, std::min(i->second.deadline, now + config_.pause));
      return;
    default:
      finish(transfers_, x.request, transfer_result{false, reason_of(x.result), x.leader}, out);
  }
}

void gateway_calls::members_changed(const membership_reply& x, gateway_route& route, milliseconds now,
                                    gateway_output& out) {
  auto i = changes_.find(x.request);
  if (i == changes_.end() || i->second.asked != x.from.id)
    return;
  using outcome = membership_reply::outcome;
  auto& call = i->second;
  // What an earlier try did the leader of now can tell: the change is asked for again, and is there or not.
  const bool gone = call.what.what == change_membership::change::remove && x.result == outcome::unknown_node;
  if (x.result == outcome::committed || x.result == outcome::unchanged || (gone && call.may_have)) {
    membership_result result;
    result.ok = true;
    result.changed = x.result == outcome::committed || call.may_have;
    result.detail = x.detail;
    result.leader = x.leader;
    result.members = x.members;
    finish(changes_, x.request, std::move(result), out);
    return;
  }
  if (x.result != outcome::not_leader && x.result != outcome::unknown) {
    members_refused(x.request, x, now, out);
    return;
  }
  call.may_have = call.may_have || x.result == outcome::unknown;
  call.asked = {};
  if (route.redirect(x.from.id, x.leader, now))
    repeat(route, out);
  else
    due_.set(x.request, std::min(call.deadline, now + config_.pause));
}

void gateway_calls::members_refused(ticket owner, const membership_reply& x, milliseconds now, gateway_output& out) {
  auto& call = changes_[owner];
  const bool busy = x.result == membership_reply::outcome::busy;
  if (busy && !call.busy_until)
    call.busy_until = now + config_.busy_patience;
  // A leader that is new is busy for a moment, and the change that is under way may be this one.
  if (busy && (now < *call.busy_until || call.may_have)) {
    call.busy_detail = x.detail;
    call.asked = {};
    due_.set(owner, std::min(call.deadline, now + config_.pause));
    return;
  }
  membership_result result;
  result.reason = reason_of(x.result);
  result.detail = x.detail;
  result.leader = x.leader;
  result.members = x.members;
  finish(changes_, owner, std::move(result), out);
}

void gateway_calls::repeat(const gateway_route& route, gateway_output& out) {
  for (auto& [owner, call] : beats_)
    if (!call.cancel)
      unsent_.insert(owner);
  for (auto& [owner, call] : clusters_)
    if (!call.own_asked)
      unsent_.insert(owner);
  for (auto& [owner, call] : changes_) {
    // Whoever was asked last may have done it without this node hearing of it.
    call.may_have = call.may_have || !call.asked.empty();
    call.asked = {};
    unsent_.insert(owner);
    due_.set(owner, call.deadline);
  }
  const auto& leader = route.leader();
  for (auto i = transfers_.begin(); i != transfers_.end();) {
    auto& [owner, call] = *i++;
    if (call.asked.empty() || leader.empty())
      unsent_.insert(owner);
    else if (leader != call.asked && (call.to.empty() || call.to == leader))
      finish(transfers_, owner, transfer_result{true, {}, leader}, out);
    else if (leader != call.asked && call.started)
      finish(transfers_, owner, transfer_result{false, "timeout", leader}, out);
    else if (leader != call.asked || !call.started || route.term() != call.asked_term)
      unsent_.insert(owner);
  }
}

void gateway_calls::expire(const gateway_route& route, milliseconds now, gateway_output& out) {
  while (auto owner = due_.take(now)) {
    if (auto i = beats_.find(*owner); i != beats_.end()) {
      if (now >= i->second.deadline) {
        expire_beat(*owner, route.why_waiting(), out);
      } else {
        unsent_.insert(*owner);
        due_.set(*owner, i->second.deadline);
      }
    } else if (clusters_.contains(*owner)) {
      expire_cluster(*owner, route, now, out);
    } else if (changes_.contains(*owner)) {
      expire_members(*owner, route, now, out);
    } else {
      expire_transfer(*owner, route, now, out);
    }
  }
}

void gateway_calls::expire_beat(ticket owner, const char* reason, gateway_output& out) {
  beat_result result;
  // What a beat that left renewed is not known.
  result.outcome = beats_[owner].left ? write_result::outcome::unknown : write_result::outcome::not_applied;
  result.reason = reason;
  finish(beats_, owner, std::move(result), out);
}

void gateway_calls::expire_cluster(ticket owner, const gateway_route& route, milliseconds now, gateway_output& out) {
  auto& call = clusters_[owner];
  if (now >= call.deadline) {
    cluster_view nothing;
    nothing.leader = route.leader();
    nothing.term = route.term();
    finish(clusters_, owner, std::move(nothing), out);
    return;
  }
  call.own_asked = true;
  unsent_.insert(owner);
}

void gateway_calls::expire_transfer(ticket owner, const gateway_route& route, milliseconds now, gateway_output& out) {
  auto& call = transfers_[owner];
  if (now >= call.deadline) {
    finish(transfers_, owner, transfer_result{false, route.why_waiting(), route.leader()}, out);
    return;
  }
  unsent_.insert(owner);
  due_.set(owner, call.deadline);
}

void gateway_calls::expire_members(ticket owner, const gateway_route& route, milliseconds now, gateway_output& out) {
  auto& call = changes_[owner];
  if (now < call.deadline) {
    unsent_.insert(owner);
    due_.set(owner, call.deadline);
    return;
  }
  membership_result result;
  result.unknown = call.may_have || !call.asked.empty();
  result.reason = result.unknown ? "timeout" : call.busy_until ? "busy" : route.why_waiting();
  result.detail = result.unknown
                      ? "The change was under way when the request's time ended, and may happen yet: look at "
                        "the members before it is asked for again."
                      : call.busy_detail;
  result.leader = route.leader();
  finish(changes_, owner, std::move(result), out);
}

void gateway_calls::send(const gateway_route& route, milliseconds now, gateway_output& out) {
  const auto* to = route.target();
  for (auto i = unsent_.begin(); i != unsent_.end();) {
    const auto owner = *i;
    // Sending may finish the call, which takes it out of the set.
    auto next = std::next(i);
    if (auto beat = beats_.find(owner); beat != beats_.end()) {
      if (to) {
        out.to_fleet.emplace_back(*to, beat->second.what);
        beat->second.left = true;
        due_.set(owner, std::min(beat->second.deadline, now + config_.read_retry));
        unsent_.erase(owner);
      }
    } else if (auto cluster = clusters_.find(owner); cluster != clusters_.end()) {
      send_cluster(owner, cluster->second, route, out);
      unsent_.erase(owner);
    } else if (auto change = changes_.find(owner); change != changes_.end()) {
      if (to) {
        auto& what = change->second.what;
        out.to_keeper.emplace_back(*to, change_membership{config_.self, owner, what.what, what.id, what.force});
        change->second.asked = *to;
        ++change->second.times;
        unsent_.erase(owner);
      }
    } else if (auto transfer = transfers_.find(owner); transfer != transfers_.end() && to) {
      if (send_transfer(owner, transfer->second, route, out)) {
        due_.set(owner, std::min(transfer->second.deadline, now + config_.read_retry));
        unsent_.erase(owner);
      }
    }
    i = next;
  }
}

void gateway_calls::send_cluster(ticket owner, cluster_call& x, const gateway_route& route, gateway_output& out) {
  const auto* to = route.target();
  if (!to || *to == route.self())
    x.own_asked = true;
  out.to_keeper.emplace_back(x.own_asked ? route.self() : *to, cluster_query{config_.self, owner});
  due_.set(owner, x.own_asked ? x.deadline : x.own_at);
}

bool gateway_calls::send_transfer(ticket owner, transfer_call& x, const gateway_route& route, gateway_output& out) {
  const auto& leader = *route.target();
  if (x.to == leader) {
    finish(transfers_, owner, transfer_result{true, {}, leader}, out);
    return false;
  }
  x.asked = leader;
  x.asked_term = route.term();
  x.started = false;
  out.to_keeper.emplace_back(leader, transfer_leadership{config_.self, owner, x.to});
  return true;
}

template <class Calls>
void gateway_calls::finish(Calls& calls, ticket owner, gateway_output::result result, gateway_output& out) {
  calls.erase(owner);
  unsent_.erase(owner);
  due_.erase(owner);
  out.answers.emplace_back(owner, std::move(result));
}

}  // namespace coordinator
