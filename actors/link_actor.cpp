#include "actors/link_actor.hpp"

#include <spdlog/spdlog.h>

#include <caf/actor_cast.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <utility>

#include "actors/tick_grid.hpp"

namespace coordinator {

namespace {

using namespace std::chrono_literals;
using self_pointer = links_actor::stateful_pointer<links_state>;

constexpr auto tick_interval = 50ms;
constexpr unsigned ticks_between_pings = 10;
constexpr unsigned pings_before_lost = 6;
/// Connecting has deadlines of its own; what is left is the look-up of a name, which has none.
constexpr auto dial_timeout = 10s;
constexpr auto answer_timeout = 1s;

milliseconds now() {
  return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
}

/// Errors of our own carry one line for people.
std::string text_of(caf::actor_system& system, const caf::error& error) {
  if (error.context().match_elements<std::string>())
    return error.context().get_as<std::string>(0);
  return error == caf::sec::request_timeout ? "no answer in time" : system.render(error);
}

template <class... Handles>
std::vector<caf::strong_actor_ptr> pointers(const Handles&... handles) {
  std::vector<caf::strong_actor_ptr> all{caf::actor_cast<caf::strong_actor_ptr>(handles)...};
  std::erase(all, nullptr);
  return all;
}

/// Says `what` when the actor ends, or the connection to it; at once if that has happened.
void watch(self_pointer self, const caf::strong_actor_ptr& actor, link_lost what) {
  // Monitoring would not do: CAF takes the proxies of one actor before and after a broken connection for
  // equal, so that word of the old one's death would end the new link.
  auto links = caf::actor_cast<links_actor>(self);
  caf::actor_cast<caf::abstract_actor*>(actor)->attach_functor(
      [links, what](const caf::error&) { caf::anon_send(links, what); });
}

void tell_failure(links_state& state, std::uint64_t peer, const std::string& address, const std::string& error) {
  auto& told = state.told[peer];
  if (std::exchange(told, error) != error)
    spdlog::info("no link to {}: {}", address, error);
}

// -- opening and losing ----------------------------------------------------------

void lose(self_pointer self, std::uint64_t number, const std::string& error) {
  auto& state = self->state;
  auto i = state.sessions.find(number);
  if (i == state.sessions.end())
    return;
  state.sessions.erase(i);
  auto id = state.table->lost(number, error, now());
  if (!id)
    return;
  spdlog::info("the link to {} is down: {}", id->value, error);
  if (state.config.watcher)
    state.config.watcher->link_down(*id, error);
  for (auto& listener : state.config.listeners.peers)
    self->send(listener, peer_down{*id});
}

void establish(self_pointer self, std::optional<std::uint64_t> peer, const link_hello& other, const peer_links& links,
               const peer_handles& handles) {
  auto& state = self->state;
  auto opened = state.table->open(peer, other, now());
  state.sessions.erase(opened.replaced);
  auto& session = state.sessions[opened.session];
  session.id = other.who.id;
  session.links = links;
  for (auto& actor :
       pointers(links, handles.election, handles.heartbeat, handles.replication, handles.gateway, handles.fleet))
    watch(self, actor, link_lost{opened.session, 0});
  if (peer)
    state.told.erase(*peer);
  spdlog::info("the link to {} at {} is up", other.who.id.value, other.cluster_address);
  if (state.config.watcher)
    state.config.watcher->link_up(other.who.id);
  peer_up news{other.who,     other.cluster_id, other.http_address, other.cluster_address, opened.configured_address,
               other.boot_id, handles};
  for (auto& listener : state.config.listeners.peers)
    self->send(listener, news);
}

// -- dialling ----------------------------------------------------------------------

void dial_failed(self_pointer self, std::uint64_t peer, const std::string& address, const std::string& error) {
  self->state.table->dial_failed(peer, error, now());
  tell_failure(self->state, peer, address, error);
}

void greeting_failed(self_pointer self, std::uint64_t number, const std::string& error) {
  if (auto node = self->state.greetings.extract(number))
    dial_failed(self, node.mapped().peer, node.mapped().address, error);
}

void exchange_handles(self_pointer self, std::uint64_t number, const link_hello& other) {
  auto& greeting = self->state.greetings[number];
  auto offer = link_open{self->state.table->self(), self->state.config.handles};
  self->request(greeting.links, answer_timeout, std::move(offer))
      .then(
          [self, number, other](const link_opened& answer) {
            auto node = self->state.greetings.extract(number);
            if (!node)
              return;
            auto& [peer, address, links] = node.mapped();
            // Much may have come in meanwhile, even a link that the other side has opened.
            auto reason = answer.accepted ? self->state.table->refusal(peer, other) : "refused: " + answer.reason;
            if (reason.empty())
              establish(self, peer, other, links, answer.handles);
            else
              dial_failed(self, peer, address, reason);
          },
          [self, number](const caf::error& error) { greeting_failed(self, number, text_of(self->system(), error)); });
}

void hear_reply(self_pointer self, std::uint64_t number, const link_hello_reply& reply) {
  auto& state = self->state;
  auto i = state.greetings.find(number);
  if (i == state.greetings.end())
    return;
  auto peer = i->second.peer;
  if (reply.accepted && state.table->is_superfluous(peer, reply.self)) {
    state.greetings.erase(i);
    state.table->dial_superfluous(peer);
    return;
  }
  auto reason = reply.accepted ? state.table->refusal(peer, reply.self) : "refused: " + reply.reason;
  if (reason.empty())
    exchange_handles(self, number, reply.self);
  else
    greeting_failed(self, number, reason);
}

void greet(self_pointer self, std::uint64_t peer, const std::string& address, const remote_endpoint& found) {
  auto& state = self->state;
  if (!found.actor || !self->system().assignable<peer_links>(found.interface)) {
    dial_failed(self, peer, address, "what answers there speaks another version of the link protocol");
    return;
  }
  auto number = ++state.last_greeting;
  auto links = caf::actor_cast<peer_links>(found.actor);
  state.greetings[number] = {peer, address, links};
  watch(self, found.actor, link_lost{0, number});
  // The answers' handlers name the greeting and do not hold the handle, which would outlive the connection with them.
  self->request(links, answer_timeout, state.table->self())
      .then([self, number](const link_hello_reply& reply) { hear_reply(self, number, reply); },
            [self, number](const caf::error& error) { greeting_failed(self, number, text_of(self->system(), error)); });
}

void dial(self_pointer self, const link_table::dial_order& order) {
  auto& state = self->state;
  auto& dialer = state.dialers[order.peer];
  if (!dialer)
    dialer = state.config.spawn_dialer();
  auto peer = order.peer;
  auto address = order.address;
  self->request(dialer, dial_timeout, link_dial{address})
      .then([self, peer, address](const remote_endpoint& found) { greet(self, peer, address, found); },
            [self, peer, address](const caf::error& error) {
              dial_failed(self, peer, address, text_of(self->system(), error));
            });
}

// -- being dialled -----------------------------------------------------------------

link_opened accept(self_pointer self, const link_open& offer) {
  link_opened answer;
  answer.reason = self->state.table->refusal(offer.self);
  answer.accepted = answer.reason.empty();
  if (!answer.accepted)
    return answer;
  answer.handles = self->state.config.handles;
  establish(self, std::nullopt, offer.self, caf::actor_cast<peer_links>(self->current_sender()), offer.handles);
  return answer;
}

// -- watching ----------------------------------------------------------------------

void hear_pong(self_pointer self, std::uint64_t number, const link_pong& pong, std::int64_t rtt_us) {
  auto i = self->state.sessions.find(number);
  if (i == self->state.sessions.end())
    return;
  i->second.unanswered_pings = 0;
  self->state.table->measured(number, rtt_us);
  if (self->state.config.watcher)
    self->state.config.watcher->pong(i->second.id, std::chrono::microseconds{rtt_us}, pong.reports);
  if (self->state.config.listeners.rtt)
    self->send(self->state.config.listeners.rtt, peer_rtt{i->second.id, rtt_us});
  auto& ours = self->state.table->self().cluster_id;
  if (!pong.cluster_id.empty() && !ours.empty() && pong.cluster_id != ours)
    lose(self, number, "it belongs to cluster \"" + pong.cluster_id + "\", this node to \"" + ours + "\"");
}

void ping(self_pointer self, std::uint64_t number, links_state::session& session) {
  auto began = std::chrono::steady_clock::now();
  ++session.unanswered_pings;
  self->request(session.links, answer_timeout, link_ping{self->state.table->self().cluster_id})
      .then(
          [self, number, began](const link_pong& pong) {
            auto taken = std::chrono::steady_clock::now() - began;
            hear_pong(self, number, pong, std::chrono::duration_cast<std::chrono::microseconds>(taken).count());
          },
          [](const caf::error&) {
            // The next tick counts it.
          });
}

void ping_all(self_pointer self) {
  std::vector<std::uint64_t> silent;
  for (auto& [number, session] : self->state.sessions) {
    if (session.unanswered_pings >= pings_before_lost)
      silent.push_back(number);
    else
      ping(self, number, session);
  }
  for (auto number : silent)
    lose(self, number, "it does not answer");
}

void aim_probe(links_state& state) {
  const auto probe = state.config.probe.lock();
  if (!probe)
    return;
  std::vector<path_probe::target> targets;
  for (auto& peer : state.table->status())
    if (!peer.id.empty())
      targets.push_back({peer.id, peer.address});
  probe->aim(std::move(targets));
}

void end_unused_dialers(links_state& state) {
  std::erase_if(state.dialers, [&](auto& each) {
    if (state.table->is_listed(each.first))
      return false;
    caf::anon_send_exit(each.second, caf::exit_reason::user_shutdown);
    return true;
  });
}

void on_tick(self_pointer self) {
  for (auto& order : self->state.table->due(now()))
    dial(self, order);
  if (++self->state.ticks % ticks_between_pings == 0) {
    ping_all(self);
    end_unused_dialers(self->state);
    aim_probe(self->state);
  }
  if (self->state.config.watcher)
    self->state.config.watcher->look_for_silence();
  self->delayed_send(self, tick_grid::of(tick_interval, self->state.config.tick_seed).until_next(now()), links_tick{});
}

}  // namespace

links_actor::behavior_type links_behavior(links_actor::stateful_pointer<links_state> self, links_config config) {
  auto seed = config.seed;
  self->state.table = std::make_unique<link_table>(config.self, config.targets, seed, now());
  self->state.config = std::move(config);
  self->set_exit_handler([self](caf::exit_msg& message) {
    // Dialers end with the links, however these end.
    for (auto& [peer, dialer] : self->state.dialers)
      caf::anon_send_exit(dialer, caf::exit_reason::user_shutdown);
    self->quit(std::move(message.reason));
  });
  self->send(self, links_tick{});
  return {
      [self](const link_hello& other) {
        auto reason = self->state.table->refusal(other);
        // Both sides say it: an operator may look at either.
        if (!reason.empty() && std::exchange(self->state.refused, reason) != reason)
          spdlog::warn("no link with {} at {}: {}", other.who.id.value, other.cluster_address, reason);
        return link_hello_reply{reason.empty(), reason, self->state.table->self()};
      },
      [self](const link_open& offer) { return accept(self, offer); },
      [self](const link_ping&) {
        auto& watcher = self->state.config.watcher;
        return link_pong{self->state.table->self().cluster_id,
                         watcher ? watcher->reports() : std::vector<node_report>{}};
      },
      [self](const cluster_known& news) {
        if (self->state.config.watcher)
          self->state.config.watcher->members(news.members);
        for (auto number : self->state.table->know_cluster(news.cluster_id, news.members, now()))
          lose(self, number,
               "it belongs to another cluster than this node, which has joined \"" + news.cluster_id + "\"");
      },
      [self](const get_links& query) { query.done(self->state.table->status()); },
      [self](const link_lost& news) {
        if (news.session != 0)
          lose(self, news.session, "the connection broke");
        else
          greeting_failed(self, news.greeting, "the connection broke");
      },
      [self](const links_tick&) { on_tick(self); },
  };
}

std::set<std::string> published_interface(caf::actor_system& system) {
  return system.message_types<peer_links>();
}

void announce_link_messages(caf::actor_system_config& config) {
  config.add_message_type<link_hello>("link_hello");
  config.add_message_type<link_hello_reply>("link_hello_reply");
  config.add_message_type<link_open>("link_open");
  config.add_message_type<link_opened>("link_opened");
  config.add_message_type<link_ping>("link_ping");
  config.add_message_type<link_pong>("link_pong");
}

}  // namespace coordinator
