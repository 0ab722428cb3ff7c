#include "http/api.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "tests/support/api_front.hpp"

using namespace coordinator;
using nlohmann::json;
using test::body;
using test::front;
using test::header;

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
