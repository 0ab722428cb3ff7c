#include "http/uri.hpp"

#include <cstdint>

namespace coordinator {
namespace {

constexpr std::size_t max_id_bytes = 256;
constexpr std::size_t max_key_bytes = 512;

int hex_digit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

/// The code point that begins at `i`, which is moved behind it; -1 if the bytes are no UTF-8.
std::int32_t next_code_point(std::string_view text, std::size_t& i) {
  auto lead = static_cast<unsigned char>(text[i++]);
  if (lead < 0x80)
    return lead;
  int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
  if (lead < 0xc2 || lead > 0xf4)
    return -1;
  std::int32_t point = lead & (0x3f >> more);
  for (; more > 0; --more) {
    if (i == text.size() || (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80)
      return -1;
    point = (point << 6) | (static_cast<unsigned char>(text[i++]) & 0x3f);
  }
  bool overlong = (lead >= 0xe0 && lead < 0xf0 && point < 0x800) || (lead >= 0xf0 && point < 0x10000);
  bool surrogate = point >= 0xd800 && point <= 0xdfff;
  return overlong || surrogate || point > 0x10ffff ? -1 : point;
}

std::string why_no_name(std::string_view text, std::size_t max_bytes) {
  if (text.empty())
    return "must not be empty";
  if (text.size() > max_bytes)
    return "must have at most " + std::to_string(max_bytes) + " bytes";
  if (!is_utf8(text))
    return "must be UTF-8";
  if (has_control_character(text))
    return "must not hold control characters";
  return {};
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size())
      return std::nullopt;
    auto high = hex_digit(text[i + 1]);
    auto low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0)
      return std::nullopt;
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

std::vector<std::string_view> split_path(std::string_view path) {
  std::vector<std::string_view> parts;
  if (!path.empty() && path.front() == '/')
    path.remove_prefix(1);
  for (;;) {
    auto end = path.find('/');
    parts.push_back(path.substr(0, end));
    if (end == std::string_view::npos)
      return parts;
    path.remove_prefix(end + 1);
  }
}

std::optional<std::vector<std::pair<std::string, std::string>>> parse_query(std::string_view query) {
  std::vector<std::pair<std::string, std::string>> out;
  auto decode = [](std::string_view part) {
    std::string spaced{part};
    for (auto& c : spaced)
      if (c == '+')
        c = ' ';
    return percent_decode(spaced);
  };
  while (!query.empty()) {
    auto end = query.find('&');
    auto part = query.substr(0, end);
    query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
    if (part.empty())
      continue;
    auto equals = part.find('=');
    auto name = decode(part.substr(0, equals));
    auto value = decode(equals == std::string_view::npos ? std::string_view{} : part.substr(equals + 1));
    if (!name || !value || !is_utf8(*name) || !is_utf8(*value))
      return std::nullopt;
    out.emplace_back(std::move(*name), std::move(*value));
  }
  return out;
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();)
    if (next_code_point(text, i) < 0)
      return false;
  return true;
}

bool has_control_character(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    auto point = next_code_point(text, i);
    if (point < 0x20 || (point >= 0x7f && point <= 0x9f))
      return true;
  }
  return false;
}

std::string why_no_id(std::string_view text) {
  if (auto why = why_no_name(text, max_id_bytes); !why.empty())
    return why;
  if (text.find('/') != std::string_view::npos)
    return "must not hold a slash";
  if (text.front() == ' ' || text.back() == ' ')
    return "must not begin or end with a space";
  // Clients and proxies resolve these as folders before the request leaves them.
  if (text == "." || text == "..")
    return "must not be '.' or '..'";
  return {};
}

std::string why_no_key(std::string_view text) {
  return why_no_name(text, max_key_bytes);
}

}  // namespace coordinator
