#include "tests/simulation/checker.hpp"

#include <doctest/doctest.h>

#include "tests/support/scripted_keeper.hpp"

using namespace coordinator;
using namespace coordinator::simulation;

// Each test shows the checker keepers that, together, do what no cluster may.

namespace {

/// What raft.db would hold with this log, all of it written.
raft_contents contents_of(scripted_keeper& keeper) {
  raft_contents contents;
  contents.state = {keeper->current_term(), keeper->voted_for()};
  contents.founded = genesis{};
  auto terms = keeper.log_terms();
  contents.last_index = {terms.size()};
  for (std::size_t i = 0; i < terms.size(); ++i)
    if (i == 0 || terms[i] != terms[i - 1])
      contents.terms.push_back({log_index{i + 1}, term_number{terms[i]}});
  return contents;
}

struct fixture {
  checker watch{3};

  /// The node starts with all that the keeper has by now.
  void start(unsigned node, scripted_keeper& keeper) {
    auto contents = contents_of(keeper);
    contents.incarnation = member_sender("abc"[node]).incarnation;
    watch.on_start(node, member_id("abc"[node]), contents, {});
  }
  void look(unsigned node, scripted_keeper& keeper) { watch.after_keeper(node, *keeper.operator->(), std::nullopt); }
  std::string broken() const { return watch.found() ? watch.found()->invariant : ""; }
};

scripted_keeper keeper_of(char name, std::vector<std::uint64_t> log, std::uint64_t term = 1, bool slow_disk = false) {
  return scripted_keeper{{.self = name, .term = term, .log = std::move(log), .slow_disk = slow_disk}};
}

/// Leads the term after its own; its no-op is written and acknowledged by nobody.
scripted_keeper leader_of(char name, std::vector<std::uint64_t> log, std::uint64_t term = 1) {
  auto keeper = keeper_of(name, std::move(log), term);
  keeper.peers_up();
  keeper.become_leader();
  return keeper;
}

log_entry command_entry(std::uint64_t index, std::uint64_t term, std::string payload) {
  return {log_index{index}, term_number{term}, entry_kind::command, 0, std::move(payload)};
}

}  // namespace

TEST_CASE("checker: two leaders of one term are found") {
  fixture x;
  auto a = leader_of('a', {1});
  auto b = leader_of('b', {1});
  x.start(0, a);
  x.look(0, a);
  x.look(0, a);
  CHECK(x.broken() == "");
  x.start(1, b);
  x.look(1, b);
  CHECK(x.broken() == "one leader a term");
}

TEST_CASE("checker: two entries of one index and term are found") {
  fixture x;
  auto a = keeper_of('a', {1}, 1, true);
  auto b = keeper_of('b', {1}, 1, true);
  x.start(0, a);
  x.start(1, b);
  a.append_entries_of('c', 1, 2, 1, {command_entry(3, 1, "one")});
  x.look(0, a);
  SUBCASE("the same is no violation") {
    b.append_entries_of('c', 1, 2, 1, {command_entry(3, 1, "one")});
    x.look(1, b);
    CHECK(x.broken() == "");
  }
  SUBCASE("in two logs") {
    b.append_entries_of('c', 1, 2, 1, {command_entry(3, 1, "other")});
    x.look(1, b);
    CHECK(x.broken() == "log matching");
  }
  SUBCASE("after a restart") {
    auto contents = contents_of(a);
    contents.tail = {command_entry(3, 1, "other")};
    x.watch.on_start(0, member_id('a'), contents, {});
    CHECK(x.broken() == "log matching");
  }
}

TEST_CASE("checker: entries of one index and term after different ones are found") {
  fixture x;
  auto a = keeper_of('a', {1}, 3, true);
  auto b = keeper_of('b', {2}, 3, true);
  x.start(0, a);
  x.start(1, b);
  a.append_entries_of('c', 3, 2, 1, {command_entry(3, 3, "one")});
  b.append_entries_of('c', 3, 2, 2, {command_entry(3, 3, "one")});
  x.look(0, a);
  x.look(1, b);
  CHECK(x.broken() == "log matching");
}

TEST_CASE("checker: a leader that lacks a committed entry is found") {
  fixture x;
  auto a = leader_of('a', {1});
  auto b = keeper_of('b', {1, 2}, 2);
  x.start(0, a);
  x.start(1, b);
  a.acknowledge('b', 3);
  x.look(0, a);
  CHECK(x.watch.committed() == log_index{3});
  SUBCASE("one that has it") {
    auto c = leader_of('c', {1, 2}, 2);
    x.start(2, c);
    x.look(2, c);
    CHECK(x.broken() == "");
  }
  SUBCASE("one that does not") {
    auto c = leader_of('c', {1}, 2);
    x.start(2, c);
    x.look(2, c);
    CHECK(x.broken() == "leader completeness");
  }
}

TEST_CASE("checker: an entry that is committed on too few disks is found") {
  fixture x;
  auto a = leader_of('a', {1});
  x.start(0, a);
  auto b = keeper_of('b', {1});
  x.start(1, b);
  a.acknowledge('b', 3);
  x.look(0, a);
  CHECK(x.broken() == "a committed entry is on a majority of disks");
}

TEST_CASE("checker: what was said and is gone after a restart is found") {
  fixture x;
  auto a = keeper_of('a', {1, 1}, 2);
  x.start(0, a);
  SUBCASE("an acknowledged entry") {
    append_entries_reply reply;
    reply.term = {2};
    reply.success = true;
    reply.match_index = {3};
    x.watch.said(0, *a.operator->(), reply);
    auto before = keeper_of('a', {1}, 2);
    x.start(0, before);
    CHECK(x.broken() == "entries are durable before they are acknowledged");
  }
  SUBCASE("an entry of another term in its place") {
    auto before = keeper_of('a', {1, 2}, 2);
    x.start(0, before);
    CHECK(x.broken() == "entries are durable before they are acknowledged");
  }
  SUBCASE("a term") {
    x.watch.said_term(0, *a.operator->(), {2});
    auto before = keeper_of('a', {1, 1}, 1);
    x.start(0, before);
    CHECK(x.broken() == "terms never go back");
  }
  SUBCASE("a vote") {
    a.request_vote('b', 3, 9, 2);
    x.start(0, a);
    x.look(0, a);
    x.watch.said(0, *a.operator->(), member_id('b'), *a.said<request_vote_reply>());
    CHECK(x.broken() == "");
    auto before = keeper_of('a', {1, 1}, 3);
    x.start(0, before);
    CHECK(x.broken() == "a vote is saved before it is said");
  }
  SUBCASE("membership of the cluster") {
    x.look(0, a);
    auto before = contents_of(a);
    before.founded.reset();
    x.watch.on_start(0, member_id('a'), before, {});
    CHECK(x.broken() == "a formed node stays formed");
  }
}

TEST_CASE("checker: two votes in one term are found") {
  fixture x;
  auto a = keeper_of('a', {1}, 2);
  x.start(0, a);
  a.request_vote('b', 3, 9, 2);
  x.start(0, a);
  x.look(0, a);
  auto reply = *a.said<request_vote_reply>();
  x.watch.said(0, *a.operator->(), member_id('b'), reply);
  CHECK(x.broken() == "");
  x.watch.said(0, *a.operator->(), member_id('c'), reply);
  CHECK(x.broken() != "");
}

TEST_CASE("checker: a commit that goes back, or differs, is found") {
  fixture x;
  auto a = leader_of('a', {1});
  auto b = keeper_of('b', {1, 2}, 2);
  x.start(0, a);
  x.start(1, b);
  a.acknowledge('b', 3);
  x.look(0, a);
  SUBCASE("it goes back") {
    auto earlier = leader_of('a', {1});
    x.look(0, earlier);
    CHECK(x.broken() == "commit never goes back");
  }
  SUBCASE("it is of another entry") {
    auto c = keeper_of('c', {1, 1}, 2);
    x.start(2, c);
    c.append('a', 2, 3, 1, {}, 3);
    x.look(2, c);
    CHECK(x.broken() == "committed logs agree");
  }
}

TEST_CASE("checker: a leader whose votes nobody gave is found") {
  fixture x;
  auto a = leader_of('a', {1});
  x.start(0, a);
  x.look(0, a);
  CHECK(x.broken() == "");
  x.watch.after_election(0, *a.operator->());
  CHECK(x.broken() == "a leader has the votes of a majority");
}

TEST_CASE("checker: a log that begins after what nobody has committed is found") {
  fixture x;
  auto a = keeper_of('a', {1});
  x.start(0, a);
  raft_contents contents;
  contents.incarnation = member_sender('a').incarnation;
  contents.state = {term_number{1}, {}};
  contents.founded = genesis{};
  contents.base = {log_index{2}, term_number{1}, log_index{1}, members_of(3), 0};
  contents.first_index = log_index{3};
  contents.last_index = log_index{2};
  x.watch.on_start(0, member_id('a'), contents, {});
  CHECK(x.broken() == "a log begins after what is committed");
}
