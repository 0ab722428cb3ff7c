#include "persistence/checksum.hpp"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>

namespace coordinator {

namespace {

// The length that the library takes is an int.
constexpr std::size_t piece = std::size_t{1} << 30;

std::uint32_t extend(std::uint32_t crc, std::string_view bytes) {
  while (!bytes.empty()) {
    auto part = bytes.substr(0, piece);
    // The library only reads, though its signature does not say so.
    auto data = reinterpret_cast<unsigned char*>(const_cast<char*>(part.data()));
    crc = crc32_iscsi(data, static_cast<int>(part.size()), crc);
    bytes.remove_prefix(part.size());
  }
  return crc;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  return ~extend(0xffffffff, bytes);
}

row_checksum& row_checksum::add(std::uint64_t x) {
  std::array<char, 8> bytes;
  for (auto& byte : bytes) {
    byte = static_cast<char>(x);
    x >>= 8;
  }
  append({bytes.data(), bytes.size()});
  return *this;
}

row_checksum& row_checksum::add(std::string_view bytes) {
  add(bytes.size());
  append(bytes);
  return *this;
}

std::uint32_t row_checksum::value() const {
  return ~crc_;
}

void row_checksum::append(std::string_view bytes) {
  crc_ = extend(crc_, bytes);
}

}  // namespace coordinator
