#include "actors/gateway_writes.hpp"

#include <algorithm>
#include <iterator>

namespace coordinator {

void gateway_writes::add(request x, answers& done) {
  const bool full = writes_.size() >= config_.most_writes;
  if (full || !standstill_.empty()) {
    if (x.owner != 0)
      done.emplace_back(x.owner, write_result{write_result::outcome::not_applied, full ? "busy" : standstill_, {}, {}});
    return;
  }
  const auto id = next_id_++;
  auto& added = writes_[id];
  added.owner = x.owner;
  added.deadline = x.deadline;
  added.what.idempotency_key = std::move(x.idempotency_key);
  added.what.request_hash = x.request_hash;
  added.what.body = std::move(x.body);
  queued_.insert(id);
  due_.set(id, x.deadline);
  if (x.owner != 0)
    by_owner_[x.owner] = id;
}

void gateway_writes::give_up(ticket owner, const char* reason, answers& done) {
  auto found = by_owner_.find(owner);
  if (found == by_owner_.end())
    return;
  auto i = writes_.find(found->second);
  write_result result;
  result.outcome = i->second.is_untried() ? write_result::outcome::not_applied : write_result::outcome::unknown;
  result.reason = reason;
  finish(i, std::move(result), done);
}

void gateway_writes::give_up_all(const char* reason, answers& done) {
  while (!by_owner_.empty())
    give_up(by_owner_.begin()->first, reason, done);
  while (!writes_.empty())
    drop(writes_.begin());
}

void gateway_writes::stand_still(const std::string& reason, answers& done) {
  standstill_ = reason;
  if (reason.empty())
    return;
  for (auto i = writes_.begin(); i != writes_.end();) {
    auto here = i++;
    if (here->second.is_untried())
      finish(here, write_result{write_result::outcome::not_applied, reason, {}, {}}, done);
  }
}

void gateway_writes::rejected(const proposal_rejected& x, gateway_route& route, milliseconds now) {
  if (x.busy)
    was_busy_ = true;
  if (route.redirect(x.from.id, x.leader, now)) {
    repeat(route);
    return;
  }
  bool meant_us = false;
  if (session_ == 0 && x.batch == open_batch_) {
    open_at_ = now + config_.pause;
    meant_us = true;
  }
  for (auto& [id, write] : writes_) {
    if (write.batch != x.batch || queued_.contains(id))
      continue;
    queue(id, write);
    meant_us = true;
  }
  if (meant_us)
    hold_until_ = now + config_.pause;
}

void gateway_writes::applied(const std::vector<applied_command>& commands, milliseconds now, answers& done) {
  for (auto& x : commands) {
    if (x.session == 0) {
      // Replaying the log also shows sessions that this node's earlier gateways opened.
      if (x.sequence == config_.boot_id)
        opened(x.result, now);
      continue;
    }
    auto found = numbered_.find({x.session, x.sequence});
    if (found == numbered_.end())
      continue;
    was_busy_ = false;
    auto i = writes_.find(found->second);
    if (x.result.code == result_code::closed_session || x.result.code == result_code::stale_sequence) {
      if (x.result.code == result_code::closed_session && x.session == session_) {
        session_ = 0;
        open_at_ = now;
      }
      // Under an idempotency key a second copy is answered by what the first one did.
      if (i->second.hidden && i->second.what.idempotency_key.empty())
        finish(i, write_result{write_result::outcome::unknown, "state_replaced", {}, {}}, done);
      else
        unnumber(i->first, i->second);
      continue;
    }
    finish(i, write_result{write_result::outcome::applied, {}, x.result, x.index}, done);
  }
}

void gateway_writes::opened(const command_result& result, milliseconds now) {
  if (!result.ok()) {
    open_at_ = now + config_.write_retry;
    return;
  }
  // A delayed copy of the proposal may have opened another one after the one we had was closed; a node has one
  // live session, so the newest answer is it.
  if (result.version == session_)
    return;
  session_ = result.version;
  next_sequence_ = 1;
}

void gateway_writes::repeat(const gateway_route& route) {
  hold_until_ = milliseconds{0};
  open_at_ = milliseconds{0};
  for (auto i = writes_.begin(); i != writes_.end();) {
    auto here = i++;
    if (here->second.owner == 0 && !route.leads())
      drop(here);
    else if (!queued_.contains(here->first))
      queue(here->first, here->second);
  }
}

void gateway_writes::replaced() {
  for (auto& [id, write] : writes_)
    write.hidden = (write.hidden || write.copies > 0) && !config_.defects.has(defect::trust_refusal_after_install);
}

void gateway_writes::expire(const gateway_route& route, milliseconds now, answers& done) {
  while (auto id = due_.take(now)) {
    auto i = writes_.find(*id);
    auto& write = i->second;
    if (now < write.deadline) {
      queue(*id, write);
      continue;
    }
    write_result result;
    result.outcome = write.is_untried() ? write_result::outcome::not_applied : write_result::outcome::unknown;
    result.reason = was_busy_ && route.target() ? "busy" : route.why_waiting();
    finish(i, std::move(result), done);
  }
}

void gateway_writes::send(const gateway_route& route, milliseconds now, gateway_output& out) {
  const auto* to = route.target();
  if (!to)
    return;
  if (session_ == 0) {
    if (now >= open_at_)
      send_open(*to, now, out);
    return;
  }
  if (now < hold_until_)
    return;
  hold_until_ = milliseconds{0};
  const bool remote = *to != route.self();
  const std::size_t most = remote ? config_.message_bytes : config_.window_bytes;
  propose message;
  std::size_t bytes = 0;
  auto emit = [&] {
    if (message.commands.empty())
      return;
    message.from = config_.self;
    message.batch = next_batch_++;
    out.to_keeper.emplace_back(*to, std::move(message));
    message = {};
    bytes = 0;
  };
  while (!queued_.empty()) {
    const auto id = *queued_.begin();
    auto& write = writes_.find(id)->second;
    number(id, write);
    const auto size = write.bytes.size();
    if (bytes_under_way_ > 0 && bytes_under_way_ + size > config_.window_bytes)
      break;
    if (bytes + size > most)
      emit();
    bytes += size;
    message.commands.push_back(write.bytes);
    sent(id, write, next_batch_, now);
  }
  emit();
}

void gateway_writes::send_open(const node_id& to, milliseconds now, gateway_output& out) {
  command open;
  open.body = open_session{config_.self.id, config_.self.incarnation, config_.boot_id};
  open_batch_ = next_batch_++;
  open_at_ = now + config_.write_retry;
  out.to_keeper.emplace_back(to, propose{config_.self, open_batch_, {encode(open)}});
}

std::optional<milliseconds> gateway_writes::next_wake(const gateway_route& route) const {
  auto next = due_.next();
  if (!route.target())
    return next;
  if (session_ == 0)
    return earlier(next, open_at_);
  // With no hold, whatever is still queued waits for room in the window, that is, for an answer.
  if (!queued_.empty() && hold_until_.count() > 0)
    return earlier(next, hold_until_);
  return next;
}

void gateway_writes::number(std::uint64_t id, pending& x) {
  if (!x.bytes.empty())
    return;
  x.what.session = session_;
  x.what.sequence = next_sequence_++;
  numbered_[{session_, x.what.sequence}] = id;
  x.what.lowest_unanswered = numbered_.lower_bound({session_, 0})->first.second;
  x.bytes = encode(x.what);
  x.what.body = tick{};
}

void gateway_writes::unnumber(std::uint64_t id, pending& x) {
  queue(id, x);
  numbered_.erase({x.what.session, x.what.sequence});
  if (auto decoded = decode(x.bytes))
    x.what = std::move(*decoded);
  x.bytes.clear();
  x.copies = 0;
}

void gateway_writes::queue(std::uint64_t id, pending& x) {
  if (queued_.insert(id).second)
    bytes_under_way_ -= x.bytes.size();
  due_.set(id, x.deadline);
}

void gateway_writes::sent(std::uint64_t id, pending& x, std::uint64_t batch, milliseconds now) {
  queued_.erase(id);
  bytes_under_way_ += x.bytes.size();
  x.batch = batch;
  x.retry_at = now + config_.write_retry * (1 << std::min(x.copies, 3u));
  ++x.copies;
  due_.set(id, std::min(x.deadline, x.retry_at));
}

void gateway_writes::finish(pendings::iterator i, write_result result, answers& done) {
  if (i->second.owner != 0)
    done.emplace_back(i->second.owner, std::move(result));
  drop(i);
}

void gateway_writes::drop(pendings::iterator i) {
  auto& [id, write] = *i;
  if (!queued_.erase(id))
    bytes_under_way_ -= write.bytes.size();
  if (!write.bytes.empty())
    numbered_.erase({write.what.session, write.what.sequence});
  if (write.owner != 0)
    by_owner_.erase(write.owner);
  due_.erase(id);
  writes_.erase(i);
}

}  // namespace coordinator
