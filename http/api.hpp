#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "actors/gateway_port.hpp"
#include "actors/observer.hpp"
#include "http/answers.hpp"
#include "http/junit.hpp"
#include "http/message.hpp"
#include "http/request_options.hpp"
#include "http/router.hpp"

namespace coordinator {

class snapshot_shelf;

/// The port ends every request by its time-out; this much later its answer must have been lost.
constexpr std::chrono::milliseconds reply_margin{2'000};

struct api_options {
  /// Guards /api/raft and /api/state; empty: they are for loopback only.
  std::string cluster_token;
  /// What a claim tells a worker: an attempt that it does not list for this long goes back to the queue.
  std::chrono::milliseconds lease{15'000};
  /// How often workers are asked to send their status.
  std::chrono::milliseconds worker_heartbeat{5'000};
  /// For the free space that /api/health reports, and where the node makes its snapshots; empty: none of both.
  std::string data_dir;
  /// What the node's actors have written down of what they saw; null: one of the front's own.
  std::shared_ptr<observer> watcher;
  /// How many connections are open, for /metrics; may be empty.
  std::function<std::size_t()> connections;
  /// Streams of events at a time; each holds a thread.
  std::size_t most_event_streams = 256;
};

/// The HTTP contract of docs/api_reference.md, answered by a node's gateway_port. Thread-safe. What only asks the port
/// is quick: it comes back as an `awaited_response`. The rest waits on the caller's thread for as long as the request
/// allows.
class api : public request_handler {
 public:
  /// `port` must outlive this.
  api(gateway_port& port, api_options options);

  /// Removes what was kept for clients. Once the server has been stopped.
  void close();

  plan plan_of(const http_request& head) const override;
  void gather() override { port_.gather(); }
  void hand_over() override { port_.hand_over(); }
  reply begin(http_request& request) override;
  http_response answer(http_request& request) override;
  bool is_probe(const http_request& request) const override;
  void complete(http_response& response) const override;

  const router& routes() const { return router_; }

 private:
  using handler = http_response (api::*)(const routed_request&);
  using quick_handler = reply (api::*)(const routed_request&);
  void add(const char* method, const char* path, handler h, std::size_t body_limit = default_body_limit);
  void add(const char* method, const char* path, quick_handler h, std::size_t body_limit = default_body_limit);
  void add_routes();

  // What the routes share.
  struct write_options {
    std::chrono::milliseconds timeout{};
    std::string key;
    std::uint64_t hash = 0;
  };
  write_options read_write_options(const routed_request& r, std::optional<problem>& failure) const;
  /// Commits a command; `finish` makes the answer of what became of it.
  reply write(command_body body, const write_options& options,
              std::function<http_response(std::optional<write_result>)> finish);
  /// The same, where `render` is for a command that was applied and not refused; `thing` names what it is about.
  reply write(command_body body, const write_options& options, std::string thing,
              std::function<http_response(command_result&)> render);
  /// Reads as the request asks; `render` turns the answer of the right type into a response.
  reply read(const routed_request& r, query what, std::string thing,
             std::function<http_response(query_result&)> render);
  /// Nothing if the node gave no answer for so long.
  std::optional<node_view> view(std::chrono::milliseconds patience = std::chrono::seconds{5}) const;
  std::optional<problem> refuse_stranger(const routed_request& r) const;
  /// Whether this node's log has an entry of that term at that index.
  bool same_history(log_index, term_number);
  http_response install_image(install_snapshot whole);
  std::variant<std::string, problem> make_image(const routed_request&);

  // What the monitor's routes share.
  std::optional<figures_view> figures();
  /// Of the node's own applied state, at once; nothing when the node does not answer within half a second.
  std::optional<query_result> look(query what);
  nlohmann::ordered_json present_state();
  nlohmann::ordered_json monitor(std::size_t history_points);
  class event_stream;
  /// Each task of a run in turn, until `use` says false. False if it did, or the node did not answer.
  bool for_each_result(const std::string& run_id, const std::function<bool(task_result)>& use);

  // routes_metrics.cpp
  http_response get_metrics(const routed_request&);
  // routes_events.cpp
  http_response get_events(const routed_request&);
  // routes_monitor.cpp
  http_response get_monitor(const routed_request&);
  http_response get_page(const routed_request&);
  http_response get_page_file(const routed_request&);
  // routes_runs.cpp
  http_response get_runs(const routed_request&);
  http_response get_run_by_id(const routed_request&);
  http_response get_junit(const routed_request&);
  // routes_node.cpp
  http_response get_status(const routed_request&);
  http_response get_cluster(const routed_request&);
  http_response post_transfer(const routed_request&);
  reply post_maintenance_enable(const routed_request&);
  reply post_maintenance_disable(const routed_request&);
  reply set_maintenance_mode(const routed_request&, bool enabled);
  http_response post_member(const routed_request&);
  http_response delete_member(const routed_request&);
  http_response post_promote(const routed_request&);
  http_response change_members(membership_request, const routed_request&, std::optional<problem> failure);
  http_response get_openapi(const routed_request&);
  // routes_health.cpp
  http_response get_livez(const routed_request&);
  http_response get_readyz(const routed_request&);
  http_response get_health(const routed_request&);
  http_response get_health_part(const routed_request&);
  http_response get_state_checksum(const routed_request&);
  // routes_raft.cpp
  http_response post_request_vote(const routed_request&);
  http_response post_append_entries(const routed_request&);
  http_response post_sync_state(const routed_request&);
  http_response get_log(const routed_request&);
  http_response get_state(const routed_request&);
  // routes_snapshots.cpp
  std::optional<problem> settle_state(const routed_request& r, std::optional<problem> failure);
  http_response post_snapshot(const routed_request&);
  http_response get_snapshot_piece(const routed_request&);
  http_response delete_snapshot(const routed_request&);
  // routes_workers.cpp
  reply post_register(const routed_request&);
  reply post_worker_status(const routed_request&);
  http_response get_workers(const routed_request&);
  reply get_worker_by_id(const routed_request&);
  reply delete_worker(const routed_request&);
  reply post_drain(const routed_request&);
  // routes_tasks.cpp
  reply post_submit(const routed_request&);
  http_response get_tasks(const routed_request&);
  reply get_task_by_id(const routed_request&);
  reply post_claim(const routed_request&);
  reply post_complete(const routed_request&);
  reply post_fail(const routed_request&);
  reply post_cancel(const routed_request&);
  // routes_kv.cpp
  reply get_key_value(const routed_request&);
  reply put_key_value(const routed_request&);
  reply delete_key_value(const routed_request&);
  http_response get_keys(const routed_request&);

  gateway_port& port_;
  const api_options options_;
  /// Shared with copies that are still being made.
  std::shared_ptr<snapshot_shelf> shelf_;
  const std::shared_ptr<observer> watcher_;
  const double started_s_;
  std::atomic<std::size_t> streams_{0};  ///< Of events, that are open.
  router router_;
};

}  // namespace coordinator
