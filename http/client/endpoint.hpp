#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace coordinator {

/// Where one coordinator node answers HTTP.
struct endpoint {
  std::string host;  ///< A name or an address; IPv6 without brackets.
  int port = 8080;

  /// `http://host:port`, with brackets around IPv6.
  std::string url() const;

  friend bool operator==(const endpoint&, const endpoint&) = default;
};

/// Reads `URL[,URL…]`, where a URL is `[http://]host[:port][/]`. Throws std::invalid_argument with one line that
/// names the part at fault.
std::vector<endpoint> parse_endpoints(std::string_view text);

/// Percent-encodes everything but RFC 3986's unreserved characters, so that a key or an id with slashes or control
/// characters stays one part of a path.
std::string encode_component(std::string_view text);

}  // namespace coordinator
