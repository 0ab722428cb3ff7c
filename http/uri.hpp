#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coordinator {

/// Decodes %XX; nothing else, so '+' stays '+'. Empty where a '%' is not followed by two hexadecimal digits.
std::optional<std::string> percent_decode(std::string_view text);

/// The parts of a path between its slashes, still encoded: "/api/tasks/a%2Fb" has three.
std::vector<std::string_view> split_path(std::string_view path);

/// Name and value of each `name=value` of a query, decoded ('+' as a space, as forms send it).
/// Empty where a part cannot be decoded.
std::optional<std::vector<std::pair<std::string, std::string>>> parse_query(std::string_view query);

/// Whether `text` is well-formed UTF-8: no overlong forms, no surrogates, nothing past U+10FFFF.
bool is_utf8(std::string_view text);

/// Whether `text`, which is UTF-8, holds a control character: C0, DEL or C1.
bool has_control_character(std::string_view text);

/// Why `text` cannot be an id of a task, worker, run or node; empty if it can. An id is 1 to 256 bytes of
/// UTF-8 without '/' and control characters, does not begin or end with a space, and is not "." or "..".
std::string why_no_id(std::string_view text);

/// Why `text` cannot be a key under /api/kv; empty if it can. A key is 1 to 512 bytes of UTF-8 without
/// control characters; slashes are welcome.
std::string why_no_key(std::string_view text);

}  // namespace coordinator
