#include "http/recovery/config.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace coordinator::recovery {

namespace {

using nlohmann::json;

constexpr std::int64_t longest_ms = 24LL * 3600 * 1000;

/// One object of the file: what is read of it is remembered, so that what is left over can be refused.
class section {
 public:
  section(const json& object, std::string path, const std::string& file)
      : object_(object), path_(std::move(path)), file_(file) {
    if (!object.is_object())
      fail("", std::string{"is "} + object.type_name() + "; give an object");
  }

  std::string path_of(const std::string& field) const {
    if (field.empty())
      return path_.empty() ? "the file" : path_;
    return path_.empty() ? field : path_ + "." + field;
  }

  [[noreturn]] void fail(const std::string& field, const std::string& what) const {
    throw config_error(file_ + ": " + path_of(field) + ": " + what);
  }

  const json* find(const std::string& field) {
    known_.insert(field);
    auto found = object_.find(field);
    return found == object_.end() ? nullptr : &*found;
  }

  const json& require(const std::string& field, const std::string& what_would_do) {
    auto found = find(field);
    if (!found)
      fail(field, "is missing; " + what_would_do);
    return *found;
  }

  std::string text(const std::string& field, const std::string& what_would_do, bool required) {
    auto found = required ? &require(field, what_would_do) : find(field);
    if (!found)
      return {};
    if (!found->is_string() || found->get_ref<const std::string&>().empty())
      fail(field, "is " + shown(*found) + "; " + what_would_do);
    auto value = found->get<std::string>();
    if (value.find('\0') != std::string::npos)
      fail(field, "holds a NUL character; " + what_would_do);
    return value;
  }

  std::string path(const std::string& field, const std::string& what, bool required) {
    auto what_would_do = "give the absolute path of " + what;
    auto value = text(field, what_would_do, required);
    if (!value.empty() && value.front() != '/')
      fail(field, "is the relative path \"" + value + "\"; " + what_would_do);
    while (value.size() > 1 && value.back() == '/')
      value.pop_back();
    return value;
  }

  void boolean(const std::string& field, bool& to) {
    if (auto found = find(field)) {
      if (!found->is_boolean())
        fail(field, "is " + shown(*found) + "; give true or false");
      to = found->get<bool>();
    }
  }

  template <class Number>
  void number(const std::string& field, Number& to, std::int64_t least, std::int64_t most) {
    if (auto found = find(field)) {
      auto whole = found->is_number_integer() &&
                   !(found->is_number_unsigned() && found->get<std::uint64_t>() > std::uint64_t{INT64_MAX});
      if (!whole || found->get<std::int64_t>() < least || found->get<std::int64_t>() > most)
        fail(field, "is " + shown(*found) + "; give a whole number from " + std::to_string(least) + " to " +
                        std::to_string(most));
      to = static_cast<Number>(found->get<std::int64_t>());
    }
  }

  void time(const std::string& field, milliseconds& to, std::int64_t least = 1) {
    auto ms = to.count();
    number(field, ms, least, longest_ms);
    to = milliseconds{ms};
  }

  /// To be called when everything was read.
  void refuse_others() const {
    for (auto& [name, value] : object_.items())
      if (!known_.contains(name)) {
        std::string names;
        for (auto& each : known_)
          names += (names.empty() ? "" : ", ") + each;
        fail(name, "is not known; the fields here are " + names);
      }
  }

  static std::string shown(const json& value) {
    auto text = value.dump(-1, ' ', false, json::error_handler_t::replace);
    return text.size() > 60 ? text.substr(0, 57) + "..." : text;
  }

  const std::string& file() const { return file_; }

 private:
  const json& object_;
  std::string path_;
  const std::string& file_;
  std::set<std::string> known_;
};

/// nlohmann::json keeps the last of two fields with one name, and the first would be ignored without a word.
json parse_without_repeats(std::string_view text, const std::string& file) {
  std::vector<std::set<std::string>> open;
  json::parser_callback_t watch = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start)
      open.emplace_back();
    else if (event == json::parse_event_t::object_end)
      open.pop_back();
    else if (event == json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second)
      throw config_error(file + ": " + parsed.get<std::string>() + ": is given twice; give it once");
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::parse_error& e) {
    auto at = std::min(e.byte == 0 ? 0 : e.byte - 1, text.size());
    auto before = text.substr(0, at);
    auto line = std::count(before.begin(), before.end(), '\n') + 1;
    auto column = at - (before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1) + 1;
    throw config_error(file + ": line " + std::to_string(line) + ", column " + std::to_string(column) +
                       ": is not JSON; check for a missing comma, quote or bracket there");
  }
}

bool is_node_id(const std::string& text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

restart_way read_restart(const json& value, const std::string& path, const std::string& file) {
  section s{value, path, file};
  restart_way way;
  if (auto command = s.find("command")) {
    auto what = "give the program and its arguments as an array of strings, the program by its absolute path";
    if (!command->is_array() || command->empty() ||
        !std::all_of(command->begin(), command->end(), [](auto& part) { return part.is_string(); }))
      s.fail("command", "is " + section::shown(*command) + "; " + what);
    way.command = command->get<std::vector<std::string>>();
    if (!way.command.front().starts_with("/"))
      s.fail("command[0]", "is \"" + way.command.front() + "\"; " + what);
  }
  way.systemd_unit = s.text("systemd_unit", "give a unit's name such as \"coordinator@a.service\"", false);
  way.working_directory = s.path("working_directory", "a directory", false);
  way.log = s.path("log", "a file to append to", false);
  way.pid_file = s.path("pid_file", "the file with the process's id", false);
  s.refuse_others();
  if (way.command.empty() == way.systemd_unit.empty())
    s.fail("", std::string{way.command.empty() ? "has neither" : "has both"} +
                   " command and systemd_unit; give one of the two");
  if (way.systemd_unit.starts_with("-"))
    s.fail("systemd_unit", "begins with '-'; give a unit's name such as \"coordinator@a.service\"");
  if (!way.systemd_unit.empty())
    for (auto [field, given] : {std::pair{"working_directory", !way.working_directory.empty()},
                                std::pair{"log", !way.log.empty()}, std::pair{"pid_file", !way.pid_file.empty()}})
      if (given)
        s.fail(field, "has no meaning beside systemd_unit; say it in the unit");
  return way;
}

watched_node read_node(const json& value, const std::string& path, const std::string& file) {
  section s{value, path, file};
  watched_node node;
  node.name = s.text("name", "give the node's --node-id", true);
  if (!is_node_id(node.name))
    s.fail("name", "is \"" + node.name + "\"; give the node's --node-id: up to 64 letters, digits, '.', '_' or '-'");
  auto url = s.text("url", "give where it answers clients, such as \"http://a.example.org:8080\"", true);
  try {
    auto endpoints = parse_endpoints(url);
    if (endpoints.size() != 1)
      s.fail("url", "names " + std::to_string(endpoints.size()) + " nodes; give one");
    node.http = endpoints.front();
  } catch (const config_error&) {
    throw;
  } catch (const std::invalid_argument& e) {
    s.fail("url", std::string{e.what()} + "; give one such as \"http://a.example.org:8080\"");
  }
  node.data_dir = s.path("data_dir", "the node's --data-dir", true);
  node.host = s.text("host", "give the host name of the node's machine", false);
  node.restart =
      read_restart(s.require("restart", "give an object with command or systemd_unit"), s.path_of("restart"), file);
  s.refuse_others();
  return node;
}

void read_nodes(section& top, recovery_config& config) {
  auto& nodes = top.require("nodes", "give an array with an object for each node");
  if (!nodes.is_array() || nodes.empty())
    top.fail("nodes", "is " + section::shown(nodes) + "; give an array with an object for each node");
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    auto path = "nodes[" + std::to_string(i) + "]";
    config.nodes.push_back(read_node(nodes[i], path, top.file()));
    auto& added = config.nodes.back();
    for (std::size_t k = 0; k < i; ++k) {
      auto& other = config.nodes[k];
      auto same = [&](const char* field, bool equal) {
        if (equal)
          top.fail(path + "." + field,
                   std::string{"is that of nodes["} + std::to_string(k) + "]; give each node its own");
      };
      same("name", added.name == other.name);
      same("url", added.http == other.http);
      same("data_dir", added.data_dir == other.data_dir && added.host == other.host);
      same("restart.systemd_unit", !added.restart.systemd_unit.empty() && added.host == other.host &&
                                       added.restart.systemd_unit == other.restart.systemd_unit);
    }
  }
}

void read_permissions(section& top, permissions& to) {
  auto found = top.find("allow");
  if (!found)
    return;
  section s{*found, "allow", top.file()};
  s.boolean("start_crashed", to.start_crashed);
  s.boolean("restart_damaged", to.restart_damaged);
  s.boolean("restart_stuck", to.restart_stuck);
  s.boolean("restart_term", to.restart_term);
  s.boolean("restart_exhausted", to.restart_exhausted);
  s.boolean("replace_lost", to.replace_lost);
  s.boolean("shed_load", to.shed_load);
  s.boolean("demote_slow", to.demote_slow);
  s.refuse_others();
}

void read_limits(section& top, action_limits& to) {
  auto found = top.find("limits");
  if (!found)
    return;
  section s{*found, "limits", top.file()};
  s.number("restarts", to.restarts, 0, 1000);
  s.time("restart_pause_ms", to.restart_pause);
  s.time("forgive_after_ms", to.forgive_after);
  s.time("action_pause_ms", to.action_pause);
  s.time("settle_ms", to.settle);
  s.time("stop_grace_ms", to.stop_grace);
  s.time("once_ms", to.once);
  s.refuse_others();
  if (to.forgive_after < to.restart_pause)
    s.fail("forgive_after_ms", "is below restart_pause_ms, so that no limit would hold; give at least " +
                                   std::to_string(to.restart_pause.count()));
}

void read_thresholds(section& top, thresholds& to) {
  auto found = top.find("thresholds");
  if (!found)
    return;
  section s{*found, "thresholds", top.file()};
  s.time("interval_ms", to.interval, 50);
  s.time("probe_timeout_ms", to.probe_timeout, 50);
  s.number("confirm_looks", to.confirm_looks, 2, 1000);
  s.time("hang_after_ms", to.hang_after, 500);
  s.time("start_patience_ms", to.start_patience);
  s.time("rebuild_patience_ms", to.rebuild_patience);
  s.number("term_jump", to.term_jump, 2, 1'000'000);
  s.time("term_window_ms", to.term_window);
  s.time("term_patience_ms", to.term_patience);
  s.time("checksum_interval_ms", to.checksum_interval);
  s.number("slow_lag_entries", to.slow_lag, 1, std::numeric_limits<std::int64_t>::max());
  s.time("slow_after_ms", to.slow_after);
  s.number("disk_free_bytes", to.disk_free_bytes, 0, std::numeric_limits<std::int64_t>::max());
  s.number("memory_bytes", to.memory_bytes, 0, std::numeric_limits<std::int64_t>::max());
  s.number("open_files_percent", to.open_files_percent, 1, 100);
  s.refuse_others();
  if (to.hang_after < to.probe_timeout)
    s.fail("hang_after_ms", "is below probe_timeout_ms, so that a slow answer would be a hang; give at least " +
                                std::to_string(to.probe_timeout.count()));
}

}  // namespace

recovery_config parse_recovery_config(std::string_view text, const std::string& file) {
  auto whole = parse_without_repeats(text, file);
  section top{whole, "", file};
  recovery_config config;
  read_nodes(top, config);
  config.state_dir = top.path("state_dir", "a directory of the daemon's own", true);
  for (std::size_t i = 0; i < config.nodes.size(); ++i)
    if (config.state_dir == config.nodes[i].data_dir || config.state_dir.starts_with(config.nodes[i].data_dir + "/"))
      top.fail("state_dir", "is inside the data_dir of nodes[" + std::to_string(i) +
                                "], which may be set aside; give a directory elsewhere");
  config.cluster_token_file = top.path("cluster_token_file", "the file with the cluster's token", false);
  if (auto program = top.path("systemctl", "the program that takes the place of systemctl", false); !program.empty())
    config.systemctl = program;
  top.time("lease_ms", config.lease, 1'000);
  read_permissions(top, config.allow);
  read_limits(top, config.limits);
  read_thresholds(top, config.when);
  top.refuse_others();
  return config;
}

recovery_config read_recovery_config(const std::string& file) {
  std::ifstream input{file, std::ios::binary};
  if (!input)
    throw config_error(file + ": cannot be read: " + std::strerror(errno) + "; give --config a file as " +
                       "docs/operations.md describes it");
  std::string text{std::istreambuf_iterator<char>{input}, {}};
  if (input.bad())
    throw config_error(file + ": cannot be read; give --config a file as docs/operations.md describes it");
  return parse_recovery_config(text, file);
}

}  // namespace coordinator::recovery
