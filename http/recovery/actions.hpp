#pragma once

#include <functional>
#include <string>

#include "http/client/client.hpp"
#include "http/recovery/decisions.hpp"
#include "http/recovery/node_process.hpp"

namespace coordinator::recovery {

/// Does what was decided, one thing at a time, through the cluster's HTTP contract and on the processes of this
/// machine. It removes nothing: what a node has on its disk is renamed at most.
class actions {
 public:
  /// `may_go_on` is asked before each step that changes something, and while something is waited for: false when the
  /// right to act is gone. Both references must outlive this.
  actions(const recovery_config& config, client& cluster, std::function<bool(bool step)> may_go_on);

  outcome run(const intent& what, const observation& seen);

 private:
  outcome keep_evidence(const intent& what, const observation& seen);
  outcome hand_over();
  outcome set_maintenance(bool enabled);
  outcome resync(const std::string& node, const observation& seen);
  outcome start(const watched_node& node);
  outcome restart(const watched_node& node);
  outcome rebuild(const watched_node& node);
  outcome replace(const watched_node& node, bool remove_first);
  outcome set_aside_and_join(const watched_node& node);
  outcome wait_until_it_answers(const watched_node& node, outcome so_far);
  outcome join(const watched_node& node, outcome so_far);
  /// For node_process: goes on until `settle` has passed from now.
  keep_waiting patience() const;
  client_request authorized(client_request request) const;
  void keep_answers(const watched_node& node, const std::string& directory) const;

  const recovery_config& config_;
  client& cluster_;
  const std::function<bool(bool)> may_go_on_;
  std::string token_;
};

/// The file that says that a split brain was seen; all actions stop until an operator removes it.
std::string split_brain_mark(const std::string& state_dir);

}  // namespace coordinator::recovery
