#pragma once

#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

#include "actors/applied.hpp"
#include "actors/gateway_port.hpp"
#include "actors/messages.hpp"
#include "actors/request_messages.hpp"
#include "actors/rules.hpp"

namespace coordinator {

/// Numbers a client's request within one gateway. Also the `request` of messages on its behalf: numbers begin at the
/// boot id, so that an answer to this gateway's predecessor is not taken for one to this gateway.
using ticket = std::uint64_t;

struct gateway_config {
  sender self;
  std::uint64_t boot_id = 0;  ///< Drawn at random when the gateway starts; never 0.
  /// Commands under way to the leader, in bytes; a larger command goes alone.
  std::size_t window_bytes = 4u << 20;
  /// Commands of one message to another node. Beats share the connection and have to pass.
  std::size_t message_bytes = 64u << 10;
  std::size_t most_writes = 100'000;   ///< Waiting or under way; past it a write is refused as busy.
  milliseconds write_retry{1000};      ///< Without an answer; doubled up to three times.
  milliseconds read_retry{300};        ///< Without an answer. Likewise for heartbeats and other questions.
  milliseconds pause{20};              ///< After a refusal, before asking the same node again.
  milliseconds busy_patience{1000};    ///< For another change of the membership to end, before one is refused as busy.
  milliseconds cluster_patience{500};  ///< For the leader's view, before this node's own is given.
  defect_set defects;
};

/// What is to be done after the gateway was fed.
struct gateway_output {
  using keeper_message = std::variant<propose, read_index, cluster_query, transfer_leadership, change_membership>;
  using result = std::variant<write_result, read_result, beat_result, cluster_view, transfer_result, membership_result>;

  std::vector<std::pair<node_id, keeper_message>> to_keeper;  ///< To that node's keeper, perhaps this node's own.
  std::vector<std::pair<node_id, worker_beat>> to_fleet;
  std::vector<pending_query> queries;              ///< To this node's state machine.
  std::vector<await_work> polls;                   ///< To this node's state machine.
  bool ask_status = false;                         ///< Ask this node's keeper for its status.
  std::vector<std::pair<ticket, result>> answers;  ///< Each ticket once.
};

}  // namespace coordinator
