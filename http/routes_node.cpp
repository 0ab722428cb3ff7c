#include "http/api.hpp"
#include "http/json_reader.hpp"
#include "http/openapi.hpp"
#include "http/render.hpp"
#include "http/wait.hpp"

namespace coordinator {

http_response api::get_status(const routed_request&) {
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", {}));
  auto response = ok(render_status(*node));
  response.set("X-Coordinator-Applied-Index", std::to_string(node->last_applied.value));
  return response;
}

http_response api::get_cluster(const routed_request& r) {
  std::optional<problem> failure;
  auto timeout = request_timeout(r, failure);
  if (failure)
    return to_response(*failure);
  auto cluster =
      wait_for<cluster_view>([&](auto done) { port_.cluster(timeout, std::move(done)); }, timeout + reply_margin);
  if (!cluster)
    return to_response(unavailable("timeout", {}));
  auto response = ok(render(*cluster));
  if (auto node = view())
    response.set("X-Coordinator-Applied-Index", std::to_string(node->last_applied.value));
  return response;
}

http_response api::post_transfer(const routed_request& r) {
  auto body = parse_object(r.http.body, true);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  object_reader reader{std::get<nlohmann::json>(body), {}, failure};
  node_id to{reader.optional_id("to")};
  // A misspelt "to" would hand over to anybody.
  reader.allow_only({"to"});
  auto timeout = request_timeout(r, failure);
  if (failure)
    return to_response(*failure);
  auto result = wait_for<transfer_result>([&](auto done) { port_.transfer(to, timeout, std::move(done)); },
                                          timeout + reply_margin);
  if (!result)
    return to_response(unavailable("timeout", "unknown"));
  if (result->ok)
    return ok({{"success", true}, {"leader", result->leader.value}});
  if (result->reason == "unknown_node")
    return to_response(not_found("not_found", "There is no such node."));
  if (result->reason == "not_a_voter")
    return to_response({409, "not_a_voter", "Only a voter can lead.", "to", {}, {}});
  if (result->reason == "no_candidate")
    return to_response({409, "no_candidate", "There is no other voter that could lead.", {}, {}, {}});
  return to_response(unavailable(result->reason, result->reason == "timeout" ? "unknown" : "not_applied"));
}

http_response api::post_member(const routed_request& r) {
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  object_reader reader{std::get<nlohmann::json>(body), {}, failure};
  membership_request request;
  request.what = change_membership::change::add;
  request.id.value = reader.id("node_id");
  request.force = reader.boolean("force", false);
  reader.allow_only({"node_id", "force"});
  return change_members(std::move(request), r, std::move(failure));
}

http_response api::delete_member(const routed_request& r) {
  std::optional<problem> failure;
  membership_request request;
  request.what = change_membership::change::remove;
  request.id.value = path_id(r, 0, "node_id", failure);
  if (auto force = r.parameter("force")) {
    if (*force != "true" && *force != "false" && !failure)
      failure = invalid("force", "force must be true or false.");
    request.force = *force == "true";
  }
  return change_members(std::move(request), r, std::move(failure));
}

http_response api::post_promote(const routed_request& r) {
  auto body = parse_object(r.http.body, true);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  object_reader reader{std::get<nlohmann::json>(body), {}, failure};
  membership_request request;
  request.what = change_membership::change::promote;
  request.id.value = path_id(r, 0, "node_id", failure);
  request.force = reader.boolean("force", false);
  reader.allow_only({"force"});
  return change_members(std::move(request), r, std::move(failure));
}

http_response api::change_members(membership_request request, const routed_request& r, std::optional<problem> failure) {
  request.timeout = request_timeout(r, failure);
  if (failure)
    return to_response(*failure);
  auto patience = request.timeout + reply_margin;
  auto result = wait_for<membership_result>(
      [&](auto done) { port_.change_members(std::move(request), std::move(done)); }, patience);
  if (!result)
    return to_response(unavailable("timeout", "unknown"));
  if (result->ok)
    return ok(render(*result));
  if (result->reason == "unknown_node")
    return to_response(not_found("not_found", result->detail + "."));
  for (auto conflict : {"busy", "unsafe", "not_caught_up", "not_connected"})
    if (result->reason == conflict && !result->unknown)
      return to_response({409, result->reason, result->detail + ".", {}, {}, {}});
  auto answer = unavailable(result->reason, result->unknown ? "unknown" : "not_applied");
  if (!result->detail.empty())
    answer.detail = result->detail;
  return to_response(answer);
}

reply api::post_maintenance_enable(const routed_request& r) {
  return set_maintenance_mode(r, true);
}

reply api::post_maintenance_disable(const routed_request& r) {
  return set_maintenance_mode(r, false);
}

reply api::set_maintenance_mode(const routed_request& r, bool enabled) {
  std::optional<problem> failure;
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  return write(set_maintenance{enabled}, options, "setting", [enabled](command_result&) {
    return ok({{"success", true}, {"maintenance", enabled}});
  });
}

http_response api::get_openapi(const routed_request&) {
  http_response response;
  response.body = openapi_document();
  return response;
}

}  // namespace coordinator
