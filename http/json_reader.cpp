#include "http/json_reader.hpp"

#include <algorithm>
#include <cmath>

#include "http/uri.hpp"

namespace coordinator {
namespace {

using nlohmann::json;

constexpr int deepest_nesting = 64;

/// Counted before parsing: what parses and prints JSON may recurse, on stacks that are small here.
bool nests_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > deepest_nesting)
        return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

std::string between(std::int64_t least, std::int64_t most) {
  return "must be " + std::to_string(least) + " to " + std::to_string(most);
}

/// What a client sees of the parser's message: the position, without the library's own prefix.
std::string reason_of(const std::exception& e) {
  std::string_view what = e.what();
  if (auto end = what.find("] "); end != std::string_view::npos)
    what.remove_prefix(end + 2);
  return std::string{what.substr(0, 200)};
}

}  // namespace

std::variant<json, problem> parse_json(std::string_view text) {
  if (nests_too_deep(text))
    return malformed("The body is nested more than 64 deep.");
  try {
    return json::parse(text);
  } catch (const json::exception& e) {
    return malformed("The body is not JSON: " + reason_of(e));
  }
}

std::variant<json, problem> parse_object(std::string_view text, bool empty_is_object) {
  if (empty_is_object && text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return json::object();
  auto parsed = parse_json(text);
  if (auto value = std::get_if<json>(&parsed); value && !value->is_object())
    return malformed("The body must be a JSON object.");
  return parsed;
}

std::string to_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string to_text(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

object_reader::object_reader(const json& object, std::string at, std::optional<problem>& failure)
    : object_(object), at_(std::move(at)), failure_(failure) {
  if (!object_.is_object() && !failure_)
    failure_ = malformed("must be an object", at_);
}

std::string object_reader::path_of(std::string_view name) const {
  return at_.empty() ? std::string{name} : at_ + "." + std::string{name};
}

void object_reader::fail(std::string_view name, const std::string& detail) {
  if (!failure_)
    failure_ = invalid(path_of(name), detail);
}

void object_reader::fail_type(std::string_view name, const std::string& detail) {
  if (!failure_)
    failure_ = malformed(detail, path_of(name));
}

const json* object_reader::find(std::string_view name) const {
  if (!object_.is_object())
    return nullptr;
  auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const json* object_reader::require(std::string_view name) {
  auto value = find(name);
  if (!value)
    fail(name, "is required");
  return value;
}

std::string object_reader::read_id(const json& value, std::string_view name) {
  if (!value.is_string()) {
    fail_type(name, "must be a string");
    return {};
  }
  auto& text = value.get_ref<const std::string&>();
  if (auto why = why_no_id(text); !why.empty()) {
    fail(name, why);
    return {};
  }
  return text;
}

std::string object_reader::id(std::string_view name) {
  auto value = require(name);
  return value ? read_id(*value, name) : std::string{};
}

std::string object_reader::optional_id(std::string_view name) {
  auto value = find(name);
  return value ? read_id(*value, name) : std::string{};
}

std::vector<std::string> object_reader::optional_ids(std::string_view name) {
  std::vector<std::string> ids;
  if (auto values = array(name))
    for (std::size_t i = 0; i < values->size() && !failed(); ++i)
      ids.push_back(read_id((*values)[i], std::string{name} + "[" + std::to_string(i) + "]"));
  return ids;
}

std::string object_reader::text(std::string_view name, std::string fallback, std::size_t most,
                                bool control_characters) {
  auto value = find(name);
  if (!value)
    return fallback;
  if (!value->is_string()) {
    fail_type(name, "must be a string");
    return fallback;
  }
  auto& text = value->get_ref<const std::string&>();
  if (text.size() > most)
    fail(name, "must have at most " + std::to_string(most) + " bytes");
  else if (!control_characters && has_control_character(text))
    fail(name, "must not hold control characters");
  return text;
}

std::int64_t object_reader::integer(std::string_view name, std::int64_t least, std::int64_t most) {
  return require(name) ? integer(name, least, least, most) : least;
}

std::int64_t object_reader::integer(std::string_view name, std::int64_t fallback, std::int64_t least,
                                    std::int64_t most) {
  auto value = find(name);
  if (!value)
    return fallback;
  // The parser makes a floating-point number of an integer that fits no 64 bits.
  bool absurd = value->is_number_float() && std::abs(value->get<double>()) >= 9e18;
  if (!value->is_number_integer() && !absurd) {
    fail_type(name, "must be an integer");
    return fallback;
  }
  bool above = value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
  if (absurd || above || value->get<std::int64_t>() < least || value->get<std::int64_t>() > most) {
    fail(name, between(least, most));
    return fallback;
  }
  return value->get<std::int64_t>();
}

std::uint64_t object_reader::natural(std::string_view name, std::uint64_t fallback) {
  auto value = find(name);
  if (!value)
    return fallback;
  if (value->is_number_unsigned())
    return value->get<std::uint64_t>();
  if (value->is_number())
    fail(name, "must be an integer from 0 to 18446744073709551615");
  else
    fail_type(name, "must be an integer");
  return fallback;
}

double object_reader::number(std::string_view name, double fallback, double least, double most) {
  auto value = find(name);
  if (!value)
    return fallback;
  if (!value->is_number()) {
    fail_type(name, "must be a number");
    return fallback;
  }
  auto number = value->get<double>();
  if (!(number >= least && number <= most)) {
    fail(name, between(static_cast<std::int64_t>(least), static_cast<std::int64_t>(most)));
    return fallback;
  }
  return number;
}

bool object_reader::boolean(std::string_view name, bool fallback) {
  auto value = find(name);
  if (!value)
    return fallback;
  if (!value->is_boolean()) {
    fail_type(name, "must be true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string object_reader::object_text(std::string_view name) {
  auto value = find(name);
  if (!value)
    return {};
  if (!value->is_object()) {
    fail_type(name, "must be an object");
    return {};
  }
  return to_text(*value);
}

const json* object_reader::array(std::string_view name) {
  auto value = find(name);
  if (value && !value->is_array()) {
    fail_type(name, "must be an array");
    return nullptr;
  }
  return value;
}

void object_reader::allow_only(std::initializer_list<std::string_view> names) {
  if (object_.is_object())
    for (auto& [name, value] : object_.items())
      if (std::find(names.begin(), names.end(), name) == names.end())
        fail(name, "is not known here");
}

}  // namespace coordinator
