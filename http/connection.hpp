#pragma once

#include <httplib.h>

#include <chrono>
#include <string>
#include <string_view>

#include "http/request_head.hpp"

namespace coordinator {

/// How long a client may take, and how much it may send.
struct connection_limits {
  std::chrono::milliseconds head_timeout{10'000};  ///< From a request's first byte to the end of its head.
  std::chrono::milliseconds body_timeout{30'000};  ///< For the whole body, however it is cut up.
  std::chrono::milliseconds idle_timeout{75'000};  ///< Between two requests on one connection.
  std::chrono::milliseconds write_stall{10'000};   ///< Without a byte taken by the client.
  std::chrono::milliseconds linger{1'000};         ///< For a client to stop sending after it was refused.
  /// A response may take write_grace and a second more for each write_rate bytes of it.
  std::chrono::milliseconds write_grace{30'000};
  std::size_t write_rate = 32 * 1024;
  std::size_t head_bytes = 32 * 1024;  ///< Of a head whose end has not come; what one read brings may exceed it.
  std::size_t body_bytes = 8 * 1024 * 1024;
};

/// One accepted socket. cpp-httplib's own stream has a time-out for each read, so that a client which drips
/// bytes holds it for ever, and takes chunked bodies of any size; this one has deadlines for the whole of a
/// head and of a body, counts, and keeps what a client pipelined for the next request. It writes through a
/// small buffer, so that head and body of an answer leave in one segment.
///
/// cpp-httplib parses what `present` gave it, never the client's bytes.
class connection : public httplib::Stream {
 public:
  enum class outcome { ok, closed, timed_out, too_large, malformed };

  /// Does not own the descriptor.
  connection(socket_t socket, const connection_limits& limits);

  // What does not wait.

  /// Takes what has arrived: `ok` if anything had, `timed_out` if not, `closed` after the last byte. `drained` is set
  /// where nothing can be left to take.
  outcome receive(bool& drained);
  /// Bytes that were received and not yet taken.
  std::string_view buffered() const { return std::string_view{in_}.substr(in_begin_); }
  void consume(std::size_t count);
  /// Finds a whole head in what was received, up to and including the empty line: `ok`, and `head` refers to it until
  /// the next call; `timed_out` where its end has not come.
  outcome find_head(std::string_view& head);
  /// Sends what is buffered as far as the system takes it; false: some is left. See `broken`.
  bool try_flush();
  /// Buffers without sending.
  void queue(std::string_view text) { out_.append(text); }

  // What waits.

  /// Waits for the first byte of the next request.
  bool wait_for_request(std::chrono::milliseconds timeout);
  /// Reads up to and including the empty line; `ok` fills `head`, without interpreting it.
  outcome read_head(std::string& head);
  /// Reads the body that `head` announces, a chunked one decoded. `too_large` past `limit` bytes.
  outcome read_body(const request_head& head, std::size_t limit, std::string& body);

  /// What cpp-httplib is to read next.
  void present(std::string text);
  /// Sends what is buffered.
  bool flush();
  /// Begins a new answer's time; an endless one is limited by stalls alone.
  void begin_answer(bool endless);
  /// From now on writes leave at once.
  void write_through() { write_through_ = true; }
  /// Whether an answer could not be sent.
  bool broken() const { return broken_; }

  /// Ends our side and waits a moment for the client to end its own: closing with unread bytes would reset the
  /// connection, and the client would lose the answer that says why.
  void linger();

  const std::string& peer_address() const { return peer_address_; }
  bool from_loopback() const { return from_loopback_; }

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  using clock = std::chrono::steady_clock;

  outcome fill(clock::time_point deadline);
  outcome read_line(clock::time_point deadline, std::size_t& budget, std::string& line);
  outcome read_exactly(clock::time_point deadline, std::size_t count, std::string& to);
  outcome read_chunked(clock::time_point deadline, std::size_t limit, std::string& body);

  socket_t socket_;
  const connection_limits& limits_;
  std::string in_;  ///< Received; consumed up to in_begin_.
  std::size_t in_begin_ = 0;
  std::size_t searched_ = 0;  ///< So much of what is buffered holds no end of a head.
  std::string presented_;
  std::size_t presented_begin_ = 0;
  std::string out_;  ///< To be sent; sent up to out_begin_.
  std::size_t out_begin_ = 0;
  bool write_through_ = false;
  bool endless_ = false;
  bool broken_ = false;
  clock::time_point answer_began_;
  std::size_t answer_bytes_ = 0;
  std::string peer_address_;
  int peer_port_ = 0;
  bool from_loopback_ = false;
};

}  // namespace coordinator
