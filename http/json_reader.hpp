#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "http/problem.hpp"

namespace coordinator {

/// Parses JSON text: UTF-8, nested at most 64 deep, nothing behind it. 400 otherwise, saying where.
std::variant<nlohmann::json, problem> parse_json(std::string_view text);

/// Compact JSON text. Bytes that are no UTF-8 are replaced, so that it never fails.
std::string to_text(const nlohmann::json& value);
std::string to_text(const nlohmann::ordered_json& value);

/// Reads the fields of one JSON object strictly. The first thing wrong is kept as the failure, shared by all readers
/// of one request; later reads give their fallback, so that a caller reads everything and then asks once.
/// A wrong type is 400 `wrong_type`; a missing field, or a value out of its range, 422. Both name the field with
/// its path. A null counts as a missing field.
class object_reader {
 public:
  /// `at` is the path of `object`: empty for the body itself, else such as "tasks[17]". `object` must outlive this.
  object_reader(const nlohmann::json& object, std::string at, std::optional<problem>& failure);

  bool failed() const { return failure_.has_value(); }
  /// The path of one of this object's fields.
  std::string path_of(std::string_view name) const;
  /// Notes that a field is wrong, unless something was before it.
  void fail(std::string_view name, const std::string& detail);
  void fail_type(std::string_view name, const std::string& detail);

  /// Null when it is absent.
  const nlohmann::json* find(std::string_view name) const;
  /// As `find`, but absence is a failure.
  const nlohmann::json* require(std::string_view name);

  /// An id as `why_no_id` has it.
  std::string id(std::string_view name);
  std::string optional_id(std::string_view name);
  std::vector<std::string> optional_ids(std::string_view name);
  /// UTF-8 of at most `most` bytes, without control characters unless they are allowed.
  std::string text(std::string_view name, std::string fallback, std::size_t most, bool control_characters = false);
  std::int64_t integer(std::string_view name, std::int64_t least, std::int64_t most);
  std::int64_t integer(std::string_view name, std::int64_t fallback, std::int64_t least, std::int64_t most);
  /// Any unsigned 64-bit number.
  std::uint64_t natural(std::string_view name, std::uint64_t fallback = 0);
  double number(std::string_view name, double fallback, double least, double most);
  bool boolean(std::string_view name, bool fallback);
  /// An object as compact JSON text; empty when absent.
  std::string object_text(std::string_view name);
  /// Null when it is absent or not an array.
  const nlohmann::json* array(std::string_view name);
  /// 422 for any field but these, where one that is passed over would change what the request means.
  void allow_only(std::initializer_list<std::string_view> names);

 private:
  std::string read_id(const nlohmann::json& value, std::string_view name);

  const nlohmann::json& object_;
  std::string at_;
  std::optional<problem>& failure_;
};

/// Parses a body that must be an object. `empty_is_object`: an empty body stands for {}.
std::variant<nlohmann::json, problem> parse_object(std::string_view text, bool empty_is_object = false);

}  // namespace coordinator
