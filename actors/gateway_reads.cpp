#include "actors/gateway_reads.hpp"

#include <utility>

namespace coordinator {

void gateway_reads::add(ticket owner, query what, bool linearizable, std::int64_t max_stale_ms, milliseconds deadline,
                        gateway_output& out) {
  reads_[owner] = pending{std::move(what), linearizable, max_stale_ms, -1};
  due_.set(owner, deadline);
  if (linearizable && !standstill_.empty())
    fail(owner, standstill_, out);
  else
    (linearizable ? waiting_ : stale_).push_back(owner);
}

void gateway_reads::stand_still(const std::string& reason, gateway_output& out) {
  standstill_ = reason;
  if (reason.empty())
    return;
  std::vector<ticket> refused;
  for (auto& [owner, read] : reads_)
    if (read.linearizable)
      refused.push_back(owner);
  for (auto owner : refused)
    fail(owner, reason, out);
}

void gateway_reads::give_up_all(const char* reason, gateway_output& out) {
  while (!reads_.empty())
    fail(reads_.begin()->first, reason, out);
  repeat();
}

void gateway_reads::indexed(const read_index_reply& x, gateway_route& route, milliseconds now, gateway_output& out) {
  if (request_ == 0 || x.request != request_)
    return;
  if (x.ok) {
    for (auto owner : std::exchange(riding_, {}))
      run(owner, x.index, out);
    request_ = 0;
    return;
  }
  repeat();
  if (!route.redirect(x.from.id, x.leader, now))
    hold_until_ = now + config_.pause;
}

void gateway_reads::contact(std::int64_t leader_contact_ms, gateway_output& out) {
  status_asked_ = false;
  for (auto owner : std::exchange(stale_riding_, {})) {
    auto i = reads_.find(owner);
    if (i == reads_.end())
      continue;
    auto& read = i->second;
    read.leader_contact_ms = leader_contact_ms;
    if (read.max_stale_ms >= 0 && (leader_contact_ms < 0 || leader_contact_ms > read.max_stale_ms))
      fail(owner, "too_stale", out);
    else
      run(owner, log_index{}, out);
  }
}

void gateway_reads::answered(const query_answer& x, gateway_output& out) {
  auto i = reads_.find(x.request);
  if (i == reads_.end())
    return;
  read_result result;
  result.ok = true;
  result.applied_index = x.applied_index;
  result.leader_contact_ms = i->second.leader_contact_ms;
  result.result = x.result;
  out.answers.emplace_back(x.request, std::move(result));
  due_.erase(x.request);
  reads_.erase(i);
}

void gateway_reads::repeat() {
  hold_until_ = milliseconds{0};
  if (request_ == 0)
    return;
  request_ = 0;
  riding_.insert(riding_.end(), waiting_.begin(), waiting_.end());
  waiting_ = std::exchange(riding_, {});
}

void gateway_reads::expire(const gateway_route& route, milliseconds now, gateway_output& out) {
  while (auto owner = due_.take(now))
    fail(*owner, route.why_waiting(), out);
  if (request_ != 0 && now >= retry_at_)
    repeat();
}

void gateway_reads::send(const gateway_route& route, milliseconds now, std::uint64_t& next_request,
                         gateway_output& out) {
  if (!status_asked_ && !stale_.empty()) {
    status_asked_ = true;
    stale_riding_ = std::exchange(stale_, {});
    out.ask_status = true;
  }
  if (request_ != 0 || now < hold_until_ || !route.can_read())
    return;
  hold_until_ = milliseconds{0};
  // A read that has timed out must not keep questions going.
  std::erase_if(waiting_, [&](ticket owner) { return !reads_.contains(owner); });
  const auto* to = route.target();
  if (!to || waiting_.empty())
    return;
  request_ = next_request++;
  riding_ = std::exchange(waiting_, {});
  retry_at_ = now + config_.read_retry;
  out.to_keeper.emplace_back(*to, read_index{config_.self, request_});
}

std::optional<milliseconds> gateway_reads::next_wake(const gateway_route& route) const {
  auto next = due_.next();
  if (request_ != 0)
    return earlier(next, retry_at_);
  if (!waiting_.empty() && hold_until_.count() > 0 && route.target() && route.can_read())
    return earlier(next, hold_until_);
  return next;
}

void gateway_reads::fail(ticket owner, const std::string& reason, gateway_output& out) {
  auto i = reads_.find(owner);
  if (i == reads_.end())
    return;
  read_result result;
  result.reason = reason;
  result.leader_contact_ms = i->second.leader_contact_ms;
  out.answers.emplace_back(owner, std::move(result));
  due_.erase(owner);
  reads_.erase(i);
}

void gateway_reads::run(ticket owner, log_index min_index, gateway_output& out) {
  auto i = reads_.find(owner);
  if (i == reads_.end())
    return;
  out.queries.push_back({owner, min_index, std::move(i->second.what)});
}

}  // namespace coordinator
