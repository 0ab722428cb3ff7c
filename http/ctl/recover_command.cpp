#include "http/ctl/recover_command.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <ctime>
#include <ostream>

#include "http/ctl/table.hpp"
#include "http/recovery/daemon.hpp"

namespace coordinator::ctl {

namespace {

std::atomic<bool> stop_asked{false};

void ask_to_stop(int) {
  stop_asked = true;
}

/// Ends the daemon in order on SIGINT and SIGTERM, and gives the signals back afterwards.
class signals {
 public:
  signals() {
    stop_asked = false;
    struct sigaction action {};
    action.sa_handler = ask_to_stop;
    ::sigaction(SIGINT, &action, &old_int_);
    ::sigaction(SIGTERM, &action, &old_term_);
  }
  ~signals() {
    ::sigaction(SIGINT, &old_int_, nullptr);
    ::sigaction(SIGTERM, &old_term_, nullptr);
  }
  signals(const signals&) = delete;
  signals& operator=(const signals&) = delete;

 private:
  struct sigaction old_int_ {};
  struct sigaction old_term_ {};
};

void print(std::ostream& out, const recovery::entry& x) {
  std::time_t seconds = x.time_ms / 1000;
  std::tm parts{};
  ::localtime_r(&seconds, &parts);
  char time[16];
  std::strftime(time, sizeof time, "%H:%M:%S", &parts);
  out << time << " " << (x.dry_run ? "(dry run) " : "") << x.event;
  for (auto part : {&x.strategy, &x.node, &x.action, &x.outcome})
    if (!part->empty() && *part != x.event)
      out << " " << for_terminal(*part);
  for (auto part : {&x.seen, &x.detail})
    if (!part->empty())
      out << ": " << for_terminal(*part);
  out << std::endl;
}

}  // namespace

exit_status recover(session& s, const recover_options& options) {
  recovery::recovery_config config;
  try {
    config = recovery::read_recovery_config(options.config);
  } catch (const recovery::config_error& e) {
    throw ctl_error(exit_status::usage, e.what());
  }
  recovery::daemon_options how{.once = options.once, .dry_run = options.dry_run, .host = options.host};
  if (how.host.empty()) {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    how.host = name;
  }
  signals caught;
  auto say = [&](const recovery::entry& x) {
    if (s.as_json)
      s.out << recovery::to_json_line(x) << std::endl;
    else
      print(s.out, x);
  };
  recovery::daemon daemon{config, how, say};
  return daemon.run(stop_asked) ? exit_status::ok : exit_status::failed;
}

}  // namespace coordinator::ctl
