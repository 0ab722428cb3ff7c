#include "http/problem.hpp"

#include <nlohmann/json.hpp>

namespace coordinator {

std::string_view status_title(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "Error";
  }
}

http_response to_response(const problem& p) {
  nlohmann::ordered_json body;
  body["type"] = "about:blank";
  body["title"] = status_title(p.status);
  body["status"] = p.status;
  body["detail"] = p.detail;
  body["code"] = p.code;
  if (!p.field.empty())
    body["field"] = p.field;
  if (!p.outcome.empty())
    body["outcome"] = p.outcome;
  http_response response;
  response.status = p.status;
  response.content_type = "application/problem+json";
  response.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (p.retry_after || p.status == 503)
    response.set("Retry-After", std::to_string(p.retry_after.value_or(1)));
  if (p.status == 401)
    response.set("WWW-Authenticate", "Bearer");
  return response;
}

problem malformed(std::string detail, std::string field) {
  return {400, field.empty() ? "malformed_request" : "wrong_type", std::move(detail), std::move(field), {}, {}};
}

problem invalid(std::string field, std::string detail) {
  return {422, "invalid_value", std::move(detail), std::move(field), {}, {}};
}

problem not_found(std::string code, std::string detail) {
  return {404, std::move(code), std::move(detail), {}, {}, {}};
}

problem too_large(std::string detail) {
  return {413, "body_too_large", std::move(detail), {}, {}, {}};
}

problem request_late(std::string_view what) {
  return {408, "request_timeout", "The request's " + std::string{what} + " did not arrive in time.", {}, {}, {}};
}

problem too_many_connections() {
  return {503, "too_many_connections", "This node has no room for another connection.", {}, {}, 1};
}

}  // namespace coordinator
