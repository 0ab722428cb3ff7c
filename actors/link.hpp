#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "actors/messages.hpp"

namespace coordinator {

/// Nodes that speak another version do not link. It is raised with every change of what travels between nodes: of a
/// message's fields, their order or their meaning, and of what commands mean.
constexpr std::uint32_t link_protocol_version = 2;

/// What a node says of itself before it hands out or takes any handle. Its layout, and that of its answer, stay as they
/// are in every version: by them two versions tell each other apart.
struct link_hello {
  std::uint32_t protocol_version = link_protocol_version;
  std::string cluster_id;  ///< Empty: not formed.
  sender who;
  std::uint64_t boot_id = 0;  ///< Drawn when the process started.
  std::string http_address;
  std::string cluster_address;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, link_hello& x) {
    return f(x.protocol_version, x.cluster_id, x.who, x.boot_id, x.http_address, x.cluster_address);
  }
};

/// A peer to connect to.
struct link_target {
  node_id id;                      ///< Empty: learnt when it answers.
  std::string cluster_address;     ///< host:port to connect to.
  std::string configured_address;  ///< The entry of --peers; empty: the membership names it.
};

/// How one peer is, for people.
struct link_status {
  node_id id;           ///< Empty: never heard.
  std::string address;  ///< Where this node connects to.
  bool up = false;
  std::int64_t rtt_us = -1;  ///< Negative: not measured yet.
  std::string last_error;    ///< Why it is down, or was last.
};

/// Decides everything about links: whom to dial when, whom to accept, what replaces what. Plain logic: time comes in
/// with each call, on any clock that only goes forward, and randomness from the seed.
///
/// Of two nodes, the one with the lower cluster address dials, since two that connect to each other at once would
/// each close the other's connection as superfluous. The other one dials too if nothing came for a second.
///
/// A link is up under a session number, drawn when it is opened and never used again; what is said of an
/// earlier session changes nothing.
class link_table {
 public:
  /// `self.cluster_id` is empty until `know_cluster`.
  link_table(link_hello self, const std::vector<link_target>&, std::uint64_t seed, milliseconds now);

  const link_hello& self() const { return self_; }

  struct dial_order {
    std::uint64_t peer = 0;  ///< Names the entry in later calls.
    std::string address;
  };
  /// Peers to be dialled now. Each is dialled once until `dial_failed` or `open` says what became of it.
  std::vector<dial_order> due(milliseconds now);
  void dial_failed(std::uint64_t peer, const std::string& error, milliseconds now);

  /// Why no link with that node can be, naming both sides' values; empty if it can.
  std::string refusal(const link_hello& other) const;
  /// The same for the answer to an own dial, which has to come from the node that was meant.
  std::string refusal(std::uint64_t peer, const link_hello& other) const;
  /// The link is up already, so that a dial that led to the same process has nothing left to do but to be told
  /// so by `dial_superfluous`.
  bool is_superfluous(std::uint64_t peer, const link_hello& other) const;
  void dial_superfluous(std::uint64_t peer);

  struct opened {
    std::uint64_t session = 0;
    std::uint64_t replaced = 0;  ///< The session that this one takes the place of; 0: none.
    std::string configured_address;
  };
  /// The link is up; `peer` is the entry that was dialled, or nothing if the other side dialled. The caller has asked
  /// for a refusal first.
  opened open(std::optional<std::uint64_t> peer, const link_hello& other, milliseconds now);

  /// The link of that session broke. The node's id, unless the session has been replaced or was lost before.
  std::optional<node_id> lost(std::uint64_t session, const std::string& error, milliseconds now);
  void measured(std::uint64_t session, std::int64_t rtt_us);
  /// Whether that number still names an entry that is dialled.
  bool is_listed(std::uint64_t peer) const;

  /// The cluster is known: members that are in no entry get one, and others are dialled no more, also where --peers
  /// names them; what is up with them stays until it ends by itself. A membership without this node tells it nothing of
  /// the kind: it is older than its joining, or has removed it. Sessions with nodes of another cluster come back, to be
  /// given up.
  std::vector<std::uint64_t> know_cluster(const std::string& cluster_id, const membership&, milliseconds now);

  std::vector<link_status> status() const;

 private:
  struct entry {
    std::uint64_t number = 0;
    node_id id;
    bool id_is_fixed = false;  ///< By --peers or the membership; otherwise an answer may change it.
    std::string address;
    std::string configured_address;
    bool dials = true;  ///< False: it came by itself and is in no list.
    bool dialling = false;
    milliseconds dial_began{0};
    milliseconds next_dial{0};
    unsigned failures = 0;
    std::uint64_t session = 0;  ///< 0: down.
    link_hello other;           ///< As it last opened.
    std::int64_t rtt_us = -1;
    std::string last_error;
  };

  entry* find(std::uint64_t number);
  const entry* find(std::uint64_t number) const;
  entry* find(const node_id&);
  entry* find_session(std::uint64_t session);
  entry& add(link_target, bool dials, milliseconds now);
  entry& claim(std::optional<std::uint64_t> peer, const link_hello& other, milliseconds now);
  void drop_doubles_of(const entry&);
  void stop_dialling_others();
  bool is_wanted(const entry&) const;
  milliseconds patience(const entry&) const;
  milliseconds jittered(milliseconds);

  link_hello self_;
  membership members_;  ///< Empty until the cluster is known with this node in it.
  std::vector<entry> entries_;
  std::mt19937_64 random_;
  std::uint64_t last_number_ = 0;
  std::uint64_t last_session_ = 0;
};

}  // namespace coordinator
