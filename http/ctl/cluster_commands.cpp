#include <nlohmann/json.hpp>
#include <ostream>

#include "http/ctl/commands.hpp"
#include "http/ctl/table.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;

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

}  // namespace

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
    table rows{{"URL", "NODE", "STATUS", "ROLE", "LEADER", "TERM", "COMMITTED", "APPLIED", "UP", "VERSION"}};
    for (auto& one : all) {
      auto up = one.contains("uptime_ms") ? std::to_string(one["uptime_ms"].get<std::int64_t>() / 1000) + " s" : "";
      rows.add({text_at(one, "url"), text_at(one, "node_id"), text_at(one, "status"), text_at(one, "role"),
                text_at(one, "current_leader"), text_at(one, "term"), text_at(one, "commit_index"),
                text_at(one, "last_applied"), up, text_at(one, "version")});
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
