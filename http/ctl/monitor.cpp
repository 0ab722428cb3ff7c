#include <csignal>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <sstream>
#include <thread>

#include "http/ctl/commands.hpp"
#include "http/ctl/table.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;

constexpr std::size_t most_queues = 8;
constexpr std::size_t most_workers = 16;
constexpr std::size_t most_events = 6;

std::string duration(const json& object, const char* field) {
  auto found = object.find(field);
  if (found == object.end() || !found->is_number())
    return "-";
  auto ms = found->get<double>();
  if (ms < 1000)
    return std::to_string(static_cast<std::int64_t>(ms)) + " ms";
  auto s = static_cast<std::int64_t>(ms / 1000);
  if (s < 120)
    return std::to_string(s) + " s";
  if (s < 7200)
    return std::to_string(s / 60) + " min";
  return std::to_string(s / 3600) + " h";
}

std::string fixed(double x) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(x < 10 ? 2 : 0) << x;
  return out.str();
}

json list_at(const json& object, const char* field) {
  auto found = object.find(field);
  return found != object.end() && found->is_array() ? *found : json::array();
}

json object_at(const json& object, const char* field) {
  auto found = object.find(field);
  return found != object.end() && found->is_object() ? *found : json::object();
}

/// Whether packets of `from` arrive at the node `to`, as that says; nothing where nobody can tell.
std::optional<bool> arrives(const json& to, const std::string& from) {
  constexpr double longest_ms = 2500;
  if (text_at(to, "healthy") != "true")
    return std::nullopt;
  for (auto& link : list_at(to, "links"))
    if (text_at(link, "to") == from && link.contains("arrived_ms") && link["arrived_ms"].is_number())
      return link["arrived_ms"].get<double>() < longest_ms;
  return std::nullopt;
}

std::string no_link(const json& from, const json& to) {
  auto there = arrives(to, text_at(from, "node_id"));
  auto back = arrives(from, text_at(to, "node_id"));
  if (there.value_or(false))
    return "NO LINK, ARRIVES";
  return back.value_or(false) ? "DOES NOT ARRIVE" : "NO LINK";
}

/// What one node measured to the other, in a word.
std::string link_text(const json& node, const json& other) {
  const auto to = text_at(other, "node_id");
  if (text_at(node, "node_id") == to)
    return ".";
  if (text_at(node, "healthy") != "true")
    return "?";
  for (auto& link : list_at(node, "links")) {
    if (text_at(link, "to") != to)
      continue;
    if (text_at(link, "up") != "true")
      return no_link(node, other);
    return link.contains("rtt_ms") && link["rtt_ms"].is_number() ? fixed(link["rtt_ms"].get<double>()) + " ms" : "up";
  }
  return no_link(node, other);
}

void print_head(std::ostream& out, const json& seen) {
  auto leader = text_at(seen, "leader");
  auto quorum = object_at(seen, "quorum");
  out << time_at(seen, "at_ms") << "  seen by " << for_terminal(text_at(seen, "node_id")) << "  leader "
      << (leader.empty() ? "NONE" : for_terminal(leader)) << "  term " << text_at(seen, "term") << "  "
      << text_at(quorum, "healthy") << " of " << text_at(quorum, "voters") << " voters healthy, "
      << text_at(seen, "failure_tolerance") << " more may fail\n";
  auto history = object_at(seen, "history");
  auto last = [&](const char* field) {
    auto values = list_at(history, field);
    return values.empty() || !values.back().is_number() ? std::string{"-"} : fixed(values.back().get<double>());
  };
  auto committed = list_at(history, "committed");
  if (!committed.empty() && committed.back().is_number())
    out << "commits " << fixed(committed.back().get<double>() * 1000 / history.value("step_ms", 2000)) << "/s"
        << "  write p50 " << last("write_p50_ms") << " p99 " << last("write_p99_ms") << " ms"
        << "  fsync p50 " << last("fsync_p50_ms") << " p99 " << last("fsync_p99_ms") << " ms\n";
  out << "\n";
}

void print_nodes(std::ostream& out, const json& seen) {
  auto nodes = list_at(seen, "nodes");
  std::vector<std::string> head{"NODE", "ROLE", "TERM", "COMMITTED", "APPLIED", "LAG", "LAST CONTACT", "UP", "VERSION"};
  for (auto& node : nodes)
    head.push_back("TO " + text_at(node, "node_id"));
  table rows{head};
  for (auto& node : nodes) {
    auto healthy = text_at(node, "healthy") == "true";
    std::vector<std::string> row{text_at(node, "node_id"),
                                 healthy ? text_at(node, "role") : "UNREACHABLE",
                                 text_at(node, "term"),
                                 text_at(node, "commit_index"),
                                 text_at(node, "last_applied"),
                                 text_at(node, "lag"),
                                 duration(node, "last_contact_ms"),
                                 healthy ? duration(node, "uptime_ms") : "-",
                                 text_at(node, "version")};
    for (auto& other : nodes)
      row.push_back(link_text(node, other));
    rows.add(std::move(row));
  }
  rows.print(out);
}

void print_work(std::ostream& out, const json& seen) {
  auto tasks = object_at(seen, "tasks");
  out << "\ntasks:";
  for (auto& [status, n] : tasks.items())
    out << " " << for_terminal(status) << " " << to_text(n);
  out << "\n";
  auto queue = list_at(seen, "queue");
  if (!queue.empty()) {
    table rows{{"WAITING FOR", "TASKS", "OLDEST"}};
    for (std::size_t i = 0; i < queue.size() && i < most_queues; ++i)
      rows.add({text_at(queue[i], "requirement"), text_at(queue[i], "tasks"), duration(queue[i], "oldest_age_ms")});
    rows.print(out);
  }
  auto workers = list_at(seen, "workers");
  out << "\n";
  if (workers.empty()) {
    out << "no workers\n";
    return;
  }
  table rows{{"WORKER", "STATUS", "RUNNING"}};
  for (std::size_t i = 0; i < workers.size() && i < most_workers; ++i) {
    std::string running;
    for (auto& id : list_at(workers[i], "running"))
      running += (running.empty() ? "" : " ") + (id.is_string() ? id.get<std::string>() : std::string{});
    rows.add({text_at(workers[i], "worker_id"), text_at(workers[i], "status"), for_terminal(running, 60)});
  }
  rows.print(out);
  if (workers.size() > most_workers)
    out << "and " << workers.size() - most_workers << " more\n";
}

void print_events(std::ostream& out, const json& seen) {
  auto timeline = list_at(seen, "timeline");
  out << "\n";
  auto begin = timeline.size() > most_events ? timeline.size() - most_events : 0;
  for (auto i = begin; i < timeline.size(); ++i) {
    auto event = timeline[i];
    auto at = time_at(event, "at_ms");
    auto name = text_at(event, "event");
    event.erase("at_ms");
    event.erase("event");
    std::string members;
    for (auto& m : list_at(event, "members"))
      members += " " + text_at(m, "node_id") + (text_at(m, "voter") == "true" ? "" : " (learner)");
    event.erase("members");
    if (!members.empty()) {
      out << at << "  " << for_terminal(name + members, 110) << "\n";
      continue;
    }
    out << at << "  " << for_terminal(name + " " + to_text(event), 110) << "\n";
  }
}

/// The line that a moment's picture is, or its table.
std::string picture(const session& s, const json& seen, bool once) {
  if (s.as_json)
    return to_text(seen, once ? 2 : -1) + "\n";
  std::ostringstream out;
  print_head(out, seen);
  print_nodes(out, seen);
  print_work(out, seen);
  print_events(out, seen);
  return out.str();
}

volatile std::sig_atomic_t ended = 0;
void end_monitor(int) {
  ended = 1;
}

}  // namespace

exit_status monitor(session& s, const monitor_options& options) {
  if (options.once) {
    s.out << picture(s, get(s, "/api/monitor"), true);
    return exit_status::ok;
  }
  std::signal(SIGINT, end_monitor);
  std::signal(SIGTERM, end_monitor);
  while (!ended) {
    std::string text;
    try {
      text = picture(s, get(s, "/api/monitor"), false);
    } catch (const ctl_error& e) {
      // The cluster may come back: that is what one watches for.
      if (s.as_json)
        s.err << "coordctl: " << e.what() << "\n";
      else
        text = std::string{"no answer: "} + e.what() + "\n";
    }
    // Written in one piece over the picture before it, so that nothing flickers.
    if (options.in_place && !s.as_json)
      text = "\x1b[H\x1b[2J\x1b[3J" + text;
    else if (!s.as_json)
      text += "\n";
    s.out << text << std::flush;
    auto until = std::chrono::steady_clock::now() + options.interval;
    while (!ended && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  return exit_status::ok;
}

}  // namespace coordinator::ctl
