#pragma once

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

/// The commands of one gateway, on their way to being applied once (rule 10).
///
/// A command gets its (session, sequence) when it is first sent, and every later copy is the same bytes. Copies are
/// sent whenever the last one may be lost: the leader changed, its link broke, it refused, or nothing was heard for
/// long. The first word of the state machine on a (session, sequence) is the truth on it, since words come in the order
/// of the log; a refusal therefore proves that no copy was applied or will be, and only then does the command get
/// another number.
class gateway_writes {
 public:
  explicit gateway_writes(const gateway_config& config) : config_(config), next_batch_(config.boot_id) {}

  struct request {
    ticket owner = 0;  ///< 0: nobody waits, and it is dropped when this node stops leading.
    command_body body;
    std::string idempotency_key;
    std::uint64_t request_hash = 0;
    milliseconds deadline{0};
  };
  using answers = std::vector<std::pair<ticket, write_result>>;

  void add(request x, answers& done);
  /// Answers with what is known now: not_applied if no copy left, else unknown.
  void give_up(ticket owner, const char* reason, answers& done);
  void give_up_all(const char* reason, answers& done);

  /// Nothing is applied here any more, so that no answer could be given: what has not left is refused, now and until
  /// `reason` is empty. What has left may be applied elsewhere, and waits.
  void stand_still(const std::string& reason, answers& done);

  void rejected(const proposal_rejected& x, gateway_route& route, milliseconds now);
  void applied(const std::vector<applied_command>& commands, milliseconds now, answers& done);
  /// What is under way may be lost: send it again. What nobody waits for is dropped unless this node leads.
  void repeat(const gateway_route& route);
  /// The applied state is another one, and what was applied on the way to it was not seen here: a closed session's
  /// refusal no longer proves that no earlier copy was applied (design rule 10).
  void replaced();

  /// Time-outs, and retries of what was not answered.
  void expire(const gateway_route& route, milliseconds now, answers& done);
  void send(const gateway_route& route, milliseconds now, gateway_output& out);
  std::optional<milliseconds> next_wake(const gateway_route& route) const;

  /// 0: none is open.
  std::uint64_t session() const { return session_; }
  std::size_t size() const { return writes_.size(); }
  std::size_t bytes_under_way() const { return bytes_under_way_; }

 private:
  struct pending {
    ticket owner = 0;
    milliseconds deadline{0};
    milliseconds retry_at{0};
    unsigned copies = 0;      ///< That left under the present number; none proves that it was not applied.
    bool hidden = false;      ///< A copy under any number may have been applied unseen.
    std::uint64_t batch = 0;  ///< That the last copy went in.
    command what;             ///< Without its body once it has been encoded.
    std::string bytes;        ///< Empty: it has no number.

    /// Proven not to be applied.
    bool is_untried() const { return copies == 0 && !hidden; }
  };
  using pendings = std::map<std::uint64_t, pending>;

  void number(std::uint64_t id, pending& x);
  void unnumber(std::uint64_t id, pending& x);
  void queue(std::uint64_t id, pending& x);
  void sent(std::uint64_t id, pending& x, std::uint64_t batch, milliseconds now);
  void finish(pendings::iterator i, write_result result, answers& done);
  void drop(pendings::iterator i);
  void opened(const command_result& result, milliseconds now);
  void send_open(const node_id& to, milliseconds now, gateway_output& out);

  const gateway_config& config_;
  std::uint64_t session_ = 0;
  std::uint64_t next_sequence_ = 1;
  std::uint64_t next_id_ = 1;
  std::uint64_t next_batch_;

  pendings writes_;                 ///< In the order they came in.
  std::set<std::uint64_t> queued_;  ///< To be sent; all others are under way.
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> numbered_;  ///< By (session, sequence).
  std::map<ticket, std::uint64_t> by_owner_;
  deadlines due_;  ///< The deadline, or the retry before it.
  std::size_t bytes_under_way_ = 0;

  milliseconds hold_until_{0};  ///< Send nothing before; the leader was busy.
  bool was_busy_ = false;
  std::string standstill_;   ///< Not empty: why commands are refused.
  milliseconds open_at_{0};  ///< When to propose (again) to open a session, while none is open.
  std::uint64_t open_batch_ = 0;
};

}  // namespace coordinator
