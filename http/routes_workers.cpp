#include "http/api.hpp"
#include "http/json_reader.hpp"
#include "http/render.hpp"
#include "http/task_json.hpp"
#include "http/wait.hpp"

namespace coordinator {
namespace {

using nlohmann::json;

/// A list longer than any worker has slots is a mistake.
constexpr std::size_t most_running = limits::worker_slots;

/// What a worker may say of itself; empty where it says nothing.
std::string status_field(object_reader& reader) {
  auto word = reader.text("status", {}, 64);
  auto status = worker_status_from(word);
  if (!word.empty() && (!status || *status == worker_status::offline))
    reader.fail("status", "must be idle, running, busy or draining");
  return word;
}

std::vector<attempt_id> read_running(const json& list, std::optional<problem>& failure) {
  std::vector<attempt_id> out;
  for (std::size_t i = 0; i < list.size() && !failure; ++i) {
    object_reader entry{list[i], "running[" + std::to_string(i) + "]", failure};
    attempt_id one;
    one.task_id = entry.id("task_id");
    one.attempt = static_cast<std::uint32_t>(entry.integer("attempt", 1, UINT32_MAX));
    out.push_back(std::move(one));
  }
  return out;
}

worker_beat read_beat(const json& body, std::optional<problem>& failure) {
  object_reader reader{body, {}, failure};
  constexpr double most = limits::capability_number;
  worker_beat beat;
  beat.worker_id = reader.id("worker_id");
  beat.status = status_field(reader);
  beat.current_task = reader.optional_id("current_task");
  beat.cpu_usage = reader.number("cpu_usage", -1, 0, most);
  beat.memory_usage = reader.number("memory_usage", -1, 0, most);
  beat.gpu_usage = reader.number("gpu_usage", -1, 0, most);
  if (auto list = reader.array("running")) {
    beat.lists_running = true;
    if (list->size() > most_running)
      reader.fail("running", "must have at most " + std::to_string(most_running) + " attempts");
    else
      beat.running = read_running(*list, failure);
  }
  return beat;
}

http_response answer_to_beat(const std::optional<beat_result>& result) {
  if (!result)
    return to_response(unavailable("timeout", "unknown"));
  if (result->unknown_worker)
    return to_response(not_found("not_found", "There is no such worker; it must register."));
  if (result->outcome != write_result::outcome::applied)
    return to_response(
        unavailable(result->reason, result->outcome == write_result::outcome::not_applied ? "not_applied" : "unknown"));
  return ok({{"success", true}, {"cancel", result->cancel}});
}

}  // namespace

reply api::post_register(const routed_request& r) {
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  object_reader reader{std::get<json>(body), {}, failure};
  register_worker command;
  command.worker_id = reader.id("worker_id");
  if (is_reserved_worker_id(command.worker_id))
    reader.fail("worker_id", "must not be the name of a route");
  command.host = reader.text("host", {}, limits::id_size);
  command.port = static_cast<std::uint32_t>(reader.integer("port", 0, 0, 65535));
  command.capabilities = read_capabilities(reader, "capabilities");
  if (auto as_given = reader.find("capabilities"))
    command.capabilities_json = to_text(*as_given);
  command.slots = static_cast<std::uint32_t>(reader.integer("slots", 1, 1, limits::worker_slots));
  if (auto word = status_field(reader); !word.empty())
    command.status = worker_status_from(word).value_or(worker_status::idle);
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  auto id = command.worker_id;
  return write(std::move(command), options, "worker", [this, id](command_result& result) {
    return ok({{"success", true},
               {"worker_id", id},
               {"heartbeat_interval_ms", options_.worker_heartbeat.count()},
               {"session", result.version}});
  });
}

reply api::post_worker_status(const routed_request& r) {
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  auto beat = read_beat(std::get<json>(body), failure);
  auto timeout = request_timeout(r, failure);
  if (failure)
    return to_response(*failure);
  auto start = [this, beat = std::move(beat), timeout](auto done) mutable {
    port_.beat(std::move(beat), timeout, std::move(done));
  };
  return when_done<beat_result>(std::move(start), timeout + reply_margin, &answer_to_beat);
}

http_response api::get_workers(const routed_request& r) {
  std::optional<problem> failure;
  auto page = read_page(r, failure);
  if (failure)
    return to_response(*failure);
  auto given = read(r, list_workers{page.cursor, page.limit}, "worker", [](query_result& result) {
    auto& found = std::get<worker_page>(result);
    auto out = nlohmann::ordered_json::object();
    for (auto& worker : found.workers)
      out[worker.worker_id] = render(worker);
    auto response = ok(out);
    if (!found.next_cursor.empty())
      response.set("X-Next-Cursor", found.next_cursor);
    return response;
  });
  return wait_for(std::move(given), r.http.client);
}

reply api::get_worker_by_id(const routed_request& r) {
  std::optional<problem> failure;
  auto id = path_id(r, 0, "worker_id", failure);
  if (failure)
    return to_response(*failure);
  return read(r, get_worker{id}, "worker",
              [](query_result& result) { return ok(render(std::get<worker_view>(result))); });
}

reply api::delete_worker(const routed_request& r) {
  std::optional<problem> failure;
  auto id = path_id(r, 0, "worker_id", failure);
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  return write(remove_worker{id}, options, "worker", [id](command_result&) {
    return ok({{"success", true}, {"worker_id", id}});
  });
}

reply api::post_drain(const routed_request& r) {
  std::optional<problem> failure;
  auto id = path_id(r, 0, "worker_id", failure);
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  return write(drain_worker{id}, options, "worker", [id](command_result&) {
    return ok({{"success", true}, {"worker_id", id}});
  });
}

}  // namespace coordinator
