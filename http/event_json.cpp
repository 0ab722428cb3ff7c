#include "http/event_json.hpp"

#include "actors/messages.hpp"

namespace coordinator {
namespace {

using json = nlohmann::ordered_json;

json id_or_null(const std::string& id) {
  return id.empty() ? json{} : json(id);
}

worker_status shown_status(const worker_standing& x) {
  return x.offline ? worker_status::offline : x.draining ? worker_status::draining : x.said;
}

const char* word(worker_change x) {
  switch (x) {
    case worker_change::registered:
      return "registered";
    case worker_change::changed:
      return "changed";
    case worker_change::removed:
      return "removed";
  }
  return "changed";
}

struct add_data {
  json& out;

  void operator()(const leadership_event& x) const {
    out["leader"] = id_or_null(x.leader.value);
    out["term"] = x.term.value;
    out["role"] = to_string(x.role);
  }
  void operator()(const node_health_event& x) const {
    out["node_id"] = x.node.value;
    out["healthy"] = x.healthy;
    out["reason"] = id_or_null(x.reason);
  }
  void operator()(const membership_event& x) const { out["members"] = render(x.members); }
  void operator()(const recovery_event& x) const {
    out["strategy"] = x.strategy;
    out["node_id"] = id_or_null(x.target);
    out["outcome"] = x.outcome;
    out["detail"] = id_or_null(x.detail);
  }
  void operator()(const maintenance_event& x) const { out["enabled"] = x.enabled; }
  void operator()(const task_event& x) const {
    out["task_id"] = x.task_id;
    out["run_id"] = id_or_null(x.run_id);
    out["worker_id"] = id_or_null(x.worker_id);
    out["status"] = to_string(x.status);
  }
  void operator()(const worker_event& x) const {
    out["worker_id"] = x.worker.worker_id;
    out["change"] = word(x.change);
    out["status"] = to_string(shown_status(x.worker));
  }
};

struct word_of {
  std::string_view operator()(const leadership_event&) const { return "leadership"; }
  std::string_view operator()(const node_health_event&) const { return "node_health"; }
  std::string_view operator()(const membership_event&) const { return "membership"; }
  std::string_view operator()(const recovery_event&) const { return "recovery"; }
  std::string_view operator()(const maintenance_event&) const { return "maintenance"; }
  std::string_view operator()(const task_event&) const { return "task"; }
  std::string_view operator()(const worker_event&) const { return "worker"; }
};

}  // namespace

std::string_view event_name(const cluster_event& event) {
  return std::visit(word_of{}, event);
}

json render(const recorded_event& event) {
  json out;
  out["at_ms"] = event.at_ms;
  std::visit(add_data{out}, event.what);
  return out;
}

json render(const membership& members) {
  auto out = json::array();
  for (auto& m : members.members)
    out.push_back({{"node_id", m.id.value}, {"http_address", m.http_address}, {"voter", m.voter}});
  return out;
}

std::string event_frame(const std::string& id, std::string_view name, std::string_view data) {
  std::string frame;
  frame.reserve(id.size() + name.size() + data.size() + 24);
  frame.append("id: ").append(id).append("\nevent: ").append(name).append("\ndata: ").append(data).append("\n\n");
  return frame;
}

}  // namespace coordinator
