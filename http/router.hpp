#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "http/message.hpp"
#include "http/problem.hpp"

namespace coordinator {

/// What a route's handler is given: the request, and the decoded parts of its path and query.
struct routed_request {
  const http_request& http;
  std::vector<std::string> path_values;  ///< One for each `{name}` of the template, in order.
  std::vector<std::pair<std::string, std::string>> query;

  /// The last value of that name; null where there is none.
  const std::string* parameter(std::string_view name) const {
    const std::string* found = nullptr;
    for (auto& [key, value] : query)
      if (key == name)
        found = &value;
    return found;
  }
};

using route_handler = std::function<reply(const routed_request&)>;

struct route {
  std::string method;
  std::string path;  ///< A template: "/api/tasks/{task_id}/complete".
  route_handler handle;
  request_handler::plan plan;
};

constexpr std::size_t default_body_limit = 8 * 1024 * 1024;

/// Finds the handler of a request by its path as it came, so that a %2F inside an id is no separator. Fixed parts
/// win over `{name}`. Not to be changed once requests come in.
class router {
 public:
  void add(std::string method, std::string path, route_handler handle,
           request_handler::plan plan = {default_body_limit, false});

  const std::vector<route>& routes() const { return routes_; }

  /// The plan of the request's route. Where there is none: quick, with the default limit.
  request_handler::plan plan_of(const http_request& request) const;
  /// Calls the handler. Without one: 404 `unknown_route`, or 405 `method_not_allowed` with `Allow`. HEAD is
  /// answered as GET.
  /// `matched`, if given, is set to the template of the route that is called.
  reply begin(const http_request& request, const std::string** matched = nullptr) const;

 private:
  const route* find(const http_request& request, std::vector<std::string_view>& values, std::string& allowed) const;

  std::vector<route> routes_;
  std::vector<std::vector<std::string>> parts_;  ///< Of each route's path.
};

}  // namespace coordinator
