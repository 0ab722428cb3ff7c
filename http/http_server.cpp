#include "http/http_server.hpp"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "http/problem.hpp"

namespace coordinator {
namespace {

void set_option(socket_t socket, int level, int name, int value) {
  ::setsockopt(socket, level, name, &value, sizeof value);
}

/// A worker's machine may vanish during a long poll; then nothing but probes tells.
void prepare(socket_t socket) {
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, 20);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

problem timed_out(const char* what) {
  return {408, "request_timeout", std::string{"The request's "} + what + " did not arrive in time.", {}, {}, {}};
}

/// RFC 9110 §15, RFC 6585, RFC 4918: of the statuses that are used.
std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 428:
      return "Precondition Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "";
  }
}

/// What would end the line is no header: nobody may add headers of his own through a value of ours.
void add_header(std::string& text, std::string_view name, std::string_view value) {
  constexpr std::string_view line_ends = "\r\n";
  if (name.find_first_of(line_ends) == name.npos && value.find_first_of(line_ends) == value.npos)
    text.append(name).append(": ").append(value).append("\r\n");
}

/// The head of an answer whose body is there; without `keep_alive` it is the connection's last.
std::string head_of(const http_response& response, std::string_view keep_alive) {
  std::string text;
  text.reserve(512);
  text.append("HTTP/1.1 ").append(std::to_string(response.status)).append(" ").append(reason_of(response.status));
  text += "\r\n";
  for (auto& [name, value] : response.headers)
    add_header(text, name, value);
  if (keep_alive.empty())
    add_header(text, "Connection", "close");
  else
    add_header(text, "Keep-Alive", keep_alive);
  if (!response.content_type.empty())
    add_header(text, "Content-Type", response.content_type);
  add_header(text, "Content-Length", std::to_string(response.body.size()));
  text += "\r\n";
  return text;
}

connection_limits quick(connection_limits limits, std::chrono::milliseconds patience) {
  limits.head_timeout = limits.body_timeout = patience;
  limits.head_bytes = 4 * 1024;
  return limits;
}

problem full() {
  return {503, "too_many_connections", "This node has no room for another connection.", {}, {}, 1};
}

}  // namespace

class http_server::watch : public client_watch {
 public:
  watch(socket_t socket, const std::atomic<bool>& stopping) : socket_(socket), stopping_(stopping) {}

  bool gone() const override {
    pollfd p{socket_, POLLRDHUP, 0};
    return ::poll(&p, 1, 0) > 0;
  }
  bool stopping() const override { return stopping_; }
  std::size_t unsent() const override {
    int bytes = 0;
    return ::ioctl(socket_, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
  }

 private:
  socket_t socket_;
  const std::atomic<bool>& stopping_;
};

/// The answer that cpp-httplib is about to write on this thread.
struct http_server::exchange {
  http_response response;
  bool keep_alive;
  bool chunks;
  connection& client;

  static thread_local exchange* current;
};

thread_local http_server::exchange* http_server::exchange::current = nullptr;

http_server::http_server(http_server_options options, request_handler& handler)
    : options_(std::move(options)), spare_limits_(quick(options_.limits, options_.spare_patience)), handler_(handler) {
  // The library's default is SO_REUSEPORT, with which two programs of one user share a port unawares.
  set_socket_options([](socket_t socket) { set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1); });
  set_keep_alive_timeout(std::chrono::duration_cast<std::chrono::seconds>(options_.limits.idle_timeout).count());
  constexpr std::size_t requests = 1'000'000;
  set_keep_alive_max_count(requests);
  keep_alive_ = "timeout=" +
                std::to_string(std::chrono::duration_cast<std::chrono::seconds>(options_.limits.idle_timeout).count()) +
                ", max=" + std::to_string(requests);
  set_pre_routing_handler([this](const httplib::Request&, httplib::Response& response) {
    fill_response(response);
    return HandlerResponse::Handled;
  });
  set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
    if (exchange::current->keep_alive)
      return;
    response.headers.erase("Keep-Alive");
    response.headers.erase("Connection");
    response.set_header("Connection", "close");
  });
}

http_server::~http_server() {
  stop(std::chrono::milliseconds{0});
}

std::string http_server::start() {
  auto host = options_.host;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  errno = 0;
  port_ = options_.port == 0 ? bind_to_any_port(host) : (bind_to_port(host, options_.port) ? options_.port : -1);
  if (port_ < 0 || ::listen(svr_sock_, options_.backlog) != 0) {
    auto why = errno;
    auto where = options_.host + ":" + std::to_string(options_.port);
    if (why == EADDRINUSE)
      return "cannot listen for HTTP on " + where + ": the port is in use by another program";
    return "cannot listen for HTTP on " + where + ": " +
           (why == 0 ? std::string{"the address cannot be resolved"} : std::string{std::strerror(why)});
  }
  // svr_sock_ itself keeps its value to the end: the library takes an invalid one as word to break streams off.
  listener_ = svr_sock_;
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  threads_ = std::make_unique<connection_threads>(options_.threads);
  spare_threads_ = std::make_unique<connection_threads>(options_.spare_threads);
  acceptor_ = std::thread{[this] { accept_loop(); }};
  return {};
}

void http_server::stop(std::chrono::milliseconds grace) {
  if (!acceptor_.joinable())
    return;
  stopping_ = true;
  std::uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
  acceptor_.join();
  ::close(listener_);
  {
    std::unique_lock lock{mutex_};
    for (auto& [socket, idle] : live_)
      if (idle)
        ::shutdown(socket, SHUT_RDWR);
    changed_.wait_for(lock, grace, [this] { return live_.empty(); });
    for (auto& [socket, idle] : live_)
      ::shutdown(socket, SHUT_RDWR);
  }
  threads_.reset();
  spare_threads_.reset();
  ::close(wake_);
}

std::size_t http_server::connections() const {
  std::lock_guard lock{mutex_};
  return live_.size();
}

// The library's own loop ends the server on any error of accept but three, so this one is ours.
void http_server::accept_loop() {
  while (!stopping_) {
    pollfd p[2] = {{listener_, POLLIN, 0}, {wake_, POLLIN, 0}};
    if (::poll(p, 2, -1) < 0 && errno != EINTR)
      break;
    if (p[0].revents == 0)
      continue;
    if (!accept_one()) {
      // Out of descriptors or memory: the connection stays in the backlog until one is free.
      pollfd wake{wake_, POLLIN, 0};
      ::poll(&wake, 1, 20);
    }
  }
}

bool http_server::accept_one() {
  auto socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket < 0)
    return errno == EINTR || errno == EAGAIN || errno == ECONNABORTED;
  prepare(socket);
  {
    std::lock_guard lock{mutex_};
    live_.emplace(socket, true);
  }
  if (!threads_->run([this, socket] { process_and_close_socket(socket); }) &&
      !spare_threads_->run([this, socket] { handle(socket, spare_limits_, &http_server::serve_probe); })) {
    refuse(socket);
    std::lock_guard lock{mutex_};
    live_.erase(socket);
    ::close(socket);
  }
  return true;
}

void http_server::refuse(socket_t socket) {
  auto response = to_response(full());
  handler_.complete(response);
  auto text = head_of(response, {}) + response.body;
  (void)!::send(socket, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool http_server::process_and_close_socket(socket_t socket) {
  handle(socket, options_.limits, &http_server::serve);
  return true;
}

void http_server::handle(socket_t socket, const connection_limits& limits, void (http_server::*serve)(connection&)) {
  try {
    connection client{socket, limits};
    (this->*serve)(client);
  } catch (const std::exception& e) {
    spdlog::error("http: a connection ended by an exception: {}", e.what());
  }
  // Under the lock, so that stop never shuts down a descriptor that has been given to somebody else.
  std::lock_guard lock{mutex_};
  live_.erase(socket);
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
  changed_.notify_all();
}

/// False once the server is being stopped: a connection that was idle then gets no further request in.
bool http_server::set_idle(socket_t socket, bool idle) {
  std::lock_guard lock{mutex_};
  live_[socket] = idle;
  return !stopping_;
}

void http_server::serve(connection& client) {
  // One that has not yet said anything gets the time of a head, not that of a client between two requests.
  auto patience = options_.limits.head_timeout;
  while (set_idle(client.socket(), true) && client.wait_for_request(patience)) {
    set_idle(client.socket(), false);
    if (!serve_one(client))
      return;
    patience = options_.limits.idle_timeout;
  }
}

/// One request, which has to be a probe, on a connection past the limit.
void http_server::serve_probe(connection& client) {
  std::string text;
  if (!set_idle(client.socket(), true) || !client.wait_for_request(spare_limits_.head_timeout))
    return;
  set_idle(client.socket(), false);
  auto response = to_response(full());
  if (client.read_head(text) != connection::outcome::ok) {
    send(client, nullptr, std::move(response), false);
    return;
  }
  auto parsed = parse_request_head(text);
  auto head = std::get_if<request_head>(&parsed);
  if (head && handler_.is_probe(head->request)) {
    const watch watched{client.socket(), stopping_};
    bool keep_alive = false;
    response = answer(client, *head, watched, keep_alive);
  }
  send(client, head, std::move(response), false);
}

/// True if the connection may carry another request.
bool http_server::serve_one(connection& client) {
  std::string text;
  auto outcome = client.read_head(text);
  if (outcome == connection::outcome::closed)
    return false;
  if (outcome == connection::outcome::timed_out)
    return send(client, nullptr, to_response(timed_out("head")), false);
  if (outcome != connection::outcome::ok)
    return send(client, nullptr, to_response({431, "head_too_large", "The request's head is too large.", {}, {}, {}}),
                false);
  auto parsed = parse_request_head(text);
  if (auto wrong = std::get_if<problem>(&parsed))
    return send(client, nullptr, to_response(*wrong), false);
  auto& head = std::get<request_head>(parsed);
  bool keep_alive = head.keep_alive;
  const watch watched{client.socket(), stopping_};
  auto response = answer(client, head, watched, keep_alive);
  return send(client, &head, std::move(response), keep_alive && !stopping_);
}

http_response http_server::answer(connection& client, request_head& head, const watch& watched, bool& keep_alive) {
  auto& request = head.request;
  request.peer_address = client.peer_address();
  request.from_loopback = client.from_loopback();
  request.client = &watched;
  auto limit = std::min(handler_.body_limit(request), options_.limits.body_bytes);
  bool announced_too_much = head.content_length.value_or(0) > limit;
  if (head.expects_continue && !announced_too_much) {
    constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    client.write(go_on.data(), go_on.size());
  }
  auto outcome = client.read_body(head, limit, request.body);
  if (outcome != connection::outcome::ok)
    keep_alive = false;
  switch (outcome) {
    case connection::outcome::ok:
      break;
    case connection::outcome::too_large:
      return to_response(too_large("The body is larger than " + std::to_string(limit) + " bytes."));
    case connection::outcome::timed_out:
      return to_response(timed_out("body"));
    default:
      return to_response(malformed("The body ended early or its chunks are malformed."));
  }
  try {
    return handler_.answer(request);
  } catch (const std::exception& e) {
    spdlog::error("http: {} {} ended by an exception: {}", request.method, request.path, e.what());
    return to_response({500, "internal_error", "The request could not be handled.", {}, {}, {}});
  }
}

bool http_server::send(connection& client, const request_head* head, http_response response, bool keep_alive) {
  handler_.complete(response);
  client.begin_answer(response.endless);
  bool for_head = head && head->request.method == "HEAD";
  if (!response.stream)
    write_whole(client, response, for_head, keep_alive);
  else if (!write_stream(client, head, std::move(response), for_head, keep_alive))
    return false;
  if (!client.flush())
    return false;
  if (!keep_alive)
    client.linger();
  return keep_alive;
}

/// An answer whose body is there. The library would copy each header three times into maps and streams, which takes
/// longer than all else that is done for a small request.
void http_server::write_whole(connection& client, const http_response& response, bool for_head, bool keep_alive) {
  auto head = head_of(response, keep_alive ? std::string_view{keep_alive_} : std::string_view{});
  client.write(head.data(), head.size());
  if (!for_head)
    client.write(response.body.data(), response.body.size());
}

/// An answer that comes piece by piece is framed by the library. False: it could not be sent whole.
bool http_server::write_stream(connection& client, const request_head* head, http_response response, bool for_head,
                               bool& keep_alive) {
  bool chunks = !head || !head->http_1_0;
  if (!chunks)
    keep_alive = false;
  exchange now{std::move(response), keep_alive, chunks, client};
  exchange::current = &now;
  // The library parses a head of our own making, for only the answer is left to do: its parser decodes header
  // values, matches ranges by a recursive regular expression, and knows nothing of two lengths.
  client.present(for_head ? "HEAD / HTTP/1.1\r\n\r\n" : "GET / HTTP/1.1\r\n\r\n");
  bool closed = false;
  auto written = process_request(client, false, closed, nullptr);
  exchange::current = nullptr;
  return written;
}

void http_server::fill_response(httplib::Response& to) {
  auto& now = *exchange::current;
  auto& from = now.response;
  to.status = from.status;
  for (auto& [name, value] : from.headers)
    to.set_header(name, value);
  auto provider = [&now](std::size_t, httplib::DataSink& sink) {
    now.client.write_through();
    bool complete = now.response.stream([&](std::string_view piece) {
      return piece.empty() || (sink.write(piece.data(), piece.size()) && sink.is_writable());
    });
    if (complete)
      sink.done();
    return complete;
  };
  if (now.chunks)
    to.set_chunked_content_provider(from.content_type, provider);
  else
    to.set_content_provider(from.content_type, provider);
}

}  // namespace coordinator
