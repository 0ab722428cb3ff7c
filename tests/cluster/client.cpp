#include "tests/cluster/client.hpp"

#include <httplib.h>

#include <algorithm>

namespace coordinator {

std::string answer::header(const std::string& lower_case_name) const {
  auto i = headers.find(lower_case_name);
  return i == headers.end() ? "" : i->second;
}

nlohmann::json answer::json() const {
  auto document = nlohmann::json::parse(body, nullptr, false);
  return document.is_discarded() ? nlohmann::json{} : document;
}

bool answer::waits_for_disk() const {
  if (status != 503 || body.find("\"disk_failed\"") == std::string::npos)
    return false;
  auto said = json();
  return !said.contains("outcome") || said["outcome"] == "not_applied";
}

answer call(const host_port& node, const std::string& method, const std::string& path, const std::string& body,
            const call_options& options) {
  httplib::Client client{node.host, node.port};
  client.set_connection_timeout(std::chrono::seconds{10});
  client.set_read_timeout(options.patience);
  client.set_write_timeout(options.patience);
  client.set_tcp_nodelay(true);
  httplib::Request request;
  request.method = method;
  request.path = path;
  request.body = body;
  for (auto& [name, value] : options.headers)
    request.set_header(name.c_str(), value);
  // As long as a change of leaders may take on a busy machine, so that an answer tells of the cluster and not of that.
  if (!request.has_header("X-Request-Timeout-Ms"))
    request.set_header("X-Request-Timeout-Ms", "30000");
  if (!body.empty() && !request.has_header("Content-Type"))
    request.set_header("Content-Type", "application/json");
  answer result;
  auto response = client.send(request);
  if (!response)
    return result;
  result.status = response->status;
  result.body = response->body;
  for (auto& [name, value] : response->headers) {
    auto key = name;
    std::transform(key.begin(), key.end(), key.begin(), [](unsigned char c) { return std::tolower(c); });
    result.headers[key] = value;
  }
  return result;
}

}  // namespace coordinator
