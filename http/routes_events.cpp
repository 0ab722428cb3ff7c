#include <charconv>
#include <thread>

#include "http/api.hpp"
#include "http/event_json.hpp"
#include "http/json_reader.hpp"

namespace coordinator {
namespace {

using namespace std::chrono_literals;

/// Events that are rendered and sent before the next look at the reader.
constexpr std::size_t events_a_turn = 64;
/// With so much on its way a reader gets nothing more until it has taken some of it: that bounds what one costs, and
/// leaves room in the system's buffer for the event that says why it is cut off.
constexpr std::size_t most_unsent = 32 * 1024;
/// A reader that takes nothing for this long is cut off.
constexpr auto reader_patience = 8s;
/// A line without meaning that often keeps what lies between from taking the connection for dead.
constexpr auto silence = 10s;
constexpr auto figures_interval = 2s;
constexpr std::size_t figures_points = 5;

}  // namespace

/// One reader of the event log: its place in it, and what is sent to it when. Runs on the connection's thread.
class api::event_stream {
 public:
  event_stream(api& front, const client_watch* client, bool figures)
      : front_(front), client_(client), with_figures_(figures) {}
  ~event_stream() { --front_.streams_; }
  event_stream(const event_stream&) = delete;
  event_stream& operator=(const event_stream&) = delete;

  /// Goes on after the event of that id; where that cannot be, `reset` says why, and the present state follows.
  void resume(std::optional<std::string_view> last_id) {
    place_ = log().last();
    if (!last_id)
      return;
    auto dash = last_id->find('-');
    std::uint64_t number = 0;
    auto digits = last_id->substr(dash == std::string_view::npos ? last_id->size() : dash + 1);
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    bool ours = error == std::errc{} && end == digits.data() + digits.size() && *last_id == id_of(number);
    if (!ours || number > place_)
      reset_ = "unknown_id";
    else if (log().after(number, 1, 0ms).lost)
      reset_ = "too_old";
    else
      resumed_at_ = number;
  }

  /// True when the stream has come to its end; false when the client is gone.
  bool run(const body_sink& sink) {
    if (!reset_.empty() && !sink(event_frame(id_of(place_), "reset", R"({"reason":")" + reset_ + "\"}")))
      return false;
    if (resumed_at_)
      place_ = *resumed_at_;
    else if (!sink(event_frame(id_of(place_), "state", to_text(front_.present_state()))))
      return false;
    sent_ = clock::now();
    taken_ = sent_;
    while (!client_ || !(client_->stopping() || client_->gone())) {
      auto unsent = client_ ? client_->unsent() : 0;
      if (unsent < last_unsent_ || unsent <= most_unsent)
        taken_ = clock::now();
      last_unsent_ = unsent;
      if (unsent > most_unsent) {
        if (clock::now() - taken_ > reader_patience || log().after(place_, 1, 0ms).lost)
          return cut_off(sink);
        std::this_thread::sleep_for(20ms);
        continue;
      }
      auto page = log().after(place_, events_a_turn, 250ms);
      if (page.lost)
        return cut_off(sink);
      if (!send(page.events, sink) || !send_by_time(sink))
        return false;
      if (!client_ && page.events.empty())
        return true;
    }
    return true;
  }

 private:
  using clock = std::chrono::steady_clock;

  event_log& log() const { return front_.watcher_->events(); }

  std::string id_of(std::uint64_t number) const {
    char boot[17];
    std::snprintf(boot, sizeof boot, "%016llx", static_cast<unsigned long long>(front_.watcher_->boot_id()));
    return std::string{boot} + "-" + std::to_string(number);
  }

  bool send(const std::vector<recorded_event>& events, const body_sink& sink) {
    for (auto& event : events) {
      // One write an event: a reader never sees a part of one before the rest has been sent.
      if (!sink(event_frame(id_of(event.number), event_name(event.what), to_text(render(event)))))
        return false;
      place_ = event.number;
      sent_ = clock::now();
    }
    return true;
  }

  bool send_by_time(const body_sink& sink) {
    auto now = clock::now();
    if (with_figures_ && now - figures_sent_ >= figures_interval) {
      auto points = figures_sent_ == clock::time_point{} ? latency_history::kept : figures_points;
      figures_sent_ = now;
      sent_ = now;
      return sink(event_frame(id_of(place_), "figures", to_text(front_.monitor(points))));
    }
    if (now - sent_ < silence)
      return true;
    sent_ = now;
    return sink(": nothing new\n\n");
  }

  bool cut_off(const body_sink& sink) {
    sink(event_frame(id_of(place_), "cut_off",
                     R"({"reason":"too_slow","detail":"Events came faster than they were read; connect again."})"));
    return true;
  }

  api& front_;
  const client_watch* client_;
  const bool with_figures_;
  std::string reset_;
  std::optional<std::uint64_t> resumed_at_;
  std::uint64_t place_ = 0;
  std::size_t last_unsent_ = 0;
  clock::time_point sent_;
  clock::time_point taken_;
  clock::time_point figures_sent_{};
};

http_response api::get_events(const routed_request& r) {
  if (++streams_ > options_.most_event_streams) {
    --streams_;
    return to_response({503, "too_many_streams", "This node streams events to as many readers as it may.", {}, {}, 5});
  }
  auto wanted = r.parameter("figures");
  auto stream = std::make_shared<event_stream>(*this, r.http.client, wanted && *wanted != "0");
  stream->resume(r.http.header("last-event-id"));
  http_response response;
  response.content_type = "text/event-stream; charset=utf-8";
  response.set("Cache-Control", "no-store");
  response.set("X-Accel-Buffering", "no");
  response.endless = true;
  if (r.http.method == "HEAD")
    return response;
  response.stream = [stream](const body_sink& sink) { return stream->run(sink); };
  return response;
}

}  // namespace coordinator
