#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>

#include "http/message.hpp"
#include "http/problem.hpp"

namespace coordinator {

/// A request's head, and how its body is framed.
struct request_head {
  http_request request;  ///< Without body and peer.
  bool keep_alive = true;
  bool http_1_0 = false;  ///< Knows no chunks.
  bool chunked = false;
  std::optional<std::uint64_t> content_length;
  bool expects_continue = false;
};

/// Parses a head from its request line to the empty line that ends it. Strict where leniency lets one
/// request be read as two: no bare LF, no folded lines, no doubled or mixed framing headers (RFC 9112 §6.3).
std::variant<request_head, problem> parse_request_head(std::string_view text);

}  // namespace coordinator
