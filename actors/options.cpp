#include "actors/options.hpp"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "actors/link_tls.hpp"
#include "actors/option_values.hpp"

namespace coordinator {

namespace {

enum class value_kind { text, number, quantity, flag, list };

/// One option, as the command line, the environment and the file know it.
struct option_spec {
  std::string name;
  value_kind kind;
  std::string value_name;
  std::string fallback;  ///< For the help alone; node_options holds the real one.
  std::string help;
};

const std::vector<option_spec>& specs() {
  using enum value_kind;
  static const std::vector<option_spec> all = {
      {"node-id", text, "ID", "HOSTNAME-PORT", "Name of this node, unique in its cluster and the same for ever"},
      {"host", text, "ADDR", "127.0.0.1", "Address that both ports bind to; 0.0.0.0 and :: need --advertise"},
      {"port", number, "N", "8080", "HTTP port"},
      {"cluster-port", number, "N", "port + 10000", "Port for the other nodes"},
      {"advertise", text, "ADDR", "--host", "Host name or address by which clients and nodes reach this node"},
      {"data-dir", text, "DIR", "~/.local/state/coordinator/nodes/ID",
       "Where the node keeps its state; made when absent"},
      {"enable-redundancy", flag, "", "off", "Be one of several nodes; without it, a cluster of one"},
      {"peers", list, "[ID=]HOST:PORT[:CLUSTER_PORT],...", "",
       "All other nodes, by the address that clients use; IPv6 addresses in brackets"},
      {"election-timeout-min", number, "MS", "150", "Shortest silence of the leader before an election"},
      {"election-timeout-max", number, "MS", "300", "Longest such silence; each wait is drawn between the two"},
      {"heartbeat-interval", number, "MS", "50", "Time between two beats of the leader"},
      {"cluster-secret-file", text, "FILE", "loopback: a file of the user's own",
       "The secret that all nodes share: text of at least 32 characters"},
      {"cluster-token-file", text, "FILE", "none", "The bearer token for Raft over HTTP; none: from loopback only"},
      {"log-level", text, "LEVEL", "info", "trace, debug, info, warn, error or off"},
      {"retention", quantity, "TIME", "14d", "How long finished tasks are kept, as 90s, 30m, 12h or 14d; 0: for ever"},
      {"quota-bytes", quantity, "SIZE", "8G",
       "Size of the node's files from which new tasks are refused, as 500M or 8G; 0: none"},
      {"log-retention-entries", number, "N", "10000", "Log entries kept for slow nodes when older ones are dropped"},
      {"auto-promote", text, "on|off", "on", "As leader: whether a learner that keeps up becomes a voter by itself"},
      {"verify", text, "MODE", "quick", "What is checked of the files after a start: off, quick or full"},
  };
  return all;
}

std::string variable_of(const std::string& name) {
  std::string result = "COORDINATOR_";
  for (char c : name)
    result += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return result;
}

/// An empty variable counts as none, so that a service file can leave one blank.
std::string from_environment(const std::string& name) {
  auto value = std::getenv(variable_of(name).c_str());
  return value ? value : "";
}

/// A value for an error message: on one line, and not without end.
std::string shown(const std::string& value) {
  constexpr std::size_t longest = 120;
  std::string result;
  for (char c : value.substr(0, longest))
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (value.size() > longest)
    result += "...";
  return result.empty() ? "\"\"" : result;
}

/// Reads the JSON file of --config for CLI11. Values that the environment gives are left out: CLI11 asks the file
/// before the environment, and here the environment wins.
class json_config : public CLI::Config {
 public:
  explicit json_config(std::set<std::string>& in_file) : in_file_(in_file) {}

  std::string to_config(const CLI::App*, bool, bool, std::string) const override { return {}; }

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    nlohmann::json document;
    try {
      document = nlohmann::json::parse(input);
    } catch (const nlohmann::json::exception& e) {
      throw options_error(std::string{"--config: the file is not JSON: "} + shown(e.what()));
    }
    if (!document.is_object())
      throw options_error("--config: the file must hold one JSON object, such as {\"port\": 8080}");
    std::vector<CLI::ConfigItem> items;
    for (auto& [key, value] : document.items()) {
      auto item = read(key, value);
      if (!from_environment(item.name).empty())
        continue;
      if (!in_file_.insert(item.name).second)
        throw options_error("--config: the key \"" + shown(key) + "\" is there twice; keep one");
      items.push_back(std::move(item));
    }
    return items;
  }

 private:
  static CLI::ConfigItem read(const std::string& key, const nlohmann::json& value) {
    auto name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    auto spec = std::find_if(specs().begin(), specs().end(), [&](auto& s) { return s.name == name; });
    if (spec == specs().end())
      throw options_error("--config: there is no key \"" + shown(key) +
                          "\"; keys are the options of --help without their dashes in front, such as \"node-id\"");
    auto wrong = [&](const char* wanted) {
      throw options_error("--config: the key \"" + shown(key) + "\" is " + shown(value.dump()) + "; it must be " +
                          wanted);
    };
    CLI::ConfigItem item;
    item.name = name;
    switch (spec->kind) {
      case value_kind::text:
        if (!value.is_string())
          wrong("a string");
        item.inputs.push_back(value.get<std::string>());
        break;
      case value_kind::number:
        if (!value.is_number_integer())
          wrong("a whole number");
        item.inputs.push_back(value.dump());
        break;
      case value_kind::quantity:
        if (!value.is_string() && !value.is_number_integer())
          wrong("a string or a whole number");
        item.inputs.push_back(value.is_string() ? value.get<std::string>() : value.dump());
        break;
      case value_kind::flag:
        if (!value.is_boolean())
          wrong("true or false");
        item.inputs.push_back(value.dump());
        break;
      case value_kind::list:
        item.inputs.push_back(read_list(value, wrong));
        break;
    }
    return item;
  }

  template <class Wrong>
  static std::string read_list(const nlohmann::json& value, Wrong wrong) {
    constexpr auto wanted = "a string, or an array of strings";
    if (value.is_string())
      return value.get<std::string>();
    if (!value.is_array())
      wrong(wanted);
    std::string joined;
    for (auto& element : value) {
      if (!element.is_string())
        wrong(wanted);
      joined += (joined.empty() ? "" : ",") + element.get<std::string>();
    }
    return joined;
  }

  std::set<std::string>& in_file_;
};

std::unique_ptr<CLI::App> make_app(std::map<std::string, CLI::Option*>& options) {
  auto app = std::make_unique<CLI::App>("A node of the coordinator for distributed testing.", "coordinator");
  for (auto& spec : specs()) {
    // The environment variable is left out of the text and said once below: it follows from the name.
    auto help = spec.help + (spec.fallback.empty() ? "" : " (" + spec.fallback + ")");
    CLI::Option* option = nullptr;
    if (spec.kind == value_kind::flag) {
      option = app->add_flag("--" + spec.name)->description(help)->option_text(" ");
    } else {
      option = app->add_option(
          "--" + spec.name, [](const CLI::results_t&) { return true; }, help);
      option->option_text(spec.value_name);
    }
    // All that was given is kept: that a value was given twice is judged here, in this program's own words.
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    option->envname(variable_of(spec.name));
    options[spec.name] = option;
  }
  auto named = from_environment("config");
  auto config =
      app->set_config("--config", named, "JSON file with the same keys, such as {\"port\": 8080}", !named.empty());
  config->option_text("FILE");
  config->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app->set_help_flag("-h,--help", "Print this and leave");
  app->set_version_flag("--version", std::string{COORDINATOR_VERSION}, "Print the version and leave");
  app->allow_extras();
  app->get_formatter()->column_width(34);
  app->footer(
      "Every option can also be given as an environment variable (COORDINATOR_NODE_ID for --node-id, and so on) and\n"
      "as a key of the --config file. Flags win over variables, and variables over the file.\n"
      "Three nodes on one machine:\n"
      "  coordinator --node-id a --port 8080 --enable-redundancy --peers b=localhost:8081,c=localhost:8082\n"
      "  coordinator --node-id b --port 8081 --enable-redundancy --peers a=localhost:8080,c=localhost:8082\n"
      "  coordinator --node-id c --port 8082 --enable-redundancy --peers a=localhost:8080,b=localhost:8081\n"
      "Exit status: 0 after SIGTERM, SIGINT or a text that was asked for; 1 when the node cannot start or go on;\n"
      "2 for a bad option.");
  return app;
}

/// The values as text, by the name of their option, and where each came from.
class given_values {
 public:
  explicit given_values(const std::vector<std::string>& arguments) : arguments_(arguments) {
    std::map<std::string, CLI::Option*> options;
    auto app = make_app(options);
    app->config_formatter(std::make_shared<json_config>(in_file_));
    try {
      auto reversed = arguments;
      std::reverse(reversed.begin(), reversed.end());
      app->parse(reversed);
    } catch (const CLI::FileError&) {
      throw options_error("--config " + shown(config_file(*app)) + ": there is no such file that could be read");
    } catch (const CLI::ArgumentMismatch& e) {
      std::string what = e.what();
      throw options_error(shown(what.substr(0, what.find(':'))) + " has no value; --help shows what it takes");
    } catch (const CLI::ParseError& e) {
      throw options_error(shown(e.what()));
    }
    if (auto extras = app->remaining(); !extras.empty())
      throw options_error(shown(extras.front()) + " is no option of the coordinator; --help lists them");
    for (auto& spec : specs())
      take(spec, options.at(spec.name)->results());
    if (auto files = app->get_config_ptr()->results(); files.size() > 1)
      throw options_error("--config is given more than once; give one file");
  }

  /// The value, or none where none was given.
  const std::string* find(const std::string& name) const {
    auto i = values_.find(name);
    return i == values_.end() ? nullptr : &i->second;
  }

  /// Ends the parsing over a value.
  [[noreturn]] void refuse(const std::string& name, const std::string& advice) const {
    auto value = find(name);
    throw options_error("--" + name + (value ? " " + shown(*value) : "") + source(name) + ": " + advice);
  }

 private:
  void take(const option_spec& spec, const std::vector<std::string>& results) {
    if (results.empty())
      return;
    if (spec.kind == value_kind::flag) {
      values_[spec.name] = results.back();
      return;
    }
    std::string joined;
    for (auto& result : results)
      joined += (&result == &results.front() ? "" : ",") + result;
    values_[spec.name] = joined;
    if (spec.kind != value_kind::list && results.size() > 1)
      refuse(spec.name, "is given more than once; give it once");
  }

  std::string source(const std::string& name) const {
    auto flag = "--" + name;
    for (auto& argument : arguments_)
      if (argument == flag || argument.starts_with(flag + "="))
        return {};
    if (in_file_.contains(name))
      return " (from the --config file)";
    if (!from_environment(name).empty())
      return " (from " + variable_of(name) + ")";
    return {};
  }

  static std::string config_file(CLI::App& app) {
    auto given = app.get_config_ptr()->results();
    return given.empty() ? from_environment("config") : given.front();
  }

  std::vector<std::string> arguments_;
  std::set<std::string> in_file_;
  std::map<std::string, std::string> values_;
};

std::uint16_t read_port(const given_values& given, const std::string& name, std::uint16_t fallback) {
  auto text = given.find(name);
  if (!text)
    return fallback;
  auto value = read_number(*text, 1, 65535);
  if (!value)
    given.refuse(name, "a port is a number from 1 to 65535");
  return static_cast<std::uint16_t>(*value);
}

std::string read_host_option(const given_values& given, const std::string& name, const std::string& fallback) {
  auto text = given.find(name);
  if (!text)
    return fallback;
  auto host = read_host(*text);
  if (!host)
    given.refuse(name, "give an IPv4 or IPv6 address or a DNS name, without a port");
  return *host;
}

std::chrono::milliseconds read_duration(const given_values& given, const std::string& name,
                                        std::chrono::milliseconds fallback) {
  auto text = given.find(name);
  if (!text)
    return fallback;
  auto value = read_number(*text, 1, 600'000);
  if (!value)
    given.refuse(name, "give milliseconds, a number from 1 to 600000");
  return std::chrono::milliseconds{*value};
}

std::optional<std::filesystem::path> read_file_option(const given_values& given, const std::string& name) {
  auto text = given.find(name);
  if (!text)
    return std::nullopt;
  if (text->empty())
    given.refuse(name, "give the path of a file");
  return *text;
}

void read_addresses(const given_values& given, node_options& node) {
  node.http.host = read_host_option(given, "host", "127.0.0.1");
  node.http.port = read_port(given, "port", 8080);
  node.cluster.host = node.http.host;
  auto cluster_port = default_cluster_port(node.http.port);
  if (!given.find("cluster-port") && cluster_port > 65535)
    given.refuse("port",
                 "the cluster port would be " + std::to_string(cluster_port) + ", past 65535; give --cluster-port");
  node.cluster.port = read_port(given, "cluster-port", static_cast<std::uint16_t>(cluster_port));
  if (node.cluster.port == node.http.port)
    given.refuse("cluster-port", "must be another one than --port; " + std::to_string(cluster_port) + " would do");
  if (is_wildcard(node.http.host) && !given.find("advertise"))
    given.refuse("host", "names no address that others could use; add --advertise ADDR, by which they reach this node");
  node.advertise = read_host_option(given, "advertise", node.http.host);
  if (is_wildcard(node.advertise))
    given.refuse("advertise", "names no address; give the one by which clients and nodes reach this node");
}

void read_identity(const given_values& given, node_options& node) {
  if (auto text = given.find("node-id")) {
    if (!is_node_id(*text))
      given.refuse("node-id", "give up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit");
    node.id.value = *text;
  } else {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    std::string host = name;
    host.resize(std::min<std::size_t>(host.size(), 50));
    std::replace_if(
        host.begin(), host.end(),
        [](char c) {
          return !is_node_id({&c, 1}) && c != '.';
        },
        '-');
    node.id.value = host + "-" + std::to_string(node.http.port);
    if (!is_node_id(node.id.value))
      given.refuse("node-id", "is needed, for this machine's name does not make one");
  }
  if (auto text = given.find("data-dir")) {
    if (text->empty())
      given.refuse("data-dir", "give the path of a directory");
    node.data_dir = *text;
    return;
  }
  auto secret = user_secret_file();
  if (secret.empty())
    given.refuse("data-dir", "is needed, for this user has no home directory");
  node.data_dir = secret.parent_path() / "nodes" / node.id.value;
}

void read_timing(const given_values& given, node_options& node) {
  node.election_timeout_min = read_duration(given, "election-timeout-min", node.election_timeout_min);
  node.election_timeout_max = read_duration(given, "election-timeout-max", node.election_timeout_max);
  node.heartbeat_interval = read_duration(given, "heartbeat-interval", node.heartbeat_interval);
  auto min = node.election_timeout_min.count();
  // Whichever of two values was given is the one to be named.
  auto at_fault = [&](const char* first, const char* second) { return given.find(first) ? first : second; };
  if (node.election_timeout_max <= node.election_timeout_min)
    given.refuse(at_fault("election-timeout-max", "election-timeout-min"),
                 "--election-timeout-max (" + std::to_string(node.election_timeout_max.count()) +
                     ") must be above --election-timeout-min (" + std::to_string(min) + "); twice as much would do");
  if (2 * node.heartbeat_interval >= node.election_timeout_min)
    given.refuse(at_fault("heartbeat-interval", "election-timeout-min"),
                 "--heartbeat-interval (" + std::to_string(node.heartbeat_interval.count()) +
                     ") must be below half of --election-timeout-min (" + std::to_string(min) +
                     "), so that one lost beat is no election; a third would do");
}

void read_storage(const given_values& given, node_options& node) {
  constexpr std::uint64_t least_quota = std::uint64_t{1} << 20;
  constexpr std::uint64_t fewest_entries = 10;
  constexpr std::uint64_t most_entries = 1'000'000'000;
  if (auto text = given.find("retention")) {
    auto value = read_period(*text);
    if (!value)
      given.refuse("retention",
                   "give a number with s, m, h or d behind it, such as 14d, of ten years at most; or 0, "
                   "which keeps finished tasks for ever");
    node.retention = *value;
  }
  if (auto text = given.find("quota-bytes")) {
    auto value = read_size(*text);
    if (!value || (*value > 0 && *value < least_quota))
      given.refuse("quota-bytes",
                   "give bytes, or a number with K, M, G or T behind it, such as 8G, of 1M at least; "
                   "or 0, which sets no quota");
    node.quota_bytes = *value;
  }
  if (auto text = given.find("log-retention-entries")) {
    auto value = read_number(*text, fewest_entries, most_entries);
    if (!value)
      given.refuse("log-retention-entries", "give a number from 10 to 1000000000");
    node.log_retention_entries = *value;
  }
  if (auto text = given.find("verify")) {
    auto value = read_verify_level(*text);
    if (!value)
      given.refuse("verify", "give off, quick or full");
    node.verify = *value;
  }
}

bool all_on_loopback(const node_options& node) {
  return is_loopback(node.http.host) && is_loopback(node.advertise) &&
         std::all_of(node.peers.begin(), node.peers.end(), [](auto& peer) { return is_loopback(peer.http.host); });
}

void read_redundancy(const given_values& given, node_options& node) {
  if (auto text = given.find("auto-promote")) {
    if (*text != "on" && *text != "off")
      given.refuse("auto-promote", "give on or off");
    node.auto_promote = *text == "on";
  }
  if (auto text = given.find("enable-redundancy")) {
    auto value = read_bool(*text);
    if (!value)
      given.refuse("enable-redundancy", "give true or false, or nothing");
    node.redundancy = *value;
  }
  auto peers = given.find("peers");
  if (!node.redundancy) {
    if (peers)
      given.refuse("peers", "goes with --enable-redundancy alone; add that, or leave --peers out for a cluster of one");
    return;
  }
  if (!peers)
    given.refuse("enable-redundancy", "needs --peers with all other nodes of the cluster");
  auto read = read_peers(*peers);
  if (!read.error.empty())
    given.refuse("peers", read.error);
  node.peers = std::move(read.peers);
  const host_port own_http{node.advertise, node.http.port};
  for (auto& peer : node.peers)
    if (peer.id == node.id || same_address(peer.http, own_http) || same_address(peer.http, node.http))
      given.refuse("peers", "\"" + to_string(peer.http) + "\" is this node itself; name the other nodes alone");
  if (!node.cluster_secret_file && !all_on_loopback(node))
    given.refuse("cluster-secret-file", "is needed where nodes are not all on loopback; give every node the same file");
}

}  // namespace

parsed_options parse_options(const std::vector<std::string>& arguments) {
  parsed_options result;
  // Asked for help, a mistake elsewhere on the line or in the environment is no reason to refuse it.
  auto has = [&](const char* flag) { return std::find(arguments.begin(), arguments.end(), flag) != arguments.end(); };
  if (has("--help") || has("-h")) {
    result.print = options_help();
    return result;
  }
  if (has("--version")) {
    result.print = std::string{"coordinator "} + COORDINATOR_VERSION + "\n";
    return result;
  }
  given_values given{arguments};
  auto& node = result.node;
  read_addresses(given, node);
  read_identity(given, node);
  read_timing(given, node);
  node.cluster_secret_file = read_file_option(given, "cluster-secret-file");
  node.cluster_token_file = read_file_option(given, "cluster-token-file");
  if (auto text = given.find("log-level")) {
    auto level = read_log_level(*text);
    if (!level)
      given.refuse("log-level", "give trace, debug, info, warn, error or off");
    node.level = *level;
  }
  read_storage(given, node);
  read_redundancy(given, node);
  return result;
}

std::string options_help() {
  std::map<std::string, CLI::Option*> options;
  return make_app(options)->help();
}

}  // namespace coordinator
