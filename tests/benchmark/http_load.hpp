#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "actors/link_socket.hpp"
#include "tests/benchmark/latency_histogram.hpp"

namespace coordinator::bench {

/// What the connections of a load say, and what they make of the answers. Belongs to the load's thread.
class workload {
 public:
  /// What an answer means for the operation that its request belongs to.
  struct verdict {
    enum class kind { done, more, idle, refused } what = kind::done;
    unsigned units = 1;  ///< Of work that a done operation stands for: tasks of a batch, for example.
  };

  virtual ~workload() = default;
  /// The whole text of the next HTTP/1.1 request of that connection.
  virtual std::string next(std::size_t connection) = 0;
  /// Says whether the operation is done, goes on with another request, found nothing to do, or was refused.
  virtual verdict answered(std::size_t connection, unsigned status, std::string_view body) = 0;
};

struct load_settings {
  std::vector<host_port> servers;  ///< Connections go to them in turn.
  std::size_t connections = 1;     ///< At once.
  double rate = 0;                 ///< Operations a second in all, on a fixed schedule; 0: closed loop.
  bool fresh_connections = false;  ///< One for each request; else they are kept.
  std::chrono::milliseconds answer_within{20'000};  ///< Past it the connection is given up and made anew elsewhere.
};

struct load_result {
  latency_histogram latency;
  std::uint64_t operations = 0;
  std::uint64_t units = 0;
  std::uint64_t refused = 0;  ///< Answered, but not with success.
  std::uint64_t broken = 0;   ///< Not answered.
  double seconds = 0;
  double longest_gap_ms = 0;  ///< Between two operations that succeeded.

  double per_second() const { return seconds > 0 ? static_cast<double>(units) / seconds : 0; }
};

/// A load on HTTP servers from one thread: each connection sends its next request when the last one was answered
/// (closed loop), or operations begin on a fixed schedule whether or not earlier ones have ended, and their latency
/// counts from the time when they should have begun (open loop). Runs from construction to `stop`.
class http_load {
 public:
  http_load(const load_settings& settings, workload& work);
  ~http_load();
  http_load(const http_load&) = delete;
  http_load& operator=(const http_load&) = delete;

  /// From now on operations count; what came before was warm-up.
  void measure();
  /// Operations counted so far.
  std::uint64_t counted() const;
  /// Ends the measuring and all connections.
  load_result stop();

 private:
  class engine;
  std::unique_ptr<engine> engine_;
};

}  // namespace coordinator::bench
