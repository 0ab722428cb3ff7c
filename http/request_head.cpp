#include "http/request_head.hpp"

#include <charconv>

namespace coordinator {
namespace {

constexpr std::size_t max_target_bytes = 8192;
constexpr std::size_t max_headers = 100;

bool is_token(std::string_view text) {
  constexpr std::string_view special = "!#$%&'*+-.^_`|~";
  for (char c : text) {
    bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!alphanumeric && special.find(c) == std::string_view::npos)
      return false;
  }
  return !text.empty();
}

std::string lower(std::string_view text) {
  std::string out{text};
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

/// Whether a comma-separated header value lists `word`.
bool lists(std::string_view value, std::string_view word) {
  auto rest = lower(value);
  std::string_view view = rest;
  for (;;) {
    auto end = view.find(',');
    if (trim(view.substr(0, end)) == word)
      return true;
    if (end == std::string_view::npos)
      return false;
    view.remove_prefix(end + 1);
  }
}

std::optional<problem> parse_request_line(std::string_view line, request_head& head) {
  auto first = line.find(' ');
  auto last = line.rfind(' ');
  if (first == std::string_view::npos || first == last)
    return malformed("The request line is not 'METHOD TARGET HTTP/1.1'.");
  auto method = line.substr(0, first);
  auto target = line.substr(first + 1, last - first - 1);
  auto version = line.substr(last + 1);
  if (!is_token(method))
    return malformed("The request's method is not a word.");
  head.http_1_0 = version == "HTTP/1.0";
  if (version != "HTTP/1.1" && !head.http_1_0) {
    if (version.substr(0, 5) == "HTTP/")
      return problem{505, "unknown_http_version", "This server speaks HTTP/1.1.", {}, {}, {}};
    return malformed("The request line is not 'METHOD TARGET HTTP/1.1'.");
  }
  if (target.size() > max_target_bytes)
    return problem{414, "target_too_long", "The request's target is longer than 8192 bytes.", {}, {}, {}};
  for (char c : target)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f)
      return malformed("The request's target holds a space or a control character.");
  // The absolute form is what a client sends to a proxy; its path is what is meant (RFC 9112 §3.2.2).
  if (lower(target.substr(0, 7)) == "http://") {
    auto slash = target.find('/', 7);
    target = slash == std::string_view::npos ? std::string_view{"/"} : target.substr(slash);
  }
  if (target.empty() || (target.front() != '/' && target != "*"))
    return malformed("The request's target must begin with a slash.");
  target = target.substr(0, target.find('#'));
  auto question = target.find('?');
  head.request.method = method;
  head.request.path = target.substr(0, question);
  if (question != std::string_view::npos)
    head.request.query = target.substr(question + 1);
  return std::nullopt;
}

std::optional<problem> parse_header(std::string_view line, header_list& headers) {
  auto colon = line.find(':');
  // A space before the colon or at the line's start has been used to smuggle headers past proxies.
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
    return malformed("A header line is not 'Name: value'.");
  auto value = trim(line.substr(colon + 1));
  for (char c : value)
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f)
      return malformed("A header's value holds a control character.");
  if (headers.size() == max_headers)
    return problem{431, "too_many_headers", "The request has more than 100 headers.", {}, {}, {}};
  headers.emplace_back(lower(line.substr(0, colon)), value);
  return std::nullopt;
}

std::optional<problem> read_framing(request_head& head) {
  head.keep_alive = !head.http_1_0;
  for (auto& [name, value] : head.request.headers) {
    if (name == "content-length") {
      std::uint64_t length = 0;
      auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
      if (value.empty() || error != std::errc{} || end != value.data() + value.size())
        return malformed("Content-Length is not a number.");
      if (head.content_length)
        return malformed("Content-Length is given twice.");
      head.content_length = length;
    } else if (name == "transfer-encoding") {
      if (head.chunked || lower(value) != "chunked")
        return malformed("Only 'Transfer-Encoding: chunked' is understood, once.");
      head.chunked = true;
    } else if (name == "connection") {
      if (lists(value, "close"))
        head.keep_alive = false;
      else if (head.http_1_0 && lists(value, "keep-alive"))
        head.keep_alive = true;
    } else if (name == "expect") {
      head.expects_continue = !head.http_1_0 && lower(value) == "100-continue";
    }
  }
  if (head.chunked && (head.content_length || head.http_1_0))
    return malformed("A chunked body must not have a Content-Length, and needs HTTP/1.1.");
  return std::nullopt;
}

}  // namespace

std::variant<request_head, problem> parse_request_head(std::string_view text) {
  request_head head;
  bool first = true;
  for (;;) {
    auto end = text.find('\n');
    if (end == std::string_view::npos || end == 0 || text[end - 1] != '\r')
      return malformed("A line of the request's head does not end with CR LF.");
    auto line = text.substr(0, end - 1);
    text.remove_prefix(end + 1);
    if (line.empty() && !first)
      break;
    auto wrong = first ? parse_request_line(line, head) : parse_header(line, head.request.headers);
    if (wrong)
      return *wrong;
    first = false;
  }
  if (auto wrong = read_framing(head))
    return *wrong;
  return head;
}

}  // namespace coordinator
