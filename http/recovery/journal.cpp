#include "http/recovery/journal.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

#include "http/recovery/lease.hpp"

namespace coordinator::recovery {

namespace {

using ordered = nlohmann::ordered_json;
using nlohmann::json;

constexpr std::uint64_t ring_size = 64;
constexpr std::size_t most_unwritten = 256;

ordered to_json(const entry& x) {
  ordered out;
  out["time_ms"] = x.time_ms;
  out["event"] = x.event;
  auto add = [&](const char* name, const std::string& value) {
    if (!value.empty())
      out[name] = value;
  };
  add("strategy", x.strategy);
  add("node", x.node);
  add("seen", x.seen);
  add("action", x.action);
  add("outcome", x.outcome);
  add("detail", x.detail);
  if (x.took_ms >= 0)
    out["took_ms"] = x.took_ms;
  out["dry_run"] = x.dry_run;
  add("daemon", x.daemon);
  add("id", x.id);
  return out;
}

std::string text(const json& object, const char* field) {
  auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

std::int64_t number(const json& object, const char* field) {
  auto found = object.find(field);
  return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

client_request request_for(const std::string& method, const std::string& path) {
  client_request request;
  request.method = method;
  request.path = path;
  // The same again replaces itself.
  request.applied = once::by_nature;
  request.answer_within = std::chrono::milliseconds{2'500};
  request.election_wait = std::chrono::milliseconds{2'000};
  return request;
}

/// What is needed of an entry to know what was done.
entry from_json(const json& body) {
  entry x;
  x.time_ms = number(body, "time_ms");
  x.event = text(body, "event");
  x.strategy = text(body, "strategy");
  x.node = text(body, "node");
  x.action = text(body, "action");
  x.outcome = text(body, "outcome");
  x.id = text(body, "id");
  x.dry_run = body.value("dry_run", json{}) == json(true);
  return x;
}

}  // namespace

std::string to_json_line(const entry& x) {
  return to_json(x).dump(-1, ' ', false, json::error_handler_t::replace);
}

journal::journal(const std::string& file)
    : file_(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640)) {
  if (file_ < 0)
    throw std::runtime_error("the recovery log " + file + " cannot be opened: " + std::strerror(errno));
}

journal::~journal() {
  ::close(file_);
}

void journal::add(const entry& x) {
  auto line = to_json_line(x) + "\n";
  // One write a line, so that lines of two writers do not mix. A full disk must not end the daemon that reports it.
  [[maybe_unused]] auto n = ::write(file_, line.data(), line.size());
}

std::vector<entry> journal::latest_actions(const std::string& file) {
  constexpr std::streamoff read_bytes = 1 << 20;
  std::ifstream input{file, std::ios::binary | std::ios::ate};
  auto size = input ? static_cast<std::streamoff>(input.tellg()) : 0;
  input.seekg(std::max<std::streamoff>(0, size - read_bytes));
  std::vector<entry> result;
  for (std::string line; std::getline(input, line);) {
    auto body = json::parse(line, nullptr, false);
    if (!body.is_object())
      continue;
    auto x = from_json(body);
    if (x.event == "action" && !x.dry_run)
      result.push_back(std::move(x));
  }
  return result;
}

void shared_record::add(const entry& x) {
  known_.insert(x.id);
  unwritten_.push_back(x);
  if (unwritten_.size() > most_unwritten)
    unwritten_.pop_front();
}

void shared_record::write() {
  while (!unwritten_.empty()) {
    auto slot = std::to_string(next_ % ring_size);
    auto request = request_for("PUT", "/api/kv/" + encode_component(actions_prefix + slot));
    request.body = to_json_line(unwritten_.front());
    if (!cluster_.send(request).ok())
      return;
    ++next_;
    unwritten_.pop_front();
  }
}

void shared_record::learn(const std::function<void(const entry&)>& use) {
  auto reply =
      cluster_.send(request_for("GET", std::string{"/api/kv?limit=1000&prefix="} + encode_component(actions_prefix)));
  auto page = reply.ok() ? json::parse(reply.body, nullptr, false) : json{};
  if (!page.is_object() || !page.contains("keys"))
    return;
  std::vector<std::pair<std::int64_t, std::string>> keys;
  for (auto& key : page["keys"])
    keys.emplace_back(number(key, "version"), text(key, "key"));
  std::sort(keys.begin(), keys.end());
  for (auto& [version, key] : keys) {
    auto found = cluster_.send(request_for("GET", "/api/kv/" + encode_component(key)));
    auto body = found.ok() ? json::parse(found.body, nullptr, false) : json{};
    if (!body.is_object())
      continue;
    next_ = std::strtoull(key.c_str() + std::strlen(actions_prefix), nullptr, 10) + 1;
    auto x = from_json(body);
    if (known_.insert(x.id).second && x.event == "action")
      use(x);
  }
}

}  // namespace coordinator::recovery
