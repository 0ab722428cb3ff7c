#include "http/worker/child.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "http/worker/output_tail.hpp"
#include "http/worker/process_guard.hpp"

namespace coordinator {

namespace {

using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

class descriptor {
 public:
  explicit descriptor(int fd = -1) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() { reset(); }
  void reset() {
    if (fd_ >= 0)
      ::close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

std::pair<descriptor, descriptor> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    fail("pipe");
  return {descriptor{ends[0]}, descriptor{ends[1]}};
}

std::map<std::string, std::string> environment_of(const child_command& command) {
  auto result = command.env;
  for (auto entry = environ; *entry; ++entry) {
    std::string_view text{*entry};
    auto equals = text.find('=');
    if (equals != std::string_view::npos)
      result.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

/// Where execve finds argv[0]; empty if PATH has no such program. Done before fork, since the child of a program with
/// threads may allocate nothing.
std::string find_program(const std::string& name, const std::string& path) {
  if (name.find('/') != std::string::npos)
    return name;
  for (std::size_t begin = 0; begin <= path.size();) {
    auto end = std::min(path.find(':', begin), path.size());
    auto candidate = (end == begin ? std::string{"."} : path.substr(begin, end - begin)) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0)
      return candidate;
    begin = end + 1;
  }
  return {};
}

/// All that the child needs between fork and exec, laid out beforehand.
struct launch {
  std::string program;
  std::vector<std::string> environment;
  std::vector<char*> argv;
  std::vector<char*> envp;
  const char* directory = nullptr;
  int output = -1;
  int failure = -1;
  pid_t parent = 0;
};

/// What the child tells its parent when it does not get as far as exec.
struct launch_failure {
  int error;
  bool in_directory;
};

[[noreturn]] void child_main(const launch& plan) {
  auto give_up = [&](bool in_directory) {
    launch_failure failure{errno, in_directory};
    [[maybe_unused]] auto written = ::write(plan.failure, &failure, sizeof failure);
    ::_exit(127);
  };
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != plan.parent)
    ::_exit(127);  // The worker died before prctl took effect.
  sigset_t none;
  ::sigemptyset(&none);
  for (auto signal : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD})
    ::signal(signal, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  auto null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || ::dup2(null, 0) < 0 || ::dup2(plan.output, 1) < 0 || ::dup2(plan.output, 2) < 0)
    give_up(false);
  // Sockets of other threads may be open without close-on-exec at this very moment.
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  if (plan.directory && ::chdir(plan.directory) != 0)
    give_up(true);
  ::execve(plan.program.c_str(), plan.argv.data(), plan.envp.data());
  give_up(false);
  ::_exit(127);
}

/// A running child: it is killed and reaped at the latest when this goes out of scope.
class child_process {
 public:
  child_process(pid_t pid, process_guard* guard) : pid_(pid), guard_(guard) {
    // Both sides set the group, so that it exists whoever comes first.
    ::setpgid(pid, pid);
    if (guard_)
      guard_->add(pid);
    handle_ = descriptor{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
    if (handle_.get() < 0) {
      reap();
      fail("pidfd_open");
    }
  }
  ~child_process() {
    if (pid_ > 0)
      reap();
  }
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;

  int handle() const { return handle_.get(); }
  void signal_group(int signal) const { ::kill(-pid_, signal); }

  /// Kills what is left of the group and collects the leader's status.
  int reap() {
    // Whatever the command left in the background ends with it: a test must not outlive its verdict. The leader is
    // not reaped yet, so the number of the group cannot have been given to others.
    ::kill(-pid_, SIGKILL);
    if (guard_)
      guard_->remove(pid_);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
  process_guard* guard_;
  descriptor handle_;
};

int until(std::optional<clock::time_point> deadline) {
  if (!deadline)
    return -1;
  auto left = std::chrono::ceil<milliseconds>(*deadline - clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 3'600'000));
}

/// Reads what is there; false at the end of the stream.
bool drain(int pipe, output_tail& tail) {
  char buffer[16384];
  auto got = ::read(pipe, buffer, sizeof buffer);
  if (got > 0)
    tail.append({buffer, static_cast<std::size_t>(got)});
  return got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN));
}

/// Why the child was killed by us, if it was.
std::optional<child_end> watch(const child_process& child, const child_command& command, const stop_event& stop,
                               int output, output_tail& tail) {
  std::optional<child_end> reason;
  std::optional<clock::time_point> deadline;
  if (command.timeout > milliseconds{0})
    deadline = clock::now() + command.timeout;
  pollfd events[3] = {{output, POLLIN, 0}, {child.handle(), POLLIN, 0}, {stop.descriptor(), POLLIN, 0}};
  for (;;) {
    auto ready = ::poll(events, 3, until(deadline));
    if (ready < 0 && errno != EINTR)
      fail("poll");
    if (ready > 0 && events[0].revents != 0 && !drain(output, tail))
      events[0].fd = -1;
    if (ready > 0 && events[1].revents != 0)
      return reason;
    auto asked = ready > 0 && events[2].revents != 0;
    auto late = deadline && clock::now() >= *deadline;
    if (!reason && (asked || late)) {
      reason = asked ? child_end::stopped : child_end::timed_out;
      child.signal_group(SIGTERM);
      // A stopped process takes no notice of SIGTERM until it goes on.
      child.signal_group(SIGCONT);
      deadline = clock::now() + command.kill_after;
      events[2].fd = -1;
    } else if (reason && late) {
      child.signal_group(SIGKILL);
      deadline.reset();
    }
  }
}

/// The rest of the output. A process that left the group may hold the pipe open for ever, so this has a bound.
void drain_rest(int output, output_tail& tail) {
  auto deadline = clock::now() + milliseconds{500};
  pollfd event{output, POLLIN, 0};
  while (clock::now() < deadline && ::poll(&event, 1, until(deadline)) > 0 && drain(output, tail)) {
  }
}

std::string explain(const launch_failure& failure, const child_command& command) {
  auto what = failure.in_directory ? "directory " + command.directory : command.argv.front();
  return "cannot run " + what + ": " + std::strerror(failure.error);
}

}  // namespace

stop_event::stop_event() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (descriptor_ < 0)
    fail("eventfd");
}

stop_event::~stop_event() {
  ::close(descriptor_);
}

void stop_event::request() {
  std::uint64_t one = 1;
  [[maybe_unused]] auto written = ::write(descriptor_, &one, sizeof one);
}

child_result run_child(const child_command& command, const stop_event& stop, process_guard* guard) {
  child_result result;
  if (command.argv.empty()) {
    result.error = "the command is empty";
    return result;
  }
  auto environment = environment_of(command);
  launch plan;
  plan.program = find_program(command.argv.front(), environment["PATH"]);
  if (plan.program.empty()) {
    result.error = explain({ENOENT, false}, command);
    return result;
  }
  for (auto& [name, value] : environment)
    plan.environment.push_back(name + "=" + value);
  for (auto& entry : plan.environment)
    plan.envp.push_back(entry.data());
  for (auto& argument : command.argv)
    plan.argv.push_back(const_cast<char*>(argument.c_str()));
  plan.envp.push_back(nullptr);
  plan.argv.push_back(nullptr);
  plan.directory = command.directory.empty() ? nullptr : command.directory.c_str();
  auto [output, output_end] = make_pipe();
  auto [failure, failure_end] = make_pipe();
  plan.output = output_end.get();
  plan.failure = failure_end.get();
  plan.parent = ::getpid();

  auto started = clock::now();
  auto pid = ::fork();
  if (pid < 0) {
    result.error = std::string{"fork: "} + std::strerror(errno);
    return result;
  }
  if (pid == 0)
    child_main(plan);
  child_process child{pid, guard};
  output_end.reset();
  failure_end.reset();
  ::fcntl(output.get(), F_SETFL, O_NONBLOCK);

  // The pipe closes by itself when exec succeeds.
  launch_failure why{};
  ssize_t told;
  while ((told = ::read(failure.get(), &why, sizeof why)) < 0 && errno == EINTR) {
  }
  if (told == static_cast<ssize_t>(sizeof why)) {
    child.reap();
    result.error = explain(why, command);
    return result;
  }

  output_tail tail{command.output_limit};
  auto reason = watch(child, command, stop, output.get(), tail);
  result.duration = std::chrono::duration_cast<milliseconds>(clock::now() - started);
  auto status = child.reap();
  drain_rest(output.get(), tail);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.end = reason ? *reason : WIFEXITED(status) ? child_end::exited : child_end::signalled;
  result.output = tail.text();
  result.output_bytes = tail.total();
  return result;
}

}  // namespace coordinator
