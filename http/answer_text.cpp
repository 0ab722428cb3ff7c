#include "http/answer_text.hpp"

#include <spdlog/spdlog.h>

#include "http/problem.hpp"

namespace coordinator {
namespace {

/// What would end the line is no header: nobody may add headers of his own through a value of ours.
void add_header(std::string& text, std::string_view name, std::string_view value) {
  constexpr std::string_view line_ends = "\r\n";
  if (name.find_first_of(line_ends) == name.npos && value.find_first_of(line_ends) == value.npos)
    text.append(name).append(": ").append(value).append("\r\n");
}

}  // namespace

std::string head_of(const http_response& response, std::string_view keep_alive) {
  std::string text;
  text.reserve(512);
  text.append("HTTP/1.1 ").append(std::to_string(response.status)).append(" ").append(status_title(response.status));
  text += "\r\n";
  for (auto& [name, value] : response.headers)
    add_header(text, name, value);
  if (keep_alive.empty())
    add_header(text, "Connection", "close");
  else
    add_header(text, "Keep-Alive", keep_alive);
  if (!response.content_type.empty())
    add_header(text, "Content-Type", response.content_type);
  add_header(text, "Content-Length", std::to_string(response.body.size()));
  text += "\r\n";
  return text;
}

http_response after_exception(const http_request& request, const std::exception& e) {
  spdlog::error("http: {} {} ended by an exception: {}", request.method, request.path, e.what());
  return to_response({500, "internal_error", "The request could not be handled.", {}, {}, {}});
}

}  // namespace coordinator
