#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace coordinator {

/// A name and a value. The names of a request's headers are in lower case; values are as they came.
using header_list = std::vector<std::pair<std::string, std::string>>;

/// What a handler that waits may ask about the connection that waits for it. Thread-safe.
class client_watch {
 public:
  virtual ~client_watch() = default;
  /// True once the client has gone; nobody will read the answer.
  virtual bool gone() const = 0;
  /// True once the server is being stopped; a long poll should then end.
  virtual bool stopping() const = 0;
  /// Bytes of answers that have been handed to the system, and that the client has not taken yet.
  virtual std::size_t unsent() const { return 0; }
};

/// One request, its body read whole.
struct http_request {
  std::string method;
  std::string path;   ///< Percent-encoded, as it came: routing must not take %2F for a separator.
  std::string query;  ///< What follows the '?', as it came.
  header_list headers;
  std::string body;
  std::string peer_address;
  bool from_loopback = false;
  /// Null where there is no connection to watch. Valid until the answer has been sent, also while it is streamed.
  const client_watch* client = nullptr;

  /// The first header of that name, which is to be given in lower case.
  std::optional<std::string_view> header(std::string_view name) const {
    auto i = std::find_if(headers.begin(), headers.end(), [&](auto& h) { return h.first == name; });
    if (i == headers.end())
      return std::nullopt;
    return i->second;
  }
};

/// Takes a piece of a streamed body; false once the client is gone, and the producer should end.
using body_sink = std::function<bool(std::string_view)>;

/// One answer: a body, or a producer that is called once and streams it in chunks.
struct http_response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  header_list headers;
  /// Returns false to break the connection off, so that the client does not take a part for the whole.
  std::function<bool(const body_sink&)> stream;
  /// For a stream without an end, such as events: no limit on its whole duration.
  bool endless = false;

  void set(std::string name, std::string value) { headers.emplace_back(std::move(name), std::move(value)); }
};

/// An answer that is not there yet.
struct awaited_response {
  /// Makes the answer of what came; on a thread of the server's, at most once.
  using maker = std::function<http_response()>;
  /// Takes the maker, once what was waited for is there: at most once, perhaps late or never, on any thread, and it
  /// only hands the maker over.
  using completion = std::function<void(maker)>;

  /// Starts what is waited for; does not block.
  std::function<void(completion)> start;
  /// The answer when none came within `timeout`, or before the server was stopped.
  std::function<http_response(bool stopping)> give_up;
  std::chrono::milliseconds timeout{5'000};
  /// Nobody needs the answer once the client has gone; a write's is waited for all the same.
  bool needs_client = false;
  /// Given up as soon as the server is being stopped.
  bool long_poll = false;
};

using reply = std::variant<http_response, awaited_response>;

/// What a server asks of the program behind it. All calls may come from many threads at once.
class request_handler {
 public:
  /// What a request's head says of how it is to be taken in.
  struct plan {
    std::size_t body_limit = 0;  ///< Larger bodies are answered 413.
    bool quick = false;          ///< `begin` neither blocks nor streams, and takes little time; the answer likewise.
  };

  virtual ~request_handler() = default;
  /// Called before the body is read.
  virtual plan plan_of(const http_request& head) const = 0;
  /// Around requests that came at the same time, and are begun one after the other on one thread.
  virtual void gather() {}
  virtual void hand_over() {}
  /// Answers a quick request, or begins to.
  virtual reply begin(http_request& request) = 0;
  /// Answers any request on the caller's thread, for as long as that takes.
  virtual http_response answer(http_request& request) = 0;
  /// Whether a request is answered at once, and also while as many connections as there may be are busy with others:
  /// then a probe sees a node that is full, and not one that is gone.
  virtual bool is_probe(const http_request&) const { return false; }
  /// Adds what every answer carries; called for the server's own errors, too.
  virtual void complete(http_response& response) const = 0;
};

}  // namespace coordinator
