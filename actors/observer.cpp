#include "actors/observer.hpp"

#include <algorithm>
#include <utility>

namespace coordinator {

namespace {

/// Longer than a report of a node that is well takes, by way of another one.
constexpr milliseconds remembered_commits{5'000};

}  // namespace

observer::observer(node_id self, std::uint64_t boot_id)
    : self_(std::move(self)), boot_id_(boot_id), metrics_(self_, COORDINATOR_VERSION) {}

std::int64_t observer::now_ms() const {
  return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

milliseconds observer::steady_ms() {
  return std::chrono::duration_cast<milliseconds>(steady::now().time_since_epoch());
}

void observer::addresses(std::string http_address) {
  std::lock_guard lock{mutex_};
  http_address_ = std::move(http_address);
}

void observer::role(const role_changed& x) {
  std::vector<cluster_event> news;
  {
    std::lock_guard lock{mutex_};
    if (x.leader != now_.role.leader || (x.term != now_.role.term && !x.leader.empty()) || x.role != now_.role.role)
      news.push_back(leadership_event{x.leader, x.term, x.role});
    if (!x.leader.empty() && x.leader != last_leader_) {
      last_leader_ = x.leader;
      metrics_.leader_changed();
    }
    now_.role = x;
  }
  events_.add(now_ms(), std::move(news));
}

void observer::synced(std::chrono::nanoseconds taken) {
  metrics_.synced(taken);
  history_.synced(std::chrono::duration_cast<std::chrono::microseconds>(taken), steady_ms());
  std::lock_guard lock{mutex_};
  now_.writable = true;
}

void observer::disk_failed() {
  std::lock_guard lock{mutex_};
  now_.writable = false;
}

void observer::applied(log_index index, log_index commit_index, state_events& events) {
  metrics_.committed(1);
  history_.committed(1, steady_ms());
  {
    std::lock_guard lock{mutex_};
    now_.last_applied = index;
    now_.commit_index = std::max(now_.commit_index, commit_index);
  }
  std::vector<cluster_event> news;
  news.reserve(events.tasks.size());
  std::move(events.tasks.begin(), events.tasks.end(), std::back_inserter(news));
  for (auto& event : events.fleet)
    if (auto worker = std::get_if<worker_event>(&event))
      news.emplace_back(*worker);
  if (events.maintenance)
    news.emplace_back(maintenance_event{*events.maintenance});
  events_.add(now_ms(), std::move(news));
}

void observer::storage(std::uint64_t used_bytes) {
  std::lock_guard lock{mutex_};
  now_.storage_used = used_bytes;
}

void observer::quota(std::uint64_t bytes) {
  std::lock_guard lock{mutex_};
  now_.storage_quota = bytes;
}

void observer::members(const membership& x) {
  {
    std::lock_guard lock{mutex_};
    if (x == now_.members)
      return;
    now_.members = x;
    // One that has left is missed by nobody.
    std::erase_if(peers_, [&](auto& each) { return !each.second.up && !x.find(each.first); });
    std::erase_if(heard_, [&](auto& each) { return !x.find(each.first); });
  }
  events_.add(now_ms(), {membership_event{x}});
}

void observer::judge(const node_id& id, peer& p, bool healthy, const std::string& reason) {
  if (std::exchange(p.healthy, healthy) != healthy)
    events_.add(now_ms(), {node_health_event{id, healthy, reason}});
}

void observer::link_up(const node_id& id) {
  std::lock_guard lock{mutex_};
  auto& p = peers_[id];
  p.up = true;
  p.since = steady_ms();
  judge(id, p, true, {});
}

void observer::link_down(const node_id& id, const std::string& reason) {
  std::lock_guard lock{mutex_};
  auto& p = peers_[id];
  p.up = false;
  judge(id, p, false, reason);
}

void observer::arrived_from(const node_id& id) {
  const auto now = steady_ms();
  std::lock_guard lock{mutex_};
  // Also of a member that no link has led to yet; what one that has left still sends is of no account.
  if (peers_.contains(id) || now_.members.find(id))
    peers_[id].arrived = now;
}

void observer::pong(const node_id& id, std::chrono::microseconds rtt, std::vector<node_report> reports) {
  metrics_.round_trip(id, rtt);
  const auto now = steady_ms();
  std::lock_guard lock{mutex_};
  auto& p = peers_[id];
  p.rtt_us = rtt.count();
  p.heard = now;
  if (p.up)
    judge(id, p, true, {});
  for (auto& report : reports) {
    if (report.node == self_ || report.node.empty())
      continue;
    auto known = heard_.find(report.node);
    // What comes round by others may be older than what the node said itself.
    if (known != heard_.end() &&
        now - known->second.at + milliseconds{known->second.what.age_ms} <= milliseconds{report.age_ms})
      continue;
    auto node = report.node;
    heard_.insert_or_assign(node, heard_report{std::move(report), now});
  }
}

void observer::look_for_silence() {
  const auto now = steady_ms();
  std::lock_guard lock{mutex_};
  commits_.emplace_back(now, now_.commit_index);
  while (commits_.size() > 1 && now - commits_[1].first > remembered_commits)
    commits_.pop_front();
  for (auto& [id, p] : peers_)
    if (p.up && now - std::max(p.since, p.heard.value_or(p.since)) > silence)
      judge(id, p, false, "it does not answer");
}

log_index observer::committed_at(milliseconds then) const {
  std::lock_guard lock{mutex_};
  auto after = std::upper_bound(commits_.begin(), commits_.end(), then,
                                [](milliseconds at, const auto& each) { return at < each.first; });
  if (after != commits_.begin())
    return std::prev(after)->second;
  return commits_.empty() ? now_.commit_index : commits_.front().second;
}

void observer::written(std::chrono::nanoseconds taken) {
  metrics_.written(taken);
  history_.written(std::chrono::duration_cast<std::chrono::microseconds>(taken), steady_ms());
}

void observer::recovered(recovery_event x) {
  // That a failure is over is worth an event, and no action.
  if (x.outcome != "mended")
    metrics_.recovered(x.strategy);
  events_.add(now_ms(), {std::move(x)});
}

node_report observer::own_report(milliseconds now) const {
  node_report own;
  own.node = self_;
  own.boot_id = boot_id_;
  own.http_address = http_address_;
  own.version = COORDINATOR_VERSION;
  own.role = static_cast<std::uint8_t>(now_.role.role);
  own.term = now_.role.term;
  own.leader = now_.role.leader;
  own.commit_index = now_.commit_index;
  own.last_applied = now_.last_applied;
  own.uptime_ms = std::chrono::duration_cast<milliseconds>(steady::now() - started_).count();
  own.writable = now_.writable;
  for (auto& [id, p] : peers_)
    own.links.push_back({id, p.up && p.healthy, p.rtt_us, p.heard ? (now - *p.heard).count() : -1,
                         p.arrived ? (now - *p.arrived).count() : -1});
  return own;
}

std::vector<node_report> observer::reports() const {
  const auto now = steady_ms();
  std::lock_guard lock{mutex_};
  std::vector<node_report> result{own_report(now)};
  for (auto& [id, each] : heard_) {
    auto age = (now - each.at).count();
    if (each.what.age_ms + age > report_life.count())
      continue;
    result.push_back(each.what);
    auto& report = result.back();
    report.age_ms += age;
    report.uptime_ms += age;
    for (auto& link : report.links) {
      link.heard_ms += link.heard_ms >= 0 ? age : 0;
      link.arrived_ms += link.arrived_ms >= 0 ? age : 0;
    }
  }
  return result;
}

observer::standing observer::now() const {
  std::lock_guard lock{mutex_};
  return now_;
}

std::vector<metrics::peer_state> observer::peers() const {
  const auto now = steady_ms();
  std::lock_guard lock{mutex_};
  std::vector<metrics::peer_state> result;
  for (auto& [id, p] : peers_)
    result.push_back({id, p.up && p.healthy, p.heard ? static_cast<double>((now - *p.heard).count()) / 1000 : -1});
  return result;
}

}  // namespace coordinator
