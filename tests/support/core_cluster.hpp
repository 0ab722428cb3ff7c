#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "actors/election.hpp"
#include "actors/heartbeat.hpp"
#include "actors/replication.hpp"

namespace coordinator {

struct core_cluster_options {
  std::uint64_t seed = 0;
  std::size_t nodes = 3;
  std::size_t joiners = 0;  ///< Further nodes that are no members at first; the membership changes then.
  defect_set defects = {};
};

/// A whole cluster of the pure cores (replication, election, heartbeat) with time, network, disks and clients that one
/// seed decides: messages are late, reordered, doubled and lost; links break; processes pause and crash with the
/// loss of what was not written; disks stall and fail. After each step the invariants of Raft are checked.
class core_cluster {
 public:
  explicit core_cluster(core_cluster_options options);

  /// Runs with clients, and with faults.
  void run(milliseconds duration);
  /// Ends all faults and checks that the cluster agrees, accepts a write and answers a read within some seconds.
  void settle();

  /// Without faults: kills the leader, and returns how long it took until another had committed an entry.
  milliseconds fail_over(milliseconds after);

  /// The first invariant that broke, in words; empty: all hold.
  const std::string& violation() const { return violation_; }
  std::size_t committed_entries() const { return committed_.size(); }
  std::size_t terms_led() const { return leaders_.size(); }
  std::size_t reads_answered() const { return reads_answered_; }
  std::size_t installed() const { return installed_; }
  std::size_t compacted() const { return compacted_; }
  std::size_t membership_changes() const { return changed_; }

 private:
  static constexpr milliseconds heartbeat_interval{50};
  static constexpr milliseconds timeout_min{150};
  static constexpr milliseconds timeout_max{300};

  using microseconds = std::chrono::microseconds;
  using peer_message =
      std::variant<append_entries, append_entries_reply, install_snapshot, install_snapshot_reply, removal_notice,
                   state_digest, request_vote, request_vote_reply, beat, beat_reply, timeout_now, propose,
                   proposal_rejected, read_index, read_index_reply, transfer_leadership, transfer_reply, cluster_view,
                   change_membership, membership_reply>;
  enum channel {
    to_election,
    election_to_keeper,
    to_heartbeat,
    heartbeat_to_keeper,
    heartbeat_to_election,
    keeper_to_files,
    channels
  };

  struct event {
    microseconds at;
    std::uint64_t number;
    std::function<void()> run;

    bool operator<(const event& other) const { return at != other.at ? at > other.at : number > other.number; }
  };

  struct disk {
    hard_state state;
    log_base base;
    std::vector<log_entry> log;  // log[i] has index base.index + i + 1.
    std::optional<genesis> founded;
    std::string state_file = "state.db";
    log_index last_applied;  // Of that file; a crash may take it back to what was checkpointed.
    log_index checkpointed;
    bool spoilt = false;  // What the file holds is not what the log comes to.

    log_index last() const { return base.index + log.size(); }
    /// What is below the base is known to be in the state.
    bool has(log_index index, term_number term) const {
      return index < base.index || (index == base.index && base.term == term) ||
             (index <= last() && index > base.index && log[index - base.index - 1].term == term);
    }
  };

  /// A snapshot on its way into a node, and the file that it becomes.
  struct incoming_file {
    std::uint64_t number = 0;
    snapshot_info what;
    std::uint64_t size = 0;
    std::string name;
  };

  struct node {
    sender who;
    disk files;
    milliseconds skew{0};
    unsigned boot = 0;
    bool running = false;
    microseconds paused_until{0};
    microseconds disk_stalled_until{0};
    bool disk_fails = false;
    // The process.
    std::unique_ptr<replication> keeper;
    std::unique_ptr<election> campaigns;
    std::unique_ptr<heartbeat> beats;
    bool beating = false;
    std::optional<raft_write> writing;
    microseconds disk_free{0};
    microseconds channel_free[channels]{};
    std::vector<microseconds> link_free;
    std::map<std::string, log_index> copies;  // Copies of the state that it made, and of what.
    std::optional<incoming_file> incoming;
    bool refuses_to_apply = false;
    log_index applied;
    log_index commit_seen;
    term_number led_term;
  };

  struct pending_read {
    log_index at_least;
    bool answered = false;
  };

  // core_cluster.cpp: time, clients and faults; core_cluster_nodes.cpp: processes and network; core_cluster_disks.cpp.
  std::uint64_t draw(std::uint64_t below) { return random_() % below; }
  bool chance(unsigned percent) { return draw(100) < percent; }
  microseconds up_to(milliseconds span) {
    return microseconds{draw(static_cast<std::uint64_t>(span.count()) * 1000 + 1)};
  }
  instant clock(const node&) const;
  void schedule(microseconds delay, std::function<void()>);
  void schedule_for(std::size_t i, microseconds delay, std::function<void()>);
  void push_for(std::size_t i, microseconds at, std::uint64_t number, std::function<void()>);
  void post(std::size_t i, channel, std::function<void()>);
  void step_until(microseconds end);
  std::size_t find(const node_id&) const;
  void start(std::size_t i);
  void crash(std::size_t i);
  void connect(std::size_t i, std::size_t j);
  void disconnect(std::size_t i, std::size_t j);
  void tell_link(std::size_t i, std::size_t j, bool up);
  void send(std::size_t i, const node_id& to, peer_message);
  void deliver(std::size_t i, peer_message);
  void keeper_tick(std::size_t i);
  void heartbeat_tick(std::size_t i);
  void perform(std::size_t i, replication_actions);
  void perform(std::size_t i, election_actions);
  void perform(std::size_t i, heartbeat_actions);
  void write(std::size_t i, raft_write);
  void save(node&, const raft_write&);
  void load(std::size_t i, const load_request&);
  void perform_on_state(std::size_t i, replication_actions&);
  void copy(std::size_t i);
  void read_copy(std::size_t i, const copy_request&);
  void store(std::size_t i, incoming_piece);
  void spoil(std::size_t i);
  void change_members();
  bool is_member(const node&) const;
  std::string standing() const;
  void one_fault();
  void one_request();

  // core_cluster_checks.cpp: what must hold.
  void violate(const std::string& what);
  void check_node(node&);
  void check_new_leader(node&);
  void check_commit(node&);
  void check_write(const node&, const raft_write&);
  void check_saved(const node&, const raft_write&);
  void check_said(const node&, const node_id& to, const peer_message&);
  void note_vote(const node&, term_number, const node_id& candidate);
  void check_applied(node&, const committed&);
  void check_read(const read_index_reply&);

  core_cluster_options options_;
  std::mt19937_64 random_;
  microseconds now_{0};
  std::uint64_t last_event_ = 0;
  std::priority_queue<event> events_;
  std::vector<node> nodes_;
  std::vector<std::vector<bool>> connected_;
  std::vector<std::vector<bool>> deaf_;  // [from][to]: everything is lost, though the link looks fine.
  unsigned loss_percent_ = 0;
  bool faults_ = true;
  unsigned fault_percent_;  // Of the requests; some seeds are stormy.
  std::uint64_t last_command_ = 0;

  std::string violation_;
  std::map<term_number, node_id> leaders_;
  std::map<std::pair<node_id, term_number>, node_id> votes_;
  struct written_entry {
    log_entry entry;
    term_number previous_term;
  };
  std::map<std::pair<log_index, term_number>, written_entry> written_;
  std::vector<term_number> committed_;     // committed_[i]: the term of entry i + 1.
  std::vector<term_number> committed_in_;  // In which term it was committed.
  std::map<std::uint64_t, pending_read> reads_;
  std::uint64_t last_read_ = 0;
  std::size_t reads_answered_ = 0;
  std::uint64_t last_file_ = 0;
  std::size_t installed_ = 0;
  std::size_t changed_ = 0;
  std::size_t compacted_ = 0;
};

}  // namespace coordinator
