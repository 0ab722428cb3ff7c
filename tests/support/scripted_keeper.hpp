#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/replication.hpp"

namespace coordinator {

/// Members are named a, b, c, … and have the incarnations 1, 2, 3, …
node_id member_id(char name);
sender member_sender(char name);
log_entry entry_of(std::uint64_t index, std::uint64_t term);
membership members_of(std::size_t count);

struct scripted_keeper_options {
  std::size_t members = 3;
  char self = 'a';
  defect_set defects = {};
  std::uint64_t term = 1;
  std::optional<node_id> voted_for = {};
  /// Terms of the entries after entry 1, which is the genesis of term 1.
  std::vector<std::uint64_t> log = {};
  std::uint64_t last_applied = 0;
  std::uint64_t base = 0;  ///< The log begins after this entry; the state has at least all up to it.
  bool formed = true;
  std::optional<incarnation_id> incarnation = {};  ///< Where the keeper's own is not what the membership lists.
  bool learner = false;                            ///< The keeper's node is no voter.
  /// Nothing is written until `write()`.
  bool slow_disk = false;
  std::size_t memory_bytes = 16 << 20;
  std::size_t append_bytes = 64 << 10;
  std::size_t window_messages = 64;
  std::size_t write_bytes = 4 << 20;
  std::size_t snapshot_bytes = 64 << 10;
  std::size_t snapshot_window = 1 << 20;
};

/// One keeper, whose peers, election, heartbeat, disk and clock are the test.
class scripted_keeper {
 public:
  explicit scripted_keeper(scripted_keeper_options options);

  replication* operator->() { return &*core_; }
  instant now() const { return {now_, 1'700'000'000'000 + now_.count()}; }
  void advance(milliseconds time) { now_ += time; }

  // What happens to it. Each takes note of what the keeper says.
  void take(replication_actions);
  void request_vote(char candidate, std::uint64_t term, std::uint64_t last_index, std::uint64_t last_term,
                    bool pre_vote = false, bool transfer = false);
  /// Entries with these terms after prev_index, from the leader of `term`.
  void append(char leader, std::uint64_t term, std::uint64_t prev_index, std::uint64_t prev_term,
              std::vector<std::uint64_t> entries = {}, std::uint64_t commit = 0);
  void beat(char leader, std::uint64_t term, std::uint64_t commit = 0, std::uint64_t round = 1);
  void acknowledge(char from, std::uint64_t match);
  void refuse(char from, std::uint64_t prev, std::uint64_t conflict_term, std::uint64_t conflict_index);
  void ask_leave(milliseconds timeout = milliseconds{200}, std::uint64_t transfer = 0);
  void tally(std::uint64_t leave, std::initializer_list<char> granted);
  /// That these answered a round which began now.
  void round(std::uint64_t read, std::initializer_list<char> answered);
  void propose(std::initializer_list<std::string> commands);
  void read(std::uint64_t request);
  void tick();
  /// The time for word of commitment has come.
  void commit_notice();
  void peers_up();
  /// By pre-vote and votes of all; peers_up first, if appends are to be seen.
  void become_leader();
  /// Completes the write under way, and with `all` those that follow from it.
  void write(bool all = true);
  bool writing() const { return writing_.has_value(); }
  const std::optional<raft_write>& write_under_way() const { return writing_; }
  void fail_write();
  /// As `append`, with any entries, and over HTTP if `injected` is not 0.
  void append_entries_of(char leader, std::uint64_t term, std::uint64_t prev_index, std::uint64_t prev_term,
                         std::vector<log_entry> entries, std::uint64_t injected = 0);
  /// Answers the reads of raft.db that the keeper waits for.
  void load();
  /// The process ends, with the loss of what was not written, and another begins.
  void restart();

  // What it said.
  template <class T>
  std::vector<std::pair<node_id, T>> take_said() {
    std::vector<std::pair<node_id, T>> result;
    for (auto& message : outbox_)
      if (auto m = std::get_if<T>(&message.what))
        result.emplace_back(message.to.node, *m);
    std::erase_if(outbox_, [](const outgoing& o) { return std::holds_alternative<T>(o.what); });
    return result;
  }
  /// The newest message of that kind, and forgets the older ones.
  template <class T>
  std::optional<T> said() {
    auto all = take_said<T>();
    return all.empty() ? std::nullopt : std::optional<T>{all.back().second};
  }
  template <class T>
  std::optional<T> said_to(char name) {
    std::optional<T> result;
    for (auto& [to, message] : take_said<T>())
      if (to == member_id(name))
        result = message;
    return result;
  }

  // The newest of each, until it is taken away by the test.
  std::optional<campaign_leave> campaign;
  std::optional<send_timeout_now> hand_over;
  std::optional<beat_leave> beats;
  std::optional<want_round> wanted;
  std::optional<role_changed> announced;
  std::vector<std::string> standstills;  // What the gateway was told of them.
  int notices_wanted = 0;                // Since the last one.
  std::vector<load_request> loads;
  std::vector<log_entry> applied;

  // Of the state and its copies, all that came until the test takes it away.
  int copies_wanted = 0;
  std::vector<copy_request> copy_reads;
  std::vector<std::string> copies_to_check;
  std::vector<std::string> spent_copies;
  std::vector<incoming_piece> pieces;
  std::vector<std::uint64_t> discards;
  std::vector<installation> installed;

  /// What raft.db holds.
  hard_state saved;
  std::vector<log_entry> disk;  // disk[i] has index i + 1.

  bool leads() const { return core_->role() == node_role::leader; }
  std::uint64_t commit() const { return core_->commit_index().value; }
  std::uint64_t durable() const { return core_->durable_index().value; }
  std::uint64_t term() const { return core_->current_term().value; }
  /// The terms of the whole log, entry 1 included.
  std::vector<std::uint64_t> log_terms() const;

 private:
  void start();

  scripted_keeper_options options_;
  std::optional<genesis> founded_;
  milliseconds now_{10'000};
  std::optional<replication> core_;
  std::optional<raft_write> writing_;
  std::vector<outgoing> outbox_;
};

}  // namespace coordinator
