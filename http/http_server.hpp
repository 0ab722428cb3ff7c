#pragma once

#include <httplib.h>

#include <chrono>
#include <memory>
#include <string>

#include "http/connection.hpp"
#include "http/connection_loop.hpp"
#include "http/connection_threads.hpp"
#include "http/message.hpp"

namespace coordinator {

struct http_server_options {
  std::string host = "127.0.0.1";
  int port = 8080;  ///< 0: the system picks one.
  connection_limits limits;
  connection_threads::settings threads;  ///< Its limit is that of connections, too.
  /// Connections past the limit of `threads`: each gets one probe answered, or is refused.
  connection_threads::settings spare_threads{16, std::chrono::milliseconds{1'000}};
  /// For the first request of such a connection to arrive.
  std::chrono::milliseconds spare_patience{1'000};
  int backlog = 1024;
};

/// The HTTP port of a node: cpp-httplib with its measured limits lifted. It listens with a real backlog, serves all
/// connections by one `connection_loop`, what may wait by a thread of its own, and reads requests under deadlines (see
/// `connection`); cpp-httplib binds the port and frames the streamed answers. All requests go to one handler.
class http_server : private httplib::Server {
 public:
  http_server(http_server_options options, request_handler& handler);
  /// As `stop` without grace.
  ~http_server() override;

  /// Binds and begins to accept. On failure says why, in one sentence for the operator; empty: it runs.
  [[nodiscard]] std::string start();
  /// The port it listens on.
  int port() const { return port_; }

  /// Accepts no more, closes connections without a request, and lets the others finish theirs until `grace` has
  /// passed; then breaks them off. Waits for all handlers to return.
  void stop(std::chrono::milliseconds grace);

  /// Live connections.
  std::size_t connections() const;

 private:
  class watch;
  struct exchange;

  bool serve(connection& client, request_head& head);
  void serve_probe(connection& given);
  http_response answer(connection& client, request_head& head, const watch& watched, bool& keep_alive);
  bool send(connection& client, const request_head* head, http_response response, bool keep_alive);
  void write_whole(connection& client, const http_response& response, bool for_head, bool keep_alive);
  bool write_stream(connection& client, const request_head* head, http_response response, bool for_head,
                    bool& keep_alive);
  void fill_response(httplib::Response& to);
  // The library's own loop is never run.
  bool process_and_close_socket(socket_t) override { return false; }

  const http_server_options options_;
  const connection_limits spare_limits_;
  std::string keep_alive_;  ///< What the header of that name says.
  request_handler& handler_;
  int port_ = 0;
  std::unique_ptr<connection_threads> threads_;
  std::unique_ptr<connection_threads> spare_threads_;
  std::unique_ptr<connection_loop> loop_;
};

}  // namespace coordinator
