#include <doctest/doctest.h>

#include "actors/raft_log.hpp"
#include "persistence/codec.hpp"

using namespace coordinator;

namespace {

log_entry entry(std::uint64_t index, std::uint64_t term, std::string payload = "x") {
  return {log_index{index}, term_number{term}, entry_kind::command, static_cast<std::int64_t>(index * 10),
          std::move(payload)};
}

log_entry members_entry(std::uint64_t index, std::uint64_t term, std::size_t count) {
  membership m;
  for (std::size_t i = 0; i < count; ++i)
    m.members.push_back({{std::string(1, static_cast<char>('a' + i))}, incarnation_id{1}, "h", "c", true});
  return {log_index{index}, term_number{term}, entry_kind::membership, 0, to_bytes(m)};
}

/// A log of entries with these terms, from index 1.
raft_log log_of(const std::vector<std::uint64_t>& terms, std::size_t budget = 1 << 20) {
  raft_log log{raft_contents{}, budget};
  for (auto term : terms)
    log.append(entry(log.last_index().value + 1, term));
  return log;
}

}  // namespace

TEST_CASE("raft_log: an empty log ends at 0 in term 0") {
  auto log = log_of({});
  CHECK_EQ(log.last_index(), log_index{0});
  CHECK_EQ(log.last_term(), term_number{0});
  CHECK_EQ(log.first_index(), log_index{1});
  CHECK_EQ(log.members_index(), log_index{0});
}

TEST_CASE("raft_log: knows the term of every entry, and none outside") {
  auto log = log_of({1, 1, 3, 3, 3, 7});
  std::vector<std::uint64_t> terms;
  for (std::uint64_t i = 0; i < 9; ++i)
    terms.push_back(log.term_at(log_index{i}).value);
  CHECK_EQ(terms, std::vector<std::uint64_t>{0, 1, 1, 3, 3, 3, 7, 0, 0});
  CHECK_EQ(log.last_term(), term_number{7});
}

TEST_CASE("raft_log: finds where a term begins and ends") {
  auto log = log_of({1, 1, 3, 3, 3, 7});
  CHECK_EQ(log.first_of_term_at(log_index{5}), log_index{3});
  CHECK_EQ(log.first_of_term_at(log_index{2}), log_index{1});
  CHECK_EQ(log.first_of_term_at(log_index{6}), log_index{6});
  CHECK_EQ(log.last_of_term(term_number{3}, log_index{6}), log_index{5});
  CHECK_EQ(log.last_of_term(term_number{3}, log_index{4}), log_index{4});
  CHECK_EQ(log.last_of_term(term_number{3}, log_index{2}), log_index{0});
  CHECK_EQ(log.last_of_term(term_number{7}, log_index{9}), log_index{6});
  CHECK_EQ(log.last_of_term(term_number{2}, log_index{6}), log_index{0});
  CHECK_EQ(log.last_of_term(term_number{9}, log_index{6}), log_index{0});
}

TEST_CASE("raft_log: a truncation takes entries, terms and memberships back (rule 8)") {
  raft_log log{raft_contents{}, 1 << 20};
  log.append(members_entry(1, 1, 3));
  log.append(entry(2, 1));
  log.append(members_entry(3, 2, 4));
  log.append(entry(4, 2));
  CHECK_EQ(log.members().members.size(), 4);
  CHECK_EQ(log.members_index(), log_index{3});
  log.truncate_from(log_index{3});
  CHECK_EQ(log.last_index(), log_index{2});
  CHECK_EQ(log.last_term(), term_number{1});
  CHECK_EQ(log.members().members.size(), 3);
  CHECK_EQ(log.members_index(), log_index{1});
  log.append(entry(3, 5));
  CHECK_EQ(log.term_at(log_index{3}), term_number{5});
}

TEST_CASE("raft_log: time never decreases, not even by a truncation") {
  auto log = log_of({1, 1, 1});
  CHECK_EQ(log.last_time_ms(), 30);
  log.truncate_from(log_index{2});
  CHECK_EQ(log.last_time_ms(), 30);
  log.append({log_index{2}, term_number{2}, entry_kind::noop, 5, {}});
  CHECK_EQ(log.last_time_ms(), 30);
}

TEST_CASE("raft_log: hands out entries within a byte limit, but one at least") {
  raft_log log{raft_contents{}, 1 << 20};
  for (std::uint64_t i = 1; i <= 5; ++i)
    log.append(entry(i, 1, std::string(100, 'x')));
  auto count = [&](std::size_t bytes) { return log.entries(log_index{2}, log_index{5}, bytes)->size(); };
  CHECK_EQ(count(1), 1);
  CHECK_EQ(count(200), 2);
  CHECK_EQ(count(1000), 4);
  CHECK_EQ(log.entries(log_index{2}, log_index{3}, 1000)->back().index, log_index{3});
}

TEST_CASE("raft_log: keeps the newest entries within its budget, and those that are not durable beyond it") {
  auto log = log_of({}, 2'000);
  log.keep_from(log_index{1});
  for (std::uint64_t i = 1; i <= 50; ++i)
    log.append(entry(i, 1, std::string(100, 'x')));
  CHECK(log.entries(log_index{1}, log_index{50}, 1 << 20));
  log.keep_from(log_index{31});
  // Not durable: still there, all of them.
  CHECK(log.entries(log_index{31}, log_index{50}, 1 << 20));
  CHECK_FALSE(log.entries(log_index{30}, log_index{50}, 1 << 20));
  log.keep_from(log_index{51});
  CHECK_FALSE(log.entries(log_index{31}, log_index{50}, 1 << 20));
  CHECK(log.entries(log_index{50}, log_index{50}, 1 << 20));
  CHECK_EQ(log.term_at(log_index{1}), term_number{1});
}

TEST_CASE("raft_log: what replaces a truncated entry is kept until it is durable") {
  auto log = log_of({1, 1, 1, 1}, 1);
  log.keep_from(log_index{5});
  log.truncate_from(log_index{2});
  log.append(entry(2, 2));
  log.append(entry(3, 2));
  auto kept = log.entries(log_index{2}, log_index{3}, 1 << 20);
  REQUIRE(kept);
  CHECK_EQ(kept->front().term, term_number{2});
}

TEST_CASE("raft_log: goes on from what a file held") {
  raft_contents contents;
  contents.first_index = log_index{101};
  contents.base = {log_index{100}, term_number{3}, log_index{1}, {}, 70};
  contents.last_index = log_index{120};
  contents.terms = {{log_index{101}, term_number{4}}, {log_index{110}, term_number{6}}};
  contents.memberships = {members_entry(105, 4, 5)};
  contents.last_time_ms = 77;
  contents.tail = {entry(119, 6), entry(120, 6)};
  raft_log log{std::move(contents), 1 << 20};
  CHECK_EQ(log.first_index(), log_index{101});
  CHECK_EQ(log.term_at(log_index{100}), term_number{3});
  CHECK_EQ(log.term_at(log_index{99}), term_number{0});
  CHECK_EQ(log.term_at(log_index{109}), term_number{4});
  CHECK_EQ(log.first_of_term_at(log_index{109}), log_index{101});
  CHECK_EQ(log.members().members.size(), 5);
  CHECK_FALSE(log.entries(log_index{118}, log_index{120}, 1 << 20));
  CHECK_EQ(log.entries(log_index{119}, log_index{120}, 1 << 20)->size(), 2);
  log.append(entry(121, 6));
  CHECK_EQ(log.last_index(), log_index{121});
}
