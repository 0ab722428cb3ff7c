#pragma once

#include <functional>
#include <string>

#include "http/recovery/config.hpp"
#include "http/recovery/observation.hpp"

namespace coordinator::recovery {

/// What became of something that was tried: `text` is one line for people.
struct outcome {
  bool ok = false;
  std::string text;
};

/// Called again and again while something is waited for; false gives up.
using keep_waiting = std::function<bool()>;

/// Reads /proc, the data directory and the disk. Never blocks on the node, and takes no lock of it. A unit that systemd
/// calls inactive was stopped on purpose: its node counts as held.
process_look look_at_process(const watched_node& node, const recovery_config& config);

/// The file whose being there keeps the daemon's hands off a node.
std::string hold_mark(const std::string& state_dir, const std::string& node);

/// Starts the node's process. A plain one gets a session of its own and outlives the daemon; whether it goes on to
/// serve is for the caller to see. A second process on one data directory ends by itself.
outcome start_process(const watched_node& node, const recovery_config& config, const keep_waiting& go_on);

/// Ends the node's process: SIGTERM, which a stopped one also gets to see, and after `stop_grace` SIGKILL. Only the
/// process that `look_at_process` found is touched.
outcome stop_process(const watched_node& node, const recovery_config& config, const keep_waiting& go_on);

/// Stop, then start.
outcome restart_process(const watched_node& node, const recovery_config& config, const keep_waiting& go_on);

/// Renames the data directory of a node that does not run, and removes nothing. `text` is the new name, or why not.
outcome set_data_aside(const watched_node& node);

/// Renames the files of the state of a node that does not run, as the node itself does with a damaged one: at its start
/// it makes its state anew from its log or a peer. Its log is not touched.
outcome set_state_aside(const watched_node& node);

/// Copies what /proc tells of a process into `directory`; what cannot be read is left out.
void keep_process_evidence(int pid, const std::string& directory);

}  // namespace coordinator::recovery
