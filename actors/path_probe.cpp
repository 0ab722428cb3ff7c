#include "actors/path_probe.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace coordinator {

namespace {

using namespace std::chrono_literals;

constexpr auto send_interval = 500ms;
/// Names move; a look-up that failed is not worth one each half second.
constexpr auto look_up_interval = 30s;
constexpr std::size_t burst = 64;
/// After a full burst: so many come from strangers only.
constexpr auto burst_pause = 50ms;

constexpr std::string_view magic{"CoPr\1"};
constexpr std::size_t proof_size = 16;
constexpr std::size_t largest = 1024;

std::string proof_of(std::string_view text, const std::array<unsigned char, 32>& key) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (!HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()),
            text.size(), digest, &size))
    return {};
  return {reinterpret_cast<const char*>(digest), proof_size};
}

/// A key that is good for nothing else.
std::array<unsigned char, 32> probe_key(const cluster_secret& secret) {
  std::array<unsigned char, 32> key{};
  unsigned size = 0;
  constexpr std::string_view label{"coordinator path probe 1"};
  if (!HMAC(EVP_sha256(), secret.key().data(), static_cast<int>(secret.key().size()),
            reinterpret_cast<const unsigned char*>(label.data()), label.size(), key.data(), &size))
    throw std::system_error(ENOSYS, std::generic_category(), "OpenSSL has no HMAC with SHA-256");
  return key;
}

void put(std::string& out, std::uint64_t x) {
  for (int shift = 56; shift >= 0; shift -= 8)
    out += static_cast<char>(x >> shift);
}

void put(std::string& out, const node_id& id) {
  auto name = id.value.substr(0, 255);
  out += static_cast<char>(name.size());
  out += name;
}

bool take(std::string_view& in, std::uint64_t& x) {
  if (in.size() < 8)
    return false;
  x = 0;
  for (unsigned char byte : in.substr(0, 8))
    x = x << 8 | byte;
  in.remove_prefix(8);
  return true;
}

bool take(std::string_view& in, node_id& id) {
  if (in.empty())
    return false;
  auto size = static_cast<unsigned char>(in[0]);
  if (in.size() < 1u + size)
    return false;
  id.value = in.substr(1, size);
  in.remove_prefix(1u + size);
  return true;
}

}  // namespace

std::string seal(const probe_datagram& x, const std::array<unsigned char, 32>& key) {
  std::string out{magic};
  put(out, x.boot_id);
  put(out, x.number);
  put(out, x.from);
  put(out, x.to);
  return out + proof_of(out, key);
}

std::optional<probe_datagram> unseal(std::string_view bytes, const std::array<unsigned char, 32>& key) {
  if (bytes.size() < magic.size() + proof_size || bytes.substr(0, magic.size()) != magic)
    return std::nullopt;
  auto text = bytes.substr(0, bytes.size() - proof_size);
  auto proof = proof_of(text, key);
  if (proof.size() != proof_size || CRYPTO_memcmp(proof.data(), bytes.data() + text.size(), proof_size) != 0)
    return std::nullopt;
  text.remove_prefix(magic.size());
  probe_datagram x;
  if (!take(text, x.boot_id) || !take(text, x.number) || !take(text, x.from) || !take(text, x.to) || !text.empty())
    return std::nullopt;
  return x;
}

path_probe::path_probe(file_descriptor socket, const cluster_secret& secret, node_id self, std::uint64_t boot_id,
                       arrived_function arrived)
    : socket_(std::move(socket)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      key_(probe_key(secret)),
      self_(std::move(self)),
      boot_id_(boot_id),
      arrived_(std::move(arrived)) {
  if (!stop_)
    throw std::system_error(errno, std::generic_category(), "eventfd");
  thread_ = std::thread{[this] { run(); }};
}

path_probe::~path_probe() {
  std::uint64_t one = 1;
  while (::write(stop_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
}

void path_probe::aim(std::vector<target> targets) {
  std::lock_guard lock{mutex_};
  targets_ = std::move(targets);
}

void path_probe::run() {
  auto next = steady::now();
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(next - steady::now()).count();
    pollfd waiting[] = {{stop_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
    ::poll(waiting, 2, static_cast<int>(std::clamp<std::int64_t>(left, 0, send_interval / 1ms)));
    if (waiting[0].revents != 0)
      return;
    if (waiting[1].revents != 0)
      receive_some();
    if (auto now = steady::now(); now >= next) {
      // From now on, not from when it was due: a node that was paused has nothing to catch up with.
      next = now + send_interval;
      take_aim();
      send_all();
    }
  }
}

void path_probe::take_aim() {
  std::vector<target> targets;
  {
    std::lock_guard lock{mutex_};
    targets = targets_;
  }
  std::erase_if(peers_, [&](auto& each) {
    return std::none_of(targets.begin(), targets.end(), [&](auto& x) { return x.id == each.first; });
  });
  for (auto& x : targets) {
    auto& p = peers_[x.id];
    if (p.address == x.address)
      continue;
    p.address = x.address;
    p.where.reset();
    p.look_up_at = {};
  }
}

void path_probe::send_all() {
  for (auto& [id, p] : peers_) {
    if (auto now = steady::now(); now >= p.look_up_at) {
      p.look_up_at = now + look_up_interval;
      if (auto address = parse_host_port(p.address))
        if (auto found = look_up_for(socket_.get(), *address))
          p.where = *found;
    }
    if (!p.where)
      continue;
    auto bytes = seal({self_, id, boot_id_, ++sent_}, key_);
    // What cannot be sent does not arrive; that is all that is to be known.
    ::sendto(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
             reinterpret_cast<const sockaddr*>(&p.where->storage), p.where->size);
  }
}

void path_probe::receive_some() {
  char buffer[largest];
  for (std::size_t i = 0; i < burst; ++i) {
    auto n = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n >= 0)
      receive({buffer, static_cast<std::size_t>(n)});
    else if (errno != ECONNREFUSED && errno != EINTR)  // Word of an earlier datagram that found nobody.
      return;
  }
  pollfd stop{stop_.get(), POLLIN, 0};
  ::poll(&stop, 1, burst_pause / 1ms);
}

void path_probe::receive(std::string_view bytes) {
  auto x = unseal(bytes, key_);
  if (!x || x->to != self_)
    return;
  auto i = peers_.find(x->from);
  if (i == peers_.end())
    return;
  auto& p = i->second;
  if (x->boot_id == p.boot_id && x->number <= p.number)
    return;
  p.boot_id = x->boot_id;
  p.number = x->number;
  arrived_(x->from);
}

}  // namespace coordinator
