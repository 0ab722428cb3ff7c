#include "actors/link_gate.hpp"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/link_net.hpp"

namespace coordinator {
namespace {

using namespace std::chrono_literals;
using link_net::eventually;
using link_net::make_context;

/// With a deadline that nobody meets only because the machine is busy; a test of the deadline makes it short.
gate_options patient() {
  gate_options options;
  options.handshake_deadline = 60s;
  return options;
}

/// A gate on a port of loopback that keeps what it admits.
class test_gate {
 public:
  explicit test_gate(gate_options options = patient()) {
    auto listener = listen_on({"127.0.0.1", 0});
    REQUIRE(listener.error == "");
    gate_.emplace(std::move(listener.socket), make_context('a'), options,
                  [this](file_descriptor socket, tls_session session) {
                    std::lock_guard lock{mutex_};
                    admitted_.push_back({std::move(socket), std::move(session)});
                  });
  }

  host_port address() const { return {"127.0.0.1", gate_->port()}; }
  gate_counters counters() const { return gate_->counters(); }
  void stop() { gate_.reset(); }

  struct connection {
    file_descriptor socket;
    tls_session session;
  };
  connection take() {
    REQUIRE(eventually([this] { return count() > 0; }));
    std::lock_guard lock{mutex_};
    auto result = std::move(admitted_.back());
    admitted_.pop_back();
    return result;
  }
  std::size_t count() {
    std::lock_guard lock{mutex_};
    return admitted_.size();
  }

 private:
  std::mutex mutex_;
  std::vector<connection> admitted_;
  std::optional<link_gate> gate_;
};

file_descriptor connect(const test_gate& gate) {
  auto result = connect_to(gate.address(), std::chrono::steady_clock::now() + 60s);
  REQUIRE(result.error == "");
  return std::move(result.socket);
}

/// Connects and proves; empty on success.
std::string try_to_pass(const host_port& where, const tls_context& context, std::chrono::milliseconds patience = 60s) {
  auto connected = connect_to(where, std::chrono::steady_clock::now() + patience);
  if (!connected.socket)
    return connected.error;
  tls_session session{context, connected.socket.get(), tls_side::client};
  if (auto error = handshake_until(session, connected.socket.get(), std::chrono::steady_clock::now() + patience);
      !error.empty())
    return error;
  // A client has finished before the server has judged it: only an answer shows that it was let in.
  return {};
}

int connect_raw(int fd, host_port where) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(where.port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to);
}

bool is_closed(int fd) {
  char byte;
  auto n = ::recv(fd, &byte, 1, MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN);
}

/// Reads what is there until the other side closes.
bool closes(const file_descriptor& socket) {
  return eventually([&] {
    char buffer[4096];
    ssize_t n;
    while ((n = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
    }
    return n == 0 || errno != EAGAIN;
  });
}

void send_all(const file_descriptor& socket, const std::string& bytes) {
  CHECK(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

std::size_t open_descriptors() {
  std::size_t n = 0;
  for ([[maybe_unused]] auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"})
    ++n;
  return n;
}

std::string exchange(tls_session& from, tls_session& to, const std::string& text) {
  std::size_t done = 0;
  if (from.write(text.data(), text.size(), done) != tls_session::progress::done || done != text.size())
    return "not written: " + from.error();
  std::string received(text.size(), '\0');
  std::size_t size = 0;
  auto complete = eventually([&] {
    if (to.read(received.data() + size, received.size() - size, done) == tls_session::progress::done)
      size += done;
    return size == received.size();
  });
  return complete ? received : "not read: " + to.error();
}

/// Speaks as much of the handshake as can be said without hearing the other side, however soon that answers: the
/// session, which is one over `socket`, meets a pair of ours there for as long as it says hello.
void begin_handshake(tls_session& session, const file_descriptor& socket) {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  const file_descriptor near{ends[0]};
  const file_descriptor far{ends[1]};
  const file_descriptor real{::dup(socket.get())};
  REQUIRE(::dup2(near.get(), socket.get()) == socket.get());
  CHECK(session.handshake() == tls_session::progress::wants_read);
  char hello[4096];
  auto size = ::recv(far.get(), hello, sizeof hello, 0);
  REQUIRE(size > 0);
  REQUIRE(::dup2(real.get(), socket.get()) == socket.get());
  send_all(socket, {hello, static_cast<std::size_t>(size)});
}

bool is_readable(const file_descriptor& socket) {
  pollfd waiting{socket.get(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) == 1;
}

}  // namespace

TEST_CASE("gate: who knows the secret is admitted, and bytes flow both ways") {
  test_gate gate;
  auto socket = connect(gate);
  auto context = make_context('a');
  tls_session client{*context, socket.get(), tls_side::client};
  REQUIRE(handshake_until(client, socket.get(), std::chrono::steady_clock::now() + 60s) == "");
  auto server = gate.take();
  CHECK(exchange(client, server.session, "from the client") == "from the client");
  CHECK(exchange(server.session, client, "from the server") == "from the server");
  CHECK(gate.counters().admitted == 1);
}

TEST_CASE("gate: who has another secret is refused") {
  test_gate gate;
  CHECK(try_to_pass(gate.address(), *make_context('b')) != "");
  CHECK(eventually([&] { return gate.counters().refused == 1; }));
  CHECK(gate.count() == 0);
}

TEST_CASE("gate: strangers' bytes end the connection before anything else sees them") {
  test_gate gate;
  // A client handshake of BASP with an empty payload: it ends a process that takes it unchecked.
  std::string basp_killer(32, '\0');
  basp_killer[0] = 1;
  std::string huge_header(36, '\0');
  huge_header[0] = 2;
  huge_header[4] = 0x7f;
  huge_header[5] = huge_header[6] = huge_header[7] = '\xff';
  std::string huge_record("\x16\x03\x01\xff\xff", 5);
  std::uint64_t refused = 0;
  for (auto& bytes : {basp_killer, huge_header, huge_record, std::string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
                      std::string(5000, '\xa5'), std::string(1, '\0') + std::string(300, '\x16')}) {
    auto socket = connect(gate);
    send_all(socket, bytes);
    CHECK(closes(socket));
    ++refused;
    CHECK(eventually([&] { return gate.counters().refused == refused; }));
  }
  CHECK(gate.count() == 0);
  CHECK(try_to_pass(gate.address(), *make_context('a')) == "");
}

TEST_CASE("gate: silent connections are closed at their deadline, keep no descriptor and cost no time") {
  gate_options options;
  options.handshake_deadline = 300ms;
  test_gate gate{options};
  auto before = open_descriptors();
  {
    std::vector<file_descriptor> silent;
    for (int i = 0; i < 300; ++i)
      silent.push_back(connect(gate));
    CHECK(std::all_of(silent.begin(), silent.end(), closes));
    // A connection is counted just after it is closed.
    CHECK(eventually([&] { return gate.counters().timed_out + gate.counters().evicted == 300; }));
    auto counters = gate.counters();
    CHECK(counters.accepted == 300);
    // Some for each connection and for the deadlines; a loop that spins makes hundreds of thousands.
    CHECK(counters.rounds < 3000);
  }
  CHECK(eventually([&] { return open_descriptors() == before; }));
}

TEST_CASE("gate: a handshake dripped byte by byte has to be over by the deadline") {
  gate_options options;
  options.handshake_deadline = 200ms;
  test_gate gate{options};
  auto socket = connect(gate);
  // The beginning of a client's first message, which says that much is to come.
  std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  std::size_t sent = 0;
  CHECK(eventually([&] {
    char byte = sent < hello.size() ? hello[sent] : 'x';
    if (::send(socket.get(), &byte, 1, MSG_NOSIGNAL) == 1)
      ++sent;
    return is_closed(socket.get());
  }));
  CHECK(eventually([&] { return gate.counters().timed_out == 1; }));
  CHECK(gate.counters().refused == 0);
}

TEST_CASE("gate: a full pool gives up its oldest silent connection for a new one") {
  auto options = patient();
  options.max_handshakes = 4;
  test_gate gate{options};
  std::vector<file_descriptor> strangers;
  for (int i = 0; i < 5; ++i)
    strangers.push_back(connect(gate));
  CHECK(closes(strangers.front()));
  CHECK(eventually([&] { return gate.counters().evicted == 1; }));
  for (std::size_t i = 1; i < strangers.size(); ++i)
    CHECK(!is_closed(strangers[i].get()));
}

TEST_CASE("gate: a peer that has shown proof is not given up for strangers, however slow it is") {
  auto options = patient();
  options.max_handshakes = 4;
  test_gate gate{options};
  auto socket = connect(gate);
  auto context = make_context('a');
  tls_session peer{*context, socket.get(), tls_side::client};
  begin_handshake(peer, socket);
  REQUIRE(eventually([&] { return is_readable(socket); }));
  std::vector<file_descriptor> strangers;
  for (int i = 0; i < 50; ++i)
    strangers.push_back(connect(gate));
  REQUIRE(eventually([&] { return gate.counters().evicted >= 47; }));
  CHECK(handshake_until(peer, socket.get(), std::chrono::steady_clock::now() + 60s) == "");
  auto admitted = gate.take();
  CHECK(exchange(peer, admitted.session, "still here") == "still here");
}

TEST_CASE("gate: strangers that fill the pool all the time do not keep a peer out") {
  test_gate gate;
  std::atomic<bool> stop{false};
  std::vector<std::thread> flood;
  for (int i = 0; i < 2; ++i)
    flood.emplace_back([&] {
      // As many as the pool takes, all silent, and the oldest replaced by new ones without end.
      std::vector<file_descriptor> held(300);
      for (std::size_t n = 0; !stop; ++n) {
        file_descriptor socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        if (connect_raw(socket.get(), gate.address()) == 0)
          held[n % held.size()] = std::move(socket);
      }
    });
  CHECK(eventually([&] { return gate.counters().evicted > 100; }));
  auto context = make_context('a');
  int failures = 0;
  for (std::uint64_t i = 1; i <= 30; ++i) {
    auto before = gate.counters().admitted;
    if (try_to_pass(gate.address(), *context) != "" || !eventually([&] { return gate.counters().admitted > before; }))
      ++failures;
  }
  stop = true;
  for (auto& thread : flood)
    thread.join();
  CHECK(failures == 0);
}

TEST_CASE("gate: without descriptors it drops connections, does not spin, and recovers") {
  test_gate gate;
  constexpr int count = 40;
  std::vector<file_descriptor> clients;
  for (int i = 0; i < count; ++i)
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  rlimit usual{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
  // No number below the limit is free, so the next descriptor is one too many.
  rlimit low{static_cast<rlim_t>(clients.back().get()) + 1, usual.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  for (auto& client : clients)
    connect_raw(client.get(), gate.address());
  auto all_closed = std::all_of(clients.begin(), clients.end(), closes);
  auto counters = gate.counters();
  ::setrlimit(RLIMIT_NOFILE, &usual);
  CHECK(all_closed);
  CHECK(counters.dropped > 0);
  CHECK(counters.admitted == 0);
  CHECK(counters.rounds < 1000);
  CHECK(eventually([&] { return try_to_pass(gate.address(), *make_context('a')) == ""; }));
}

TEST_CASE("gate: stopping closes what is under way and waits for nobody") {
  gate_options options;
  options.handshake_deadline = 1h;
  test_gate gate{options};
  auto silent = connect(gate);
  auto half = connect(gate);
  auto context = make_context('a');
  tls_session session{*context, half.get(), tls_side::client};
  begin_handshake(session, half);
  REQUIRE(eventually([&] { return is_readable(half); }));
  gate.stop();
  CHECK(closes(silent));
  CHECK(closes(half));
}

TEST_CASE("tls: a server that offers a certificate instead of the secret is refused") {
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> impostor{SSL_CTX_new(TLS_server_method()), SSL_CTX_free};
  link_net::use_own_certificate(impostor.get());
  auto listener = listen_on({"127.0.0.1", 0});
  REQUIRE(listener.error == "");
  std::thread serving{[&] {
    file_descriptor socket;
    eventually(
        [&] { return (socket = file_descriptor{::accept(listener.socket.get(), nullptr, nullptr)}).get() >= 0; });
    std::unique_ptr<SSL, void (*)(SSL*)> ssl{SSL_new(impostor.get()), SSL_free};
    SSL_set_fd(ssl.get(), socket.get());
    SSL_accept(ssl.get());
  }};
  CHECK(try_to_pass({"127.0.0.1", local_port(listener.socket.get())}, *make_context('a')) != "");
  serving.join();
}

}  // namespace coordinator
