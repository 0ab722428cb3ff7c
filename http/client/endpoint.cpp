#include "http/client/endpoint.hpp"

#include <charconv>
#include <stdexcept>

namespace coordinator {

namespace {

[[noreturn]] void refuse(std::string_view url, const char* why) {
  throw std::invalid_argument("'" + std::string{url} + "' is not a coordinator URL: " + why +
                              "; give it as http://host:port");
}

int parse_port(std::string_view url, std::string_view digits) {
  int port = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size() || port < 1 || port > 65535)
    refuse(url, "the port is not a number from 1 to 65535");
  return port;
}

endpoint parse_endpoint(std::string_view url) {
  auto rest = url;
  if (auto scheme = rest.find("://"); scheme != std::string_view::npos) {
    if (rest.substr(0, scheme) != "http")
      refuse(url, "only http:// is spoken");
    rest.remove_prefix(scheme + 3);
  }
  if (!rest.empty() && rest.back() == '/')
    rest.remove_suffix(1);
  if (rest.find_first_of("/?#@ \t") != std::string_view::npos)
    refuse(url, "it holds more than a host and a port");
  endpoint result;
  if (!rest.empty() && rest.front() == '[') {
    auto close = rest.find(']');
    if (close == std::string_view::npos)
      refuse(url, "the bracket around the IPv6 address is not closed");
    result.host = rest.substr(1, close - 1);
    rest.remove_prefix(close + 1);
    if (!rest.empty() && rest.front() != ':')
      refuse(url, "there is text after the bracket");
  } else {
    auto colon = rest.find(':');
    result.host = rest.substr(0, colon);
    rest.remove_prefix(colon == std::string_view::npos ? rest.size() : colon);
  }
  if (result.host.empty())
    refuse(url, "the host is missing");
  if (!rest.empty())
    result.port = parse_port(url, rest.substr(1));
  return result;
}

}  // namespace

std::string endpoint::url() const {
  auto name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return "http://" + name + ":" + std::to_string(port);
}

std::vector<endpoint> parse_endpoints(std::string_view text) {
  std::vector<endpoint> result;
  for (;;) {
    auto comma = text.find(',');
    result.push_back(parse_endpoint(text.substr(0, comma)));
    if (comma == std::string_view::npos)
      return result;
    text.remove_prefix(comma + 1);
  }
}

std::string encode_component(std::string_view text) {
  static constexpr char hex[] = "0123456789ABCDEF";
  std::string result;
  for (unsigned char c : text) {
    auto unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                      c == '.' || c == '_' || c == '~';
    if (unreserved) {
      result += static_cast<char>(c);
    } else {
      result += '%';
      result += hex[c >> 4];
      result += hex[c & 15];
    }
  }
  return result;
}

}  // namespace coordinator
