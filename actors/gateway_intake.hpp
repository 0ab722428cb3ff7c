#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "actors/actors.hpp"
#include "actors/gateway_port.hpp"

namespace coordinator {

/// The door between the threads that ask and the gateway's actor: a queue in, and a copy of what the gateway last knew
/// out. The actor takes the whole queue at once and gets one message each time it has become non-empty, so that a
/// batch costs one message, not a request. The lock is held for a push or a swap only.
class gateway_intake {
 public:
  template <class T>
  using completion = std::function<void(T)>;

  struct write_item {
    write_request what;
    completion<write_result> done;
  };
  struct read_item {
    read_request what;
    completion<read_result> done;
  };
  struct claim_item {
    claim_request what;
    completion<write_result> done;
  };
  struct beat_item {
    worker_beat what;
    milliseconds timeout{0};
    completion<beat_result> done;
  };
  struct cluster_item {
    milliseconds timeout{0};
    completion<cluster_view> done;
  };
  struct transfer_item {
    node_id to;
    milliseconds timeout{0};
    completion<transfer_result> done;
  };
  struct members_item {
    membership_request what;
    completion<membership_result> done;
  };
  /// The keeper's answer to a question of the gateway's.
  struct contact_item {
    std::int64_t leader_contact_ms = -1;
  };
  using item = std::variant<write_item, read_item, claim_item, beat_item, cluster_item, transfer_item, members_item,
                            contact_item>;

  /// A copy of what the gateway last heard. It decides nothing.
  struct knowledge {
    gateway_port::leadership leadership;
    log_index last_applied;
    term_number last_applied_term;
    bool maintenance = false;
    bool storage_full = false;
    bool verifying = false;
  };

  /// Queues it; once the gateway is leaving, a client's request is answered at once with "shutting_down".
  void push(item x);

  /// From now on what is queued wakes nobody; then the gateway gets its one message for all of it.
  void gather();
  void hand_over();

  /// Lets no more requests of clients in. `idle` is called once when those inside have been answered; long polls are
  /// ended. On a thread of the actor system or on the caller's own.
  void leave(std::function<void()> idle);

  knowledge known() const;

  // For the gateway's actor.
  void attach(const gateway_actor& gateway);
  /// Nobody is there any more: everything queued is answered, and `idle` is called.
  void detach();
  std::vector<item> drain();
  bool leaving() const;
  /// Calls `idle`, once, unless something is queued.
  void left();
  template <class F>
  void publish(F&& change) {
    std::lock_guard lock{mutex_};
    change(known_);
  }

 private:
  mutable std::mutex mutex_;
  gateway_actor gateway_;
  std::vector<item> queue_;
  bool gathering_ = false;
  bool leaving_ = false;
  bool gone_ = false;
  std::function<void()> idle_;
  knowledge known_;
};

}  // namespace coordinator
