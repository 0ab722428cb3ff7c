#include <nlohmann/json.hpp>
#include <ostream>
#include <sstream>

#include "http/ctl/commands.hpp"
#include "http/ctl/table.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;
using namespace std::string_literals;

json status_of(const endpoint& node) {
  client_options options;
  options.give_up_after = std::chrono::milliseconds{2000};
  client one{{node}, options};
  client_request request;
  request.path = "/api/status";
  request.answer_within = std::chrono::milliseconds{2000};
  auto reply = one.send(request);
  auto body = reply.ok() ? json::parse(reply.body, nullptr, false) : json{};
  if (!body.is_object())
    body = {{"status", "unreachable"}, {"failure", reply.failure}};
  body["url"] = node.url();
  return body;
}

std::string milliseconds_at(const json& object, const char* field) {
  auto text = text_at(object, field);
  return text.empty() ? "-" : text + " ms";
}

/// What a node's status says that somebody should look at.
std::string remarks_on(const json& status) {
  std::string remarks;
  auto add = [&](const std::string& remark) { remarks += (remarks.empty() ? "" : "; ") + remark; };
  if (auto why = text_at(status, "disk_error"); !why.empty())
    add("disk: " + why);
  if (auto why = text_at(status, "state_error"); !why.empty())
    add("state: " + why);
  if (auto coming = status.find("snapshot_incoming"); coming != status.end() && coming->is_object())
    add("receives the state, " + text_at(*coming, "received_bytes") + " of " + text_at(*coming, "size") + " bytes");
  if (text_at(status, "verifying") == "true")
    add("verifying its files");
  if (text_at(status, "storage_full") == "true")
    add("storage is full");
  if (text_at(status, "maintenance") == "true")
    add("maintenance");
  if (auto whom = text_at(status, "waiting_for"); !whom.empty())
    add(whom);
  return remarks;
}

/// How a node says whether it is ready: the lines of its checks, without those that are well.
json readiness_of(const endpoint& node) {
  client_options options;
  options.retry = false;
  options.give_up_after = std::chrono::milliseconds{2000};
  client one{{node}, options};
  client_request request;
  request.path = "/readyz?verbose";
  auto reply = one.send(request);
  auto failed = json::array();
  if (!reply.answered())
    failed.push_back("unreachable: " + reply.failure);
  std::istringstream lines{reply.body};
  for (std::string line; !reply.ok() && std::getline(lines, line);)
    if (line.starts_with("[-]"))
      failed.push_back(line.substr(3));
  request.path = "/api/health";
  reply = reply.answered() ? one.send(request) : client_reply{};
  auto health = reply.ok() ? json::parse(reply.body, nullptr, false) : json{};
  return {{"url", node.url()}, {"ready", failed.empty()}, {"failed", failed}, {"health", health}};
}

constexpr auto members_path = "/api/cluster/members";

exit_status show_change(session& s, const json& answer, const std::string& node, const char* done, const char* was_so) {
  if (s.as_json) {
    s.out << to_text(answer, 2) << "\n";
    return exit_status::ok;
  }
  s.out << for_terminal(node) << " " << (text_at(answer, "changed") == "true" ? done : was_so) << "; members now:\n";
  table rows{{"NODE", "ADDRESS", "VOTER"}};
  for (auto& member : answer.value("members", json::array()))
    rows.add({text_at(member, "node_id"), text_at(member, "http_address"),
              text_at(member, "voter") == "true" ? "yes" : "no"});
  rows.print(s.out);
  return exit_status::ok;
}

}  // namespace

exit_status show_health(session& s, const std::vector<endpoint>& nodes) {
  auto all = json::array();
  bool ready = true;
  for (auto& node : nodes) {
    all.push_back(readiness_of(node));
    ready = ready && all.back()["ready"].get<bool>();
  }
  if (s.as_json) {
    s.out << to_text(all, 2) << "\n";
  } else {
    table rows{{"URL", "READY", "WHY NOT"}};
    for (auto& one : all) {
      std::string why;
      for (auto& line : one["failed"])
        why += (why.empty() ? "" : "; ") + line.get<std::string>();
      rows.add({text_at(one, "url"), one["ready"].get<bool>() ? "yes" : "no", why});
    }
    rows.print(s.out);
  }
  return ready ? exit_status::ok : exit_status::failed;
}

exit_status show_status(session& s, const std::vector<endpoint>& nodes) {
  auto all = json::array();
  auto answered = false;
  for (auto& node : nodes) {
    all.push_back(status_of(node));
    answered = answered || all.back().value("status", "") != "unreachable";
  }
  if (s.as_json) {
    s.out << to_text(all, 2) << "\n";
  } else {
    table rows{{"URL", "NODE", "STATUS", "ROLE", "LEADER", "TERM", "COMMITTED", "APPLIED", "UP", "VERSION", "REMARKS"}};
    for (auto& one : all) {
      auto up = one.contains("uptime_ms") ? std::to_string(one["uptime_ms"].get<std::int64_t>() / 1000) + " s" : "";
      rows.add({text_at(one, "url"), text_at(one, "node_id"), text_at(one, "status"), text_at(one, "role"),
                text_at(one, "current_leader"), text_at(one, "term"), text_at(one, "commit_index"),
                text_at(one, "last_applied"), up, text_at(one, "version"), remarks_on(one)});
    }
    rows.print(s.out);
  }
  if (!answered)
    throw ctl_error(exit_status::unavailable, "no coordinator answers");
  return exit_status::ok;
}

exit_status show_cluster(session& s) {
  auto view = get(s, "/api/cluster");
  if (s.as_json) {
    s.out << to_text(view, 2) << "\n";
    return exit_status::ok;
  }
  auto leader = text_at(view, "leader");
  auto quorum = view.value("quorum", json::object());
  s.out << "leader " << (leader.empty() ? "none" : for_terminal(leader)) << ", term " << text_at(view, "term") << ", "
        << text_at(quorum, "healthy") << " healthy of which " << text_at(quorum, "size") << " make a quorum, "
        << text_at(view, "failure_tolerance") << " more may fail\n";
  table rows{{"NODE", "ADDRESS", "ROLE", "VOTER", "MATCH", "LAG", "LAST CONTACT", "ROUND TRIP", "HEALTHY"}};
  for (auto& member : view.value("members", json::array()))
    rows.add({text_at(member, "node_id"), text_at(member, "http_address"), text_at(member, "role"),
              text_at(member, "voter") == "true" ? "yes" : "no", text_at(member, "match_index"), text_at(member, "lag"),
              milliseconds_at(member, "last_contact_ms"), milliseconds_at(member, "rtt_ms"),
              text_at(member, "healthy") == "true" ? "yes" : "no"});
  rows.print(s.out);
  return exit_status::ok;
}

exit_status transfer_leadership(session& s, const std::string& to) {
  auto answer = post(s, "/api/cluster/transfer_leadership", to.empty() ? json::object() : json{{"to", to}});
  if (s.as_json)
    s.out << to_text(answer, 2) << "\n";
  else
    s.out << "leader " << for_terminal(text_at(get(s, "/api/cluster"), "leader")) << "\n";
  return exit_status::ok;
}

exit_status add_member(session& s, const std::string& node) {
  return show_change(s, post(s, members_path, {{"node_id", node}}), node, "added as a learner", "is a member already");
}

exit_status promote_member(session& s, const std::string& node) {
  auto answer = post(s, members_path + "/"s + encode_component(node) + "/promote", json::object());
  return show_change(s, answer, node, "promoted: it is a voter", "is a voter already");
}

exit_status remove_member(session& s, const std::string& node, bool force) {
  if (force)
    s.err << "coordctl: --force: if too few of the voters that are left can be reached, the cluster commits no write "
             "and serves no linearizable read until enough of them are back\n";
  client_request request;
  request.method = "DELETE";
  request.path = members_path + "/"s + encode_component(node) + (force ? "?force=true" : "");
  return show_change(s, ask(s, request), node, "removed: its process ends", "is no member");
}

exit_status show_restart_plan(session& s) {
  auto view = get(s, "/api/cluster");
  auto leader = text_at(view, "leader");
  auto members = view.value("members", json::array());
  auto steps = json::array();
  auto restart = [&](const json& member) {
    steps.push_back({{"step", "restart"},
                     {"node_id", text_at(member, "node_id")},
                     {"http_address", text_at(member, "http_address")},
                     {"role", text_at(member, "role")}});
  };
  // Learners decide nothing, so that they go first and show whether the new version runs.
  for (auto role : {"LEARNER", "FOLLOWER"})
    for (auto& member : members)
      if (text_at(member, "role") == role)
        restart(member);
  auto voters = 0;
  for (auto& member : members)
    voters += text_at(member, "voter") == "true" ? 1 : 0;
  for (auto& member : members)
    if (text_at(member, "node_id") == leader) {
      if (voters > 1)
        steps.push_back({{"step", "transfer"}, {"node_id", leader}});
      restart(member);
    }
  if (s.as_json) {
    s.out << to_text(json{{"leader", leader}, {"failure_tolerance", view["failure_tolerance"]}, {"steps", steps}}, 2)
          << "\n";
  } else {
    auto number = 0;
    for (auto& step : steps) {
      auto node = for_terminal(text_at(step, "node_id"));
      s.out << ++number << ". ";
      if (text_at(step, "step") == "transfer")
        s.out << "coordctl cluster transfer    (leadership leaves " << node << ")\n";
      else
        s.out << "restart " << node << " (" << for_terminal(text_at(step, "role")) << "), then wait until http://"
              << for_terminal(text_at(step, "http_address")) << "/readyz answers 200\n";
    }
  }
  // A plan is carried out only by a cluster that can do without a node.
  if (leader.empty())
    throw ctl_error(exit_status::unavailable, "no node leads: mend the cluster before a node is restarted");
  if (voters > 1 && text_at(view, "failure_tolerance") == "0")
    throw ctl_error(
        exit_status::conflict,
        "no voter can be spared now: bring all nodes back before one is restarted, or writes stop meanwhile");
  return exit_status::ok;
}

exit_status list_workers(session& s) {
  auto all = json::object();
  std::string cursor;
  do {
    client_request request;
    request.path = "/api/workers?limit=1000" + (cursor.empty() ? "" : "&cursor=" + cursor);
    auto reply = s.cluster.send(request);
    auto page = reply.ok() ? json::parse(reply.body, nullptr, false) : json{};
    if (!page.is_object())
      throw error_of(reply, request);
    all.update(page);
    cursor = reply.next_cursor;
  } while (!cursor.empty());
  if (s.as_json) {
    s.out << to_text(all, 2) << "\n";
    return exit_status::ok;
  }
  table rows{{"WORKER", "STATUS", "SLOTS", "CAPABILITIES", "TASK", "HOST", "LAST HEARTBEAT"}};
  for (auto& [id, worker] : all.items())
    rows.add({id, text_at(worker, "status"), text_at(worker, "slots"), text_at(worker, "capabilities"),
              text_at(worker, "current_task"), text_at(worker, "host"), time_at(worker, "last_heartbeat_ms")});
  rows.print(s.out);
  return exit_status::ok;
}

exit_status drain_worker(session& s, const std::string& id) {
  auto answer = post(s, "/api/workers/" + encode_component(id) + "/drain", json::object());
  s.out << (s.as_json ? to_text(answer, 2) : "draining " + for_terminal(id)) << "\n";
  return exit_status::ok;
}

}  // namespace coordinator::ctl
