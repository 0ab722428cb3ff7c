#include "http/api.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "http/http_server.hpp"
#include "http/wait.hpp"
#include "tests/support/fake_port.hpp"
#include "tests/support/raw_http.hpp"

using namespace coordinator;
using nlohmann::json;

namespace {

/// The routes over a port without a node.
struct front {
  explicit front(api_options options = {}) : routes(port, std::move(options)) {}

  http_response ask(const std::string& method, const std::string& target, const std::string& body = {},
                    header_list headers = {}) {
    http_request request;
    request.method = method;
    request.path = target.substr(0, target.find('?'));
    if (auto mark = target.find('?'); mark != std::string::npos)
      request.query = target.substr(mark + 1);
    request.body = body;
    request.headers = std::move(headers);
    request.from_loopback = loopback;
    return routes.answer(request);
  }

  test::fake_port port;
  api routes;
  bool loopback = true;
};

std::string header(const http_response& response, const std::string& name) {
  for (auto& [key, value] : response.headers)
    if (key == name)
      return value;
  return {};
}

json body(const http_response& response) {
  return json::parse(response.body);
}

template <class T>
const T& written(const front& f) {
  REQUIRE_FALSE(f.port.writes.empty());
  return std::get<T>(f.port.writes.back().body);
}

}  // namespace

TEST_CASE("api: status is this node's own view") {
  front f;
  auto response = f.ask("GET", "/api/status");
  CHECK(response.status == 200);
  auto status = body(response);
  CHECK(status["status"] == "running");
  CHECK(status["role"] == "FOLLOWER");
  CHECK(status["current_leader"] == "node-2");
  for (auto field :
       {"node_id", "term", "commit_index", "last_applied", "last_log_index", "first_log_index", "snapshot_index",
        "uptime_ms", "version", "cluster_id", "http_address", "cluster_address", "maintenance", "storage_full"})
    CHECK(status.contains(field));
  CHECK(header(response, "X-Coordinator-Applied-Index") == "0");
}

TEST_CASE("api: the cluster's quorum and what it can lose") {
  front f;
  f.port.cluster_answer.leader.value = "a";
  f.port.cluster_answer.last_log_index.value = 10;
  for (auto id : {"a", "b", "c"})
    f.port.cluster_answer.members.push_back(
        {member{node_id{id}, {}, "h", "c", true}, {8}, 3, 1500, std::string{id} != "c"});
  f.port.cluster_answer.members.push_back({member{node_id{"l"}, {}, "h", "c", false}, {12}, -1, -1, true});
  auto cluster = body(f.ask("GET", "/api/cluster"));
  CHECK(cluster["quorum"] == json{{"size", 2}, {"healthy", 2}});
  CHECK(cluster["failure_tolerance"] == 0);
  CHECK(cluster["members"][0]["role"] == "LEADER");
  CHECK(cluster["members"][1]["role"] == "FOLLOWER");
  CHECK(cluster["members"][1]["lag"] == 2);
  CHECK(cluster["members"][1]["rtt_ms"] == 1.5);
  CHECK(cluster["members"][3]["role"] == "LEARNER");
  CHECK(cluster["members"][3]["lag"] == 0);
  CHECK(cluster["members"][3]["last_contact_ms"].is_null());
}

TEST_CASE("api: a transfer names its target, and a misspelt one moves nothing") {
  front f;
  CHECK(body(f.ask("POST", "/api/cluster/transfer_leadership", R"({"to":"node-2"})"))["leader"] == "node-2");
  CHECK(f.port.transfers.back().value == "node-2");
  CHECK(f.ask("POST", "/api/cluster/transfer_leadership").status == 200);
  CHECK(f.port.transfers.back().empty());
  auto wrong = f.ask("POST", "/api/cluster/transfer_leadership", R"({"too":"node-2"})");
  CHECK(wrong.status == 422);
  CHECK(body(wrong)["field"] == "too");
  CHECK(f.port.transfers.size() == 2);
  f.port.transfer_answer = {false, "unknown_node", {}};
  CHECK(f.ask("POST", "/api/cluster/transfer_leadership", R"({"to":"x"})").status == 404);
  f.port.transfer_answer = {false, "no_leader", {}};
  CHECK(f.ask("POST", "/api/cluster/transfer_leadership", "{}").status == 503);
}

TEST_CASE("api: a change of the members names node and force, and answers with the members") {
  front f;
  f.port.members_answer.members.members = {{node_id{"node-1"}, {1}, "h:1", "c:1", true},
                                           {node_id{"node-4"}, {4}, "h:4", "c:4", false}};
  auto added = f.ask("POST", "/api/cluster/members", R"({"node_id":"node-4"})", {{"x-request-timeout-ms", "250"}});
  CHECK(added.status == 200);
  CHECK(body(added)["success"] == true);
  CHECK(body(added)["changed"] == true);
  CHECK(body(added)["leader"] == "node-2");
  CHECK(body(added)["members"][1] ==
        json{{"node_id", "node-4"}, {"http_address", "h:4"}, {"cluster_address", "c:4"}, {"voter", false}});
  CHECK(f.port.changes.back().what == change_membership::change::add);
  CHECK(f.port.changes.back().id.value == "node-4");
  CHECK(f.port.changes.back().timeout.count() == 250);
  CHECK_FALSE(f.port.changes.back().force);
  CHECK(f.ask("POST", "/api/cluster/members", R"({"node_id":"node-4","force":true})").status == 200);
  CHECK(f.port.changes.back().force);
  CHECK(f.ask("DELETE", "/api/cluster/members/node-3").status == 200);
  CHECK(f.port.changes.back().what == change_membership::change::remove);
  CHECK(f.port.changes.back().id.value == "node-3");
  CHECK_FALSE(f.port.changes.back().force);
  CHECK(f.ask("DELETE", "/api/cluster/members/node-3?force=true").status == 200);
  CHECK(f.port.changes.back().force);
  CHECK(f.ask("POST", "/api/cluster/members/node-4/promote").status == 200);
  CHECK(f.port.changes.back().what == change_membership::change::promote);
  auto asked = f.port.changes.size();
  CHECK(f.ask("POST", "/api/cluster/members", "{}").status == 422);
  CHECK(f.ask("POST", "/api/cluster/members", R"({"node_id":4})").status == 400);
  CHECK(f.ask("POST", "/api/cluster/members", R"({"node_id":"d","forced":true})").status == 422);
  CHECK(f.ask("DELETE", "/api/cluster/members/node-3?force=yes").status == 422);
  CHECK(f.port.changes.size() == asked);
}

TEST_CASE("api: a change of the members that is refused says why") {
  front f;
  auto refused = [&](std::string reason, bool unknown = false) {
    f.port.members_answer = {false, false, std::move(reason), "the reason in words", unknown, {}, {}};
    return f.ask("DELETE", "/api/cluster/members/d");
  };
  for (auto code : {"busy", "unsafe", "not_caught_up", "not_connected"}) {
    auto conflict = refused(code);
    CHECK(conflict.status == 409);
    CHECK(body(conflict)["code"] == code);
    CHECK(body(conflict)["detail"] == "the reason in words.");
  }
  CHECK(refused("unknown_node").status == 404);
  CHECK(body(refused("unknown_node"))["code"] == "not_found");
  CHECK(refused("no_leader").status == 503);
  CHECK(body(refused("no_leader"))["outcome"] == "not_applied");
  CHECK(refused("timeout", true).status == 503);
  CHECK(body(refused("timeout", true))["outcome"] == "unknown");
  CHECK(body(refused("timeout", true))["detail"] == "the reason in words");
}

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

TEST_CASE("api: raft messages reach the keeper with the sender's incarnation") {
  front f;
  f.port.vote_answer = request_vote_reply{{}, {8}, true, false, 0};
  auto vote = f.ask("POST", "/api/raft/request_vote",
                    R"({"term":8,"candidate_id":"node-2","last_log_index":4,"last_log_term":3})");
  CHECK(body(vote) == json{{"term", 8}, {"vote_granted", true}});
  CHECK(f.port.votes[0].candidate.incarnation.value == 22);
  f.port.append_answer = append_entries_reply{};
  f.port.append_answer->term.value = 8;
  f.port.append_answer->success = true;
  f.port.append_answer->last_log_index.value = 6;
  auto append = f.ask("POST", "/api/raft/append_entries", R"({"term":8,"leader_id":"node-2","prev_log_index":4,
    "prev_log_term":3,"entries":[{"term":8,"command":{"type":"noop"}},{"term":8,"command":{"type":"tick"}}],
    "leader_commit":4})");
  CHECK(body(append) == json{{"term", 8}, {"success", true}, {"last_log_index", 6}});
  CHECK(f.port.appends[0].entries[1].index.value == 6);
  CHECK(f.port.appends[0].entries[1].kind == entry_kind::command);
  f.port.vote_answer.reset();
  f.port.inject_error = "no";
  CHECK(f.ask("POST", "/api/raft/request_vote",
              R"({"term":8,"candidate_id":"node-2","last_log_index":4,"last_log_term":3})")
            .status == 409);
  auto stranger = f.ask("POST", "/api/raft/request_vote",
                        R"({"term":8,"candidate_id":"other","last_log_index":4,"last_log_term":3})");
  CHECK(stranger.status == 422);
  CHECK(body(stranger)["field"] == "candidate_id");
  CHECK(f.ask("POST", "/api/raft/request_vote",
              R"({"term":18446744073709551615,"candidate_id":"node-2","last_log_index":4,"last_log_term":3})")
            .status == 422);
  CHECK(f.port.votes.size() == 2);
}

TEST_CASE("api: a state is held by a node that has applied as far in the same history") {
  front f;
  f.port.append_answer = append_entries_reply{};
  f.port.append_answer->term.value = 8;
  f.port.append_answer->success = true;
  f.port.view_answer.last_applied.value = 9;
  f.port.log = {log_entry{{9}, {8}, entry_kind::noop, 0, {}}};
  auto sync = [&](int last_applied, int term) {
    json state{{"workers", json::object()}, {"tasks", json::object()}, {"kv", json::object()}};
    json ask{{"term", 8},
             {"leader_id", "node-2"},
             {"state", state},
             {"last_applied", last_applied},
             {"last_applied_term", term}};
    return body(f.ask("POST", "/api/raft/sync_state", ask.dump()));
  };
  CHECK(sync(9, 8) == json{{"term", 8}, {"success", true}, {"last_applied", 9}});
  CHECK(sync(9, 7)["success"] == false);
  CHECK(sync(10, 8)["success"] == false);
  f.port.append_answer->success = false;
  CHECK(sync(9, 8)["success"] == false);
  auto bad = f.ask("POST", "/api/raft/sync_state",
                   R"({"term":8,"leader_id":"node-2","state":5,"last_applied":1,"last_applied_term":1})");
  CHECK(bad.status == 400);
  CHECK(body(bad)["field"] == "state");
}

TEST_CASE("api: raft routes are for holders of the token, or loopback where there is none") {
  auto status = [](front& f, header_list headers) { return f.ask("GET", "/api/raft/log", "", headers).status; };
  front open;
  CHECK(status(open, {}) == 200);
  CHECK(status(open, {{"origin", "http://evil"}}) == 403);
  open.loopback = false;
  CHECK(status(open, {}) == 403);
  api_options with_token;
  with_token.cluster_token = "secret";
  front guarded{with_token};
  CHECK(status(guarded, {}) == 401);
  CHECK(header(guarded.ask("GET", "/api/raft/log"), "WWW-Authenticate") == "Bearer");
  CHECK(status(guarded, {{"authorization", "Bearer wrong!"}}) == 403);
  CHECK(status(guarded, {{"authorization", "Bearer secret2"}}) == 403);
  CHECK(status(guarded, {{"authorization", ""}}) == 403);
  guarded.loopback = false;
  CHECK(status(guarded, {{"authorization", "Bearer secret"}}) == 200);
  for (auto path : {"/api/raft/request_vote", "/api/raft/append_entries", "/api/raft/sync_state"})
    CHECK(guarded.ask("POST", path, "{}").status == 401);
  CHECK(guarded.ask("GET", "/api/state").status == 401);
}

TEST_CASE("api: the log is listed from an index on") {
  front f;
  for (std::uint64_t i = 1; i <= 5; ++i)
    f.port.log.push_back({{i}, {2}, entry_kind::noop, 9, ""});
  auto log = body(f.ask("GET", "/api/raft/log?from=2&limit=2"));
  CHECK(log["entries"] == json::parse(R"([{"index":2,"term":2,"time_ms":9,"command":{"type":"noop"}},
                                          {"index":3,"term":2,"time_ms":9,"command":{"type":"noop"}}])"));
}

TEST_CASE("api: the whole state is streamed") {
  front f;
  state_view state;
  state.keys = {{"k", "v", 1, 2}, {"b", "\xff", 3, 4}};
  state.last_applied = 9;
  state.workers.resize(1);
  state.workers[0].worker_id = "w";
  f.port.read_answer.result = state;
  auto response = f.ask("GET", "/api/state");
  std::string text;
  REQUIRE(response.stream([&](std::string_view piece) {
    text += piece;
    return true;
  }));
  auto parsed = json::parse(text);
  CHECK(parsed["kv"]["k"]["value"] == "v");
  CHECK(parsed["kv"]["b"]["value_base64"] == "/w==");
  CHECK(parsed["workers"].contains("w"));
  CHECK(parsed["tasks"].empty());
  CHECK(parsed["last_applied"] == 9);
}

TEST_CASE("api: a checksum of a later index is waited for") {
  front f;
  int asked = 0;
  f.port.on_read = [&](const read_request&) {
    auto answer = f.port.read_answer;
    answer.result = ++asked < 3 ? query_result{query_error{query_error::kind::not_ready, "", ""}}
                                : query_result{checksum_view{50, 0xabc}};
    return answer;
  };
  CHECK(body(f.ask("GET", "/api/health/state_checksum?at=50")) ==
        json{{"applied_index", 50}, {"checksum", "0000000000000abc"}});
  f.port.on_read = nullptr;
  f.port.read_answer.result = query_error{query_error::kind::gone, "", ""};
  CHECK(f.ask("GET", "/api/health/state_checksum?at=1").status == 410);
  f.port.read_answer.result = query_error{query_error::kind::not_ready, "", ""};
  CHECK(f.ask("GET", "/api/health/state_checksum?at=99", "", {{"x-request-timeout-ms", "30"}}).status == 503);
}

TEST_CASE("api: health is what the node says") {
  front f;
  CHECK(f.ask("GET", "/livez").status == 200);
  CHECK(f.ask("GET", "/readyz").status == 200);
  CHECK(f.ask("GET", "/readyz?verbose").body.find("[+]leader ok\n") != std::string::npos);
  auto health = body(f.ask("GET", "/api/health"));
  CHECK(health["healthy"] == true);
  for (auto part : {"db", "log", "resources", "operations"}) {
    CHECK(health["checks"].contains(part));
    CHECK(body(f.ask("GET", std::string{"/api/health/"} + part))["healthy"] == true);
  }
  f.port.view_answer.raft.leader_contact_ms = 60'000;
  auto unready = f.ask("GET", "/readyz");
  CHECK(unready.status == 503);
  CHECK(header(unready, "Retry-After") == "1");
  CHECK(unready.body.find("[-]leader failed") != std::string::npos);
  CHECK(f.ask("GET", "/livez").status == 200);
  CHECK(body(f.ask("GET", "/api/health"))["healthy"] == false);
  f.port.view_answer.raft.writable = false;
  f.port.view_answer.raft.disk_error = "no space";
  CHECK(body(f.ask("GET", "/api/health/db"))["error"] == "no space");
}

TEST_CASE(
    "api: a node is not ready while its disk fails, its state cannot be used, or it has to catch up, and says so") {
  auto why_not = [](const std::function<void(node_view&)>& make) {
    front f;
    make(f.port.view_answer);
    auto response = f.ask("GET", "/readyz");
    CHECK(response.status == 503);
    return response.body;
  };
  auto says = [](const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; };
  CHECK(says(why_not([](node_view& v) {
               v.raft.writable = false;
               v.raft.disk_error = "no space left";
             }),
             "[-]disk failed: no space left\n"));
  CHECK(says(why_not([](node_view& v) { v.raft.state_error = "row 7 is damaged"; }),
             "[-]state failed: row 7 is damaged\n"));
  CHECK(says(why_not([](node_view& v) { v.raft.leader = {}; }), "[-]leader failed: no leader is known\n"));
  CHECK(says(why_not([](node_view& v) {
               v.raft.snapshot_offset = 5;
               v.raft.snapshot_size = 10;
             }),
             "5 of 10 bytes\n"));
  CHECK(says(why_not([](node_view& v) { v.raft.commit_index.value = 10'001; }), "[-]caught_up failed: 10001"));

  front f;
  auto& node = f.port.view_answer;
  node.verifying = true;
  node.storage_full = true;
  node.raft.commit_index.value = 10'000;
  CHECK(f.ask("GET", "/readyz").status == 200);
  auto operations = body(f.ask("GET", "/api/health/operations"));
  CHECK(operations["verifying"] == true);
  CHECK(operations["storage_full"] == true);
  node.raft.state_error = "row 7 is damaged";
  node.raft.snapshot_index.value = 90;
  node.raft.snapshot_offset = 5;
  node.raft.snapshot_size = 10;
  auto status = body(f.ask("GET", "/api/status"));
  CHECK(status["snapshot_index"] == 90);
  CHECK(status["state_error"] == "row 7 is damaged");
  CHECK(status["verifying"] == true);
  CHECK(status["snapshot_incoming"] == json{{"received_bytes", 5}, {"size", 10}});
  CHECK(body(f.ask("GET", "/api/health/db"))["healthy"] == false);
  CHECK(body(f.ask("GET", "/api/health"))["checks"]["operations"]["state_error"] == "row 7 is damaged");
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
