#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace coordinator {

class process_guard;

/// A request to stop that a thread waiting in poll(2) sees at once. Any thread may ask.
class stop_event {
 public:
  stop_event();
  ~stop_event();
  stop_event(const stop_event&) = delete;
  stop_event& operator=(const stop_event&) = delete;

  void request();
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

/// One command as the operating system gets it.
struct child_command {
  std::vector<std::string> argv;               ///< Looked up in PATH where argv[0] has no slash.
  std::map<std::string, std::string> env;      ///< Added to this process's environment, or replacing parts of it.
  std::string directory;                       ///< Empty: this process's own.
  std::chrono::milliseconds timeout{0};        ///< 0: none.
  std::chrono::milliseconds kill_after{2000};  ///< Between SIGTERM and SIGKILL.
  std::size_t output_limit = 64 * 1024;
};

enum class child_end {
  exited,
  signalled,    ///< By a signal that we did not send.
  timed_out,    ///< Its time was up, and it was killed.
  stopped,      ///< `stop_event` was requested, and it was killed.
  not_started,  ///< `error` says why.
};

struct child_result {
  child_end end = child_end::not_started;
  int exit_code = -1;  ///< As a shell has it: 128 + the signal's number after a signal.
  std::string error;
  std::chrono::milliseconds duration{0};
  std::string output;              ///< The tail of stdout and stderr, in the order they were written; valid UTF-8.
  std::uint64_t output_bytes = 0;  ///< All that was written.
};

/// Runs one command to its end, in a process group of its own with /dev/null as its input, and returns once the whole
/// group is gone. The child dies with the calling thread, which therefore must stay alive for as long as the process
/// does. Expected failures are in the result; throws std::system_error if this process has no descriptors left.
child_result run_child(const child_command& command, const stop_event& stop, process_guard* guard);

}  // namespace coordinator
