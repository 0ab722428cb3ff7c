#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

namespace coordinator {

/// Threads for connections: one for each that is live, made when there is none idle and kept a while after.
/// cpp-httplib gives a thread to a connection for as long as it lives, so a fixed number of threads would let
/// idle long-polls keep everybody else waiting. Stacks are small, for thousands of threads mostly sleep.
class connection_threads {
 public:
  struct settings {
    std::size_t limit = 8192;
    std::chrono::milliseconds keep_idle{10'000};
    std::size_t stack_bytes = 512 * 1024;
  };

  explicit connection_threads(settings s);
  connection_threads(const connection_threads&) = delete;
  connection_threads& operator=(const connection_threads&) = delete;
  /// Waits for every task that runs.
  ~connection_threads();

  /// Runs `task` on a thread of its own, soon. False, and nothing runs, at the limit or when the system gives
  /// no more threads.
  [[nodiscard]] bool run(std::function<void()> task);

  /// Threads there are, idle ones included.
  std::size_t size() const;

 private:
  struct shared;
  static void* entry(void* argument);
  static void work(const std::shared_ptr<shared>& s, std::function<void()> task);

  std::shared_ptr<shared> shared_;
};

}  // namespace coordinator
