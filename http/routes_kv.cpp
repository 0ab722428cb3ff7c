#include "http/api.hpp"
#include "http/json_reader.hpp"
#include "http/render.hpp"
#include "http/uri.hpp"

namespace coordinator {
namespace {

std::string path_key(const routed_request& r, std::optional<problem>& failure) {
  auto& key = r.path_values.front();
  if (auto why = why_no_key(key); !why.empty() && !failure)
    failure = invalid("key", why);
  return key;
}

problem never_matches() {
  return {412, "precondition_failed", "No version can have this ETag.", "If-Match", {}, {}};
}

std::string etag(std::uint64_t version) {
  return '"' + std::to_string(version) + '"';
}

}  // namespace

http_response api::get_key_value(const routed_request& r) {
  std::optional<problem> failure;
  auto key = path_key(r, failure);
  if (failure)
    return to_response(*failure);
  return read(r, get_key{key}, "key", [](query_result& result) {
    auto& found = std::get<key_view>(result);
    http_response response;
    response.content_type = "application/octet-stream";
    response.body = std::move(found.value);
    response.set("ETag", etag(found.version));
    return response;
  });
}

http_response api::put_key_value(const routed_request& r) {
  std::optional<problem> failure;
  put_key command;
  command.key = path_key(r, failure);
  auto conditions = read_preconditions(r, failure);
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  if (conditions.never)
    return to_response(never_matches());
  command.value = r.http.body;
  command.if_match = conditions.if_match;
  command.if_exists = conditions.if_exists;
  command.if_none_match = conditions.if_none_match;
  auto result = write(std::move(command), options);
  if (auto wrong = why_not_written(result, "key"))
    return to_response(*wrong);
  auto response = ok({{"version", result->result.version}});
  response.set("ETag", etag(result->result.version));
  return response;
}

http_response api::delete_key_value(const routed_request& r) {
  std::optional<problem> failure;
  delete_key command;
  command.key = path_key(r, failure);
  auto conditions = read_preconditions(r, failure);
  auto options = read_write_options(r, failure);
  if (conditions.if_none_match && !failure)
    failure = invalid("If-None-Match", "has no meaning for DELETE");
  if (failure)
    return to_response(*failure);
  if (conditions.never)
    return to_response(never_matches());
  command.if_match = conditions.if_match;
  command.if_exists = conditions.if_exists;
  if (auto wrong = why_not_written(write(std::move(command), options), "key"))
    return to_response(*wrong);
  return ok({{"success", true}});
}

http_response api::get_keys(const routed_request& r) {
  std::optional<problem> failure;
  auto page = read_page(r, failure);
  if (failure)
    return to_response(*failure);
  auto prefix = r.parameter("prefix");
  return read(r, list_keys{prefix ? *prefix : std::string{}, page.cursor, page.limit}, "key", [](query_result& result) {
    auto& found = std::get<key_page>(result);
    nlohmann::ordered_json out;
    auto list = nlohmann::ordered_json::array();
    for (auto& key : found.keys)
      list.push_back(render(key));
    out["keys"] = std::move(list);
    out["next_cursor"] =
        found.next_cursor.empty() ? nlohmann::ordered_json{} : nlohmann::ordered_json(found.next_cursor);
    return ok(out);
  });
}

}  // namespace coordinator
