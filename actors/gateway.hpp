#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/deadlines.hpp"
#include "actors/gateway_calls.hpp"
#include "actors/gateway_output.hpp"
#include "actors/gateway_reads.hpp"
#include "actors/gateway_route.hpp"
#include "actors/gateway_writes.hpp"

namespace coordinator {

/// What a node's gateway does with the requests of its clients: batches and forwards them to the leader, waits out
/// elections, repeats what may be lost so that it applies once, and gives every request one answer by its deadline.
///
/// Feed it with what came in, any number of calls, then take from `flush` everything that is to be done. `now` is
/// steady time. Nothing here is durable, and nothing is kept of a request that was answered.
class gateway {
 public:
  explicit gateway(gateway_config config);
  gateway(const gateway&) = delete;
  gateway& operator=(const gateway&) = delete;

  // From clients. Each is answered once under the ticket returned, at the latest when its time-out has passed.
  ticket write(write_request x, milliseconds now);
  ticket read(read_request x, milliseconds now);
  ticket claim(claim_request x, milliseconds now);
  ticket beat(worker_beat x, milliseconds timeout, milliseconds now);
  ticket cluster(milliseconds timeout, milliseconds now);
  ticket transfer(node_id to, milliseconds timeout, milliseconds now);
  ticket change_members(membership_request x, milliseconds now);

  // From this node's other actors.
  void role(const role_changed& x);
  void stand_still(const standstill& x);
  void peer_up(const node_id& id);
  void peer_down(const node_id& id);
  /// The applied state is another one: what is in flight may be in it, and its answer kept there (rule 10).
  void replaced();
  void applied(const std::vector<applied_command>& commands, milliseconds now);
  void answered(const query_answer& x);
  void work_ready(ticket request);
  /// The keeper's answer to `ask_status`.
  void leader_contact(std::int64_t leader_contact_ms);
  /// Commands of the leader's fleet: proposed at most while this node leads, and nobody is told what became of them.
  void propose_own(std::vector<command_body> commands, milliseconds now);

  // From peers, or from this node's own keeper and fleet.
  void rejected(const proposal_rejected& x, milliseconds now);
  void indexed(const read_index_reply& x, milliseconds now);
  void beaten(const worker_beat_reply& x, milliseconds now);
  void viewed(const cluster_view& x);
  void transferred(const transfer_reply& x, milliseconds now);
  void members_changed(const membership_reply& x, milliseconds now);

  /// Answers the long polls that wait for work, so that their workers ask another node; the rest goes on.
  void end_polls(const std::string& reason);
  /// Answers everything, with what is known now.
  void give_up(const char* reason);

  /// Everything to be done, with what has become due by now.
  gateway_output flush(milliseconds now);
  /// When `flush` has to be called again if nothing else happens.
  std::optional<milliseconds> next_wake() const;

  bool idle() const { return writes_.size() == 0 && reads_.size() == 0 && calls_.empty() && claims_.empty(); }
  const gateway_route& route() const { return route_; }
  std::uint64_t session() const { return writes_.session(); }
  std::size_t bytes_under_way() const { return writes_.bytes_under_way(); }

 private:
  struct pending_claim {
    claim_request what;
    milliseconds wait_until{0};
    milliseconds deadline{0};
    bool proposed = false;  ///< A claim_tasks is under way; else it waits for work.
    bool promised = false;  ///< The state machine keeps work back for it.
  };

  void repeat();
  void propose_claim(ticket owner, pending_claim& x);
  void await(ticket owner, pending_claim& x);
  void claim_written(ticket owner, write_result result, milliseconds now);
  void end_claim(ticket owner, write_result result);
  void dispatch_written(milliseconds now);

  const gateway_config config_;
  ticket next_ticket_;
  gateway_route route_;
  gateway_writes writes_;
  gateway_reads reads_;
  gateway_calls calls_;
  std::string standstill_;  ///< Not empty: why nothing is applied at this node.
  std::map<ticket, pending_claim> claims_;
  deadlines polls_due_;  ///< When a claim that waits for work has waited long enough.
  gateway_writes::answers written_;
  gateway_output out_;
};

}  // namespace coordinator
