#pragma once

#include <optional>
#include <string_view>

#include "actors/event_log.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// Where whoever mends the cluster writes down what it did, as JSON objects with `event`, `strategy`, `node`, `action`,
/// `outcome` and `detail`. They are shared keys like others, and decide nothing.
inline constexpr std::string_view recovery_actions_prefix = "coordinator/recovery/actions/";

/// What an entry tells of a recovery, if it does: an action, or that a failure was mended. Costs next to nothing for
/// any other entry.
std::optional<recovery_event> recovery_told_by(const log_entry& entry);

}  // namespace coordinator
