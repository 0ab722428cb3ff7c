#include "actors/node.hpp"

#include <spdlog/spdlog.h>

#include <atomic>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <cstdlib>
#include <future>
#include <random>

#include "actors/announce.hpp"
#include "actors/file_check.hpp"
#include "actors/link_actor.hpp"
#include "actors/link_basp.hpp"
#include "actors/link_gate.hpp"
#include "actors/node_actors.hpp"

namespace coordinator {
namespace {

/// How long leaving waits for each of its steps. Nothing acknowledged depends on them.
constexpr std::chrono::seconds step_patience{3};

cluster_secret load_secret(const node_options& options) {
  bool loopback = is_loopback(options.advertise);
  for (auto& peer : options.peers)
    loopback = loopback && is_loopback(peer.cluster.host);
  loaded_secret loaded;
  if (options.cluster_secret_file) {
    loaded = load_cluster_secret(*options.cluster_secret_file);
  } else if (loopback || !options.redundancy) {
    auto file = user_secret_file();
    if (file.empty())
      throw node_error("this user has no home directory for a cluster secret: name one by --cluster-secret-file");
    loaded = load_or_make_user_secret(file);
  } else {
    throw node_error(
        "nodes on more than one host need --cluster-secret-file: a file of at least 32 characters, the "
        "same on every node");
  }
  if (!loaded.secret)
    throw node_error(loaded.error);
  if (!loaded.warning.empty())
    spdlog::warn("{}", loaded.warning);
  return *loaded.secret;
}

/// Waits for a completion that some actor will call.
template <class T>
class slot {
 public:
  std::function<void(T)> completion() {
    return [shared = shared_](T value) { shared->set_value(std::move(value)); };
  }
  std::optional<T> wait(std::chrono::milliseconds limit) {
    auto value = shared_->get_future();
    if (value.wait_for(limit) != std::future_status::ready)
      return std::nullopt;
    return value.get();
  }

 private:
  std::shared_ptr<std::promise<T>> shared_ = std::make_shared<std::promise<T>>();
};

}  // namespace

void configure_node(caf::actor_system_config& config) {
  announce_messages(config);
  announce_link_messages(config);
  configure_basp(config);
}

class node::implementation {
 public:
  implementation(caf::actor_system& system, const node_options& options, data_directory& directory,
                 node_environment environment)
      : system_(system) {
    const auto secret = load_secret(options);
    auto tls = std::make_shared<const tls_context>(secret);
    auto listener = listen_on(options.cluster);
    if (!listener.socket)
      throw node_error("cannot listen for peers on " + to_string(options.cluster) + ": " + listener.error +
                       "; end what uses it, or give another --cluster-port");
    std::mt19937_64 seeds{environment.seed};
    auto stores = open(directory, options, environment, seeds() | 1);

    node_settings settings;
    settings.id = options.id;
    settings.http_address = options.http_address();
    settings.cluster_address = options.cluster_address();
    for (auto& peer : options.peers)
      settings.peers.push_back({peer.id, to_string(peer.http)});
    settings.election_timeout_min = options.election_timeout_min;
    settings.election_timeout_max = options.election_timeout_max;
    settings.heartbeat_interval = options.heartbeat_interval;
    settings.clock = environment.clock;
    settings.seed = seeds();
    settings.defects = environment.defects;
    settings.retention = options.retention;
    settings.quota_bytes = options.quota_bytes;
    settings.log_retention_entries = options.log_retention_entries;
    settings.verify = options.verify;
    settings.watcher = environment.watcher;
    if (settings.watcher) {
      settings.watcher->addresses(settings.http_address);
      settings.watcher->quota(options.quota_bytes);
    }
    settings.auto_promote = options.auto_promote;
    settings.on_removed = environment.on_removed;
    const bool has_files = stores.raft != nullptr;
    auto files = stores.files;
    actors_ = spawn_node_actors(system, settings, std::move(stores));
    watch();

    links_config links;
    links.self.who = actors_.self;
    links.self.boot_id = actors_.boot_id;
    links.self.http_address = settings.http_address;
    links.self.cluster_address = settings.cluster_address;
    for (auto& peer : options.peers)
      links.targets.push_back({peer.id.value_or(node_id{}), to_string(peer.cluster), to_string(peer.http)});
    links.handles = actors_.handles();
    // The keeper first: the others act on what it knows.
    links.listeners.peers = {actors_.keeper, actors_.election, actors_.heartbeat, actors_.gateway, actors_.fleet};
    links.listeners.rtt = actors_.keeper;
    links.seed = seeds();
    links.tick_seed = settings.seed;
    links.watcher = environment.watcher;
    if (environment.watcher)
      links.probe = probe_ = make_probe(options, local_port(listener.socket.get()), secret, environment.watcher);
    // Not hidden, so that the actor system waits for them before it stops its clock: a dialer that is told to end while
    // it connects asks BASP once more, and a clock that has stopped would keep it, and the system, for ever.
    links.spawn_dialer = [&system, tls] { return system.spawn<caf::detached>(link_dialer_behavior, tls); };
    links_ = system.spawn(links_behavior, std::move(links));
    wire(actors_, links_);
    if (has_files && settings.verify != verify_level::off)
      check_files(settings.verify, std::move(files));
    // Strangers are heard only once everything behind the gate is there.
    gate_ = std::make_unique<link_gate>(
        std::move(listener.socket), tls, gate_options{},
        admit_to_basp(system, caf::actor_cast<caf::strong_actor_ptr>(links_), published_interface(system)));
  }

  ~implementation() { stop(); }

  gateway_port& port() { return *actors_.port; }
  std::uint16_t cluster_port() const { return gate_->port(); }

  void stop() {
    if (stopping_->exchange(true))
      return;
    hand_over();
    auto idle = std::make_shared<std::promise<void>>();
    actors_.intake->leave([idle] { idle->set_value(); });
    if (idle->get_future().wait_for(step_patience) != std::future_status::ready)
      spdlog::warn("requests in flight did not end in time: they are answered as unknown");
    slot<std::string> flushed;
    caf::anon_send(actors_.machine, flush_state{[done = flushed.completion()](log_index, term_number,
                                                                              std::string error) { done(error); }});
    if (auto error = flushed.wait(step_patience); error && !error->empty())
      spdlog::warn("state.db is behind, and the log will bring it up to date: {}", *error);
    check_.reset();
    gate_.reset();
    end("links", caf::actor_cast<caf::strong_actor_ptr>(links_));
    links_ = nullptr;
    probe_.reset();
    // The writers last, so that what the others still say reaches the disk; their stores close as they end.
    for (auto& [name, actor] : actors_.all())
      end(name, actor);
    actors_ = only_port(std::move(actors_));
  }

 private:
  static node_stores open(data_directory& directory, const node_options& options, const node_environment& environment,
                          std::uint64_t new_incarnation) {
    try {
      return open_stores(directory, options.id, environment.vfs, new_incarnation, environment.defects);
    } catch (const refused_error& e) {
      throw node_error(e.what());
    } catch (const database_error& e) {
      throw node_error(e.what());
    }
  }

  /// On the port for peers, as datagrams. A node without one is as good; only the direction of a fault stays unknown.
  std::shared_ptr<path_probe> make_probe(const node_options& options, std::uint16_t port, const cluster_secret& secret,
                                         std::shared_ptr<observer> watcher) {
    auto where = options.cluster;
    where.port = port;
    auto datagrams = datagrams_on(where);
    if (!datagrams.socket) {
      spdlog::warn("one-way faults of the network will not be told from others: {}", datagrams.error);
      return nullptr;
    }
    return std::make_shared<path_probe>(std::move(datagrams.socket), secret, options.id, actors_.boot_id,
                                        [watcher](const node_id& peer) { watcher->arrived_from(peer); });
  }

  void check_files(verify_level level, std::shared_ptr<node_files> files) {
    file_check_settings check;
    check.level = level;
    check.files = std::move(files);
    check.state_file = actors_.state_file;
    check.log_damaged = [writer = actors_.log_writer](std::string what) {
      caf::anon_send(writer, log_damaged{std::move(what)});
    };
    check.state_damaged = [keeper = actors_.keeper](std::string what) {
      spdlog::error("the state is damaged: {}", what);
      caf::anon_send(keeper, state_damaged{std::move(what)});
    };
    const auto say = [intake = actors_.intake](bool verifying) {
      intake->publish([=](gateway_intake::knowledge& known) { known.verifying = verifying; });
    };
    say(true);
    check.done = [say] { say(false); };
    check_ = std::make_unique<file_check>(std::move(check));
  }

  /// An actor that ends by itself leaves a node that looks alive and is not; a process that ends is what the
  /// cluster is made to survive.
  void watch() {
    for (auto& [name, actor] : actors_.all())
      actor->get()->attach_functor([stopping = stopping_, name = name](const caf::error& reason) {
        if (*stopping)
          return;
        spdlog::critical("the {} of this node ended by itself (reason {}): ending the process", name, reason.code());
        std::abort();
      });
  }

  void hand_over() {
    slot<node_view> seen;
    actors_.port->view(seen.completion());
    auto view = seen.wait(step_patience);
    if (!view || view->raft.role != node_role::leader || view->raft.members.voter_count() < 2)
      return;
    slot<transfer_result> done;
    actors_.port->transfer({}, milliseconds{1000}, done.completion());
    auto result = done.wait(step_patience);
    if (result && result->ok)
      spdlog::info("leadership handed over to {}", result->leader.value);
    else
      spdlog::warn("leadership could not be handed over: {}", result ? result->reason : "no answer");
  }

  void end(const char* name, const caf::strong_actor_ptr& actor) {
    caf::scoped_actor self{system_};
    self->monitor(actor);
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    bool down = false;
    self->receive([&](const caf::down_msg&) { down = true; }, caf::after(step_patience) >> [] {});
    if (!down)
      spdlog::warn("the {} does not end; what it holds is left to the next start", name);
  }

  static node_actors only_port(node_actors actors) {
    node_actors left;
    left.port = std::move(actors.port);
    left.intake = std::move(actors.intake);
    return left;
  }

  caf::actor_system& system_;
  std::shared_ptr<std::atomic<bool>> stopping_ = std::make_shared<std::atomic<bool>>(false);
  node_actors actors_;
  links_actor links_;
  std::unique_ptr<link_gate> gate_;
  std::unique_ptr<file_check> check_;
  std::shared_ptr<path_probe> probe_;
};

node::node(caf::actor_system& system, const node_options& options, data_directory& directory,
           node_environment environment)
    : impl_(std::make_unique<implementation>(system, options, directory, std::move(environment))) {}

node::~node() = default;

gateway_port& node::port() {
  return impl_->port();
}

std::uint16_t node::cluster_port() const {
  return impl_->cluster_port();
}

void node::stop() {
  impl_->stop();
}

}  // namespace coordinator
