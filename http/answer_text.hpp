#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace coordinator {

/// The head of an answer whose body is there, from its status line to the empty line. `keep_alive` is the value of the
/// header of that name; empty: it is the connection's last answer, and says so. A header that holds the end of a line
/// is left out.
std::string head_of(const http_response& response, std::string_view keep_alive);

/// 500, after the handler of `request` threw; what it threw is logged.
http_response after_exception(const http_request& request, const std::exception& e);

}  // namespace coordinator
