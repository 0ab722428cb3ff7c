#pragma once

#include <caf/fwd.hpp>
#include <caf/typed_actor.hpp>
#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "actors/link_gate.hpp"
#include "actors/link_tls.hpp"

/// Where proven connections meet CAF's network layer (BASP). Nothing here lets it read or write a byte before the other
/// side has proved to know the cluster secret, and CAF itself opens and accepts no connection.

namespace coordinator {

/// Loads CAF's network layer with the settings that links need: BASP gives a connection up that was silent for 1.5 s,
/// and every connection says something each 200 ms. Also sets the scheduler's policy, which decides how long a message
/// to an idle actor takes.
void configure_basp(caf::actor_system_config&);

/// For a gate: hands each proven connection to BASP, which offers `published` to the other side.
link_gate::admit_function admit_to_basp(caf::actor_system&, caf::strong_actor_ptr published,
                                        std::set<std::string> interface);

/// What BASP found at the other end of a connection.
struct remote_endpoint {
  caf::strong_actor_ptr actor;  ///< What that side offers; null if nothing.
  std::set<std::string> interface;
};

/// An address to connect to.
struct link_dial {
  std::string address;  ///< host:port
};

/// Connects for one peer. Blocks its own thread meanwhile, for 1.5 s at most and the look-up of a name, so it is to be
/// detached; one for each peer, so that none waits for another. Answers remote_endpoint or an error in words.
using link_dialer = caf::typed_actor<caf::replies_to<link_dial>::with<remote_endpoint>>;

link_dialer::behavior_type link_dialer_behavior(link_dialer::pointer self, std::shared_ptr<const tls_context>);

}  // namespace coordinator

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::link_dial)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::remote_endpoint)
