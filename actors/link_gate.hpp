#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "actors/link_socket.hpp"
#include "actors/link_tls.hpp"

namespace coordinator {

struct gate_options {
  /// Handshakes under way at once. When one more comes, the oldest that has shown no proof of the secret has to go,
  /// so that strangers who say nothing cost a peer nothing.
  std::size_t max_handshakes = 256;
  /// For the whole handshake of one connection.
  std::chrono::milliseconds handshake_deadline{1000};
};

/// What became of connections since the start.
struct gate_counters {
  std::uint64_t accepted = 0;
  std::uint64_t admitted = 0;   ///< Proved to know the secret.
  std::uint64_t refused = 0;    ///< Wrong secret, no TLS, garbage, or closed by the other side.
  std::uint64_t timed_out = 0;  ///< Handshake not over by its deadline.
  std::uint64_t evicted = 0;    ///< Made room for a newer connection.
  std::uint64_t dropped = 0;    ///< Closed unseen, for want of descriptors.
  std::uint64_t rounds = 0;     ///< Times that the gate woke up; does not grow while nothing happens.
};

/// Stands before everything that listens for peers: accepts connections, does the TLS handshake of each, and hands on
/// only those whose other side has proved to know the cluster secret; all others are closed in bounded time.
/// One thread does this for all connections, without ever waiting for one of them.
class link_gate {
 public:
  /// Receives a proven connection, on the gate's thread; must neither block nor throw.
  using admit_function = std::function<void(file_descriptor, tls_session)>;

  /// `listener` comes from listen_on. Begins at once. Throws std::system_error if the system gives no thread or
  /// descriptors.
  link_gate(file_descriptor listener, std::shared_ptr<const tls_context>, gate_options, admit_function);
  link_gate(const link_gate&) = delete;
  link_gate& operator=(const link_gate&) = delete;
  /// Stops, closes the handshakes under way and waits for the thread, which takes no longer than one call of
  /// `admit`. Nothing is admitted afterwards.
  ~link_gate();

  std::uint16_t port() const { return port_; }
  gate_counters counters() const;

 private:
  class loop;

  struct shared_counters {
    std::atomic<std::uint64_t> accepted{0}, admitted{0}, refused{0}, timed_out{0}, evicted{0}, dropped{0}, rounds{0};
  };

  std::uint16_t port_;
  shared_counters counters_;
  file_descriptor stop_;
  std::thread thread_;
};

}  // namespace coordinator
