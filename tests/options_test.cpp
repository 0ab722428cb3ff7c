#include "actors/options.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <sstream>

#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

/// Sets an environment variable for as long as it lives.
class variable {
 public:
  variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~variable() { ::unsetenv(name_); }
  variable(const variable&) = delete;

 private:
  const char* name_;
};

node_options parsed(std::vector<std::string> arguments) {
  return parse_options(arguments).node;
}

/// The line that a bad command line ends with.
std::string refusal(std::vector<std::string> arguments) {
  try {
    parse_options(arguments);
  } catch (const options_error& e) {
    CHECK(std::string{e.what()}.find('\n') == std::string::npos);
    return e.what();
  }
  return "accepted";
}

bool contains(const std::string& text, std::initializer_list<const char*> parts) {
  for (auto part : parts)
    if (text.find(part) == std::string::npos)
      return false;
  return true;
}

std::string write_file(const temporary_directory& directory, const std::string& text) {
  auto path = (directory.path() / "node.json").string();
  std::ofstream{path} << text;
  return path;
}

}  // namespace

TEST_CASE("options: a node without any is a cluster of one on loopback") {
  auto node = parsed({});
  CHECK(node.http == host_port{"127.0.0.1", 8080});
  CHECK(node.cluster == host_port{"127.0.0.1", 18080});
  CHECK(node.http_address() == "127.0.0.1:8080");
  CHECK(node.cluster_address() == "127.0.0.1:18080");
  CHECK_FALSE(node.redundancy);
  CHECK(node.peers.empty());
  CHECK(node.election_timeout_min.count() == 150);
  CHECK(node.election_timeout_max.count() == 300);
  CHECK(node.heartbeat_interval.count() == 50);
  CHECK(node.level == log_level::info);
  CHECK(node.id.value.ends_with("-8080"));
  CHECK(node.data_dir.filename() == node.id.value);
  CHECK_FALSE(node.cluster_secret_file);
  CHECK(node.retention == std::chrono::hours{14 * 24});
  CHECK(node.quota_bytes == 8'589'934'592u);
  CHECK(node.log_retention_entries == 10'000);
  CHECK(node.verify == verify_level::quick);
  CHECK(node.auto_promote);
}

TEST_CASE("options: every flag arrives") {
  auto node = parsed({"--node-id",
                      "node-1",
                      "--host",
                      "10.0.0.1",
                      "--port",
                      "9000",
                      "--cluster-port=9001",
                      "--data-dir",
                      "/var/lib/coordinator",
                      "--enable-redundancy",
                      "--peers",
                      "node-2=10.0.0.2:9000:9001,10.0.0.3:9000",
                      "--election-timeout-min",
                      "200",
                      "--election-timeout-max",
                      "500",
                      "--heartbeat-interval",
                      "40",
                      "--cluster-secret-file",
                      "secret",
                      "--cluster-token-file",
                      "token",
                      "--log-level",
                      "debug",
                      "--retention",
                      "36h",
                      "--quota-bytes",
                      "500M",
                      "--log-retention-entries",
                      "25",
                      "--verify=full",
                      "--auto-promote",
                      "off",
                      "--advertise",
                      "one.example.org"});
  CHECK(node.id.value == "node-1");
  CHECK(node.http == host_port{"10.0.0.1", 9000});
  CHECK(node.cluster == host_port{"10.0.0.1", 9001});
  CHECK(node.http_address() == "one.example.org:9000");
  CHECK(node.cluster_address() == "one.example.org:9001");
  CHECK(node.data_dir == "/var/lib/coordinator");
  CHECK(node.redundancy);
  REQUIRE(node.peers.size() == 2);
  CHECK(node.peers[0] == peer_options{node_id{"node-2"}, {"10.0.0.2", 9000}, {"10.0.0.2", 9001}});
  CHECK(node.peers[1] == peer_options{std::nullopt, {"10.0.0.3", 9000}, {"10.0.0.3", 19000}});
  CHECK(node.election_timeout_min.count() == 200);
  CHECK(node.election_timeout_max.count() == 500);
  CHECK(node.heartbeat_interval.count() == 40);
  CHECK(node.cluster_secret_file == "secret");
  CHECK(node.cluster_token_file == "token");
  CHECK(node.level == log_level::debug);
  CHECK(node.retention == std::chrono::hours{36});
  CHECK(node.quota_bytes == 524'288'000u);
  CHECK(node.log_retention_entries == 25);
  CHECK(node.verify == verify_level::full);
  CHECK_FALSE(node.auto_promote);
}

TEST_CASE("options: a retention is a number with its unit, and 0 keeps for ever") {
  auto retention = [](const char* text) { return parsed({"--retention", text}).retention; };
  CHECK(retention("90s") == std::chrono::seconds{90});
  CHECK(retention("30m") == std::chrono::minutes{30});
  CHECK(retention("12h") == std::chrono::hours{12});
  CHECK(retention("3650d") == std::chrono::hours{3650 * 24});
  CHECK(retention("0").count() == 0);
  CHECK(retention("0d").count() == 0);
  for (auto bad : {"", "14", "d", "-1d", "1.5h", "14 d", "14days", "1w", "3651d", "18446744073709551615d", "14D"})
    CHECK_MESSAGE(contains(refusal({"--retention", bad}), {"--retention", "such as 14d", "ten years"}), bad);
}

TEST_CASE("options: a quota is bytes or a number with its unit, and 0 sets none") {
  auto quota = [](const char* text) { return parsed({"--quota-bytes", text}).quota_bytes; };
  CHECK(quota("0") == 0);
  CHECK(quota("1048576") == 1'048'576u);
  CHECK(quota("1024k") == 1'048'576u);
  CHECK(quota("3MiB") == 3'145'728u);
  CHECK(quota("2G") == 2'147'483'648u);
  CHECK(quota("1T") == 1'099'511'627'776u);
  for (auto bad : {"", "G", "8 G", "-1", "1.5G", "8GB", "8iB", "iB", "1048575", "1023K", "1048577T", "0x10", "8GG"})
    CHECK_MESSAGE(contains(refusal({"--quota-bytes", bad}), {"--quota-bytes", "such as 8G", "1M"}), bad);
}

TEST_CASE("options: what a node keeps and checks of its files comes from the environment and the file, too") {
  temporary_directory directory;
  auto file = write_file(
      directory, R"({"retention": "2d", "quota_bytes": 5242880, "log-retention-entries": 100, "verify": "off"})");
  auto node = parsed({"--config", file});
  CHECK(node.retention == std::chrono::hours{48});
  CHECK(node.quota_bytes == 5'242'880u);
  CHECK(node.log_retention_entries == 100);
  CHECK(node.verify == verify_level::off);
  {
    variable quota{"COORDINATOR_QUOTA_BYTES", "6M"};
    variable retention{"COORDINATOR_RETENTION", "0"};
    CHECK(parsed({"--config", file}).quota_bytes == 6'291'456u);
    CHECK(parsed({"--config", file}).retention.count() == 0);
  }
  auto text = write_file(directory, R"({"quota-bytes": "7M"})");
  CHECK(parsed({"--config", text}).quota_bytes == 7'340'032u);
  auto bad = write_file(directory, R"({"quota-bytes": true})");
  CHECK(contains(refusal({"--config", bad}), {"\"quota-bytes\"", "a string or a whole number"}));
  variable verify{"COORDINATOR_VERIFY", "slow"};
  CHECK(contains(refusal({}), {"--verify slow", "COORDINATOR_VERIFY", "off, quick or full"}));
}

TEST_CASE("options: peers may be DNS names and IPv6 addresses in brackets, and --peers may be repeated") {
  auto node = parsed({"--enable-redundancy", "--cluster-secret-file", "s", "--peers",
                      "b=coordinator-b.test:8080, c=[fd00::3]:8080:7000", "--peers", "[::2]:1"});
  REQUIRE(node.peers.size() == 3);
  CHECK(node.peers[0].http == host_port{"coordinator-b.test", 8080});
  CHECK(node.peers[1].http == host_port{"fd00::3", 8080});
  CHECK(node.peers[1].cluster == host_port{"fd00::3", 7000});
  CHECK(to_string(node.peers[1].http) == "[fd00::3]:8080");
  CHECK(node.peers[2].cluster == host_port{"::2", 10001});
  CHECK(parsed({"--host", "[::1]"}).http_address() == "[::1]:8080");
  CHECK(parsed({"--host", "::1"}).http_address() == "[::1]:8080");
}

TEST_CASE("options: a flag wins over a variable, and a variable over the file") {
  temporary_directory directory;
  auto file = write_file(directory, R"({"port": 7001, "node-id": "from-file", "log_level": "warn"})");
  CHECK(parsed({"--config", file}).http.port == 7001);
  CHECK(parsed({"--config", file}).level == log_level::warn);
  {
    variable port{"COORDINATOR_PORT", "7002"};
    variable id{"COORDINATOR_NODE_ID", "from-variable"};
    auto node = parsed({"--config", file, "--port", "7003"});
    CHECK(node.http.port == 7003);
    CHECK(node.id.value == "from-variable");
    CHECK(parsed({"--config", file}).http.port == 7002);
  }
  {
    variable config{"COORDINATOR_CONFIG", file};
    CHECK(parsed({}).id.value == "from-file");
  }
  variable unknown{"COORDINATOR_COLOUR", "blue"};
  variable blank{"COORDINATOR_PORT", ""};
  CHECK(parsed({}).http.port == 8080);
}

TEST_CASE("options: redundancy and peers come from the environment and the file, too") {
  {
    variable redundancy{"COORDINATOR_ENABLE_REDUNDANCY", "yes"};
    variable peers{"COORDINATOR_PEERS", "localhost:8081,localhost:8082"};
    CHECK(parsed({}).peers.size() == 2);
    CHECK(contains(refusal({"--enable-redundancy=false"}), {"--peers", "COORDINATOR_PEERS"}));
  }
  temporary_directory directory;
  auto list = write_file(directory, R"({"enable-redundancy": true, "peers": ["b=localhost:8081", "[::1]:8082"]})");
  auto node = parsed({"--config", list});
  CHECK(node.redundancy);
  REQUIRE(node.peers.size() == 2);
  CHECK(node.peers[1].http == host_port{"::1", 8082});
  variable bad{"COORDINATOR_ENABLE_REDUNDANCY", "perhaps"};
  CHECK(contains(refusal({}), {"--enable-redundancy", "perhaps", "COORDINATOR_ENABLE_REDUNDANCY", "true or false"}));
}

TEST_CASE("options: a mistake in the file is named by its key") {
  temporary_directory directory;
  auto with = [&](const std::string& text) { return refusal({"--config", write_file(directory, text)}); };
  CHECK(contains(with(R"({"port": "8080"})"), {"\"port\"", "\"8080\"", "a whole number"}));
  CHECK(contains(with(R"({"port": 8080.5})"), {"\"port\"", "a whole number"}));
  CHECK(contains(with(R"({"node-id": 7})"), {"\"node-id\"", "a string"}));
  CHECK(contains(with(R"({"enable-redundancy": 1})"), {"\"enable-redundancy\"", "true or false"}));
  CHECK(contains(with(R"({"peers": [1]})"), {"\"peers\"", "array of strings"}));
  CHECK(contains(with(R"({"prot": 8080})"), {"no key \"prot\"", "--help"}));
  CHECK(contains(with(R"({"config": "other.json"})"), {"no key \"config\""}));
  CHECK(contains(with(R"({"node-id": "a", "node_id": "b"})"), {"\"node_id\"", "twice"}));
  CHECK(contains(with("[1]"), {"one JSON object"}));
  CHECK(contains(with("{\"port\": "), {"not JSON"}));
  CHECK(contains(with(R"({"port": 99999})"), {"--port 99999", "--config file", "1 to 65535"}));
  CHECK(contains(with(R"({"port": -1})"), {"--port -1", "1 to 65535"}));
  CHECK(contains(refusal({"--config", "/nonexistent/node.json"}), {"--config /nonexistent/node.json"}));
  CHECK(contains(refusal({"--config", directory.path().string()}), {"--config", "no such file"}));
  variable config{"COORDINATOR_CONFIG", "/nonexistent/node.json"};
  CHECK(contains(refusal({}), {"--config /nonexistent/node.json"}));
}

TEST_CASE("options: a bad value is refused with its flag, the value and what would do") {
  CHECK(contains(refusal({"--port", "0"}), {"--port 0", "1 to 65535"}));
  CHECK(contains(refusal({"--port", "65536"}), {"--port 65536", "1 to 65535"}));
  CHECK(contains(refusal({"--port", "80a"}), {"--port 80a", "number"}));
  CHECK(contains(refusal({"--port", "-5"}), {"--port -5", "number"}));
  CHECK(contains(refusal({"--port", "18446744073709551696"}), {"--port 18446744073709551696"}));
  CHECK(contains(refusal({"--port", ""}), {"--port \"\"", "number"}));
  CHECK(contains(refusal({"--port"}), {"--port has no value"}));
  CHECK(contains(refusal({"--port", "1", "--port", "2"}), {"--port", "more than once"}));
  CHECK(contains(refusal({"--port", "60000"}), {"--port 60000", "70000", "--cluster-port"}));
  CHECK(parsed({"--port", "60000", "--cluster-port", "60001"}).cluster.port == 60001);
  CHECK(contains(refusal({"--cluster-port", "8080"}), {"--cluster-port 8080", "18080"}));
  CHECK(contains(refusal({"--host", "10.0.0.256"}), {"--host 10.0.0.256", "IPv4"}));
  CHECK(contains(refusal({"--host", "a b"}), {"--host a b", "DNS"}));
  CHECK(contains(refusal({"--host", "localhost:8080"}), {"--host localhost:8080", "without a port"}));
  CHECK(contains(refusal({"--host", "0.0.0.0"}), {"--host 0.0.0.0", "--advertise"}));
  CHECK(contains(refusal({"--host", "[::]"}), {"--host [::]", "--advertise"}));
  CHECK(contains(refusal({"--host", "0.0.0.0", "--advertise", "::"}), {"--advertise ::"}));
  CHECK(parsed({"--host", "0.0.0.0", "--advertise", "ten.test"}).http_address() == "ten.test:8080");
  CHECK(contains(refusal({"--node-id", "a/b"}), {"--node-id a/b", "letters"}));
  CHECK(contains(refusal({"--node-id", "-a"}), {"--node-id -a", "letters"}));
  CHECK(contains(refusal({"--node-id", std::string(65, 'a')}), {"--node-id aaa", "64"}));
  CHECK(contains(refusal({"--node-id", "a\nb"}), {"--node-id a?b"}));
  CHECK(contains(refusal({"--data-dir", ""}), {"--data-dir \"\""}));
  CHECK(contains(refusal({"--log-level", "loud"}), {"--log-level loud", "trace, debug"}));
  CHECK(contains(refusal({"--auto-promote", "yes"}), {"--auto-promote yes", "on or off"}));
  CHECK(contains(refusal({"--verify", "Full"}), {"--verify Full", "off, quick or full"}));
  CHECK(contains(refusal({"--log-retention-entries", "9"}), {"--log-retention-entries 9", "10 to 1000000000"}));
  CHECK(contains(refusal({"--log-retention-entries", "10k"}), {"--log-retention-entries 10k", "10 to 1000000000"}));
  CHECK(contains(refusal({"--cluster-secret-file", ""}), {"--cluster-secret-file \"\""}));
  CHECK(contains(refusal({"--colour", "blue"}), {"--colour", "--help"}));
  CHECK(contains(refusal({"surplus"}), {"surplus", "--help"}));
  CHECK(refusal({"--node-id", std::string(5000, 'a')}).size() < 400);
}

TEST_CASE("options: time-outs must agree with each other") {
  CHECK(contains(refusal({"--election-timeout-min", "300"}), {"--election-timeout-min 300", "must be above"}));
  CHECK(contains(refusal({"--election-timeout-max", "150"}), {"--election-timeout-max 150", "must be above"}));
  CHECK(contains(refusal({"--heartbeat-interval", "75"}), {"--heartbeat-interval 75", "below half"}));
  CHECK(contains(refusal({"--election-timeout-min", "100"}), {"--election-timeout-min 100", "below half"}));
  CHECK(parsed({"--heartbeat-interval", "74"}).heartbeat_interval.count() == 74);
  CHECK(contains(refusal({"--heartbeat-interval", "0"}), {"--heartbeat-interval 0", "milliseconds"}));
  CHECK(contains(refusal({"--election-timeout-max", "600001"}), {"--election-timeout-max 600001", "600000"}));
}

TEST_CASE("options: peers must be other nodes, each named once") {
  auto with = [](const std::string& peers) {
    return refusal({"--node-id", "a", "--enable-redundancy", "--peers", peers});
  };
  CHECK(contains(with("localhost"), {"--peers localhost", "host:port"}));
  CHECK(contains(with("localhost:0"), {"--peers", "1 to 65535"}));
  CHECK(contains(with("localhost:60000"), {"70000", ":cluster_port"}));
  CHECK(contains(with("localhost:8081:8081"), {"cluster port must be another"}));
  CHECK(contains(with("localhost:8081:2:3"), {"host:port"}));
  CHECK(contains(with("::1:8081"), {"brackets"}));
  CHECK(contains(with("[::1:8081"), {"brackets"}));
  CHECK(contains(with("0.0.0.0:8081"), {"could be reached"}));
  CHECK(contains(with("b/c=localhost:8081"), {"node id"}));
  CHECK(contains(with("=localhost:8081"), {"node id"}));
  CHECK(contains(with("localhost:8081,"), {"in \"\"", "host:port"}));
  CHECK(contains(with("localhost:8081,127.0.0.1:8081"), {"127.0.0.1:8081", "twice"}));
  CHECK(contains(with("b=localhost:8081,b=localhost:8082"), {"twice"}));
  CHECK(contains(with("b=localhost:8081:9999,c=localhost:8082:9999"), {"twice"}));
  CHECK(contains(with("a=localhost:8081"), {"localhost:8081", "this node itself"}));
  CHECK(contains(with("b=localhost:8080"), {"localhost:8080", "this node itself"}));
  CHECK(contains(refusal({"--peers", "localhost:8081"}), {"--peers localhost:8081", "--enable-redundancy"}));
  CHECK(contains(refusal({"--enable-redundancy"}), {"--enable-redundancy", "needs --peers"}));
}

TEST_CASE("options: nodes beyond loopback need a secret file") {
  CHECK(contains(refusal({"--enable-redundancy", "--peers", "10.0.0.2:8080"}), {"--cluster-secret-file", "is needed"}));
  CHECK(contains(refusal({"--enable-redundancy", "--host", "10.0.0.1", "--peers", "localhost:8081"}),
                 {"--cluster-secret-file", "is needed"}));
  CHECK(parsed({"--enable-redundancy", "--peers", "127.9.9.9:8080,[::1]:1"}).peers.size() == 2);
}

TEST_CASE("options: help and version are printed whatever else is wrong") {
  variable bad{"COORDINATOR_PORT", "none"};
  auto help = parse_options({"--help"}).print;
  for (auto flag : {"--node-id",
                    "--host",
                    "--port",
                    "--cluster-port",
                    "--data-dir",
                    "--enable-redundancy",
                    "--peers",
                    "--election-timeout-min",
                    "--election-timeout-max",
                    "--heartbeat-interval",
                    "--cluster-secret-file",
                    "--cluster-token-file",
                    "--log-level",
                    "--retention",
                    "--quota-bytes",
                    "--log-retention-entries",
                    "--verify",
                    "--auto-promote",
                    "--advertise",
                    "--config",
                    "--help",
                    "--version",
                    "COORDINATOR_NODE_ID",
                    "8080",
                    "150",
                    "300",
                    "50"})
    CHECK_MESSAGE(help.find(flag) != std::string::npos, flag);
  CHECK(parse_options({"--port", "none", "--version"}).print.starts_with("coordinator "));
}

TEST_CASE("options: the deployment guide's table has every option with its default, and no other") {
  auto guide_file = std::filesystem::path{__FILE__}.parent_path().parent_path() / "docs" / "deployment_guide.md";
  std::ifstream guide{guide_file};
  REQUIRE(guide);
  std::map<std::string, std::string> rows;
  for (std::string line; std::getline(guide, line);)
    if (line.starts_with("| `--"))
      rows[line.substr(3, line.find_first_of(" `", 3) - 3)] = line;
  std::istringstream help{options_help()};
  std::size_t options = 0;
  for (std::string line; std::getline(help, line);) {
    auto dashes = line.find("--");
    if (!line.starts_with("  ") || dashes == std::string::npos || dashes > 5)
      continue;
    ++options;
    auto flag = line.substr(dashes, line.find(' ', dashes) - dashes);
    REQUIRE_MESSAGE(rows.contains(flag), flag);
    if (line.ends_with(")")) {
      auto fallback = line.substr(line.rfind('(') + 1);
      fallback.pop_back();
      CHECK_MESSAGE(rows[flag].find("`" + fallback + "`") != std::string::npos, flag << " " << fallback);
    }
  }
  CHECK(options == rows.size());
}
