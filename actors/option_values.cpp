#include "actors/option_values.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace coordinator {

namespace {

// The locale's own idea of a letter has no say in what goes on the wire.
bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

std::string lower(std::string_view text) {
  std::string result{text};
  for (auto& c : result)
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::string_view trimmed(std::string_view text) {
  auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool is_ipv4(const std::string& host) {
  in_addr address{};
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1;
}

bool is_ipv6(const std::string& host) {
  in6_addr address{};
  return ::inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

bool is_dns_name(std::string_view name) {
  if (name.empty() || name.size() > 253)
    return false;
  bool all_numeric = true;
  std::size_t label = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    char c = name[i];
    if (c == '.') {
      if (label == 0)
        return false;
      label = 0;
      continue;
    }
    if (!is_letter_or_digit(c) && c != '-' && c != '_')
      return false;
    all_numeric = all_numeric && c >= '0' && c <= '9';
    if (++label > 63)
      return false;
  }
  // Digits and dots alone are an address with a mistake in it, such as 10.0.0.256, and no name.
  return !all_numeric;
}

std::string loopback_or(const std::string& host) {
  auto name = lower(host);
  return name == "localhost" ? "127.0.0.1" : name;
}

/// Takes `host` or `[host]` off the front of an entry, up to the colon before the port.
std::optional<std::string_view> split_host(std::string_view& entry) {
  std::string_view host;
  if (!entry.empty() && entry.front() == '[') {
    auto end = entry.find(']');
    if (end == std::string_view::npos)
      return std::nullopt;
    host = entry.substr(0, end + 1);
    entry.remove_prefix(end + 1);
  } else {
    auto end = entry.find(':');
    if (end == std::string_view::npos)
      return std::nullopt;
    host = entry.substr(0, end);
    entry.remove_prefix(end);
  }
  if (entry.empty() || entry.front() != ':')
    return std::nullopt;
  entry.remove_prefix(1);
  return host;
}

/// Reads one entry of --peers; on failure says what would do.
std::string read_peer(std::string_view entry, peer_options& peer) {
  constexpr auto form = "write it as [id=]host:port[:cluster_port], an IPv6 address in brackets";
  auto rest = entry;
  if (auto equals = rest.find('='); equals != std::string_view::npos) {
    if (!is_node_id(rest.substr(0, equals)))
      return "a node id is up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit";
    peer.id = node_id{std::string{rest.substr(0, equals)}};
    rest.remove_prefix(equals + 1);
  }
  auto text = split_host(rest);
  if (!text)
    return form;
  auto host = read_host(*text);
  if (!host || is_wildcard(*host))
    return "the host is no address (IPv6 in brackets) and no DNS name by which a node could be reached";
  auto colon = rest.find(':');
  if (colon != std::string_view::npos && rest.find(':', colon + 1) != std::string_view::npos)
    return form;
  auto port = read_number(rest.substr(0, colon), 1, 65535);
  if (!port)
    return "ports go from 1 to 65535";
  peer.http = {*host, static_cast<std::uint16_t>(*port)};
  std::uint64_t cluster_port = default_cluster_port(peer.http.port);
  if (colon != std::string_view::npos) {
    auto given = read_number(rest.substr(colon + 1), 1, 65535);
    if (!given)
      return "ports go from 1 to 65535";
    cluster_port = *given;
  }
  if (cluster_port > 65535)
    return "its cluster port would be " + std::to_string(cluster_port) +
           ", past 65535; append the real one as :cluster_port";
  if (cluster_port == peer.http.port)
    return "the cluster port must be another one than the HTTP port";
  peer.cluster = {*host, static_cast<std::uint16_t>(cluster_port)};
  return {};
}

}  // namespace

std::optional<std::uint64_t> read_number(std::string_view text, std::uint64_t low, std::uint64_t high) {
  std::uint64_t value = 0;
  auto end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end || value < low || value > high)
    return std::nullopt;
  return value;
}

bool is_node_id(std::string_view text) {
  return !text.empty() && text.size() <= 64 && is_letter_or_digit(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; });
}

std::optional<std::string> read_host(std::string_view text) {
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
    std::string inside{text.substr(1, text.size() - 2)};
    return is_ipv6(inside) ? std::optional{inside} : std::nullopt;
  }
  std::string host{text};
  if (is_ipv4(host) || is_ipv6(host) || is_dns_name(host))
    return host;
  return std::nullopt;
}

bool is_wildcard(std::string_view host) {
  std::string text{host};
  in_addr four{};
  if (::inet_pton(AF_INET, text.c_str(), &four) == 1)
    return four.s_addr == 0;
  in6_addr six{};
  return ::inet_pton(AF_INET6, text.c_str(), &six) == 1 && IN6_IS_ADDR_UNSPECIFIED(&six);
}

std::optional<bool> read_bool(std::string_view text) {
  auto word = lower(text);
  if (word == "true" || word == "1" || word == "yes" || word == "on")
    return true;
  if (word == "false" || word == "0" || word == "no" || word == "off")
    return false;
  return std::nullopt;
}

std::optional<log_level> read_log_level(std::string_view text) {
  constexpr std::array names{"trace", "debug", "info", "warn", "error", "off"};
  for (std::size_t i = 0; i < names.size(); ++i)
    if (text == names[i])
      return static_cast<log_level>(i);
  return std::nullopt;
}

std::optional<verify_level> read_verify_level(std::string_view text) {
  constexpr std::array names{"off", "quick", "full"};
  for (std::size_t i = 0; i < names.size(); ++i)
    if (text == names[i])
      return static_cast<verify_level>(i);
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> read_period(std::string_view text) {
  constexpr std::uint64_t longest = std::uint64_t{3650} * 24 * 3600;
  if (text == "0")
    return std::chrono::milliseconds{0};
  if (text.empty())
    return std::nullopt;
  std::uint64_t unit = 0;
  switch (text.back()) {
    case 's':
      unit = 1;
      break;
    case 'm':
      unit = 60;
      break;
    case 'h':
      unit = 3600;
      break;
    case 'd':
      unit = 24 * 3600;
      break;
    default:
      return std::nullopt;
  }
  text.remove_suffix(1);
  auto value = read_number(text, 0, longest / unit);
  if (!value)
    return std::nullopt;
  return std::chrono::seconds{*value * unit};
}

std::optional<std::uint64_t> read_size(std::string_view text) {
  constexpr std::uint64_t largest = std::uint64_t{1} << 60;
  auto word = lower(text);
  std::string_view rest = word;
  if (rest.ends_with("ib"))
    rest.remove_suffix(2);
  constexpr std::string_view units = "kmgt";
  unsigned shift = 0;
  if (auto unit = rest.empty() ? std::string_view::npos : units.find(rest.back()); unit != std::string_view::npos) {
    shift = 10 * (static_cast<unsigned>(unit) + 1);
    rest.remove_suffix(1);
  } else if (rest.size() != word.size()) {
    return std::nullopt;
  }
  auto value = read_number(rest, 0, largest >> shift);
  if (!value)
    return std::nullopt;
  return *value << shift;
}

read_peers_result read_peers(std::string_view text) {
  read_peers_result result;
  while (true) {
    auto comma = text.find(',');
    auto entry = trimmed(text.substr(0, comma));
    auto complain = [&](const std::string& what) {
      result.error = "in \"" + std::string{entry} + "\": " + what;
      return result;
    };
    peer_options peer;
    if (auto error = read_peer(entry, peer); !error.empty())
      return complain(error);
    for (auto& other : result.peers)
      if ((peer.id && peer.id == other.id) || same_address(peer.http, other.http) ||
          same_address(peer.cluster, other.cluster))
        return complain("this node is named twice; name every other node once");
    result.peers.push_back(std::move(peer));
    if (comma == std::string_view::npos)
      return result;
    text.remove_prefix(comma + 1);
  }
}

bool same_address(const host_port& a, const host_port& b) {
  return a.port == b.port && loopback_or(a.host) == loopback_or(b.host);
}

}  // namespace coordinator
