#include "http/http_server.hpp"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "http/answer_text.hpp"
#include "http/problem.hpp"

namespace coordinator {
namespace {

void set_option(socket_t socket, int level, int name, int value) {
  ::setsockopt(socket, level, name, &value, sizeof value);
}

/// Of a listener; its connections inherit it. A worker's machine may vanish during a long poll; then nothing but probes
/// tells.
void prepare(socket_t socket) {
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, 20);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

connection_limits quick(connection_limits limits, std::chrono::milliseconds patience) {
  limits.head_timeout = limits.body_timeout = patience;
  limits.head_bytes = 4 * 1024;
  return limits;
}

/// A thread is busy for a moment after its connection went back, and each connection may need one.
connection_threads::settings with_room(connection_threads::settings threads) {
  threads.limit += 64;
  return threads;
}

}  // namespace

class http_server::watch : public client_watch {
 public:
  watch(socket_t socket, const connection_loop& loop) : socket_(socket), loop_(loop) {}

  bool gone() const override {
    pollfd p{socket_, POLLRDHUP, 0};
    return ::poll(&p, 1, 0) > 0;
  }
  bool stopping() const override { return loop_.stopping(); }
  std::size_t unsent() const override {
    int bytes = 0;
    return ::ioctl(socket_, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
  }

 private:
  socket_t socket_;
  const connection_loop& loop_;
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
  prepare(svr_sock_);
  threads_ = std::make_unique<connection_threads>(with_room(options_.threads));
  spare_threads_ = std::make_unique<connection_threads>(options_.spare_threads);
  connection_loop::threads jobs;
  jobs.run = [this](auto job) { return threads_->run(std::move(job)); };
  jobs.run_spare = [this](auto job) { return spare_threads_->run(std::move(job)); };
  jobs.serve = [this](connection& client, request_head head) { return serve(client, head); };
  jobs.serve_probe = [this](connection& client) { serve_probe(client); };
  // svr_sock_ itself keeps its value to the end: the library takes an invalid one as word to break streams off.
  loop_ = std::make_unique<connection_loop>(
      connection_loop::settings{options_.limits, options_.threads.limit, keep_alive_}, svr_sock_, handler_, jobs);
  loop_->start();
  return {};
}

void http_server::stop(std::chrono::milliseconds grace) {
  if (!loop_)
    return;
  loop_->drain();
  loop_->await_end(grace);
  loop_->break_off();
  threads_.reset();
  spare_threads_.reset();
  loop_.reset();
}

std::size_t http_server::connections() const {
  return loop_ ? loop_->connections() : 0;
}

/// One request, which has to be a probe, on a connection past the limit.
void http_server::serve_probe(connection& given) {
  connection client{given.socket(), spare_limits_};
  std::string text;
  if (!client.wait_for_request(spare_limits_.head_timeout))
    return;
  auto response = to_response(too_many_connections());
  if (client.read_head(text) != connection::outcome::ok) {
    send(client, nullptr, std::move(response), false);
    return;
  }
  auto parsed = parse_request_head(text);
  auto head = std::get_if<request_head>(&parsed);
  if (head && handler_.is_probe(head->request)) {
    const watch watched{client.socket(), *loop_};
    bool keep_alive = false;
    response = answer(client, *head, watched, keep_alive);
  }
  send(client, head, std::move(response), false);
}

/// True if the connection may carry another request.
bool http_server::serve(connection& client, request_head& head) {
  bool keep_alive = head.keep_alive;
  const watch watched{client.socket(), *loop_};
  auto response = answer(client, head, watched, keep_alive);
  return send(client, &head, std::move(response), keep_alive && !loop_->stopping());
}

http_response http_server::answer(connection& client, request_head& head, const watch& watched, bool& keep_alive) {
  auto& request = head.request;
  request.peer_address = client.peer_address();
  request.from_loopback = client.from_loopback();
  request.client = &watched;
  auto limit = std::min(handler_.plan_of(request).body_limit, options_.limits.body_bytes);
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
      return to_response(request_late("body"));
    default:
      return to_response(malformed("The body ended early or its chunks are malformed."));
  }
  try {
    return handler_.answer(request);
  } catch (const std::exception& e) {
    return after_exception(request, e);
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
