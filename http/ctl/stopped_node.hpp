#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "http/ctl/session.hpp"
#include "persistence/data_directory.hpp"
#include "persistence/offline.hpp"
#include "persistence/state_store.hpp"

namespace coordinator::ctl {

/// Holds the data directory of a stopped node, so that it cannot be started meanwhile. A replacement of raft.db that
/// was cut short is finished, as the node's next start would; nothing else is changed. Throws ctl_error: usage for what
/// is no node's directory, conflict for one in use.
std::unique_ptr<data_directory> hold_stopped_node(const std::string& path);

/// Runs `work` on files, and turns what the stores throw into ctl_error: usage for a file that is damaged, missing or
/// of another kind, failed for a disk that does not do as it should.
void with_files(const std::function<void()>& work);

/// The membership in force at the end of the log.
membership last_members(log_inspector& log);
/// The term of the log's last entry. Of two nodes, the one with the later last term, and in the same term the one with
/// the later last entry, has the other's committed entries too (Raft §5.4.1).
term_number last_term(log_inspector& log);

/// What is wrong with the state's file, or nothing; and how far it goes. Reads all of it.
struct state_check {
  std::string problem;  ///< Not empty: it is damaged or missing, or cannot be read.
  bool missing = false;
  state_meta meta;
};
state_check check_state(data_directory& directory, const std::string& name);

/// {"node_id","http_address","cluster_address","voter"} for each.
nlohmann::json to_json(const membership& members);

/// Throws ctl_error unless it is a host with its port.
void require_address(const std::string& option, const std::string& address);

}  // namespace coordinator::ctl
