#include "http/ctl/doctest_cases.hpp"

#include <algorithm>
#include <utility>

namespace coordinator::ctl {

namespace {

std::string unescape_xml(std::string_view text) {
  static constexpr std::pair<std::string_view, char> entities[] = {
      {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
  std::string result;
  while (!text.empty()) {
    auto entity = std::find_if(std::begin(entities), std::end(entities),
                               [&](auto& e) { return text.substr(0, e.first.size()) == e.first; });
    auto known = entity != std::end(entities);
    result += known ? entity->second : text.front();
    text.remove_prefix(known ? entity->first.size() : 1);
  }
  return result;
}

std::string attribute(std::string_view element, std::string_view name) {
  auto begin = element.find(" " + std::string{name} + "=\"");
  if (begin == std::string_view::npos)
    return {};
  begin += name.size() + 3;
  return unescape_xml(element.substr(begin, element.find('"', begin) - begin));
}

}  // namespace

std::vector<doctest_case> parse_doctest_list(std::string_view xml) {
  static constexpr std::string_view tag = "<TestCase ";
  std::vector<doctest_case> result;
  for (auto begin = xml.find(tag); begin != std::string_view::npos; begin = xml.find(tag, begin + 1)) {
    // A '>' may stand in an attribute as it is; a quote may not, so the element ends at the first "/>" outside quotes.
    auto end = begin;
    for (bool quoted = false; end < xml.size() && (quoted || xml.substr(end, 2) != "/>"); ++end)
      quoted = quoted != (xml[end] == '"');
    auto element = xml.substr(begin, end - begin);
    doctest_case found{attribute(element, "name"), attribute(element, "filename")};
    if (!found.name.empty() && attribute(element, "skipped") != "true" &&
        std::find(result.begin(), result.end(), found) == result.end())
      result.push_back(std::move(found));
  }
  return result;
}

std::string doctest_filter(std::string_view option, std::string_view value) {
  auto result = std::string{option} + "=";
  for (auto c : value) {
    if (c == ',' || c == '\\')
      result += '\\';
    result += c;
  }
  return result;
}

bool ran_no_case(std::string_view output) {
  static constexpr std::string_view label = "test cases:";
  auto found = output.rfind(label);
  if (found == std::string_view::npos)
    return false;
  output.remove_prefix(found + label.size());
  auto digit = output.find_first_not_of(' ');
  return digit != std::string_view::npos && output.substr(digit, 2) == "0 ";
}

}  // namespace coordinator::ctl
