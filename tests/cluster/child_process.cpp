#include "tests/cluster/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

extern char** environ;

namespace coordinator {

namespace {

struct pipe_ends {
  file_descriptor read;
  file_descriptor write;
};

pipe_ends make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe2");
  return {file_descriptor{ends[0]}, file_descriptor{ends[1]}};
}

std::vector<std::string> make_environment(const std::map<std::string, std::string>& more) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry; ++entry) {
    std::string text = *entry;
    if (!text.starts_with("COORDINATOR_") && !more.contains(text.substr(0, text.find('='))))
      result.push_back(text);
  }
  for (auto& [name, value] : more)
    result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (auto& text : texts)
    result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

child_process::child_process(const std::string& program, const std::vector<std::string>& arguments,
                             const child_options& options) {
  auto in = make_pipe();
  auto out = make_pipe();
  auto err = make_pipe();
  file_descriptor log;
  if (!options.log.empty())
    log = file_descriptor{::open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  // Between fork and exec only system calls are allowed, so all that needs memory is made here.
  std::vector<std::string> texts{program};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  auto variables = make_environment(options.environment);
  auto argv = pointers(texts);
  auto envp = pointers(variables);
  auto parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0)
    throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent)
      ::_exit(127);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(in.read.get(), STDIN_FILENO);
    ::dup2(out.write.get(), STDOUT_FILENO);
    ::dup2(log ? log.get() : err.write.get(), STDERR_FILENO);
    if (options.network_namespace >= 0 && ::setns(options.network_namespace, CLONE_NEWNET) != 0)
      ::_exit(126);
    ::execve(program.c_str(), argv.data(), envp.data());
    ::_exit(127);
  }
  input_ = std::move(in.write);
  output_ = std::move(out.read);
  errors_ = std::move(err.read);
}

child_process::~child_process() {
  kill();
}

void child_process::send(int signal) const {
  if (!status_)
    ::kill(pid_, signal);
}

void child_process::kill() {
  if (status_)
    return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::optional<std::string> child_process::read_line(std::chrono::milliseconds patience) {
  auto deadline = std::chrono::steady_clock::now() + patience;
  std::string line;
  while (true) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd waiting{output_.get(), POLLIN, 0};
    if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left)) <= 0)
      return std::nullopt;
    char c = 0;
    if (::read(output_.get(), &c, 1) != 1)
      return std::nullopt;
    if (c == '\n')
      return line;
    line += c;
  }
}

std::string child_process::read_errors() {
  pollfd waiting{errors_.get(), POLLIN, 0};
  while (::poll(&waiting, 1, 0) > 0) {
    char buffer[4096];
    auto n = ::read(errors_.get(), buffer, sizeof buffer);
    if (n <= 0)
      break;
    error_text_.append(buffer, static_cast<std::size_t>(n));
  }
  return error_text_;
}

std::optional<int> child_process::wait(std::chrono::milliseconds patience) {
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (!status_) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_)
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    else if (std::chrono::steady_clock::now() >= deadline)
      return std::nullopt;
    else
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  return status_;
}

}  // namespace coordinator
