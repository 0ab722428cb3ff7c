#pragma once

#include <string_view>

namespace coordinator {

/// http/openapi.json as it was when this was built.
std::string_view openapi_document();

}  // namespace coordinator
