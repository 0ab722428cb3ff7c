#include <doctest/doctest.h>

#include "persistence/codec.hpp"
#include "tests/support/scripted_keeper.hpp"

// The keeper as a follower, a candidate and a writer; replication_leader_test.cpp has the leader.

using namespace coordinator;

namespace {

using terms = std::vector<std::uint64_t>;

log_entry membership_entry(std::uint64_t index, std::uint64_t term, const membership& members) {
  return {log_index{index}, term_number{term}, entry_kind::membership, 0, to_bytes(members)};
}

}  // namespace

// -- forming ------------------------------------------------------------------------------

TEST_CASE("replication: founding saves term 1, the founding and entry 1 in one write (rule 12)") {
  scripted_keeper keeper{{.formed = false, .slow_disk = true}};
  CHECK_EQ(keeper->role(), node_role::unformed);
  genesis founding{"0123456789abcdef0123456789abcdef", members_of(3), 42};
  keeper.take(keeper->found(founding, "no proposal any more", keeper.now()));
  REQUIRE(keeper.write_under_way());
  auto write = *keeper.write_under_way();
  CHECK_EQ(write.state, hard_state{term_number{1}, std::nullopt});
  CHECK_EQ(write.formed, founding);
  CHECK_EQ(write.formation, "no proposal any more");
  REQUIRE_EQ(write.entries.size(), 1);
  CHECK_EQ(write.entries[0].kind, entry_kind::genesis);
  CHECK_EQ(write.entries[0].time_ms, 42);
  CHECK_EQ(keeper->role(), node_role::follower);
  // Nothing rests on it before it is durable.
  keeper.request_vote('b', 2, 1, 1);
  CHECK_FALSE(keeper.said<request_vote_reply>());
  CHECK(keeper.applied.empty());
  keeper.write();
  CHECK(keeper.said<request_vote_reply>()->vote_granted);
  CHECK_EQ(keeper.applied.size(), 1);
}

TEST_CASE("replication: what formation wants to remember is saved, and known to be") {
  scripted_keeper keeper{{.formed = false, .slow_disk = true}};
  keeper.take(keeper->save_formation("one", keeper.now()));
  keeper.take(keeper->save_formation("two", keeper.now()));
  auto newest = keeper->newest_write();
  CHECK_LT(keeper->durable_write(), newest);
  CHECK_EQ(keeper.write_under_way()->formation, "one");
  keeper.write(false);
  CHECK_LT(keeper->durable_write(), newest);
  CHECK_EQ(keeper.write_under_way()->formation, "two");
  keeper.write();
  CHECK_EQ(keeper->durable_write(), newest);
}

// -- writing ------------------------------------------------------------------------------

TEST_CASE("replication: one write is under way, and the next gathers what comes meanwhile") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.append('b', 1, 2, 1, {1});
  keeper.append('b', 1, 3, 1, {1, 1});
  keeper.append('b', 1, 5, 1, {1});
  CHECK_EQ(keeper.write_under_way()->entries.size(), 1);
  keeper.write(false);
  CHECK_EQ(keeper.write_under_way()->entries.size(), 3);
  CHECK_EQ(keeper.durable(), 3);
  keeper.write();
  CHECK_EQ(keeper.durable(), 6);
  CHECK_FALSE(keeper.writing());
}

TEST_CASE("replication: a large batch is written in several transactions, so that each shows progress (rule 5)") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true, .write_bytes = 40}};
  keeper.append('b', 2, 2, 1, {2, 2, 2, 2, 2});
  int writes = 0;
  for (; keeper.writing(); ++writes) {
    CHECK_GE(keeper.write_under_way()->entries.size(), 1);
    CHECK_LE(keeper.write_under_way()->entries.size(), 2);
    CHECK_EQ(keeper.write_under_way()->state.has_value(), writes == 0);
    auto before = keeper.durable();
    keeper.write(false);
    CHECK_GT(keeper.durable(), before);
  }
  CHECK_EQ(writes, 3);
  CHECK_EQ(keeper.disk.size(), 7);
  CHECK_EQ(keeper.said<append_entries_reply>()->match_index, log_index{7});
}

TEST_CASE("replication: entries that are cut off before they were written never are") {
  scripted_keeper keeper{{.term = 2, .log = {1}, .slow_disk = true}};
  keeper.append('b', 2, 2, 1, {2});
  keeper.append('b', 2, 3, 2, {2, 2, 2});
  // Entry 3 is being written, 4 to 6 wait.
  keeper.append('c', 3, 3, 2, {3});
  keeper.write(false);
  auto write = *keeper.write_under_way();
  CHECK_FALSE(write.truncate_from);
  REQUIRE_EQ(write.entries.size(), 1);
  CHECK_EQ(write.entries[0].term, term_number{3});
  keeper.write();
  CHECK_EQ(keeper.disk.size(), 4);
  CHECK_EQ(keeper.durable(), 4);
}

TEST_CASE("replication: entries that are being written when they are cut off are deleted by the next write") {
  scripted_keeper keeper{{.term = 2, .log = {1}, .slow_disk = true}};
  keeper.append('b', 2, 2, 1, {2, 2, 2});
  keeper.append('c', 3, 2, 1, {3, 3});
  keeper.append('b', 4, 3, 3, {4});
  keeper.write(false);
  CHECK_EQ(keeper.durable(), 2);
  CHECK_EQ(keeper.write_under_way()->truncate_from, log_index{3});
  keeper.write();
  CHECK_EQ(keeper.durable(), 4);
  keeper.restart();
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 3, 4});
}

TEST_CASE("replication: what takes the place of durable entries is not durable yet (rule 2)") {
  scripted_keeper keeper{{.term = 3, .log = {1, 2, 2}, .last_applied = 2, .slow_disk = true}};
  CHECK_EQ(keeper.durable(), 4);
  keeper.append('b', 3, 2, 1, {3, 3}, 4);
  CHECK_EQ(keeper.durable(), 2);
  CHECK_FALSE(keeper.said<append_entries_reply>());
  CHECK(keeper.applied.empty());
  keeper.write();
  CHECK_EQ(keeper.said<append_entries_reply>()->match_index, log_index{4});
  CHECK_EQ(keeper.applied.size(), 2);
}

TEST_CASE("replication: after a failed write nothing is said that rests on it, and nothing begun (rule 5)") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.request_vote('b', 2, 2, 1);
  keeper.append('b', 2, 2, 1, {2});
  keeper.fail_write();
  CHECK_FALSE(keeper->writable());
  keeper.beat('b', 2);
  keeper.request_vote('c', 3, 9, 2);
  keeper.advance(milliseconds{1'000});
  keeper.tick();
  CHECK_FALSE(keeper.said<request_vote_reply>());
  CHECK_FALSE(keeper.said<append_entries_reply>());
  CHECK_FALSE(keeper.said<beat_reply>());
  keeper.ask_leave();
  CHECK_EQ(keeper.campaign->leave, 0);
  CHECK_FALSE(keeper.writing());
}

TEST_CASE("replication: a disk that fails ends a campaign that has only its pre-vote (rule 5)") {
  scripted_keeper keeper{{.log = {1}}};
  keeper.ask_leave();
  REQUIRE_NE(keeper.campaign->leave, 0);
  keeper.take(keeper->on_disk_failed("state.db: disk I/O error", keeper.now()));
  keeper.tally(keeper.campaign->leave, {'b', 'c'});
  CHECK_EQ(keeper.term(), 1);
  CHECK_EQ(keeper->role(), node_role::follower);
}

TEST_CASE("replication: a disk that fails ends a leadership (rule 5)") {
  scripted_keeper keeper{{.log = {1}}};
  keeper.become_leader();
  keeper.take(keeper->on_disk_failed("state.db: disk I/O error", keeper.now()));
  CHECK_FALSE(keeper.leads());
  CHECK_EQ(keeper.beats->leave, 0);
  auto status = keeper->status(keeper.now());
  CHECK_FALSE(status.writable);
  CHECK_EQ(status.disk_error, "state.db: disk I/O error");
}

TEST_CASE("replication: the gateway hears once that nothing is applied any more, why, and that it goes on") {
  using reasons = std::vector<std::string>;
  scripted_keeper keeper{{.log = {1}}};
  keeper.tick();
  CHECK(keeper.standstills.empty());
  keeper.take(keeper->on_disk_failed("state.db: disk I/O error", keeper.now()));
  keeper.tick();
  CHECK_EQ(keeper.standstills, reasons{"disk_failed"});
  keeper.take(keeper->on_disk_recovered(keeper.now()));
  CHECK_EQ(keeper.standstills, reasons{"disk_failed", ""});
  keeper.take(keeper->on_state_damaged("a row", keeper.now()));
  keeper.tick();
  CHECK_EQ(keeper.standstills, reasons{"disk_failed", "", "state_unusable"});
}

TEST_CASE("replication: a write that hangs counts as a failed disk until it ends (rule 5)") {
  using reasons = std::vector<std::string>;
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.append('b', 1, 2, 1, {1});
  REQUIRE(keeper.write_under_way());
  keeper.advance(milliseconds{900});
  keeper.tick();
  CHECK(keeper->status(keeper.now()).writable);
  CHECK(keeper.standstills.empty());
  keeper.advance(milliseconds{100});
  keeper.tick();
  auto status = keeper->status(keeper.now());
  CHECK_FALSE(status.writable);
  CHECK_EQ(status.disk_error, "raft.db: a write has not ended for 1000 ms");
  CHECK_EQ(keeper.standstills, reasons{"disk_failed"});
  keeper.write();
  CHECK(keeper->status(keeper.now()).writable);
  CHECK(keeper->status(keeper.now()).disk_error.empty());
  CHECK_EQ(keeper.standstills, reasons{"disk_failed", ""});
}

// -- leave to campaign ------------------------------------------------------------------------

TEST_CASE("replication: a learner, an unformed node and another disk's namesake get no leave to campaign") {
  scripted_keeper_options options{.log = {1}};
  SUBCASE("learner") {
    options.learner = true;
  }
  SUBCASE("unformed") {
    options = {.formed = false};
  }
  SUBCASE("another incarnation (rule 11)") {
    options.incarnation = incarnation_id{99};
  }
  scripted_keeper keeper{options};
  CHECK_NE(keeper->role(), node_role::follower);
  keeper.ask_leave();
  CHECK_EQ(keeper.campaign->leave, 0);
  CHECK_EQ(keeper.campaign->retry_after, milliseconds{200});
}

TEST_CASE("replication: a pre-vote raises no term and saves nothing, here or there (rule 6)") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.ask_leave();
  CHECK(keeper.campaign->pre_vote);
  CHECK_EQ(keeper.campaign->term, term_number{2});
  CHECK_EQ(keeper.term(), 1);
  CHECK_FALSE(keeper.writing());
  CHECK_EQ(keeper->role(), node_role::follower);
}

TEST_CASE("replication: a node alone needs no pre-vote, but its vote saved") {
  scripted_keeper keeper{{.members = 1, .log = {1}, .slow_disk = true}};
  keeper.ask_leave();
  CHECK_EQ(keeper->role(), node_role::candidate);
  keeper.write(false);
  CHECK(keeper.leads());
  CHECK_EQ(keeper.saved, hard_state{term_number{2}, member_id('a')});
}

TEST_CASE("replication: a campaign whose vote is being saved is not given up for the next (slow disk)") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.ask_leave();
  keeper.tally(keeper.campaign->leave, {'b'});
  keeper.campaign.reset();
  // The disk takes longer than a time-out.
  keeper.advance(milliseconds{400});
  keeper.ask_leave();
  CHECK_EQ(keeper.campaign->leave, 0);
  keeper.write();
  REQUIRE(keeper.campaign);
  CHECK_FALSE(keeper.campaign->pre_vote);
  keeper.tally(keeper.campaign->leave, {'c'});
  CHECK(keeper.leads());
}

TEST_CASE("replication: a node whose disk hangs does not campaign (rule 5)") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.append('b', 1, 2, 1, {1});
  keeper.advance(milliseconds{999});
  keeper.ask_leave();
  CHECK_NE(keeper.campaign->leave, 0);
  keeper.advance(milliseconds{1});
  keeper.ask_leave();
  CHECK_EQ(keeper.campaign->leave, 0);
}

TEST_CASE("replication: a transfer is for the term that it was given in, and skips the pre-vote (rule 6)") {
  scripted_keeper keeper{{.term = 3, .log = {1}}};
  keeper.append('b', 3, 2, 1);
  keeper.ask_leave(milliseconds{200}, 2);
  CHECK_EQ(keeper.campaign->leave, 0);
  keeper.ask_leave(milliseconds{200}, 3);
  CHECK_FALSE(keeper.campaign->pre_vote);
  CHECK(keeper.campaign->transfer);
  CHECK_EQ(keeper.campaign->term, term_number{4});
}

// -- following -----------------------------------------------------------------------------------

TEST_CASE("replication: what fits is acknowledged when it is durable, once, and what is durable already at once") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.append('b', 1, 2, 1, {1});
  CHECK_FALSE(keeper.said<append_entries_reply>());
  keeper.append('b', 1, 3, 1, {1});
  CHECK_FALSE(keeper.said<append_entries_reply>());
  // An older one again, because its answer was lost: it does not wait for what is being written.
  keeper.append('b', 1, 1, 1, {1});
  auto again = keeper.said_to<append_entries_reply>('b');
  REQUIRE(again);
  CHECK(again->success);
  CHECK_EQ(again->match_index, log_index{2});
  CHECK_EQ(again->last_log_index, log_index{4});
  keeper.write(false);
  CHECK_EQ(keeper.said_to<append_entries_reply>('b')->match_index, log_index{3});
  keeper.write(false);
  auto replies = keeper.take_said<append_entries_reply>();
  REQUIRE_EQ(replies.size(), 1);
  CHECK_EQ(replies[0].second.match_index, log_index{4});
}

TEST_CASE("replication: an acknowledgement speaks of the log up to what was proved, not of what lies behind") {
  scripted_keeper keeper{{.term = 2, .log = {1, 2, 2}}};
  keeper.append('b', 3, 2, 1);
  CHECK_EQ(keeper.said_to<append_entries_reply>('b')->match_index, log_index{2});
}

TEST_CASE("replication: word of commitment alone is not answered, unless it is refused") {
  scripted_keeper keeper{{.log = {1, 1}}};
  append_entries notice{member_sender('b'), term_number{1}, log_index{3}, term_number{1}, {}, log_index{3}, true};
  keeper.take(keeper->on_append_entries(notice, {member_id('b'), 0}, keeper.now()));
  CHECK_EQ(keeper.commit(), 3);
  CHECK_FALSE(keeper.said<append_entries_reply>());
  notice.prev_log_index = log_index{9};
  keeper.take(keeper->on_append_entries(notice, {member_id('b'), 0}, keeper.now()));
  CHECK_FALSE(keeper.said<append_entries_reply>()->success);
}

TEST_CASE("replication: a second leader of a term is refused, and changes nothing (Raft §5.2)") {
  scripted_keeper keeper{{.log = {1}}};
  keeper.append('b', 1, 2, 1, {1});
  keeper.take_said<append_entries_reply>();
  keeper.append('c', 1, 2, 1, {1, 1});
  CHECK_FALSE(keeper.said_to<append_entries_reply>('c')->success);
  CHECK_EQ(keeper->leader(), member_id('b'));
  CHECK_EQ(keeper.log_terms(), terms{1, 1, 1});
  keeper.beat('c', 1);
  CHECK_EQ(keeper->leader(), member_id('b'));
}

TEST_CASE("replication: a beat is answered with the saved term, whosever it is (rule 5)") {
  scripted_keeper keeper{{.term = 4, .log = {1}}};
  keeper.beat('b', 3, 0, 17);
  auto reply = keeper.said_to<beat_reply>('b');
  REQUIRE(reply);
  CHECK_EQ(reply->term, term_number{4});
  CHECK_EQ(reply->answers_term, term_number{3});
  CHECK_EQ(reply->round, 17);
  CHECK(keeper->leader().empty());
}

TEST_CASE("replication: what no leader sends is not taken in, so that nobody can tear the log") {
  auto odd = [](std::vector<log_entry> entries, std::uint64_t term = 5) {
    scripted_keeper keeper{{.log = {1}}};
    keeper.append_entries_of('b', term, 2, 1, entries);
    CHECK_EQ(keeper.log_terms(), terms{1, 1});
    CHECK_FALSE(keeper.said<append_entries_reply>());
    keeper.append_entries_of('b', term, 2, 1, std::move(entries), 7);
    CHECK_EQ(keeper.log_terms(), terms{1, 1});
    auto reply = keeper.said<append_entries_reply>();
    REQUIRE(reply);
    CHECK_FALSE(reply->success);
  };
  SUBCASE("a gap") {
    odd({entry_of(4, 1)});
  }
  SUBCASE("a gap inside") {
    odd({entry_of(3, 1), entry_of(5, 1)});
  }
  SUBCASE("a term that falls") {
    odd({entry_of(3, 3), entry_of(4, 2)});
  }
  SUBCASE("a term below the entry before") {
    odd({entry_of(3, 0)});
  }
  SUBCASE("a term beyond the leader's") {
    odd({entry_of(3, 6)});
  }
  SUBCASE("another founding") {
    auto entry = entry_of(3, 2);
    entry.kind = entry_kind::genesis;
    odd({entry});
  }
  SUBCASE("a membership that cannot be read") {
    auto entry = entry_of(3, 2);
    entry.kind = entry_kind::membership;
    entry.payload = "\xff\xff\xff";
    odd({entry});
  }
  SUBCASE("a kind that does not exist") {
    auto entry = entry_of(3, 2);
    entry.kind = static_cast<entry_kind>(77);
    odd({entry});
  }
}

TEST_CASE("replication: over HTTP nothing cuts off what is committed, nor adds to a term that is led") {
  scripted_keeper keeper{{.log = {1, 1}}};
  keeper.append('b', 1, 3, 1, {1}, 4);
  REQUIRE_EQ(keeper.commit(), 4);
  keeper.take_said<append_entries_reply>();
  SUBCASE("committed entries stay") {
    keeper.append_entries_of('c', 9, 2, 1, {entry_of(3, 9)}, 7);
    CHECK_FALSE(keeper.said<append_entries_reply>()->success);
    CHECK_EQ(keeper.log_terms(), terms{1, 1, 1, 1});
  }
  SUBCASE("a forged entry of the leader's term is refused") {
    keeper.append_entries_of('b', 1, 4, 1, {entry_of(5, 1)}, 7);
    CHECK_FALSE(keeper.said<append_entries_reply>()->success);
    CHECK_EQ(keeper->log().last_index(), log_index{4});
  }
  SUBCASE("what adds nothing is answered") {
    keeper.append_entries_of('b', 1, 4, 1, {}, 7);
    CHECK(keeper.said<append_entries_reply>()->success);
  }
  SUBCASE("a later term is a leader's right") {
    keeper.append_entries_of('c', 9, 4, 1, {entry_of(5, 9)}, 7);
    CHECK(keeper.said<append_entries_reply>()->success);
    keeper.append_entries_of('c', 9, 5, 9, {entry_of(6, 9)}, 8);
    CHECK(keeper.said<append_entries_reply>()->success);
    CHECK_EQ(keeper.log_terms(), terms{1, 1, 1, 1, 9, 9});
  }
}

TEST_CASE("replication: an append that came over HTTP is answered to its sender, when it is durable") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.append_entries_of('b', 1, 2, 1, {entry_of(3, 1)}, 7);
  CHECK_FALSE(keeper.said<append_entries_reply>());
  SUBCASE("as a success") {
    keeper.write();
    auto reply = keeper.said<append_entries_reply>();
    REQUIRE(reply);
    CHECK(reply->success);
    CHECK_EQ(reply->match_index, log_index{3});
  }
  SUBCASE("as a failure if another term has begun") {
    keeper.request_vote('c', 2, 1, 1);
    keeper.write();
    CHECK_FALSE(keeper.said<append_entries_reply>()->success);
  }
  SUBCASE("also by one who leads by then") {
    keeper.advance(milliseconds{400});
    keeper.become_leader();
    keeper.write();
    REQUIRE(keeper.leads());
    CHECK_FALSE(keeper.said<append_entries_reply>()->success);
  }
}

TEST_CASE("replication: a candidate owes nobody an acknowledgement") {
  scripted_keeper keeper{{.log = {1}, .slow_disk = true}};
  keeper.append('b', 1, 2, 1, {1});
  keeper.take_said<append_entries_reply>();
  keeper.advance(milliseconds{400});
  keeper.ask_leave();
  keeper.tally(keeper.campaign->leave, {'c'});
  keeper.write();
  for (auto& [to, reply] : keeper.take_said<append_entries_reply>())
    CHECK_FALSE(to.empty());
}

TEST_CASE("replication: a membership is effective when it is appended, and no longer when it is cut off (rule 8)") {
  scripted_keeper keeper{{.term = 2, .log = {1}, .learner = true}};
  CHECK_EQ(keeper->role(), node_role::learner);
  keeper.append_entries_of('b', 2, 2, 1, {membership_entry(3, 2, members_of(3))});
  CHECK_EQ(keeper->role(), node_role::follower);
  CHECK_EQ(keeper.announced->role, node_role::follower);
  keeper.append('c', 3, 2, 1, {3});
  CHECK_EQ(keeper->role(), node_role::learner);
}

TEST_CASE("replication: a formed node judges by term, log and contact, not by who it thinks is a member (rule 6)") {
  scripted_keeper keeper{{.log = {1}}};
  keeper.request_vote('z', 2, 2, 1);
  CHECK(keeper.said_to<request_vote_reply>('z')->vote_granted);
  keeper.append('z', 2, 2, 1, {2});
  CHECK(keeper.said_to<append_entries_reply>('z')->success);
  CHECK_EQ(keeper->leader(), member_id('z'));
}

TEST_CASE("replication: after a restart applying goes on where state.db stands (rule 4)") {
  scripted_keeper keeper{{.log = {1, 1, 1}, .last_applied = 3}};
  CHECK_EQ(keeper.commit(), 3);
  keeper.append('b', 1, 4, 1, {1}, 5);
  keeper.load();
  REQUIRE_EQ(keeper.applied.size(), 2);
  CHECK_EQ(keeper.applied[0].index, log_index{4});
}

TEST_CASE("replication: entries that are no longer in memory are read back before they are applied, once") {
  scripted_keeper keeper{{.log = {1, 1, 1, 1}}};
  keeper.append('b', 1, 5, 1, {}, 5);
  REQUIRE_EQ(keeper.loads.size(), 1);
  CHECK_EQ(keeper.loads[0].from, log_index{1});
  keeper.tick();
  CHECK_EQ(keeper.loads.size(), 1);
  keeper.load();
  CHECK_EQ(keeper.applied.size(), 5);
}

TEST_CASE("replication: an entry that cannot be read back is a failed disk, and asked for once only") {
  scripted_keeper keeper{{.log = {1, 1, 1, 1}}};
  keeper.append('b', 1, 5, 1, {}, 5);
  auto request = keeper.loads.at(0).request;
  keeper.loads.clear();
  keeper.take(keeper->on_loaded(request, {}, keeper.now()));
  CHECK_FALSE(keeper->writable());
  CHECK(keeper.loads.empty());
  CHECK(keeper.applied.empty());
}
