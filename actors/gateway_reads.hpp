#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/deadlines.hpp"
#include "actors/gateway_output.hpp"
#include "actors/gateway_route.hpp"

namespace coordinator {

/// The reads of one gateway (rule 7).
///
/// A linearizable read rides on a read_index that is sent after the read came in. One of these is under way at a time,
/// and all reads that came in meanwhile share the next. With its answer they go to the state machine. Stale
/// reads need only how long ago the leader was heard, and share that question likewise.
class gateway_reads {
 public:
  explicit gateway_reads(const gateway_config& config) : config_(config) {}

  void add(ticket owner, query what, bool linearizable, std::int64_t max_stale_ms, milliseconds deadline,
           gateway_output& out);
  void give_up_all(const char* reason, gateway_output& out);
  /// Nothing is applied here any more: a linearizable read could wait for its index in vain. They are refused, now and
  /// until `reason` is empty; stale ones go on.
  void stand_still(const std::string& reason, gateway_output& out);

  void indexed(const read_index_reply& x, gateway_route& route, milliseconds now, gateway_output& out);
  void contact(std::int64_t leader_contact_ms, gateway_output& out);
  void answered(const query_answer& x, gateway_output& out);
  /// A question that is under way may be lost: its reads ask again.
  void repeat();

  void expire(const gateway_route& route, milliseconds now, gateway_output& out);
  /// `next_request` numbers the questions, rising.
  void send(const gateway_route& route, milliseconds now, std::uint64_t& next_request, gateway_output& out);
  std::optional<milliseconds> next_wake(const gateway_route& route) const;

  std::size_t size() const { return reads_.size(); }

 private:
  struct pending {
    query what;
    bool linearizable = true;
    std::int64_t max_stale_ms = -1;
    std::int64_t leader_contact_ms = -1;
  };
  void fail(ticket owner, const std::string& reason, gateway_output& out);
  void run(ticket owner, log_index min_index, gateway_output& out);

  const gateway_config& config_;
  std::map<ticket, pending> reads_;
  deadlines due_;

  std::vector<ticket> waiting_;  ///< For the next read_index.
  std::uint64_t request_ = 0;    ///< Of the one under way; 0: none is.
  std::vector<ticket> riding_;   ///< On the one under way.
  milliseconds retry_at_{0};
  milliseconds hold_until_{0};

  std::vector<ticket> stale_;         ///< Wait for the next status.
  std::vector<ticket> stale_riding_;  ///< On the one under way.
  bool status_asked_ = false;
  std::string standstill_;  ///< Not empty: why linearizable reads are refused.
};

}  // namespace coordinator
