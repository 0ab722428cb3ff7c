#include "http/api.hpp"

#include "http/snapshot_shelf.hpp"
#include "http/wait.hpp"

namespace coordinator {
namespace {

constexpr std::size_t value_limit = limits::value_size;
/// For routes whose body has a few fields.
constexpr std::size_t small_body = 1 << 20;
/// For the whole state with its image.
constexpr std::size_t state_body = 64 << 20;

}  // namespace

api::api(gateway_port& port, api_options options)
    : port_(port),
      options_(std::move(options)),
      watcher_(options_.watcher ? options_.watcher : std::make_shared<observer>(port.current_leadership().node, 1)),
      started_s_(static_cast<double>(watcher_->now_ms()) / 1000) {
  snapshot_shelf::settings shelf;
  shelf.directory = options_.data_dir;
  shelf_ = std::make_shared<snapshot_shelf>(std::move(shelf));
  add_routes();
}

void api::close() {
  shelf_->close();
}

void api::add(const char* method, const char* path, handler h, std::size_t body_limit) {
  router_.add(method, path, [this, h](const routed_request& r) { return (this->*h)(r); }, {body_limit, false});
}

void api::add(const char* method, const char* path, quick_handler h, std::size_t body_limit) {
  router_.add(method, path, [this, h](const routed_request& r) { return (this->*h)(r); }, {body_limit, true});
}

void api::add_routes() {
  add("GET", "/", &api::get_page);
  add("GET", "/monitor/{file}", &api::get_page_file);
  add("GET", "/metrics", &api::get_metrics);
  add("GET", "/api/events", &api::get_events);
  add("GET", "/api/monitor", &api::get_monitor);
  add("GET", "/api/runs", &api::get_runs);
  add("GET", "/api/runs/{run_id}", &api::get_run_by_id);
  add("GET", "/api/runs/{run_id}/junit.xml", &api::get_junit);
  add("GET", "/api/status", &api::get_status);
  add("GET", "/api/cluster", &api::get_cluster);
  add("POST", "/api/cluster/transfer_leadership", &api::post_transfer, small_body);
  add("POST", "/api/cluster/members", &api::post_member, small_body);
  add("DELETE", "/api/cluster/members/{node_id}", &api::delete_member, small_body);
  add("POST", "/api/cluster/members/{node_id}/promote", &api::post_promote, small_body);
  add("POST", "/api/maintenance/enable", &api::post_maintenance_enable, small_body);
  add("POST", "/api/maintenance/disable", &api::post_maintenance_disable, small_body);
  add("GET", "/api/openapi.json", &api::get_openapi);
  add("GET", "/livez", &api::get_livez);
  add("GET", "/readyz", &api::get_readyz);
  add("GET", "/api/health", &api::get_health);
  for (auto part : {"/api/health/db", "/api/health/log", "/api/health/resources", "/api/health/operations"})
    add("GET", part, &api::get_health_part);
  add("GET", "/api/health/state_checksum", &api::get_state_checksum);
  add("POST", "/api/raft/request_vote", &api::post_request_vote, small_body);
  add("POST", "/api/raft/append_entries", &api::post_append_entries);
  add("POST", "/api/raft/sync_state", &api::post_sync_state, state_body);
  add("GET", "/api/raft/log", &api::get_log);
  add("GET", "/api/state", &api::get_state);
  add("POST", "/api/snapshots", &api::post_snapshot, small_body);
  add("GET", "/api/snapshots/{snapshot_id}", &api::get_snapshot_piece);
  add("DELETE", "/api/snapshots/{snapshot_id}", &api::delete_snapshot, small_body);
  add("POST", "/api/workers/register", &api::post_register, small_body);
  add("POST", "/api/workers/status", &api::post_worker_status, small_body);
  add("GET", "/api/workers", &api::get_workers);
  add("GET", "/api/workers/{worker_id}", &api::get_worker_by_id);
  add("DELETE", "/api/workers/{worker_id}", &api::delete_worker);
  add("POST", "/api/workers/{worker_id}/drain", &api::post_drain, small_body);
  add("POST", "/api/tasks/submit", &api::post_submit);
  add("GET", "/api/tasks", &api::get_tasks);
  add("POST", "/api/tasks/claim", &api::post_claim, small_body);
  add("GET", "/api/tasks/{task_id}", &api::get_task_by_id);
  add("POST", "/api/tasks/{task_id}/complete", &api::post_complete);
  add("POST", "/api/tasks/{task_id}/fail", &api::post_fail);
  add("POST", "/api/tasks/{task_id}/cancel", &api::post_cancel, small_body);
  add("GET", "/api/kv", &api::get_keys);
  add("GET", "/api/kv/{key}", &api::get_key_value);
  add("PUT", "/api/kv/{key}", &api::put_key_value, value_limit);
  add("DELETE", "/api/kv/{key}", &api::delete_key_value, small_body);
}

request_handler::plan api::plan_of(const http_request& head) const {
  return router_.plan_of(head);
}

bool api::is_probe(const http_request& request) const {
  return (request.method == "GET" || request.method == "HEAD") &&
         (request.path == "/livez" || request.path == "/readyz" || request.path == "/metrics" ||
          request.path == "/api/health" || request.path.rfind("/api/health/", 0) == 0) &&
         request.path != "/api/health/state_checksum";
}

reply api::begin(http_request& request) {
  static const std::string unmatched = "unmatched";
  auto began = observer::steady::now();
  auto route = &unmatched;
  auto given = router_.begin(request, &route);
  // A method that no route takes is the client's own word.
  auto count = [this, began, route, method = route == &unmatched ? unmatched : request.method](http_response response) {
    watcher_->figures().answered(method, *route, response.status, observer::steady::now() - began);
    return response;
  };
  auto* later = std::get_if<awaited_response>(&given);
  if (!later)
    return count(std::move(std::get<http_response>(given)));
  later->give_up = [count, give_up = std::move(later->give_up)](bool stopping) { return count(give_up(stopping)); };
  later->start = [count, start = std::move(later->start)](awaited_response::completion done) {
    start([count, done = std::move(done)](awaited_response::maker make) {
      done([count, make = std::move(make)] { return count(make()); });
    });
  };
  return given;
}

http_response api::answer(http_request& request) {
  return wait_for(begin(request), request.client);
}

void api::complete(http_response& response) const {
  auto now = port_.current_leadership();
  response.set("X-Coordinator-Node", now.node.value);
  response.set("X-Coordinator-Leader", now.leader.value);
  response.set("X-Coordinator-Term", std::to_string(now.term.value));
}

api::write_options api::read_write_options(const routed_request& r, std::optional<problem>& failure) const {
  return {request_timeout(r, failure), idempotency_key(r, failure), request_hash(r.http)};
}

reply api::write(command_body body, const write_options& options,
                 std::function<http_response(std::optional<write_result>)> finish) {
  if (auto checked = validate(body); !checked.ok()) {
    write_result refused;
    refused.outcome = write_result::outcome::applied;
    refused.result = std::move(checked);
    return finish(std::move(refused));
  }
  auto start = [this, request = write_request{std::move(body), options.key, options.hash, options.timeout}](
                   auto done) mutable { port_.write(std::move(request), std::move(done)); };
  auto end = [this, began = observer::steady::now(), finish = std::move(finish)](std::optional<write_result> result) {
    if (result && result->outcome == write_result::outcome::applied)
      watcher_->written(observer::steady::now() - began);
    return finish(std::move(result));
  };
  return when_done<write_result>(std::move(start), options.timeout + reply_margin, std::move(end));
}

reply api::write(command_body body, const write_options& options, std::string thing,
                 std::function<http_response(command_result&)> render) {
  return write(std::move(body), options,
               [thing = std::move(thing), render = std::move(render)](std::optional<write_result> result) {
                 auto wrong = why_not_written(result, thing);
                 return wrong ? to_response(*wrong) : render(result->result);
               });
}

reply api::read(const routed_request& r, query what, std::string thing,
                std::function<http_response(query_result&)> render) {
  std::optional<problem> failure;
  auto how = read_consistency(r, failure);
  auto timeout = request_timeout(r, failure);
  if (failure)
    return to_response(*failure);
  auto start = [this, request = read_request{std::move(what), how.linearizable, timeout,
                                             how.linearizable ? -1 : how.max_stale_ms}](auto done) mutable {
    port_.read(std::move(request), std::move(done));
  };
  auto end = [linearizable = how.linearizable, thing = std::move(thing),
              render = std::move(render)](std::optional<read_result> result) {
    auto wrong = why_not_read(result, thing);
    auto response = wrong ? to_response(*wrong) : render(result->result);
    if (result)
      add_read_headers(response, *result, linearizable);
    return response;
  };
  auto later = when_done<read_result>(std::move(start), timeout + reply_margin, std::move(end));
  later.needs_client = true;
  return later;
}

std::optional<node_view> api::view(std::chrono::milliseconds patience) const {
  return wait_for<node_view>([&](auto done) { port_.view(std::move(done)); }, patience);
}

std::optional<problem> api::refuse_stranger(const routed_request& r) const {
  auto given = r.http.header("authorization");
  if (options_.cluster_token.empty()) {
    // A page in a browser on this machine comes from loopback, too; it cannot hide its origin.
    if (r.http.from_loopback && !r.http.header("origin"))
      return std::nullopt;
    return problem{403, "loopback_only", "Without a cluster token this route is for loopback only.", {}, {}, {}};
  }
  if (!given)
    return problem{401, "token_required", "This route needs the cluster token.", "Authorization", {}, {}};
  auto expected = "Bearer " + options_.cluster_token;
  // Compared in a time that does not depend on where they differ.
  unsigned char difference = given->size() == expected.size() ? 0 : 1;
  for (std::size_t i = 0; i < given->size(); ++i)
    difference |= static_cast<unsigned char>((*given)[i] ^ expected[i % expected.size()]);
  if (difference != 0)
    return problem{403, "wrong_token", "This is not the cluster token.", "Authorization", {}, {}};
  return std::nullopt;
}

}  // namespace coordinator
