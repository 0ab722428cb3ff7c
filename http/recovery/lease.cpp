#include "http/recovery/lease.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace coordinator::recovery {

namespace {

using nlohmann::json;

client_request request_for(const char* method) {
  client_request request;
  request.method = method;
  request.path = "/api/kv/" + encode_component(lease_key);
  // A condition on the version makes it idempotent; a key kept for it would be a row that makes the cluster count time.
  request.applied = once::by_nature;
  request.answer_within = std::chrono::milliseconds{2'500};
  request.election_wait = std::chrono::milliseconds{2'000};
  return request;
}

std::uint64_t version_in(const std::string& etag) {
  std::uint64_t version = 0;
  if (etag.size() > 2)
    std::from_chars(etag.data() + 1, etag.data() + etag.size() - 1, version);
  return version;
}

}  // namespace

lease::lease(client& cluster, std::string holder, std::chrono::milliseconds length)
    : cluster_(cluster), holder_(std::move(holder)), length_(length) {}

lease::state lease::hold(bool surely) {
  if (is_held() && !surely && clock::now() < renew_at_)
    return state::held;
  if (version_ != 0) {
    auto result = write("If-Match", "\"" + std::to_string(version_) + "\"");
    // Until its end nobody else takes it, so that a moment without a leader does not end it.
    if (result == state::unreachable && is_held() && !surely)
      return state::held;
    if (result != state::taken)
      return result;
    version_ = 0;
  }
  auto present = cluster_.send(request_for("GET"));
  if (present.status == 404)
    return write("If-None-Match", "*");
  if (!present.ok())
    return state::unreachable;
  auto said = json::parse(present.body, nullptr, false);
  auto whole = said.is_object() && said.contains("holder") && said["holder"].is_string() && said.contains("lease_ms") &&
               said["lease_ms"].is_number_integer();
  seen_holder_ = whole ? said["holder"].get<std::string>() : "an unknown writer";
  if (present.etag != seen_version_) {
    seen_version_ = present.etag;
    seen_since_ = clock::now();
    constexpr std::int64_t longest = 24LL * 3600 * 1000;
    seen_length_ = std::chrono::milliseconds{
        whole ? std::clamp<std::int64_t>(said["lease_ms"].get<std::int64_t>(), 0, longest) : length_.count()};
  }
  // A write of ours whose answer was lost.
  if (seen_holder_ == holder_ || clock::now() - seen_since_ >= seen_length_)
    return write("If-Match", present.etag);
  return state::taken;
}

lease::state lease::write(const char* condition, const std::string& value) {
  auto request = request_for("PUT");
  request.headers[condition] = value;
  request.body = json{{"holder", holder_}, {"lease_ms", length_.count()}}.dump();
  auto began = clock::now();
  auto reply = cluster_.send(request);
  if (reply.status == 412)
    return state::taken;
  if (!reply.ok())
    return state::unreachable;
  version_ = version_in(reply.etag);
  // A version that is 0 would mean that we do not have it.
  if (version_ == 0)
    return state::unreachable;
  seen_holder_ = holder_;
  renew_at_ = began + length_ / 3;
  // Counted from before the write, and with some of it to spare: others count from after it.
  until_ = began + length_ * 4 / 5;
  return is_held() ? state::held : state::taken;
}

void lease::release() {
  if (version_ == 0)
    return;
  auto request = request_for("DELETE");
  request.headers["If-Match"] = "\"" + std::to_string(version_) + "\"";
  cluster_.send(request);
  version_ = 0;
}

}  // namespace coordinator::recovery
