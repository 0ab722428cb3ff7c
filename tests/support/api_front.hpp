#pragma once

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "http/api.hpp"
#include "tests/support/fake_port.hpp"

namespace coordinator::test {

using nlohmann::json;

/// The routes over a port without a node.
struct front {
  explicit front(api_options options = {}) : routes(port, std::move(options)) {}

  http_response ask(const std::string& method, const std::string& target, const std::string& body = {},
                    header_list headers = {}) {
    http_request request;
    request.method = method;
    request.path = target.substr(0, target.find('?'));
    if (auto mark = target.find('?'); mark != std::string::npos)
      request.query = target.substr(mark + 1);
    request.body = body;
    request.headers = std::move(headers);
    request.from_loopback = loopback;
    return routes.answer(request);
  }

  test::fake_port port;
  api routes;
  bool loopback = true;
};

inline std::string header(const http_response& response, const std::string& name) {
  for (auto& [key, value] : response.headers)
    if (key == name)
      return value;
  return {};
}

inline json body(const http_response& response) {
  return json::parse(response.body);
}

template <class T>
const T& written(const front& f) {
  REQUIRE_FALSE(f.port.writes.empty());
  return std::get<T>(f.port.writes.back().body);
}

}  // namespace coordinator::test
