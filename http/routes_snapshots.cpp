#include <algorithm>

#include "http/api.hpp"
#include "http/json_reader.hpp"
#include "http/render.hpp"
#include "http/snapshot_shelf.hpp"
#include "http/wait.hpp"
#include "persistence/checksum.hpp"

namespace coordinator {
namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t piece_size = 1 << 20;
/// In JSON it is larger by a third, and has to pass as the body of one request.
constexpr std::size_t largest_image = 24 << 20;

std::string hexadecimal(unsigned long long number, int digits) {
  char text[17];
  std::snprintf(text, sizeof text, "%0*llx", digits, number);
  return text;
}

problem no_such_snapshot() {
  return not_found("snapshot_not_found", "There is no such snapshot at this node, or it was not read for too long.");
}

problem no_snapshot(const std::string& why) {
  return {503, "no_snapshot", "No copy could be made: " + why + ".", {}, {}, 1};
}

json describe(const std::string& id, const state_copied& copy, const raft_status& raft) {
  json out;
  out["id"] = id;
  out["size"] = copy.size;
  out["last_applied"] = copy.last_applied.value;
  out["last_applied_term"] = copy.last_applied_term.value;
  out["applied_time_ms"] = copy.applied_time_ms;
  out["checksum"] = hexadecimal(copy.checksum, 16);
  out["cluster_id"] = raft.cluster_id;
  out["node_id"] = raft.node.value;
  auto members = json::array();
  for (auto& m : raft.members.members)
    members.push_back({{"node_id", m.id.value},
                       {"http_address", m.http_address},
                       {"cluster_address", m.cluster_address},
                       {"voter", m.voter}});
  out["members"] = std::move(members);
  return out;
}

}  // namespace

/// Sees to it that the state's file, which is written behind, holds what was acknowledged before the request came; for
/// a stale copy, all that this node has applied.
std::optional<problem> api::settle_state(const routed_request& r, std::optional<problem> failure) {
  auto how = read_consistency(r, failure);
  // The copy may take long; whether there is a leader is known sooner.
  auto timeout = std::min(request_timeout(r, failure), default_request_timeout);
  if (failure)
    return failure;
  read_request barrier{query{get_checksum{}}, how.linearizable, timeout, how.linearizable ? -1 : how.max_stale_ms};
  auto read = wait_for<read_result>([&](auto done) { port_.read(std::move(barrier), std::move(done)); },
                                    timeout + reply_margin, r.http.client);
  if (auto wrong = why_not_read(read, "state"))
    return wrong;
  auto flushed = wait_for<gateway_port::state_file>([&](auto done) { port_.flush_state(std::move(done)); },
                                                    longest_request_timeout, r.http.client);
  if (!flushed)
    return unavailable("timeout", {});
  if (!flushed->error.empty())
    return no_snapshot(flushed->error);
  return std::nullopt;
}

http_response api::post_snapshot(const routed_request& r) {
  if (auto stranger = refuse_stranger(r))
    return to_response(*stranger);
  auto body = parse_object(r.http.body, true);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  object_reader reader{std::get<nlohmann::json>(body), {}, failure};
  reader.allow_only({});
  // A large state takes its time; whoever wants an answer earlier says so.
  auto timeout = r.http.header("x-request-timeout-ms") ? request_timeout(r, failure) : longest_request_timeout;
  if (failure)
    return to_response(*failure);
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", {}));
  if (node->raft.role == node_role::unformed)
    return to_response(unavailable("unformed", {}));
  if (auto wrong = settle_state(r, failure))
    return to_response(*wrong);
  auto id = shelf_->reserve();
  if (id.empty())
    return to_response({429,
                        "too_many_snapshots",
                        "This node holds as many snapshots as it may; delete one, or wait until one is forgotten.",
                        {},
                        {},
                        5});
  port_.copy_state([shelf = shelf_, id](state_copied copy) { shelf->put(id, std::move(copy)); });
  auto copy = shelf_->wait(id, timeout, r.http.client);
  if (!copy)
    return to_response(unavailable("timeout", {}));
  if (!copy->error.empty())
    return to_response(no_snapshot(copy->error));
  auto response = ok(describe(id, *copy, node->raft));
  response.set("X-Coordinator-Applied-Index", std::to_string(copy->last_applied.value));
  return response;
}

/// All that the state holds, for a node that is to take it over: its file, as a member of a JSON object.
std::variant<std::string, problem> api::make_image(const routed_request& r) {
  if (auto wrong = settle_state(r, {}))
    return *wrong;
  auto id = shelf_->reserve();
  if (id.empty())
    return problem{429, "too_many_snapshots", "This node makes as many copies of its state as it may.", {}, {}, 5};
  port_.copy_state([shelf = shelf_, id](state_copied copy) { shelf->put(id, std::move(copy)); });
  auto copy = shelf_->wait(id, longest_request_timeout, r.http.client);
  if (!copy)
    return unavailable("timeout", {});
  if (!copy->error.empty())
    return no_snapshot(copy->error);
  auto piece = shelf_->read(id, 0, largest_image);
  shelf_->remove(id);
  if (!piece || !piece->ok)
    return no_snapshot("it cannot be read");
  if (piece->size > largest_image)
    return too_large("The state has " + std::to_string(piece->size) + " bytes, and an image at most " +
                     std::to_string(largest_image) + "; save a snapshot instead.");
  json image;
  image["last_applied"] = copy->last_applied.value;
  image["last_applied_term"] = copy->last_applied_term.value;
  image["applied_time_ms"] = copy->applied_time_ms;
  image["checksum"] = hexadecimal(copy->checksum, 16);
  image["file"] = to_base64(piece->bytes);
  return "\"image\":" + image.dump() + ",";
}

http_response api::get_snapshot_piece(const routed_request& r) {
  if (auto stranger = refuse_stranger(r))
    return to_response(*stranger);
  std::optional<problem> failure;
  auto offset = number_parameter(r, "offset", 0, 0, INT64_MAX, failure);
  if (failure)
    return to_response(*failure);
  auto piece = shelf_->read(r.path_values[0], static_cast<std::uint64_t>(offset), piece_size);
  if (!piece)
    return to_response(no_such_snapshot());
  if (static_cast<std::uint64_t>(offset) > piece->size)
    return to_response(invalid("offset", "is beyond the end of the snapshot"));
  if (!piece->ok)
    return to_response({500, "unreadable", "The snapshot's file cannot be read.", {}, {}, {}});
  http_response response;
  response.content_type = "application/octet-stream";
  response.set("Content-CRC32C", hexadecimal(crc32c(piece->bytes), 8));
  response.body = std::move(piece->bytes);
  return response;
}

http_response api::delete_snapshot(const routed_request& r) {
  if (auto stranger = refuse_stranger(r))
    return to_response(*stranger);
  if (!shelf_->remove(r.path_values[0]))
    return to_response(no_such_snapshot());
  return ok({{"success", true}});
}

}  // namespace coordinator
