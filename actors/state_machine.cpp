#include "actors/state_machine.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

namespace coordinator {

namespace {

constexpr char settings_id[] = "settings";

command_result refuse(result_code code, std::string detail, std::string field = {}) {
  command_result result;
  result.code = code;
  result.detail = std::move(detail);
  result.field = std::move(field);
  return result;
}

/// Whether a later try under the same idempotency key is to be answered the same. Refusals that pass with time are
/// not kept, nor is a claim that found nothing: whoever waits for work claims again under its key.
bool is_worth_keeping(const command& x, const command_result& result) {
  switch (result.code) {
    case result_code::maintenance:
    case result_code::storage_full:
    case result_code::queue_full:
      return false;
    case result_code::ok:
      return !std::holds_alternative<claim_tasks>(x.body) || !result.assignments.empty();
    default:
      return true;
  }
}

/// What is kept of a result: the texts of claimed tasks are in the tasks already.
command_result without_texts(command_result result) {
  for (auto& each : result.assignments)
    each.spec_json.clear();
  return result;
}

}  // namespace

state_machine::state_machine(const defect_set& defects, std::size_t most_idempotency_keys)
    : defects_(defects),
      keys_(rows_),
      sessions_(rows_, defects_),
      idempotency_(rows_, most_idempotency_keys),
      work_(rows_, defects_),
      checksums_(kept_checksums) {
  note_checksum();
}

apply_outcome state_machine::apply(const log_entry& entry) {
  if (entry.index != last_applied_ + 1)
    throw std::logic_error("entry " + std::to_string(entry.index.value) + " cannot be applied after " +
                           std::to_string(last_applied_.value));
  apply_outcome out;
  out.index = entry.index;
  applied_time_ms_ = std::max(applied_time_ms_, entry.time_ms);
  if (defects_.has(defect::apply_reads_clock) && defects_.clock)
    applied_time_ms_ = defects_.clock();
  else if (defects_.has(defect::apply_reads_clock))
    applied_time_ms_ =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
  idempotency_.expire(applied_time_ms_);
  switch (entry.kind) {
    case entry_kind::noop:
      break;
    case entry_kind::genesis:
      if (genesis founding; from_bytes(entry.payload, founding))
        apply_members(founding.founders, out.events);
      break;
    case entry_kind::membership:
      if (membership members; from_bytes(entry.payload, members))
        apply_members(members, out.events);
      break;
    case entry_kind::command:
      apply_command(entry, out);
      break;
  }
  work_.finish_entry();
  last_applied_ = entry.index;
  last_applied_term_ = entry.term;
  note_checksum();
  return out;
}

void state_machine::apply_members(const membership& members, state_events& events) {
  sessions_.keep_only(members, events.closed_sessions);
}

void state_machine::apply_command(const log_entry& entry, apply_outcome& out) {
  auto x = decode(entry.payload);
  if (!x) {
    out.result = refuse(result_code::unreadable, "the entry does not decode");
    return;
  }
  if (auto opening = std::get_if<open_session>(&x->body)) {
    out.opened = *opening;
    out.result = validate(x->body);
    if (!out.result.ok())
      return;
    out.result = sessions_.open(*opening, entry.index.value, applied_time_ms_, out.events.closed_sessions);
    out.applied = out.result.version == entry.index.value;
    return;
  }
  out.session = x->session;
  out.sequence = x->sequence;
  if (auto known = sessions_.admit(*x)) {
    out.result = std::move(*known);
    work_.fill(out.result.assignments);
    return;
  }
  out.result = execute_once(*x, entry.index.value, out);
  sessions_.store(*x, without_texts(out.result));
  work_.fill(out.result.assignments);
}

command_result state_machine::execute_once(const command& x, std::uint64_t index, apply_outcome& out) {
  if (x.idempotency_key.empty()) {
    out.applied = true;
    return execute(x, index, out.events);
  }
  if (x.idempotency_key.size() > limits::idempotency_key_size)
    return refuse(result_code::invalid, "must be 1 to 128 characters", "Idempotency-Key");
  if (auto known = idempotency_.admit(x.idempotency_key, x.request_hash, applied_time_ms_))
    return std::move(*known);
  out.applied = true;
  auto result = execute(x, index, out.events);
  if (is_worth_keeping(x, result))
    idempotency_.store(x.idempotency_key, x.request_hash, index, applied_time_ms_, without_texts(result));
  return result;
}

command_result state_machine::execute(const command& x, std::uint64_t index, state_events& events) {
  if (auto bad = validate(x.body); !bad.ok())
    return bad;
  return std::visit(
      [&](const auto& body) -> command_result {
        using body_type = std::decay_t<decltype(body)>;
        if constexpr (std::is_same_v<body_type, tick> || std::is_same_v<body_type, open_session>) {
          return {};
        } else if constexpr (std::is_same_v<body_type, set_maintenance>) {
          if (settings_.maintenance != body.enabled)
            events.maintenance = body.enabled;
          settings_.maintenance = body.enabled;
          put_settings();
          return {};
        } else if constexpr (std::is_same_v<body_type, set_storage_alarm>) {
          if (settings_.storage_full != body.full)
            events.storage_full = body.full;
          settings_.storage_full = body.full;
          put_settings();
          return {};
        } else if constexpr (std::is_same_v<body_type, retire_tasks>) {
          return retire(body, {index, applied_time_ms_, events});
        } else if constexpr (std::is_same_v<body_type, put_key>) {
          return keys_.apply(body, index, applied_time_ms_);
        } else if constexpr (std::is_same_v<body_type, delete_key>) {
          return keys_.apply(body);
        } else {
          if (std::is_same_v<body_type, submit_tasks> && settings_.maintenance)
            return refuse(result_code::maintenance, "maintenance is enabled: no new tasks are taken");
          if (std::is_same_v<body_type, submit_tasks> && settings_.storage_full)
            return refuse(result_code::storage_full, "the quota of disk space is used up: no new tasks are taken");
          return work_.apply(body, {index, applied_time_ms_, events});
        }
      },
      x.body);
}

command_result state_machine::retire(const retire_tasks& x, const work_table::context& c) {
  auto result = work_.apply(x, c);
  if (result.version > 0 && settings_.next_task != work_.next_ordinal()) {
    settings_.next_task = work_.next_ordinal();
    put_settings();
  }
  return result;
}

void state_machine::put_settings() {
  rows_.put(row_kind::settings, settings_id, to_bytes(settings_), settings_.hash);
}

fleet_conditions state_machine::conditions() const {
  return {has_timed_rows(), settings_.storage_full, work_.oldest_finished_ms(), work_.retire_steps(), applied_time_ms_};
}

void state_machine::note_checksum() {
  auto index = last_applied_.value;
  checksums_[index % kept_checksums] = rows_.checksum();
  if (index >= kept_checksums)
    first_checksum_ = std::max(first_checksum_, index - kept_checksums + 1);
}

query_result state_machine::answer_checksum(const get_checksum& x) const {
  auto at = x.at == 0 ? last_applied_.value : x.at;
  if (at > last_applied_.value)
    return query_error{query_error::kind::not_ready, "this index is not yet applied here", "at"};
  if (at < first_checksum_)
    return query_error{query_error::kind::gone, "the checksum of this index is no longer kept here", "at"};
  return checksum_view{at, checksums_[at % kept_checksums]};
}

query_result state_machine::answer(const query& x) const {
  return std::visit(
      [&](const auto& each) -> query_result {
        using query_type = std::decay_t<decltype(each)>;
        if constexpr (std::is_same_v<query_type, get_key> || std::is_same_v<query_type, list_keys>) {
          return keys_.answer(each);
        } else if constexpr (std::is_same_v<query_type, get_checksum>) {
          return answer_checksum(each);
        } else if constexpr (std::is_same_v<query_type, get_counts>) {
          counts_view out;
          work_.count(out);
          out.keys = keys_.size();
          out.sessions = sessions_.size();
          out.idempotency_keys = idempotency_.size();
          out.maintenance = settings_.maintenance;
          out.storage_full = settings_.storage_full;
          return out;
        } else if constexpr (std::is_same_v<query_type, get_state>) {
          state_view out;
          work_.append_to(out);
          keys_.append_to(out.keys);
          out.last_applied = last_applied_.value;
          out.last_applied_term = last_applied_term_.value;
          out.maintenance = settings_.maintenance;
          return out;
        } else {
          return work_.answer(each);
        }
      },
      x);
}

state_write state_machine::take_dirty() {
  return {last_applied_, last_applied_term_, applied_time_ms_, rows_.checksum(), rows_.take()};
}

bool state_machine::load_row(std::uint8_t kind, std::string_view id, std::string_view body) {
  switch (static_cast<row_kind>(kind)) {
    case row_kind::settings:
      if (id != settings_id || !from_bytes(body, settings_))
        return false;
      settings_.hash = rows_.loaded(row_kind::settings, id, body);
      work_.load_next_ordinal(settings_.next_task);
      return true;
    case row_kind::key:
      return keys_.load(id, body);
    case row_kind::worker:
      return work_.load_worker(id, body);
    case row_kind::session:
      return sessions_.load_session(id, body);
    case row_kind::session_result:
      return sessions_.load_result(id, body);
    case row_kind::idempotency:
      return idempotency_.load(id, body);
    case row_kind::task:
      return work_.load_task(id, body);
  }
  return false;
}

bool state_machine::finish_loading(const state_meta& meta) {
  idempotency_.loaded();
  if (!work_.loaded() || rows_.checksum() != meta.checksum)
    return false;
  last_applied_ = meta.last_applied;
  last_applied_term_ = meta.last_applied_term;
  applied_time_ms_ = meta.applied_time_ms;
  first_checksum_ = last_applied_.value;
  note_checksum();
  return true;
}

fleet_view state_machine::view_for_fleet() const {
  fleet_view result;
  work_.append_to(result);
  return result;
}

}  // namespace coordinator
