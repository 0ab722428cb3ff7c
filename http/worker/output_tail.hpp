#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace coordinator {

/// Keeps the last bytes of a stream. Holds at most twice the limit at any time, however much is appended.
class output_tail {
 public:
  explicit output_tail(std::size_t limit) : limit_(limit) {}

  void append(std::string_view data);

  /// All bytes that were appended, kept or not.
  std::uint64_t total() const { return total_; }

  /// The tail as valid UTF-8 of at most `limit` bytes: what is not UTF-8 becomes U+FFFD, and NUL too, which some
  /// readers of JSON cut at.
  std::string text() const;

 private:
  std::size_t limit_;
  std::uint64_t total_ = 0;
  std::string bytes_;
};

/// Replaces every byte that is not part of a well-formed UTF-8 sequence (RFC 3629: no surrogates, nothing overlong,
/// nothing above U+10FFFF) and every NUL by U+FFFD.
std::string to_valid_utf8(std::string_view bytes);

}  // namespace coordinator
