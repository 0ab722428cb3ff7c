#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "actors/gateway_port.hpp"
#include "actors/queries.hpp"

namespace coordinator {

// How the answers of the state machine and of the keeper look as JSON; the HTTP contract's field names.

/// Whether this node knows a leader and has heard it of late. A follower whose leader and whose quorum are gone goes on
/// knowing who led: the silence tells.
bool hears_leader(const raft_status&);

/// `whole`: with every attempt and the result's output; lists leave these out.
nlohmann::ordered_json render(const task_view& task, bool whole = true);
nlohmann::ordered_json render(const worker_view& worker);
nlohmann::ordered_json render(const cluster_view& cluster);
/// `now_ms`: for the duration of a run that has not ended.
nlohmann::ordered_json render(const run_view& run, std::int64_t now_ms);
/// Of a change that is as was asked for.
nlohmann::ordered_json render(const membership_result& change);
nlohmann::ordered_json render_status(const node_view& node);
/// Adds `snapshot_incoming` while a state comes in from the leader.
void add_incoming_snapshot(nlohmann::ordered_json& to, const raft_status& raft);
/// A claimed task, with what the worker needs to hold it.
nlohmann::ordered_json render(const assignment& given, std::int64_t lease_ms);
/// An entry of a list of keys: without its value, which may be any bytes.
nlohmann::ordered_json render(const key_view& key);

/// Adds `value` under `name` if it is UTF-8, otherwise as base64 under `name`_base64.
void add_bytes(nlohmann::ordered_json& to, const std::string& name, const std::string& value);

std::string to_base64(std::string_view bytes);
/// Nothing unless it is base64 with its padding.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace coordinator
