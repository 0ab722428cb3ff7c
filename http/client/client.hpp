#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "http/client/endpoint.hpp"

namespace httplib {
class Client;
}

namespace coordinator {

/// Unsafe methods get an Idempotency-Key unless the request says that it needs none, because the operation is
/// idempotent by itself (complete and fail by attempt) or because a lost answer is harmless (claim, heartbeat).
enum class once { by_key, by_nature };

struct client_request {
  std::string method = "GET";
  std::string path;  ///< With its query; parts already percent-encoded.
  std::string body;
  std::string content_type = "application/json";
  std::map<std::string, std::string> headers;
  once applied = once::by_key;
  /// How long a node may be silent before the next one is asked.
  std::chrono::milliseconds answer_within{6500};
  /// How long the node may wait out an election, sent as X-Request-Timeout-Ms; below `answer_within`, so that its
  /// own verdict comes before ours.
  std::chrono::milliseconds election_wait{5000};
};

struct client_reply {
  int status = 0;  ///< 0: no node answered; `failure` says why.
  std::string body;
  std::string etag;
  std::string next_cursor;  ///< X-Next-Cursor.
  std::string crc32c;       ///< Content-CRC32C.
  std::string node;         ///< X-Coordinator-Node, or the URL where that is missing.
  std::string failure;

  bool answered() const { return status != 0; }
  bool ok() const { return status >= 200 && status < 300; }
};

struct client_options {
  std::chrono::milliseconds connect_timeout{1000};
  /// How long `send` goes on trying, over all nodes.
  std::chrono::milliseconds give_up_after{15000};
  /// False: one try at one node, whatever comes of it.
  bool retry = true;
  /// The node to begin with, so that many workers spread over the nodes.
  std::size_t first = 0;
};

/// An HTTP client of a whole cluster. It stays with the node that answers, and moves to the next one when a node
/// refuses the connection, breaks it, stays silent or says 503. A retry carries the key of the first try, so that no
/// write is applied twice. A node that said Retry-After is left alone for that long (at most 30 s), and so is one
/// that did not answer, for 50 ms at first and for 1 s at most.
///
/// `send` belongs to one thread at a time; `interrupt` and `stop` may be called from any.
class client {
 public:
  explicit client(std::vector<endpoint> nodes, client_options options = {});
  ~client();
  client(const client&) = delete;
  client& operator=(const client&) = delete;

  /// The first definite answer; after `give_up_after` the last 429 or 503, or a reply with status 0. Never throws.
  client_reply send(const client_request& request);

  /// Ends the try that is under way, as if its node had broken the connection. Without one, does nothing.
  void interrupt();

  /// Ends the send under way and makes every later one return at once with status 0.
  void stop();

  /// The node that answered last, or that is tried next: an index for `prefer`. From any thread.
  std::size_t current() const { return current_; }

  /// Begins the next `send` at this node, unless it is put off.
  void prefer(std::size_t node) { current_ = node % nodes_.size(); }

 private:
  using clock = std::chrono::steady_clock;

  struct node_state {
    clock::time_point not_before{};
    std::chrono::milliseconds pause{50};
  };

  /// What one try at one node gave; `retry_after` is what the node asked for.
  struct outcome {
    client_reply reply;
    std::chrono::milliseconds retry_after{1000};
  };

  outcome attempt(const client_request& request, const std::string& key, clock::time_point deadline);
  std::shared_ptr<httplib::Client> connection_to_current(bool fresh);
  bool pick_node(clock::time_point deadline);
  void put_off_current(clock::time_point until);

  std::vector<endpoint> nodes_;
  client_options options_;
  std::vector<node_state> states_;
  std::atomic<std::size_t> current_;

  std::mutex mutex_;
  std::condition_variable stop_requested_;
  bool stopped_ = false;
  std::size_t connected_to_;
  std::shared_ptr<httplib::Client> connection_;
};

/// 128 random bits as hexadecimal digits: an idempotency key, a run's or a task's id.
std::string random_id();

}  // namespace coordinator
