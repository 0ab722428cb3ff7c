#include "tests/cluster/watch.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace coordinator {

namespace {

using nlohmann::json;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr auto longest_wait = 200s;

std::vector<std::string> command_line_of(int pid) {
  std::ifstream file{"/proc/" + std::to_string(pid) + "/cmdline"};
  std::vector<std::string> result;
  for (std::string part; std::getline(file, part, '\0');)
    result.push_back(part);
  return result;
}

}  // namespace

int pid_of(const cluster& nodes, int node) {
  std::ifstream file{nodes.data_dir(node) + "/lock"};
  int pid = 0;
  file >> pid;
  auto line = pid > 0 ? command_line_of(pid) : std::vector<std::string>{};
  return line.empty() ? 0 : pid;
}

json status_of(const cluster& nodes, int node) {
  call_options options;
  options.patience = 10s;
  return nodes.get(node, "/api/status", options).json();
}

watch::watch(cluster& nodes, const json& changes) : nodes_(nodes) {
  config_["state_dir"] = state_dir();
  config_["lease_ms"] = 4000;
  config_["limits"] = {{"restart_pause_ms", 2000},
                       {"settle_ms", 30000},
                       {"stop_grace_ms", 2000},
                       {"action_pause_ms", 2000},
                       {"once_ms", 90000}};
  config_["thresholds"] = {{"interval_ms", 200},         {"probe_timeout_ms", 1500},     {"confirm_looks", 3},
                           {"hang_after_ms", 3000},      {"rebuild_patience_ms", 30000}, {"checksum_interval_ms", 100},
                           {"start_patience_ms", 20000}, {"disk_free_bytes", 1 << 20}};
  for (int i = 0; i < nodes.size(); ++i) {
    auto command = command_line_of(pid_of(nodes, i));
    REQUIRE(!command.empty());
    config_["nodes"].push_back(
        {{"name", cluster::name(i)},
         {"url", "http://" + to_string(nodes.address(i))},
         {"data_dir", nodes.data_dir(i)},
         {"restart", {{"command", command}, {"log", directory_ / (cluster::name(i) + ".log")}}}});
  }
  config_.merge_patch(changes);
  set_config(config_);
}

watch::~watch() {
  daemon_.reset();
  for (int i = 0; i < nodes_.size(); ++i)
    if (auto pid = pid_of(nodes_, i); pid > 0)
      ::kill(pid, SIGKILL);
  if (std::uncaught_exceptions() > 0)
    for (auto& line : lines_)
      std::fprintf(stderr, "recovery: %s\n", line.dump().c_str());
}

void watch::set_config(json config) {
  config_ = std::move(config);
  std::ofstream{config_file()} << config_.dump(2) << "\n";
}

void watch::start(std::vector<std::string> more) {
  std::vector<std::string> arguments{"recover", "--config", config_file(), "-o", "json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  child_options options;
  options.log = directory_ / "recover.err";
  daemon_ = std::make_unique<child_process>(COORDCTL_PROGRAM, arguments, options);
  wait_for([](auto& line) { return line["event"] == "daemon"; });
}

std::optional<int> watch::stop() {
  daemon_->send(SIGTERM);
  while (auto line = daemon_->read_line(cluster::patience))
    lines_.push_back(json::parse(*line, nullptr, false));
  return daemon_->wait(cluster::patience);
}

json watch::wait_for(const std::function<bool(const json&)>& is_it) {
  auto deadline = clock::now() + longest_wait;
  while (clock::now() < deadline) {
    auto line = daemon_->read_line(std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()));
    if (!line)
      break;
    lines_.push_back(json::parse(*line, nullptr, false));
    REQUIRE_MESSAGE(lines_.back().is_object(), *line);
    if (is_it(lines_.back()))
      return lines_.back();
  }
  std::string all;
  for (auto& line : lines_)
    all += line.dump() + "\n";
  std::ifstream errors{directory_ / "recover.err"};
  std::ostringstream text;
  text << errors.rdbuf();
  FAIL("what was waited for did not come; the log has\n" << all << text.str());
  return {};
}

json watch::wait_for(const std::string& event, const std::string& strategy, const std::string& node,
                     const std::string& action) {
  CAPTURE(event);
  CAPTURE(strategy);
  CAPTURE(action);
  auto found = wait_for([&](const json& line) {
    return line.value("event", "") == event && line.value("strategy", "") == strategy &&
           line.value("node", "") == node && (action.empty() || line.value("action", "") == action);
  });
  if (event == "noticed")
    noticed_at_ = clock::now();
  return found;
}

void watch::require_mended(const std::string& strategy, const std::string& node, clock::time_point since) {
  wait_for("mended", strategy, node);
  auto ms = [&](clock::time_point to) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(to - since).count();
  };
  MESSAGE("recovery " << strategy << ": noticed after " << ms(noticed_at_) << " ms, mended after " << ms(clock::now())
                      << " ms");
}

std::size_t watch::count(const std::string& event, const std::string& action) const {
  return static_cast<std::size_t>(std::count_if(lines_.begin(), lines_.end(), [&](const json& line) {
    return line.value("event", "") == event && (action.empty() || line.value("action", "") == action);
  }));
}

void watch::hold(int node, bool held) const {
  std::filesystem::create_directories(state_dir());
  auto mark = state_dir() + "/hold-" + cluster::name(node);
  if (held)
    std::ofstream{mark} << "by the test\n";
  else
    std::filesystem::remove(mark);
}

}  // namespace coordinator
