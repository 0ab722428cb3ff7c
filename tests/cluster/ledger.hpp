#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/cluster/cluster.hpp"

namespace coordinator {

/// Clients that write without a pause and keep a ledger of what was acknowledged. A client whose node is killed under
/// it sends the same request, with the same Idempotency-Key, to the next node; any other answer than success is noted
/// as a complaint, for a write that meets an election is to be slow, and not an error.
class ledger {
 public:
  /// Starts `writers` of them on these nodes.
  ledger(const cluster& nodes, std::vector<int> targets, int writers);
  ~ledger() { stop(); }
  ledger(const ledger&) = delete;
  ledger& operator=(const ledger&) = delete;

  /// Lets each finish the write it is at, and ends.
  void stop();
  /// Acknowledged writes so far.
  std::size_t size() const;
  /// Waits until this many more writes have been acknowledged than now. False if that does not happen in time.
  bool wait_for_more(std::size_t writes) const;

  const std::vector<std::string>& complaints() const { return complaints_; }
  /// What an acknowledged write is missing or wrong at a node, read linearizably; empty if nothing is.
  std::string what_is_lost(int node) const;

 private:
  void write(int writer);

  const cluster& nodes_;
  const std::vector<int> targets_;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::map<std::string, std::string> acknowledged_;
  std::vector<std::string> complaints_;
  std::vector<std::thread> threads_;
};

}  // namespace coordinator
