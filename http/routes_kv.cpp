#include "http/api.hpp"
#include "http/json_reader.hpp"
#include "http/render.hpp"
#include "http/uri.hpp"
#include "http/wait.hpp"

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

reply api::get_key_value(const routed_request& r) {
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

reply api::put_key_value(const routed_request& r) {
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
  return write(std::move(command), options, "key", [](command_result& result) {
    auto response = ok({{"version", result.version}});
    response.set("ETag", etag(result.version));
    return response;
  });
}

reply api::delete_key_value(const routed_request& r) {
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
  return write(std::move(command), options, "key", [](command_result&) { return ok({{"success", true}}); });
}

http_response api::get_keys(const routed_request& r) {
  std::optional<problem> failure;
  auto page = read_page(r, failure);
  if (failure)
    return to_response(*failure);
  auto prefix = r.parameter("prefix");
  auto given =
      read(r, list_keys{prefix ? *prefix : std::string{}, page.cursor, page.limit}, "key", [](query_result& result) {
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
  return wait_for(std::move(given), r.http.client);
}

}  // namespace coordinator
