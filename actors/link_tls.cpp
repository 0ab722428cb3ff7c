#include "actors/link_tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <stdexcept>

namespace coordinator {

namespace {

// Both sides name the key by this. It is public; the version changes with the derivation of the key.
constexpr std::string_view psk_identity = "coordinator-link-1";

/// A session that stands for the pre-shared key, as OpenSSL wants it; a new one for each connection.
SSL_SESSION* make_psk_session(SSL* ssl) {
  auto key = static_cast<const std::array<unsigned char, 32>*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  const unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
  auto session = SSL_SESSION_new();
  if (session && SSL_SESSION_set1_master_key(session, key->data(), key->size()) == 1 &&
      SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, aes_128_gcm_sha256)) == 1 &&
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
    return session;
  SSL_SESSION_free(session);
  return nullptr;
}

int use_psk(SSL* ssl, const EVP_MD*, const unsigned char** id, std::size_t* id_size, SSL_SESSION** session) {
  *session = make_psk_session(ssl);
  *id = reinterpret_cast<const unsigned char*>(psk_identity.data());
  *id_size = psk_identity.size();
  return *session ? 1 : 0;
}

int find_psk(SSL* ssl, const unsigned char* id, std::size_t id_size, SSL_SESSION** session) {
  // Without a session OpenSSL goes on to certificates, of which there are none, and ends the handshake.
  auto known = std::string_view{reinterpret_cast<const char*>(id), id_size} == psk_identity;
  *session = known ? make_psk_session(ssl) : nullptr;
  return !known || *session ? 1 : 0;
}

std::string queued_error() {
  auto code = ERR_peek_last_error();
  auto reason = code ? ERR_reason_error_string(code) : nullptr;
  return reason ? reason : "unknown reason";
}

}  // namespace

tls_context::tls_context(const cluster_secret& secret)
    : key_(secret.key()), context_(SSL_CTX_new(TLS_method()), SSL_CTX_free) {
  std::signal(SIGPIPE, SIG_IGN);
  auto context = context_.get();
  if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1)
    throw std::runtime_error("OpenSSL has no TLS 1.3 with TLS_AES_128_GCM_SHA256: " + queued_error());
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_app_data(context, &key_);
  SSL_CTX_set_psk_use_session_callback(context, use_psk);
  SSL_CTX_set_psk_find_session_callback(context, find_psk);
}

tls_session::tls_session(const tls_context& context, int fd, tls_side side) : ssl_(SSL_new(context.get()), SSL_free) {
  if (!ssl_ || SSL_set_fd(ssl_.get(), fd) != 1) {
    ssl_.reset();
    error_ = "out of memory";
    ERR_clear_error();
    return;
  }
  if (side == tls_side::server) {
    SSL_set_accept_state(ssl_.get());
    return;
  }
  SSL_set_connect_state(ssl_.get());
  // An impostor that offers a certificate instead of the key must fail: no authority is trusted.
  SSL_set_verify(ssl_.get(), SSL_VERIFY_PEER, nullptr);
}

tls_session::progress tls_session::judge(int result) {
  auto system_error = errno;
  auto code = SSL_get_error(ssl_.get(), result);
  if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) {
    ERR_clear_error();
    return code == SSL_ERROR_WANT_READ ? progress::wants_read : progress::wants_write;
  }
  if (code == SSL_ERROR_SYSCALL)
    error_ = system_error ? std::strerror(system_error) : "connection closed";
  else
    error_ = code == SSL_ERROR_ZERO_RETURN ? "connection closed" : queued_error();
  // What stays in the queue would be taken for an error of the next connection that this thread serves.
  ERR_clear_error();
  return progress::failed;
}

tls_session::progress tls_session::handshake() {
  if (!ssl_)
    return progress::failed;
  ERR_clear_error();
  errno = 0;
  auto result = SSL_do_handshake(ssl_.get());
  if (result != 1)
    return judge(result);
  if (has_proof())
    return progress::done;
  error_ = "the other side did not use the cluster secret";
  return progress::failed;
}

bool tls_session::has_proof() const {
  // "Reused" is OpenSSL's word for a session that came from a pre-shared key; it is set once the binder of the
  // client's first message, or the server's choice of the key, has been checked.
  return ssl_ && SSL_session_reused(ssl_.get()) == 1;
}

tls_session::progress tls_session::read(void* data, std::size_t size, std::size_t& done) {
  ERR_clear_error();
  errno = 0;
  auto result = SSL_read_ex(ssl_.get(), data, size, &done);
  if (result == 1)
    return progress::done;
  done = 0;
  return judge(result);
}

tls_session::progress tls_session::write(const void* data, std::size_t size, std::size_t& done) {
  ERR_clear_error();
  errno = 0;
  auto result = SSL_write_ex(ssl_.get(), data, size, &done);
  if (result == 1)
    return progress::done;
  done = 0;
  return judge(result);
}

void tls_session::read_ahead() {
  SSL_set_read_ahead(ssl_.get(), 1);
}

bool tls_session::has_pending() const {
  return SSL_has_pending(ssl_.get()) == 1;
}

std::string handshake_until(tls_session& session, int fd, std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    auto state = session.handshake();
    if (state == tls_session::progress::done)
      return {};
    if (state == tls_session::progress::failed)
      return session.error();
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0)
      return "no answer in time";
    pollfd waiting{fd, static_cast<short>(state == tls_session::progress::wants_read ? POLLIN : POLLOUT), 0};
    if (::poll(&waiting, 1, static_cast<int>(left)) < 0 && errno != EINTR)
      return std::strerror(errno);
  }
}

}  // namespace coordinator
