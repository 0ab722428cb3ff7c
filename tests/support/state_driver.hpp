#pragma once

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actors/state_machine.hpp"

namespace coordinator::testing {

/// A state machine with a log in front of it and a state.db of plain memory behind it. Commands come from one session,
/// opened at entry 1 by node "n1" of incarnation 7, unless a test makes them itself.
class state_driver {
 public:
  explicit state_driver(const defect_set& defects = {}, std::size_t most_idempotency_keys = limits::idempotency_keys)
      : defects_(defects), most_keys_(most_idempotency_keys) {
    machine_ = std::make_unique<state_machine>(defects_, most_keys_);
    session = open("n1", 7, 1).result.version;
  }

  /// Applies an entry of any kind as the next one.
  apply_outcome entry(entry_kind kind, std::string payload) {
    log_entry x;
    x.index = machine_->last_applied() + 1;
    x.term = term_number{1};
    x.kind = kind;
    x.time_ms = now_ms;
    x.payload = std::move(payload);
    log.push_back(x);
    return machine_->apply(x);
  }
  apply_outcome send(const command& x) { return entry(entry_kind::command, encode(x)); }
  apply_outcome open(const std::string& node, std::uint64_t incarnation, std::uint64_t boot_id) {
    command x;
    x.body = open_session{node_id{node}, incarnation_id{incarnation}, boot_id};
    return send(x);
  }

  /// The next command of the driver's session.
  command make(command_body body) {
    command x;
    x.session = session;
    x.sequence = ++sequence;
    x.lowest_unanswered = sequence;
    x.body = std::move(body);
    return x;
  }
  apply_outcome outcome(command_body body) { return send(make(std::move(body))); }
  command_result run(command_body body) { return outcome(std::move(body)).result; }
  result_code code(command_body body) { return run(std::move(body)).code; }

  /// Registers a worker that can do these things.
  void worker(const std::string& id, std::uint32_t slots = 1, capability_map capabilities = {}) {
    register_worker x;
    x.worker_id = id;
    x.slots = slots;
    x.capabilities = std::move(capabilities);
    CHECK(code(x) == result_code::ok);
  }
  void submit(task_spec spec) { CHECK(code(submit_tasks{{std::move(spec)}}) == result_code::ok); }
  /// The ids of what the worker got.
  std::vector<std::string> claim(const std::string& worker_id, std::uint32_t most = 1) {
    std::vector<std::string> ids;
    for (auto& each : run(claim_tasks{worker_id, most}).assignments)
      ids.push_back(each.task_id);
    return ids;
  }

  template <class View, class Query>
  View get(Query x) const {
    auto result = machine_->answer(query{std::move(x)});
    REQUIRE(std::holds_alternative<View>(result));
    return std::get<View>(std::move(result));
  }
  task_view task(const std::string& id) const { return get<task_view>(get_task{id}); }
  task_status status(const std::string& id) const { return task(id).status; }
  worker_view worker_of(const std::string& id) const { return get<worker_view>(get_worker{id}); }

  /// Writes behind, as the state writer would.
  void flush() {
    auto write = machine_->take_dirty();
    meta_ = {write.last_applied, write.last_applied_term, write.applied_time_ms, write.checksum};
    for (auto& row : write.rows) {
      if (row.body)
        rows[{row.kind, row.id}] = *row.body;
      else
        rows.erase({row.kind, row.id});
    }
  }
  /// A restart right after a flush.
  void restart() {
    flush();
    auto fresh = std::make_unique<state_machine>(defects_, most_keys_);
    for (auto& [place, body] : rows)
      REQUIRE(fresh->load_row(place.first, place.second, body));
    REQUIRE(fresh->finish_loading(meta_));
    machine_ = std::move(fresh);
  }

  state_machine& machine() { return *machine_; }
  const state_meta& meta() const { return meta_; }

  std::uint64_t session = 0;
  std::uint64_t sequence = 0;
  std::int64_t now_ms = 1'000'000;
  std::vector<log_entry> log;
  std::map<std::pair<std::uint8_t, std::string>, std::string> rows;

 private:
  defect_set defects_;
  std::size_t most_keys_;
  std::unique_ptr<state_machine> machine_;
  state_meta meta_;
};

inline task_spec task(std::string id, std::vector<std::string> depends_on = {}) {
  task_spec x;
  x.spec_json = R"({"command":["true"],"task_id":")" + id + "\"}";
  x.task_id = std::move(id);
  x.depends_on = std::move(depends_on);
  return x;
}

inline defect_set without(defect rule) {
  defect_set x;
  x.add(rule);
  return x;
}

}  // namespace coordinator::testing
