#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "http/ctl/commands.hpp"
#include "http/ctl/table.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;

std::string read_all(std::istream& in) {
  return {std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
}

std::string value_of(const std::string& argument) {
  if (argument == "-")
    return read_all(std::cin);
  if (argument.empty() || argument.front() != '@')
    return argument;
  std::ifstream file{argument.substr(1), std::ios::binary};
  if (!file)
    throw ctl_error(exit_status::usage, "cannot read " + argument.substr(1));
  return read_all(file);
}

client_request request_for(const char* method, const std::string& key, const kv_condition& condition) {
  client_request request;
  request.method = method;
  request.path = "/api/kv/" + encode_component(key);
  if (!condition.if_match.empty())
    request.headers["If-Match"] = condition.if_match == "*" ? "*" : "\"" + condition.if_match + "\"";
  if (condition.if_absent)
    request.headers["If-None-Match"] = "*";
  return request;
}

std::string without_quotes(const std::string& etag) {
  return etag.size() >= 2 && etag.front() == '"' ? etag.substr(1, etag.size() - 2) : etag;
}

}  // namespace

exit_status get_key(session& s, const std::string& key) {
  auto request = request_for("GET", key, {});
  auto reply = s.cluster.send(request);
  if (!reply.ok())
    throw error_of(reply, request);
  if (s.as_json)
    s.out << to_text({{"key", key}, {"value", reply.body}, {"version", without_quotes(reply.etag)}}, 2) << "\n";
  else
    s.out << reply.body;  // As it is, so that what was put can be got into a file.
  // At a terminal the prompt should not stick to the value.
  if (!s.as_json && s.terminal && !reply.body.empty() && reply.body.back() != '\n')
    s.err << "\n";
  return exit_status::ok;
}

exit_status put_key(session& s, const std::string& key, const std::string& value, const kv_condition& condition) {
  auto request = request_for("PUT", key, condition);
  request.body = value_of(value);
  request.content_type = "application/octet-stream";
  auto answer = ask(s, request);
  s.out << (s.as_json ? to_text(answer, 2) : "version " + text_at(answer, "version")) << "\n";
  return exit_status::ok;
}

exit_status delete_key(session& s, const std::string& key, const kv_condition& condition) {
  auto answer = ask(s, request_for("DELETE", key, condition));
  if (s.as_json)
    s.out << to_text(answer, 2) << "\n";
  return exit_status::ok;
}

exit_status list_keys(session& s, const std::string& prefix) {
  auto all = json::array();
  for_each(s, "/api/kv?prefix=" + encode_component(prefix), "keys", 0,
           [&](json& key) { all.push_back(std::move(key)); });
  if (s.as_json) {
    s.out << to_text(all, 2) << "\n";
    return exit_status::ok;
  }
  table rows{{"KEY", "VERSION", "SIZE"}};
  for (auto& key : all)
    rows.add({text_at(key, "key"), text_at(key, "version"), text_at(key, "size")});
  rows.print(s.out);
  return exit_status::ok;
}

}  // namespace coordinator::ctl
