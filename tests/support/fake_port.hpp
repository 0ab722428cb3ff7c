#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/gateway_port.hpp"

namespace coordinator::test {

/// A gateway_port without a node: it records what it is asked, and answers what a test prepared, at once.
class fake_port : public gateway_port {
 public:
  write_result write_answer{write_result::outcome::applied, {}, {}, {}};
  read_result read_answer;
  beat_result beat_answer{write_result::outcome::applied, {}, false, {}};
  transfer_result transfer_answer{true, {}, node_id{"node-2"}};
  membership_result members_answer{true, true, {}, {}, false, node_id{"node-2"}, {}};
  node_view view_answer;
  cluster_view cluster_answer;
  std::vector<log_entry> log;
  std::optional<request_vote_reply> vote_answer;
  std::optional<append_entries_reply> append_answer;
  std::string inject_error;
  install_snapshot injected_state;
  std::optional<install_snapshot_reply> state_answer;
  /// Calls that are never answered, as by a node that hangs.
  bool silent = false;
  /// Answers a read instead of read_answer, if set.
  std::function<read_result(const read_request&)> on_read;

  /// Answers flush_state, if set.
  std::function<void(completion<state_file>)> on_flush;
  /// Makes a copy of the state, or keeps `done` for later.
  std::function<void(completion<state_copied>)> on_copy;

  std::vector<write_request> writes;
  std::vector<read_request> reads;
  std::vector<claim_request> claims;
  std::vector<worker_beat> beats;
  std::vector<node_id> transfers;
  std::vector<membership_request> changes;
  std::vector<request_vote> votes;
  std::vector<append_entries> appends;

  fake_port() {
    view_answer.raft.node.value = "node-1";
    view_answer.raft.leader.value = "node-2";
    view_answer.raft.role = node_role::follower;
    view_answer.raft.term.value = 7;
    view_answer.raft.leader_contact_ms = 12;
    view_answer.raft.first_log_index.value = 1;
    view_answer.raft.members.members = {{node_id{"node-1"}, {11}, "h1:1", "c1:1", true},
                                        {node_id{"node-2"}, {22}, "h2:1", "c2:1", true}};
    read_answer.ok = true;
    read_answer.applied_index.value = 42;
    read_answer.leader_contact_ms = 12;
  }

  void write(write_request request, completion<write_result> done) override {
    answer(writes, std::move(request), write_answer, done);
  }
  void read(read_request request, completion<read_result> done) override {
    auto result = on_read ? on_read(request) : read_answer;
    answer(reads, std::move(request), result, done);
  }
  void claim(claim_request request, completion<write_result> done) override {
    answer(claims, std::move(request), write_answer, done);
  }
  void beat(worker_beat request, milliseconds, completion<beat_result> done) override {
    answer(beats, std::move(request), beat_answer, done);
  }
  void view(completion<node_view> done) override {
    if (!silent)
      done(view_answer);
  }
  void cluster(milliseconds, completion<cluster_view> done) override {
    if (!silent)
      done(cluster_answer);
  }
  void transfer(node_id to, milliseconds, completion<transfer_result> done) override {
    answer(transfers, std::move(to), transfer_answer, done);
  }
  void change_members(membership_request request, completion<membership_result> done) override {
    answer(changes, std::move(request), members_answer, done);
  }
  void inject(request_vote request, std::function<void(std::optional<request_vote_reply>, std::string)> done) override {
    votes.push_back(std::move(request));
    done(vote_answer, inject_error);
  }
  void inject(install_snapshot whole,
              std::function<void(std::optional<install_snapshot_reply>, std::string)> done) override {
    injected_state = std::move(whole);
    done(state_answer, inject_error);
  }
  void inject(append_entries request,
              std::function<void(std::optional<append_entries_reply>, std::string)> done) override {
    appends.push_back(std::move(request));
    done(append_answer, inject_error);
  }
  void read_log(log_index from, std::uint32_t limit, completion<std::vector<log_entry>> done) override {
    std::vector<log_entry> found;
    for (auto& entry : log)
      if (entry.index >= from && found.size() < limit)
        found.push_back(entry);
    done(std::move(found));
  }
  void flush_state(completion<state_file> done) override {
    if (on_flush)
      on_flush(std::move(done));
    else
      done(state_file{});
  }
  void copy_state(completion<state_copied> done) override {
    if (on_copy)
      on_copy(std::move(done));
  }
  leadership current_leadership() const override { return {node_id{"node-1"}, node_id{"node-2"}, {7}}; }

 private:
  template <class Request, class Result, class Done>
  void answer(std::vector<Request>& record, Request request, const Result& result, Done& done) {
    {
      std::lock_guard lock{mutex_};
      record.push_back(std::move(request));
    }
    if (!silent)
      done(result);
  }

  std::mutex mutex_;
};

}  // namespace coordinator::test
