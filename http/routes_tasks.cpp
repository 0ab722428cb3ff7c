#include "http/api.hpp"
#include "http/json_reader.hpp"
#include "http/render.hpp"
#include "http/task_json.hpp"
#include "http/wait.hpp"

namespace coordinator {
namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds longest_wait{300'000};

/// A single task is named without the list that it is applied as.
void shorten_field(command_result& result) {
  constexpr std::string_view prefix = "tasks[0].";
  if (result.field.rfind(prefix, 0) == 0)
    result.field.erase(0, prefix.size());
}

std::uint32_t attempt_field(object_reader& reader) {
  return static_cast<std::uint32_t>(reader.integer("attempt", 1, UINT32_MAX));
}

}  // namespace

reply api::post_submit(const routed_request& r) {
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  auto read = read_submission(std::get<json>(body));
  if (auto wrong = std::get_if<problem>(&read))
    return to_response(*wrong);
  std::optional<problem> failure;
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  auto& submitted = std::get<submission>(read);
  return write(std::move(submitted.command), options, [single = submitted.single](std::optional<write_result> result) {
    if (single && result)
      shorten_field(result->result);
    if (auto wrong = why_not_written(result, "task"))
      return to_response(*wrong);
    auto& ids = result->result.ids;
    if (single)
      return ok({{"success", true}, {"task_id", ids.empty() ? std::string{} : ids.front()}});
    return ok({{"success", true}, {"task_ids", ids}});
  });
}

http_response api::get_tasks(const routed_request& r) {
  std::optional<problem> failure;
  auto page = read_page(r, failure);
  list_tasks what;
  what.limit = page.limit;
  what.cursor = page.cursor;
  auto text = [&](std::string_view name) {
    auto value = r.parameter(name);
    return value ? *value : std::string{};
  };
  what.worker_id = text("worker_id");
  what.run_id = text("run_id");
  what.type = text("type");
  if (auto word = text("status"); !word.empty()) {
    what.status = task_status_from(word);
    if (!what.status && !failure)
      failure = invalid("status", "must be pending, blocked, assigned, running, completed, failed or cancelled");
  }
  if (failure)
    return to_response(*failure);
  auto given = read(r, std::move(what), "task", [](query_result& result) {
    auto& found = std::get<task_page>(result);
    nlohmann::ordered_json out;
    auto list = nlohmann::ordered_json::array();
    for (auto& task : found.tasks)
      list.push_back(render(task, false));
    out["tasks"] = std::move(list);
    out["next_cursor"] =
        found.next_cursor.empty() ? nlohmann::ordered_json{} : nlohmann::ordered_json(found.next_cursor);
    return ok(out);
  });
  return wait_for(std::move(given), r.http.client);
}

reply api::get_task_by_id(const routed_request& r) {
  std::optional<problem> failure;
  auto id = path_id(r, 0, "task_id", failure);
  if (failure)
    return to_response(*failure);
  return read(r, get_task{id}, "task", [](query_result& result) { return ok(render(std::get<task_view>(result))); });
}

reply api::post_claim(const routed_request& r) {
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  object_reader reader{std::get<json>(body), {}, failure};
  claim_request request;
  request.worker_id = reader.id("worker_id");
  request.max_tasks = static_cast<std::uint32_t>(reader.integer("max_tasks", 1, 1, limits::claim_tasks));
  request.wait = std::chrono::milliseconds{reader.integer("wait_ms", 30'000, 0, longest_wait.count())};
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  request.timeout = options.timeout;
  request.idempotency_key = options.key;
  request.request_hash = options.hash;
  auto longest = request.wait + request.timeout + reply_margin;
  auto start = [this, request = std::move(request)](auto done) mutable {
    port_.claim(std::move(request), std::move(done));
  };
  auto end = [lease = options_.lease.count()](const std::optional<write_result>& result) {
    if (auto wrong = why_not_written(result, "worker; it must register"))
      return to_response(*wrong);
    auto list = nlohmann::ordered_json::array();
    for (auto& given : result->result.assignments)
      list.push_back(render(given, lease));
    nlohmann::ordered_json out;
    out["tasks"] = std::move(list);
    return ok(out);
  };
  auto later = when_done<write_result>(std::move(start), longest, std::move(end));
  later.needs_client = true;
  later.long_poll = true;
  later.give_up = [late = std::move(later.give_up)](bool stopping) {
    // What may be assigned all the same goes back to the queue, for no heartbeat will list it.
    return stopping ? to_response(unavailable("shutting_down", "unknown")) : late(stopping);
  };
  return later;
}

reply api::post_complete(const routed_request& r) {
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  object_reader reader{std::get<json>(body), {}, failure};
  complete_task command;
  command.task_id = path_id(r, 0, "task_id", failure);
  command.worker_id = reader.id("worker_id");
  command.attempt = attempt_field(reader);
  command.result_json = reader.object_text("result");
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  if (command.result_json.empty())
    command.result_json = "{}";
  auto id = command.task_id;
  return write(std::move(command), options, "task", [id](command_result&) {
    return ok({{"success", true}, {"task_id", id}});
  });
}

reply api::post_fail(const routed_request& r) {
  auto body = parse_object(r.http.body);
  if (auto wrong = std::get_if<problem>(&body))
    return to_response(*wrong);
  std::optional<problem> failure;
  object_reader reader{std::get<json>(body), {}, failure};
  fail_task command;
  command.task_id = path_id(r, 0, "task_id", failure);
  command.worker_id = reader.id("worker_id");
  command.attempt = attempt_field(reader);
  command.error = reader.text("error", {}, limits::error_size, true);
  command.retryable = reader.boolean("retryable", true);
  command.result_json = reader.object_text("result");
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  auto id = command.task_id;
  return write(std::move(command), options, "task", [id](command_result&) {
    return ok({{"success", true}, {"task_id", id}});
  });
}

reply api::post_cancel(const routed_request& r) {
  std::optional<problem> failure;
  auto id = path_id(r, 0, "task_id", failure);
  auto options = read_write_options(r, failure);
  if (failure)
    return to_response(*failure);
  return write(cancel_task{id}, options, "task", [id](command_result&) {
    return ok({{"success", true}, {"task_id", id}});
  });
}

}  // namespace coordinator
