#include "actors/commands.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <set>

#include "actors/cursor.hpp"

using namespace coordinator;

namespace {

/// One of each body, with every field set.
std::vector<command_body> one_of_each() {
  task_spec spec{"t1",   "run",  "unit",
                 -5,     {"t0"}, {{"cuda", true}, {"memory_gb", 16.5}, {"os", "linux"}},
                 60'000, 2,      R"({"command":["a"]})"};
  worker_figures figures{"w1", 123, 0.25, 99.5, 1, "t1"};
  return {
      tick{},
      open_session{node_id{"n1"}, incarnation_id{77}, 99},
      put_key{"k", std::string("\0v", 2), 5, true, true},
      delete_key{"k", 9, true},
      register_worker{"w1", "host", 80, {{"cpu", 8}}, "[]", 4, worker_status::busy},
      set_worker_status{"w1", worker_status::running, "t1"},
      drain_worker{"w1"},
      remove_worker{"w1"},
      submit_tasks{{spec}},
      claim_tasks{"w1", 3},
      complete_task{"t1", "w1", 1, "{}"},
      fail_task{"t1", "w1", 1, "broken", false, "{}"},
      cancel_task{"t1"},
      mark_running{{{"t1", 1}}},
      expire_attempts{{{{"t1", 1}, attempt_outcome::timeout}}},
      mark_offline{{"w1"}},
      report_figures{{figures}},
      set_maintenance{true},
      retire_tasks{1'700'000'000'000, 500},
      set_storage_alarm{true},
  };
}

command wrap(command_body body) {
  return {3, 4, 2, "key", 0xfeedfacecafebeef, std::move(body)};
}

std::string field_of(const command_body& x) {
  auto result = validate(x);
  return result.ok() ? "" : result.field;
}

submit_tasks batch(task_spec x) {
  return {{std::move(x)}};
}

task_spec good_task() {
  task_spec x;
  x.task_id = "t";
  return x;
}

}  // namespace

TEST_CASE("commands: every body comes back from its bytes as it was") {
  std::set<std::string_view> names;
  for (auto& body : one_of_each()) {
    auto bytes = encode(wrap(body));
    auto back = decode(bytes);
    REQUIRE(back);
    CHECK(encode(*back) == bytes);
    CHECK(back->body.index() == body.index());
    CHECK(back->session == 3);
    CHECK(back->request_hash == 0xfeedfacecafebeef);
    CHECK(validate(back->body).ok());
    names.insert(name_of(body));
  }
  CHECK(names.size() == std::variant_size_v<command_body>);
  auto back = decode(encode(wrap(one_of_each()[8])));
  auto& spec = std::get<submit_tasks>(back->body).tasks.at(0);
  CHECK(spec.priority == -5);
  CHECK(std::get<decimal>(spec.requirements.at("memory_gb")).value() == 16.5);
  CHECK(std::get<bool>(spec.requirements.at("cuda")));
  CHECK(std::get<std::string>(spec.requirements.at("os")) == "linux");
}

TEST_CASE("commands: damaged bytes and unknown versions decode to nothing or to something that encodes again") {
  for (auto& body : one_of_each()) {
    auto bytes = encode(wrap(body));
    CHECK_FALSE(decode(""));
    CHECK_FALSE(decode(bytes + "x"));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      auto cut = decode(std::string_view{bytes}.substr(0, i));
      if (cut)
        CHECK_FALSE(encode(*cut).empty());
      for (char flip : {'\x01', '\x80', '\xff'}) {
        auto damaged = bytes;
        damaged[i] = static_cast<char>(damaged[i] ^ flip);
        auto other = decode(damaged);
        CHECK(!(i == 0 && other));
        if (other)
          CHECK_FALSE(encode(*other).empty());
      }
    }
  }
}

TEST_CASE("commands: words of statuses and results are stable and can be read back") {
  for (std::size_t i = 0; i < task_status_count; ++i) {
    auto x = static_cast<task_status>(i);
    CHECK(task_status_from(to_string(x)) == x);
  }
  for (int i = 0; i < 5; ++i) {
    auto x = static_cast<worker_status>(i);
    CHECK(worker_status_from(to_string(x)) == x);
  }
  CHECK_FALSE(task_status_from("Pending"));
  CHECK(to_string(result_code::stale_attempt) == "stale_attempt");
  CHECK(to_string(result_code::too_many_idempotency_keys) == "too_many_idempotency_keys");
  CHECK(to_string(result_code::unreadable) == "unreadable");
  CHECK(to_string(attempt_outcome::timeout) == "timeout");
  CHECK(to_string(static_cast<result_code>(200)) == "unknown");
}

TEST_CASE("commands: numbers are kept in millionths and nothing breaks them") {
  CHECK(decimal{0.29}.millionths == 290'000);
  CHECK(decimal{std::numeric_limits<double>::quiet_NaN()}.millionths == 0);
  CHECK(decimal{std::numeric_limits<double>::infinity()}.millionths == 2'000'000'000'000'000'000);
  for (std::int64_t n : {1LL, -1LL, 289'999LL, 123'456'789'012'345'678LL / 100})
    CHECK(decimal{decimal{static_cast<double>(n) / 1e6}.value()}.millionths == n);
}

TEST_CASE("commands: validation names the field at fault") {
  auto x = good_task();
  CHECK(field_of(batch(x)).empty());
  x.task_id = "";
  CHECK(field_of(batch(x)) == "tasks[0].task_id");
  x.task_id = "a/b ü";
  CHECK(field_of(batch(x)).empty());
  x.task_id = std::string(257, 'a');
  CHECK(field_of(batch(x)) == "tasks[0].task_id");
  x.task_id = "a\nb";
  CHECK(field_of(batch(x)) == "tasks[0].task_id");
  x = good_task();
  x.timeout_ms = -1;
  CHECK(field_of(batch(x)) == "tasks[0].timeout_ms");
  x = good_task();
  x.max_attempts = 0;
  CHECK(field_of(batch(x)) == "tasks[0].max_attempts");
  x = good_task();
  x.depends_on = {"fine", ""};
  CHECK(field_of(batch(x)) == "tasks[0].depends_on[1]");
  x = good_task();
  x.requirements["n"] = 1e13;
  CHECK(field_of(batch(x)) == "tasks[0].worker_requirements.capabilities.n");
  CHECK(field_of(submit_tasks{}) == "tasks");
  CHECK(field_of(submit_tasks{{good_task(), good_task()}}) == "tasks[1].task_id");
  CHECK(field_of(put_key{"", "v", {}, false, false}) == "key");
  CHECK(field_of(put_key{"k", std::string(limits::value_size + 1, 'x'), {}, false, false}) == "value");
  CHECK(field_of(put_key{"k", std::string(limits::value_size, 'x'), {}, false, false}).empty());
  register_worker w;
  w.worker_id = "w";
  CHECK(field_of(w).empty());
  w.slots = 0;
  CHECK(field_of(w) == "slots");
  w.slots = 1;
  w.status = worker_status::offline;
  CHECK(field_of(w) == "status");
  w.status = worker_status::idle;
  w.port = 70'000;
  CHECK(field_of(w) == "port");
  CHECK(field_of(claim_tasks{"w", 0}) == "max_tasks");
  CHECK(field_of(claim_tasks{"", 1}) == "worker_id");
  CHECK(field_of(expire_attempts{{{{"t", 1}, attempt_outcome::completed}}}) == "attempts");
}

TEST_CASE("commands: ids are clean UTF-8") {
  CHECK(is_valid_id("a"));
  CHECK(is_valid_id("grüße/日本/😀"));
  CHECK_FALSE(is_valid_id(""));
  CHECK_FALSE(is_valid_id(std::string_view("a\0b", 3)));
  CHECK_FALSE(is_valid_id("\x7f"));
  CHECK_FALSE(is_valid_id("\xc0\xaf"));          // overlong
  CHECK_FALSE(is_valid_id("\xe0\x80\xaf"));      // overlong
  CHECK_FALSE(is_valid_id("\xed\xa0\x80"));      // a surrogate
  CHECK_FALSE(is_valid_id("\xf4\x90\x80\x80"));  // past U+10FFFF
  CHECK_FALSE(is_valid_id("\xe3\x81"));          // cut short
  CHECK_FALSE(is_valid_id("\xff"));
}

TEST_CASE("commands: what a worker offers meets what a task asks for") {
  capability_map offered{{"cpu", 8}, {"cuda", true}, {"os", "linux"}, {"none", 0}, {"off", false}};
  CHECK(meets(offered, {}));
  CHECK(meets(offered, {{"cpu", 8}}));
  CHECK(meets(offered, {{"cpu", 7.5}, {"os", "linux"}}));
  CHECK_FALSE(meets(offered, {{"cpu", 8.000001}}));
  CHECK(meets(offered, {{"cpu", true}, {"cuda", true}, {"os", true}}));
  CHECK_FALSE(meets(offered, {{"none", true}}));
  CHECK_FALSE(meets(offered, {{"off", true}}));
  CHECK_FALSE(meets(offered, {{"missing", true}}));
  CHECK(meets(offered, {{"off", false}, {"missing", false}}));
  CHECK_FALSE(meets(offered, {{"cuda", false}}));
  CHECK_FALSE(meets(offered, {{"os", "windows"}}));
  CHECK_FALSE(meets(offered, {{"cuda", 1}}));
  CHECK_FALSE(meets({{"cuda", true}}, {{"cuda", "true"}}));
}

TEST_CASE("commands: cursors are words of letters, digits, _ and -, and only our own are read") {
  for (auto& position : std::vector<std::string>{"", "a", "ab", "abc", "a/ü\x01\xff", std::string("\0\0", 2)}) {
    auto cursor = make_cursor(position);
    CHECK(cursor.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") ==
          std::string::npos);
    CHECK_FALSE(cursor.empty());
    CHECK(read_cursor(cursor) == position);
  }
  CHECK_FALSE(read_cursor(""));
  CHECK_FALSE(read_cursor("x"));
  CHECK_FALSE(read_cursor("c!"));
  CHECK_FALSE(read_cursor("cYQx"));
}
