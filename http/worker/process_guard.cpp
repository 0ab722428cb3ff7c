#include "http/worker/process_guard.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <vector>

namespace coordinator {

namespace {

[[noreturn]] void guard_main(int pipe) {
  // A terminal's Ctrl-C and a stop of the worker's group are for the worker; the guard ends with its pipe.
  ::setpgid(0, 0);
  ::prctl(PR_SET_NAME, "worker-guard");
  for (auto signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
    ::signal(signal, SIG_IGN);
  // Whoever waits for the end of the worker's output must not wait for the guard's copy of it.
  ::dup2(pipe, 0);
  ::close_range(1, ~0U, 0);
  std::vector<pid_t> groups;
  for (;;) {
    pid_t message = 0;
    auto got = ::read(0, &message, sizeof message);
    if (got < 0 && errno == EINTR)
      continue;
    if (got != sizeof message)
      break;
    if (message > 0)
      groups.push_back(message);
    else
      groups.erase(std::remove(groups.begin(), groups.end(), -message), groups.end());
  }
  for (auto group : groups)
    ::kill(-group, SIGKILL);
  ::_exit(0);
}

}  // namespace

process_guard::process_guard() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
  guard_ = ::fork();
  if (guard_ < 0)
    throw std::system_error(errno, std::generic_category(), "fork");
  if (guard_ == 0) {
    ::close(ends[1]);
    guard_main(ends[0]);
  }
  ::close(ends[0]);
  pipe_ = ends[1];
}

process_guard::~process_guard() {
  ::close(pipe_);
  while (::waitpid(guard_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void process_guard::tell(pid_t message) {
  std::lock_guard lock{mutex_};
  // A write of four bytes to a pipe is atomic. A guard that somebody killed is no reason to stop working.
  [[maybe_unused]] auto written = ::write(pipe_, &message, sizeof message);
}

}  // namespace coordinator
