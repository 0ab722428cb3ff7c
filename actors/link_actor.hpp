#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/typed_actor.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "actors/actors.hpp"
#include "actors/link.hpp"
#include "actors/link_basp.hpp"
#include "actors/observer.hpp"
#include "actors/path_probe.hpp"

/// The links of a node: one actor that opens a link to every peer, proves who is at its other end, watches it, opens it
/// again when it breaks, and tells the node's other actors whose handles they may use. It decides nothing itself;
/// link_table does. Only what takes time, connecting, is done by others: one detached dialer a peer.

namespace coordinator {

// -- between nodes ----------------------------------------------------------------

/// Answers link_hello. Not accepted: `reason` says why, with both sides' values.
struct link_hello_reply {
  bool accepted = false;
  std::string reason;
  link_hello self;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, link_hello_reply& x) {
    return f(x.accepted, x.reason, x.self);
  }
};

/// Both sides have accepted what the other said of itself: here are the handles of the side that dialled. The hello
/// comes again, for the receiver keeps nothing of what it has not agreed to.
struct link_open {
  link_hello self;
  peer_handles handles;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, link_open& x) {
    return f(x.self, x.handles);
  }
};

struct link_opened {
  bool accepted = false;
  std::string reason;
  peer_handles handles;  ///< Of the side that was dialled; only if accepted.

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, link_opened& x) {
    return f(x.accepted, x.reason, x.handles);
  }
};

/// Twice a second over each link, for its round-trip time, and to find out when two nodes have come to belong to
/// different clusters since they linked.
struct link_ping {
  std::string cluster_id;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, link_ping& x) {
    return f(x.cluster_id);
  }
};

/// With what the node says of itself, and what it has heard of others.
struct link_pong {
  std::string cluster_id;
  std::vector<node_report> reports;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, link_pong& x) {
    return f(x.cluster_id, x.reports);
  }
};

/// What the other node's links understand; all that a connection offers before the hello.
using peer_links = caf::typed_actor<
    /// Who are you, and may we link?
    caf::replies_to<link_hello>::with<link_hello_reply>,
    /// Exchanges the handles.
    caf::replies_to<link_open>::with<link_opened>,
    /// Are you there?
    caf::replies_to<link_ping>::with<link_pong>>;

// -- within a node ------------------------------------------------------------------

/// An actor at the other end is gone, or the connection to it: of a session, or of a greeting that has not become one.
struct link_lost {
  std::uint64_t session = 0;
  std::uint64_t greeting = 0;
};

/// Asks how the links are; `done` is called once on the links' thread and must only hand the value over.
struct get_links {
  std::function<void(std::vector<link_status>)> done;
};

struct links_tick {};

using links_actor = peer_links::extend<
    /// From the keeper.
    caf::reacts_to<cluster_known>,
    /// From the HTTP front.
    caf::reacts_to<get_links>,
    /// Own watch over the peers' actors.
    caf::reacts_to<link_lost>,
    /// Own timer.
    caf::reacts_to<links_tick>>;

/// Who hears of links: each gets every peer_up and peer_down, the last one every peer_rtt.
struct link_listeners {
  using listener = caf::typed_actor<caf::reacts_to<peer_up>, caf::reacts_to<peer_down>>;
  std::vector<listener> peers;
  caf::typed_actor<caf::reacts_to<peer_rtt>> rtt;  ///< May be null.
};

struct links_config {
  link_hello self;
  std::vector<link_target> targets;
  peer_handles handles;  ///< Of this node, to be given to peers.
  link_listeners listeners;
  std::uint64_t seed = 0;
  std::uint64_t tick_seed = 0;                ///< As the other actors of the node: their timers fire together.
  std::function<link_dialer()> spawn_dialer;  ///< Called once for each peer.
  std::shared_ptr<observer> watcher;          ///< Told how the links are; may be null.
  std::weak_ptr<path_probe> probe;            ///< Told where the peers are; may be null.
};

struct links_state {
  /// A connection that has been made, on the way to becoming a session.
  struct greeting {
    std::uint64_t peer = 0;
    std::string address;
    peer_links links;
  };
  struct session {
    node_id id;
    peer_links links;
    unsigned unanswered_pings = 0;
  };

  std::unique_ptr<link_table> table;
  links_config config;
  std::map<std::uint64_t, link_dialer> dialers;  ///< By the number of the peer in the table.
  std::map<std::uint64_t, greeting> greetings;
  std::uint64_t last_greeting = 0;
  std::map<std::uint64_t, session> sessions;
  std::map<std::uint64_t, std::string> told;  ///< The last error of each peer that was logged.
  std::string refused;                        ///< The last refusal of a stranger that was logged.
  unsigned ticks = 0;
};

/// Tells the listeners peer_up and peer_down, strictly in turn for one node but for a peer_up that replaces another.
links_actor::behavior_type links_behavior(links_actor::stateful_pointer<links_state>, links_config);

/// What a gate publishes along with that actor: of all that it understands, what `peer_links` has.
std::set<std::string> published_interface(caf::actor_system&);

/// Announces the messages that links exchange.
void announce_link_messages(caf::actor_system_config&);

}  // namespace coordinator

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::link_lost)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::get_links)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coordinator::links_tick)
