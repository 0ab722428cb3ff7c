#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "http/json_reader.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// What an entry of the log holds, as `GET /api/raft/log` shows it: {"type":"put_key","session":…,"key":…}. The types
/// are the commands' names, and "noop", "genesis" and "membership". "unreadable" for bytes of a newer version.
nlohmann::ordered_json command_to_json(const log_entry& entry);

/// The reverse, for `POST /api/raft/append_entries`: an entry {"term","time_ms","command":{"type",…}} with its kind and
/// payload; index and clock are the caller's. Unknown fields fail, as what they ask for would not be in the log.
/// A genesis is refused: entry 1 is written by founding a cluster and by nothing else.
log_entry read_entry(const nlohmann::json& entry, const std::string& at, std::optional<problem>& failure);

}  // namespace coordinator
