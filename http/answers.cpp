#include "http/answers.hpp"

#include "http/json_reader.hpp"

namespace coordinator {
namespace {

int status_of(result_code code) {
  switch (code) {
    case result_code::ok:
      return 200;
    case result_code::not_found:
      return 404;
    case result_code::conflict:
    case result_code::stale_attempt:
    case result_code::worker_unavailable:
      return 409;
    case result_code::precondition_failed:
      return 412;
    case result_code::invalid:
    case result_code::dependency_missing:
    case result_code::dependency_cycle:
    case result_code::idempotency_key_reused:
      return 422;
    case result_code::too_many_idempotency_keys:
    case result_code::queue_full:
      return 429;
    case result_code::maintenance:
    case result_code::closed_session:
    case result_code::stale_sequence:
      return 503;
    case result_code::unreadable:
      return 500;
    case result_code::storage_full:
      return 507;
  }
  return 500;
}

std::string explain(const std::string& reason) {
  if (reason == "no_leader")
    return "No leader was known within the request's time.";
  if (reason == "timeout")
    return "The cluster did not answer within the request's time.";
  if (reason == "busy")
    return "The leader has too much in flight.";
  if (reason == "unformed")
    return "This node does not belong to a cluster yet.";
  if (reason == "shutting_down")
    return "This node is being stopped.";
  if (reason == "state_replaced")
    return "This node was given a state from which it cannot tell whether the request was applied.";
  if (reason == "disk_failed")
    return "This node's disk takes no writes at present; another node may serve the request.";
  if (reason == "state_unusable")
    return "This node's state cannot be used and is being replaced; another node may serve the request.";
  if (reason == "too_stale")
    return "This node last heard from a leader longer ago than max_stale_ms allows.";
  return "The request could not be served: " + reason + ".";
}

}  // namespace

http_response ok(const nlohmann::ordered_json& body) {
  http_response response;
  response.body = to_text(body);
  return response;
}

problem unavailable(const std::string& reason, std::string outcome) {
  return {503, reason.empty() ? "unavailable" : reason, explain(reason), {}, std::move(outcome), 1};
}

std::optional<problem> why_not_written(const command_result& result, const std::string& what) {
  if (result.ok())
    return std::nullopt;
  problem p;
  p.status = status_of(result.code);
  p.code = result.code == result_code::invalid ? "invalid_value" : std::string{to_string(result.code)};
  p.detail = result.detail;
  if (p.detail.empty())
    p.detail = result.code == result_code::not_found ? "There is no such " + what + "." : "The request was refused.";
  p.field = result.field;
  if (p.status == 503 || p.status == 507)
    p.outcome = "not_applied";
  if (p.status == 429)
    p.retry_after = 1;
  // Room comes back as old tasks leave, which is no matter of a second.
  if (p.status == 507)
    p.retry_after = 60;
  return p;
}

std::optional<problem> why_not_written(const std::optional<write_result>& result, const std::string& what) {
  if (!result)
    return unavailable("timeout", "unknown");
  switch (result->outcome) {
    case write_result::outcome::applied:
      return why_not_written(result->result, what);
    case write_result::outcome::not_applied:
      return unavailable(result->reason, "not_applied");
    case write_result::outcome::unknown:
      return unavailable(result->reason, "unknown");
  }
  return unavailable("timeout", "unknown");
}

std::optional<problem> why_not_read(const std::optional<read_result>& result, const std::string& what) {
  if (!result)
    return unavailable("timeout", {});
  if (!result->ok)
    return unavailable(result->reason, {});
  auto error = std::get_if<query_error>(&result->result);
  if (!error)
    return std::nullopt;
  auto detail = error->detail;
  switch (error->code) {
    case query_error::kind::not_found:
      return not_found("not_found", detail.empty() ? "There is no such " + what + "." : detail);
    case query_error::kind::invalid:
      return invalid(error->field, detail);
    case query_error::kind::not_ready:
      return problem{503, "not_applied_yet", "This node has not applied that index yet.", {}, {}, 1};
    case query_error::kind::gone:
      return problem{410, "gone", detail.empty() ? "That is no longer kept." : detail, {}, {}, {}};
    case query_error::kind::unusable:
      return problem{503, "state_unusable", "This node's state cannot be read: " + detail + ".", {}, {}, 1};
  }
  return std::nullopt;
}

void add_read_headers(http_response& response, const read_result& result, bool linearizable) {
  response.set("X-Coordinator-Applied-Index", std::to_string(result.applied_index.value));
  if (!linearizable && result.leader_contact_ms >= 0)
    response.set("X-Coordinator-Leader-Contact-Ms", std::to_string(result.leader_contact_ms));
}

}  // namespace coordinator
