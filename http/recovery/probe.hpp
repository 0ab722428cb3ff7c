#pragma once

#include "http/client/client.hpp"
#include "http/recovery/config.hpp"
#include "http/recovery/observation.hpp"

namespace coordinator::recovery {

/// Looks at all nodes, at the same time, over HTTP and, for those of `host`, at their processes. Only reads.
class prober {
 public:
  /// `host` is the name of this machine.
  prober(const recovery_config& config, std::string host) : config_(config), host_(std::move(host)) {}

  /// Takes some multiples of `probe_timeout` at most.
  observation look(milliseconds now);

 private:
  node_look look_at(const watched_node& node) const;
  void add_members(observation& seen) const;
  void add_checksums(observation& seen) const;

  const recovery_config& config_;
  const std::string host_;
  milliseconds next_checksums_{0};
};

/// One request to one node, tried once.
client_reply ask_once(const endpoint& node, client_request request, milliseconds patience);

}  // namespace coordinator::recovery
