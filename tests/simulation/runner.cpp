#include "tests/simulation/runner.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace coordinator::simulation {
namespace {

using json = nlohmann::json;

json to_json(std::uint64_t seed, const history_result& x) {
  json out{{"seed", seed},           {"profile", x.profile},     {"nodes", x.nodes}, {"fingerprint", x.fingerprint},
           {"steps", x.steps},       {"messages", x.messages},   {"lost", x.lost},   {"calls", x.calls},
           {"answered", x.answered}, {"committed", x.committed}, {"terms", x.terms}, {"us", x.virtual_time.count()},
           {"faults", x.faults},     {"events", x.events}};
  if (x.found) {
    out["invariant"] = x.found->invariant;
    out["what"] = x.found->what;
  }
  return out;
}

history_result from_json(const json& x) {
  history_result out;
  out.profile = x.at("profile");
  out.nodes = x.at("nodes");
  out.fingerprint = x.at("fingerprint");
  out.steps = x.at("steps");
  out.messages = x.at("messages");
  out.lost = x.at("lost");
  out.calls = x.at("calls");
  out.answered = x.at("answered");
  out.committed = x.at("committed");
  out.terms = x.at("terms");
  out.virtual_time = std::chrono::microseconds{x.at("us").get<std::int64_t>()};
  out.faults = x.at("faults");
  out.events = x.at("events");
  if (x.contains("invariant"))
    out.found = violation{x.at("invariant"), x.at("what")};
  return out;
}

void say(int fd, const std::string& line) {
  std::size_t done = 0;
  while (done < line.size()) {
    auto n = ::write(fd, line.data() + done, line.size() - done);
    if (n < 0 && errno != EINTR)
      ::_exit(1);
    done += n > 0 ? static_cast<std::size_t>(n) : 0;
  }
}

struct worker {
  pid_t pid = -1;
  int fd = -1;
  std::uint64_t left = 0;  // Seeds still to be played, from `seed` on.
  std::uint64_t seed = 0;
  std::string buffer;
};

class crew {
 public:
  explicit crew(const run_request& request) : request_(request) {
    // One more than fits into 64 bits, where the range is all of them: nobody will see its end.
    auto all = std::max(request.last - request.first + 1, request.last - request.first);
    auto jobs = std::min<std::uint64_t>(std::max(1u, request.jobs), all);
    stride_ = jobs;
    workers_.resize(jobs);
    for (std::uint64_t i = 0; i < jobs; ++i) {
      workers_[i].seed = request.first + i;
      workers_[i].left = (all - i - 1) / jobs + 1;
      start(workers_[i]);
    }
  }
  ~crew() {
    for (auto& x : workers_)
      if (x.pid > 0) {
        ::kill(x.pid, SIGKILL);
        ::close(x.fd);
        ::waitpid(x.pid, nullptr, 0);
      }
  }
  crew(const crew&) = delete;
  crew& operator=(const crew&) = delete;

  void run() {
    for (;;) {
      std::vector<pollfd> fds;
      std::vector<worker*> who;
      for (auto& x : workers_)
        if (x.pid > 0) {
          fds.push_back({x.fd, POLLIN, 0});
          who.push_back(&x);
        }
      if (fds.empty() || (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR))
        return;
      for (std::size_t i = 0; i < fds.size(); ++i)
        if (fds[i].revents != 0 && !hear(*who[i]))
          return;
    }
  }

 private:
  void start(worker& x) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
      throw std::runtime_error("no pipe for a process to play histories in");
    x.pid = ::fork();
    if (x.pid < 0)
      throw std::runtime_error("no process to play histories in");
    if (x.pid == 0) {
      ::close(ends[0]);
      play_share(x, ends[1]);
    }
    ::close(ends[1]);
    x.fd = ends[0];
    x.buffer.clear();
  }

  [[noreturn]] void play_share(const worker& x, int fd) {
    // What the nodes complain of is what was done to them.
    if (int nowhere = ::open("/dev/null", O_WRONLY); nowhere >= 0)
      ::dup2(nowhere, STDERR_FILENO);
    // A test's runner catches this signal for itself, and would go on as if this process were its own.
    ::signal(SIGABRT, SIG_DFL);
    auto options = request_.each;
    options.seed = x.seed;
    for (auto n = x.left; n > 0; --n, options.seed += stride_)
      say(fd, to_json(options.seed, play(options)).dump() + "\n");
    ::_exit(0);
  }

  bool hear(worker& x) {
    char bytes[8192];
    auto n = ::read(x.fd, bytes, sizeof bytes);
    if (n < 0)
      return true;
    if (n == 0)
      return ended(x);
    x.buffer.append(bytes, static_cast<std::size_t>(n));
    for (auto end = x.buffer.find('\n'); end != std::string::npos; end = x.buffer.find('\n')) {
      auto line = json::parse(x.buffer.substr(0, end));
      x.buffer.erase(0, end + 1);
      if (!count(x, from_json(line)))
        return false;
    }
    return true;
  }

  bool ended(worker& x) {
    int status = 0;
    ::close(x.fd);
    ::waitpid(x.pid, &status, 0);
    x.pid = -1;
    if (x.left == 0)
      return true;
    history_result result;
    result.found = violation{"the product's own invariants hold",
                             WIFSIGNALED(status) ? "ended by signal " + std::to_string(WTERMSIG(status))
                                                 : "ended with status " + std::to_string(WEXITSTATUS(status))};
    if (!count(x, result))
      return false;
    if (x.left > 0)
      start(x);
    return true;
  }

  bool count(worker& x, const history_result& result) {
    auto seed = x.seed;
    x.seed += stride_;
    --x.left;
    return request_.ended(seed, result);
  }

  const run_request& request_;
  std::uint64_t stride_ = 1;
  std::vector<worker> workers_;
};

}  // namespace

void play_all(const run_request& request) {
  crew{request}.run();
}

}  // namespace coordinator::simulation
