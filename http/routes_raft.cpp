#include <charconv>

#include "http/api.hpp"
#include "http/command_json.hpp"
#include "http/json_reader.hpp"
#include "http/render.hpp"
#include "http/wait.hpp"

namespace coordinator {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// Past this a number is no longer exact in every client, and a term would have no room left to grow.
constexpr std::int64_t largest_ordinal = std::int64_t{1} << 52;
constexpr std::chrono::milliseconds injection_time{10'000};
/// A state is checked row by row before it is installed.
constexpr std::chrono::milliseconds installation_time{60'000};

std::uint64_t ordinal_field(object_reader& reader, std::string_view name, std::int64_t least) {
  return static_cast<std::uint64_t>(reader.integer(name, least, largest_ordinal));
}

/// The sender that a message over HTTP claims to be from. Its incarnation is the one that this node knows; there is
/// nothing in the message to tell it by.
sender member_field(object_reader& reader, std::string_view name, const node_view& node) {
  sender from{node_id{reader.id(name)}, {}};
  if (auto known = node.raft.members.find(from.id))
    from.incarnation = known->incarnation;
  else
    reader.fail(name, "is not a member of this cluster");
  return from;
}

template <class Reply>
struct injected {
  std::optional<Reply> reply;
  std::string error;
};

/// Hands a Raft message to the keeper and waits for what it says, or why it refused to look at it.
template <class Reply, class Message>
std::variant<Reply, problem> inject(gateway_port& port, Message message,
                                    std::chrono::milliseconds patience = injection_time) {
  auto answer = wait_for<injected<Reply>>(
      [&](auto done) {
        port.inject(std::move(message), [done](std::optional<Reply> reply, std::string error) {
          done(injected<Reply>{std::move(reply), std::move(error)});
        });
      },
      patience);
  if (!answer)
    return unavailable("timeout", "unknown");
  if (!answer->reply)
    return problem{409, "refused", answer->error, {}, {}, {}};
  return *answer->reply;
}

/// What `?image=true` added to a state: the file itself, and what it is the state of. Nothing if the state has none.
std::optional<install_snapshot> read_image(const json& body, std::optional<problem>& failure) {
  auto state = body.find("state");
  if (failure || state == body.end() || !state->is_object() || !state->contains("image"))
    return std::nullopt;
  object_reader reader{(*state)["image"], {}, failure};
  install_snapshot whole;
  whole.what.base.index.value = ordinal_field(reader, "last_applied", 1);
  whole.what.base.term.value = ordinal_field(reader, "last_applied_term", 1);
  whole.what.base.time_ms = static_cast<std::int64_t>(ordinal_field(reader, "applied_time_ms", 0));
  auto text = reader.find("file");
  auto checksum = reader.text("checksum", {}, 16);
  reader.allow_only({"last_applied", "last_applied_term", "applied_time_ms", "checksum", "file"});
  if (failure)
    return std::nullopt;
  auto bytes = text && text->is_string() ? from_base64(text->get_ref<const std::string&>()) : std::nullopt;
  std::uint64_t sum = 0;
  bool summed = std::from_chars(checksum.data(), checksum.data() + checksum.size(), sum, 16).ec == std::errc{};
  if (!bytes || bytes->empty() || !summed) {
    failure = invalid(bytes && !bytes->empty() ? "state.image.checksum" : "state.image.file",
                      "is not what GET /api/state?image=true gives");
    return std::nullopt;
  }
  whole.data = std::move(*bytes);
  whole.what.size = whole.data.size();
  whole.what.checksum = sum;
  return whole;
}

ordered_json state_key(const key_view& key) {
  ordered_json out;
  out["version"] = key.version;
  add_bytes(out, "value", key.value);
  out["updated_ms"] = key.updated_ms;
  return out;
}

/// One object of the state, an entry at a time: the whole of it as one text would be held in memory twice.
template <class Rows, class Id, class Render>
bool stream_object(const body_sink& sink, std::string_view name, const Rows& rows, Id id, Render render) {
  constexpr std::size_t piece_size = 64 * 1024;
  std::string piece = to_text(json(name)) + ":{";
  bool first = true;
  for (auto& row : rows) {
    piece += (first ? "" : ",") + to_text(json(id(row))) + ":" + to_text(render(row));
    first = false;
    if (piece.size() >= piece_size) {
      if (!sink(piece))
        return false;
      piece.clear();
    }
  }
  return sink(piece + "},");
}

/// `image` is further members of the object, as text that ends with a comma.
http_response stream_state(std::shared_ptr<const state_view> state, std::string image) {
  http_response response;
  response.stream = [state, image = std::move(image)](const body_sink& sink) {
    return sink("{") &&
           stream_object(
               sink, "workers", state->workers, [](auto& w) { return w.worker_id; },
               [](auto& w) { return render(w); }) &&
           stream_object(
               sink, "tasks", state->tasks, [](auto& t) { return t.task_id; }, [](auto& t) { return render(t); }) &&
           stream_object(
               sink, "kv", state->keys, [](auto& k) { return k.key; }, [](auto& k) { return state_key(k); }) &&
           sink(image) &&
           sink("\"maintenance\":" + std::string{state->maintenance ? "true" : "false"} +
                ",\"last_applied\":" + std::to_string(state->last_applied) +
                ",\"last_applied_term\":" + std::to_string(state->last_applied_term) + "}");
  };
  return response;
}

}  // namespace

http_response api::post_request_vote(const routed_request& r) {
  if (auto stranger = refuse_stranger(r))
    return to_response(*stranger);
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", "not_applied"));
  std::optional<problem> failure;
  object_reader reader{std::get<json>(body), {}, failure};
  request_vote message;
  message.term.value = ordinal_field(reader, "term", 1);
  message.candidate = member_field(reader, "candidate_id", *node);
  message.last_log_index.value = ordinal_field(reader, "last_log_index", 0);
  message.last_log_term.value = ordinal_field(reader, "last_log_term", 0);
  reader.allow_only({"term", "candidate_id", "last_log_index", "last_log_term"});
  if (failure)
    return to_response(*failure);
  auto answer = inject<request_vote_reply>(port_, std::move(message));
  if (auto wrong = std::get_if<problem>(&answer))
    return to_response(*wrong);
  auto& reply = std::get<request_vote_reply>(answer);
  return ok({{"term", reply.term.value}, {"vote_granted", reply.vote_granted}});
}

http_response api::post_append_entries(const routed_request& r) {
  if (auto stranger = refuse_stranger(r))
    return to_response(*stranger);
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", "not_applied"));
  std::optional<problem> failure;
  object_reader reader{std::get<json>(body), {}, failure};
  append_entries message;
  message.term.value = ordinal_field(reader, "term", 1);
  message.leader = member_field(reader, "leader_id", *node);
  message.prev_log_index.value = ordinal_field(reader, "prev_log_index", 0);
  message.prev_log_term.value = ordinal_field(reader, "prev_log_term", 0);
  message.leader_commit.value = ordinal_field(reader, "leader_commit", 0);
  reader.allow_only({"term", "leader_id", "prev_log_index", "prev_log_term", "entries", "leader_commit"});
  if (auto entries = reader.array("entries"))
    for (std::size_t i = 0; i < entries->size() && !failure; ++i) {
      auto entry = read_entry((*entries)[i], "entries[" + std::to_string(i) + "]", failure);
      entry.index = message.prev_log_index + i + 1;
      message.entries.push_back(std::move(entry));
    }
  if (failure)
    return to_response(*failure);
  auto answer = inject<append_entries_reply>(port_, std::move(message));
  if (auto wrong = std::get_if<problem>(&answer))
    return to_response(*wrong);
  auto& reply = std::get<append_entries_reply>(answer);
  return ok({{"term", reply.term.value}, {"success", reply.success}, {"last_log_index", reply.last_log_index.value}});
}

http_response api::post_sync_state(const routed_request& r) {
  if (auto stranger = refuse_stranger(r))
    return to_response(*stranger);
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", "not_applied"));
  std::optional<problem> failure;
  object_reader reader{std::get<json>(body), {}, failure};
  // The same checks as for a leader's append, by the keeper itself: an append of nothing at the log's beginning.
  append_entries message;
  message.term.value = ordinal_field(reader, "term", 1);
  message.leader = member_field(reader, "leader_id", *node);
  log_index applied{ordinal_field(reader, "last_applied", 0)};
  term_number applied_term{ordinal_field(reader, "last_applied_term", 0)};
  reader.object_text("state");
  reader.require("state");
  auto image = read_image(std::get<json>(body), failure);
  reader.allow_only({"term", "leader_id", "state", "last_applied", "last_applied_term"});
  if (failure)
    return to_response(*failure);
  if (image && image->what.base.index > node->last_applied) {
    image->term = message.term;
    image->leader = message.leader;
    return install_image(std::move(*image));
  }
  auto answer = inject<append_entries_reply>(port_, std::move(message));
  if (auto wrong = std::get_if<problem>(&answer))
    return to_response(*wrong);
  auto& reply = std::get<append_entries_reply>(answer);
  node = view();
  if (!node)
    return to_response(unavailable("timeout", "unknown"));
  // A state at or below what is applied here holds nothing new, if it is of the same history.
  bool success = reply.success && applied <= node->last_applied && same_history(applied, applied_term);
  return ok({{"term", reply.term.value}, {"success", success}, {"last_applied", node->last_applied.value}});
}

/// Installs a state that is ahead of this node's, by the same way as one that a leader sends.
http_response api::install_image(install_snapshot whole) {
  auto index = whole.what.base.index;
  auto answer = inject<install_snapshot_reply>(port_, std::move(whole), installation_time);
  if (auto wrong = std::get_if<problem>(&answer))
    return to_response(*wrong);
  auto& reply = std::get<install_snapshot_reply>(answer);
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", "unknown"));
  bool success = reply.result == install_snapshot_reply::outcome::installed;
  // The state machine may not have told the front yet.
  auto applied = success ? std::max(node->last_applied, index) : node->last_applied;
  return ok({{"term", reply.term.value}, {"success", success}, {"last_applied", applied.value}});
}

bool api::same_history(log_index index, term_number term) {
  if (index == log_index{})
    return term == term_number{};
  auto entries =
      wait_for<std::vector<log_entry>>([&](auto done) { port_.read_log(index, 1, std::move(done)); }, injection_time);
  return entries && !entries->empty() && entries->front().index == index && entries->front().term == term;
}

http_response api::get_log(const routed_request& r) {
  if (auto stranger = refuse_stranger(r))
    return to_response(*stranger);
  std::optional<problem> failure;
  auto from = number_parameter(r, "from", 0, 0, INT64_MAX, failure);
  auto limit = number_parameter(r, "limit", 100, 1, 1000, failure);
  if (failure)
    return to_response(*failure);
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", {}));
  auto first = std::max(log_index{static_cast<std::uint64_t>(from)}, node->raft.first_log_index);
  auto entries = wait_for<std::vector<log_entry>>(
      [&](auto done) { port_.read_log(first, static_cast<std::uint32_t>(limit), std::move(done)); }, injection_time);
  if (!entries)
    return to_response(unavailable("timeout", {}));
  auto list = ordered_json::array();
  for (auto& entry : *entries) {
    ordered_json one;
    one["index"] = entry.index.value;
    one["term"] = entry.term.value;
    one["time_ms"] = entry.time_ms;
    one["command"] = command_to_json(entry);
    list.push_back(std::move(one));
  }
  ordered_json out;
  out["entries"] = std::move(list);
  out["first_log_index"] = node->raft.first_log_index.value;
  out["last_log_index"] = node->raft.last_log_index.value;
  out["commit_index"] = node->raft.commit_index.value;
  auto response = ok(out);
  response.set("X-Coordinator-Applied-Index", std::to_string(node->last_applied.value));
  return response;
}

http_response api::get_state(const routed_request& r) {
  if (auto stranger = refuse_stranger(r))
    return to_response(*stranger);
  std::string image;
  if (auto asked = r.parameter("image"); asked && *asked != "false") {
    if (*asked != "true")
      return to_response(invalid("image", "must be true or false"));
    auto made = make_image(r);
    if (auto wrong = std::get_if<problem>(&made))
      return to_response(*wrong);
    image = std::move(std::get<std::string>(made));
  }
  auto given = read(r, query{coordinator::get_state{}}, "state", [&](query_result& result) {
    return stream_state(std::make_shared<const state_view>(std::move(std::get<state_view>(result))), std::move(image));
  });
  return wait_for(std::move(given), r.http.client);
}

}  // namespace coordinator
