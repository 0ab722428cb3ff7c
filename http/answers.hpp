#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "actors/gateway_port.hpp"
#include "http/message.hpp"
#include "http/problem.hpp"

namespace coordinator {

/// 200 with a JSON body.
http_response ok(const nlohmann::ordered_json& body);

/// Why a write was not done, if so: 503 with its outcome where no result came, otherwise what the result's code asks
/// for. `what` names the thing for people, as in "There is no such task".
std::optional<problem> why_not_written(const std::optional<write_result>& result, const std::string& what);
std::optional<problem> why_not_written(const command_result& result, const std::string& what);

/// Why a read has no answer, if so.
std::optional<problem> why_not_read(const std::optional<read_result>& result, const std::string& what);

/// 503 by one of the gateway's reasons; `outcome` is empty for a read.
problem unavailable(const std::string& reason, std::string outcome);

/// `X-Coordinator-Applied-Index`, and for a stale read `X-Coordinator-Leader-Contact-Ms` where a leader was ever heard.
void add_read_headers(http_response& response, const read_result& result, bool linearizable);

}  // namespace coordinator
