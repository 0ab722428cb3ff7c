#include <doctest/doctest.h>

#include <algorithm>

#include "persistence/checksum.hpp"
#include "tests/support/scripted_keeper.hpp"

// States on their way from one keeper to another (Raft §7).

using namespace coordinator;

namespace {

constexpr std::uint64_t size = 1000;
using outcome = install_snapshot_reply::outcome;

/// A leader whose log begins after entry 5, with b and c as followers, of which b refuses for lack of what is before.
struct sending {
  sending() {
    keeper.peers_up();
    keeper.become_leader();
    keeper.acknowledge('c', keeper.durable());
    keeper.refuse('b', keeper.durable() - 1, 0, 2);
  }
  void copied(const std::string& file = "snapshot-5.db") {
    keeper.take(keeper->on_copied({file, log_index{5}, term_number{1}, 0, 7, size, {}}, keeper.now()));
  }
  /// The pieces that the keeper asked for are read, and what goes to b is taken.
  std::vector<install_snapshot> read() {
    for (auto& x : std::exchange(keeper.copy_reads, {})) {
      std::string data(x.bytes, 'd');
      auto crc = crc32c(data);
      keeper.take(keeper->on_copy_read(x.request, std::move(data), crc, {}, keeper.now()));
    }
    return sent();
  }
  std::vector<install_snapshot> sent() {
    std::vector<install_snapshot> found;
    for (auto& [to, piece] : keeper.take_said<install_snapshot>())
      if (to == member_id('b'))
        found.push_back(piece);
    return found;
  }
  void answer(std::uint64_t number, std::uint64_t offset, outcome what = outcome::receiving, std::uint64_t match = 0) {
    install_snapshot_reply reply{
        member_sender('b'), keeper->current_term(), keeper->current_term(), number, offset, what, log_index{match}};
    keeper.take(keeper->on_install_snapshot_reply(reply, keeper.now()));
  }

  scripted_keeper keeper{
      {.log = {1, 1, 1, 1, 1, 1}, .last_applied = 7, .base = 5, .snapshot_bytes = 100, .snapshot_window = 300}};
};

/// A follower that applied entry 3, and what a leader sends it.
struct receiving {
  explicit receiving(scripted_keeper_options options = {.log = {1, 1}, .last_applied = 3}) : keeper(options) {
    what.number = 99;
    what.base = {log_index{20}, term_number{1}, log_index{1}, members_of(3), 2'000};
    what.size = size;
    what.checksum = 7;
  }
  install_snapshot piece(std::uint64_t offset, std::uint64_t bytes = 100, char leader = 'b', std::uint64_t term = 1) {
    install_snapshot x{member_sender(leader), term_number{term}, what, offset, std::string(bytes, 'd'), 0};
    x.crc = crc32c(x.data);
    return x;
  }
  void take(install_snapshot x) { keeper.take(keeper->on_install_snapshot(std::move(x), keeper.now())); }
  void stored(std::uint64_t offset) {
    keeper.take(keeper->on_snapshot_stored(what.number, offset, {}, false, keeper.now()));
  }
  void all() {
    for (std::uint64_t offset = 0; offset < size; offset += 100)
      take(piece(offset));
    stored(size);
  }
  void loaded() { keeper.take(keeper->on_snapshot_loaded(what.number, "state-20-1.db", keeper.now())); }
  std::vector<std::uint64_t> offsets() {
    std::vector<std::uint64_t> result;
    for (auto& each : std::exchange(keeper.pieces, {}))
      result.push_back(each.offset);
    return result;
  }

  scripted_keeper keeper;
  snapshot_info what;
};

using offsets = std::vector<std::uint64_t>;

}  // namespace

// -- sending ------------------------------------------------------------------------------

TEST_CASE("replication: who lacks entries that the log still has gets these, and no state (Raft §7)") {
  scripted_keeper keeper{{.log = {1, 1, 1, 1, 1, 1}, .last_applied = 7, .base = 5}};
  keeper.peers_up();
  keeper.become_leader();
  keeper.take_said<append_entries>();
  keeper.refuse('b', keeper.durable() - 1, 0, 6);
  keeper.load();
  auto entries = keeper.said_to<append_entries>('b');
  REQUIRE(entries);
  CHECK_EQ(entries->prev_log_index, log_index{5});
  CHECK_EQ(entries->entries.size(), 3);
  CHECK_EQ(keeper.copies_wanted, 0);
  CHECK_FALSE(keeper.said<install_snapshot>());
}

TEST_CASE("replication: who lacks what the log has dropped gets a copy of the state, in pieces and a bounded window") {
  sending s;
  CHECK_EQ(s.keeper.copies_wanted, 1);
  CHECK(s.sent().empty());
  s.copied();
  // The receiver is asked first how much it has: a transfer may have been broken off.
  auto first = s.sent();
  REQUIRE_EQ(first.size(), 1);
  CHECK(first[0].data.empty());
  CHECK(s.keeper.copy_reads.empty());
  const auto number = first[0].what.number;
  s.answer(number, 0);
  auto pieces = s.read();
  REQUIRE_EQ(pieces.size(), 3);
  CHECK_EQ(pieces[2].offset, 200);
  CHECK_EQ(pieces[2].data.size(), 100);
  CHECK(s.read().empty());
  // As much as was acknowledged goes on.
  s.answer(number, 100);
  CHECK_EQ(s.read().size(), 1);
  s.answer(number, 400);
  CHECK_EQ(s.read().size(), 3);
  CHECK_EQ(s.keeper.copies_wanted, 1);
}

TEST_CASE("replication: while a state is sent, heartbeats and the other peers' entries go on as ever") {
  sending s;
  s.copied();
  s.answer(s.sent().at(0).what.number, 0);
  s.keeper.take_said<append_entries>();
  s.keeper.beats.reset();
  s.keeper.propose({"x"});
  auto entries = s.keeper.said_to<append_entries>('c');
  REQUIRE(entries);
  CHECK_EQ(entries->entries.size(), 1);
  s.keeper.acknowledge('c', s.keeper.durable());
  CHECK_EQ(s.keeper.commit(), s.keeper.durable());
  s.keeper.tick();
  CHECK(s.keeper.beats);
  CHECK_NE(s.keeper.beats->leave, 0);
}

TEST_CASE("replication: a transfer goes on after a broken link where the receiver had got to") {
  sending s;
  s.copied();
  const auto number = s.sent().at(0).what.number;
  s.answer(number, 0);
  CHECK_EQ(s.read().size(), 3);
  s.keeper.take(s.keeper->on_peer_down(member_id('b'), s.keeper.now()));
  s.keeper.tick();
  CHECK(s.sent().empty());
  s.keeper.take(s.keeper->on_peer_up(member_sender('b'), s.keeper.now()));
  auto asked = s.sent();
  REQUIRE_FALSE(asked.empty());
  CHECK(asked[0].data.empty());
  CHECK_EQ(asked[0].what.number, number);
  s.answer(number, 200);
  auto pieces = s.read();
  REQUIRE_FALSE(pieces.empty());
  CHECK_EQ(pieces[0].offset, 200);
  CHECK_EQ(s.keeper.copies_wanted, 1);
}

TEST_CASE("replication: a transfer goes on in a later term of the same sender") {
  sending s;
  s.copied();
  const auto number = s.sent().at(0).what.number;
  s.answer(number, 0);
  s.read();
  s.keeper.append('c', s.keeper.term() + 1, s.keeper.durable(), s.keeper.term());
  REQUIRE_FALSE(s.keeper.leads());
  s.keeper.take(s.keeper->on_peer_down(member_id('c'), s.keeper.now()));
  s.keeper.peers_up();
  s.keeper.advance(milliseconds{1'000});
  s.keeper.become_leader();
  REQUIRE(s.keeper.leads());
  s.keeper.refuse('b', s.keeper.durable() - 1, 0, 2);
  auto asked = s.sent();
  REQUIRE_FALSE(asked.empty());
  CHECK_EQ(asked[0].what.number, number);
  s.answer(number, 600);
  auto pieces = s.read();
  REQUIRE_FALSE(pieces.empty());
  CHECK_EQ(pieces[0].offset, 600);
  CHECK_EQ(s.keeper.copies_wanted, 1);
}

TEST_CASE("replication: pieces that were lost are asked after and sent again") {
  sending s;
  s.copied();
  const auto number = s.sent().at(0).what.number;
  s.answer(number, 0);
  CHECK_EQ(s.read().size(), 3);
  s.keeper.advance(milliseconds{400});
  s.keeper.acknowledge('c', s.keeper.durable());
  s.keeper.tick();
  REQUIRE_EQ(s.sent().size(), 1);
  s.answer(number, 100);
  auto again = s.read();
  REQUIRE_FALSE(again.empty());
  CHECK_EQ(again[0].offset, 100);
}

TEST_CASE("replication: one that installed the state gets the log from there, one whose copy was no good a new copy") {
  sending s;
  s.copied();
  const auto number = s.sent().at(0).what.number;
  s.answer(number, size);
  s.keeper.take_said<append_entries>();
  SUBCASE("installed") {
    s.answer(number, size, outcome::installed, 5);
    s.keeper.load();
    auto entries = s.keeper.said_to<append_entries>('b');
    REQUIRE(entries);
    CHECK_EQ(entries->prev_log_index, log_index{5});
    CHECK(s.keeper.spent_copies.empty());
  }
  SUBCASE("damaged") {
    s.answer(number, size, outcome::damaged);
    CHECK_EQ(s.keeper.spent_copies.size(), 1);
    s.keeper.refuse('b', s.keeper.durable(), 0, 2);
    CHECK_EQ(s.keeper.copies_wanted, 1);
    s.keeper.advance(milliseconds{1'000});
    s.keeper.acknowledge('c', s.keeper.durable());
    s.keeper.tick();
    CHECK_EQ(s.keeper.copies_wanted, 2);
  }
}

TEST_CASE("replication: the copy after one that was found damaged is checked before it goes") {
  sending s;
  s.copied();
  const auto number = s.sent().at(0).what.number;
  s.answer(number, size, outcome::damaged);
  CHECK(s.keeper.copies_to_check.empty());
  s.keeper.refuse('b', s.keeper.durable(), 0, 2);
  s.keeper.advance(milliseconds{1'000});
  s.keeper.acknowledge('c', s.keeper.durable());
  s.keeper.tick();
  REQUIRE_EQ(s.keeper.copies_wanted, 2);
  s.keeper.spent_copies.clear();
  s.sent();
  s.copied("snapshot-5-2.db");
  CHECK_EQ(s.keeper.copies_to_check, std::vector<std::string>{"snapshot-5-2.db"});
  s.keeper.tick();
  CHECK(s.sent().empty());
  auto checked = [&](const std::string& file, const std::string& damage, const std::string& error) {
    s.keeper.take(s.keeper->on_copy_checked(file, damage, error, s.keeper.now()));
  };
  SUBCASE("it is whole: the other one was spoilt on its way") {
    checked("snapshot-5-2.db", {}, {});
    REQUIRE_EQ(s.sent().size(), 1);
    CHECK_EQ(s.keeper->state_error(), "");
    CHECK(s.keeper.spent_copies.empty());
  }
  SUBCASE("it is damaged, too: the state of this node is, and another one is to lead") {
    checked("snapshot-5-2.db", "a page is torn", {});
    CHECK_NE(s.keeper->state_error().find("a page is torn"), std::string::npos);
    CHECK_FALSE(s.keeper.leads());
    CHECK(s.sent().empty());
    CHECK_EQ(s.keeper.spent_copies, std::vector<std::string>{"snapshot-5-2.db"});
  }
  SUBCASE("it cannot be read: another one is made") {
    checked("snapshot-5-2.db", {}, "no such file");
    CHECK_EQ(s.keeper->state_error(), "");
    CHECK(s.keeper.leads());
    CHECK_EQ(s.keeper.spent_copies, std::vector<std::string>{"snapshot-5-2.db"});
    s.keeper.advance(milliseconds{1'000});
    s.keeper.acknowledge('c', s.keeper.durable());
    s.keeper.tick();
    CHECK_EQ(s.keeper.copies_wanted, 3);
  }
  SUBCASE("what is said of another one does not count") {
    checked("snapshot-5.db", "a page is torn", {});
    CHECK_EQ(s.keeper->state_error(), "");
    CHECK(s.keeper.leads());
    CHECK(s.sent().empty());
  }
}

TEST_CASE("replication: what is said of a snapshot in an older term, or by another disk's namesake, does not count") {
  sending s;
  s.copied();
  const auto number = s.sent().at(0).what.number;
  install_snapshot_reply reply{
      member_sender('b'), s.keeper->current_term(), s.keeper->current_term() - 1, number, size, outcome::installed,
      log_index{7}};
  s.keeper.take(s.keeper->on_install_snapshot_reply(reply, s.keeper.now()));
  reply.answers_term = s.keeper->current_term();
  reply.from.incarnation = incarnation_id{77};
  s.keeper.take(s.keeper->on_install_snapshot_reply(reply, s.keeper.now()));
  auto view = s.keeper->view(1, s.keeper.now());
  CHECK_EQ(view.members[1].match_index, log_index{});
}

// -- receiving ----------------------------------------------------------------------------

TEST_CASE("replication: a state is installed by one write that begins the log after it, and said only then (Raft §7)") {
  receiving r{{.log = {1, 1}, .last_applied = 3, .slow_disk = true}};
  r.all();
  CHECK_EQ(r.offsets().size(), 10);
  r.loaded();
  auto write = r.keeper.write_under_way();
  REQUIRE(write);
  REQUIRE(write->install);
  CHECK_EQ(write->install->base.index, log_index{20});
  CHECK_FALSE(write->install->keep_suffix);
  CHECK_EQ(write->state_file, "state-20-1.db");
  for (auto& [to, reply] : r.keeper.take_said<install_snapshot_reply>())
    CHECK_NE(reply.result, outcome::installed);
  CHECK(r.keeper.installed.empty());
  r.keeper.write();
  CHECK_EQ(r.keeper.installed.size(), 1);
  auto reply = r.keeper.said<install_snapshot_reply>();
  REQUIRE(reply);
  CHECK_EQ(reply->result, outcome::installed);
  CHECK_EQ(reply->match_index, log_index{20});
  CHECK_EQ(r.keeper->handed(), log_index{20});
}

TEST_CASE("replication: a piece that is cut, doubled, spoilt, late or after a gap is not stored") {
  receiving r;
  r.take(r.piece(0));
  CHECK_EQ(r.offsets(), offsets{0});
  auto cut = r.piece(100);
  cut.data.resize(40);
  r.take(cut);
  auto spoilt = r.piece(100);
  spoilt.data[5] ^= 1;
  r.take(spoilt);
  r.take(r.piece(0));
  r.take(r.piece(200));
  auto beyond = r.piece(100, size);
  r.take(beyond);
  CHECK(r.offsets().empty());
  r.take(r.piece(100));
  CHECK_EQ(r.offsets(), offsets{100});
}

TEST_CASE("replication: a snapshot that comes behind a newer one, or behind what was applied, changes nothing") {
  receiving r;
  auto newer = r.what;
  newer.number = 100;
  newer.base.index = log_index{30};
  auto older = r.what;
  r.what = newer;
  r.take(r.piece(0));
  CHECK_EQ(r.offsets(), offsets{0});
  r.what = older;
  r.take(r.piece(0));
  CHECK(r.offsets().empty());
  CHECK(r.keeper.discards.empty());
  // At or below what was applied.
  r.what.number = 101;
  r.what.base.index = log_index{3};
  r.take(r.piece(0));
  CHECK(r.offsets().empty());
  auto reply = r.keeper.said<install_snapshot_reply>();
  REQUIRE(reply);
  CHECK_EQ(reply->result, outcome::useless);
}

TEST_CASE("replication: a snapshot that was overtaken by the log while it came is not installed") {
  receiving r;
  r.all();
  std::vector<std::uint64_t> entries(22, 1);
  r.keeper.append('b', 1, 3, 1, entries, 25);
  REQUIRE_EQ(r.keeper->handed(), log_index{25});
  r.loaded();
  CHECK(r.keeper.installed.empty());
  CHECK_EQ(r.keeper.discards, std::vector<std::uint64_t>{99});
  CHECK_EQ(r.keeper->log().base().index, log_index{});
}

TEST_CASE("replication: a deposed leader's snapshot is refused with the later term") {
  receiving r;
  r.take(r.piece(0));
  CHECK_EQ(r.offsets(), offsets{0});
  r.keeper.append('c', 4, 3, 1);
  r.keeper.take_said<install_snapshot_reply>();
  r.take(r.piece(100));
  CHECK(r.offsets().empty());
  auto reply = r.keeper.said_to<install_snapshot_reply>('b');
  REQUIRE(reply);
  CHECK_EQ(reply->term, term_number{4});
  CHECK_EQ(r.keeper->leader(), member_id('c'));
}

TEST_CASE("replication: a second sender of one term is no leader, and its snapshot is not taken") {
  receiving r;
  r.keeper.append('c', 1, 3, 1);
  r.take(r.piece(0));
  CHECK(r.offsets().empty());
  CHECK_EQ(r.keeper->leader(), member_id('c'));
}

TEST_CASE("replication: a transfer that begins again is told how much has come, across terms of the same sender") {
  receiving r;
  for (std::uint64_t offset : {0, 100, 200})
    r.take(r.piece(offset));
  r.stored(300);
  r.keeper.take_said<install_snapshot_reply>();
  r.take(r.piece(0, 0, 'b', 3));
  auto reply = r.keeper.said<install_snapshot_reply>();
  REQUIRE(reply);
  CHECK_EQ(reply->offset, 300);
  CHECK_EQ(reply->answers_term, term_number{3});
  r.offsets();
  r.take(r.piece(300, 100, 'b', 3));
  CHECK_EQ(r.offsets(), offsets{300});
}

TEST_CASE("replication: a transfer goes on where a keeper before this one had got to") {
  receiving r;
  // raft.db was mended meanwhile: this keeper knows of no piece, and what stores them has six.
  r.take(r.piece(0));
  r.take(r.piece(100));
  r.stored(600);
  r.offsets();
  r.take(r.piece(600));
  r.take(r.piece(700));
  CHECK_EQ(r.offsets(), offsets{600, 700});
}

TEST_CASE("replication: what follows a snapshot and matches it stays, and what does not goes (Raft §7)") {
  // The log reaches beyond the snapshot, which is ahead of what was committed and applied here.
  receiving r{{.log = std::vector<std::uint64_t>(24, 1), .last_applied = 3, .slow_disk = true}};
  bool matches = true;
  SUBCASE("matches") {}
  SUBCASE("differs") {
    matches = false;
    r.what.base.term = term_number{2};
  }
  r.keeper.append('b', 2, 3, 1);
  r.keeper.write();
  for (std::uint64_t offset = 0; offset < size; offset += 100)
    r.take(r.piece(offset, 100, 'b', 2));
  r.stored(size);
  r.loaded();
  REQUIRE(r.keeper.write_under_way());
  CHECK_EQ(r.keeper.write_under_way()->install->keep_suffix, matches);
  r.keeper.write();
  CHECK_EQ(r.keeper->log().last_index(), log_index{matches ? 25u : 20u});
}
