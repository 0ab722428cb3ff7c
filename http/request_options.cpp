#include "http/request_options.hpp"

#include <xxhash.h>

#include <charconv>

#include "http/uri.hpp"

namespace coordinator {
namespace {

std::optional<std::int64_t> to_number(std::string_view text) {
  std::int64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return number;
}

void note(std::optional<problem>& failure, problem p) {
  if (!failure)
    failure = std::move(p);
}

/// A number in a header or query. What is all digits but fits no number is out of range, not malformed.
std::int64_t read_number(std::string_view text, std::string_view name, std::int64_t fallback, std::int64_t least,
                         std::int64_t most, std::optional<problem>& failure) {
  auto number = to_number(text);
  auto digits = text.substr(text.substr(0, 1) == "-" ? 1 : 0);
  bool numeric = !digits.empty() && digits.find_first_not_of("0123456789") == std::string_view::npos;
  if (number && *number >= least && *number <= most)
    return *number;
  if (numeric)
    note(failure, invalid(std::string{name}, "must be " + std::to_string(least) + " to " + std::to_string(most)));
  else
    note(failure, malformed("must be an integer", std::string{name}));
  return fallback;
}

}  // namespace

std::chrono::milliseconds request_timeout(const routed_request& request, std::optional<problem>& failure) {
  auto text = request.http.header("x-request-timeout-ms");
  if (!text)
    return default_request_timeout;
  return std::chrono::milliseconds{read_number(*text, "X-Request-Timeout-Ms", default_request_timeout.count(), 1,
                                               longest_request_timeout.count(), failure)};
}

std::string idempotency_key(const routed_request& request, std::optional<problem>& failure) {
  auto key = request.http.header("idempotency-key");
  if (!key)
    return {};
  auto printable = [](char c) { return c >= 0x20 && c <= 0x7e; };
  if (key->empty() || key->size() > 128 || !std::all_of(key->begin(), key->end(), printable)) {
    note(failure, invalid("Idempotency-Key", "must be 1 to 128 printable ASCII characters"));
    return {};
  }
  return std::string{*key};
}

std::uint64_t request_hash(const http_request& request) {
  // Each part behind its length, so that bytes cannot move from one part to the next unnoticed.
  std::string parts;
  auto add = [&](std::string_view part) { (parts += std::to_string(part.size()) + ":") += part; };
  add(request.method);
  add(request.path);
  add(request.query);
  add(request.header("if-match").value_or(""));
  add(request.header("if-none-match").value_or(""));
  return XXH3_64bits_withSeed(request.body.data(), request.body.size(), XXH3_64bits(parts.data(), parts.size()));
}

consistency read_consistency(const routed_request& request, std::optional<problem>& failure) {
  consistency out;
  if (auto text = request.parameter("consistency")) {
    if (*text != "linearizable" && *text != "stale")
      note(failure, invalid("consistency", "must be linearizable or stale"));
    out.linearizable = *text != "stale";
  }
  out.max_stale_ms = number_parameter(request, "max_stale_ms", -1, 0, INT64_MAX, failure);
  return out;
}

page read_page(const routed_request& request, std::optional<problem>& failure) {
  page out;
  out.limit = static_cast<std::uint32_t>(number_parameter(request, "limit", 100, 1, 1000, failure));
  if (auto cursor = request.parameter("cursor")) {
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    if (cursor->find_first_not_of(allowed) != std::string::npos)
      note(failure, invalid("cursor", "is not a cursor of this list"));
    out.cursor = *cursor;
  }
  return out;
}

std::int64_t number_parameter(const routed_request& request, std::string_view name, std::int64_t fallback,
                              std::int64_t least, std::int64_t most, std::optional<problem>& failure) {
  auto text = request.parameter(name);
  return text ? read_number(*text, name, fallback, least, most, failure) : fallback;
}

std::string path_id(const routed_request& request, std::size_t place, std::string_view field,
                    std::optional<problem>& failure) {
  auto& id = request.path_values[place];
  if (auto why = why_no_id(id); !why.empty())
    note(failure, invalid(std::string{field}, why));
  return id;
}

preconditions read_preconditions(const routed_request& request, std::optional<problem>& failure) {
  preconditions out;
  if (auto text = request.http.header("if-match")) {
    std::string_view tag = *text;
    bool quoted = tag.size() >= 2 && tag.front() == '"' && tag.back() == '"' &&
                  tag.substr(1, tag.size() - 2).find('"') == std::string_view::npos;
    if (tag == "*") {
      out.if_exists = true;
    } else if (quoted) {
      auto version = to_number(tag.substr(1, tag.size() - 2));
      if (version && *version >= 0)
        out.if_match = static_cast<std::uint64_t>(*version);
      else
        out.never = true;
    } else if (tag.substr(0, 3) == "W/\"") {
      // If-Match compares strongly, and a weak tag equals nothing then (RFC 9110 §13.1.1).
      out.never = true;
    } else {
      note(failure, invalid("If-Match", "must be one ETag, as \"5\" with its quotes, or *"));
    }
  }
  if (auto text = request.http.header("if-none-match")) {
    if (*text != "*")
      note(failure, invalid("If-None-Match", "must be *"));
    else if (request.http.header("if-match"))
      note(failure, invalid("If-None-Match", "cannot be combined with If-Match"));
    out.if_none_match = true;
  }
  return out;
}

}  // namespace coordinator
