#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "http/connection.hpp"
#include "http/message.hpp"
#include "http/problem.hpp"
#include "http/request_head.hpp"

namespace coordinator {

/// Serves all connections of a server on one thread: takes requests in as they arrive, answers the quick ones, and
/// sends the answers that come later, many at each wake-up. Whatever could make it wait is done by a job on a thread of
/// its own: requests that are not quick, large or chunked bodies, and answers that a client does not take. So an idle
/// connection and a long poll cost no thread, and a quick request no switch between threads but for its answer.
///
/// It owns the descriptors: nobody else closes one.
class connection_loop {
 public:
  struct settings {
    connection_limits limits;
    std::size_t most_connections = 8192;
    std::string keep_alive;  ///< What the header of that name says.
  };

  /// What may wait. A job runs once, soon, on another thread, unless `run` says false.
  struct threads {
    using job = std::function<void()>;
    std::function<bool(job)> run;
    /// For connections past the limit; they end with their job.
    std::function<bool(job)> run_spare;
    /// Reads the body and answers; true if the connection may carry another request.
    std::function<bool(connection&, request_head)> serve;
    std::function<void(connection&)> serve_probe;
  };

  /// Owns the `listener`. `handler` must outlive this. Nothing happens before `start`.
  connection_loop(settings s, socket_t listener, request_handler& handler, threads t);
  connection_loop(const connection_loop&) = delete;
  connection_loop& operator=(const connection_loop&) = delete;
  /// Closes what is left; no job may run any more.
  ~connection_loop();

  void start();

  // Thread-safe.

  /// Accepts no more, closes connections without a request, and gives up long polls; the rest is answered.
  void drain();
  /// Waits until there is no connection any more.
  void await_end(std::chrono::milliseconds longest);
  /// Breaks all connections off. Those with a job are closed when it ends; no job begins after this has returned.
  void break_off();
  bool stopping() const { return stopping_; }
  std::size_t connections() const { return count_; }

 private:
  using clock = std::chrono::steady_clock;
  struct session;
  class inbox;

  void run();
  int patience() const;
  void listen(bool wanted);
  void accept_some();
  void open(socket_t socket);
  void close(session& s);
  void on_event(session& s, std::uint32_t events);
  void on_made(session& s, const awaited_response::maker& make);
  void on_returned(session& s, bool keep_alive);
  void advance(session& s);
  void go_on();
  bool take_request(session& s);
  bool take_head(session& s);
  void begin(session& s);
  void respond(session& s, http_response response, bool keep_alive);
  void refuse(session& s, const problem& why);
  void sent(session& s, bool keep_alive);
  void discard(session& s);
  bool send_away(session& s, std::function<bool()> job);
  void until(session& s, clock::time_point deadline);
  void expire();
  void on_time(session& s);
  void stop_idle();
  void end_all();
  void for_each(const std::function<void(session&)>& act);

  const settings settings_;
  socket_t listener_;
  request_handler& handler_;
  const threads threads_;
  int poll_ = -1;
  std::shared_ptr<inbox> inbox_;
  std::unordered_map<std::uint64_t, std::unique_ptr<session>> sessions_;
  std::vector<std::unique_ptr<session>> closed_;  ///< Kept until nothing can refer to them.
  std::vector<std::uint64_t> unfinished_;         ///< Sessions that are to go on at the next look.
  std::size_t regular_ = 0;                       ///< Of the sessions, those that are not past the limit.
  std::uint64_t last_id_ = 0;
  clock::time_point next_deadline_ = clock::time_point::max();  ///< Of no session earlier.
  clock::time_point accept_again_ = clock::time_point::max();
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> count_{0};
  std::mutex ended_mutex_;
  std::condition_variable ended_;
  bool broken_off_ = false;  ///< Under `ended_mutex_`.
  std::thread thread_;
};

}  // namespace coordinator
