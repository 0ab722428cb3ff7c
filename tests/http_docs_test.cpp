#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "http/api.hpp"
#include "http/openapi.hpp"
#include "tests/support/fake_port.hpp"

using namespace coordinator;

TEST_CASE("api docs: every route is in the reference and in the OpenAPI document, and nothing else") {
  test::fake_port port;
  api routes{port, {}};
  std::ifstream file{COORDINATOR_SOURCE_DIR "/docs/api_reference.md"};
  std::stringstream reference;
  reference << file.rdbuf();
  auto document = nlohmann::json::parse(openapi_document());
  CHECK(document["openapi"] == "3.1.0");
  std::size_t described = 0;
  for (auto& [path, methods] : document["paths"].items())
    for (auto& [method, operation] : methods.items())
      described += method == "parameters" ? 0 : 1;
  CHECK(described == routes.routes().routes().size());
  for (auto& route : routes.routes().routes()) {
    CAPTURE(route.method);
    CAPTURE(route.path);
    CHECK(reference.str().find("`" + route.method + " " + route.path + "`") != std::string::npos);
    auto method = route.method;
    for (auto& c : method)
      c = static_cast<char>(std::tolower(c));
    REQUIRE(document["paths"].contains(route.path));
    REQUIRE(document["paths"][route.path].contains(method));
    auto& operation = document["paths"][route.path][method];
    CHECK(operation.contains("summary"));
    CHECK(operation.contains("operationId"));
    CHECK(operation["responses"].contains("default"));
  }
}

TEST_CASE("api docs: every reference inside the OpenAPI document leads somewhere") {
  auto document = nlohmann::json::parse(openapi_document());
  std::size_t seen = 0;
  auto flat = document.flatten();
  for (auto& [path, value] : flat.items()) {
    if (path.size() < 5 || path.substr(path.size() - 5) != "/$ref")
      continue;
    CAPTURE(path);
    auto target = value.get<std::string>();
    REQUIRE(target.front() == '#');
    CHECK(document.contains(nlohmann::json::json_pointer{target.substr(1)}));
    ++seen;
  }
  CHECK(seen > 20);
}
