#include "http/ctl/session.hpp"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

namespace coordinator::ctl {

namespace {

using nlohmann::json;

constexpr std::size_t page_size = 1000;

exit_status status_for(int http_status) {
  switch (http_status) {
    case 404:
    case 410:
      return exit_status::not_found;
    case 409:
    case 412:
      return exit_status::conflict;
    case 0:
    case 429:
    case 502:
    case 503:
    case 504:
      return exit_status::unavailable;
    default:
      return exit_status::failed;
  }
}

std::string explain(const client_reply& reply, const client_request& request) {
  if (!reply.answered())
    return "no coordinator answers (" + reply.failure + ")";
  auto problem = json::parse(reply.body, nullptr, false);
  auto text = text_at(problem, "detail");
  if (text.empty())
    text = text_at(problem, "title");
  if (text.empty())
    text = request.method + " " + request.path + " was answered with status " + std::to_string(reply.status);
  auto field = text_at(problem, "field");
  if (!field.empty() && text.find(field) == std::string::npos)
    text = field + ": " + text;
  auto code = text_at(problem, "code");
  return code.empty() ? text : text + " (" + code + ")";
}

}  // namespace

ctl_error error_of(const client_reply& reply, const client_request& request) {
  return {status_for(reply.status), explain(reply, request)};
}

json ask(session& s, const client_request& request) {
  auto reply = s.cluster.send(request);
  if (!reply.ok())
    throw error_of(reply, request);
  if (reply.body.empty())
    return nullptr;
  auto result = json::parse(reply.body, nullptr, false);
  if (result.is_discarded())
    throw ctl_error(exit_status::failed, reply.node + " answered " + request.path + " with something that is not JSON");
  return result;
}

json get(session& s, const std::string& path) {
  client_request request;
  request.path = path;
  return ask(s, request);
}

json post(session& s, const std::string& path, const json& body) {
  client_request request;
  request.method = "POST";
  request.path = path;
  request.body = to_text(body);
  return ask(s, request);
}

void for_each(session& s, const std::string& path, const char* field, std::size_t limit,
              const std::function<void(json&)>& use) {
  std::string cursor;
  std::size_t seen = 0;
  do {
    auto wanted = limit == 0 ? page_size : std::min(page_size, limit - seen);
    auto query = path + (path.find('?') == std::string::npos ? "?" : "&") + "limit=" + std::to_string(wanted);
    if (!cursor.empty())
      query += "&cursor=" + cursor;
    auto page = get(s, query);
    auto elements = page.find(field);
    if (elements == page.end() || !elements->is_array())
      throw ctl_error(exit_status::failed, path + ": the answer has no list '" + field + "'");
    for (auto& element : *elements) {
      use(element);
      ++seen;
    }
    cursor = text_at(page, "next_cursor");
  } while (!cursor.empty() && (limit == 0 || seen < limit));
}

std::string to_text(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

std::string text_at(const json& object, const char* field) {
  if (!object.is_object())
    return {};
  auto found = object.find(field);
  if (found == object.end() || found->is_null())
    return {};
  return found->is_string() ? found->get<std::string>() : to_text(*found);
}

std::string time_at(const json& object, const char* field) {
  if (!object.is_object() || !object.contains(field) || !object[field].is_number_integer())
    return {};
  auto ms = object[field].get<std::int64_t>();
  if (ms <= 0)
    return {};
  std::time_t seconds = ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &parts);
  return buffer;
}

}  // namespace coordinator::ctl
