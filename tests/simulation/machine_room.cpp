#include "tests/simulation/machine_room.hpp"

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/atom.hpp>
#include <caf/exit_reason.hpp>
#include <caf/make_actor.hpp>
#include <caf/send.hpp>

#include "actors/announce.hpp"

namespace coordinator::simulation {
namespace {

constexpr std::size_t nobody = static_cast<std::size_t>(-1);

caf::resumable* as_job(const caf::strong_actor_ptr& actor) {
  return dynamic_cast<caf::resumable*>(caf::actor_cast<caf::abstract_actor*>(actor));
}

}  // namespace

machine_room::machine_room(chance& random) : random_(random) {
  config_.set("scheduler.policy", caf::atom("testing"));
  announce_messages(config_);
  system_ = std::make_unique<caf::actor_system>(config_);
  scheduler_ = dynamic_cast<caf::scheduler::test_coordinator*>(&system_->scheduler());
  director_ = make_tap([this](caf::mailbox_element_ptr what) {
    auto event = events_.extract(what->content().get_as<std::uint64_t>(0));
    if (!event.empty())
      event.mapped()();
  });
}

machine_room::~machine_room() {
  events_.clear();
  scheduler_->clock().cancel_all();
  while (scheduler_->has_job())
    scheduler_->run_once();
  scheduler_->clock().cancel_all();
  director_ = nullptr;
}

microseconds machine_room::now() const {
  return std::chrono::duration_cast<microseconds>(scheduler_->clock().now().time_since_epoch());
}

caf::strong_actor_ptr machine_room::make_tap(tap::handler on_message) {
  caf::actor_config config;
  return caf::make_actor<tap, caf::strong_actor_ptr>(system_->next_actor_id(), system_->node(), system_.get(), config,
                                                     std::move(on_message));
}

void machine_room::adopt(const caf::strong_actor_ptr& actor, owner who) {
  owners_[as_job(actor)] = who;
}

void machine_room::kill(const std::vector<caf::strong_actor_ptr>& actors) {
  for (auto& actor : actors)
    caf::anon_send_exit(actor, caf::exit_reason::kill);
  for (auto& actor : actors) {
    auto* job = as_job(actor);
    auto& jobs = scheduler_->jobs;
    for (;;) {
      auto i = std::find(jobs.begin(), jobs.end(), job);
      if (i == jobs.end())
        break;
      jobs.erase(i);
      jobs.push_front(job);
      scheduler_->run_once();
    }
    owners_.erase(job);
  }
}

void machine_room::after(microseconds delay, std::function<void()> what) {
  auto number = ++last_event_;
  events_.emplace(number, std::move(what));
  deliver(delay, director_, caf::make_message(number));
}

void machine_room::deliver(microseconds delay, caf::strong_actor_ptr to, caf::message what) {
  auto& clock = scheduler_->clock();
  clock.schedule_message(clock.now() + delay, std::move(to),
                         caf::make_mailbox_element(nullptr, caf::make_message_id(), {}, std::move(what)));
}

void machine_room::hold(const owner& who, microseconds until) {
  auto& held = held_[key(who)];
  held = std::max(held, until);
  // Something must happen then, or time would pass it by.
  after(until - now(), [] {});
}

std::size_t machine_room::pick() {
  auto& jobs = scheduler_->jobs;
  if (jobs.empty())
    return nobody;
  if (held_.empty())
    return random_.below(jobs.size());
  ready_.clear();
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    auto who = owners_.find(jobs[i]);
    if (who == owners_.end() || !held_.contains(key(who->second)))
      ready_.push_back(i);
  }
  return ready_.empty() ? nobody : ready_[random_.below(ready_.size())];
}

bool machine_room::step(const std::function<void(owner)>& ran) {
  ++steps_;
  std::erase_if(held_, [t = now()](const auto& x) { return x.second <= t; });
  auto chosen = pick();
  if (chosen == nobody)
    return scheduler_->trigger_timeout();
  auto& jobs = scheduler_->jobs;
  auto* job = jobs[chosen];
  jobs.erase(jobs.begin() + static_cast<std::ptrdiff_t>(chosen));
  jobs.push_front(job);
  auto who = owners_.find(job);
  auto known = who != owners_.end();
  auto whom = known ? who->second : owner{};
  scheduler_->run_once();
  if (known)
    ran(whom);
  return true;
}

}  // namespace coordinator::simulation
