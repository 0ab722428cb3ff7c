#pragma once

#include <cstdint>
#include <string_view>

namespace coordinator {

/// CRC-32C of the bytes alone, as of a piece of a file.
std::uint32_t crc32c(std::string_view bytes);

/// CRC-32C over the numbers and bytes of one row, in the order they are added. The same on every machine.
class row_checksum {
 public:
  row_checksum& add(std::uint64_t x);
  /// The length counts too, so that bytes cannot move from one field to its neighbour unnoticed.
  row_checksum& add(std::string_view bytes);

  std::uint32_t value() const;

 private:
  void append(std::string_view bytes);

  std::uint32_t crc_ = 0xffffffff;
};

}  // namespace coordinator
