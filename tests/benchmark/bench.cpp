// Starts clusters on this machine, loads them, and says how fast they answered; the same work against etcd, in turns.

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <stdexcept>

#include "tests/benchmark/report.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;
using namespace coordinator::bench;

namespace {

std::string list_of_workloads() {
  std::string text = "Workloads:";
  for (auto& [name, what] : known_workloads())
    text += "\n  " + name + std::string(18 - name.size(), ' ') + what;
  return text;
}

struct arguments {
  plan what;
  bool json = false;
  std::string peer;
  std::string plots;
  std::string data;
};

void add_options(CLI::App& app, arguments& x) {
  auto& what = x.what;
  std::vector<std::string> names;
  for (auto& [name, text] : known_workloads())
    names.push_back(name);
  app.add_option("workload", what.workloads, "What to measure, one after the other")
      ->required()
      ->check(CLI::IsMember(names));
  app.add_option("--cluster-sizes", what.cluster_sizes, "Nodes of each cluster")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember({1, 3, 5}));
  app.add_option("--clients", what.clients, "Connections at once")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  app.add_option("--operations", what.operations, "Of each run; without it, as many as come in --seconds");
  app.add_option("--seconds", what.seconds, "How long a run may take")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  app.add_option("--warm-up", what.warm_up, "Seconds before it counts")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 600.0));
  app.add_option("--runs", what.runs, "Of each; medians are reported")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--rate", what.rate,
                 "Operations a second on a fixed schedule, with latencies counted from when each was due; without it "
                 "a connection sends its next request when the last one was answered")
      ->check(CLI::PositiveNumber);
  app.add_option("--value-size", what.value_size, "Bytes of a value")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--tasks", what.tasks, "Kept where a workload needs many")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000'000));
  app.add_option("--kept-tasks", what.kept, "That the coordinator has before it is measured")
      ->capture_default_str()
      ->check(CLI::Range(0, 10'000'000));
  app.add_option("--workers", what.workers, "That send heartbeats")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--peer", x.peer, "Measure this one beside, in turns")->check(CLI::IsMember({"etcd"}));
  app.add_option("--node-flag", what.flags, "Added to the command line of each node");
  app.add_option("--plots", x.plots, "Directory for rates and latencies as SVG");
  app.add_option("--data", x.data,
                 "Directory for the nodes' data, on the disk to be measured; default a temporary one");
  app.add_option_function<std::string>(
         "-o,--output", [&x](const std::string& format) { x.json = format == "json"; }, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  app.footer(list_of_workloads());
}

int run(arguments& x, const std::string& command) {
  temporary_directory scratch;
  x.what.beside_etcd = x.peer == "etcd";
  x.what.program = COORDINATOR_PROGRAM;
  x.what.directory = (x.data.empty() ? scratch.path() : std::filesystem::path{x.data}) / "bench";
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  auto say = [&](const std::string& text) {
    std::fprintf(stderr, terminal ? "\r\033[K%s" : "%s\n", text.c_str());
    std::fflush(stderr);
  };
  std::vector<measurement> all;
  measure(x.what, say, [&](const measurement& m) {
    all.push_back(m);
    if (m.load.refused + m.load.broken > 0)
      say(m.workload + ": " + std::to_string(m.load.refused) + " refused, " + std::to_string(m.load.broken) +
          " not answered");
  });
  if (terminal)
    std::fprintf(stderr, "\r\033[K");
  auto summaries = summarize(all);
  if (!x.plots.empty())
    draw(summaries, x.plots);
  std::cout << (x.json ? to_json(summaries, command).dump(2) + "\n" : to_tables(summaries));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  arguments x;
  CLI::App app{"Measures clusters that it starts on this machine.", "coordinator-bench"};
  add_options(app, x);
  CLI11_PARSE(app, argc, argv);
  std::string command = "coordinator-bench";
  for (int i = 1; i < argc; ++i)
    command += std::string{" "} + argv[i];
  try {
    return run(x, command);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "coordinator-bench: %s\n", e.what());
    return 1;
  }
}
