#include "http/api.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "http/http_server.hpp"
#include "http/wait.hpp"
#include "tests/support/api_front.hpp"
#include "tests/support/raw_http.hpp"

using namespace coordinator;
using nlohmann::json;
using test::body;
using test::front;
using test::header;
using test::written;

TEST_CASE("api: a write carries key, hash and time-out, and says how it ended") {
  front f;
  f.port.write_answer.result.version = 9;
  auto put = [&](header_list headers, std::string value = "v") { return f.ask("PUT", "/api/kv/k", value, headers); };
  CHECK(body(put({{"idempotency-key", "a b"}, {"x-request-timeout-ms", "250"}}))["version"] == 9);
  CHECK(f.port.writes[0].idempotency_key == "a b");
  CHECK(f.port.writes[0].timeout.count() == 250);
  put({});
  CHECK(f.port.writes[1].request_hash == f.port.writes[0].request_hash);
  CHECK(f.port.writes[1].timeout.count() == 5000);
  put({}, "w");
  CHECK(f.port.writes[2].request_hash != f.port.writes[0].request_hash);
  put({{"if-none-match", "*"}});
  CHECK(f.port.writes[3].request_hash != f.port.writes[0].request_hash);

  f.port.write_answer.outcome = write_result::outcome::not_applied;
  f.port.write_answer.reason = "no_leader";
  auto refused = put({});
  CHECK(refused.status == 503);
  CHECK(header(refused, "Retry-After") == "1");
  CHECK(body(refused)["code"] == "no_leader");
  CHECK(body(refused)["outcome"] == "not_applied");
  f.port.write_answer.outcome = write_result::outcome::unknown;
  f.port.write_answer.reason = "timeout";
  CHECK(body(put({}))["outcome"] == "unknown");
}

TEST_CASE("api: headers of a write are checked") {
  front f;
  struct bad {
    header_list headers;
    int status;
    std::string field;
  };
  for (auto& [headers, status, field] : std::vector<bad>{
           {{{"idempotency-key", ""}}, 422, "Idempotency-Key"},
           {{{"idempotency-key", std::string(129, 'x')}}, 422, "Idempotency-Key"},
           {{{"idempotency-key", "\xc3\xa4"}}, 422, "Idempotency-Key"},
           {{{"x-request-timeout-ms", "0"}}, 422, "X-Request-Timeout-Ms"},
           {{{"x-request-timeout-ms", "-1"}}, 422, "X-Request-Timeout-Ms"},
           {{{"x-request-timeout-ms", "99999999999999999999"}}, 422, "X-Request-Timeout-Ms"},
           {{{"x-request-timeout-ms", "1s"}}, 400, "X-Request-Timeout-Ms"},
           {{{"x-request-timeout-ms", ""}}, 400, "X-Request-Timeout-Ms"},
           {{{"if-match", "5"}}, 422, "If-Match"},
           {{{"if-match", ""}}, 422, "If-Match"},
           {{{"if-match", "\"1\", \"2\""}}, 422, "If-Match"},
           {{{"if-match", "\"x\""}}, 412, "If-Match"},
           {{{"if-match", "W/\"5\""}}, 412, "If-Match"},
           {{{"if-none-match", "\"5\""}}, 422, "If-None-Match"},
           {{{"if-none-match", "*"}, {"if-match", "*"}}, 422, "If-None-Match"},
       }) {
    CAPTURE(field);
    CAPTURE(headers[0].second);
    auto response = f.ask("PUT", "/api/kv/k", "v", headers);
    CHECK(response.status == status);
    CHECK(body(response)["field"] == field);
  }
  CHECK(f.port.writes.empty());
}

TEST_CASE("api: every result of a command has its status") {
  front f;
  for (auto [code, status] : {std::pair{result_code::not_found, 404},
                              {result_code::conflict, 409},
                              {result_code::precondition_failed, 412},
                              {result_code::stale_attempt, 409},
                              {result_code::worker_unavailable, 409},
                              {result_code::invalid, 422},
                              {result_code::dependency_missing, 422},
                              {result_code::dependency_cycle, 422},
                              {result_code::idempotency_key_reused, 422},
                              {result_code::too_many_idempotency_keys, 429},
                              {result_code::queue_full, 429},
                              {result_code::maintenance, 503},
                              {result_code::storage_full, 507},
                              {result_code::unreadable, 500}}) {
    f.port.write_answer.result.code = code;
    f.port.write_answer.result.field = "tasks[0].depends_on[0]";
    auto response = f.ask("POST", "/api/tasks/submit", R"({"command":["true"]})");
    CHECK(response.status == status);
    CHECK(response.content_type == "application/problem+json");
    CHECK(body(response)["field"] == "depends_on[0]");
    if (code != result_code::invalid)
      CHECK(body(response)["code"] == std::string{to_string(code)});
  }
}

TEST_CASE("api: a quota that is used up is 507, was not applied, and may pass in a while") {
  front f;
  f.port.write_answer.result.code = result_code::storage_full;
  auto response = f.ask("POST", "/api/tasks/submit", R"({"command":["true"]})");
  CHECK(response.status == 507);
  CHECK(body(response)["title"] == "Insufficient Storage");
  CHECK(body(response)["code"] == "storage_full");
  CHECK(body(response)["outcome"] == "not_applied");
  CHECK(header(response, "Retry-After") == "60");
}

TEST_CASE("api: nothing that is malformed reaches the node") {
  front f;
  for (auto path : {"/api/workers/register", "/api/workers/status", "/api/tasks/submit", "/api/tasks/claim",
                    "/api/tasks/t/complete", "/api/tasks/t/fail", "/api/raft/request_vote", "/api/raft/append_entries",
                    "/api/cluster/transfer_leadership"})
    for (std::string text :
         {"{", "[]", "\"x\"", "{\"worker_id\":\"\xff\"}", "{\"worker_id\":1,\"term\":\"x\",\"to\":[]}",
          "{\"command\":1,\"worker_id\":{},\"term\":-1,\"to\":\"a/b\"}"}) {
      CAPTURE(path);
      CAPTURE(text);
      auto response = f.ask("POST", path, text);
      CHECK((response.status == 400 || response.status == 422));
      CHECK(response.content_type == "application/problem+json");
    }
  for (auto target : {"/api/tasks/a%2Fb", "/api/tasks/a%0Ab", "/api/workers/%ff", "/api/kv/%00", "/api/tasks/%zz"}) {
    CAPTURE(target);
    auto status = f.ask("GET", target).status;
    CHECK((status == 400 || status == 422));
  }
  CHECK(f.port.writes.empty());
  CHECK(f.port.reads.empty());
  CHECK(f.port.claims.empty());
  CHECK(f.port.beats.empty());
}

TEST_CASE("api: a command past the limits of the state is refused before it is proposed") {
  front f;
  json many{{"worker_id", "w"}, {"capabilities", json::array()}};
  for (int i = 0; i < 65; ++i)
    many["capabilities"].push_back("c" + std::to_string(i));
  auto worker = f.ask("POST", "/api/workers/register", many.dump());
  CHECK(worker.status == 422);
  CHECK(body(worker)["field"] == "capabilities");
  auto task = f.ask("POST", "/api/tasks/submit",
                    json{{"command", {"true"}}, {"note", std::string(limits::spec_size, 'x')}}.dump());
  CHECK(task.status == 422);
  CHECK(f.port.writes.empty());
}

TEST_CASE("api: reads are linearizable unless asked otherwise, and say how fresh they are") {
  front f;
  f.port.read_answer.result = key_view{"a/b", "v", 5, 1};
  auto response = f.ask("GET", "/api/kv/a%2Fb");
  CHECK(response.body == "v");
  CHECK(header(response, "ETag") == "\"5\"");
  CHECK(header(response, "X-Coordinator-Applied-Index") == "42");
  CHECK(header(response, "X-Coordinator-Leader-Contact-Ms").empty());
  CHECK(f.port.reads[0].linearizable);
  CHECK(std::get<get_key>(f.port.reads[0].what).key == "a/b");
  auto stale = f.ask("GET", "/api/kv/k?consistency=stale&max_stale_ms=50");
  CHECK(header(stale, "X-Coordinator-Leader-Contact-Ms") == "12");
  CHECK_FALSE(f.port.reads[1].linearizable);
  CHECK(f.port.reads[1].max_stale_ms == 50);
  for (auto query : {"consistency=maybe", "consistency=stale&max_stale_ms=-1", "max_stale_ms=x"})
    CHECK(f.ask("GET", std::string{"/api/kv/k?"} + query).status >= 400);
  CHECK(f.port.reads.size() == 2);
  f.port.read_answer.ok = false;
  f.port.read_answer.reason = "too_stale";
  auto old = f.ask("GET", "/api/kv/k?consistency=stale&max_stale_ms=1");
  CHECK(old.status == 503);
  CHECK(header(old, "Retry-After") == "1");
  CHECK_FALSE(body(old).contains("outcome"));
}

TEST_CASE("api: a missing thing is 404 and says how fresh that is") {
  front f;
  f.port.read_answer.result = query_error{query_error::kind::not_found, "", ""};
  for (auto target : {"/api/kv/k", "/api/tasks/t", "/api/workers/w"}) {
    auto response = f.ask("GET", target);
    CHECK(response.status == 404);
    CHECK(header(response, "X-Coordinator-Applied-Index") == "42");
  }
}

TEST_CASE("api: conditions of keys reach the command") {
  front f;
  f.ask("PUT", "/api/kv/k", std::string{"\0\xff", 2}, {{"if-match", "\"7\""}});
  CHECK(written<put_key>(f).if_match == 7);
  CHECK(written<put_key>(f).value == std::string{"\0\xff", 2});
  f.ask("PUT", "/api/kv/k", "", {{"if-match", "*"}});
  CHECK(written<put_key>(f).if_exists);
  f.ask("PUT", "/api/kv/k", "", {{"if-none-match", "*"}});
  CHECK(written<put_key>(f).if_none_match);
  f.ask("DELETE", "/api/kv/k", "", {{"if-match", "\"7\""}});
  CHECK(written<delete_key>(f).if_match == 7);
}

TEST_CASE("api: lists take a limit and a cursor") {
  front f;
  f.port.read_answer.result = key_page{{{"k", "value", 3, 9}}, "next"};
  auto keys = body(f.ask("GET", "/api/kv?prefix=a%2F&limit=7&cursor=Ab_-9"));
  CHECK(keys["next_cursor"] == "next");
  CHECK(keys["keys"][0] == json{{"key", "k"}, {"version", 3}, {"size", 5}, {"updated_ms", 9}});
  auto& asked = std::get<list_keys>(f.port.reads[0].what);
  CHECK(asked.prefix == "a/");
  CHECK(asked.limit == 7);
  CHECK(asked.cursor == "Ab_-9");
  f.port.read_answer.result = worker_page{{worker_view{}}, "more"};
  auto workers = f.ask("GET", "/api/workers");
  CHECK(body(workers).is_object());
  CHECK(header(workers, "X-Next-Cursor") == "more");
  f.port.read_answer.result = task_page{};
  CHECK(body(f.ask("GET", "/api/tasks?status=failed&run_id=r&type=t&worker_id=w"))["next_cursor"].is_null());
  auto& tasks = std::get<list_tasks>(f.port.reads[2].what);
  CHECK(tasks.status == task_status::failed);
  CHECK(tasks.run_id == "r");
  for (auto query : {"limit=0", "limit=1001", "limit=x", "limit=-1", "cursor=a.b", "cursor=a%00"})
    CHECK(f.ask("GET", std::string{"/api/kv?"} + query).status >= 400);
  CHECK(f.ask("GET", "/api/tasks?status=odd").status == 422);
  CHECK(f.port.reads.size() == 3);
}

TEST_CASE("api: a worker registers, reports and claims") {
  front f;
  f.port.write_answer.result.version = 77;
  auto response = f.ask("POST", "/api/workers/register",
                        R"({"worker_id":"w","host":"h","port":9,"capabilities":{"cpu":8,"cuda":true},"slots":2})");
  CHECK(body(response) ==
        json{{"success", true}, {"worker_id", "w"}, {"heartbeat_interval_ms", 5000}, {"session", 77}});
  CHECK(written<register_worker>(f).capabilities.at("cpu") == capability{decimal{8}});
  CHECK(written<register_worker>(f).capabilities_json == R"({"cpu":8,"cuda":true})");

  f.port.beat_answer.cancel = {"t9"};
  auto beat = f.ask("POST", "/api/workers/status",
                    R"({"worker_id":"w","status":"running","cpu_usage":12.5,"running":[{"task_id":"t","attempt":2}]})");
  CHECK(body(beat) == json{{"success", true}, {"cancel", {"t9"}}});
  CHECK(f.port.beats[0].lists_running);
  CHECK(f.port.beats[0].running[0].attempt == 2);
  CHECK(f.port.beats[0].cpu_usage == 12.5);
  CHECK(f.port.beats[0].gpu_usage < 0);
  f.ask("POST", "/api/workers/status", R"({"worker_id":"w","status":"idle","current_task":null})");
  CHECK_FALSE(f.port.beats[1].lists_running);
  f.port.beat_answer.unknown_worker = true;
  CHECK(f.ask("POST", "/api/workers/status", R"({"worker_id":"w"})").status == 404);

  f.port.write_answer.result.assignments = {{"t", 3, R"({"command":["true"],"task_id":"t","x":1})"}};
  auto claim = body(f.ask("POST", "/api/tasks/claim", R"({"worker_id":"w","max_tasks":2,"wait_ms":10})"));
  CHECK(claim["tasks"][0] ==
        json{{"command", {"true"}}, {"task_id", "t"}, {"x", 1}, {"attempt", 3}, {"lease_ms", 15000}});
  CHECK(f.port.claims[0].max_tasks == 2);
  CHECK(f.port.claims[0].wait.count() == 10);

  for (auto text : {R"({"worker_id":"w","status":"offline"})", R"({"worker_id":"w","status":"asleep"})",
                    R"({"worker_id":"w","cpu_usage":-1})", R"({"worker_id":"w","running":[{"task_id":"t"}]})",
                    R"({"worker_id":"w","running":[{"task_id":"t","attempt":0}]})"})
    CHECK(f.ask("POST", "/api/workers/status", text).status == 422);
  for (auto text : {R"({"worker_id":"w","wait_ms":-1})", R"({"worker_id":"w","max_tasks":0})", R"({})"})
    CHECK(f.ask("POST", "/api/tasks/claim", text).status == 422);
  CHECK(f.ask("POST", "/api/workers/register", R"({"worker_id":"status"})").status == 422);
}

TEST_CASE("api: results of attempts") {
  front f;
  CHECK(f.ask("POST", "/api/tasks/t/complete", R"({"worker_id":"w","attempt":2,"result":{"exit_code":0}})").status ==
        200);
  CHECK(written<complete_task>(f).attempt == 2);
  CHECK(written<complete_task>(f).result_json == R"({"exit_code":0})");
  CHECK(
      f.ask("POST", "/api/tasks/t/fail", R"({"worker_id":"w","attempt":2,"error":"a\nb","retryable":false})").status ==
      200);
  CHECK_FALSE(written<fail_task>(f).retryable);
  CHECK(f.ask("POST", "/api/tasks/t/cancel").status == 200);
  CHECK(written<cancel_task>(f).task_id == "t");
  f.port.writes.clear();
  CHECK(f.ask("POST", "/api/tasks/t/complete", R"({"worker_id":"w","attempt":2,"result":[]})").status == 400);
  CHECK(f.ask("POST", "/api/tasks/t/complete", R"({"worker_id":"w","result":{}})").status == 422);
  CHECK(f.ask("POST", "/api/tasks/t/fail", R"({"worker_id":"w","attempt":2,"retryable":"no"})").status == 400);
  CHECK(f.port.writes.empty());
}

TEST_CASE("api: a task is given back as it came, with what became of it") {
  front f;
  task_view task;
  task.task_id = "t";
  task.status = task_status::completed;
  task.spec_json = R"({"command":["true"],"note":"kept","task_id":"t"})";
  task.result_json = R"({"exit_code":0,"output":"long"})";
  task.submitted_ms = 5;
  task.attempts = {{1, "w", 6, 0, 7, attempt_outcome::lease_lost, ""}};
  f.port.read_answer.result = task;
  auto found = body(f.ask("GET", "/api/tasks/t"));
  CHECK(found["note"] == "kept");
  CHECK(found["status"] == "completed");
  CHECK(found["result"]["output"] == "long");
  CHECK(found["attempts"][0]["outcome"] == "lease_lost");
  CHECK(found["attempts"][0]["started_ms"].is_null());
  f.port.read_answer.result = task_page{{task}, ""};
  auto list = body(f.ask("GET", "/api/tasks"));
  CHECK(list["tasks"][0]["result"] == json{{"exit_code", 0}});
}

TEST_CASE("api: maintenance, what is not there yet, and unknown routes") {
  front f;
  CHECK(body(f.ask("POST", "/api/maintenance/enable"))["maintenance"] == true);
  CHECK(written<set_maintenance>(f).enabled);
  CHECK(f.ask("GET", "/api/nothing").status == 404);
  CHECK(f.ask("PUT", "/api/status").status == 405);
  CHECK(f.ask("GET", "/api/openapi.json").status == 200);
}

TEST_CASE("api: a node that does not answer is a 503, and the outcome unknown") {
  front f;
  f.port.silent = true;
  // The margin past the request's time is the whole wait.
  auto response = f.ask("PUT", "/api/kv/k", "v", {{"x-request-timeout-ms", "1"}});
  CHECK(response.status == 503);
  CHECK(body(response)["outcome"] == "unknown");
}

TEST_CASE("api: a long poll ends when the server stops or the client goes, and other requests do not") {
  struct watch : client_watch {
    bool is_gone = false;
    std::function<void()> on_look;
    bool gone() const override {
      if (on_look)
        on_look();
      return is_gone;
    }
    bool stopping() const override { return true; }
  };
  front f;
  f.port.silent = true;
  watch client;
  http_request claim;
  claim.method = "POST";
  claim.path = "/api/tasks/claim";
  claim.body = R"({"worker_id":"w","wait_ms":300000})";
  claim.client = &client;
  CHECK(body(f.routes.answer(claim))["code"] == "shutting_down");
  client.is_gone = true;
  CHECK(f.routes.answer(claim).status == 503);

  client.is_gone = false;
  std::function<void(int)> done;
  std::thread late;
  client.on_look = [&] {
    if (!late.joinable())
      late = std::thread{[&] { done(5); }};
  };
  CHECK(wait_for<int>([&](auto completion) { done = completion; }, std::chrono::seconds{60}, &client) == 5);
  late.join();
}

TEST_CASE("api: every answer over a socket names node, leader and term") {
  front f;
  http_server_options options;
  options.port = 0;
  http_server server{options, f.routes};
  REQUIRE(server.start() == "");
  f.port.read_answer.result = key_view{"k", std::string{"\0\r\n\xff", 4}, 5, 1};
  test::raw_http client{server.port()};
  for (auto head : {"GET /api/kv/k HTTP/1.1\r\n\r\n", "GET /nothing HTTP/1.1\r\n\r\n", "PUT / HTTP/1.1\r\n\r\n",
                    "POST /api/tasks/submit HTTP/1.1\r\nContent-Length: 1\r\n\r\n{", "broken\r\n\r\n"}) {
    CAPTURE(head);
    auto answer = client.ask(head);
    CHECK(answer.header("X-Coordinator-Node") == "node-1");
    CHECK(answer.header("X-Coordinator-Leader") == "node-2");
    CHECK(answer.header("X-Coordinator-Term") == "7");
  }
  test::raw_http other{server.port()};
  auto value = other.ask("GET /api/kv/k HTTP/1.1\r\nRange: bytes=0-0\r\nAccept-Encoding: gzip\r\n\r\n");
  CHECK(value.body == std::string{"\0\r\n\xff", 4});
  // Content types and encodings of a value are nobody's business here.
  for (auto type : {"Content-Type: multipart/form-data; boundary=x", "Content-Encoding: gzip",
                    "Content-Type: application/x-www-form-urlencoded"}) {
    CAPTURE(type);
    f.port.writes.clear();
    CHECK(other
              .ask("PUT /api/kv/k HTTP/1.1\r\n" + std::string{type} + "\r\nContent-Length: 4\r\n\r\n" +
                   std::string{"\0%=\xff", 4})
              .status == 200);
    CHECK(written<put_key>(f).value == std::string{"\0%=\xff", 4});
  }
  test::raw_http large{server.port()};
  CHECK(large.ask("PUT /api/kv/k HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n").status == 413);
}
