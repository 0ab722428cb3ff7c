#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "http/client/client.hpp"
#include "http/worker/journal.hpp"
#include "http/worker/task.hpp"
#include "http/worker/usage.hpp"

namespace coordinator {

class process_guard;

struct worker_options {
  std::vector<endpoint> coordinators;
  std::string worker_id;
  std::vector<std::string> capabilities;
  std::size_t slots = 1;
  std::string host = "127.0.0.1";  ///< Reported, for people; the worker itself listens nowhere.
  int port = 0;
  std::string journal_path;
  std::string work_dir;
  std::size_t output_limit = 64 * 1024;
  /// How long a drain waits for running children before it stops them.
  std::chrono::milliseconds drain_timeout{30000};
  /// How long one claim waits for work. Also how long a claim may hang on a node that stopped answering, if the
  /// heartbeats do not notice before.
  std::chrono::milliseconds claim_wait{20000};
  /// Called once, from a thread of the worker's, when the cluster refuses this worker for good; `failure` says why.
  std::function<void()> on_failure = [] {};
};

/// Runs a cluster's tasks: one thread claims, one sends heartbeats, and one for each slot runs a child at a time and
/// reports its end. What is claimed counts as running until its end is answered, so that its lease is renewed while
/// the report is on its way through a failover.
class worker {
 public:
  /// Opens the journal; starts nothing. `guard` may be null and outlives the worker.
  worker(worker_options options, process_guard* guard);
  ~worker();
  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;

  void start();

  /// Claims nothing more, lets running children finish within the drain time-out, then stops them and gives their
  /// tasks back, takes the worker off the cluster's list, and ends all threads. True if every end was reported.
  bool drain();

  /// Why the cluster refused this worker; empty if it did not.
  std::string failure() const;

  /// Makes a drain under way stop its children now. From any thread.
  void hurry();

 private:
  using attempt_key = std::pair<std::string, std::int64_t>;

  struct job {
    claimed_task task;
    std::shared_ptr<stop_event> stop;
  };

  struct running_state {
    std::shared_ptr<stop_event> stop;
    bool taken = false;  ///< The coordinator said that this attempt is to stop.
  };

  std::unique_ptr<client> make_client(std::chrono::milliseconds give_up_after) const;
  bool register_with(client& via);
  void refuse(const std::string& why);

  void claim_loop();
  bool claim_once();
  void pause_claims();
  void take_in(const std::string& body);

  void heartbeat_loop();
  void heartbeat_once();
  void stop_attempts(const std::string& body, const std::vector<attempt_key>& listed);

  void slot_loop(client& reporter);
  void run_job(client& reporter, const job& work);
  child_result execute(const job& work);
  bool definite(const client_reply& reply, const claimed_task& task, std::string& answer) const;
  std::string report(client& reporter, const claimed_task& task, const child_result& result);
  void finish(const attempt_key& key);

  bool pause(std::chrono::milliseconds time);
  bool wait_until_idle(std::chrono::milliseconds time);
  void end_claims();
  void stop_all_children();
  void end_threads();
  void tell_cluster(const char* method, const char* suffix);

  worker_options options_;
  process_guard* guard_;
  journal journal_;
  machine_usage usage_;
  std::unique_ptr<client> claims_;
  std::unique_ptr<client> heartbeats_;

  std::vector<std::unique_ptr<client>> reporters_;  ///< One a slot.

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool draining_ = false;
  bool hurry_ = false;
  bool ended_ = false;  ///< Nothing is left to do for any thread.
  bool claim_loop_ended_ = false;
  std::size_t unreported_ = 0;
  std::string failure_;
  std::chrono::milliseconds heartbeat_interval_{0};  ///< 0 until registered.
  std::map<attempt_key, running_state> running_;
  std::deque<job> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace coordinator
