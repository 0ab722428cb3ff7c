#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "actors/deadlines.hpp"
#include "actors/gateway_output.hpp"
#include "actors/gateway_route.hpp"

namespace coordinator {

/// What a gateway asks of the leader beside writes and reads: heartbeats of workers, the members and changes of them, a
/// transfer of leadership. Each is asked again of whoever leads then, until its deadline.
class gateway_calls {
 public:
  explicit gateway_calls(const gateway_config& config) : config_(config) {}

  void beat(ticket owner, worker_beat x, milliseconds deadline);
  void cluster(ticket owner, milliseconds now, milliseconds deadline);
  void transfer(ticket owner, node_id to, milliseconds deadline);
  void change_members(ticket owner, membership_request x, milliseconds now);
  void give_up_all(const char* reason, gateway_output& out);

  /// A status that has to be committed before the beat may be answered.
  struct status_change {
    ticket owner = 0;
    set_worker_status body;
    milliseconds deadline{0};
  };
  std::optional<status_change> beaten(const worker_beat_reply& x, gateway_route& route, milliseconds now,
                                      gateway_output& out);
  /// What became of a beat's status change. False: the ticket is no beat's.
  bool status_written(ticket owner, const write_result& x, gateway_output& out);
  void viewed(const cluster_view& x, gateway_output& out);
  void transferred(const transfer_reply& x, gateway_route& route, milliseconds now, gateway_output& out);
  void members_changed(const membership_reply& x, gateway_route& route, milliseconds now, gateway_output& out);
  /// What is under way may be lost: ask again. A transfer is done when another node leads.
  void repeat(const gateway_route& route, gateway_output& out);

  void expire(const gateway_route& route, milliseconds now, gateway_output& out);
  void send(const gateway_route& route, milliseconds now, gateway_output& out);
  std::optional<milliseconds> next_wake() const { return due_.next(); }

  bool empty() const { return beats_.empty() && clusters_.empty() && transfers_.empty() && changes_.empty(); }

 private:
  struct beat_call {
    milliseconds deadline{0};
    worker_beat what;
    bool left = false;
    /// Set while a change of status is being written: what is answered then.
    std::optional<std::vector<std::string>> cancel;
  };
  struct cluster_call {
    milliseconds deadline{0};
    milliseconds own_at{0};  ///< When this node's own view will do.
    bool own_asked = false;
  };
  struct transfer_call {
    milliseconds deadline{0};
    node_id to;
    node_id asked;  ///< Who led when it was asked; empty: nobody has been asked.
    term_number asked_term;
    bool started = false;
  };

  struct members_call {
    membership_request what;
    milliseconds deadline{0};
    node_id asked;          ///< Whose answer is waited for; empty: nobody's.
    unsigned times = 0;     ///< How often it left.
    bool may_have = false;  ///< An earlier try may have been carried out.
    std::optional<milliseconds> busy_until;
    std::string busy_detail;
  };

  template <class Calls>
  void finish(Calls& calls, ticket owner, gateway_output::result result, gateway_output& out);
  void expire_beat(ticket owner, const char* reason, gateway_output& out);
  void expire_cluster(ticket owner, const gateway_route& route, milliseconds now, gateway_output& out);
  void expire_transfer(ticket owner, const gateway_route& route, milliseconds now, gateway_output& out);
  void expire_members(ticket owner, const gateway_route& route, milliseconds now, gateway_output& out);
  void members_refused(ticket owner, const membership_reply& x, milliseconds now, gateway_output& out);
  void send_cluster(ticket owner, cluster_call& x, const gateway_route& route, gateway_output& out);
  bool send_transfer(ticket owner, transfer_call& x, const gateway_route& route, gateway_output& out);

  const gateway_config& config_;
  std::map<ticket, beat_call> beats_;
  std::map<ticket, cluster_call> clusters_;
  std::map<ticket, transfer_call> transfers_;
  std::map<ticket, members_call> changes_;
  std::set<ticket> unsent_;
  deadlines due_;  ///< The deadline, or the next thing to do before it.
};

}  // namespace coordinator
