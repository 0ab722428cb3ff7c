#pragma once

#include <string>

#include "http/ctl/session.hpp"

namespace coordinator::ctl {

struct recover_options {
  std::string config;
  std::string host;      ///< The name of this machine in the file; empty: the system's.
  bool once = false;     ///< End as soon as nothing is wrong; else at SIGINT or SIGTERM.
  bool dry_run = false;  ///< Say what would be done, and change nothing.
};
/// Watches the nodes of the configuration and mends what Raft by itself does not. Failed if something that was noticed
/// is not mended at the end.
exit_status recover(session& s, const recover_options& options);

}  // namespace coordinator::ctl
