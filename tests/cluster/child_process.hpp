#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/link_socket.hpp"

namespace coordinator {

struct child_options {
  std::string log;                                 ///< File that its standard error is appended to; empty: a pipe.
  std::map<std::string, std::string> environment;  ///< Replaces COORDINATOR_ variables and adds these.
  int network_namespace = -1;                      ///< A descriptor of the namespace it lives in; negative: ours.
};

/// A process that a test has started. Killed, if it still runs, when this object goes; it also dies with the thread
/// that made it.
class child_process {
 public:
  /// Throws std::system_error when it cannot be started; a program that cannot be executed exits with 127.
  child_process(const std::string& program, const std::vector<std::string>& arguments, const child_options& options);
  ~child_process();
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;

  pid_t pid() const { return pid_; }
  void send(int signal) const;
  /// SIGKILL, and waits until it is gone.
  void kill();

  /// A line of its standard output, without the end of line; none if it does not come in time.
  std::optional<std::string> read_line(std::chrono::milliseconds patience);
  /// All of its standard error so far; only without a log.
  std::string read_errors();
  /// Its exit status once it has ended, 128 and the signal's number for one that was killed; none if it does not end in
  /// time.
  std::optional<int> wait(std::chrono::milliseconds patience);

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
  file_descriptor input_;
  file_descriptor output_;
  file_descriptor errors_;
  std::string error_text_;
};

}  // namespace coordinator
