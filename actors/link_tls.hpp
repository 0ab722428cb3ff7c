#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "actors/link_socket.hpp"

struct ssl_st;
struct ssl_ctx_st;

namespace coordinator {

/// What all nodes of a cluster know and nobody else: the proof that a connection comes from a node.
/// Holds only the key derived from the text; is never logged.
class cluster_secret {
 public:
  /// Text that is shorter, white space at its ends not counted, is no secret.
  static constexpr std::size_t min_length = 32;

  /// Nothing if the text is too short. White space at both ends is ignored, so that a file may end in a newline.
  static std::optional<cluster_secret> from_text(std::string_view);

  const std::array<unsigned char, 32>& key() const { return key_; }

 private:
  cluster_secret() = default;

  std::array<unsigned char, 32> key_{};
};

/// A secret or an error, in words that name the file and what would do. With a secret there may be a warning.
struct loaded_secret {
  std::optional<cluster_secret> secret;
  std::string error;
  std::string warning;
};

/// Reads the secret from a file that somebody named. That others than its owner can read the file is a warning, not
/// an error, because container platforms mount secrets that way.
loaded_secret load_cluster_secret(const std::filesystem::path&);

/// Where nodes on loopback find the secret of their user when none was named:
/// $XDG_STATE_HOME/coordinator/cluster-secret, by default under ~/.local/state. Empty if the user has no home.
std::filesystem::path user_secret_file();

/// Reads that file, and makes it first, with mode 0600, if it is not there. Nodes that start at the same time get the
/// same secret. That others can read or write it is an error here: it was made for its owner alone.
loaded_secret load_or_make_user_secret(const std::filesystem::path&);

/// What TLS 1.3 with the cluster's pre-shared key needs, for both sides of a connection. There are no certificates and
/// no tickets: who does not know the secret gets no further than the first message. Each connection has keys of its
/// own that the secret alone does not give away (PSK with a Diffie-Hellman exchange).
/// Making the first one ignores SIGPIPE for the process: OpenSSL writes to sockets that may be closed.
class tls_context {
 public:
  explicit tls_context(const cluster_secret&);

  ssl_ctx_st* get() const { return context_.get(); }

 private:
  std::array<unsigned char, 32> key_;
  std::unique_ptr<ssl_ctx_st, void (*)(ssl_ctx_st*)> context_;
};

enum class tls_side : std::uint8_t { client, server };

/// The TLS state of one connection over a non-blocking socket that somebody else owns and keeps open meanwhile. The
/// context has to live until the handshake is over.
/// Used by one thread at a time. Leaves OpenSSL's error queue of the thread as it should be found: empty.
class tls_session {
 public:
  tls_session(const tls_context&, int fd, tls_side);

  /// How far a call has come: done, or waiting for the socket, or never to be used again.
  enum class progress : std::uint8_t { done, wants_read, wants_write, failed };

  /// Goes on with the handshake as far as it goes without waiting. Done means that the other side has proved to know
  /// the secret: a session without the pre-shared key fails, whatever certificate came instead.
  progress handshake();
  /// The other side has shown a proof that depends on the secret, though the handshake is not over.
  bool has_proof() const;

  /// Reads or writes some bytes, and says how many in `done`.
  progress read(void* data, std::size_t size, std::size_t& done);
  progress write(const void* data, std::size_t size, std::size_t& done);
  /// Once the handshake is over: takes from the socket what there is, instead of a record's head and then its body.
  void read_ahead();
  /// Something has been taken from the socket and not been read yet, if only a part of a record. The socket will not
  /// announce it.
  bool has_pending() const;

  /// Why it failed, for people.
  const std::string& error() const { return error_; }

 private:
  progress judge(int result);

  std::unique_ptr<ssl_st, void (*)(ssl_st*)> ssl_;
  std::string error_;
};

/// Does the whole handshake, waiting for the socket until `deadline` at most. Empty on success.
std::string handshake_until(tls_session&, int fd, std::chrono::steady_clock::time_point deadline);

}  // namespace coordinator
