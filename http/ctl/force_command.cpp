#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "http/ctl/commands.hpp"
#include "http/ctl/stopped_node.hpp"
#include "http/ctl/table.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;

std::string others_of(const membership& members, const node_id& self) {
  std::string names;
  for (auto& m : members.members)
    if (m.id != self)
      names += (names.empty() ? "" : ", ") + for_terminal(m.id.value);
  return names;
}

void warn(session& s, const raft_contents& contents, const membership& members, term_number last_term) {
  auto others = others_of(members, contents.node);
  auto& node = contents.node.value;
  s.err << "This makes node " << for_terminal(node) << " of cluster " << contents.founded->cluster_id
        << " a cluster of its own, under a new cluster id.\n"
        << "  - Its log ends at entry " << contents.last_index.value << ", of term " << last_term.value
        << ". Whatever the cluster acknowledged after that is lost.\n"
        << "  - Entries at the end of its log that were never acknowledged may take effect.\n";
  if (!others.empty())
    s.err
        << "  - The other members (" << others << ") are refused from then on, and their data with them. A node\n"
        << "    of theirs that is further ahead should be used instead: `coordctl log verify` shows where each ends.\n"
        << "  - If a majority of them still runs or comes back, there are two clusters, which both take writes.\n";
}

/// Throws unless somebody has said that this is what they want.
void require_consent(session& s, const force_options& options, const raft_contents& contents) {
  if (options.accepted)
    return;
  if (!options.answers)
    throw ctl_error(exit_status::usage,
                    "nobody can confirm this, as there is no terminal; --yes-i-accept-losing-writes does. Nothing was "
                    "changed");
  s.err << "Type the node's id (" << for_terminal(contents.node.value) << ") to go on: " << std::flush;
  std::string line;
  std::getline(*options.answers, line);
  if (!line.empty() && line.back() == '\r')
    line.pop_back();
  if (line != contents.node.value && line != contents.founded->cluster_id)
    throw ctl_error(exit_status::usage, "that is neither the node's id nor the cluster's. Nothing was changed");
}

/// No peer is left that could give this node a state, so its own has to be good.
void require_state(data_directory& directory, const raft_contents& contents) {
  auto state = check_state(directory, contents.state_file);
  auto base = contents.base.index;
  if (state.missing && base == log_index{})
    return;
  if (!state.problem.empty())
    throw ctl_error(exit_status::usage, "the state cannot be used, and no other node could give one: " + state.problem +
                                            "; use another node's directory, or restore a snapshot");
  if (state.meta.last_applied < base)
    throw ctl_error(exit_status::usage,
                    "the state ends before the log begins, and no other node could give the rest; "
                    "use another node's directory, or restore a snapshot");
}

}  // namespace

exit_status force_new_cluster(session& s, const force_options& options) {
  if (!options.http_address.empty())
    require_address("--http-address", options.http_address);
  if (!options.cluster_address.empty())
    require_address("--cluster-address", options.cluster_address);
  auto directory = hold_stopped_node(options.data_dir);
  node_id node;
  lone_member alone{random_id(), options.http_address, options.cluster_address};
  membership made;
  with_files([&] {
    {
      log_inspector log{directory->raft_path()};
      auto& contents = log.contents();
      if (auto problems = log.verify(); !problems.empty())
        throw ctl_error(exit_status::usage,
                        "damaged: " + problems.front().what + "; use another node's directory, or restore a snapshot");
      if (!contents.founded)
        throw ctl_error(exit_status::usage,
                        options.data_dir + ": was never part of a cluster; start the node as a new one");
      require_state(*directory, contents);
      warn(s, contents, last_members(log), last_term(log));
      require_consent(s, options, contents);
      node = contents.node;
    }
    made = force_new(directory->files(), node, alone);
  });
  if (s.as_json)
    s.out << to_text(json{{"success", true},
                          {"node_id", node.value},
                          {"cluster_id", alone.cluster_id},
                          {"members", to_json(made)}},
                     2)
          << "\n";
  else
    s.out << "node " << for_terminal(node.value) << " is the only member of the new cluster " << alone.cluster_id
          << "; start it as before\n";
  return exit_status::ok;
}

}  // namespace coordinator::ctl
