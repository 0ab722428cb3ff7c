#include "http/router.hpp"

#include "http/uri.hpp"

namespace coordinator {
namespace {

bool is_name(std::string_view part) {
  return part.size() > 2 && part.front() == '{' && part.back() == '}';
}

/// A fixed part must be equal; a name takes anything but nothing.
bool matches(const std::vector<std::string>& wanted, const std::vector<std::string_view>& given) {
  if (wanted.size() != given.size())
    return false;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (is_name(wanted[i]) ? given[i].empty() : wanted[i] != given[i])
      return false;
  return true;
}

}  // namespace

void router::add(std::string method, std::string path, route_handler handle, request_handler::plan plan) {
  std::vector<std::string> parts;
  for (auto part : split_path(path))
    parts.emplace_back(part);
  // More fixed parts first: "/api/tasks/claim" is to be found before "/api/tasks/{task_id}".
  auto fixed = [](const std::vector<std::string>& p) {
    return std::count_if(p.begin(), p.end(), std::not_fn(is_name));
  };
  std::size_t at = 0;
  while (at < parts_.size() && fixed(parts_[at]) >= fixed(parts))
    ++at;
  routes_.insert(routes_.begin() + static_cast<std::ptrdiff_t>(at),
                 route{std::move(method), std::move(path), std::move(handle), plan});
  parts_.insert(parts_.begin() + static_cast<std::ptrdiff_t>(at), std::move(parts));
}

const route* router::find(const http_request& request, std::vector<std::string_view>& values,
                          std::string& allowed) const {
  auto given = split_path(request.path);
  std::string_view method = request.method == "HEAD" ? std::string_view{"GET"} : request.method;
  const std::string* path = nullptr;
  for (std::size_t i = 0; i < routes_.size(); ++i) {
    // The first path that fits is meant, whatever its methods: GET /api/tasks/claim asks for no task "claim".
    if ((path && *path != routes_[i].path) || !matches(parts_[i], given))
      continue;
    path = &routes_[i].path;
    if (routes_[i].method == method) {
      for (std::size_t part = 0; part < given.size(); ++part)
        if (is_name(parts_[i][part]))
          values.push_back(given[part]);
      return &routes_[i];
    }
    allowed += (allowed.empty() ? "" : ", ") + routes_[i].method;
    if (routes_[i].method == "GET")
      allowed += ", HEAD";
  }
  return nullptr;
}

request_handler::plan router::plan_of(const http_request& request) const {
  std::vector<std::string_view> values;
  std::string allowed;
  auto found = find(request, values, allowed);
  return found ? found->plan : request_handler::plan{default_body_limit, true};
}

reply router::begin(const http_request& request, const std::string** matched) const {
  std::vector<std::string_view> values;
  std::string allowed;
  auto found = find(request, values, allowed);
  if (!found && allowed.empty())
    return to_response(not_found("unknown_route", "There is no such route."));
  if (!found) {
    auto response = to_response({405, "method_not_allowed", "This route takes " + allowed + ".", {}, {}, {}});
    response.set("Allow", allowed);
    return response;
  }
  if (matched)
    *matched = &found->path;
  routed_request routed{request, {}, {}};
  for (auto value : values) {
    auto decoded = percent_decode(value);
    if (!decoded)
      return to_response(malformed("The path holds a '%' that is not followed by two hexadecimal digits."));
    routed.path_values.push_back(std::move(*decoded));
  }
  auto query = parse_query(request.query);
  if (!query)
    return to_response(malformed("The query is not percent-encoded UTF-8."));
  routed.query = std::move(*query);
  return found->handle(routed);
}

}  // namespace coordinator
