#include "actors/link_basp.hpp"

#include <sys/socket.h>

#include <atomic>
#include <caf/actor_system_config.hpp>
#include <caf/io/basp_broker.hpp>
#include <caf/io/middleman.hpp>
#include <caf/io/network/default_multiplexer.hpp>
#include <caf/io/network/stream.hpp>
#include <caf/io/scribe.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <limits>

#include "actors/local_first.hpp"

namespace coordinator {

namespace {

using namespace std::chrono_literals;
namespace network = caf::io::network;

constexpr auto connect_deadline = 500ms;
constexpr auto handshake_deadline = 500ms;
constexpr auto basp_deadline = 500ms;

/// All of a node's connections are published under one number; that nothing listens there is no matter to BASP.
constexpr std::uint16_t published_port = 1;

/// More than this is left to CAF's loop, which serves other connections in between.
constexpr std::size_t sent_at_once = 64 << 10;

/// Reads and writes through TLS, in the form that CAF's streams ask for.
struct tls_policy {
  tls_session session;

  network::rw_state read_some(std::size_t& done, network::native_socket, void* data, std::size_t size) {
    return state_of(session.read(data, size, done));
  }

  network::rw_state write_some(std::size_t& done, network::native_socket, const void* data, std::size_t size) {
    done = 0;
    return size == 0 ? network::rw_state::indeterminate : state_of(session.write(data, size, done));
  }

  /// The socket does not announce what has been read from it already.
  bool must_read_more(network::native_socket, std::size_t) const { return session.has_pending(); }

 private:
  static network::rw_state state_of(tls_session::progress x) {
    return x == tls_session::progress::failed ? network::rw_state::failure : network::rw_state::success;
  }
};

class tls_stream final : public network::stream {
 public:
  tls_stream(network::default_multiplexer& multiplexer, file_descriptor socket, tls_session session)
      : stream(multiplexer, socket.release()), policy_{std::move(session)} {
    policy_.session.read_ahead();
  }

  void handle_event(network::operation op) override { handle_event_impl(op, policy_); }

  /// Sends what the socket takes at once: CAF's own would first wait for the socket to say that it takes something,
  /// which costs four system calls a message. An error is found again by the loop, which knows whom to tell.
  void send(const manager_ptr& manager) {
    auto& bytes = wr_buf();
    if (!state_.writing && !state_.shutting_down && !state_.ack_writes && bytes.size() <= sent_at_once) {
      std::size_t sent = 0;
      std::size_t more = 0;
      while (sent < bytes.size() &&
             policy_.session.write(bytes.data() + sent, bytes.size() - sent, more) == tls_session::progress::done)
        sent += more;
      bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(sent));
    }
    flush(manager);
  }

  /// CAF's own would wait until the other side has read everything and closed its end, which a hung peer never does;
  /// the node could then not even stop.
  void graceful_shutdown() override {
    state_.shutting_down = true;
    ::shutdown(fd(), SHUT_RDWR);
  }

 private:
  tls_policy policy_;
};

/// CAF takes the descriptor for the handle. A descriptor is used again as soon as it is closed, and what BASP still has
/// to do for the old connection would then hit the new one.
caf::io::connection_handle next_handle() {
  static std::atomic<std::int64_t> last{std::numeric_limits<std::int32_t>::max()};
  return caf::io::connection_handle::from_int(++last);
}

/// A connection in the hands of BASP, as CAF's scribe_impl is one without TLS.
class tls_scribe final : public caf::io::scribe {
 public:
  tls_scribe(network::default_multiplexer& multiplexer, file_descriptor socket, tls_session session)
      : scribe(next_handle()), stream_(multiplexer, std::move(socket), std::move(session)) {}

  void configure_read(caf::io::receive_policy::config config) override {
    stream_.configure_read(config);
    if (!launched_)
      stream_.start(this);
    launched_ = true;
  }
  void ack_writes(bool enable) override { stream_.ack_writes(enable); }
  std::vector<char>& wr_buf() override { return stream_.wr_buf(); }
  std::vector<char>& rd_buf() override { return stream_.rd_buf(); }
  void graceful_shutdown() override {
    stream_.graceful_shutdown();
    detach(&stream_.backend(), false);
  }
  void flush() override { stream_.send(this); }
  std::string addr() const override {
    auto x = network::remote_addr_of_fd(stream_.fd());
    return x ? *x : std::string{};
  }
  std::uint16_t port() const override {
    auto x = network::remote_port_of_fd(stream_.fd());
    return x ? *x : std::uint16_t{0};
  }
  void add_to_loop() override { stream_.activate(this); }
  void remove_from_loop() override { stream_.passivate(); }

 private:
  bool launched_ = false;
  tls_stream stream_;
};

caf::io::scribe_ptr make_scribe(caf::actor_system& system, file_descriptor socket, tls_session session) {
  auto& multiplexer = static_cast<network::default_multiplexer&>(system.middleman().backend());
  return caf::make_counted<tls_scribe>(multiplexer, std::move(socket), std::move(session));
}

caf::actor basp_of(caf::actor_system& system) {
  return system.middleman().named_broker<caf::io::basp_broker>(caf::atom("BASP"));
}

struct proven_connection {
  file_descriptor socket;
  std::optional<tls_session> session;
  std::string error;
};

proven_connection connect_and_prove(const std::string& address, const tls_context& context) {
  proven_connection result;
  auto where = parse_host_port(address);
  if (!where) {
    result.error = "\"" + address + "\" is not host:port";
    return result;
  }
  auto connected = connect_to(*where, std::chrono::steady_clock::now() + connect_deadline);
  result.error = std::move(connected.error);
  if (!connected.socket)
    return result;
  result.socket = std::move(connected.socket);
  result.session.emplace(context, result.socket.get(), tls_side::client);
  auto deadline = std::chrono::steady_clock::now() + handshake_deadline;
  if (auto error = handshake_until(*result.session, result.socket.get(), deadline); !error.empty())
    result.error = "no TLS with " + address + ", does it have the same cluster secret? (" + error + ")";
  return result;
}

}  // namespace

void configure_basp(caf::actor_system_config& config) {
  config.load<caf::io::middleman>();
  config.set("middleman.heartbeat-interval", caf::timespan{200ms});
  config.set("middleman.connection-timeout", caf::timespan{1500ms});
  config.set("middleman.enable-automatic-connections", false);
  config.set("middleman.workers", std::size_t{0});
  use_local_first(config);
}

link_gate::admit_function admit_to_basp(caf::actor_system& system, caf::strong_actor_ptr published,
                                        std::set<std::string> interface) {
  return [&system, basp = basp_of(system), published = std::move(published), interface = std::move(interface)](
             file_descriptor socket, tls_session session) {
    // The message with which CAF's own tests give BASP a connection that has been accepted elsewhere.
    caf::anon_send(basp, caf::publish_atom::value, make_scribe(system, std::move(socket), std::move(session)),
                   published_port, published, interface);
  };
}

link_dialer::behavior_type link_dialer_behavior(link_dialer::pointer self, std::shared_ptr<const tls_context> context) {
  return {[self, context, basp = basp_of(self->system())](const link_dial& order) -> caf::result<remote_endpoint> {
    auto found = connect_and_prove(order.address, *context);
    if (!found.error.empty())
      return caf::make_error(caf::sec::cannot_connect_to_node, std::move(found.error));
    auto promise = self->make_response_promise<remote_endpoint>();
    auto scribe = make_scribe(self->system(), std::move(found.socket), std::move(*found.session));
    self->request(basp, basp_deadline, caf::connect_atom::value, std::move(scribe), published_port)
        .then(
            [promise](const caf::node_id&, caf::strong_actor_ptr& actor, std::set<std::string>& interface) mutable {
              promise.deliver(remote_endpoint{std::move(actor), std::move(interface)});
            },
            [promise](caf::error& error) mutable { promise.deliver(std::move(error)); });
    return promise;
  }};
}

}  // namespace coordinator
