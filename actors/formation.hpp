#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "actors/messages.hpp"
#include "actors/rules.hpp"

namespace coordinator {

struct formation_config {
  sender self;
  std::string http_address;
  std::string cluster_address;
  /// The other nodes as --peers has them; an id that is not given is learnt from the link to that address.
  struct peer {
    std::optional<node_id> id;
    std::string http_address;
  };
  std::vector<peer> peers;
  defect_set defects;
};

/// What a node has saved about a founding that is not complete.
struct formation_state {
  genesis proposal;       ///< Cluster id empty: none.
  std::string abandoned;  ///< The cluster id that it promised never to finish but from a formed peer.

  friend bool operator==(const formation_state&, const formation_state&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, formation_state& x) {
    return f(x.proposal, x.abandoned);
  }
};

struct formation_actions {
  std::vector<std::pair<node_id, std::variant<formation_status, formation_offer, formation_abandon>>> messages;
  std::optional<formation_state> save;  ///< on_saved must follow once it is durable.
  std::optional<genesis> found;         ///< All founders have saved it: write entry 1.
};

/// How nodes that have nothing become a cluster (rule 12). A new cluster is not a cluster that forgot: nothing is
/// founded unless every node of --peers is there and has nothing either. Only for a node that is not formed.
class formation {
 public:
  /// `saved` is what raft.db holds.
  formation(formation_config config, formation_state saved);

  /// Some times a second: says where it stands to all peers, proposes, or founds. `cluster_id` is a fresh random
  /// one, used if this node proposes now; `wall_ms` becomes the cluster's first time.
  formation_actions on_tick(const std::string& cluster_id, std::int64_t wall_ms);
  formation_actions on_status(const formation_status&);
  formation_actions on_offer(const formation_offer&);
  formation_actions on_abandon(const formation_abandon&);
  /// What the last `save` asked for is durable.
  formation_actions on_saved();

  void on_peer_up(const sender&, const std::string& http_address);
  void on_peer_down(const node_id&);

  /// What is missing, in words for an operator.
  std::string waiting_for() const;
  formation_status status() const;

 private:
  struct peer_state {
    sender who;
    std::string http_address;
    std::optional<formation_status> said;  // Since its link came up.
  };

  std::vector<node_id> expects() const;
  bool everyone_agrees() const;
  const formation_status* said_by(const node_id&) const;
  bool incarnation_is(const member&) const;
  void tell_all(formation_actions&) const;
  void save(formation_state, formation_actions&);
  void promise(const std::string& cluster_id, formation_actions&);
  void try_to_complete(formation_actions&) const;
  void lead(const std::string& cluster_id, std::int64_t wall_ms, formation_actions&);
  bool is_intact(const genesis&) const;
  bool is_given_up(const genesis&, formation_actions&);
  genesis propose(const std::string& cluster_id, std::int64_t wall_ms) const;

  formation_config config_;
  formation_state saved_;
  std::optional<formation_state> saving_;
  std::map<node_id, peer_state> peers_;
};

}  // namespace coordinator
