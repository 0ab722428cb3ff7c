#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "actors/keeper_messages.hpp"
#include "actors/leader_clock.hpp"
#include "actors/messages.hpp"
#include "actors/raft_log.hpp"
#include "actors/request_messages.hpp"
#include "actors/rules.hpp"

namespace coordinator {

struct replication_config {
  sender self;
  milliseconds election_timeout_min{150};
  milliseconds election_timeout_max{300};
  std::size_t append_bytes = 64 << 10;       ///< Payload of one append_entries, unless a single entry is larger.
  std::size_t window_bytes = 1 << 20;        ///< Payload under way to one peer.
  std::size_t window_messages = 64;          ///< append_entries under way to one peer.
  std::size_t uncommitted_bytes = 64 << 20;  ///< Payload beyond commit_index; past it proposals are refused as busy.
  std::size_t memory_bytes = 16 << 20;       ///< Of the log kept in memory.
  std::size_t apply_bytes = 1 << 20;         ///< Payload of one `committed`.
  std::size_t write_bytes = 4 << 20;         ///< Payload of one raft_write, unless a single entry is larger.
  std::size_t snapshot_bytes = 64 << 10;     ///< Data of one install_snapshot.
  std::size_t snapshot_window = 1 << 20;     ///< Data of a snapshot under way to one peer.
  /// Entries below what is applied and checkpointed that are kept for followers that are a little behind.
  std::uint64_t log_retention_entries = 10'000;
  /// A learner that keeps up becomes a voter by itself.
  bool auto_promote = true;
  /// Why the state cannot be used although the log is well; empty: it can.
  std::string needs_state;
  /// Leaves, writes and all else that is numbered begins after this: a keeper that is built anew within its process
  /// must not take answers to the one before it for its own.
  std::uint64_t numbers_from = 0;
  std::uint64_t snapshot_numbers_from = 0;  ///< Drawn at random: snapshots of a process before this one are others.
  defect_set defects;
};

/// Monotonic time for time-outs, wall time for what a leader writes into entries.
struct instant {
  milliseconds steady{0};
  std::int64_t wall_ms = 0;
};

/// Where an answer goes: to a peer, or to whoever injected the message over HTTP.
struct reply_address {
  node_id node;
  std::uint64_t injected = 0;  ///< Not 0: the number of an injected message; `node` does not count then.
};

/// One message to a node; to this node itself where the answer is for its own gateway.
struct outgoing {
  reply_address to;
  std::variant<append_entries, append_entries_reply, install_snapshot, install_snapshot_reply, removal_notice,
               state_digest, request_vote_reply, beat_reply, proposal_rejected, read_index_reply, cluster_view,
               transfer_reply, membership_reply>
      what;
};

/// A piece of a copy of the own state, to be read for a peer.
struct copy_request {
  std::uint64_t request = 0;
  std::string file;
  std::uint64_t offset = 0;
  std::uint32_t bytes = 0;
};

/// A piece of a snapshot that came in, to be stored.
struct incoming_piece {
  node_id source;
  snapshot_info what;
  std::uint64_t offset = 0;
  std::string data;
};

/// raft.db names the state that came as this snapshot: it takes the place of the present one.
struct installation {
  std::uint64_t number = 0;
  std::string set_aside;  ///< Not empty: why the present one is worth keeping.
};

/// Entries to be read from raft.db, for a peer that is far behind or for the state machine after a start.
struct load_request {
  std::uint64_t request = 0;
  log_index from;
  log_index to;
  std::size_t max_bytes = 0;
};

/// Everything to be done after one message, in this order: save, send, apply.
struct replication_actions {
  std::optional<raft_write> write;  ///< To the log writer; on_written with its number must follow.
  std::vector<load_request> loads;  ///< To the log writer; on_loaded must follow.
  std::vector<outgoing> messages;
  std::optional<campaign_leave> campaign;             ///< To election.
  std::optional<send_timeout_now> hand_over;          ///< To election.
  std::optional<beat_leave> beats;                    ///< To heartbeat.
  std::optional<want_round> round;                    ///< To heartbeat.
  std::optional<role_changed> role;                   ///< To whoever watches roles.
  std::optional<coordinator::standstill> standstill;  ///< To the gateway.
  std::optional<installation> install;                ///< To the state machine, before `apply`.
  std::vector<committed> apply;                       ///< To the state machine.
  std::optional<std::string> unusable;                ///< To the state machine: why its state must not be read.
  bool commit_notice = false;                         ///< on_commit_notice is to be called a few milliseconds later.
  bool checkpoint = false;                            ///< To the state writer.
  bool copy = false;                                  ///< To the state writer; on_copied must follow.
  std::optional<std::string> noted_file;              ///< To the state writer: raft.db names this file now.
  std::optional<std::string> copy_check;              ///< To the snapshot actor; on_copy_checked must follow.
  std::vector<copy_request> copy_reads;               ///< To the snapshot actor; on_copy_read must follow.
  std::vector<std::string> spent_copies;              ///< To the snapshot actor: files to be removed.
  std::vector<incoming_piece> pieces;   ///< To the snapshot actor; on_snapshot_stored or _loaded must follow.
  std::vector<std::uint64_t> discards;  ///< To the snapshot actor.
};

/// The keeper's decisions (Raft figure 2): term, vote, log and membership, which change together or not at all, and
/// the role, commit_index and peers' progress that follow from them. Plain data and logic: each method takes a
/// message and the time and returns all that is to be done. Nothing is said before it is saved: answers that
/// rest on a pending write are held back until on_written.
///
/// Before the cluster is formed it neither votes nor acknowledges; `found` begins its life.
class replication {
 public:
  /// `last_applied` is what state.db holds: entries after it will be handed to the state machine once committed.
  replication(replication_config config, raft_contents&& contents, log_index last_applied);

  // From peers.
  replication_actions on_request_vote(const request_vote&, const reply_address&, instant now);
  replication_actions on_append_entries(append_entries, const reply_address&, instant now);
  replication_actions on_append_entries_reply(const append_entries_reply&, instant now);
  replication_actions on_propose(propose, instant now);
  replication_actions on_read_index(const read_index&, instant now);
  replication_actions on_transfer_leadership(const transfer_leadership&, instant now);
  /// Answered once the change is committed, or refused with nothing changed.
  replication_actions on_change_membership(const change_membership&, instant now);
  cluster_view view(std::uint64_t request, instant now) const;

  // From election and heartbeat.
  replication_actions on_ask_leave(const ask_leave&, instant now);
  replication_actions on_tally(const tally&, instant now);
  replication_actions on_higher_term(term_number, instant now);
  replication_actions on_beat(const beat&, instant now);
  replication_actions on_round_evidence(const round_evidence&, instant now);

  // From the links.
  replication_actions on_peer_up(const sender&, instant now);
  /// Where that peer can be reached, as its link learnt: what a membership entry says of it. Before on_peer_up.
  void on_introduced(const node_id&, const std::string& http_address, const std::string& cluster_address);
  replication_actions on_peer_down(const node_id&, instant now);
  void on_rtt(const node_id&, std::int64_t rtt_us);

  // From the log writer. An error ends writing for good (rule 5): the node neither campaigns nor leads nor
  // acknowledges, until it is built anew from what raft.db holds. `first` is the first entry that raft.db still has.
  replication_actions on_written(std::uint64_t number, const std::string& error, log_index first, instant now);
  replication_actions on_loaded(std::uint64_t request, std::vector<log_entry> entries, instant now);
  /// The state's file cannot be written; and once it can be again.
  replication_actions on_disk_failed(const std::string& what, instant now);
  replication_actions on_disk_recovered(instant now);

  // Compaction: entries go once the state that they came to survives anything.
  replication_actions on_checkpointed(const std::string& file, log_index index, instant now);
  replication_actions on_state_file_moved(const std::string& file, const std::string& before, instant now);

  // The state itself (Raft §7), as its sender and as its receiver.
  replication_actions on_copied(const state_copied&, instant now);
  /// A copy was read from end to end. Both empty: it is whole; `error`: it could not be read.
  replication_actions on_copy_checked(const std::string& file, const std::string& damage, const std::string& error,
                                      instant now);
  replication_actions on_copy_read(std::uint64_t request, std::string data, std::uint32_t crc, const std::string& error,
                                   instant now);
  replication_actions on_install_snapshot(install_snapshot, instant now);
  /// A whole state that came over HTTP, under the number of the injected message.
  replication_actions on_injected_snapshot(install_snapshot, std::uint64_t injected, instant now);
  replication_actions on_install_snapshot_reply(const install_snapshot_reply&, instant now);
  replication_actions on_snapshot_stored(std::uint64_t number, std::uint64_t offset, const std::string& error,
                                         bool damaged, instant now);
  /// It is whole and well, in a file of this name.
  replication_actions on_snapshot_loaded(std::uint64_t number, const std::string& file, instant now);
  /// The state cannot be used: it is to be replaced.
  replication_actions on_state_damaged(const std::string& what, instant now);
  replication_actions on_removal_notice(const removal_notice&, instant now);
  replication_actions on_own_digest(log_index index, std::uint64_t checksum, instant now);
  replication_actions on_state_digest(const state_digest&, instant now);

  /// Once a heartbeat interval: check-quorum, progress, renewal of leave, retransmission.
  replication_actions on_tick(instant now);
  /// Peers that no append has told so in the meantime hear how far the log is committed.
  replication_actions on_commit_notice(instant now);

  /// Begins the life of a cluster that all founders have agreed on: entry 1 of term 1. `formation` is what is
  /// to be saved with it.
  replication_actions found(const genesis&, std::string formation, instant now);
  /// Saves what the formation core wants to remember; `saved()` tells when it is durable.
  replication_actions save_formation(std::string formation, instant now);
  /// Number of the newest write that has been asked for, and of the newest that is durable.
  std::uint64_t newest_write() const { return next_number_ - (next_ ? 0 : 1); }
  std::uint64_t durable_write() const { return durable_write_; }

  bool formed() const { return log_.members_index() > log_index{}; }
  node_role role() const { return role_; }
  term_number current_term() const { return state_.current_term; }
  const std::optional<node_id>& voted_for() const { return state_.voted_for; }
  const node_id& leader() const { return leader_; }
  log_index commit_index() const { return commit_index_; }
  log_index durable_index() const { return durable_index_; }
  bool writable() const { return log_error_.empty() && state_disk_error_.empty(); }
  /// Empty: the state's file can be written.
  const std::string& state_disk_error() const { return state_disk_error_; }
  /// Whether anything can be applied here now. Empty also where nothing is to be.
  standstill standing_still(instant now) const;
  /// This node was a member, and a committed entry has taken it out. One that leads goes on until the others know.
  bool removed() const { return removed_ && role_ != node_role::leader; }
  /// The entry that has.
  log_index removed_by() const { return std::max(told_out_at_, log_.members_index()); }
  /// Empty: the state can be used.
  const std::string& state_error() const { return state_error_; }
  /// Highest index given to the state machine.
  log_index handed() const { return handed_; }
  /// See replication_config::numbers_from.
  std::uint64_t numbers_used() const;
  const raft_log& log() const { return log_; }
  raft_status status(instant now) const;

 private:
  /// What the leader knows of one peer.
  struct progress {
    bool up = false;             ///< Its link is up, under `incarnation`.
    incarnation_id incarnation;  ///< As its link proved it.
    log_index next_index;
    /// Highest index known to be durable in its log and equal to ours. Never falls within a leadership.
    log_index match_index;
    bool probing = true;  ///< One message at a time, until one fits.
    struct flight {
      log_index first;
      log_index last;  ///< first - 1 when it carries no entries.
      std::size_t bytes = 0;
    };
    std::deque<flight> flights;
    std::size_t flight_bytes = 0;
    log_index told_commit;
    log_index awaits_commit;  ///< Its clients wait for the commitment of this entry.
    milliseconds last_sent{0};
    std::optional<milliseconds> last_contact;  ///< When its last answer came in, or when that round began.
    std::uint64_t load = 0;                    ///< The read of raft.db it waits for; 0: none.
    log_index load_from;                       ///< What that read begins with.
    std::int64_t rtt_us = -1;
    bool needs_state = false;  ///< It said so.
    std::string http_address;  ///< As its link introduced it.
    std::string cluster_address;
    log_index departs_with;  ///< It is no member any more, and is still to learn so from this entry; 0: no.
    milliseconds departs_by{0};
    bool told_out = false;  ///< It was sent a removal_notice since its link came up.
    struct transfer {
      std::uint64_t number = 0;  ///< Of the copy.
      bool asked = false;        ///< An empty piece has asked how much of it has come.
      bool answered = false;     ///< So pieces may be sent.
      std::uint64_t acknowledged = 0;
      std::uint64_t next = 0;
      std::uint64_t best = 0;  ///< The most that was ever acknowledged: only more than that is progress.
      milliseconds last_progress{0};
    };
    std::optional<transfer> snapshot;
  };

  /// A copy of the own state, for peers that the log cannot bring up to date. One at a time.
  struct state_copy {
    bool ready = false;  ///< False: it is being made, or checked.
    snapshot_info what;
    std::string file;  ///< Empty: it is being made.
    milliseconds last_used{0};
  };

  /// A snapshot on its way in.
  struct arriving {
    sender source;
    std::uint64_t injected = 0;  ///< Not 0: it came over HTTP, as this message.
    snapshot_info what;
    std::uint64_t passed_on = 0;  ///< Bytes before it have been given away to be stored.
    std::uint64_t stored = 0;
    milliseconds last_piece{0};
    std::string file;  ///< Set: it is whole, and is being installed by the write of this number.
    std::uint64_t write = 0;
  };

  struct pending_read {
    read_index request;
    std::uint64_t number = 0;  ///< 0: waits for an own-term entry to be committed.
    log_index index;
    std::uint64_t leave = 0;
  };

  struct held_message {
    std::uint64_t write = 0;
    outgoing message;
  };

  struct injected_acknowledgement {
    reply_address to;
    term_number term;
    log_index index;
  };

  // replication.cpp
  bool is_self_voter() const;
  bool counts(const sender&) const;
  bool up_to_date(const request_vote&) const;
  bool recent_contact(milliseconds window, instant now) const;
  void start_campaign(bool transfer, instant now);
  campaign_leave campaign_message() const;
  void release_campaign(replication_actions&, instant now);
  void save_state();
  void adopt_term(term_number, replication_actions&);
  void become_follower(replication_actions&);
  void end_leave() { leave_ = 0; }
  void set_role(node_role);
  role_changed role_message() const;
  void say(reply_address, decltype(outgoing::what), replication_actions&);
  void fail_disk(std::string& which, const std::string& what, replication_actions&);
  void finish(replication_actions&, instant now);
  void flush_write(replication_actions&, instant now);
  std::optional<raft_write> split_write(raft_write&) const;
  void advance_apply(replication_actions&);
  milliseconds patience() const;

  // replication_follower.cpp
  void accept_leader(const sender&, term_number, bool injected, replication_actions&, instant now);
  bool may_be_injected(const append_entries&) const;
  void append_new(std::vector<log_entry>&);
  void truncate(log_index);
  void raise_commit(log_index leader_commit);
  void acknowledge(replication_actions&);

  // replication_state.cpp
  bool state_usable() const { return state_error_.empty(); }
  void lose_state(const std::string& why, replication_actions&);
  void want_compaction();
  void send_snapshot(const node_id&, progress&, replication_actions&, instant now);
  void tend_snapshots(replication_actions&, instant now);
  void offer_copy(replication_actions&, instant now);
  void drop_copy(replication_actions&);
  bool is_wanted(const snapshot_info&) const;
  bool may_replace_arriving(const install_snapshot&, instant now) const;
  void say_of_arriving(install_snapshot_reply::outcome, replication_actions&);
  void say_snapshot(const reply_address&, std::uint64_t number, std::uint64_t offset, install_snapshot_reply::outcome,
                    replication_actions&);
  void give_up_arriving(replication_actions&);
  void begin_install();
  void end_install(replication_actions&);
  void compare_digests(log_index, replication_actions&);
  void ask_for_state(replication_actions&, instant now);

  // replication_members.cpp
  std::string refuse_change(const change_membership&, const membership& wanted, instant now) const;
  bool change_is_possible(instant now) const;
  void append_members(membership, replication_actions&, instant now);
  // How long a node that was removed is told so.
  static constexpr milliseconds farewell{10'000};
  void answer_change(membership_reply::outcome, const std::string& detail, replication_actions&);
  void tend_members(replication_actions&, instant now);
  void follow_members();
  bool was_member(const sender&) const;
  bool was_member(const node_id&) const;
  void tell_strangers(replication_actions&);
  bool in_contact(const member&, instant now) const;
  bool keeps_up(const member&, instant now) const;

  // replication_leader.cpp
  void become_leader(replication_actions&, instant now);
  void resign(replication_actions&);
  beat_leave beat_message() const;
  void append_own(entry_kind, std::string payload, instant now);
  void replicate_all(replication_actions&, instant now);
  void replicate(const node_id&, progress&, replication_actions&, instant now);
  void tell_commit(const node_id& id, progress& peer, replication_actions& actions);
  bool lacks_commit(const progress& peer) const;
  void want_notice(replication_actions& actions);
  void send_append(const node_id&, progress&, std::vector<log_entry>, replication_actions&, instant now);
  void rewind(progress&);
  bool advance_commit(replication_actions&, instant now);
  void serve_reads(replication_actions&, instant now);
  void answer_reads(std::uint64_t up_to, replication_actions&);
  void fail_reads(replication_actions&);
  bool has_quorum_contact(instant now) const;
  bool makes_progress(instant now) const;
  /// The write that is under way has taken longer than a leader may go without progress (rule 5).
  bool write_hangs(instant now) const { return writing_ && now.steady - write_progress_ >= patience(); }
  node_id best_successor() const;
  void begin_transfer(const node_id& to, replication_actions&, instant now);
  void drive_transfer(replication_actions&, instant now);

  replication_config config_;
  raft_log log_;
  hard_state state_;
  std::string cluster_id_;
  node_role role_ = node_role::unformed;
  node_id leader_;                // Of current_term; empty: not known.
  bool leader_injected_ = false;  // It has been heard over HTTP only.
  std::uint64_t leave_ = 0;       // The live leave, to campaign or to beat; 0: none.
  std::uint64_t last_leave_ = 0;  // Leaves are numbered.
  bool leave_is_pre_vote_ = false;
  bool leave_is_transfer_ = false;
  std::string log_error_;         // raft.db cannot be written.
  std::string state_disk_error_;  // The state's file cannot be.
  std::string state_error_;       // The state cannot be used: another one is to come.
  std::string evidence_;          // Why the file of that state is worth keeping.

  /// Highest index known to be on a majority's disks. Never decreases; handed_ <= commit_index_ <= last_index.
  log_index commit_index_;
  /// Highest index durable in the own raft.db.
  log_index durable_index_;
  /// Highest index given to the state machine.
  log_index handed_;
  std::uint64_t apply_load_ = 0;

  // Following.
  struct contact {
    node_id leader;
    milliseconds at{0};
  };
  std::optional<contact> last_contact_;  // With a leader; ends with its link.
  std::optional<milliseconds> last_grant_;
  std::optional<milliseconds> last_heard_;  // From any leader; for the eye only.
  log_index matched_;                       // What an append of current_term proved to be equal to the leader's log.
  bool owes_acknowledgement_ = false;
  bool notice_wanted_ = false;  ///< on_commit_notice will be called.
  std::vector<injected_acknowledgement> injected_;

  // Saving: one write under way, the next one gathered meanwhile (group commit).
  std::optional<raft_write> next_;
  std::uint64_t next_number_ = 1;
  std::uint64_t durable_write_ = 0;
  std::uint64_t state_write_ = 0;  // The newest write that carries term and vote.
  bool writing_ = false;
  log_index emitted_last_;  // The last entry in raft.db once all writes that were given out are done.
  log_index writing_last_;  // What its completion makes durable, lowered by truncation.
  milliseconds write_progress_{0};
  std::deque<held_message> held_;
  struct held_campaign {
    std::uint64_t write = 0;
    std::uint64_t leave = 0;
  };
  std::optional<held_campaign> held_campaign_;  // A campaign whose own vote is being saved.

  // Leading.
  std::map<node_id, progress> peers_;
  leader_clock clock_;
  log_index own_term_first_;
  bool ready_ = false;  // An entry of the own term is committed.
  milliseconds quorum_progress_{0};
  milliseconds leader_since_{0};
  struct proposed {
    log_index last;
    std::size_t bytes = 0;
  };
  std::deque<proposed> uncommitted_;  // Batches beyond commit_index_.
  std::size_t uncommitted_bytes_ = 0;
  std::deque<pending_read> reads_;
  std::uint64_t last_read_ = 0;
  std::uint64_t round_wanted_ = 0;
  struct transfer_state {
    node_id to;
    milliseconds deadline{0};
    bool told = false;
  };
  std::optional<transfer_state> transfer_;

  // Changes of the membership.
  struct pending_change {
    node_id asker;
    std::uint64_t request = 0;
    log_index index;
  };
  std::optional<pending_change> change_;
  bool leaving_ = false;    // Leads no longer than until a voter has taken over: it is no member any more.
  log_index members_seen_;  // The membership that the next three know.
  bool members_committed_ = false;
  bool was_member_ = false;
  bool removed_ = false;
  log_index told_out_at_;  // A committed entry beyond commit_index_ that does not list this node; 0: none heard of.

  // Compaction, and states that are replaced.
  std::string state_file_;  // As raft.db names it.
  struct moving_file {
    std::string name;
    std::uint64_t write = 0;
  };
  std::optional<moving_file> moving_;
  log_index checkpointed_;  // What the state's file holds at least, whatever happens.
  std::optional<milliseconds> checkpoint_asked_;
  std::optional<state_copy> copy_;
  milliseconds copy_not_before_{0};
  bool copies_doubted_ = false;  // A peer found one damaged: the next is checked here before it goes.
  std::uint64_t last_copy_ = 0;
  struct copy_read {
    node_id to;
    std::uint64_t number = 0;
    std::uint64_t offset = 0;
  };
  std::map<std::uint64_t, copy_read> copy_reads_;
  std::optional<arriving> arriving_;
  bool installing_ = false;  // Nothing is handed to the state machine while raft.db is told of its new state.
  milliseconds asked_for_state_{0};
  std::map<log_index, std::map<node_id, std::uint64_t>> digests_;  // The own one under the own id.

  std::uint64_t last_load_ = 0;
  role_changed announced_;
  standstill announced_standstill_;
};

}  // namespace coordinator
