#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "actors/link.hpp"
#include "actors/link_gate.hpp"

namespace coordinator {

/// The links of one node, in an actor system of its own with a gate on a real port, and in the place of all its other
/// actors one that keeps account. What it says over a link is a beat, told apart by its round.
class link_node {
 public:
  struct options {
    std::string id;
    std::vector<link_target> targets = {};
    char secret = 'a';
    std::string cluster_id = {};
    std::uint64_t boot_id = 0;  ///< 0: another one each time.
    std::uint64_t incarnation = 1;
    std::uint32_t protocol_version = link_protocol_version;
    std::string advertise = {};        ///< Empty: where it listens.
    bool holds_on_to_handles = false;  ///< Keeps those of a broken link until `let_go`.
  };

  /// `listener` comes from listen_on, so that a test knows all ports before there is any node.
  link_node(options, file_descriptor listener);
  ~link_node();

  std::string address() const;
  gate_counters counters() const;

  /// "up ID" and "down ID" in order.
  std::vector<std::string> events() const;
  bool is_up(const std::string& id) const;
  /// What --peers entry the link of that node was said to come from.
  std::string configured_address(const std::string& id) const;
  bool has_measured(const std::string& id) const;

  /// Says it to the present link of that node; false if there is none.
  bool say(const std::string& id, std::uint64_t round);
  bool has_heard(std::uint64_t round) const;

  /// Threads that connect to peers.
  int dialers() const;

  std::vector<link_status> status();
  void know_cluster(const std::string& cluster_id, const membership& = {});
  void let_go();

 private:
  struct parts;
  std::unique_ptr<parts> parts_;
};

}  // namespace coordinator
