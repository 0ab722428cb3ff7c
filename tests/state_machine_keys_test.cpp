#include "tests/support/state_driver.hpp"

using namespace coordinator;
using namespace coordinator::testing;

namespace {

put_key put(std::string key, std::string value) {
  return {std::move(key), std::move(value), {}, false, false};
}

}  // namespace

TEST_CASE("state machine: a key's version is the index of the entry that wrote it, and comes once") {
  state_driver x;
  auto first = x.run(put("k", "1")).version;
  CHECK(first == x.machine().last_applied().value);
  auto second = x.run(put("k", "2")).version;
  CHECK(second > first);
  CHECK(x.run(delete_key{"k", {}, false}).ok());
  x.restart();
  auto third = x.run(put("k", "2")).version;
  CHECK(third > second);
  auto view = x.get<key_view>(get_key{"k"});
  CHECK(view.value == "2");
  CHECK(view.version == third);
  CHECK(view.updated_ms == x.now_ms);
}

TEST_CASE("state machine: conditions on a key hold or change nothing") {
  state_driver x;
  put_key fresh{"k", "1", {}, true, false};
  auto version = x.run(fresh).version;
  CHECK(x.code(fresh) == result_code::precondition_failed);
  CHECK(x.run(fresh).version == version);
  CHECK(x.code(put_key{"k", "2", version + 1000, false, false}) == result_code::precondition_failed);
  CHECK(x.get<key_view>(get_key{"k"}).value == "1");
  CHECK(x.code(put_key{"k", "2", version, false, false}) == result_code::ok);
  CHECK(x.code(put_key{"k", "3", version, false, false}) == result_code::precondition_failed);
  CHECK(x.code(put_key{"k", "4", {}, false, true}) == result_code::ok);
  CHECK(x.code(put_key{"missing", "1", 7, false, false}) == result_code::precondition_failed);
  CHECK(x.code(put_key{"missing", "1", {}, false, true}) == result_code::precondition_failed);
  CHECK(x.code(delete_key{"k", version, false}) == result_code::precondition_failed);
  CHECK(x.code(delete_key{"missing", 7, false}) == result_code::precondition_failed);
  CHECK(x.code(delete_key{"missing", {}, true}) == result_code::precondition_failed);
  CHECK(x.code(delete_key{"missing", {}, false}) == result_code::not_found);
  CHECK(x.code(delete_key{"k", x.get<key_view>(get_key{"k"}).version, true}) == result_code::ok);
  CHECK(x.get<query_error>(get_key{"k"}).code == query_error::kind::not_found);
}

TEST_CASE("state machine: a list of keys goes page by page and keeps to its prefix") {
  state_driver x;
  for (auto key : {"a", "b/1", "b/2", "b/3", "b/4", "c"})
    x.run(put(key, key));
  std::vector<std::string> seen;
  list_keys query{"b/", "", 3};
  auto page = x.get<key_page>(query);
  CHECK(page.keys.size() == 3);
  CHECK_FALSE(page.next_cursor.empty());
  query.cursor = page.next_cursor;
  page = x.get<key_page>(query);
  REQUIRE(page.keys.size() == 1);
  CHECK(page.keys[0].key == "b/4");
  CHECK(page.next_cursor.empty());
  CHECK(x.get<key_page>(list_keys{"", "", 1000}).keys.size() == 6);
  CHECK(x.get<key_page>(list_keys{"x", "", 10}).keys.empty());
  auto error = x.get<query_error>(list_keys{"", "no cursor", 10});
  CHECK(error.code == query_error::kind::invalid);
  CHECK(error.field == "cursor");
}

TEST_CASE("state machine: a page of keys ends before its values become too many bytes") {
  state_driver x;
  for (int i = 0; i < 12; ++i)
    x.run(put("k" + std::to_string(i), std::string(limits::value_size, 'v')));
  std::size_t seen = 0;
  list_keys query{"", "", 100};
  do {
    auto page = x.get<key_page>(query);
    CHECK(page.keys.size() <= 8);
    seen += page.keys.size();
    query.cursor = page.next_cursor;
  } while (!query.cursor.empty());
  CHECK(seen == 12);
}
