#include <doctest/doctest.h>

#include <functional>

#include "actors/formation.hpp"
#include "tests/support/scripted_keeper.hpp"

// For each safety rule that the keeper and its helpers stand for: a sequence of events that is harmless with the
// rule, and loses something without it.

using namespace coordinator;

namespace {

using terms = std::vector<std::uint64_t>;

/// Runs `is_safe` with the rule and without it.
void check_needed(defect rule, const std::function<bool(defect_set)>& is_safe) {
  CHECK(is_safe({}));
  defect_set defects;
  defects.add(rule);
  CHECK_FALSE(is_safe(defects));
}

bool granted(scripted_keeper& keeper, char candidate) {
  auto reply = keeper.said_to<request_vote_reply>(candidate);
  return reply && reply->vote_granted;
}

/// A leader of term 2 with peers, whose no-op is entry 3 and is committed.
scripted_keeper leader(defect_set defects, bool slow_disk = false) {
  scripted_keeper keeper{{.defects = defects, .log = {1}, .slow_disk = slow_disk}};
  keeper.peers_up();
  keeper.become_leader();
  keeper.acknowledge('b', 3);
  keeper.take_said<append_entries>();
  return keeper;
}

}  // namespace

TEST_CASE("rule 1: votes for an earlier campaign do not count for the present one") {
  check_needed(defect::stale_tally_counts, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}}};
    keeper.ask_leave();
    keeper.tally(keeper.campaign->leave, {'b'});
    auto earlier = keeper.campaign->leave;
    keeper.advance(milliseconds{300});
    keeper.ask_leave();
    keeper.tally(keeper.campaign->leave, {'b'});
    REQUIRE_EQ(keeper.term(), 3);
    keeper.tally(earlier, {'b'});
    return !keeper.leads();
  });
}

TEST_CASE("rule 1: a pre-vote that was won before the leader was heard again leads to nothing") {
  check_needed(defect::stale_tally_counts, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}}};
    keeper.ask_leave();
    keeper.append('b', 1, 2, 1);
    keeper.tally(keeper.campaign->leave, {'b', 'c'});
    return keeper.term() == 1;
  });
}

TEST_CASE("rule 1: whoever answers with a later term ends a leadership") {
  check_needed(defect::ignore_higher_term, [](defect_set defects) {
    auto keeper = leader(defects);
    keeper.take(keeper->on_higher_term(term_number{5}, keeper.now()));
    return !keeper.leads() && keeper.term() == 5;
  });
}

TEST_CASE("rule 1: a leader that steps down has still voted in its term") {
  check_needed(defect::step_down_clears_vote, [](defect_set defects) {
    auto keeper = leader(defects);
    keeper.advance(milliseconds{400});
    keeper.tick();
    REQUIRE_FALSE(keeper.leads());
    keeper.request_vote('c', 2, 3, 2);
    return !granted(keeper, 'c');
  });
}

TEST_CASE("rule 2: a vote is saved before it is said") {
  check_needed(defect::vote_before_saved, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}, .slow_disk = true}};
    keeper.request_vote('b', 2, 2, 1);
    bool first = granted(keeper, 'b');
    keeper.restart();
    keeper.request_vote('c', 2, 2, 1);
    keeper.write();
    return !(first && granted(keeper, 'c'));
  });
}

TEST_CASE("rule 2: the own vote is saved before a campaign begins") {
  check_needed(defect::vote_before_saved, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}, .slow_disk = true}};
    keeper.ask_leave();
    keeper.tally(keeper.campaign->leave, {'b'});
    bool campaigned = !keeper.campaign->pre_vote;
    keeper.restart();
    keeper.request_vote('c', 2, 2, 1);
    keeper.write();
    return !(campaigned && granted(keeper, 'c'));
  });
}

TEST_CASE("rule 2: a refusal, too, carries only a term that is saved") {
  check_needed(defect::vote_before_saved, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}, .slow_disk = true}};
    keeper.append('b', 5, 9, 4);
    auto refusal = keeper.said_to<append_entries_reply>('b');
    bool early = refusal && refusal->term > keeper.saved.current_term;
    keeper.write();
    return !early && keeper.said_to<append_entries_reply>('b');
  });
}

TEST_CASE("rule 2: entries are durable before they are acknowledged") {
  check_needed(defect::acknowledge_before_saved, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}, .slow_disk = true}};
    keeper.append('b', 1, 2, 1, {1, 1});
    auto reply = keeper.said_to<append_entries_reply>('b');
    bool lost = reply && reply->match_index.value > keeper.disk.size();
    keeper.write();
    auto later = keeper.said_to<append_entries_reply>('b');
    return !lost && later && later->match_index == log_index{4};
  });
}

TEST_CASE("rule 2: a leader counts its own write when it is done, and sends the entries meanwhile") {
  check_needed(defect::count_own_write_early, [](defect_set defects) {
    auto keeper = leader(defects, true);
    keeper.propose({"x"});
    REQUIRE(keeper.said_to<append_entries>('b'));
    keeper.acknowledge('b', 4);
    // On one disk of three.
    bool early = keeper.commit() == 4;
    keeper.write();
    CHECK_EQ(keeper.commit(), 4);
    return !early;
  });
}

TEST_CASE("rule 2: a write that completes makes durable only what is still in the log") {
  check_needed(defect::old_write_raises_durable, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .term = 2, .log = {1}, .last_applied = 2, .slow_disk = true}};
    keeper.append('b', 2, 2, 1, {2, 2, 2});
    // Entries 4 and 5 are still being written when others take their place.
    keeper.append('c', 3, 3, 2, {3, 3}, 5);
    keeper.write(false);
    bool early = keeper.applied.size() > 1 || keeper.durable() > 3;
    keeper.write();
    CHECK_EQ(keeper.durable(), 5);
    CHECK_EQ(keeper.applied.size(), 3);
    CHECK_EQ(keeper.said_to<append_entries_reply>('c')->match_index, log_index{5});
    return !early;
  });
}

TEST_CASE("rule 3: only the own term commits by counting (Raft figure 8)") {
  check_needed(defect::commit_older_term_by_counting, [](defect_set defects) {
    // Figure 8: S1 has entry 3 of term 2; it leads again in term 4, and one more server gets that entry.
    scripted_keeper keeper{{.defects = defects, .term = 3, .log = {1, 2}}};
    keeper.peers_up();
    keeper.become_leader();
    REQUIRE_EQ(keeper.log_terms(), terms{1, 1, 2, 4});
    keeper.acknowledge('b', 3);
    // Now S5, with an entry of term 3, could still win and overwrite it everywhere.
    return keeper.commit() == 1;
  });
}

TEST_CASE("rule 4: a follower commits only what an append of the present term proved") {
  check_needed(defect::commit_on_unproven_ground, [](defect_set defects) {
    // Entries 3 and 4 are of a leader that lost; the present one has others there.
    scripted_keeper keeper{{.defects = defects, .term = 2, .log = {1, 2, 2}}};
    keeper.append('b', 3, 2, 1, {}, 4);
    return keeper.commit() == 2;
  });
}

TEST_CASE("rule 4: nor does a beat commit more") {
  check_needed(defect::commit_on_unproven_ground, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .term = 2, .log = {1, 2, 2}}};
    keeper.beat('b', 3, 4);
    return keeper.commit() == 1;
  });
}

TEST_CASE("rule 4: what was proved in an earlier term is proved no more") {
  scripted_keeper keeper{{.term = 2, .log = {1}}};
  keeper.append('b', 2, 2, 1, {2, 2});
  keeper.beat('c', 3, 4);
  CHECK_EQ(keeper.commit(), 1);
  keeper.append('c', 3, 4, 2, {}, 4);
  CHECK_EQ(keeper.commit(), 4);
}

TEST_CASE("rule 4: the state machine is given nothing that a crash could take back here") {
  check_needed(defect::committed_overtakes_durable, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}, .last_applied = 2, .slow_disk = true}};
    keeper.append('b', 1, 2, 1, {1, 1}, 4);
    CHECK_EQ(keeper.commit(), 4);
    bool ahead = !keeper.applied.empty();
    keeper.write();
    return !ahead && keeper.applied.size() == 2;
  });
}

TEST_CASE("rule 4: a late append does not cut off what matches (Raft §5.3)") {
  check_needed(defect::truncate_matching_suffix, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}}};
    keeper.append('b', 1, 2, 1, {1, 1});
    auto acknowledged = keeper.said_to<append_entries_reply>('b')->match_index;
    keeper.append('b', 1, 2, 1, {1});
    return keeper->log().last_index() >= acknowledged;
  });
}

TEST_CASE("rule 5: a leader whose disk hangs does not go on beating") {
  check_needed(defect::beats_without_progress, [](defect_set defects) {
    auto keeper = leader(defects, true);
    keeper.propose({"x"});
    for (int i = 0; i < 5; ++i) {
      keeper.advance(milliseconds{200});
      keeper.round(0, {'b', 'c'});
      keeper.tick();
    }
    return !keeper.leads() && keeper.beats->leave == 0;
  });
}

TEST_CASE("rule 5: a leader whose followers answer but store nothing does not go on either") {
  check_needed(defect::beats_without_progress, [](defect_set defects) {
    auto keeper = leader(defects);
    keeper.propose({"x"});
    for (int i = 0; i < 5; ++i) {
      keeper.advance(milliseconds{200});
      keeper.round(0, {'b', 'c'});
      keeper.tick();
    }
    return !keeper.leads();
  });
}

TEST_CASE("rule 5: an idle leader has no progress to make") {
  auto keeper = leader({});
  for (int i = 0; i < 50; ++i) {
    keeper.advance(milliseconds{200});
    keeper.round(0, {'b'});
    keeper.tick();
  }
  CHECK(keeper.leads());
}

TEST_CASE("rule 5: a leader out of contact with a majority steps down") {
  check_needed(defect::no_check_quorum, [](defect_set defects) {
    auto keeper = leader(defects);
    keeper.advance(milliseconds{250});
    keeper.tick();
    CHECK(keeper.leads());
    keeper.advance(milliseconds{50});
    keeper.tick();
    return !keeper.leads();
  });
}

TEST_CASE("rule 6: a pre-vote changes no term") {
  check_needed(defect::pre_vote_raises_term, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}}};
    keeper.request_vote('b', 7, 2, 1, true);
    return granted(keeper, 'b') && keeper.term() == 1 && !keeper->voted_for();
  });
}

TEST_CASE("rule 6: a pre-vote is refused while the leader is heard, and by the leader") {
  check_needed(defect::pre_vote_ignores_contact, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .log = {1}}};
    keeper.append('b', 1, 2, 1);
    keeper.advance(milliseconds{149});
    keeper.request_vote('c', 2, 2, 1, true);
    return !granted(keeper, 'c');
  });
  check_needed(defect::pre_vote_ignores_contact, [](defect_set defects) {
    auto keeper = leader(defects);
    keeper.request_vote('c', 3, 3, 2, true);
    return !granted(keeper, 'c');
  });
}

TEST_CASE("rule 6: contact ends with its link and with time") {
  scripted_keeper keeper{{.log = {1}}};
  keeper.append('b', 1, 2, 1);
  SUBCASE("link") {
    keeper.take(keeper->on_peer_down(member_id('b'), keeper.now()));
  }
  SUBCASE("time") {
    keeper.advance(milliseconds{150});
  }
  keeper.request_vote('c', 2, 2, 1, true);
  CHECK(granted(keeper, 'c'));
}

TEST_CASE("rule 7: a read waits for a committed entry of the leader's own term") {
  check_needed(defect::read_without_own_term_commit, [](defect_set defects) {
    // Entry 3 was committed and acknowledged by the leader before; this one does not know yet.
    scripted_keeper keeper{{.defects = defects, .log = {1, 1}}};
    keeper.peers_up();
    keeper.become_leader();
    keeper.read(1);
    keeper.round(1, {'b'});
    auto early = keeper.said<read_index_reply>();
    keeper.acknowledge('b', 4);
    keeper.round(1, {'b'});
    auto reply = keeper.said<read_index_reply>();
    return !early && reply && reply->ok && reply->index == log_index{4};
  });
}

TEST_CASE("rule 7: a round answers only reads that came before it") {
  check_needed(defect::read_on_older_round, [](defect_set defects) {
    auto keeper = leader(defects);
    keeper.read(1);
    auto round = keeper.wanted->read;
    keeper.read(2);
    keeper.round(round, {'b'});
    auto answers = keeper.take_said<read_index_reply>();
    if (answers.size() != 1 || answers[0].second.request != 1)
      return false;
    // The second one has a round of its own.
    CHECK_GT(keeper.wanted->read, round);
    keeper.round(keeper.wanted->read, {'c'});
    return keeper.said<read_index_reply>()->request == 2;
  });
}

TEST_CASE("rule 7: a read noted under one leave is not answered under another") {
  check_needed(defect::read_under_ended_leave, [](defect_set defects) {
    auto keeper = leader(defects);
    keeper.read(1);
    auto round = keeper.wanted->read;
    auto leave = keeper.beats->leave;
    keeper.take(keeper->on_higher_term(term_number{3}, keeper.now()));
    keeper.take(keeper->on_round_evidence({leave, round, {member_sender('b'), member_sender('c')}, keeper.now().steady},
                                          keeper.now()));
    auto reply = keeper.said<read_index_reply>();
    return reply && !reply->ok;
  });
}

TEST_CASE("rule 11: votes, acknowledgements and answers of another incarnation do not count") {
  sender stranger{member_id('b'), incarnation_id{99}};
  SUBCASE("votes") {
    check_needed(defect::ignore_incarnation, [&](defect_set defects) {
      scripted_keeper keeper{{.defects = defects, .log = {1}}};
      keeper.ask_leave();
      keeper.tally(keeper.campaign->leave, {'b'});
      keeper.take(keeper->on_tally({keeper.campaign->leave, {stranger}}, keeper.now()));
      return !keeper.leads();
    });
  }
  SUBCASE("acknowledgements") {
    check_needed(defect::ignore_incarnation, [&](defect_set defects) {
      auto keeper = leader(defects);
      keeper.propose({"x"});
      append_entries_reply reply;
      reply.from = stranger;
      reply.term = reply.answers_term = term_number{2};
      reply.success = true;
      reply.match_index = log_index{4};
      keeper.take(keeper->on_append_entries_reply(reply, keeper.now()));
      return keeper.commit() == 3;
    });
  }
  SUBCASE("beats") {
    check_needed(defect::ignore_incarnation, [&](defect_set defects) {
      auto keeper = leader(defects);
      keeper.read(1);
      keeper.take(keeper->on_round_evidence({keeper.beats->leave, 1, {stranger}, keeper.now().steady}, keeper.now()));
      return !keeper.said<read_index_reply>();
    });
  }
}

TEST_CASE("rule 12: a node that is not formed neither votes nor acknowledges") {
  check_needed(defect::vote_unformed, [](defect_set defects) {
    scripted_keeper keeper{{.defects = defects, .formed = false}};
    keeper.append('b', 2, 0, 0, {1});
    keeper.beat('b', 2);
    keeper.request_vote('b', 2, 9, 1);
    return !keeper.said<request_vote_reply>() && !keeper.said<append_entries_reply>() && !keeper.said<beat_reply>() &&
           keeper.term() == 0;
  });
}

TEST_CASE("rule 12: a cluster is founded once all founders have saved it") {
  check_needed(defect::form_with_missing_founder, [](defect_set defects) {
    formation_config config;
    config.self = member_sender('a');
    config.http_address = "http:a";
    config.peers = {{member_id('b'), "http:b"}, {member_id('c'), "http:c"}};
    config.defects = defects;
    formation founding{config, {}};
    std::vector<node_id> all{member_id('a'), member_id('b'), member_id('c')};
    for (auto name : {'b', 'c'}) {
      auto address = std::string("http:") + name;
      founding.on_peer_up(member_sender(name), address);
      founding.on_status({member_sender(name), address, "", all, {}, {}, {}});
    }
    auto actions = founding.on_tick("11112222333344445555666677778888", 1);
    REQUIRE(actions.save);
    auto proposal = actions.save->proposal;
    bool early = founding.on_saved().found.has_value();
    early |= founding.on_status({member_sender('b'), "http:b", "", all, {}, proposal, {}}).found.has_value();
    auto last = founding.on_status({member_sender('c'), "http:c", "", all, {}, proposal, {}});
    return !early && last.found == proposal;
  });
}
