#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/options.hpp"

/// The grammar of single values, free of flags and where values come from. Each reader says nothing about a bad
/// value but that it is bad, or gives the reason as text that completes "… : ".

namespace coordinator {

/// A whole number from `low` to `high`, in digits alone.
std::optional<std::uint64_t> read_number(std::string_view text, std::uint64_t low, std::uint64_t high);

/// Letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 64: fit for a header, a file name
/// and a path of a URL alike.
bool is_node_id(std::string_view text);

/// The host without the brackets of an IPv6 address: an address of either family, or a DNS name.
std::optional<std::string> read_host(std::string_view text);

/// 0.0.0.0 or ::, which mean every address and so name none.
bool is_wildcard(std::string_view host);

std::optional<bool> read_bool(std::string_view text);

std::optional<log_level> read_log_level(std::string_view text);

std::optional<verify_level> read_verify_level(std::string_view text);

/// A whole number and its unit, `s`, `m`, `h` or `d`, such as 14d; also a bare 0. At most ten years.
std::optional<std::chrono::milliseconds> read_period(std::string_view text);

/// A whole number of bytes, or of KiB, MiB, GiB or TiB with `K`, `M`, `G` or `T` behind it (small letters and an
/// appended `iB` make no difference). At most 2^60 bytes.
std::optional<std::uint64_t> read_size(std::string_view text);

/// Entries of --peers, or why they cannot be used.
struct read_peers_result {
  std::vector<peer_options> peers;
  std::string error;  ///< Empty: all is well. Otherwise names the entry and what would do.
};

/// Reads `[id=]host:port[:cluster_port],…`; without a cluster port it is `port` + 10000. Refuses an entry that is
/// named twice.
read_peers_result read_peers(std::string_view text);

/// Whether two addresses are the same as far as their text tells: case and the name localhost make no difference.
bool same_address(const host_port&, const host_port&);

/// The cluster port that goes with an HTTP port when none is given; may be beyond 65535.
constexpr std::uint32_t default_cluster_port(std::uint16_t http_port) {
  return http_port + 10000u;
}

}  // namespace coordinator
