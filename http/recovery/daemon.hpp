#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "http/recovery/actions.hpp"
#include "http/recovery/journal.hpp"
#include "http/recovery/lease.hpp"
#include "http/recovery/probe.hpp"

namespace coordinator::recovery {

struct daemon_options {
  bool once = false;     ///< End when nothing is wrong any more, or at `limits.once`.
  bool dry_run = false;  ///< Look and say; change nothing, neither here nor in the cluster.
  std::string host{};    ///< The name of this machine.
};

/// Looks at the nodes again and again, and does what is decided: the shell around `decisions`. One daemon a state
/// directory; several daemons, on one machine or many, share the work by the lease, which is taken only when there is
/// something to do, by one that has the node on its own machine.
class daemon {
 public:
  /// `say` gets each line of the log as it is written. Throws std::runtime_error where the state directory cannot be
  /// used, for instance because another daemon uses it.
  daemon(const recovery_config& config, daemon_options options, std::function<void(const entry&)> say);
  ~daemon();
  daemon(const daemon&) = delete;
  daemon& operator=(const daemon&) = delete;

  /// Goes on until `stopping`. True if, at the end, nothing that was noticed is left unmended.
  bool run(const std::atomic<bool>& stopping);

 private:
  using clock = std::chrono::steady_clock;

  void lock_state_directory();
  void check_split_brain_mark();
  void mark_split_brain(const std::string& seen);
  void look();
  void tell(const notice& n);
  void carry_out(const verdict& decided, const observation& seen);
  bool may_act(const intent& what);
  void act(const intent& what, const observation& seen);
  void share();
  void remember(const entry& x);
  bool is_mine(const std::string& node) const;
  milliseconds now() const;
  void write(entry x, bool shared);

  const recovery_config& config_;
  const daemon_options options_;
  const std::string name_;
  const std::function<void(const entry&)> say_;
  int lock_ = -1;
  std::unique_ptr<journal> journal_;
  client cluster_;
  lease lease_;
  shared_record record_;
  decisions decisions_;
  prober prober_;
  actions actions_;
  lease_need need_ = lease_need::always;  ///< Of the action that is under way.
  bool leader_seen_ = false;              ///< In the latest look.
  bool new_lease_ = false;                ///< Taken in this look: what was decided before may be outdated.
  std::string told_holder_{};
  std::set<std::string> told_dry_;
  std::set<std::string> told_strangers_;
};

}  // namespace coordinator::recovery
