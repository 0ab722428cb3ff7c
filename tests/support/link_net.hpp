#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "actors/link_tls.hpp"

/// What tests of links share.
namespace coordinator::link_net {

/// Polls until `done`, for a minute at most; never sleeps longer than it has to.
template <class Predicate>
bool eventually(Predicate done, std::chrono::milliseconds patience = std::chrono::seconds{60}) {
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return true;
}

/// Sees whether this machine stood still while this is there. A link is given up after 1.5 s of silence and an attempt
/// to connect after 0.5 s, so that a machine that stands still breaks links, which says nothing of them.
class stall_watch {
 public:
  stall_watch()
      : thread_([this] {
          for (auto last = std::chrono::steady_clock::now(); !done_;) {
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
            auto now = std::chrono::steady_clock::now();
            if (now - last > std::chrono::milliseconds{300})
              stood_still_ = true;
            last = now;
          }
        }) {}
  ~stall_watch() {
    done_ = true;
    thread_.join();
  }
  stall_watch(const stall_watch&) = delete;
  stall_watch& operator=(const stall_watch&) = delete;

  bool stood_still() const { return stood_still_; }

 private:
  std::atomic<bool> done_{false};
  std::atomic<bool> stood_still_{false};
  std::thread thread_;
};

/// The same letter gives the same secret.
inline std::shared_ptr<const tls_context> make_context(char letter) {
  return std::make_shared<const tls_context>(
      *cluster_secret::from_text(std::string(cluster_secret::min_length, letter)));
}

inline void use_own_certificate(SSL_CTX* context) {
  std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key{EVP_EC_gen("P-256"), EVP_PKEY_free};
  std::unique_ptr<X509, void (*)(X509*)> certificate{X509_new(), X509_free};
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  SSL_CTX_use_certificate(context, certificate.get());
  SSL_CTX_use_PrivateKey(context, key.get());
}

}  // namespace coordinator::link_net
