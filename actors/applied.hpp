#pragma once

#include <cstdint>
#include <string>

#include "actors/commands.hpp"
#include "actors/queries.hpp"
#include "persistence/types.hpp"

/// What gateway and state machine tell each other, free of CAF; local_messages.hpp has the messages that carry it.

namespace coordinator {

/// What became of one command of this node's sessions.
struct applied_command {
  std::uint64_t session = 0;   ///< 0: open_session; the result's version is the new session's number.
  std::uint64_t sequence = 0;  ///< Of an open_session: the boot id of the gateway that sent it.
  log_index index;
  term_number term;
  command_result result;
};

/// One read, to be begun once the state machine has applied `min_index`.
struct pending_query {
  std::uint64_t request = 0;  ///< Comes back in the answer.
  log_index min_index;
  query what;
};

struct query_answer {
  std::uint64_t request = 0;
  log_index applied_index;
  query_result result;
};

/// Tell me once there is pending work that this worker could claim, or that its claim would be refused. Answered
/// by one work_ready; from then on the work counts as promised to it, and wakes nobody else, until the same request is
/// made again or cancelled.
struct await_work {
  std::uint64_t request = 0;
  std::string worker_id;
  std::uint32_t max_tasks = 1;  ///< How much of the work it would take.
  bool cancelled = false;       ///< Forget the request.
};

}  // namespace coordinator
