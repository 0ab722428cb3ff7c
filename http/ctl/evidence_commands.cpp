#include <signal.h>
#include <time.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "http/ctl/audit.hpp"
#include "http/ctl/commands.hpp"
#include "http/ctl/progress.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;
using clock = std::chrono::steady_clock;

volatile sig_atomic_t asked_to_end = 0;

/// Ends the probe's loop at a signal. Without SA_RESTART, so that a pause ends too.
void end_at_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { asked_to_end = 1; };
  for (auto signal : {SIGINT, SIGTERM})
    ::sigaction(signal, &action, nullptr);
}

void pause(std::chrono::milliseconds time) {
  timespec left{time.count() / 1000, (time.count() % 1000) * 1'000'000};
  ::nanosleep(&left, nullptr);
}

std::int64_t wall_clock_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

struct gap_record {
  double longest_ms = 0;
  std::int64_t ended_ms = 0;  ///< Wall clock.
  std::string from, to;       ///< The nodes that accepted the writes before and after it.
};

std::vector<std::string> read_lines(const std::string& path) {
  std::ifstream file{path};
  if (!file)
    throw ctl_error(exit_status::usage, "cannot read " + path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);)
    if (!line.empty())
      lines.push_back(std::move(line));
  return lines;
}

json as_json(const audit_report& report) {
  return {{"submitted", report.submitted},
          {"completed", report.completed},
          {"passed", report.passed},
          {"failed", report.failed},
          {"cancelled", report.cancelled},
          {"lost", report.lost},
          {"run_twice", report.run_twice},
          {"attempts_started", report.attempts_started},
          {"tasks_started_again", report.tasks_started_again}};
}

void print(session& s, const audit_report& report) {
  s.out << "submitted          " << report.submitted << "\n"
        << "completed          " << report.completed << " (" << report.passed << " passed)\n"
        << "failed             " << report.failed << "\n"
        << "cancelled          " << report.cancelled << "\n"
        << "lost               " << report.lost.size() << "\n"
        << "run twice          " << report.run_twice.size() << "\n"
        << "attempts started   " << report.attempts_started << "\n"
        << "tasks begun again  " << report.tasks_started_again << "\n";
  for (auto& sentence : report.lost)
    s.out << "lost: " << sentence << "\n";
  for (auto& sentence : report.run_twice)
    s.out << "run twice: " << sentence << "\n";
}

}  // namespace

exit_status probe_writes(session& s, const probe_options& options) {
  end_at_signals();
  auto started = clock::now();
  std::size_t accepted = 0, refused = 0;
  gap_record gap;
  clock::time_point last_time{};
  std::string last_node;
  while (!asked_to_end && (options.time.count() == 0 || clock::now() - started < options.time)) {
    client_request request;
    request.method = "PUT";
    request.path = "/api/kv/" + encode_component(options.key);
    request.body = std::to_string(accepted + 1);
    auto reply = s.cluster.send(request);
    auto now = clock::now();
    if (reply.ok()) {
      auto gap_ms = std::chrono::duration<double, std::milli>(now - last_time).count();
      if (++accepted > 1 && gap_ms > gap.longest_ms)
        gap = {gap_ms, wall_clock_ms(), last_node, reply.node};
      last_time = now;
      last_node = reply.node;
    } else {
      ++refused;
    }
    pause(options.interval);
  }
  if (s.as_json)
    s.out << to_text({{"accepted", accepted},
                      {"refused", refused},
                      {"longest_gap_ms", gap.longest_ms},
                      {"longest_gap_ended_ms", gap.ended_ms},
                      {"from_node", gap.from},
                      {"to_node", gap.to}})
          << std::endl;
  else
    s.out << accepted << " writes accepted, " << refused << " not; longest gap between two accepted writes "
          << static_cast<std::int64_t>(gap.longest_ms + 0.5) << " ms" << std::endl;
  return accepted > 0 ? exit_status::ok : exit_status::unavailable;
}

exit_status audit_submitted(session& s, const audit_options& options) {
  auto submitted = read_lines(options.submitted);
  std::vector<journal_line> journals;
  for (auto& path : options.journals) {
    std::ifstream file{path};
    if (!file)
      throw ctl_error(exit_status::usage, "cannot read " + path);
    read_journal(file, journals);
  }
  // One by one, because lists leave out the attempts.
  std::vector<json> tasks;
  progress shown{s.err, s.terminal, "audit"};
  for (auto& id : submitted) {
    shown.show(tasks.size(), submitted.size());
    try {
      tasks.push_back(whole_task(s, id));
    } catch (const ctl_error& e) {
      if (e.status() != exit_status::not_found)
        throw;
    }
  }
  auto report = audit_tasks(submitted, tasks, journals);
  if (s.as_json)
    s.out << to_text(as_json(report), 2) << "\n";
  else
    print(s, report);
  return report.clean() ? exit_status::ok : exit_status::failed;
}

}  // namespace coordinator::ctl
