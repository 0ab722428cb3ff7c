#include "tests/support/link_node.hpp"

#include <atomic>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <future>
#include <map>
#include <mutex>
#include <set>

#include "actors/link_actor.hpp"
#include "tests/support/link_net.hpp"

namespace coordinator {

namespace {

struct link_config : caf::actor_system_config {
  link_config() {
    configure_basp(*this);
    announce_link_messages(*this);
    add_message_type<beat>("beat");
    set("scheduler.max-threads", std::size_t{2});
  }
};

struct account {
  mutable std::mutex mutex;
  std::vector<std::string> events;
  std::map<std::string, peer_up> up;
  std::vector<peer_up> held;
  std::set<std::string> measured;
  std::set<std::uint64_t> heard;
  bool holds_on_to_handles = false;
};

caf::behavior accountant(caf::event_based_actor* self, std::shared_ptr<account> book) {
  self->set_default_handler(caf::drop);
  return {
      [book](const peer_up& news) {
        std::lock_guard lock{book->mutex};
        book->events.push_back("up " + news.who.id.value);
        book->up[news.who.id.value] = news;
      },
      [book](const peer_down& news) {
        std::lock_guard lock{book->mutex};
        book->events.push_back("down " + news.id.value);
        if (auto node = book->up.extract(news.id.value); node && book->holds_on_to_handles)
          book->held.push_back(std::move(node.mapped()));
      },
      [book](const peer_rtt& news) {
        std::lock_guard lock{book->mutex};
        book->measured.insert(news.id.value);
      },
      [book](const beat& news) {
        std::lock_guard lock{book->mutex};
        book->heard.insert(news.round);
      },
  };
}

std::uint64_t next_boot_id() {
  static std::atomic<std::uint64_t> last{1000};
  return ++last;
}

}  // namespace

struct link_node::parts {
  link_config config;
  caf::actor_system system{config};
  std::shared_ptr<account> book = std::make_shared<account>();
  std::string address;
  caf::actor accountant_actor;
  links_actor links;
  std::unique_ptr<link_gate> gate;
  std::shared_ptr<std::atomic<int>> dialers = std::make_shared<std::atomic<int>>(0);
};

link_node::link_node(options given, file_descriptor listener) : parts_(std::make_unique<parts>()) {
  auto& p = *parts_;
  p.address = given.advertise.empty() ? "127.0.0.1:" + std::to_string(local_port(listener.get())) : given.advertise;
  p.book->holds_on_to_handles = given.holds_on_to_handles;
  p.accountant_actor = p.system.spawn(accountant, p.book);
  auto context = link_net::make_context(given.secret);
  links_config config;
  config.self.protocol_version = given.protocol_version;
  config.self.cluster_id = given.cluster_id;
  config.self.who = {node_id{given.id}, incarnation_id{given.incarnation}};
  config.self.boot_id = given.boot_id ? given.boot_id : next_boot_id();
  config.self.http_address = "http-" + p.address;
  config.self.cluster_address = p.address;
  config.targets = given.targets;
  auto& self = p.accountant_actor;
  config.handles = {caf::actor_cast<peer_election>(self), caf::actor_cast<peer_heartbeat>(self),
                    caf::actor_cast<peer_replication>(self), caf::actor_cast<peer_gateway>(self),
                    caf::actor_cast<peer_fleet>(self)};
  config.listeners.peers = {caf::actor_cast<link_listeners::listener>(self)};
  config.listeners.rtt = caf::actor_cast<caf::typed_actor<caf::reacts_to<peer_rtt>>>(self);
  config.seed = config.self.boot_id;
  config.spawn_dialer = [&system = p.system, context, count = p.dialers] {
    auto dialer = system.spawn<caf::detached>(link_dialer_behavior, context);
    ++*count;
    caf::actor_cast<caf::strong_actor_ptr>(dialer)->get()->attach_functor([count](const caf::error&) { --*count; });
    return dialer;
  };
  p.links = p.system.spawn(links_behavior, std::move(config));
  p.gate = std::make_unique<link_gate>(
      std::move(listener), context, gate_options{},
      admit_to_basp(p.system, caf::actor_cast<caf::strong_actor_ptr>(p.links), published_interface(p.system)));
}

link_node::~link_node() {
  auto& p = *parts_;
  p.gate.reset();
  caf::anon_send_exit(p.links, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(p.accountant_actor, caf::exit_reason::user_shutdown);
  {
    caf::scoped_actor self{p.system};
    self->wait_for(p.links, p.accountant_actor);
  }
  std::lock_guard lock{p.book->mutex};
  p.book->up.clear();
  p.book->held.clear();
}

std::string link_node::address() const {
  return parts_->address;
}

gate_counters link_node::counters() const {
  return parts_->gate->counters();
}

std::vector<std::string> link_node::events() const {
  std::lock_guard lock{parts_->book->mutex};
  return parts_->book->events;
}

bool link_node::is_up(const std::string& id) const {
  std::lock_guard lock{parts_->book->mutex};
  return parts_->book->up.count(id) > 0;
}

std::string link_node::configured_address(const std::string& id) const {
  std::lock_guard lock{parts_->book->mutex};
  auto i = parts_->book->up.find(id);
  return i != parts_->book->up.end() ? i->second.configured_address : std::string{};
}

bool link_node::has_measured(const std::string& id) const {
  std::lock_guard lock{parts_->book->mutex};
  return parts_->book->measured.count(id) > 0;
}

bool link_node::say(const std::string& id, std::uint64_t round) {
  std::lock_guard lock{parts_->book->mutex};
  auto i = parts_->book->up.find(id);
  if (i == parts_->book->up.end())
    return false;
  beat message;
  message.round = round;
  caf::anon_send(i->second.handles.heartbeat, message);
  return true;
}

bool link_node::has_heard(std::uint64_t round) const {
  std::lock_guard lock{parts_->book->mutex};
  return parts_->book->heard.count(round) > 0;
}

int link_node::dialers() const {
  return *parts_->dialers;
}

std::vector<link_status> link_node::status() {
  auto answer = std::make_shared<std::promise<std::vector<link_status>>>();
  auto result = answer->get_future();
  caf::anon_send(parts_->links, get_links{[answer](std::vector<link_status> x) { answer->set_value(std::move(x)); }});
  return result.get();
}

void link_node::know_cluster(const std::string& cluster_id, const membership& members) {
  caf::anon_send(parts_->links, cluster_known{cluster_id, members});
}

void link_node::let_go() {
  std::lock_guard lock{parts_->book->mutex};
  parts_->book->held.clear();
}

}  // namespace coordinator
