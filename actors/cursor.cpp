#include "actors/cursor.hpp"

#include <cstdint>

namespace coordinator {

namespace {

constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr char mark = 'c';

}  // namespace

std::string make_cursor(std::string_view position) {
  std::string result(1, mark);
  std::uint32_t bits = 0;
  int held = 0;
  for (auto c : position) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    for (held += 8; held >= 6; held -= 6)
      result.push_back(digits[bits >> (held - 6) & 63]);
  }
  if (held > 0)
    result.push_back(digits[bits << (6 - held) & 63]);
  return result;
}

std::optional<std::string> read_cursor(std::string_view cursor) {
  if (cursor.empty() || cursor.front() != mark)
    return std::nullopt;
  std::string result;
  std::uint32_t bits = 0;
  int held = 0;
  for (auto c : cursor.substr(1)) {
    auto value = digits.find(c);
    if (value == std::string_view::npos)
      return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      result.push_back(static_cast<char>(bits >> held & 255));
    }
  }
  if (make_cursor(result) != cursor)
    return std::nullopt;
  return result;
}

}  // namespace coordinator
