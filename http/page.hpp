#pragma once

#include <string_view>

#include "http/message.hpp"

namespace coordinator {

/// A file of the cluster health monitor, as it was when the program was built: index.html, or what is served beside it
/// under /monitor/. 404 for any other name.
http_response page_file(std::string_view name);

}  // namespace coordinator
