#include "http/junit.hpp"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace coordinator {
namespace {

using nlohmann::json;

json parsed_object(const std::string& text) {
  auto value = json::parse(text, nullptr, false);
  return value.is_object() ? value : json::object();
}

std::string text_at(const json& object, const char* name) {
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

std::string outcome_of(const task_view& task, const json& result) {
  if (task.status == task_status::failed)
    return "error";
  if (task.status != task_status::completed)
    return std::string{to_string(task.status)};
  auto outcome = text_at(result, "outcome");
  return outcome == "passed" || outcome == "failed" || outcome == "timeout" ? outcome : "error";
}

std::string seconds(std::int64_t ms) {
  char text[32];
  std::snprintf(text, sizeof text, "%lld.%03lld", static_cast<long long>(ms / 1000), static_cast<long long>(ms % 1000));
  return text;
}

std::string attribute(const char* name, const std::string& value) {
  return std::string{" "} + name + "=\"" + xml_escape(value) + "\"";
}

std::string sums_text(const junit_sums& sums) {
  return attribute("tests", std::to_string(sums.tests)) + attribute("failures", std::to_string(sums.failures)) +
         attribute("errors", std::to_string(sums.errors)) + attribute("skipped", std::to_string(sums.skipped)) +
         attribute("time", seconds(sums.duration_ms));
}

}  // namespace

task_result result_of(const task_view& task) {
  auto result = parsed_object(task.result_json);
  task_result x;
  x.task_id = task.task_id;
  x.name = text_at(parsed_object(task.spec_json), "name");
  if (x.name.empty())
    x.name = task.task_id;
  x.worker_id = task.worker_id;
  x.attempt = task.attempt;
  x.outcome = outcome_of(task, result);
  x.error = task.error;
  x.output = text_at(result, "output");
  if (auto given = result.find("duration_ms"); given != result.end() && given->is_number())
    x.duration_ms = static_cast<std::int64_t>(std::clamp(given->get<double>(), 0.0, 1e15));
  else if (task.started_ms > 0 && task.finished_ms > task.started_ms)
    x.duration_ms = task.finished_ms - task.started_ms;
  return x;
}

void junit_sums::add(const task_result& x) {
  ++tests;
  duration_ms += x.ended() ? x.duration_ms : 0;
  if (x.outcome == "failed")
    ++failures;
  else if (x.outcome == "error" || x.outcome == "timeout")
    ++errors;
  else if (x.outcome != "passed")
    ++skipped;
}

std::string xml_escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto c = text[i];
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')
      out += '?';
    else if (text.substr(i, 3) == "\xef\xbf\xbe" || text.substr(i, 3) == "\xef\xbf\xbf") {
      // U+FFFE and U+FFFF: UTF-8, and no characters of XML.
      out += '?';
      i += 2;
    } else
      out += c;
  }
  return out;
}

std::string junit_head(const std::string& run_id, const junit_sums& sums) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + attribute("name", run_id) + sums_text(sums) +
         ">\n<testsuite" + attribute("name", run_id) + sums_text(sums) + ">\n";
}

std::string junit_case(const std::string& run_id, const task_result& x) {
  auto text = "<testcase" + attribute("name", x.name) + attribute("classname", run_id) +
              attribute("time", seconds(x.ended() ? x.duration_ms : 0)) + ">";
  auto message = x.error.empty() ? x.outcome : x.error.substr(0, x.error.find('\n'));
  if (x.outcome == "failed")
    text += "<failure" + attribute("message", message) + attribute("type", x.outcome) + ">" + xml_escape(x.error) +
            "</failure>";
  else if (x.outcome == "error" || x.outcome == "timeout")
    text += "<error" + attribute("message", message) + attribute("type", x.outcome) + ">" + xml_escape(x.error) +
            "</error>";
  else if (x.outcome != "passed")
    text += "<skipped" + attribute("message", x.outcome) + "/>";
  if (!x.output.empty())
    text += "<system-out>" + xml_escape(x.output) + "</system-out>";
  return text + "</testcase>\n";
}

}  // namespace coordinator
