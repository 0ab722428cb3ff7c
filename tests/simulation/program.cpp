#include "tests/simulation/program.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simulation/defects.hpp"
#include "tests/simulation/faults.hpp"
#include "tests/simulation/history.hpp"
#include "tests/simulation/runner.hpp"

namespace coordinator::simulation {
namespace {

struct settings {
  std::string program;
  history_options each;
  std::string seeds;
  std::uint64_t replay = 0;
  bool has_replay = false;
  bool trace = false;
  bool statistics = false;
  bool defects = false;
  std::string search;
  std::string defect;
  std::uint64_t first = 1;
  std::uint64_t last = 1;
  std::uint64_t most = 2000;
  unsigned jobs = 1;
};

/// Sums over all histories.
struct totals {
  std::uint64_t histories = 0;
  std::uint64_t violations = 0;
  std::uint64_t steps = 0;
  std::uint64_t messages = 0;
  std::uint64_t lost = 0;
  std::uint64_t calls = 0;
  std::uint64_t answered = 0;
  std::uint64_t committed = 0;
  std::uint64_t terms = 0;
  double virtual_hours = 0;
  std::map<std::string, std::uint64_t> faults;
  std::map<std::string, std::uint64_t> events;

  void add(const history_result& x) {
    ++histories;
    violations += x.found.has_value();
    steps += x.steps;
    messages += x.messages;
    lost += x.lost;
    calls += x.calls;
    answered += x.answered;
    committed += x.committed;
    terms += x.terms;
    virtual_hours += static_cast<double>(x.virtual_time.count()) / 3.6e9;
    for (auto& [name, count] : x.faults)
      faults[name] += count;
    for (auto& [name, count] : x.events)
      events[name] += count;
  }

  void print() const {
    std::printf("%.2f virtual hours, %" PRIu64 " steps, %" PRIu64 " messages delivered and %" PRIu64 " lost\n",
                virtual_hours, steps, messages, lost);
    std::printf("%" PRIu64 " client calls, %" PRIu64 " answered; %" PRIu64 " entries committed in %" PRIu64
                " terms with a leader\n",
                calls, answered, committed, terms);
    for (auto* counts : {&events, &faults})
      for (auto& [name, count] : *counts)
        std::printf("%8" PRIu64 " %s\n", count, name.c_str());
  }
};

/// False: it is not a number of 64 bits, and nothing else.
bool read_number(std::string_view text, std::uint64_t& out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

/// What is wrong with them; empty: nothing.
std::string read_seeds(std::string_view text, settings& x) {
  auto dots = text.find("..");
  auto last = dots == text.npos ? text : text.substr(dots + 2);
  if (!read_number(text.substr(0, dots), x.first) || !read_number(last, x.last))
    return "--seeds: give A..B, two numbers of 64 bits, not " + std::string{text};
  return x.first <= x.last ? "" : "--seeds: " + std::string{text} + " ends before it begins";
}

void print_violation(const settings& x, std::uint64_t seed, const history_result& result) {
  auto options = x.each;
  options.seed = seed;
  auto command = replay_command(x.program, options);
  if (!x.defect.empty())
    command += " --defect " + x.defect;
  std::string who;
  // One whose process ended could not say what it had drawn.
  if (result.nodes != 0)
    who = " (" + result.profile + ", " + std::to_string(result.nodes) + " nodes)";
  std::printf("seed %" PRIu64 "%s: %s: %s\n  replay: %s\n", seed, who.c_str(), result.found->invariant.c_str(),
              result.found->what.c_str(), command.c_str());
  std::fflush(stdout);
}

int replay(const settings& x) {
  auto options = x.each;
  options.seed = x.replay;
  if (x.trace)
    options.trace = [](const std::string& line) { std::printf("%s\n", line.c_str()); };
  auto result = play(options);
  totals sum;
  sum.add(result);
  if (result.found)
    print_violation(x, x.replay, result);
  if (x.statistics)
    sum.print();
  std::printf("fingerprint %016" PRIx64 "\n1 histories, %d violations\n", result.fingerprint, result.found ? 1 : 0);
  return result.found ? 1 : 0;
}

int play_range(const settings& x) {
  totals sum;
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  run_request request;
  request.each = x.each;
  request.first = x.first;
  request.last = x.last;
  request.jobs = x.jobs;
  request.ended = [&](std::uint64_t seed, const history_result& result) {
    sum.add(result);
    if (result.found)
      print_violation(x, seed, result);
    if (terminal)
      std::fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " ", sum.histories, x.last - x.first + 1);
    return true;
  };
  play_all(request);
  if (terminal)
    std::fprintf(stderr, "\r");
  if (x.statistics)
    sum.print();
  std::printf("%" PRIu64 " histories, %" PRIu64 " violations\n", sum.histories, sum.violations);
  return sum.violations == 0 && sum.histories - 1 == x.last - x.first ? 0 : 1;
}

int choose(settings& x) {
  if ((x.defects || !x.search.empty() || !x.defect.empty()) && !rules_are_switchable()) {
    std::fprintf(stderr, "no rule can be switched off in this program; coordinator-sim-defects is for that\n");
    return 2;
  }
  if (!x.defect.empty()) {
    auto* row = find_defect(x.defect);
    if (!row) {
      std::fprintf(stderr, "there is no defect \"%s\"\n", x.defect.c_str());
      return 2;
    }
    x.each.defects.add(row->what);
  }
  if (x.defects)
    return replay_defects(x.jobs) == 0 ? 0 : 1;
  if (!x.search.empty())
    return search_defects(x.search, x.most, x.jobs) == 0 ? 0 : 1;
  return x.has_replay ? replay(x) : play_range(x);
}

}  // namespace

int run_program(int argc, char** argv) {
  settings x;
  x.program = argv[0];
  CLI::App app{"Plays histories of whole clusters under faults, each from its seed, and checks what must always hold."};
  std::int64_t virtual_seconds = x.each.virtual_time.count();
  auto* seeds = app.add_option("--seeds", x.seeds, "The seeds to play, A..B, both included, 0 to 2^64 - 1");
  app.add_option("--nodes", x.each.nodes, "Nodes of each cluster; without it the seed draws")
      ->check(CLI::IsMember({3, 5}));
  app.add_option("--virtual-seconds", virtual_seconds, "How long faults last, in virtual time")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  std::vector<std::string> names;
  for (auto& each : profiles())
    names.push_back(each.name);
  app.add_option("--profile", x.each.profile, "Which faults there are; without it the seed draws")
      ->check(CLI::IsMember(names));
  app.add_option("--jobs", x.jobs, "Histories at a time")->check(CLI::Range(1, 1024))->capture_default_str();
  std::string replayed;
  auto* replay = app.add_option("--replay", replayed, "Plays this one seed again, in this process")->excludes(seeds);
  app.add_flag("--trace", x.trace, "With --replay: prints everything that happens")->needs(replay);
  app.add_flag("--statistics", x.statistics, "Prints what all histories together had");
  app.add_flag("--defects", x.defects, "Replays what is recorded of each rule taken out, and prints the table");
  app.add_option("--find-defects", x.search, "Looks for a seed that shows this defect, or \"all\"");
  app.add_option("--most", x.most, "With --find-defects: so many histories each")->capture_default_str();
  app.add_option("--defect", x.defect, "Takes one rule out");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::printf("%s", app.help().c_str());
    return 0;
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
  x.has_replay = replay->count() > 0;
  x.each.virtual_time = std::chrono::seconds{virtual_seconds};
  spdlog::set_level(spdlog::level::off);
  if (!x.seeds.empty()) {
    if (auto error = read_seeds(x.seeds, x); !error.empty()) {
      std::fprintf(stderr, "%s\n", error.c_str());
      return 2;
    }
  } else if (x.has_replay && !read_number(replayed, x.replay)) {
    std::fprintf(stderr, "--replay: give one number of 64 bits, not %s\n", replayed.c_str());
    return 2;
  } else if (!x.has_replay && !x.defects && x.search.empty()) {
    std::fprintf(stderr, "give --seeds or --replay; --help says more\n");
    return 2;
  }
  return choose(x);
}

}  // namespace coordinator::simulation
