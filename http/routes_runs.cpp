#include <algorithm>

#include "http/api.hpp"
#include "http/json_reader.hpp"
#include "http/junit.hpp"
#include "http/render.hpp"
#include "http/wait.hpp"

namespace coordinator {
namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t most_slowest = 10;
constexpr std::size_t most_failures = 50;
/// Of each failure's output; the task itself has all of it.
constexpr std::size_t shown_output = 8 * 1024;

std::string tail_of(const std::string& text) {
  if (text.size() <= shown_output)
    return text;
  auto begin = text.size() - shown_output;
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80)
    ++begin;
  return text.substr(begin);
}

json render_result(const task_result& x) {
  return {
      {"task_id", x.task_id}, {"name", x.name},       {"worker_id", x.worker_id.empty() ? json{} : json(x.worker_id)},
      {"attempt", x.attempt}, {"outcome", x.outcome}, {"duration_ms", x.duration_ms}};
}

/// What is told of a run beyond its counts, gathered task by task.
class run_summary {
 public:
  void add(task_result x) {
    ++outcomes_[x.outcome];
    if (x.ended())
      keep_slowest(x);
    if (!x.ended() || x.outcome == "passed" || x.outcome == "cancelled")
      return;
    if (++failures_total_ > most_failures)
      return;
    auto one = render_result(x);
    one["error"] = x.error.empty() ? json{} : json(x.error);
    one["output"] = tail_of(x.output);
    failures_.push_back(std::move(one));
  }

  void add_to(json& out) {
    out["outcomes"] = outcomes_;
    out["slowest"] = json::array();
    for (auto& each : slowest_)
      out["slowest"].push_back(render_result(each));
    out["failures_total"] = failures_total_;
    out["failures"] = std::move(failures_);
  }

 private:
  void keep_slowest(const task_result& x) {
    auto slower = [](const task_result& a, const task_result& b) { return a.duration_ms > b.duration_ms; };
    if (slowest_.size() == most_slowest && !slower(x, slowest_.back()))
      return;
    auto kept = x;
    kept.output.clear();
    slowest_.insert(std::upper_bound(slowest_.begin(), slowest_.end(), kept, slower), std::move(kept));
    if (slowest_.size() > most_slowest)
      slowest_.pop_back();
  }

  std::map<std::string, std::uint64_t> outcomes_;
  std::vector<task_result> slowest_;
  json failures_ = json::array();
  std::uint64_t failures_total_ = 0;
};

}  // namespace

bool api::for_each_result(const std::string& run_id, const std::function<bool(task_result)>& use) {
  std::string cursor;
  do {
    list_tasks what;
    what.run_id = run_id;
    what.cursor = cursor;
    what.limit = largest_page;
    auto page = look(std::move(what));
    auto found = page ? std::get_if<task_page>(&*page) : nullptr;
    if (!found)
      return false;
    for (auto& task : found->tasks)
      if (!use(result_of(task)))
        return false;
    cursor = found->next_cursor;
  } while (!cursor.empty());
  return true;
}

http_response api::get_runs(const routed_request& r) {
  std::optional<problem> failure;
  auto page = read_page(r, failure);
  if (failure)
    return to_response(*failure);
  auto given = read(r, list_runs{page.cursor, page.limit}, "run", [this](query_result& result) {
    auto& found = std::get<run_page>(result);
    json out{{"runs", json::array()}};
    for (auto& run : found.runs)
      out["runs"].push_back(render(run, watcher_->now_ms()));
    out["next_cursor"] = found.next_cursor.empty() ? json{} : json(found.next_cursor);
    return ok(out);
  });
  return wait_for(std::move(given), r.http.client);
}

http_response api::get_run_by_id(const routed_request& r) {
  auto& id = r.path_values[0];
  auto given = read(r, get_run{id}, "run", [&](query_result& result) {
    auto out = render(std::get<run_view>(result), watcher_->now_ms());
    run_summary summary;
    // What was applied for the first answer is applied for these, too, so they may be stale.
    auto whole = for_each_result(id, [&](task_result each) {
      summary.add(std::move(each));
      return true;
    });
    if (!whole)
      return to_response(unavailable("timeout", {}));
    summary.add_to(out);
    return ok(out);
  });
  return wait_for(std::move(given), r.http.client);
}

http_response api::get_junit(const routed_request& r) {
  auto id = r.path_values[0];
  auto given = read(r, get_run{id}, "run", [&](query_result&) {
    // Twice through the tasks, for the sums stand at the top: so nothing of a large run has to be kept.
    junit_sums sums;
    auto whole = for_each_result(id, [&](task_result each) {
      sums.add(each);
      return true;
    });
    if (!whole)
      return to_response(unavailable("timeout", {}));
    http_response response;
    response.content_type = "application/xml; charset=utf-8";
    if (r.http.method == "HEAD")
      return response;
    response.stream = [this, id, sums](const body_sink& sink) {
      auto sent = sink(junit_head(id, sums)) &&
                  for_each_result(id, [&](const task_result& each) { return sink(junit_case(id, each)); });
      return sent && sink(junit_end);
    };
    return response;
  });
  return wait_for(std::move(given), r.http.client);
}

}  // namespace coordinator
