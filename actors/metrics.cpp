#include "actors/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

namespace coordinator {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using counters = prometheus::Family<prometheus::Counter>;
using gauges = prometheus::Family<prometheus::Gauge>;
using histograms = prometheus::Family<prometheus::Histogram>;
using buckets = prometheus::Histogram::BucketBoundaries;

const buckets disk_seconds{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5};
const buckets network_seconds{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1};
const buckets request_seconds{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30};

double seconds(std::chrono::nanoseconds x) {
  return std::chrono::duration<double>(x).count();
}

std::string number_text(double x) {
  auto text = std::to_string(x);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.')
    text.pop_back();
  return text;
}

/// Gauges by one label that come and go: those that were not set anew leave.
class labelled_gauges {
 public:
  labelled_gauges(gauges& family, std::string label) : family_(family), label_(std::move(label)) {}

  void set(const std::vector<std::pair<std::string, double>>& values) {
    std::map<std::string, prometheus::Gauge*> now;
    for (auto& [name, value] : values) {
      auto& gauge = family_.Add({{label_, name}});
      gauge.Set(value);
      now.emplace(name, &gauge);
    }
    for (auto& [name, gauge] : gauges_)
      if (!now.contains(name))
        family_.Remove(gauge);
    gauges_ = std::move(now);
  }

 private:
  gauges& family_;
  std::string label_;
  std::map<std::string, prometheus::Gauge*> gauges_;
};

/// Different requirements are as many as clients like; so many get a line of their own, and the rest share one.
constexpr std::size_t most_requirements = 50;

}  // namespace

std::string requirement_text(const capability_map& requirements) {
  std::string text;
  for (auto& [name, wanted] : requirements) {
    text += (text.empty() ? "" : ",") + name;
    if (auto flag = std::get_if<bool>(&wanted))
      text += *flag ? "" : "=false";
    else if (auto number = std::get_if<decimal>(&wanted))
      text += ">=" + number_text(number->value());
    else
      text += "=" + std::get<std::string>(wanted);
  }
  return text.empty() ? "any" : text;
}

struct metrics::families {
  prometheus::Registry registry;
  std::mutex mutex;  ///< Of what follows `peer_heard`, and of setting gauges.

  gauges& gauge(const char* name, const char* help) { return BuildGauge().Name(name).Help(help).Register(registry); }
  counters& counter(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry);
  }
  histograms& histogram(const char* name, const char* help) {
    return BuildHistogram().Name(name).Help(help).Register(registry);
  }

  gauges& build = gauge("coordinator_build_info", "The node and its version; always 1.");
  prometheus::Gauge& has_leader =
      gauge("coordinator_has_leader", "Whether this node knows a leader, and heard it in the last 5 s.").Add({});
  prometheus::Gauge& is_leader = gauge("coordinator_is_leader", "Whether this node leads.").Add({});
  prometheus::Counter& leader_changes =
      counter("coordinator_leader_changes_total", "How often this node saw another leader than before.").Add({});
  prometheus::Gauge& term = gauge("coordinator_term", "The present term.").Add({});
  prometheus::Counter& committed =
      counter("coordinator_proposals_committed_total", "Log entries that were committed and applied here.").Add({});
  prometheus::Gauge& commit_index = gauge("coordinator_commit_index", "The highest index known committed.").Add({});
  prometheus::Gauge& applied_index = gauge("coordinator_applied_index", "The highest index applied.").Add({});
  prometheus::Histogram& written =
      histogram("coordinator_proposal_duration_seconds", "From a client's command to its being applied.")
          .Add({}, request_seconds);
  prometheus::Histogram& synced =
      histogram("coordinator_fsync_duration_seconds", "Writing a transaction of the log and making it durable.")
          .Add({}, disk_seconds);
  prometheus::Gauge& writable =
      gauge("coordinator_disk_writable", "0 after a failed write, until it is mended.").Add({});
  prometheus::Gauge& members = gauge("coordinator_members", "Nodes of the cluster, this one included.").Add({});
  prometheus::Gauge& members_healthy =
      gauge("coordinator_members_healthy", "Nodes that answer this one, itself included.").Add({});
  prometheus::Gauge& storage_used = gauge("coordinator_storage_used_bytes", "What the node's files hold.").Add({});
  prometheus::Gauge& storage_quota =
      gauge("coordinator_storage_quota_bytes", "Past it new tasks are refused; 0: no quota.").Add({});
  prometheus::Gauge& connections = gauge("coordinator_http_connections", "Open HTTP connections.").Add({});
  prometheus::Gauge& event_streams = gauge("coordinator_event_streams", "Open streams of events.").Add({});
  prometheus::Gauge& resident = gauge("process_resident_memory_bytes", "Resident memory.").Add({});
  prometheus::Gauge& open_files = gauge("process_open_fds", "Open file descriptors.").Add({});
  prometheus::Gauge& started = gauge("process_start_time_seconds", "Start of the process, since the epoch.").Add({});

  histograms& round_trips = histogram("coordinator_peer_round_trip_seconds", "Round trips of the pings to each peer.");
  histograms& requests = histogram("coordinator_http_request_duration_seconds",
                                   "Answering requests, by route; a claim's includes its waiting for work.");
  counters& recoveries = counter("coordinator_recovery_actions_total", "Actions that mended a failure, by strategy.");
  labelled_gauges peer_up{gauge("coordinator_peer_up", "Whether the link to the peer is up and answers."), "peer"};
  labelled_gauges peer_heard{gauge("coordinator_peer_last_heard_seconds", "Since the peer's last answer."), "peer"};
  labelled_gauges queue_depth{gauge("coordinator_queue_depth", "Pending tasks, by what they require."), "requirement"};
  labelled_gauges queue_age{
      gauge("coordinator_queue_oldest_age_seconds", "Age of the oldest pending task, by what it requires."),
      "requirement"};
  labelled_gauges tasks{gauge("coordinator_tasks", "Tasks by status."), "status"};
  labelled_gauges workers{gauge("coordinator_workers", "Workers by state."), "state"};

  std::map<node_id, prometheus::Histogram*> by_peer;
  std::map<std::tuple<std::string, std::string, int>, prometheus::Histogram*> by_route;
};

metrics::metrics(const node_id& self, const std::string& version) : families_(std::make_unique<families>()) {
  families_->build.Add({{"node", self.value}, {"version", version}}).Set(1);
  // A rate needs its counter from the beginning.
  for (auto strategy : recovery_strategies)
    families_->recoveries.Add({{"strategy", strategy}});
  set(figures_view{}, 0);
}

metrics::~metrics() = default;

void metrics::synced(std::chrono::nanoseconds taken) {
  families_->synced.Observe(seconds(taken));
}

void metrics::written(std::chrono::nanoseconds taken) {
  families_->written.Observe(seconds(taken));
}

void metrics::round_trip(const node_id& peer, std::chrono::microseconds taken) {
  std::lock_guard lock{families_->mutex};
  auto& found = families_->by_peer[peer];
  if (!found)
    found = &families_->round_trips.Add({{"peer", peer.value}}, network_seconds);
  found->Observe(seconds(taken));
}

void metrics::answered(const std::string& method, const std::string& route, int status,
                       std::chrono::nanoseconds taken) {
  std::lock_guard lock{families_->mutex};
  auto& found = families_->by_route[{method, route, status}];
  if (!found)
    found = &families_->requests.Add({{"method", method}, {"route", route}, {"code", std::to_string(status)}},
                                     request_seconds);
  found->Observe(seconds(taken));
}

void metrics::committed(std::uint64_t entries) {
  families_->committed.Increment(static_cast<double>(entries));
}

void metrics::leader_changed() {
  families_->leader_changes.Increment();
}

void metrics::recovered(const std::string& strategy) {
  // Other words would make lines without end.
  auto known = std::find(std::begin(recovery_strategies), std::end(recovery_strategies), strategy);
  if (known != std::end(recovery_strategies))
    families_->recoveries.Add({{"strategy", strategy}}).Increment();
}

void metrics::set(const node_state& x) {
  auto& f = *families_;
  f.has_leader.Set(x.has_leader);
  f.is_leader.Set(x.is_leader);
  f.term.Set(static_cast<double>(x.term.value));
  f.commit_index.Set(static_cast<double>(x.commit_index.value));
  f.applied_index.Set(static_cast<double>(x.last_applied.value));
  f.writable.Set(x.writable);
  f.members.Set(static_cast<double>(x.members));
  f.members_healthy.Set(static_cast<double>(x.members_healthy));
  f.storage_used.Set(static_cast<double>(x.storage_used));
  f.storage_quota.Set(static_cast<double>(x.storage_quota));
  f.connections.Set(static_cast<double>(x.connections));
  f.event_streams.Set(static_cast<double>(x.event_streams));
  f.resident.Set(static_cast<double>(x.resident_bytes));
  f.open_files.Set(static_cast<double>(x.open_files));
  f.started.Set(x.started_s);
}

void metrics::set(const std::vector<peer_state>& peers) {
  std::vector<std::pair<std::string, double>> up;
  std::vector<std::pair<std::string, double>> heard;
  for (auto& peer : peers) {
    up.emplace_back(peer.peer.value, peer.up);
    if (peer.heard_s >= 0)
      heard.emplace_back(peer.peer.value, peer.heard_s);
  }
  std::lock_guard lock{families_->mutex};
  families_->peer_up.set(up);
  families_->peer_heard.set(heard);
}

void metrics::set(const figures_view& figures, std::int64_t now_ms) {
  // Both are always there, with no task waiting too, so that rules and boards have something to look at.
  std::map<std::string, std::pair<double, double>> lines{{"any", {0, 0}}};
  for (std::size_t i = 0; i < figures.waiting.size(); ++i) {
    auto& each = figures.waiting[i];
    auto& [depth, age] = lines[i < most_requirements ? requirement_text(each.requirements) : "others"];
    depth += static_cast<double>(each.tasks);
    age = std::max(age, static_cast<double>(std::max<std::int64_t>(now_ms - each.oldest_submitted_ms, 0)) / 1000);
  }
  std::vector<std::pair<std::string, double>> depths;
  std::vector<std::pair<std::string, double>> ages;
  for (auto& [name, values] : lines) {
    depths.emplace_back(name, values.first);
    ages.emplace_back(name, values.second);
  }
  std::vector<std::pair<std::string, double>> tasks;
  for (std::size_t i = 0; i < task_status_count; ++i)
    tasks.emplace_back(to_string(static_cast<task_status>(i)), static_cast<double>(figures.tasks_by_status[i]));
  std::vector<std::pair<std::string, double>> workers;
  for (std::size_t i = 0; i < worker_status_count; ++i)
    workers.emplace_back(to_string(static_cast<worker_status>(i)), static_cast<double>(figures.workers_by_status[i]));
  std::lock_guard lock{families_->mutex};
  families_->queue_depth.set(depths);
  families_->queue_age.set(ages);
  families_->tasks.set(tasks);
  families_->workers.set(workers);
}

std::string metrics::text() const {
  return prometheus::TextSerializer{}.Serialize(families_->registry.Collect());
}

}  // namespace coordinator
