#include <algorithm>
#include <map>

#include "http/api.hpp"
#include "http/event_json.hpp"
#include "http/page.hpp"
#include "http/render.hpp"
#include "http/wait.hpp"

namespace coordinator {
namespace {

using json = nlohmann::ordered_json;

constexpr std::chrono::milliseconds patience{500};
constexpr std::uint32_t shown_workers = 500;
constexpr std::uint32_t shown_runs = 25;
/// What another node says of a third one counts only while it is as fresh as this.
constexpr std::int64_t fresh_report_ms = 2'500;

json ms_or_null(std::int64_t us) {
  return us < 0 ? json{} : json(static_cast<double>(us) / 1000);
}

template <std::size_t N, class Status>
json by_status(const std::array<std::uint64_t, N>& counts, Status) {
  auto out = json::object();
  for (std::size_t i = 0; i < N; ++i)
    out[std::string{to_string(static_cast<Status>(i))}] = counts[i];
  return out;
}

/// What is known of the nodes, from this node's notes.
class node_survey {
 public:
  explicit node_survey(const observer& watcher) : self_(watcher.self()), standing_(watcher.now()) {
    for (auto& report : watcher.reports()) {
      reports_.emplace(report.node, report);
      committed_then_[report.node] = watcher.committed_at(observer::steady_ms() - milliseconds{report.age_ms}).value;
    }
  }

  /// It answers this node, or one that answers this node.
  bool is_alive(const node_id& id) const {
    if (id == self_ || is_linked(self_, id))
      return true;
    return std::any_of(reports_.begin(), reports_.end(), [&](auto& each) {
      return each.first != id && each.second.age_ms < fresh_report_ms && is_linked(self_, each.first) &&
             is_linked(each.first, id);
    });
  }

  json nodes() const {
    auto out = json::array();
    std::uint64_t newest = 0;
    for (auto& [id, report] : reports_)
      newest = std::max(newest, report.commit_index.value);
    for (auto& m : standing_.members.members)
      out.push_back(node(m, newest));
    return out;
  }

  void add_quorum(json& out) const {
    std::size_t voters = 0;
    std::size_t healthy = 0;
    for (auto& m : standing_.members.members) {
      voters += m.voter;
      healthy += m.voter && is_alive(m.id);
    }
    auto quorum = voters == 0 ? 0 : voters / 2 + 1;
    out["quorum"] = {{"size", quorum}, {"voters", voters}, {"healthy", healthy}};
    out["failure_tolerance"] = healthy > quorum ? healthy - quorum : 0;
  }

 private:
  const link_report* link(const node_id& from, const node_id& to) const {
    auto report = reports_.find(from);
    if (report == reports_.end())
      return nullptr;
    for (auto& each : report->second.links)
      if (each.peer == to)
        return &each;
    return nullptr;
  }
  bool is_linked(const node_id& from, const node_id& to) const {
    auto found = link(from, to);
    return found && found->up;
  }

  json node(const member& m, std::uint64_t newest) const {
    json one;
    one["node_id"] = m.id.value;
    one["http_address"] = m.http_address;
    one["voter"] = m.voter;
    one["healthy"] = is_alive(m.id);
    auto found = reports_.find(m.id);
    if (found == reports_.end()) {
      one["role"] = nullptr;
      one["links"] = json::array();
      return one;
    }
    auto& report = found->second;
    auto role = static_cast<node_role>(report.role);
    one["role"] = role == node_role::follower && !m.voter ? "LEARNER" : to_string(role);
    one["term"] = report.term.value;
    one["leader"] = report.leader.empty() ? json{} : json(report.leader.value);
    one["commit_index"] = report.commit_index.value;
    one["last_applied"] = report.last_applied.value;
    one["lag"] = lag(report, newest);
    one["version"] = report.version;
    one["uptime_ms"] = report.uptime_ms;
    one["writable"] = report.writable;
    one["report_age_ms"] = report.age_ms;
    auto own = link(self_, m.id);
    one["last_contact_ms"] = m.id == self_ ? json(0) : own && own->heard_ms >= 0 ? json(own->heard_ms) : json{};
    auto links = json::array();
    for (auto& each : report.links)
      if (standing_.members.find(each.peer))
        links.push_back({{"to", each.peer.value},
                         {"up", each.up},
                         {"rtt_ms", ms_or_null(each.rtt_us)},
                         {"heard_ms", each.heard_ms < 0 ? json{} : json(each.heard_ms)},
                         {"arrived_ms", each.arrived_ms < 0 ? json{} : json(each.arrived_ms)}});
    one["links"] = std::move(links);
    return one;
  }

  /// Entries that were committed and that it had not applied when it said so: what has come since then is no lag of
  /// its own. One that has said nothing for long is behind what is committed now.
  std::uint64_t lag(const node_report& report, std::uint64_t newest) const {
    if (report.age_ms < fresh_report_ms && report.node != self_) {
      newest = std::max(report.commit_index.value, committed_then_.at(report.node));
      for (auto& [id, other] : reports_)
        if (other.age_ms >= report.age_ms)
          newest = std::max(newest, other.commit_index.value);
    }
    return newest > report.last_applied.value ? newest - report.last_applied.value : 0;
  }

  const node_id self_;
  const observer::standing standing_;
  std::map<node_id, node_report> reports_;
  std::map<node_id, std::uint64_t> committed_then_;  ///< What this node knew when each said what it did.
};

json render_history(const observer& watcher, std::size_t most) {
  auto points = watcher.history().points(observer::steady_ms());
  auto begin = points.end() - static_cast<std::ptrdiff_t>(std::min(most, points.size()));
  json out;
  out["boot"] = std::to_string(watcher.boot_id());
  out["step_ms"] = latency_history::step.count();
  out["first"] = begin == points.end() ? 0 : begin->number;
  for (auto name : {"committed", "write_p50_ms", "write_p99_ms", "fsync_p50_ms", "fsync_p99_ms"})
    out[name] = json::array();
  for (auto p = begin; p != points.end(); ++p) {
    out["committed"].push_back(p->committed);
    out["write_p50_ms"].push_back(ms_or_null(p->write_p50_us));
    out["write_p99_ms"].push_back(ms_or_null(p->write_p99_us));
    out["fsync_p50_ms"].push_back(ms_or_null(p->sync_p50_us));
    out["fsync_p99_ms"].push_back(ms_or_null(p->sync_p99_us));
  }
  return out;
}

json render_worker(const worker_view& w) {
  auto running = json::array();
  for (auto& attempt : w.attempts)
    running.push_back(attempt.task_id);
  return {{"worker_id", w.worker_id},      {"status", to_string(w.status)}, {"slots", w.slots},
          {"running", std::move(running)}, {"cpu_usage", w.cpu_usage},      {"memory_usage", w.memory_usage}};
}

}  // namespace

std::optional<query_result> api::look(query what) {
  read_request request{std::move(what), false, patience, -1};
  auto result = wait_for<read_result>([&](auto done) { port_.read(std::move(request), std::move(done)); }, patience);
  if (!result || !result->ok)
    return std::nullopt;
  return std::move(result->result);
}

json api::present_state() {
  auto standing = watcher_->now();
  auto now = port_.current_leadership();
  node_survey survey{*watcher_};
  json out;
  out["at_ms"] = watcher_->now_ms();
  out["node_id"] = now.node.value;
  out["leader"] = now.leader.empty() ? json{} : json(now.leader.value);
  out["term"] = now.term.value;
  out["role"] = to_string(standing.role.role);
  out["members"] = render(standing.members);
  auto health = json::object();
  for (auto& m : standing.members.members)
    health[m.id.value] = survey.is_alive(m.id);
  out["healthy"] = std::move(health);
  if (auto found = figures())
    out["tasks"] = by_status(found->tasks_by_status, task_status{});
  auto workers = json::object();
  std::string cursor;
  do {
    auto page = look(list_workers{cursor, largest_page});
    auto found = page ? std::get_if<worker_page>(&*page) : nullptr;
    if (!found)
      break;
    for (auto& w : found->workers)
      workers[w.worker_id] = to_string(w.status);
    cursor = found->next_cursor;
  } while (!cursor.empty());
  out["workers"] = std::move(workers);
  return out;
}

json api::monitor(std::size_t history_points) {
  auto now = port_.current_leadership();
  auto standing = watcher_->now();
  node_survey survey{*watcher_};
  json out;
  out["at_ms"] = watcher_->now_ms();
  out["node_id"] = now.node.value;
  out["version"] = COORDINATOR_VERSION;
  // Without a quorum a follower goes on knowing who led.
  out["leader"] = now.leader.empty() || !survey.is_alive(now.leader) ? json{} : json(now.leader.value);
  out["term"] = now.term.value;
  out["role"] = to_string(standing.role.role);
  survey.add_quorum(out);
  out["nodes"] = survey.nodes();
  auto timeline = json::array();
  for (auto& event : watcher_->events().notable()) {
    json one{{"event", event_name(event.what)}};
    one.update(render(event));
    timeline.push_back(std::move(one));
  }
  out["timeline"] = std::move(timeline);
  out["history"] = render_history(*watcher_, history_points);
  out["queue"] = json::array();
  if (auto found = figures()) {
    for (auto& each : found->waiting)
      out["queue"].push_back(
          {{"requirement", requirement_text(each.requirements)},
           {"tasks", each.tasks},
           {"oldest_age_ms", std::max<std::int64_t>(watcher_->now_ms() - each.oldest_submitted_ms, 0)}});
    out["tasks"] = by_status(found->tasks_by_status, task_status{});
    out["workers_by_status"] = by_status(found->workers_by_status, worker_status{});
  }
  out["workers"] = json::array();
  auto workers = look(list_workers{{}, shown_workers});
  if (auto page = workers ? std::get_if<worker_page>(&*workers) : nullptr)
    for (auto& w : page->workers)
      out["workers"].push_back(render_worker(w));
  out["runs"] = json::array();
  auto runs = look(list_runs{{}, shown_runs});
  if (auto page = runs ? std::get_if<run_page>(&*runs) : nullptr)
    for (auto& run : page->runs)
      out["runs"].push_back(render(run, watcher_->now_ms()));
  return out;
}

http_response api::get_monitor(const routed_request&) {
  auto response = ok(monitor(latency_history::kept));
  response.set("Cache-Control", "no-store");
  return response;
}

http_response api::get_page(const routed_request&) {
  return page_file("index.html");
}

http_response api::get_page_file(const routed_request& r) {
  return page_file(r.path_values[0]);
}

}  // namespace coordinator
