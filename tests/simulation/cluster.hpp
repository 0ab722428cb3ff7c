#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/node_actors.hpp"
#include "actors/replication_actor.hpp"
#include "actors/state_machine_actor.hpp"
#include "tests/simulation/chance.hpp"
#include "tests/simulation/checker.hpp"
#include "tests/simulation/machine_room.hpp"
#include "tests/support/fault_vfs.hpp"

namespace coordinator::simulation {

/// How the network treats messages.
struct weather {
  std::uint64_t shortest_us = 200;
  std::uint64_t longest_us = 1000;
  unsigned loss_permille = 0;
  unsigned double_permille = 0;
  unsigned late_permille = 0;  ///< Messages that take up to two seconds.
  bool in_order = true;
  bool leaks = true;           ///< What a broken path swallowed may still arrive.
  unsigned echo_permille = 0;  ///< Messages that come again, up to six seconds later.
};

/// What a node's actors are, as `machine_room::owner::role`, in the order of node_actors::all.
enum role : unsigned {
  fleet_role,
  gateway_role,
  election_role,
  heartbeat_role,
  keeper_role,
  machine_role,
  log_writer_role,
  state_writer_role,
  snapshots_role,
  roles
};

/// What an ambush waits for: the node's next message of this kind, or its next leadership.
enum class ambush : std::uint8_t { none, vote, acknowledgement, leadership };

struct cluster_options {
  unsigned nodes = 3;
  unsigned founders = 0;  ///< The first so many found the cluster, the others may join it; 0: all of them.
  defect_set defects;
  std::function<void(const std::string&)> trace;  ///< Empty: none wanted.
};

/// Real nodes, but for their links, disks and clocks: the simulation's.
class cluster {
 public:
  cluster(cluster_options options, machine_room& room, chance& random, checker& watch);
  ~cluster();

  unsigned size() const { return static_cast<unsigned>(nodes_.size()); }
  unsigned quorum() const { return size() / 2 + 1; }
  const std::string& name(unsigned node) const { return nodes_[node].id.value; }
  bool up(unsigned node) const { return nodes_[node].up; }
  /// It is up, and its keeper and machine have run for the first time: there is something to look at.
  bool begun(unsigned node) const {
    auto& n = nodes_[node];
    return n.up && n.keeper->state.core && n.machine->state.core;
  }
  unsigned boot(unsigned node) const { return nodes_[node].boot; }
  gateway_port& port(unsigned node) { return *nodes_[node].actors.port; }
  const replication& keeper(unsigned node) const { return *nodes_[node].keeper->state.core; }
  const state_machine& machine(unsigned node) const { return *nodes_[node].machine->state.core; }
  fault_disk& disk(unsigned node) { return *nodes_[node].disk; }
  /// Something of this node's can no longer be written: only a restart helps.
  bool ill(unsigned node) const;
  /// Number of the leader of the highest term, if a node takes itself for it; else size().
  unsigned leader() const;

  // -- faults
  weather sky;
  /// Ends the node's process; with `power`, also what its disk had not synced.
  void stop(unsigned node, bool power);
  /// Starts it from its files; with faulty ones it may stay down. False then.
  bool start(unsigned node);
  /// A new, empty disk under the same name. The node is of no use to the cluster from then on.
  void lose_disk(unsigned node);
  /// Its disk was lost, and what came in its place is no member.
  bool lost(unsigned node) const { return nodes_[node].lost && !is_member(node); }
  /// Whether the leader counts it, as the one that it is now, among the members.
  bool is_member(unsigned node) const;
  /// Everybody runs and knows the same members, of which none has lost its disk, and three may vote.
  bool settled() const;
  void change_members(change_membership::change what, unsigned node);
  /// Damages the file that holds the state of a node that is down.
  void spoil_state(unsigned node);
  /// Its state cannot be used until it has another one.
  bool spoilt(unsigned node) const { return nodes_[node].spoilt || nodes_[node].flipped; }
  /// Nothing is written from its log writer for that long.
  void hang_disk(unsigned node, microseconds time);
  void block(unsigned from, unsigned to, bool blocked = true);
  void unblock_all();
  /// Messages on that path take so much longer; until it is called again.
  void slow_path(unsigned from, unsigned to, microseconds longer) { between(from, to).longer = longer; }
  void pause(unsigned node, microseconds time);
  void slow_disk(unsigned node, microseconds longest, microseconds time);
  void jump_clock(unsigned node, std::int64_t ms) { nodes_[node].wall_offset_ms += ms; }
  /// Nodes' clocks run faster or slower than time, by up to so much.
  void set_drift(unsigned permille) { drift_permille_ = permille; }
  void lay_ambush(unsigned node, ambush what) { nodes_[node].trap = what; }

  /// Whether leaders are held to what they owe under steady conditions: one that reaches a majority stays, and one that
  /// does not, or whose disk hangs, goes. For histories in which nothing stands still and no message is lost.
  bool strict = false;

  /// Entries that a node keeps behind compaction: few, so that logs lose what they held and snapshots are needed.
  std::uint64_t retention = 30;

  /// Clients begin nothing new before that moment.
  microseconds quiet_until{0};

  /// To be called after each step with who ran; looks at it.
  void ran(machine_room::owner who);
  /// What every ambush that was sprung is told to.
  std::function<void(unsigned node)> on_ambush;
  /// Called when a node has been stopped: its clients' calls have no answer.
  std::function<void(unsigned node)> on_stop;
  /// Called when a node has applied what none had before.
  std::function<void(const state_machine&)> on_applied;
  /// Called with each message between nodes, whatever becomes of it.
  std::function<void(unsigned from, unsigned to, const caf::message&)> on_carried;

  std::uint64_t delivered() const { return delivered_; }
  std::uint64_t lost() const { return lost_; }
  /// States that were replaced by another, and logs that were opened anew by a running node.
  std::uint64_t snapshots() const { return snapshots_; }
  std::uint64_t mended() const { return mended_; }

 private:
  using keeper_actor = std::remove_pointer_t<replication_actor::stateful_pointer<replication_state>>;
  using machine_actor = std::remove_pointer_t<state_machine_actor::stateful_pointer<state_machine_state>>;

  struct node {
    node_id id;
    std::string address;
    std::unique_ptr<fault_disk> disk;
    incarnation_id incarnation;
    bool up = false;
    unsigned boot = 0;
    node_actors actors;
    keeper_actor* keeper = nullptr;
    machine_actor* machine = nullptr;
    std::int64_t speed_permille = 1000;
    std::int64_t clock_offset_ms = 0;
    std::int64_t wall_offset_ms = 0;
    microseconds slow_until{0};
    std::uint64_t slowest_us = 0;
    ambush trap = ambush::none;
    bool lost = false;
    std::uint64_t log_life = 0;    // How often its raft.db was mended.
    std::uint64_t generation = 0;  // How often its state was replaced.
    bool spoilt = false;           // Its state cannot be used until another one has come.
    bool flipped = false;          // Its state's file was damaged, whoever has noticed.
    bool led = false;
    std::map<std::uint64_t, microseconds> writing;  // When each write was asked for.
  };
  struct path {  // From one node to another.
    bool blocked = false;
    microseconds since{0};  // Of the last change.
    microseconds last_arrival{0};
    microseconds longer{0};
    caf::strong_actor_ptr wires[5];
  };
  struct link {  // Between two nodes, whichever is first.
    bool up = false;
    microseconds up_since{0};
    microseconds silent_since{-1};
    microseconds next_try{0};
  };

  path& between(unsigned from, unsigned to) { return paths_[from * size() + to]; }
  link& link_of(unsigned a, unsigned b) { return links_[std::min(a, b) * size() + std::max(a, b)]; }
  node_clock clock_of(unsigned number);
  node_stores open(node& n);
  void spawn(unsigned number);
  caf::strong_actor_ptr target(const node& n, unsigned kind) const;
  void carry(unsigned from, unsigned to, unsigned kind, caf::message what);
  void notice_mending(unsigned number);
  void check_leadership(unsigned number);
  void check_said(unsigned from, unsigned to, const caf::message& what);
  void check_adopted(unsigned to, const caf::message& what, microseconds delay);
  void spring(unsigned number);
  void tend_links();
  void tend(unsigned a, unsigned b);
  void open_link(unsigned a, unsigned b);
  void close_link(unsigned a, unsigned b);
  void tell_up(unsigned whom, unsigned about);
  void tell_down(unsigned whom, unsigned about);
  void note(const std::string& what);

  cluster_options options_;
  machine_room& room_;
  chance& random_;
  checker& watch_;
  std::vector<node> nodes_;
  std::vector<path> paths_;
  std::vector<link> links_;
  caf::strong_actor_ptr deaf_;
  unsigned drift_permille_ = 0;
  microseconds could_not_write_{-60'000'000};  // When a disk was last seen to hang, where leaders are held to it.
  log_index applied_;
  std::uint64_t delivered_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t snapshots_ = 0;
  std::uint64_t changes_asked_ = 0;
  std::uint64_t mended_ = 0;
};

}  // namespace coordinator::simulation
