#include "persistence/codec.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

#include "persistence/checksum.hpp"
#include "persistence/state_store.hpp"
#include "persistence/types.hpp"

using namespace coordinator;

namespace {

enum class colour : std::uint8_t { red = 0, blue = 7 };

struct inner {
  std::string text;
  std::int32_t number = 0;

  friend bool operator==(const inner&, const inner&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, inner& x) {
    return f(x.text, x.number);
  }
};

struct everything {
  bool flag = false;
  std::uint64_t large = 0;
  std::int64_t negative = 0;
  colour shade = colour::red;
  std::string text;
  std::vector<inner> list;
  std::map<std::string, inner> table;
  std::optional<inner> maybe;
  std::variant<inner, log_entry> either;
  std::pair<std::string, std::uint32_t> both;
  term_number term;

  friend bool operator==(const everything&, const everything&) = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, everything& x) {
    return f(x.flag, x.large, x.negative, x.shade, x.text, x.list, x.table, x.maybe, x.either, x.both, x.term);
  }
};

everything example() {
  everything x;
  x.flag = true;
  x.large = std::numeric_limits<std::uint64_t>::max();
  x.negative = std::numeric_limits<std::int64_t>::min();
  x.shade = colour::blue;
  x.text = std::string{"a\0b", 3};
  x.list = {{"one", -1}, {"", std::numeric_limits<std::int32_t>::max()}};
  x.table = {{"k", {"v", 2}}, {"", {}}};
  x.maybe = inner{"here", 5};
  x.either = log_entry{{3}, {2}, entry_kind::command, -7, "payload"};
  x.both = {"p", 9};
  x.term = {12};
  return x;
}

// `everything` as an older version knew it.
struct older {
  bool flag = true;
  std::uint64_t large = 1;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, older& x) {
    return f(x.flag, x.large);
  }
};

}  // namespace

TEST_CASE("codec: what is written is read back") {
  everything read;
  REQUIRE(from_bytes(to_bytes(example()), read));
  CHECK(read == example());
  everything empty;
  REQUIRE(from_bytes(to_bytes(everything{}), read));
  CHECK(read == empty);
}

TEST_CASE("codec: the bytes are fixed: LEB128, zigzag, strings and lists after their length") {
  CHECK(to_bytes(log_entry{{300}, {1}, entry_kind::command, -2, "ab"}) == std::string{"\xac\x02\x01\x03\x03\x02"
                                                                                      "ab"});
  CHECK(to_bytes(inner{"", 64}) == std::string{"\x00\x80\x01", 3});
}

TEST_CASE("codec: fields that older bytes lack keep their defaults") {
  everything read;
  read.text = "default";
  REQUIRE(from_bytes(to_bytes(older{true, 77}), read));
  CHECK(read.large == 77);
  CHECK(read.text == "default");
}

TEST_CASE("codec: bytes that are left over are refused") {
  inner read;
  CHECK_FALSE(from_bytes(to_bytes(inner{"x", 1}) + "y", read));
}

TEST_CASE("codec: truncated bytes are never read as the whole") {
  auto bytes = to_bytes(example());
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    everything read;
    if (from_bytes(std::string_view{bytes}.substr(0, n), read))
      CHECK_FALSE(read == example());
  }
}

TEST_CASE("codec: damaged bytes are refused or read as something, and what was read can be written") {
  auto bytes = to_bytes(example());
  auto refused = 0;
  for (std::size_t n = 0; n < bytes.size() * 8; ++n) {
    auto damaged = bytes;
    damaged[n / 8] = static_cast<char>(damaged[n / 8] ^ (1 << n % 8));
    everything read, again;
    if (!from_bytes(damaged, read))
      ++refused;
    else
      CHECK((from_bytes(to_bytes(read), again) && again == read));
  }
  CHECK(refused > 50);
}

TEST_CASE("codec: a length beyond the input allocates nothing and is refused") {
  std::string huge{"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"};
  inner text;
  CHECK_FALSE(from_bytes(huge, text));
  membership list;
  CHECK_FALSE(from_bytes(huge, list));
}

TEST_CASE("checksum: CRC-32C over fields and their lengths, fixed for ever") {
  // Of the eight bytes 09 00 … 00 and then "123456789".
  CHECK(row_checksum{}.add(std::string_view{"123456789"}).value() == 0x29148a8c);
  CHECK(row_checksum{}.add("ab").add("c").value() != row_checksum{}.add("a").add("bc").value());
  CHECK(row_checksum{}.add(1).add(2).value() != row_checksum{}.add(2).add(1).value());
}

TEST_CASE("checksum: the hash of a row depends on its kind, id and body, and is fixed for ever") {
  CHECK(row_hash(1, "id", "body") == 8512953040495496495u);
  CHECK(row_hash(1, "id", "body") != row_hash(2, "id", "body"));
  CHECK(row_hash(1, "id", "body") != row_hash(1, "idb", "ody"));
  CHECK(row_hash(1, "", "") != row_hash(2, "", ""));
}
