#pragma once

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actors/gateway.hpp"

namespace coordinator {

/// A gateway with a clock of its own and everything that it asked to be done, sorted by kind.
struct gateway_rig {
  explicit gateway_rig(std::size_t window_bytes = 4u << 20) {
    gateway_config config;
    config.self = {{"n1"}, {11}};
    config.boot_id = 77;
    config.window_bytes = window_bytes;
    x = std::make_unique<gateway>(config);
  }

  void flush() {
    auto out = x->flush(now);
    for (auto& [to, message] : out.to_keeper) {
      if (auto p = std::get_if<propose>(&message))
        proposals.emplace_back(to, *p);
      else if (auto r = std::get_if<read_index>(&message))
        indexes.emplace_back(to, *r);
      else if (auto c = std::get_if<cluster_query>(&message))
        clusters.emplace_back(to, *c);
      else if (auto t = std::get_if<transfer_leadership>(&message))
        transfers.emplace_back(to, *t);
      else
        changes.emplace_back(to, std::get<change_membership>(message));
    }
    for (auto& beat : out.to_fleet)
      beats.push_back(beat);
    for (auto& q : out.queries)
      queries.push_back(q);
    for (auto& p : out.polls)
      polls.push_back(p);
    status_asked += out.ask_status ? 1 : 0;
    for (auto& [owner, result] : out.answers) {
      CHECK_MESSAGE(!answers.contains(owner), "a ticket was answered twice");
      answers[owner] = result;
    }
  }

  void pass(int ms) {
    now += milliseconds{ms};
    flush();
  }

  void lead_by(const std::string& leader, std::uint64_t term) {
    auto role = leader == "n1" ? node_role::leader : leader.empty() ? node_role::candidate : node_role::follower;
    x->role({role, {term}, {leader}, leader == "n1"});
    flush();
  }

  /// Opens the session and forgets how.
  void open(std::uint64_t number) {
    flush();
    REQUIRE(!proposals.empty());
    auto c = decode(proposals.back().second.commands.at(0));
    REQUIRE(c);
    REQUIRE(std::holds_alternative<open_session>(c->body));
    proposals.clear();
    apply_open(number);
    flush();
  }

  void apply_open(std::uint64_t number, std::uint64_t boot_id = 77) {
    applied_command done;
    done.sequence = boot_id;
    done.result.version = number;
    x->applied({done}, now);
  }

  void apply(std::uint64_t session, std::uint64_t sequence, result_code code = result_code::ok) {
    applied_command done;
    done.session = session;
    done.sequence = sequence;
    done.index = {100 + sequence};
    done.result.code = code;
    x->applied({done}, now);
    flush();
  }

  ticket put(const std::string& key, int timeout_ms = 5000, std::string value = "v") {
    write_request w;
    w.body = put_key{key, std::move(value), {}, false, false};
    w.timeout = milliseconds{timeout_ms};
    return x->write(std::move(w), now);
  }

  ticket get(bool linearizable = true, int timeout_ms = 5000, std::int64_t max_stale_ms = -1) {
    return x->read({get_key{"k"}, linearizable, milliseconds{timeout_ms}, max_stale_ms}, now);
  }

  template <class T>
  const T* answer(ticket t) const {
    auto i = answers.find(t);
    return i == answers.end() ? nullptr : std::get_if<T>(&i->second);
  }
  const write_result* written(ticket t) const { return answer<write_result>(t); }

  static command sent(const propose& p, std::size_t i = 0) { return decode(p.commands.at(i)).value(); }

  /// Follower of n2, with a session.
  static std::unique_ptr<gateway_rig> following(std::size_t window_bytes = 4u << 20) {
    auto r = std::make_unique<gateway_rig>(window_bytes);
    r->x->peer_up({"n2"});
    r->x->peer_up({"n3"});
    r->lead_by("n2", 3);
    r->open(40);
    return r;
  }

  milliseconds now{1000};
  std::unique_ptr<gateway> x;
  std::vector<std::pair<node_id, propose>> proposals;
  std::vector<std::pair<node_id, read_index>> indexes;
  std::vector<std::pair<node_id, cluster_query>> clusters;
  std::vector<std::pair<node_id, transfer_leadership>> transfers;
  std::vector<std::pair<node_id, change_membership>> changes;
  std::vector<std::pair<node_id, worker_beat>> beats;
  std::vector<pending_query> queries;
  std::vector<await_work> polls;
  int status_asked = 0;
  std::map<ticket, gateway_output::result> answers;
};

inline proposal_rejected rejection(const std::string& from, const propose& p, const std::string& leader,
                                   bool busy = false) {
  return {{{from}, {1}}, p.batch, {leader}, busy};
}

inline read_index_reply indexed(const std::string& from, const read_index& x, std::uint64_t index) {
  return {{{from}, {1}}, x.request, true, {index}, {}};
}

inline worker_beat_reply beaten(const worker_beat& x,
                                worker_beat_reply::outcome result = worker_beat_reply::outcome::ok) {
  worker_beat_reply reply;
  reply.from = {{"n2"}, {1}};
  reply.request = x.request;
  reply.result = result;
  return reply;
}

}  // namespace coordinator
