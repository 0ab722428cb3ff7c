#include "http/worker/output_tail.hpp"

namespace coordinator {

namespace {

bool is_continuation(unsigned char c) {
  return (c & 0xC0) == 0x80;
}

/// The length of the well-formed sequence at the beginning of `s`; 0 where there is none.
std::size_t sequence_length(std::string_view s) {
  auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  auto first = at(0);
  if (first < 0x80)
    return 1;
  std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || s.size() < length)
    return 0;
  for (std::size_t i = 1; i < length; ++i)
    if (!is_continuation(at(i)))
      return 0;
  auto second = at(1);
  auto overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  auto surrogate = first == 0xED && second > 0x9F;
  auto beyond = first == 0xF4 && second > 0x8F;
  return overlong || surrogate || beyond ? 0 : length;
}

/// The last `limit` bytes, less what is left of a sequence that the cut went through.
std::string_view tail_of(std::string_view text, std::size_t limit) {
  if (text.size() <= limit)
    return text;
  text.remove_prefix(text.size() - limit);
  for (int i = 0; i < 3 && !text.empty() && is_continuation(static_cast<unsigned char>(text.front())); ++i)
    text.remove_prefix(1);
  return text;
}

}  // namespace

void output_tail::append(std::string_view data) {
  total_ += data.size();
  if (data.size() >= limit_) {
    bytes_.assign(data.substr(data.size() - limit_));
    return;
  }
  bytes_.append(data);
  if (bytes_.size() > 2 * limit_)
    bytes_.erase(0, bytes_.size() - limit_);
}

std::string output_tail::text() const {
  auto kept = total_ > limit_ ? tail_of(bytes_, limit_) : std::string_view{bytes_};
  // A replacement character is longer than the byte it stands for, so the limit is applied once more.
  return std::string{tail_of(to_valid_utf8(kept), limit_)};
}

std::string to_valid_utf8(std::string_view bytes) {
  static constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::string result;
  result.reserve(bytes.size());
  while (!bytes.empty()) {
    auto length = bytes.front() == '\0' ? 0 : sequence_length(bytes);
    result.append(length == 0 ? replacement : bytes.substr(0, length));
    bytes.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

}  // namespace coordinator
