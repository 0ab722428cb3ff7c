#pragma once

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "actors/link_socket.hpp"

namespace coordinator {

/// What a node said, or that it said nothing.
struct answer {
  int status = 0;  ///< 0: no answer came; whether the request was carried out is unknown.
  std::string body;
  std::map<std::string, std::string> headers;  ///< Names in lower case.

  bool ok() const { return status >= 200 && status < 300; }
  /// Whether the node refused at once, having done nothing, because its disk takes no writes at present. One that stood
  /// still for two seconds together with its disk says so, too, until it sees that the disk goes on.
  bool waits_for_disk() const;
  std::string header(const std::string& lower_case_name) const;
  /// The body as JSON; null when it is none.
  nlohmann::json json() const;
};

struct call_options {
  std::map<std::string, std::string> headers;  ///< X-Request-Timeout-Ms is 30,000 where it is not given.
  std::chrono::milliseconds patience{40'000};  ///< How long to wait for an answer.
};

/// One request over a connection of its own. Never throws for the network.
answer call(const host_port& node, const std::string& method, const std::string& path, const std::string& body = {},
            const call_options& options = {});

}  // namespace coordinator
