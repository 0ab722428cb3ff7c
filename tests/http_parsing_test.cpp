#include <doctest/doctest.h>

#include "http/command_json.hpp"
#include "http/json_reader.hpp"
#include "http/render.hpp"
#include "http/request_head.hpp"
#include "http/router.hpp"
#include "http/task_json.hpp"
#include "http/uri.hpp"

using namespace coordinator;
using nlohmann::json;

namespace {

problem submission_problem(const std::string& text) {
  auto parsed = parse_object(text);
  if (auto wrong = std::get_if<problem>(&parsed))
    return *wrong;
  auto read = read_submission(std::get<json>(parsed));
  return std::holds_alternative<problem>(read) ? std::get<problem>(read) : problem{200, {}, {}, {}, {}, {}};
}

task_spec single(const std::string& text) {
  auto read = read_submission(json::parse(text));
  REQUIRE(std::holds_alternative<submission>(read));
  return std::get<submission>(read).command.tasks.at(0);
}

}  // namespace

TEST_CASE("uri: percent-encoding is decoded once, and a broken one refused") {
  CHECK(percent_decode("a%2Fb%20+%25") == "a/b +%");
  for (auto text : {"%", "%2", "%zz", "a%2", "%%41"})
    CHECK_FALSE(percent_decode(text));
  CHECK(split_path("/api/kv/a%2Fb").size() == 3);
  CHECK(split_path("/") == std::vector<std::string_view>{""});
}

TEST_CASE("uri: a query is names and values") {
  auto query = parse_query("a=1&b=x+y%26&&c&d=");
  REQUIRE(query);
  CHECK(query->size() == 4);
  CHECK((*query)[1].second == "x y&");
  CHECK((*query)[2].second.empty());
  CHECK_FALSE(parse_query("a=%f"));
  CHECK_FALSE(parse_query("a=%ff"));
}

TEST_CASE("uri: UTF-8 is checked to the letter") {
  CHECK(is_utf8("aä€😀"));
  for (std::string_view text : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                "\xf0\x80\x80\x80", "\xff", "a\xc3("}) {
    CAPTURE(text.size());
    CHECK_FALSE(is_utf8(text));
  }
}

TEST_CASE("uri: ids have no slash, no control character, and an end") {
  for (auto id : {"a", "unit: a case (Raft §5.3)", "ä-😀", "...", "a b"})
    CHECK(why_no_id(id).empty());
  for (std::string id : {"", "a/b", "a\nb", "\x7f", "\xc2\x85", " a", "a ", ".", "..", "\xff"}) {
    CAPTURE(id);
    CHECK_FALSE(why_no_id(id).empty());
  }
  CHECK_FALSE(why_no_id(std::string{"a\0b", 3}).empty());
  CHECK(why_no_id(std::string(256, 'x')).empty());
  CHECK_FALSE(why_no_id(std::string(257, 'x')).empty());
  CHECK(why_no_key("locks/gpu 0").empty());
  CHECK_FALSE(why_no_key("a\tb").empty());
}

TEST_CASE("json: bodies that are no JSON are 400 and say where") {
  for (std::string text : {"", "{", "{\"a\":1,}", "[1", "nul", "{\"a\":1} x", "{\"a\":\"\xff\"}", "{\"a\":\"\\ud800\"}",
                           "{'a':1}", "{\"a\":NaN}", "{\"a\":1e999}", "\"\x01\"", "[]", "1"}) {
    CAPTURE(text);
    auto parsed = parse_object(text);
    REQUIRE(std::holds_alternative<problem>(parsed));
    CHECK(std::get<problem>(parsed).status == 400);
  }
  CHECK(std::holds_alternative<json>(parse_object("", true)));
}

TEST_CASE("json: nesting bombs are refused before they are parsed") {
  std::string bomb(1'000'000, '[');
  CHECK(std::holds_alternative<problem>(parse_json(bomb)));
  std::string objects;
  for (int i = 0; i < 65; ++i)
    objects += "{\"a\":";
  CHECK(std::get<problem>(parse_json(objects + "1" + std::string(65, '}'))).detail.find("nested") != std::string::npos);
  CHECK(std::holds_alternative<json>(parse_json(std::string(64, '[') + std::string(64, ']'))));
  // Brackets inside a string are text.
  CHECK(std::holds_alternative<json>(parse_json("[\"\\\"" + std::string(1000, '[') + "\"]")));
}

TEST_CASE("json: a task keeps what it came with") {
  auto spec = single(R"({"task_id":"t","run_id":"r","type":"unit","priority":-3,"command":["sh","-c","x"],
    "env":{"A":"b"},"worker_requirements":{"capabilities":["cuda"],"memory_gb":16},"depends_on":["d"],"timeout_ms":100,
    "max_attempts":5,"note":{"any":[1.5,null]}})");
  CHECK(spec.task_id == "t");
  CHECK(spec.run_id == "r");
  CHECK(spec.priority == -3);
  CHECK(spec.depends_on == std::vector<std::string>{"d"});
  CHECK(spec.timeout_ms == 100);
  CHECK(spec.max_attempts == 5);
  CHECK(spec.requirements.at("cuda") == capability{true});
  CHECK(spec.requirements.at("memory_gb") == capability{decimal{16}});
  CHECK(json::parse(spec.spec_json)["note"] == json::parse(R"({"any":[1.5,null]})"));
}

TEST_CASE("json: a task needs only a command, and is given an id") {
  auto first = single(R"({"command":["true"]})");
  auto second = single(R"({"command":["true"]})");
  CHECK(first.task_id.size() == 32);
  CHECK(first.task_id != second.task_id);
  CHECK(json::parse(first.spec_json)["task_id"] == first.task_id);
  CHECK(first.max_attempts == 3);
}

TEST_CASE("json: the same task in another order of fields is the same text") {
  CHECK(single(R"({"task_id":"t","command":["true"],"x":1})").spec_json ==
        single(R"({ "x" : 1, "command":["true"], "task_id":"t" })").spec_json);
}

TEST_CASE("json: what is wrong with a task is named") {
  struct bad {
    std::string text;
    int status;
    std::string field;
  };
  for (auto& [text, status, field] : std::vector<bad>{
           {R"({})", 422, "command"},
           {R"({"command":null})", 422, "command"},
           {R"({"command":"ls"})", 400, "command"},
           {R"({"command":[]})", 422, "command"},
           {R"({"command":[""]})", 422, "command[0]"},
           {R"({"command":["a",1]})", 400, "command[1]"},
           {R"({"command":["a\u0000b"]})", 422, "command[0]"},
           {R"({"command":["a"],"task_id":"a/b"})", 422, "task_id"},
           {R"({"command":["a"],"task_id":"a\nb"})", 422, "task_id"},
           {R"({"command":["a"],"task_id":7})", 400, "task_id"},
           {R"({"command":["a"],"task_id":"claim"})", 422, "task_id"},
           {R"({"command":["a"],"task_id":""})", 422, "task_id"},
           {R"({"command":["a"],"timeout_ms":-1})", 422, "timeout_ms"},
           {R"({"command":["a"],"timeout_ms":1e300})", 422, "timeout_ms"},
           {R"({"command":["a"],"timeout_ms":1.5})", 400, "timeout_ms"},
           {R"({"command":["a"],"timeout_ms":"1"})", 400, "timeout_ms"},
           {R"({"command":["a"],"timeout_ms":18446744073709551615})", 422, "timeout_ms"},
           {R"({"command":["a"],"timeout_ms":99999999999999999999999})", 422, "timeout_ms"},
           {R"({"command":["a"],"priority":2147483648})", 422, "priority"},
           {R"({"command":["a"],"priority":18446744073709551611})", 422, "priority"},
           {R"({"command":["a"],"max_attempts":0})", 422, "max_attempts"},
           {R"({"command":["a"],"max_attempts":true})", 400, "max_attempts"},
           {R"({"command":["a"],"depends_on":"x"})", 400, "depends_on"},
           {R"({"command":["a"],"depends_on":["x",""]})", 422, "depends_on[1]"},
           {R"({"command":["a"],"env":{"A":1}})", 400, "env.A"},
           {R"({"command":["a"],"env":{"A=":"1"}})", 422, "env"},
           {R"({"command":["a"],"env":[]})", 400, "env"},
           {R"({"command":["a"],"worker_requirements":[]})", 400, "worker_requirements"},
           {R"({"command":["a"],"worker_requirements":{"capabilities":[1]}})", 400,
            "worker_requirements.capabilities[0]"},
           {R"({"command":["a"],"worker_requirements":{"capabilities":{"x":[]}}})", 400,
            "worker_requirements.capabilities.x"},
           {R"({"command":["a"],"worker_requirements":{"x":{}}})", 400, "worker_requirements.x"},
           {R"({"tasks":{}})", 400, "tasks"},
           {R"({"tasks":[]})", 422, "tasks"},
           {R"({"tasks":[1]})", 400, "tasks[0]"},
           {R"({"tasks":[{"command":["a"]},{"command":[7]}]})", 400, "tasks[1].command[0]"},
           {R"({"tasks":[{"command":["a"]}],"run_id":"r"})", 422, "run_id"},
       }) {
    CAPTURE(text);
    auto wrong = submission_problem(text);
    CHECK(wrong.status == status);
    CHECK(wrong.field == field);
  }
}

TEST_CASE("json: one bad task of 10,000 fails them all, and is named") {
  json body;
  for (int i = 0; i < 10'000; ++i)
    body["tasks"].push_back({{"command", {"true"}}});
  CHECK(submission_problem(body.dump()).status == 200);
  body["tasks"][9'998]["timeout_ms"] = -5;
  CHECK(submission_problem(body.dump()).field == "tasks[9998].timeout_ms");
  body["tasks"][9'998].erase("timeout_ms");
  body["tasks"].push_back({{"command", {"true"}}});
  CHECK(submission_problem(body.dump()).field == "tasks");
}

TEST_CASE("router: fixed parts win, encoded slashes separate nothing, HEAD is GET") {
  router routes;
  auto name = [](std::string text) {
    return [text](const routed_request& r) {
      http_response response;
      response.body = text + (r.path_values.empty() ? "" : ":" + r.path_values[0]);
      return response;
    };
  };
  routes.add("GET", "/a/{x}", name("x"));
  routes.add("DELETE", "/a/{x}", name("delete"));
  routes.add("POST", "/a/claim", name("claim"));
  routes.add("GET", "/", name("root"));
  auto ask = [&](std::string method, std::string path) {
    http_request request;
    request.method = std::move(method);
    request.path = std::move(path);
    return std::get<http_response>(routes.begin(request));
  };
  CHECK(ask("GET", "/a/b%2Fc").body == "x:b/c");
  CHECK(ask("HEAD", "/a/b").body == "x:b");
  CHECK(ask("POST", "/a/claim").body == "claim");
  CHECK(ask("GET", "/").body == "root");
  CHECK(ask("GET", "/a/%zz").status == 400);
  for (auto path : {"/b", "/a", "/a/", "/a/b/c", "/a/b/", "//", "*"}) {
    CAPTURE(path);
    CHECK(ask("GET", path).status == 404);
  }
  auto wrong = ask("PUT", "/a/b");
  CHECK(wrong.status == 405);
  CHECK(wrong.headers == header_list{{"Allow", "GET, HEAD, DELETE"}});
  auto reserved = ask("GET", "/a/claim");
  CHECK(reserved.status == 405);
  CHECK(reserved.headers == header_list{{"Allow", "POST"}});
}

TEST_CASE("base64: there and back") {
  for (std::string text : {"", "a", "ab", "abc", "abcd"})
    CHECK(from_base64(to_base64(text)) == text);
  CHECK(to_base64(std::string{"\xff\x00\xfe", 3}) == "/wD+");
  for (auto text : {"a", "ab=", "a===", "ab!=", "=abc", "ab=c"})
    CHECK_FALSE(from_base64(text));
}

TEST_CASE("command json: every command comes back as the same bytes") {
  auto spec = single(R"({"task_id":"t","command":["true"],"extra":[1]})");
  register_worker worker{"w", "h", 9, {{"cuda", true}, {"cpu", decimal{8}}}, R"({"cpu":8.0,"cuda":true})", 2, {}};
  register_worker listed{"w", "h", 9, {{"cuda", true}}, R"(["cuda"])", 2, {}};
  std::vector<command_body> bodies = {tick{},
                                      open_session{node_id{"n"}, {~std::uint64_t{0}}, 5},
                                      put_key{"k", std::string{"\xff\x00", 2}, 3, false, false},
                                      put_key{"k", "text", std::nullopt, true, false},
                                      delete_key{"k", std::nullopt, true},
                                      worker,
                                      listed,
                                      set_worker_status{"w", worker_status::busy, "t"},
                                      drain_worker{"w"},
                                      remove_worker{"w"},
                                      submit_tasks{{spec}},
                                      coordinator::claim_tasks{"w", 3},
                                      complete_task{"t", "w", 1, R"({"exit_code":0})"},
                                      fail_task{"t", "w", 1, "line\nline", false, ""},
                                      cancel_task{"t"},
                                      mark_running{{{"t", 1}, {"u", 2}}},
                                      expire_attempts{{{{"t", 1}, attempt_outcome::lease_lost}}},
                                      mark_offline{{"w", "x"}},
                                      report_figures{{{"w", 123, 1.5, 2, 3, "t"}}},
                                      set_maintenance{true},
                                      retire_tasks{1'700'000'000'000, 500},
                                      set_storage_alarm{true}};
  // put_key and register_worker are there twice.
  CHECK(bodies.size() == std::variant_size_v<command_body> + 2);
  for (auto& body : bodies) {
    CAPTURE(name_of(body));
    log_entry entry{{4}, {2}, entry_kind::command, 99, encode(command{1, 2, 3, "key", ~std::uint64_t{0}, body})};
    json wire = json::parse(to_text(
        nlohmann::ordered_json{{"index", 4}, {"term", 2}, {"time_ms", 99}, {"command", command_to_json(entry)}}));
    std::optional<problem> failure;
    auto back = read_entry(wire, "entries[0]", failure);
    back.index = entry.index;
    if (failure)
      FAIL(failure->field << " " << failure->detail);
    CHECK(back == entry);
  }
}

TEST_CASE("command json: entries of the log's own kinds") {
  membership members{{{node_id{"n"}, {7}, "h:1", "c:1", false}}};
  log_entry entry{{4}, {2}, entry_kind::membership, 0, to_bytes(members)};
  std::optional<problem> failure;
  json wire{{"term", 2}, {"command", json::parse(to_text(command_to_json(entry)))}};
  CHECK(read_entry(wire, "e", failure).payload == entry.payload);
  CHECK_FALSE(failure);
  CHECK(command_to_json(log_entry{})["type"] == "noop");
  log_entry damaged{{4}, {2}, entry_kind::command, 0, "\xff\xff"};
  CHECK(command_to_json(damaged)["type"] == "unreadable");
  log_entry first{{1}, {1}, entry_kind::genesis, 0, to_bytes(genesis{std::string(32, 'a'), members, 5})};
  CHECK(command_to_json(first)["type"] == "genesis");
}

TEST_CASE("command json: what cannot be an entry is named") {
  struct bad {
    std::string text;
    std::string field;
  };
  for (auto& [text, field] : std::vector<bad>{
           {R"(7)", "entries[0]"},
           {R"({"term":0,"command":{"type":"noop"}})", "entries[0].term"},
           {R"({"term":1})", "entries[0].command"},
           {R"({"term":1,"command":{}})", "entries[0].command.type"},
           {R"({"term":1,"command":{"type":"genesis"}})", "entries[0].command.type"},
           {R"({"term":1,"command":{"type":"noop","x":1}})", "entries[0].command.x"},
           {R"({"term":1,"command":{"type":"put_key","kee":"k"}})", "entries[0].command.kee"},
           {R"({"term":1,"command":{"type":"put_key","key":""}})", "entries[0].command.key"},
           {R"({"term":1,"command":{"type":"put_key","key":"k","value_base64":"x"}})",
            "entries[0].command.value_base64"},
           {R"({"term":1,"command":{"type":"set_worker_status","worker_id":"w","status":"no"}})",
            "entries[0].command.status"},
           {R"({"term":1,"command":{"type":"mark_running","attempts":[{"task_id":"t","no":1}]}})",
            "entries[0].command.attempts[0].no"},
       }) {
    CAPTURE(text);
    std::optional<problem> failure;
    read_entry(json::parse(text), "entries[0]", failure);
    REQUIRE(failure);
    CHECK(failure->field == field);
  }
}
