#pragma once

#include <caf/atom.hpp>
#include <caf/replies_to.hpp>
#include <caf/typed_actor.hpp>
#include <string>

namespace coordinator {

using status_atom = caf::atom_constant<caf::atom("status")>;
using stop_atom = caf::atom_constant<caf::atom("stop")>;

/// One coordinator node inside a host process of the cluster tests. Spawned there from the test process through CAF,
/// under the name below, with the node's command line as a JSON array of strings. Programs that ship register no
/// type that could be spawned from afar.
using host_node = caf::typed_actor<
    /// Whether the node runs: empty, or why it could not be started.
    caf::replies_to<status_atom>::with<std::string>,
    /// Stops the node in order, as SIGTERM does; answers when its stores are closed.
    caf::replies_to<stop_atom>::with<std::string>>;

inline constexpr auto host_node_type = "coordinator_node";

}  // namespace coordinator
