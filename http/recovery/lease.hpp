#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "http/client/client.hpp"

namespace coordinator::recovery {

/// Where the daemons keep what they share, as keys of the cluster that they watch.
inline constexpr const char* lease_key = "coordinator/recovery/lease";
inline constexpr const char* actions_prefix = "coordinator/recovery/actions/";

/// The right to act on the cluster, which one daemon at a time has: a key that is only ever written on the condition
/// that it still has the version that was read. No clocks are compared: a daemon takes another one's lease when it has
/// itself seen it unchanged for as long as the lease says, and gives up its own earlier than that.
///
/// It cannot fence what is under way: an action that outlives the lease goes on. So it is confirmed before each step,
/// and each step is bounded.
class lease {
 public:
  using clock = std::chrono::steady_clock;
  enum class state {
    held,
    taken,        ///< Another daemon has it.
    unreachable,  ///< The cluster commits nothing at present.
  };

  /// `holder` is unique to this daemon. `cluster` must outlive this.
  lease(client& cluster, std::string holder, std::chrono::milliseconds length);

  /// Takes it, or keeps it: written anew when a third of its time has passed, and always with `surely`.
  state hold(bool surely = false);
  /// Gives it back, so that nobody has to wait for its end.
  void release();
  bool is_held() const { return version_ != 0 && clock::now() < until_; }
  /// Who has it, as far as was seen.
  const std::string& holder() const { return seen_holder_; }

 private:
  state write(const char* condition, const std::string& value);

  client& cluster_;
  const std::string holder_;
  const std::chrono::milliseconds length_;
  std::uint64_t version_ = 0;  ///< Ours; 0: we do not have it.
  clock::time_point renew_at_{};
  clock::time_point until_{};
  // Of another's.
  std::string seen_version_;
  std::string seen_holder_;
  clock::time_point seen_since_{};
  std::chrono::milliseconds seen_length_{};
};

}  // namespace coordinator::recovery
