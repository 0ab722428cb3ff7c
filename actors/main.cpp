// The coordinator: one node. Reads what the operator wants, runs until a signal, and leaves in order.

#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <thread>

#include "actors/options.hpp"
#include "http/program.hpp"

namespace {

/// Stopping takes seconds; past this something hangs, and leaving is the lesser evil: all that was acknowledged is
/// durable.
constexpr std::chrono::seconds longest_stop{30};

sigset_t ending_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  return set;
}

int complain(int status, const std::exception& e) {
  std::fprintf(stderr, "coordinator: %s\n", e.what());
  return status;
}

/// Leaves without ceremony at a second signal, or when stopping takes too long.
void watch_the_stop(const sigset_t& signals) {
  std::thread{[signals] {
    timespec limit{};
    limit.tv_sec = longest_stop.count();
    auto signal = ::sigtimedwait(&signals, nullptr, &limit);
    std::fprintf(stderr, "coordinator: %s; leaving at once\n",
                 signal > 0 ? "a second signal came" : "stopping takes too long");
    ::_exit(1);
  }}.detach();
}

int run(const coordinator::node_options& options) {
  coordinator::set_up_logging(options.level);
  // Blocked before the first thread is made, so that all threads inherit it and the signals wait for sigwait below.
  auto signals = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  coordinator::program program{options};
  program.start();
  int signal = 0;
  ::sigwait(&signals, &signal);
  spdlog::info("{}: stopping", signal == SIGTERM ? "SIGTERM" : "SIGINT");
  watch_the_stop(signals);
  program.stop();
  spdlog::info("stopped");
  spdlog::shutdown();
  std::fflush(nullptr);
  // Left here, before anything is destroyed: tearing an actor system of CAF 0.17 down races with its own detached
  // actors, and there is nothing more to win. The stores are closed.
  ::_exit(0);
}

}  // namespace

int main(int argc, char** argv) try {
  auto parsed = coordinator::parse_options({argv + 1, argv + argc});
  if (!parsed.print.empty()) {
    std::fputs(parsed.print.c_str(), stdout);
    return std::fflush(stdout) == 0 ? 0 : 1;
  }
  return run(parsed.node);
} catch (const coordinator::options_error& e) {
  return complain(2, e);
} catch (const std::exception& e) {
  return complain(1, e);
}
