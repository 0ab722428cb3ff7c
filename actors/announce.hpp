#pragma once

namespace caf {
class actor_system_config;
}

namespace coordinator {

/// Announces every message of messages.hpp that travels between nodes to CAF.
void announce_messages(caf::actor_system_config& config);

}  // namespace coordinator
