#include "actors/gateway.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>

using namespace coordinator;

namespace {

using outcome = enum write_result::outcome;

/// A gateway with a clock of its own and everything that it asked to be done, sorted by kind.
struct rig {
  explicit rig(std::size_t window_bytes = 4u << 20) {
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
  static std::unique_ptr<rig> following(std::size_t window_bytes = 4u << 20) {
    auto r = std::make_unique<rig>(window_bytes);
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

proposal_rejected rejection(const std::string& from, const propose& p, const std::string& leader, bool busy = false) {
  return {{{from}, {1}}, p.batch, {leader}, busy};
}

read_index_reply indexed(const std::string& from, const read_index& x, std::uint64_t index) {
  return {{{from}, {1}}, x.request, true, {index}, {}};
}

worker_beat_reply beaten(const worker_beat& x, worker_beat_reply::outcome result = worker_beat_reply::outcome::ok) {
  worker_beat_reply reply;
  reply.from = {{"n2"}, {1}};
  reply.request = x.request;
  reply.result = result;
  return reply;
}

}  // namespace

// -- sessions and sequences ---------------------------------------------------------------

TEST_CASE("gateway: a session is opened as soon as a leader is known, and commands wait for it") {
  rig r;
  auto t = r.put("a");
  r.flush();
  CHECK(r.proposals.empty());
  r.x->peer_up({"n2"});
  r.lead_by("n2", 3);
  REQUIRE(r.proposals.size() == 1);
  auto open = rig::sent(r.proposals[0].second);
  CHECK(r.proposals[0].first == node_id{"n2"});
  CHECK(open.session == 0);
  CHECK(std::get<open_session>(open.body).node == node_id{"n1"});
  CHECK(std::get<open_session>(open.body).boot_id == 77);
  r.open(40);
  REQUIRE(r.proposals.size() == 1);
  auto c = rig::sent(r.proposals[0].second);
  CHECK(c.session == 40);
  CHECK(c.sequence == 1);
  CHECK(c.lowest_unanswered == 1);
  r.apply(40, 1);
  REQUIRE(r.written(t));
  CHECK(r.written(t)->outcome == outcome::applied);
  CHECK(r.written(t)->index == log_index{101});
}

TEST_CASE("gateway: a session that an earlier gateway of this node opened is not taken for its own") {
  rig r;
  r.x->peer_up({"n2"});
  r.lead_by("n2", 3);
  r.apply_open(12, 76);
  CHECK(r.x->session() == 0);
  r.apply_open(40);
  CHECK(r.x->session() == 40);
}

TEST_CASE("gateway: opening a session is proposed again when nothing came of it") {
  rig r;
  r.x->peer_up({"n2"});
  r.lead_by("n2", 3);
  auto first = r.proposals.at(0).second;
  r.x->rejected(rejection("n2", first, ""), r.now);
  r.pass(100);
  REQUIRE(r.proposals.size() == 2);
  r.pass(2000);
  REQUIRE(r.proposals.size() == 3);
  CHECK(r.proposals[2].second.commands == first.commands);
}

TEST_CASE("gateway: all that came in goes out as one message") {
  auto r = rig::following();
  for (int i = 0; i < 50; ++i)
    r->put("k" + std::to_string(i));
  r->flush();
  REQUIRE(r->proposals.size() == 1);
  CHECK(r->proposals[0].second.commands.size() == 50);
  CHECK(rig::sent(r->proposals[0].second, 49).sequence == 50);
}

TEST_CASE("gateway: the lowest unanswered sequence moves on with answers and with what was given up") {
  auto r = rig::following();
  auto first = r->put("a", 100);
  r->put("b", 60000);
  r->flush();
  r->apply(40, 2);
  r->put("c", 60000);
  r->flush();
  CHECK(rig::sent(r->proposals.back().second).sequence == 3);
  CHECK(rig::sent(r->proposals.back().second).lowest_unanswered == 1);
  r->pass(150);
  REQUIRE(r->written(first));
  r->put("d", 60000);
  r->flush();
  CHECK(rig::sent(r->proposals.back().second).lowest_unanswered == 3);
}

TEST_CASE("gateway: what no state would accept is refused at once") {
  auto r = rig::following();
  auto t = r->put(std::string(limits::key_size + 1, 'k'));
  r->flush();
  REQUIRE(r->written(t));
  CHECK(r->written(t)->result.code == result_code::invalid);
  CHECK(r->proposals.empty());
}

// -- failover -----------------------------------------------------------------------------

TEST_CASE("gateway: after a failover the same bytes go to the new leader, and one answer comes of them") {
  auto r = rig::following();
  auto t = r->put("a");
  r->flush();
  auto first = r->proposals.at(0).second;
  r->x->peer_down({"n2"});
  r->flush();
  CHECK(r->proposals.size() == 1);
  r->lead_by("", 4);
  CHECK(r->proposals.size() == 1);
  r->lead_by("n3", 4);
  REQUIRE(r->proposals.size() == 2);
  CHECK(r->proposals[1].first == node_id{"n3"});
  CHECK(r->proposals[1].second.commands == first.commands);
  r->apply(40, 1);
  r->apply(40, 1);
  CHECK(r->answers.size() == 1);
  CHECK(r->written(t)->outcome == outcome::applied);
}

TEST_CASE("gateway: a leader elected again in a later term is sent everything again") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->lead_by("n2", 4);
  REQUIRE(r->proposals.size() == 2);
  CHECK(r->proposals[1].second.commands == r->proposals[0].second.commands);
}

TEST_CASE("gateway: a refusal that names another leader is followed at once, but only once") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->x->rejected(rejection("n2", r->proposals.at(0).second, "n3"), r->now);
  r->flush();
  REQUIRE(r->proposals.size() == 2);
  CHECK(r->proposals[1].first == node_id{"n3"});
  r->x->rejected(rejection("n3", r->proposals[1].second, "n2"), r->now);
  r->flush();
  CHECK(r->proposals.size() == 2);
  REQUIRE(r->x->next_wake());
  CHECK(*r->x->next_wake() == r->now + milliseconds{20});
  r->pass(20);
  REQUIRE(r->proposals.size() == 3);
  CHECK(r->proposals[2].second.commands == r->proposals[0].second.commands);
}

TEST_CASE("gateway: a busy leader is asked again after a pause, in the order things came in") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->x->rejected(rejection("n2", r->proposals.at(0).second, "n2", true), r->now);
  r->put("b");
  r->flush();
  CHECK(r->proposals.size() == 1);
  r->pass(20);
  REQUIRE(r->proposals.size() == 2);
  REQUIRE(r->proposals[1].second.commands.size() == 2);
  CHECK(rig::sent(r->proposals[1].second, 0).sequence == 1);
}

TEST_CASE("gateway: a command without an answer is sent again, less and less often") {
  auto r = rig::following();
  r->put("a", 60000);
  r->flush();
  r->pass(999);
  CHECK(r->proposals.size() == 1);
  r->pass(1);
  CHECK(r->proposals.size() == 2);
  r->pass(1999);
  CHECK(r->proposals.size() == 2);
  r->pass(1);
  CHECK(r->proposals.size() == 3);
  CHECK(r->proposals[2].second.commands == r->proposals[0].second.commands);
}

TEST_CASE("gateway: a late refusal of an older batch does not send its commands a third time") {
  auto r = rig::following();
  r->put("a", 60000);
  r->flush();
  r->pass(1000);
  REQUIRE(r->proposals.size() == 2);
  r->x->rejected(rejection("n2", r->proposals[0].second, ""), r->now);
  r->pass(100);
  CHECK(r->proposals.size() == 2);
}

// -- time-outs ----------------------------------------------------------------------------

TEST_CASE("gateway: a time-out is not_applied as long as no copy left, and unknown afterwards") {
  rig waiting;
  auto t = waiting.put("a", 100);
  waiting.x->role({node_role::candidate, {2}, {}, false});
  waiting.pass(100);
  REQUIRE(waiting.written(t));
  CHECK(waiting.written(t)->outcome == outcome::not_applied);
  CHECK(waiting.written(t)->reason == "no_leader");

  auto r = rig::following();
  auto u = r->put("a", 100);
  r->flush();
  r->pass(99);
  CHECK_FALSE(r->written(u));
  r->pass(1);
  REQUIRE(r->written(u));
  CHECK(r->written(u)->outcome == outcome::unknown);
  CHECK(r->written(u)->reason == "timeout");
  // It may still be applied; nobody waits any more.
  r->apply(40, 1);
  CHECK(r->answers.size() == 1);
}

TEST_CASE("gateway: a refusal by a keeper proves nothing, because another copy may be under way") {
  auto r = rig::following();
  auto t = r->put("a", 100);
  r->flush();
  r->x->rejected(rejection("n2", r->proposals.at(0).second, ""), r->now);
  r->lead_by("", 4);
  r->pass(100);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->outcome == outcome::unknown);
}

TEST_CASE("gateway: an unformed node says so when the time is up") {
  rig r;
  auto w = r.put("a", 100);
  auto g = r.get(true, 100);
  r.pass(100);
  REQUIRE(r.written(w));
  CHECK(r.written(w)->reason == "unformed");
  CHECK(r.answer<read_result>(g)->reason == "unformed");
}

// -- closed sessions ------------------------------------------------------------------------

TEST_CASE("gateway: a closed session's refusal proves that the command was not applied, and it goes on in a new one") {
  auto r = rig::following();
  auto a = r->put("a");
  auto b = r->put("b");
  r->flush();
  r->apply(40, 1, result_code::closed_session);
  CHECK_FALSE(r->written(a));
  r->open(90);
  REQUIRE(r->proposals.size() == 1);
  REQUIRE(r->proposals[0].second.commands.size() == 1);
  auto again = rig::sent(r->proposals[0].second);
  CHECK(again.session == 90);
  CHECK(again.sequence == 1);
  CHECK(again.lowest_unanswered == 1);
  CHECK(std::get<put_key>(again.body).key == "a");
  // The other one has not been refused: it may have been applied before the session closed.
  r->pass(1000);
  auto& old = r->proposals.back().second;
  CHECK(rig::sent(old, old.commands.size() - 1).session == 40);
  r->apply(40, 2);
  REQUIRE(r->written(b));
  CHECK(r->written(b)->outcome == outcome::applied);
  r->apply(90, 1);
  CHECK(r->written(a)->outcome == outcome::applied);
}

TEST_CASE("gateway: after a proven refusal a time-out is not_applied") {
  auto r = rig::following();
  auto t = r->put("a", 100);
  r->flush();
  r->apply(40, 1, result_code::closed_session);
  r->pass(100);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->outcome == outcome::not_applied);
}

TEST_CASE("gateway: once another state was installed, a closed session's refusal proves nothing about earlier copies") {
  auto r = rig::following();
  auto plain = r->put("a");
  write_request w;
  w.body = put_key{"b", "v", {}, false, false};
  w.idempotency_key = "key";
  w.timeout = milliseconds{5000};
  auto keyed = r->x->write(std::move(w), r->now);
  r->flush();
  r->x->replaced();
  auto later = r->put("c");
  r->flush();
  for (std::uint64_t sequence = 1; sequence <= 3; ++sequence)
    r->apply(40, sequence, result_code::closed_session);
  REQUIRE(r->written(plain));
  CHECK(r->written(plain)->outcome == outcome::unknown);
  CHECK(r->written(plain)->reason == "state_replaced");
  // The idempotency key makes a second copy harmless, and what left after the state came has been seen since.
  CHECK_FALSE(r->written(keyed));
  CHECK_FALSE(r->written(later));
  r->open(90);
  REQUIRE(r->proposals.size() == 1);
  CHECK(r->proposals[0].second.commands.size() == 2);
}

TEST_CASE("gateway: a delayed copy of the opening proposal moves the gateway to the session it opened") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->apply_open(60);
  r->put("b");
  r->flush();
  auto c = rig::sent(r->proposals.back().second);
  CHECK(c.session == 60);
  CHECK(c.sequence == 1);
}

TEST_CASE("gateway: a stale sequence is proven not applied and gets another number") {
  auto r = rig::following();
  r->put("a");
  r->flush();
  r->apply(40, 1, result_code::stale_sequence);
  REQUIRE(r->proposals.size() == 2);
  CHECK(rig::sent(r->proposals[1].second).sequence == 2);
}

// -- the window -----------------------------------------------------------------------------

TEST_CASE("gateway: bytes under way are bounded, and a command larger than the window goes alone") {
  auto r = rig::following(10000);
  r->put("a", 60000, std::string(6000, 'x'));
  r->put("b", 60000, std::string(6000, 'x'));
  r->put("c", 60000, std::string(20000, 'x'));
  r->flush();
  CHECK(r->proposals.size() == 1);
  CHECK(r->x->bytes_under_way() < 10000);
  r->apply(40, 1);
  CHECK(r->proposals.size() == 2);
  r->apply(40, 2);
  REQUIRE(r->proposals.size() == 3);
  CHECK(r->x->bytes_under_way() > 20000);
  r->apply(40, 3);
  CHECK(r->x->bytes_under_way() == 0);
  // Waiting for room is no reason to wake up.
  CHECK_FALSE(r->x->next_wake());
}

TEST_CASE("gateway: a full window does not make the gateway spin after a pause") {
  auto r = rig::following(10000);
  r->put("a", 60000, std::string(6000, 'x'));
  r->flush();
  r->x->rejected(rejection("n2", r->proposals.at(0).second, "", true), r->now);
  r->put("b", 60000, std::string(6000, 'x'));
  r->pass(20);
  CHECK(r->proposals.size() == 2);
  REQUIRE(r->x->next_wake());
  CHECK(*r->x->next_wake() > r->now + milliseconds{100});
}

TEST_CASE("gateway: messages to another node are small, so that beats pass") {
  auto r = rig::following();
  for (int i = 0; i < 10; ++i)
    r->put("k" + std::to_string(i), 5000, std::string(30000, 'x'));
  r->flush();
  CHECK(r->proposals.size() == 5);
}

// -- reads ------------------------------------------------------------------------------------

TEST_CASE("gateway: reads share a read_index, but ride only on one that was sent after they came in") {
  auto r = rig::following();
  auto a = r->get();
  auto b = r->get();
  r->flush();
  REQUIRE(r->indexes.size() == 1);
  auto c = r->get();
  r->flush();
  CHECK(r->indexes.size() == 1);
  r->x->indexed(indexed("n2", r->indexes[0].second, 50), r->now);
  r->flush();
  REQUIRE(r->queries.size() == 2);
  CHECK(r->queries[0].request == a);
  CHECK(r->queries[1].request == b);
  CHECK(r->queries[0].min_index == log_index{50});
  // The third one rides on the next, which leaves as the first returns.
  REQUIRE(r->indexes.size() == 2);
  r->x->indexed(indexed("n2", r->indexes[0].second, 51), r->now);
  r->flush();
  CHECK(r->queries.size() == 2);
  r->x->indexed(indexed("n2", r->indexes[1].second, 52), r->now);
  r->flush();
  REQUIRE(r->queries.size() == 3);
  CHECK(r->queries[2].request == c);
  r->x->answered({c, {53}, key_view{"k", "v", 5, 0}});
  r->flush();
  REQUIRE(r->answer<read_result>(c));
  CHECK(r->answer<read_result>(c)->ok);
  CHECK(r->answer<read_result>(c)->applied_index == log_index{53});
}

TEST_CASE("gateway: a read waits out an election and asks the new leader") {
  auto r = rig::following();
  auto t = r->get();
  r->flush();
  r->x->peer_down({"n2"});
  r->lead_by("", 4);
  CHECK(r->indexes.size() == 1);
  r->lead_by("n3", 4);
  REQUIRE(r->indexes.size() == 2);
  CHECK(r->indexes[1].first == node_id{"n3"});
  // The old leader's late answer counts for nothing: it may have been deposed when it gave it.
  r->x->indexed(indexed("n2", r->indexes[0].second, 50), r->now);
  r->flush();
  CHECK(r->queries.empty());
  r->x->indexed(indexed("n3", r->indexes[1].second, 60), r->now);
  r->flush();
  REQUIRE(r->queries.size() == 1);
  CHECK(r->queries[0].request == t);
  CHECK(r->queries[0].min_index == log_index{60});
}

TEST_CASE("gateway: a refused or unanswered read_index is repeated after a pause") {
  auto r = rig::following();
  r->get();
  r->flush();
  r->x->indexed({{{"n2"}, {1}}, r->indexes.at(0).second.request, false, {}, {}}, r->now);
  r->flush();
  CHECK(r->indexes.size() == 1);
  r->pass(20);
  CHECK(r->indexes.size() == 2);
  r->pass(300);
  CHECK(r->indexes.size() == 3);
  CHECK(r->indexes[2].second.request != r->indexes[1].second.request);
}

TEST_CASE("gateway: a leader that is not ready is not asked for a read index") {
  rig r;
  r.x->role({node_role::leader, {3}, {"n1"}, false});
  r.get();
  r.flush();
  CHECK(r.indexes.empty());
  r.lead_by("n1", 3);
  REQUIRE(r.indexes.size() == 1);
  CHECK(r.indexes[0].first == node_id{"n1"});
}

TEST_CASE("gateway: a read that timed out is answered once and keeps no question going") {
  auto r = rig::following();
  auto t = r->get(true, 100);
  r->flush();
  r->pass(100);
  REQUIRE(r->answer<read_result>(t));
  CHECK_FALSE(r->answer<read_result>(t)->ok);
  CHECK(r->answer<read_result>(t)->reason == "timeout");
  r->pass(300);
  CHECK(r->indexes.size() == 1);
  CHECK_FALSE(r->x->next_wake());
}

TEST_CASE("gateway: a stale read needs no leader, and is refused past its age") {
  rig r;
  auto any = r.get(false);
  auto fresh = r.get(false, 5000, 100);
  r.flush();
  CHECK(r.status_asked == 1);
  CHECK(r.indexes.empty());
  r.x->leader_contact(250);
  r.flush();
  REQUIRE(r.queries.size() == 1);
  CHECK(r.queries[0].request == any);
  CHECK(r.queries[0].min_index == log_index{0});
  REQUIRE(r.answer<read_result>(fresh));
  CHECK(r.answer<read_result>(fresh)->reason == "too_stale");
  r.x->answered({any, {9}, key_view{}});
  r.flush();
  CHECK(r.answer<read_result>(any)->leader_contact_ms == 250);
}

// -- claims -----------------------------------------------------------------------------------

namespace {

ticket claim(rig& r, int wait_ms, std::string key = {}) {
  auto t = r.x->claim({"w", 2, milliseconds{wait_ms}, milliseconds{5000}, std::move(key), 0}, r.now);
  r.flush();
  return t;
}

void apply_claim(rig& r, std::uint64_t sequence, bool with_task) {
  applied_command done;
  done.session = 40;
  done.sequence = sequence;
  if (with_task)
    done.result.assignments.push_back({"t", 1, "{}"});
  r.x->applied({done}, r.now);
  r.flush();
}

}  // namespace

TEST_CASE("gateway: a claim counts as a heartbeat and waits for work before it is proposed") {
  auto r = rig::following();
  auto t = claim(*r, 30000);
  REQUIRE(r->beats.size() == 1);
  CHECK(r->beats[0].first == node_id{"n2"});
  CHECK(r->beats[0].second.worker_id == "w");
  CHECK(r->beats[0].second.request == 0);
  REQUIRE(r->polls.size() == 1);
  CHECK(r->polls[0].worker_id == "w");
  CHECK(r->polls[0].max_tasks == 2);
  CHECK(r->proposals.empty());
  r->x->work_ready(t);
  r->flush();
  REQUIRE(r->proposals.size() == 1);
  CHECK(std::get<claim_tasks>(rig::sent(r->proposals[0].second).body).max_tasks == 2);
  apply_claim(*r, 1, true);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->result.assignments.size() == 1);
  // The work that was kept back for it is free again.
  REQUIRE(r->polls.size() == 2);
  CHECK(r->polls[1].cancelled);
}

TEST_CASE("gateway: a claim that came too late waits again, and answers an empty list at its end") {
  auto r = rig::following();
  auto t = claim(*r, 1000);
  r->x->work_ready(t);
  r->flush();
  apply_claim(*r, 1, false);
  CHECK_FALSE(r->written(t));
  REQUIRE(r->polls.size() == 2);
  CHECK_FALSE(r->polls[1].cancelled);
  r->pass(1000);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->outcome == outcome::applied);
  CHECK(r->written(t)->result.ok());
  CHECK(r->written(t)->result.assignments.empty());
  CHECK(r->polls.back().cancelled);
}

TEST_CASE("gateway: a claim that does not wait is decided by the log") {
  auto r = rig::following();
  auto t = claim(*r, 0);
  CHECK(r->polls.empty());
  REQUIRE(r->proposals.size() == 1);
  apply_claim(*r, 1, false);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->result.assignments.empty());
}

TEST_CASE("gateway: a refused claim is answered at once") {
  auto r = rig::following();
  auto t = claim(*r, 30000);
  r->x->work_ready(t);
  r->flush();
  r->apply(40, 1, result_code::not_found);
  REQUIRE(r->written(t));
  CHECK(r->written(t)->result.code == result_code::not_found);
}

TEST_CASE("gateway: a claim with an idempotency key asks the log first") {
  auto r = rig::following();
  claim(*r, 30000, "key");
  REQUIRE(r->proposals.size() == 1);
  CHECK(rig::sent(r->proposals[0].second).idempotency_key == "key");
}

TEST_CASE("gateway: leaving ends the long polls and lets the rest finish") {
  auto r = rig::following();
  auto c = claim(*r, 30000);
  auto w = r->put("a");
  r->flush();
  r->x->end_polls();
  r->flush();
  REQUIRE(r->written(c));
  CHECK(r->written(c)->outcome == outcome::not_applied);
  CHECK(r->written(c)->reason == "shutting_down");
  CHECK_FALSE(r->written(w));
  CHECK_FALSE(r->x->idle());
  r->apply(40, 1);
  CHECK(r->x->idle());
}

TEST_CASE("gateway: giving up answers everything once") {
  auto r = rig::following();
  std::vector<ticket> all{r->put("a"),
                          r->get(),
                          r->get(false),
                          claim(*r, 30000),
                          claim(*r, 0),
                          r->x->beat({}, milliseconds{5000}, r->now),
                          r->x->cluster(milliseconds{5000}, r->now),
                          r->x->transfer({}, milliseconds{5000}, r->now),
                          r->x->change_members({{}, {"n4"}}, r->now)};
  r->flush();
  auto unsent = r->put("b");
  r->x->give_up("shutting_down");
  r->flush();
  for (auto t : all)
    CHECK(r->answers.contains(t));
  CHECK(r->written(all[0])->outcome == outcome::unknown);
  CHECK(r->written(unsent)->outcome == outcome::not_applied);
  CHECK(r->x->idle());
  CHECK_FALSE(r->x->next_wake());
}

// -- heartbeats, members, transfer --------------------------------------------------------------

TEST_CASE("gateway: a heartbeat goes to the leader's fleet, and again to the next leader's") {
  auto r = rig::following();
  worker_beat beat;
  beat.worker_id = "w";
  auto t = r->x->beat(beat, milliseconds{5000}, r->now);
  r->flush();
  REQUIRE(r->beats.size() == 1);
  CHECK(r->beats[0].second.request == t);
  r->x->beaten(beaten(r->beats[0].second, worker_beat_reply::outcome::not_leader), r->now);
  r->flush();
  CHECK(r->beats.size() == 1);
  r->lead_by("n3", 4);
  REQUIRE(r->beats.size() == 2);
  CHECK(r->beats[1].first == node_id{"n3"});
  auto reply = beaten(r->beats[1].second);
  reply.cancel = {"t9"};
  r->x->beaten(reply, r->now);
  r->flush();
  REQUIRE(r->answer<beat_result>(t));
  CHECK(r->answer<beat_result>(t)->cancel == std::vector<std::string>{"t9"});
  r->pass(1000);
  CHECK(r->beats.size() == 2);
}

TEST_CASE("gateway: a heartbeat without an answer is sent again") {
  auto r = rig::following();
  r->x->beat({}, milliseconds{5000}, r->now);
  r->flush();
  r->pass(300);
  CHECK(r->beats.size() == 2);
}

TEST_CASE("gateway: a heartbeat that changes the status is answered when the change is committed") {
  auto r = rig::following();
  worker_beat beat;
  beat.worker_id = "w";
  auto t = r->x->beat(beat, milliseconds{5000}, r->now);
  r->flush();
  auto reply = beaten(r->beats.at(0).second);
  reply.propose_status = "busy";
  reply.cancel = {"t9"};
  r->x->beaten(reply, r->now);
  r->x->beaten(reply, r->now);
  r->flush();
  CHECK_FALSE(r->answer<beat_result>(t));
  REQUIRE(r->proposals.size() == 1);
  REQUIRE(r->proposals[0].second.commands.size() == 1);
  CHECK(std::get<set_worker_status>(rig::sent(r->proposals[0].second).body).status == worker_status::busy);
  r->apply(40, 1);
  REQUIRE(r->answer<beat_result>(t));
  CHECK(r->answer<beat_result>(t)->outcome == outcome::applied);
  CHECK(r->answer<beat_result>(t)->cancel == std::vector<std::string>{"t9"});
}

TEST_CASE("gateway: the leader's view of the members is preferred, this node's own is better than none") {
  auto r = rig::following();
  auto t = r->x->cluster(milliseconds{5000}, r->now);
  r->flush();
  REQUIRE(r->clusters.size() == 1);
  CHECK(r->clusters[0].first == node_id{"n2"});
  r->pass(500);
  REQUIRE(r->clusters.size() == 2);
  CHECK(r->clusters[1].first == node_id{"n1"});
  cluster_view view;
  view.request = t;
  view.term = {3};
  r->x->viewed(view);
  r->flush();
  REQUIRE(r->answer<cluster_view>(t));
  CHECK(r->answer<cluster_view>(t)->term == term_number{3});

  rig alone;
  alone.x->cluster(milliseconds{5000}, alone.now);
  alone.flush();
  REQUIRE(alone.clusters.size() == 1);
  CHECK(alone.clusters[0].first == node_id{"n1"});
}

TEST_CASE("gateway: a transfer is done when the other node leads") {
  auto r = rig::following();
  auto t = r->x->transfer({"n3"}, milliseconds{5000}, r->now);
  r->flush();
  REQUIRE(r->transfers.size() == 1);
  CHECK(r->transfers[0].second.to == node_id{"n3"});
  transfer_reply reply;
  reply.from = {{"n2"}, {1}};
  reply.request = t;
  r->x->transferred(reply, r->now);
  r->lead_by("", 4);
  CHECK_FALSE(r->answer<transfer_result>(t));
  r->lead_by("n3", 4);
  REQUIRE(r->answer<transfer_result>(t));
  CHECK(r->answer<transfer_result>(t)->ok);
  CHECK(r->answer<transfer_result>(t)->leader == node_id{"n3"});
}

TEST_CASE("gateway: a transfer to the leader is done, to an unknown node refused, and one that fails times out") {
  auto r = rig::following();
  auto done = r->x->transfer({"n2"}, milliseconds{5000}, r->now);
  auto refused = r->x->transfer({"n9"}, milliseconds{5000}, r->now);
  auto late = r->x->transfer({}, milliseconds{5000}, r->now);
  r->flush();
  CHECK(r->answer<transfer_result>(done)->ok);
  transfer_reply reply;
  reply.from = {{"n2"}, {1}};
  reply.request = refused;
  reply.result = transfer_reply::outcome::unknown_node;
  r->x->transferred(reply, r->now);
  r->flush();
  CHECK(r->answer<transfer_result>(refused)->reason == "unknown_node");
  r->pass(5000);
  CHECK(r->answer<transfer_result>(late)->reason == "timeout");
}

namespace {

membership_reply answer(const std::pair<node_id, change_membership>& to, membership_reply::outcome result,
                        std::string leader = {}) {
  return {{to.first, {1}}, to.second.request, result, "why", {std::move(leader)}, {}};
}

}  // namespace

TEST_CASE("gateway: a change of the members goes to the leader and is answered once it is committed") {
  using outcome = membership_reply::outcome;
  auto r = rig::following();
  auto t = r->x->change_members({change_membership::change::remove, {"n3"}, true}, r->now);
  r->flush();
  REQUIRE(r->changes.size() == 1);
  CHECK(r->changes[0].first == node_id{"n2"});
  CHECK(r->changes[0].second.id == node_id{"n3"});
  CHECK(r->changes[0].second.force);
  r->x->members_changed(answer(r->changes[0], outcome::committed, "n2"), r->now);
  r->flush();
  REQUIRE(r->answer<membership_result>(t));
  CHECK(r->answer<membership_result>(t)->ok);
  CHECK(r->answer<membership_result>(t)->changed);
  CHECK(r->x->idle());
  CHECK_FALSE(r->x->next_wake());
}

TEST_CASE("gateway: a change that is refused says why, and one that is so already is no failure") {
  using outcome = membership_reply::outcome;
  for (auto [said, reason] : {std::pair{outcome::unknown_node, "unknown_node"},
                              {outcome::not_connected, "not_connected"},
                              {outcome::not_caught_up, "not_caught_up"},
                              {outcome::unsafe, "unsafe"},
                              {outcome::unchanged, ""}}) {
    auto r = rig::following();
    auto t = r->x->change_members({change_membership::change::remove, {"n9"}}, r->now);
    r->flush();
    r->x->members_changed(answer(r->changes[0], said), r->now);
    r->flush();
    REQUIRE(r->answer<membership_result>(t));
    auto result = *r->answer<membership_result>(t);
    CHECK(result.reason == reason);
    CHECK(result.detail == "why");
    CHECK(result.ok == result.reason.empty());
    CHECK_FALSE(result.changed);
    CHECK_FALSE(result.unknown);
  }
}

TEST_CASE("gateway: whether a change happened whose leader fell is learnt from the next one") {
  using outcome = membership_reply::outcome;
  for (bool happened : {true, false}) {
    auto r = rig::following();
    auto t = r->x->change_members({change_membership::change::remove, {"n9"}}, r->now);
    r->flush();
    r->x->members_changed(answer(r->changes[0], outcome::unknown), r->now);
    r->lead_by("", 4);
    CHECK_FALSE(r->answer<membership_result>(t));
    r->lead_by("n3", 4);
    REQUIRE(r->changes.size() == 2);
    CHECK(r->changes[1].first == node_id{"n3"});
    r->x->members_changed(answer(r->changes[1], happened ? outcome::unknown_node : outcome::unsafe), r->now);
    r->flush();
    REQUIRE(r->answer<membership_result>(t));
    CHECK(r->answer<membership_result>(t)->ok == happened);
    CHECK(r->answer<membership_result>(t)->changed == happened);
    CHECK_FALSE(r->answer<membership_result>(t)->unknown);
  }
}

TEST_CASE("gateway: a leader that is busy for a moment is asked again, and one that stays so refuses") {
  using outcome = membership_reply::outcome;
  auto r = rig::following();
  auto t = r->x->change_members({change_membership::change::add, {"n4"}}, r->now);
  auto never = r->x->change_members({change_membership::change::add, {"n5"}}, r->now);
  r->flush();
  REQUIRE(r->changes.size() == 2);
  for (auto each : std::vector{r->changes})
    r->x->members_changed(answer(each, outcome::busy), r->now);
  r->flush();
  CHECK(r->changes.size() == 2);
  r->pass(50);
  REQUIRE(r->changes.size() == 4);
  r->x->members_changed(answer(r->changes[2], outcome::committed), r->now);
  r->pass(1100);
  CHECK(r->answer<membership_result>(t)->ok);
  CHECK_FALSE(r->answer<membership_result>(never));
  r->x->members_changed(answer(r->changes[3], outcome::busy), r->now);
  r->flush();
  REQUIRE(r->answer<membership_result>(never));
  CHECK(r->answer<membership_result>(never)->reason == "busy");
  CHECK_FALSE(r->answer<membership_result>(never)->unknown);
}

TEST_CASE("gateway: a change that gets no answer in time says that it may happen yet") {
  auto r = rig::following();
  auto t = r->x->change_members({change_membership::change::add, {"n4"}}, r->now);
  r->flush();
  r->pass(5000);
  REQUIRE(r->answer<membership_result>(t));
  CHECK(r->answer<membership_result>(t)->unknown);
  CHECK(r->answer<membership_result>(t)->reason == "timeout");
  CHECK(r->answer<membership_result>(t)->detail != "");
  rig alone;
  auto unsent = alone.x->change_members({change_membership::change::add, {"n4"}}, alone.now);
  alone.pass(5000);
  REQUIRE(alone.answer<membership_result>(unsent));
  CHECK_FALSE(alone.answer<membership_result>(unsent)->unknown);
  CHECK(alone.answer<membership_result>(unsent)->reason != "timeout");
}

// -- the leader's own commands --------------------------------------------------------------------

TEST_CASE("gateway: the fleet's commands are proposed only while this node leads") {
  rig r;
  r.x->peer_up({"n2"});
  r.x->propose_own({mark_offline{{"w"}}}, r.now);
  r.lead_by("n1", 3);
  r.open(40);
  CHECK(r.proposals.empty());
  r.x->propose_own({mark_offline{{"w"}}, report_figures{}}, r.now);
  r.flush();
  REQUIRE(r.proposals.size() == 1);
  CHECK(r.proposals[0].first == node_id{"n1"});
  CHECK(r.proposals[0].second.commands.size() == 2);
  r.lead_by("n2", 4);
  CHECK(r.proposals.size() == 1);
  CHECK(r.x->idle());
}
