#include "http/client/client.hpp"

#include <httplib.h>
#include <sys/random.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace coordinator {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds first_pause{50};
constexpr milliseconds longest_pause{1000};
constexpr milliseconds longest_retry_after{30000};

milliseconds retry_after_of(const httplib::Response& response) {
  // A date is allowed by RFC 9110, but no coordinator sends one; it reads as zero here and becomes the default.
  auto seconds = std::atol(response.get_header_value("Retry-After").c_str());
  return seconds <= 0 ? milliseconds{1000} : std::min(longest_retry_after, milliseconds{1000} * std::min(seconds, 30L));
}

httplib::Request to_httplib(const client_request& request, const std::string& key) {
  httplib::Request result;
  result.method = request.method;
  result.path = request.path;
  result.body = request.body;
  for (auto& [name, value] : request.headers)
    result.headers.emplace(name, value);
  if (!request.body.empty())
    result.headers.emplace("Content-Type", request.content_type);
  if (!key.empty())
    result.headers.emplace("Idempotency-Key", key);
  return result;
}

client_reply from_httplib(const httplib::Response& response, const endpoint& node) {
  client_reply result;
  result.status = response.status;
  result.body = response.body;
  result.etag = response.get_header_value("ETag");
  result.next_cursor = response.get_header_value("X-Next-Cursor");
  result.crc32c = response.get_header_value("Content-CRC32C");
  result.node = response.get_header_value("X-Coordinator-Node");
  if (result.node.empty())
    result.node = node.url();
  return result;
}

const char* in_words(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
    case httplib::Error::ConnectionTimeout:
      return "no connection";
    case httplib::Error::Read:
      return "no answer";
    case httplib::Error::Write:
      return "the connection broke";
    default:
      return "not reachable";
  }
}

}  // namespace

std::string random_id() {
  unsigned char bytes[16];
  // getrandom of 16 bytes neither blocks nor fails once the system is up.
  while (::getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) {
  }
  static constexpr char hex[] = "0123456789abcdef";
  std::string result;
  for (auto byte : bytes) {
    result += hex[byte >> 4];
    result += hex[byte & 15];
  }
  return result;
}

client::client(std::vector<endpoint> nodes, client_options options)
    : nodes_(std::move(nodes)),
      options_(options),
      states_(nodes_.size()),
      current_(options.first % nodes_.size()),
      connected_to_(nodes_.size()) {}

client::~client() = default;

client_reply client::send(const client_request& request) {
  auto deadline = clock::now() + options_.give_up_after;
  auto safe = request.method == "GET" || request.method == "HEAD";
  auto key = safe || request.applied == once::by_nature ? std::string{} : random_id();
  client_reply last;
  last.failure = "no coordinator answered";
  while (pick_node(deadline)) {
    auto [reply, retry_after] = attempt(request, key, deadline);
    if (!options_.retry)
      return std::move(reply);
    auto now = clock::now();
    if (!reply.answered()) {
      put_off_current(now + states_[current_].pause);
      states_[current_].pause = std::min(longest_pause, states_[current_].pause * 2);
      // A definite "not now" from one node says more than the silence of another.
      if (!last.answered())
        last = std::move(reply);
      continue;
    }
    states_[current_].pause = first_pause;
    if (reply.status == 503) {
      put_off_current(now + retry_after);
    } else if (reply.status == 429) {
      // A queue limit is the whole cluster's: another node would say the same.
      for (auto& state : states_)
        state.not_before = std::max(state.not_before, now + retry_after);
    } else {
      return std::move(reply);
    }
    last = std::move(reply);
  }
  return last;
}

client::outcome client::attempt(const client_request& request, const std::string& key, clock::time_point deadline) {
  outcome result;
  auto& node = nodes_[current_];
  // A connection that was kept open may have been closed by the node at the very moment we use it. That says
  // nothing against the node, so the first failure on an old connection is tried once more on a new one.
  for (auto fresh : {false, true}) {
    bool reused;
    {
      std::lock_guard lock{mutex_};
      reused = !fresh && connected_to_ == current_ && connection_ && connection_->is_socket_open();
    }
    auto connection = connection_to_current(fresh);
    if (!connection) {
      result.reply.failure = "stopped";
      return result;
    }
    auto left = std::max(milliseconds{50}, std::chrono::duration_cast<milliseconds>(deadline - clock::now()));
    connection->set_connection_timeout(std::min(options_.connect_timeout, left));
    connection->set_read_timeout(std::min(request.answer_within, left));
    connection->set_write_timeout(std::min(request.answer_within, left));
    auto message = to_httplib(request, key);
    message.headers.emplace("X-Request-Timeout-Ms", std::to_string(std::min(request.election_wait, left).count()));
    auto started = clock::now();
    auto answer = connection->send(message);
    if (answer) {
      result.reply = from_httplib(*answer, node);
      result.retry_after = retry_after_of(*answer);
      return result;
    }
    result.reply.failure = node.url() + ": " + in_words(answer.error());
    if (!reused || clock::now() - started > milliseconds{500})
      return result;
  }
  return result;
}

std::shared_ptr<httplib::Client> client::connection_to_current(bool fresh) {
  std::lock_guard lock{mutex_};
  if (stopped_)
    return nullptr;
  if (fresh || !connection_ || connected_to_ != current_) {
    connection_ = std::make_shared<httplib::Client>(nodes_[current_].host, nodes_[current_].port);
    connection_->set_keep_alive(true);
    connection_->set_tcp_nodelay(true);
    connection_->set_url_encode(false);
    connected_to_ = current_;
  }
  return connection_;
}

/// Makes the present node, or else the next one that is not put off, the current one; waits for the first of them
/// where all are put off. False when stopped, or when the wait would pass the deadline.
bool client::pick_node(clock::time_point deadline) {
  std::unique_lock lock{mutex_};
  while (!stopped_) {
    auto now = clock::now();
    std::size_t earliest = current_;
    for (std::size_t step = 0; step < nodes_.size(); ++step) {
      auto node = (current_ + step) % nodes_.size();
      if (states_[node].not_before <= now) {
        current_ = node;
        return now < deadline;
      }
      if (states_[node].not_before < states_[earliest].not_before)
        earliest = node;
    }
    if (states_[earliest].not_before >= deadline)
      return false;
    stop_requested_.wait_until(lock, states_[earliest].not_before);
  }
  return false;
}

void client::put_off_current(clock::time_point until) {
  states_[current_].not_before = until;
}

void client::interrupt() {
  std::lock_guard lock{mutex_};
  if (connection_)
    connection_->stop();
}

void client::stop() {
  std::lock_guard lock{mutex_};
  stopped_ = true;
  if (connection_)
    connection_->stop();
  stop_requested_.notify_all();
}

}  // namespace coordinator
