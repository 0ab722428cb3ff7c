#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "http/recovery/config.hpp"

using namespace coordinator::recovery;
using nlohmann::json;

namespace {

json sound() {
  return json::parse(R"({
    "nodes": [
      {"name": "a", "url": "http://a.example.org:8080", "data_dir": "/var/lib/a", "restart": {"command": ["/bin/a", "-x"]}},
      {"name": "b", "url": "http://b.example.org:8080", "data_dir": "/var/lib/b", "host": "b",
       "restart": {"systemd_unit": "coordinator@b.service"}}
    ],
    "state_dir": "/var/lib/recover"
  })");
}

std::string complaint_of_text(const std::string& text) {
  try {
    parse_recovery_config(text, "cluster.json");
    return {};
  } catch (const config_error& e) {
    return e.what();
  }
}

std::string complaint(const json& whole) {
  return complaint_of_text(whole.dump());
}

/// What is said when one field is replaced.
std::string with(const std::string& pointer, const json& value) {
  auto whole = sound();
  whole[json::json_pointer{pointer}] = value;
  return complaint(whole);
}

bool begins(const std::string& text, const std::string& beginning) {
  return text.starts_with("cluster.json: " + beginning);
}

}  // namespace

TEST_CASE("recovery config: what is not given has the defaults that the guide promises") {
  auto config = parse_recovery_config(sound().dump(), "cluster.json");
  REQUIRE(config.nodes.size() == 2);
  CHECK(config.nodes[0].restart.command == std::vector<std::string>{"/bin/a", "-x"});
  CHECK(config.nodes[1].restart.systemd_unit == "coordinator@b.service");
  CHECK(config.nodes[1].host == "b");
  CHECK(config.limits.restarts == 5);
  CHECK(config.limits.restart_pause == std::chrono::seconds{60});
  CHECK(config.allow.start_crashed);
  CHECK_FALSE(config.allow.restart_stuck);
  CHECK_FALSE(config.allow.replace_lost);
  CHECK_FALSE(config.allow.demote_slow);
  CHECK(config.systemctl == "systemctl");
}

TEST_CASE("recovery config: each field is read") {
  auto whole = sound();
  whole["lease_ms"] = 5000;
  whole["systemctl"] = "/opt/systemctl";
  whole["allow"] = {{"start_crashed", false}, {"restart_stuck", true}, {"replace_lost", true}};
  whole["limits"] = {{"restarts", 2}, {"restart_pause_ms", 100}, {"forgive_after_ms", 200}};
  whole["thresholds"] = {{"interval_ms", 100}, {"slow_lag_entries", 7}};
  whole["nodes"][0]["restart"]["log"] = "/var/log/a/";
  auto config = parse_recovery_config(whole.dump(), "cluster.json");
  CHECK(config.lease == milliseconds{5000});
  CHECK(config.systemctl == "/opt/systemctl");
  CHECK_FALSE(config.allow.start_crashed);
  CHECK(config.allow.restart_stuck);
  CHECK(config.limits.restarts == 2);
  CHECK(config.limits.restart_pause == milliseconds{100});
  CHECK(config.when.slow_lag == 7);
  CHECK(config.nodes[0].restart.log == "/var/log/a");
}

TEST_CASE("recovery config: an error names the field by its path, what is wrong, and what would do") {
  CHECK(begins(with("/nodes", json::array()), "nodes: is []; give an array"));
  CHECK(begins(with("/nodes/0/name", "a b"), "nodes[0].name: is \"a b\"; give the node's --node-id"));
  CHECK(begins(with("/nodes/1/name", "a"), "nodes[1].name: is that of nodes[0]; give each node its own"));
  CHECK(begins(with("/nodes/1/url", "http://a.example.org:8080"), "nodes[1].url: is that of nodes[0]"));
  CHECK(begins(with("/nodes/0/url", "http://a:99999"), "nodes[0].url: "));
  CHECK(begins(with("/nodes/0/url", "http://a,http://b"), "nodes[0].url: names 2 nodes; give one"));
  CHECK(begins(with("/nodes/0/data_dir", "a"), "nodes[0].data_dir: is the relative path \"a\"; give the absolute"));
  CHECK(begins(with("/nodes/0/restart/command", json::array()), "nodes[0].restart.command: is []; give the program"));
  CHECK(begins(with("/nodes/0/restart/command", {"a", 1}), "nodes[0].restart.command: is [\"a\",1]; "));
  CHECK(begins(with("/nodes/0/restart/command/0", "a"), "nodes[0].restart.command[0]: is \"a\"; "));
  CHECK(begins(with("/nodes/0/restart", json::object()), "nodes[0].restart: has neither command and systemd_unit"));
  CHECK(begins(with("/nodes/0/restart/systemd_unit", "u"), "nodes[0].restart: has both"));
  CHECK(begins(with("/nodes/1/restart/log", "/l"), "nodes[1].restart.log: has no meaning beside systemd_unit"));
  CHECK(begins(with("/state_dir", "/var/lib/a/x"), "state_dir: is inside the data_dir of nodes[0]"));
  CHECK(begins(with("/allow", {{"restart_stuck", 1}}), "allow.restart_stuck: is 1; give true or false"));
  CHECK(begins(with("/limits", {{"restarts", -1}}), "limits.restarts: is -1; give a whole number from 0 to 1000"));
  CHECK(begins(with("/limits", {{"restart_pause_ms", 1.5}}), "limits.restart_pause_ms: is 1.5; give a whole"));
  CHECK(begins(with("/limits", {{"forgive_after_ms", 100}}), "limits.forgive_after_ms: is below restart_pause_ms"));
  CHECK(begins(with("/thresholds", {{"confirm_looks", 1}}), "thresholds.confirm_looks: is 1; give a whole"));
  CHECK(begins(with("/thresholds", {{"interval_ms", 18446744073709551615u}}), "thresholds.interval_ms: is 1844"));
  CHECK(begins(with("/lease_ms", "5s"), "lease_ms: is \"5s\"; give a whole number"));
}

TEST_CASE("recovery config: unknown, repeated and missing fields, and what is no JSON, are refused") {
  CHECK(begins(with("/nodes/0/nmae", "x"), "nodes[0].nmae: is not known; the fields here are data_dir, host, name"));
  CHECK(begins(with("/allow", {{"everything", true}}), "allow.everything: is not known; "));
  CHECK(begins(with("/colour", "red"), "colour: is not known; "));
  CHECK(begins(complaint_of_text(R"({"lease_ms": 5000, "lease_ms": 6000})"), "lease_ms: is given twice; give it once"));
  auto whole = sound();
  whole["nodes"][1].erase("restart");
  CHECK(begins(complaint(whole), "nodes[1].restart: is missing; give an object"));
  whole = sound();
  whole.erase("state_dir");
  CHECK(begins(complaint(whole), "state_dir: is missing; give the absolute path"));
  CHECK(begins(complaint_of_text(std::string{"{\n  \"nodes\": [,]\n}"}), "line 2, column 13: is not JSON"));
  CHECK(begins(complaint_of_text(std::string{"[]"}), "the file: is array; give an object"));
  CHECK(begins(complaint_of_text(std::string{}), "line 1, column 1: is not JSON"));
  CHECK_THROWS_AS(read_recovery_config("/no/such/file"), config_error);
}
