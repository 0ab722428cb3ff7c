#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "actors/event_log.hpp"

namespace coordinator {

/// What the `event:` line of a server-sent event says.
std::string_view event_name(const cluster_event& event);

/// The event's data, with `at_ms`.
nlohmann::ordered_json render(const recorded_event& event);

/// One server-sent event, whole: `id:`, `event:`, `data:` and the empty line. `data` must hold no line break, which
/// JSON without indentation never does.
std::string event_frame(const std::string& id, std::string_view name, std::string_view data);

nlohmann::ordered_json render(const membership& members);

}  // namespace coordinator
