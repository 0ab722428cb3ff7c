#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "http/problem.hpp"
#include "http/router.hpp"

namespace coordinator {

// What a request says beside its body: headers and query parameters. Each reader notes the first thing wrong in
// `failure` and then answers its default.

constexpr std::chrono::milliseconds default_request_timeout{5000};
constexpr std::chrono::milliseconds longest_request_timeout{600'000};

/// `X-Request-Timeout-Ms`, 1 to 600,000.
std::chrono::milliseconds request_timeout(const routed_request& request, std::optional<problem>& failure);

/// `Idempotency-Key`: 1 to 128 printable ASCII characters; empty where there is none.
std::string idempotency_key(const routed_request& request, std::optional<problem>& failure);

/// Of everything that makes two requests the same one: method, path, query, conditions and body, as they came.
std::uint64_t request_hash(const http_request& request);

struct consistency {
  bool linearizable = true;
  std::int64_t max_stale_ms = -1;
};
/// `?consistency=linearizable|stale` and `?max_stale_ms=N`; the latter means something for stale reads alone.
consistency read_consistency(const routed_request& request, std::optional<problem>& failure);

struct page {
  std::uint32_t limit = 100;
  std::string cursor;
};
/// `?limit=` (1 to 1,000) and `?cursor=`.
page read_page(const routed_request& request, std::optional<problem>& failure);

/// A query parameter that is a number from `least` to `most`.
std::int64_t number_parameter(const routed_request& request, std::string_view name, std::int64_t fallback,
                              std::int64_t least, std::int64_t most, std::optional<problem>& failure);

/// The id at a place of the path.
std::string path_id(const routed_request& request, std::size_t place, std::string_view field,
                    std::optional<problem>& failure);

/// `If-Match` and `If-None-Match` of a write to a key.
struct preconditions {
  std::optional<std::uint64_t> if_match;
  bool if_exists = false;      ///< `If-Match: *`.
  bool if_none_match = false;  ///< `If-None-Match: *`.
  /// The condition is well-formed and no version can meet it, such as `If-Match: "abc"`.
  bool never = false;
};
preconditions read_preconditions(const routed_request& request, std::optional<problem>& failure);

}  // namespace coordinator
