#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace coordinator {

/// An error as the client sees it: RFC 9457 `application/problem+json` with two members of our own, `code`
/// (a stable snake_case word) and, where one field of the request is at fault, `field`.
struct problem {
  int status = 500;
  std::string code;
  std::string detail;
  std::string field;    ///< Empty when no single field is at fault; `tasks[17].command` for a nested one.
  std::string outcome;  ///< `not_applied` or `unknown` on a 503 of a write, otherwise empty.
  /// Seconds for `Retry-After`. A 503 without one still says 1.
  std::optional<int> retry_after;
};

/// The answer that carries `p`. Never fails: bytes that are no UTF-8 in the texts are replaced.
http_response to_response(const problem& p);

/// 400: no JSON, a wrong type, or a request that HTTP itself does not allow.
problem malformed(std::string detail, std::string field = {});
/// 422: well-formed but invalid.
problem invalid(std::string field, std::string detail);
/// 404 with `code` such as `task_not_found`.
problem not_found(std::string code, std::string detail);
/// 413.
problem too_large(std::string detail);
/// 408: what is named, the head or the body, did not arrive in time.
problem request_late(std::string_view what);
/// 503, to a connection past the limit.
problem too_many_connections();

/// The reason phrase of a status, `Not Found` for 404.
std::string_view status_title(int status);

}  // namespace coordinator
