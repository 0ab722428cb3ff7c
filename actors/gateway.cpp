#include "actors/gateway.hpp"

#include <utility>

namespace coordinator {

gateway::gateway(gateway_config config)
    : config_(std::move(config)),
      // Room to count up, whatever was drawn.
      next_ticket_((config_.boot_id >> 1) + 1),
      route_(config_.self.id),
      writes_(config_),
      reads_(config_),
      calls_(config_) {}

// -- from clients ------------------------------------------------------------------

ticket gateway::write(write_request x, milliseconds now) {
  const auto owner = next_ticket_++;
  // What no state would accept is refused here; only what passes can be encoded.
  if (auto checked = validate(x.body); !checked.ok())
    written_.emplace_back(owner, write_result{write_result::outcome::applied, {}, std::move(checked), {}});
  else
    writes_.add({owner, std::move(x.body), std::move(x.idempotency_key), x.request_hash, now + x.timeout}, written_);
  return owner;
}

ticket gateway::read(read_request x, milliseconds now) {
  const auto owner = next_ticket_++;
  reads_.add(owner, std::move(x.what), x.linearizable, x.max_stale_ms, now + x.timeout, out_);
  return owner;
}

ticket gateway::claim(claim_request x, milliseconds now) {
  const auto owner = next_ticket_++;
  if (!standstill_.empty()) {
    written_.emplace_back(owner, write_result{write_result::outcome::not_applied, standstill_, {}, {}});
    return owner;
  }
  // A claim counts as a heartbeat. No answer is wanted: a new leader gives every worker a period of grace anyway.
  if (const auto* to = route_.target()) {
    worker_beat beat;
    beat.from = config_.self;
    beat.worker_id = x.worker_id;
    out_.to_fleet.emplace_back(*to, std::move(beat));
  }
  auto& added = claims_[owner];
  added.wait_until = now + x.wait;
  added.deadline = added.wait_until + x.timeout;
  added.what = std::move(x);
  // Only the log knows whether a key has been answered before, or what work there is at this moment.
  if (added.what.wait.count() <= 0 || !added.what.idempotency_key.empty())
    propose_claim(owner, added);
  else
    await(owner, added);
  return owner;
}

ticket gateway::beat(worker_beat x, milliseconds timeout, milliseconds now) {
  const auto owner = next_ticket_++;
  calls_.beat(owner, std::move(x), now + timeout);
  return owner;
}

ticket gateway::cluster(milliseconds timeout, milliseconds now) {
  const auto owner = next_ticket_++;
  calls_.cluster(owner, now, now + timeout);
  return owner;
}

ticket gateway::transfer(node_id to, milliseconds timeout, milliseconds now) {
  const auto owner = next_ticket_++;
  calls_.transfer(owner, std::move(to), now + timeout);
  return owner;
}

ticket gateway::change_members(membership_request x, milliseconds now) {
  const auto owner = next_ticket_++;
  calls_.change_members(owner, std::move(x), now);
  return owner;
}

// -- from this node's other actors ----------------------------------------------------

void gateway::role(const role_changed& x) {
  if (route_.role(x))
    repeat();
}

void gateway::stand_still(const standstill& x) {
  standstill_ = x.reason;
  writes_.stand_still(x.reason, written_);
  reads_.stand_still(x.reason, out_);
  // No work shows here any more.
  if (!x.reason.empty())
    end_polls(x.reason);
}

void gateway::peer_up(const node_id& id) {
  if (route_.peer_up(id))
    repeat();
}

void gateway::peer_down(const node_id& id) {
  if (route_.peer_down(id))
    repeat();
}

void gateway::replaced() {
  writes_.replaced();
  repeat();
}

void gateway::repeat() {
  writes_.repeat(route_);
  reads_.repeat();
  calls_.repeat(route_, out_);
}

void gateway::applied(const std::vector<applied_command>& commands, milliseconds now) {
  writes_.applied(commands, now, written_);
}

void gateway::answered(const query_answer& x) {
  reads_.answered(x, out_);
}

void gateway::work_ready(ticket request) {
  auto i = claims_.find(request);
  if (i == claims_.end() || i->second.proposed)
    return;
  i->second.promised = true;
  propose_claim(request, i->second);
}

void gateway::leader_contact(std::int64_t leader_contact_ms) {
  reads_.contact(leader_contact_ms, out_);
}

void gateway::propose_own(std::vector<command_body> commands, milliseconds now) {
  if (!route_.leads())
    return;
  for (auto& body : commands)
    writes_.add({0, std::move(body), {}, 0, now + config_.write_retry * 4}, written_);
}

// -- from peers -------------------------------------------------------------------------

void gateway::rejected(const proposal_rejected& x, milliseconds now) {
  const auto before = route_.redirects();
  writes_.rejected(x, route_, now);
  if (route_.redirects() != before)
    repeat();
}

void gateway::indexed(const read_index_reply& x, milliseconds now) {
  const auto before = route_.redirects();
  reads_.indexed(x, route_, now, out_);
  if (route_.redirects() != before)
    repeat();
}

void gateway::beaten(const worker_beat_reply& x, milliseconds now) {
  const auto before = route_.redirects();
  if (auto change = calls_.beaten(x, route_, now, out_))
    writes_.add({change->owner, std::move(change->body), {}, 0, change->deadline}, written_);
  if (route_.redirects() != before)
    repeat();
}

void gateway::viewed(const cluster_view& x) {
  calls_.viewed(x, out_);
}

void gateway::transferred(const transfer_reply& x, milliseconds now) {
  const auto before = route_.redirects();
  calls_.transferred(x, route_, now, out_);
  if (route_.redirects() != before)
    repeat();
}

void gateway::members_changed(const membership_reply& x, milliseconds now) {
  const auto before = route_.redirects();
  calls_.members_changed(x, route_, now, out_);
  if (route_.redirects() != before)
    repeat();
}

// -- long polls ----------------------------------------------------------------------------

void gateway::propose_claim(ticket owner, pending_claim& x) {
  polls_due_.erase(owner);
  x.proposed = true;
  writes_.add(
      {owner, claim_tasks{x.what.worker_id, x.what.max_tasks}, x.what.idempotency_key, x.what.request_hash, x.deadline},
      written_);
}

void gateway::await(ticket owner, pending_claim& x) {
  x.proposed = false;
  x.promised = false;
  out_.polls.push_back({owner, x.what.worker_id, x.what.max_tasks, false});
  polls_due_.set(owner, x.wait_until);
}

void gateway::claim_written(ticket owner, write_result result, milliseconds now) {
  auto& claim = claims_.find(owner)->second;
  const bool nothing =
      result.outcome == write_result::outcome::applied && result.result.ok() && result.result.assignments.empty();
  if (nothing && now < claim.wait_until)
    await(owner, claim);
  else
    end_claim(owner, std::move(result));
}

void gateway::end_claim(ticket owner, write_result result) {
  auto i = claims_.find(owner);
  if (i->second.promised || !i->second.proposed)
    out_.polls.push_back({owner, i->second.what.worker_id, i->second.what.max_tasks, true});
  polls_due_.erase(owner);
  claims_.erase(i);
  out_.answers.emplace_back(owner, std::move(result));
}

void gateway::end_polls(const std::string& reason) {
  for (auto i = claims_.begin(); i != claims_.end();) {
    auto& [owner, claim] = *i++;
    if (!claim.proposed)
      end_claim(owner, write_result{write_result::outcome::not_applied, reason, {}, {}});
  }
}

// -- what is to be done -----------------------------------------------------------------------

void gateway::dispatch_written(milliseconds now) {
  // A claim that came back empty asks the state machine again, so the list may not grow while it is gone through.
  for (auto& [owner, result] : std::exchange(written_, {})) {
    if (claims_.contains(owner))
      claim_written(owner, std::move(result), now);
    else if (!calls_.status_written(owner, result, out_))
      out_.answers.emplace_back(owner, std::move(result));
  }
}

void gateway::give_up(const char* reason) {
  writes_.give_up_all(reason, written_);
  for (auto& [owner, claim] : claims_)
    claim.wait_until = milliseconds{0};
  dispatch_written(milliseconds{0});
  end_polls(reason);
  reads_.give_up_all(reason, out_);
  calls_.give_up_all(reason, out_);
}

gateway_output gateway::flush(milliseconds now) {
  route_.expire(now);
  writes_.expire(route_, now, written_);
  reads_.expire(route_, now, out_);
  calls_.expire(route_, now, out_);
  dispatch_written(now);
  while (auto owner = polls_due_.take(now)) {
    write_result nothing;
    nothing.outcome = write_result::outcome::applied;
    end_claim(*owner, std::move(nothing));
  }
  writes_.send(route_, now, out_);
  reads_.send(route_, now, next_ticket_, out_);
  calls_.send(route_, now, out_);
  return std::exchange(out_, {});
}

std::optional<milliseconds> gateway::next_wake() const {
  auto next = earlier(writes_.next_wake(route_), reads_.next_wake(route_));
  return earlier(earlier(next, calls_.next_wake()), polls_due_.next());
}

}  // namespace coordinator
