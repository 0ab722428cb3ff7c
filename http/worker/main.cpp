#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <thread>

#include "http/worker/process_guard.hpp"
#include "http/worker/worker.hpp"

namespace {

constexpr const char* description =
    "Runs a coordinator cluster's tasks.\n"
    "Registers, claims tasks by long poll, runs each task's command as a child process, reports how it ended, and\n"
    "moves to another node when one stops answering. SIGTERM and SIGINT drain it: it claims nothing more, waits for\n"
    "what runs, and leaves; a second signal stops what runs and gives it back.\n"
    "Exit status: 0 drained; 1 refused by the cluster, or ended with results that could not be reported; 2 wrong "
    "usage.";

struct settings {
  coordinator::worker_options worker;
  std::string coordinators = "http://127.0.0.1:8080";
  std::string log_level = "info";
  std::int64_t drain_timeout_ms = 30000;
};

void describe(CLI::App& app, settings& s) {
  using coordinator::worker_options;
  app.add_option("--coordinator", s.coordinators, "Coordinator nodes, as URL[,URL…]")
      ->envname("COORDINATOR_URL")
      ->capture_default_str();
  app.add_option("--worker-id", s.worker.worker_id, "This worker's name, unique in the cluster")->required();
  app.add_option("--capabilities", s.worker.capabilities, "What tasks may require of it: a,b,…")->delimiter(',');
  app.add_option("--slots", s.worker.slots, "Tasks at a time")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--host", s.worker.host, "The machine's name or address, for people to read")->capture_default_str();
  app.add_option("--port", s.worker.port, "A port to report along with it; nothing listens there")
      ->capture_default_str()
      ->check(CLI::Range(0, 65535));
  app.add_option("--journal", s.worker.journal_path, "Record every attempt in this file, as JSON lines");
  app.add_option("--work-dir", s.worker.work_dir, "Where tasks without an absolute cwd run (default: here)")
      ->check(CLI::ExistingDirectory);
  app.add_option("--output-limit", s.worker.output_limit, "Bytes of a task's output that are kept, its tail")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--drain-timeout", s.drain_timeout_ms, "How long a drain waits for running tasks, in milliseconds")
      ->capture_default_str()
      ->check(CLI::Range(0, 86'400'000));
  app.add_option("--log-level", s.log_level, "trace, debug, info, warn, error or off")
      ->capture_default_str()
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}));
  app.failure_message([](const CLI::App*, const CLI::Error& e) {
    return std::string{"coordinator-worker: "} + e.what() + "; --help tells more\n";
  });
  app.set_version_flag("--version", "coordinator-worker " COORDINATOR_VERSION);
}

sigset_t handled_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (auto signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1})
    ::sigaddset(&set, signal);
  return set;
}

int wait_for(const sigset_t& set) {
  int signal = 0;
  while (::sigwait(&set, &signal) != 0) {
  }
  return signal;
}

int run(settings& s) {
  // Forked first, while there is one thread; the signals are blocked before any other thread begins.
  coordinator::process_guard guard;
  auto signals = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  spdlog::set_default_logger(spdlog::stderr_color_mt("worker"));
  spdlog::set_level(spdlog::level::from_str(s.log_level));

  s.worker.on_failure = [] { ::kill(::getpid(), SIGTERM); };
  coordinator::worker worker{s.worker, &guard};
  worker.start();
  while (wait_for(signals) == SIGUSR1) {
  }
  spdlog::info("draining");
  auto reported = false;
  std::thread drain{[&] {
    reported = worker.drain();
    ::kill(::getpid(), SIGUSR1);
  }};
  while (wait_for(signals) != SIGUSR1)
    worker.hurry();
  drain.join();
  if (auto failure = worker.failure(); !failure.empty()) {
    std::cerr << "coordinator-worker: " << failure << "\n";
    return 1;
  }
  return reported ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app{description};
  describe(app, s);
  try {
    app.parse(argc, argv);
    s.worker.coordinators = coordinator::parse_endpoints(s.coordinators);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::invalid_argument& e) {
    std::cerr << "coordinator-worker: --coordinator: " << e.what() << "\n";
    return 2;
  }
  s.worker.drain_timeout = std::chrono::milliseconds{s.drain_timeout_ms};
  try {
    return run(s);
  } catch (const std::exception& e) {
    std::cerr << "coordinator-worker: " << e.what() << "\n";
    return 1;
  }
}
