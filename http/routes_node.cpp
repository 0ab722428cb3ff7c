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

http_response api::post_maintenance_enable(const routed_request& r) {
  return set_maintenance_mode(r, true);
}

http_response api::post_maintenance_disable(const routed_request& r) {
  return set_maintenance_mode(r, false);
}

http_response api::set_maintenance_mode(const routed_request& r, bool enabled) {
  std::optional<problem> failure;
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  auto result = write(set_maintenance{enabled}, options);
  if (auto wrong = why_not_written(result, "setting"))
    return to_response(*wrong);
  return ok({{"success", true}, {"maintenance", enabled}});
}

http_response api::not_implemented(const routed_request& r) {
  if (auto stranger = r.http.path.rfind("/api/raft/", 0) == 0 ? refuse_stranger(r) : std::nullopt)
    return to_response(*stranger);
  return to_response({501, "not_implemented", "This version does not offer this yet.", {}, {}, {}});
}

http_response api::get_openapi(const routed_request&) {
  http_response response;
  response.body = openapi_document();
  return response;
}

}  // namespace coordinator
