#include "http/recovery/node_process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace coordinator::recovery {

namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream file{path, std::ios::binary};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

int read_pid(const fs::path& file) {
  std::ifstream input{file};
  int pid = 0;
  return input >> pid && pid > 0 ? pid : 0;
}

/// The fields of /proc/PID/stat from the state on: the name before may hold anything.
std::vector<std::string> stat_fields(int pid) {
  auto text = read_file("/proc/" + std::to_string(pid) + "/stat");
  auto name_end = text.rfind(')');
  std::istringstream rest{name_end == std::string::npos ? "" : text.substr(name_end + 1)};
  std::vector<std::string> fields;
  for (std::string field; rest >> field;)
    fields.push_back(field);
  return fields;
}

bool is_running(int pid) {
  auto fields = stat_fields(pid);
  return !fields.empty() && fields.front() != "Z" && fields.front() != "X";
}

/// Whether that process has the file open; where that may not be looked at, it is taken to have.
bool has_open(int pid, const fs::path& file) {
  struct stat wanted {};
  if (::stat(file.c_str(), &wanted) != 0)
    return false;
  std::error_code error;
  fs::directory_iterator entries{"/proc/" + std::to_string(pid) + "/fd", error};
  if (error)
    return error == std::errc::permission_denied;
  for (auto& entry : entries) {
    struct stat found {};
    if (::stat(entry.path().c_str(), &found) == 0 && found.st_dev == wanted.st_dev && found.st_ino == wanted.st_ino)
      return true;
  }
  return false;
}

/// A pid that is only noted somewhere may belong to somebody else by now: the node's has its directory's lock open.
int find_process(const watched_node& node) {
  fs::path lock = fs::path{node.data_dir} / "lock";
  if (auto pid = read_pid(lock); pid > 0 && is_running(pid) && has_open(pid, lock))
    return pid;
  if (node.restart.pid_file.empty())
    return 0;
  auto pid = read_pid(node.restart.pid_file);
  // Before it has locked its directory, the process of the pid file is known by its program alone.
  auto program = read_file("/proc/" + std::to_string(pid) + "/cmdline");
  program = program.substr(0, program.find('\0'));
  auto same =
      node.restart.command.empty() || fs::path{program}.filename() == fs::path{node.restart.command[0]}.filename();
  return pid > 0 && is_running(pid) && same ? pid : 0;
}

void read_usage(process_look& look) {
  auto proc = "/proc/" + std::to_string(look.pid);
  auto fields = stat_fields(look.pid);
  if (fields.size() > 19) {
    look.state = fields[0][0];
    double up = 0;
    std::ifstream{"/proc/uptime"} >> up;
    auto started = std::stod(fields[19]) / static_cast<double>(::sysconf(_SC_CLK_TCK));
    look.age = milliseconds{static_cast<std::int64_t>(std::max(0.0, up - started) * 1000)};
  }
  std::error_code error;
  fs::directory_iterator descriptors{proc + "/fd", error};
  if (!error)
    look.open_files = std::distance(fs::begin(descriptors), fs::end(descriptors));
  std::istringstream limits{read_file(proc + "/limits")};
  for (std::string line; std::getline(limits, line);)
    if (line.starts_with("Max open files"))
      std::istringstream{line.substr(14)} >> look.open_files_limit;
  std::int64_t pages = 0, resident = 0;
  if (std::istringstream statm{read_file(proc + "/statm")}; statm >> pages >> resident)
    look.memory_bytes = resident * ::sysconf(_SC_PAGESIZE);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (auto& text : texts)
    result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

/// In the child, where only system calls are allowed: never returns.
[[noreturn]] void become(char* const* arguments, const char* directory, const char* log, int report) {
  ::setsid();
  auto empty = ::open("/dev/null", O_RDWR);
  auto out = *log ? ::open(log, O_WRONLY | O_CREAT | O_APPEND, 0640) : empty;
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (auto number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD})
    ::signal(number, SIG_DFL);
  if (out >= 0 && empty >= 0 && (!*directory || ::chdir(directory) == 0)) {
    ::dup2(empty, STDIN_FILENO);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    // Nothing of the daemon's is inherited; the pipe that reports a failure goes with a success.
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    ::execv(arguments[0], arguments);
  }
  auto error = errno;
  [[maybe_unused]] auto n = ::write(report, &error, sizeof error);
  ::_exit(127);
}

/// A process of nobody's: its parent is gone before it begins, so that it leaves no zombie and outlives us.
outcome spawn_detached(std::vector<std::string> command, const std::string& directory, const std::string& log) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return {false, std::string{"no pipe: "} + std::strerror(errno)};
  auto arguments = pointers(command);
  auto middle = ::fork();
  if (middle == 0) {
    auto child = ::fork();
    if (child == 0)
      become(arguments.data(), directory.c_str(), log.c_str(), ends[1]);
    ::_exit(child < 0 ? 1 : 0);
  }
  auto error = errno;
  ::close(ends[1]);
  int status = 0;
  if (middle > 0)
    ::waitpid(middle, &status, 0);
  int reported = 0;
  // Ends with the exec, which closes the pipe, or with the error.
  auto n = middle > 0 ? ::read(ends[0], &reported, sizeof reported) : 0;
  ::close(ends[0]);
  if (middle < 0 || status != 0)
    return {false, std::string{"no process: "} + std::strerror(middle < 0 ? error : EAGAIN)};
  if (n == static_cast<ssize_t>(sizeof reported))
    return {false, command[0] + " cannot be executed: " + std::strerror(reported)};
  return {true, "started " + command[0]};
}

std::string time_stamp() {
  auto now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &parts);
  return stamp;
}

void rest() {
  std::this_thread::sleep_for(milliseconds{20});
}

outcome run_systemctl(const recovery_config& config, const std::string& what, const std::string& unit,
                      const keep_waiting& go_on) {
  std::vector<std::string> command{config.systemctl, what, unit};
  auto arguments = pointers(command);
  auto line = config.systemctl + " " + what + " " + unit;
  auto child = ::fork();
  if (child == 0) {
    auto empty = ::open("/dev/null", O_RDWR);
    for (auto number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
      ::dup2(empty, number);
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  if (child < 0)
    return {false, line + " cannot be run: " + std::strerror(errno)};
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (!go_on()) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return {false, line + " does not come to its end"};
    }
    rest();
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return {true, line};
  return {false, line + " ended with status " + std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1)};
}

/// What systemd calls the state of a unit; empty if it does not say within a second.
std::string unit_state(const recovery_config& config, const std::string& unit) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return {};
  std::vector<std::string> command{config.systemctl, "show", "--property=ActiveState", "--value", unit};
  auto arguments = pointers(command);
  auto child = ::fork();
  if (child == 0) {
    auto empty = ::open("/dev/null", O_RDWR);
    ::dup2(empty, STDIN_FILENO);
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(empty, STDERR_FILENO);
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string said;
  pollfd readable{ends[0], POLLIN, 0};
  constexpr int patience_ms = 1'000;
  while (child > 0 && said.size() < 64 && ::poll(&readable, 1, patience_ms) == 1) {
    char text[64];
    auto n = ::read(ends[0], text, sizeof text);
    if (n <= 0)
      break;
    said.append(text, static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  if (child > 0) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  said.erase(std::min(said.find('\n'), said.size()));
  return said;
}

}  // namespace

std::string hold_mark(const std::string& state_dir, const std::string& node) {
  return state_dir + "/hold-" + node;
}

process_look look_at_process(const watched_node& node, const recovery_config& config) {
  process_look look;
  look.here = true;
  look.pid = find_process(node);
  if (look.pid > 0)
    read_usage(look);
  std::error_code error;
  look.removed = fs::exists(fs::path{node.data_dir} / "removed", error);
  look.held = fs::exists(hold_mark(config.state_dir, node.name), error);
  // A crash leaves a unit failed, or about to be started again.
  if (look.pid == 0 && !look.held && !node.restart.systemd_unit.empty())
    look.held = unit_state(config, node.restart.systemd_unit) == "inactive";
  struct statvfs disk {};
  if (::statvfs(node.data_dir.c_str(), &disk) == 0)
    look.disk_free_bytes = static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize);
  for (auto& entry : fs::directory_iterator{node.data_dir, error})
    if (auto name = entry.path().filename().string();
        name.starts_with("state") && name.find(".damaged-") != std::string::npos)
      look.set_aside.push_back(name);
  return look;
}

outcome start_process(const watched_node& node, const recovery_config& config, const keep_waiting& go_on) {
  if (!node.restart.systemd_unit.empty())
    return run_systemctl(config, "restart", node.restart.systemd_unit, go_on);
  return spawn_detached(node.restart.command, node.restart.working_directory, node.restart.log);
}

outcome stop_process(const watched_node& node, const recovery_config& config, const keep_waiting& go_on) {
  if (!node.restart.systemd_unit.empty())
    return run_systemctl(config, "stop", node.restart.systemd_unit, go_on);
  auto pid = find_process(node);
  if (pid == 0)
    return {true, "no process ran"};
  auto born = stat_fields(pid);
  // The pid of one that has ended may be given to another: only the one that was born then is meant.
  auto still_there = [&] {
    auto fields = stat_fields(pid);
    return is_running(pid) && fields.size() > 19 && born.size() > 19 && fields[19] == born[19];
  };
  if (::kill(pid, SIGTERM) != 0 && errno != ESRCH)
    return {false, "process " + std::to_string(pid) + " cannot be ended: " + std::strerror(errno)};
  ::kill(pid, SIGCONT);
  auto killed = false;
  auto patience = std::chrono::steady_clock::now() + config.limits.stop_grace;
  while (still_there()) {
    if (!killed && std::chrono::steady_clock::now() >= patience) {
      ::kill(pid, SIGKILL);
      killed = true;
    }
    if (!go_on())
      return {false, "process " + std::to_string(pid) + " does not end" + (killed ? ", not even by SIGKILL" : "")};
    rest();
  }
  return {true, std::string{killed ? "killed" : "ended"} + " process " + std::to_string(pid)};
}

outcome restart_process(const watched_node& node, const recovery_config& config, const keep_waiting& go_on) {
  if (!node.restart.systemd_unit.empty())
    return start_process(node, config, go_on);
  auto stopped = stop_process(node, config, go_on);
  if (!stopped.ok)
    return stopped;
  auto started = start_process(node, config, go_on);
  return {started.ok, stopped.text + ", " + started.text};
}

outcome set_state_aside(const watched_node& node) {
  if (find_process(node) != 0)
    return {false, "a process still runs on " + node.data_dir};
  std::error_code error;
  std::vector<std::string> names;
  for (auto& entry : fs::directory_iterator{node.data_dir, error})
    if (auto name = entry.path().filename().string();
        name.starts_with("state") && name.find(".damaged-") == std::string::npos)
      names.push_back(name);
  // A database before its WAL: a WAL alone is never taken for a state.
  std::sort(names.begin(), names.end());
  auto suffix = ".damaged-" + time_stamp();
  for (auto& name : names) {
    auto path = fs::path{node.data_dir} / name;
    // What stands beside a database is found by the database's name.
    auto part = name.ends_with("-wal") || name.ends_with("-shm") ? name.substr(name.size() - 4) : std::string{};
    auto target = path.string().substr(0, path.string().size() - part.size()) + suffix + part;
    fs::rename(path, target, error);
    if (error)
      return {false, path.string() + " cannot be renamed: " + error.message()};
  }
  return {true, "set its state aside as " + (names.empty() ? "nothing" : names.front() + suffix)};
}

outcome set_data_aside(const watched_node& node) {
  if (find_process(node) != 0)
    return {false, "a process still runs on " + node.data_dir};
  auto stamp = time_stamp();
  auto target = node.data_dir + ".lost-" + stamp;
  std::error_code error;
  for (int i = 2; fs::exists(target, error); ++i)
    target = node.data_dir + ".lost-" + stamp + "-" + std::to_string(i);
  if (!fs::exists(node.data_dir, error))
    return {true, "no data directory was there"};
  fs::rename(node.data_dir, target, error);
  if (error)
    return {false, node.data_dir + " cannot be renamed to " + target + ": " + error.message()};
  return {true, "set " + node.data_dir + " aside as " + target};
}

void keep_process_evidence(int pid, const std::string& directory) {
  auto proc = fs::path{"/proc"} / std::to_string(pid);
  std::error_code error;
  fs::create_directories(directory, error);
  for (auto file : {"status", "stat", "wchan", "stack", "syscall", "limits", "io", "cmdline"})
    if (auto text = read_file(proc / file); !text.empty())
      std::ofstream{fs::path{directory} / file} << text;
  std::ofstream threads{fs::path{directory} / "threads"};
  for (auto& task : fs::directory_iterator{proc / "task", error}) {
    threads << "thread " << task.path().filename().string() << "\n";
    for (auto file : {"comm", "stat", "wchan", "syscall", "stack"})
      threads << file << ": " << read_file(task.path() / file) << "\n";
  }
}

}  // namespace coordinator::recovery
