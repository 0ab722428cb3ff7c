#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace coordinator {

/// A position in a list as the text of a cursor, [A-Za-z0-9_-]+: base64url without padding after a letter, so that
/// no cursor is empty.
std::string make_cursor(std::string_view position);
/// Nothing if `make_cursor` did not make it.
std::optional<std::string> read_cursor(std::string_view cursor);

}  // namespace coordinator
