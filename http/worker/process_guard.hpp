#pragma once

#include <sys/types.h>

#include <mutex>

namespace coordinator {

/// Ends the process groups of a worker that died without warning. PR_SET_PDEATHSIG reaches a task's own process, but
/// not what that process started; so a small process waits on a pipe, is told of every group that begins and ends,
/// and kills those that are left when the pipe closes.
class process_guard {
 public:
  /// Forks the guard: to be called while the program has one thread. Throws std::system_error.
  process_guard();
  /// Ends the guard, which kills what is still registered.
  ~process_guard();
  process_guard(const process_guard&) = delete;
  process_guard& operator=(const process_guard&) = delete;

  void add(pid_t group) { tell(group); }
  /// To be called before the group's leader is reaped, so that its number cannot yet belong to another process.
  void remove(pid_t group) { tell(-group); }

 private:
  void tell(pid_t message);

  std::mutex mutex_;
  int pipe_ = -1;
  pid_t guard_ = -1;
};

}  // namespace coordinator
