#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "actors/keeper_messages.hpp"

namespace coordinator {

/// How one node sees its link to another.
struct link_report {
  node_id peer;
  bool up = false;
  std::int64_t rtt_us = -1;    ///< Of the last answer; negative: none yet.
  std::int64_t heard_ms = -1;  ///< Since the last answer; negative: none yet.
  /// Since the peer's last datagram came in; negative: none yet. An answer needs both directions of a path, a
  /// datagram only the one: in a one-way fault they stop at one end and go on at the other.
  std::int64_t arrived_ms = -1;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, link_report& x) {
    return f(x.peer, x.up, x.rtt_us, x.heard_ms, x.arrived_ms);
  }
};

/// What a node says of itself, for people who look at the cluster. It decides nothing. Nodes tell it to each other with
/// every ping's answer, and pass on what others told them, so that any of them can show all that one of them sees.
struct node_report {
  node_id node;
  std::uint64_t boot_id = 0;  ///< Drawn when its process started.
  std::string http_address;
  std::string version;
  std::uint8_t role = 0;  ///< A node_role.
  term_number term;
  node_id leader;
  log_index commit_index;
  log_index last_applied;
  std::int64_t uptime_ms = 0;
  bool writable = true;     ///< False: its disk failed.
  std::int64_t age_ms = 0;  ///< How long ago the node said it, when this was sent.
  std::vector<link_report> links;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, node_report& x) {
    return f(x.node, x.boot_id, x.http_address, x.version, x.role, x.term, x.leader, x.commit_index, x.last_applied,
             x.uptime_ms, x.writable, x.age_ms, x.links);
  }
};

}  // namespace coordinator
