#include "tests/benchmark/cost_cluster.hpp"

#include <caf/actor_cast.hpp>
#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>
#include <caf/io/basp/header.hpp>
#include <caf/make_actor.hpp>
#include <caf/monitorable_actor.hpp>
#include <caf/send.hpp>
#include <stdexcept>

#include "actors/announce.hpp"
#include "persistence/node_files.hpp"

namespace coordinator::bench {
namespace {

/// An address without an actor behind it: what is sent to it is handed to a function, at once.
class wire_end final : public caf::monitorable_actor {
 public:
  using handler = std::function<void(caf::message)>;
  wire_end(caf::actor_config& config, handler on_message)
      : caf::monitorable_actor(config), on_message_(std::move(on_message)) {}

  using caf::monitorable_actor::enqueue;
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) override {
    if (what)
      on_message_(what->move_content_to_message());
  }

 private:
  handler on_message_;
};

}  // namespace

cost_cluster::cost_cluster(const std::filesystem::path& directory) : system_(announce_messages) {
  nodes_.resize(size);
  for (unsigned i = 0; i < size; ++i) {
    nodes_[i].id.value = "node-" + std::to_string(i + 1);
    nodes_[i].address = "127.0.0.1:" + std::to_string(8080 + i);
  }
  for (unsigned i = 0; i < size; ++i)
    start(i, directory / nodes_[i].id.value);
  for (unsigned whom = 0; whom < size; ++whom)
    for (unsigned about = 0; about < size; ++about)
      if (whom != about)
        connect(whom, about);
  run_until([this] {
    for (unsigned i = 0; i < size; ++i)
      if (port(i).current_leadership().leader == nodes_[i].id)
        leader_ = i;
    return leader_ != size;
  });
  // Long enough for everything that only follows an election.
  pass(milliseconds{2000});
}

cost_cluster::~cost_cluster() {
  for (auto& n : nodes_)
    n.actors = {};
  system_.kill_all();
}

void cost_cluster::start(unsigned number, const std::filesystem::path& directory) {
  auto& n = nodes_[number];
  std::filesystem::create_directories(directory);
  stores_to_open stores;
  stores.files = std::make_shared<real_files>(directory.string());
  stores.id = n.id;
  stores.create = true;
  stores.new_incarnation = 11 + number;
  n.watcher = std::make_shared<observer>(n.id, 1 + number);
  node_settings settings;
  settings.id = n.id;
  settings.http_address = settings.cluster_address = n.address;
  for (auto& other : nodes_)
    if (other.id != n.id)
      settings.peers.push_back({other.id, other.address});
  settings.clock = system_.clock();
  settings.seed = 1 + number;
  settings.detached_writers = false;
  settings.watcher = n.watcher;
  n.actors = spawn_node_actors(system_.system(), settings, open_stores(stores));
  for (auto& [name, actor] : n.actors.all())
    system_.own(actor);
  auto deaf = caf::make_actor<wire_end, caf::strong_actor_ptr>(
      system_.system().next_actor_id(), system_.system().node(), &system_.system(),
      *std::make_unique<caf::actor_config>(), [](caf::message) {});
  wire(n.actors, caf::actor_cast<caf::typed_actor<caf::reacts_to<cluster_known>>>(deaf));
}

caf::strong_actor_ptr cost_cluster::wire_to(caf::strong_actor_ptr target) {
  caf::actor_config config;
  auto& system = system_.system();
  return caf::make_actor<wire_end, caf::strong_actor_ptr>(
      system.next_actor_id(), system.node(), &system, config,
      [this, target = std::move(target)](caf::message what) { carry(std::move(what), target); });
}

/// The payload of BASP's direct message, which begins with the actors that it is yet to pass through: none.
void cost_cluster::carry(caf::message what, const caf::strong_actor_ptr& to) {
  bytes_.clear();
  std::vector<caf::strong_actor_ptr> stages;
  caf::binary_serializer sink{system_.system(), bytes_};
  if (auto error = sink(stages, what))
    throw std::runtime_error("a message cannot be put into bytes: " + caf::to_string(what));
  wire_bytes_ += caf::io::basp::header_size + bytes_.size();
  caf::message arrived;
  caf::binary_deserializer source{system_.system(), bytes_};
  if (auto error = source(stages, arrived))
    throw std::runtime_error("a message cannot be read from its bytes: " + caf::to_string(what));
  to->enqueue(nullptr, caf::make_message_id(), std::move(arrived), nullptr);
}

void cost_cluster::connect(unsigned whom, unsigned about) {
  auto& n = nodes_[whom];
  auto& other = nodes_[about];
  peer_up news;
  news.who = other.actors.self;
  news.http_address = news.cluster_address = news.configured_address = other.address;
  news.boot_id = other.actors.boot_id;
  auto wire = [this](const auto& actor) {
    return caf::actor_cast<std::decay_t<decltype(actor)>>(wire_to(caf::actor_cast<caf::strong_actor_ptr>(actor)));
  };
  auto& a = other.actors;
  news.handles = {wire(a.election), wire(a.heartbeat), wire(a.keeper), wire(a.gateway), wire(a.fleet)};
  caf::anon_send(n.actors.keeper, news);
  caf::anon_send(n.actors.election, news);
  caf::anon_send(n.actors.heartbeat, news);
  caf::anon_send(n.actors.gateway, news);
  caf::anon_send(n.actors.fleet, news);
}

void cost_cluster::run_until(const std::function<bool()>& done) {
  system_.run();
  for (int ms = 0; !done(); ++ms) {
    if (ms == 10'000)
      throw std::runtime_error("nothing comes of it in ten seconds of virtual time");
    system_.pass(milliseconds{1});
  }
}

}  // namespace coordinator::bench
