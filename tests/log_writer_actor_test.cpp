#include "actors/log_writer_actor.hpp"

#include <doctest/doctest.h>

#include "tests/support/writers.hpp"

using namespace coordinator;

TEST_CASE("log writer: what a store refuses comes back as words, and the keeper begins anew from what it holds") {
  writers w;
  w.open_log();
  w.append(1, 1);
  w.append(2, 7);  // A gap.
  w.say(w.log, load_log{9, {1}, {1}, 1000});
  auto& logs = w.answers->logs;
  REQUIRE(logs.size() == 2);
  CHECK(logs[0].error == "");
  CHECK(logs[0].number == 1);
  CHECK(logs[0].first_index == log_index{1});
  CHECK_FALSE(logs[1].error.empty());
  CHECK_FALSE(w.answers->loads[0].error.empty());
  w.system.pass(milliseconds{1100});
  REQUIRE(w.seen->recoveries.size() == 1);
  CHECK(w.seen->recoveries[0].contents->last_index == log_index{1});
  // Sent before the keeper heard of it.
  w.append(3, 2, 0);
  CHECK_FALSE(logs[2].error.empty());
  CHECK(logs[2].life == 0);
  w.append(4, 2, w.seen->recoveries[0].life);
  CHECK(logs[3].error == "");
  w.say(w.log, load_log{10, {1}, {2}, 1000});
  REQUIRE(w.answers->loads.size() == 2);
  CHECK(w.answers->loads[1].entries.size() == 2);
}

TEST_CASE("log writer: a full disk is tried again every second until there is room") {
  writers w;
  w.open_log();
  w.append(1, 1);
  w.disk.set_full(true);
  w.append(2, 2, 0, 100'000);
  auto& logs = w.answers->logs;
  REQUIRE(logs.size() == 2);
  CHECK_FALSE(logs[1].error.empty());
  w.append(3, 2);
  CHECK_FALSE(logs[2].error.empty());
  w.system.pass(milliseconds{300});
  CHECK(w.seen->recoveries.empty());
  w.disk.set_full(false);
  w.system.pass(milliseconds{1100});
  REQUIRE(w.seen->recoveries.size() == 1);
  const auto held = w.seen->recoveries[0].contents->last_index;
  CHECK(held >= log_index{1});
  CHECK(held <= log_index{2});
  w.append(4, held.value + 1, 1);
  CHECK(logs.back().error == "");
}

TEST_CASE("log writer: after a failed sync it goes on in a copy, and what was acknowledged survives a power failure") {
  writers w;
  w.open_log();
  for (std::uint64_t i = 1; i <= 20; ++i)
    w.append(i, i);
  w.disk.fail_sync(1);
  w.append(21, 21);
  REQUIRE_FALSE(w.answers->logs.back().error.empty());
  w.system.pass(milliseconds{1100});
  REQUIRE(w.seen->recoveries.size() == 1);
  const auto held = w.seen->recoveries[0].contents->last_index.value;
  CHECK(held >= 20);
  w.append(22, held + 1, 1);
  CHECK(w.answers->logs.back().error == "");
  w.system.kill_all();
  w.disk.crash();
  raft_store_options options;
  options.vfs = w.disk.vfs();
  options.create = false;
  CHECK(raft_store::open("/raft.db", {"n1"}, options)->last_index() == log_index{held + 1});
}

TEST_CASE("log writer: on a damaged log nothing is written any more, and the keeper hears of it at once (rule 11)") {
  writers w;
  w.open_log();
  w.append(1, 1);
  w.say(w.log, log_damaged{"row 1 is not what was written"});
  REQUIRE(w.seen->log_writes.size() == 1);
  CHECK(w.seen->log_writes[0].error == "row 1 is not what was written");
  w.append(2, 2);
  CHECK(w.answers->logs.back().error == "row 1 is not what was written");
  w.system.pass(milliseconds{5000});
  CHECK(w.seen->recoveries.empty());
}
