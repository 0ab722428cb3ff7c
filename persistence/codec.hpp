#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace coordinator {

/// Turns a value into bytes for the log, for state.db and for hashing. The fields of a struct are those
/// its `inspect` function names, in that order, so one list serves both CAF's messages and what is stored.
/// The bytes are the same on every machine: integers as LEB128, signed ones zigzagged, strings and
/// sequences after their length. Fields are never reordered or removed; new ones go to the end, where
/// a reader of older bytes finds none and keeps the default.
class byte_writer {
 public:
  using result_type = void;

  template <class... Ts>
  void operator()(Ts&... xs) {
    (write(xs), ...);
  }

  std::string take() { return std::move(out_); }

 private:
  void unsigned_number(std::uint64_t x) {
    while (x >= 0x80) {
      out_.push_back(static_cast<char>(x | 0x80));
      x >>= 7;
    }
    out_.push_back(static_cast<char>(x));
  }

  void write(std::string& x) {
    unsigned_number(x.size());
    out_.append(x);
  }
  template <class T>
  void write(std::vector<T>& xs) {
    unsigned_number(xs.size());
    for (auto& x : xs)
      write(x);
  }
  template <class K, class V>
  void write(std::map<K, V>& xs) {
    unsigned_number(xs.size());
    for (auto& [key, value] : xs) {
      auto copy = key;
      write(copy);
      write(value);
    }
  }
  template <class A, class B>
  void write(std::pair<A, B>& x) {
    write(x.first);
    write(x.second);
  }
  template <class T>
  void write(std::optional<T>& x) {
    unsigned_number(x ? 1 : 0);
    if (x)
      write(*x);
  }
  template <class... Ts>
  void write(std::variant<Ts...>& x) {
    unsigned_number(x.index());
    std::visit([this](auto& alternative) { write(alternative); }, x);
  }
  template <class T>
  void write(T& x) {
    if constexpr (std::is_enum_v<T>) {
      unsigned_number(static_cast<std::uint64_t>(x));
    } else if constexpr (std::is_same_v<T, bool>) {
      unsigned_number(x ? 1 : 0);
    } else if constexpr (std::is_floating_point_v<T>) {
      // Fixed point: equal on every machine, and finer than any figure we keep.
      auto scaled = static_cast<std::int64_t>(x * 1e6);
      write(scaled);
    } else if constexpr (std::is_signed_v<T>) {
      auto wide = static_cast<std::int64_t>(x);
      unsigned_number((static_cast<std::uint64_t>(wide) << 1) ^ static_cast<std::uint64_t>(wide >> 63));
    } else if constexpr (std::is_unsigned_v<T>) {
      unsigned_number(x);
    } else {
      inspect(*this, x);
    }
  }

  std::string out_;
};

/// Reads what byte_writer wrote. Damaged or foreign bytes end in `ok() == false`, never in a crash, an
/// exception or an allocation larger than the input.
class byte_reader {
 public:
  using result_type = void;

  explicit byte_reader(std::string_view in) : in_(in) {}

  template <class... Ts>
  void operator()(Ts&... xs) {
    (read_field(xs), ...);
  }

  bool ok() const { return ok_; }
  bool at_end() const { return in_.empty(); }

 private:
  // Missing trailing fields keep their defaults: the bytes may be older than the struct.
  template <class T>
  void read_field(T& x) {
    if (depth_ == 0 && in_.empty())
      return;
    read(x);
  }

  std::uint64_t unsigned_number() {
    std::uint64_t x = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (in_.empty())
        break;
      auto byte = static_cast<unsigned char>(in_.front());
      in_.remove_prefix(1);
      x |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80)
        return x;
    }
    ok_ = false;
    return 0;
  }
  // Every element takes at least a byte, so a length beyond what is left is damage.
  std::size_t length() {
    auto n = unsigned_number();
    if (n > in_.size())
      ok_ = false;
    return ok_ ? static_cast<std::size_t>(n) : 0;
  }

  void read(std::string& x) {
    auto n = length();
    x.assign(in_.substr(0, n));
    in_.remove_prefix(n);
  }
  template <class T>
  void read(std::vector<T>& xs) {
    auto n = length();
    xs.clear();
    for (std::size_t i = 0; ok_ && i < n; ++i)
      read(xs.emplace_back());
  }
  template <class K, class V>
  void read(std::map<K, V>& xs) {
    auto n = length();
    xs.clear();
    for (std::size_t i = 0; ok_ && i < n; ++i) {
      K key{};
      read(key);
      read(xs[std::move(key)]);
    }
  }
  template <class A, class B>
  void read(std::pair<A, B>& x) {
    read(x.first);
    read(x.second);
  }
  template <class T>
  void read(std::optional<T>& x) {
    x.reset();
    if (unsigned_number() != 0)
      read(x.emplace());
  }
  template <class... Ts>
  void read(std::variant<Ts...>& x) {
    auto wanted = unsigned_number();
    read_alternative<0>(x, wanted);
  }
  template <std::size_t I, class... Ts>
  void read_alternative(std::variant<Ts...>& x, std::uint64_t wanted) {
    if constexpr (I < sizeof...(Ts)) {
      if (I == wanted)
        read(x.template emplace<I>());
      else
        read_alternative<I + 1>(x, wanted);
    } else {
      ok_ = false;
    }
  }
  template <class T>
  void read(T& x) {
    if constexpr (std::is_enum_v<T>) {
      x = static_cast<T>(unsigned_number());
    } else if constexpr (std::is_same_v<T, bool>) {
      x = unsigned_number() != 0;
    } else if constexpr (std::is_floating_point_v<T>) {
      std::int64_t scaled = 0;
      read(scaled);
      x = static_cast<T>(static_cast<double>(scaled) / 1e6);
    } else if constexpr (std::is_signed_v<T>) {
      auto raw = unsigned_number();
      x = static_cast<T>(static_cast<std::int64_t>((raw >> 1) ^ (~(raw & 1) + 1)));
    } else if constexpr (std::is_unsigned_v<T>) {
      x = static_cast<T>(unsigned_number());
    } else {
      ++depth_;
      inspect(*this, x);
      --depth_;
    }
  }

  std::string_view in_;
  bool ok_ = true;
  int depth_ = 0;
};

/// The bytes of `x`; see byte_writer.
template <class T>
std::string to_bytes(const T& x) {
  byte_writer writer;
  // The inspect functions take a mutable reference because reading uses them too; writing changes nothing.
  inspect(writer, const_cast<T&>(x));
  return writer.take();
}

/// False when `bytes` are not those of a T; `x` is then unspecified.
template <class T>
[[nodiscard]] bool from_bytes(std::string_view bytes, T& x) {
  byte_reader reader{bytes};
  inspect(reader, x);
  return reader.ok() && reader.at_end();
}

}  // namespace coordinator
