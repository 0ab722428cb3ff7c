#include "actors/local_first.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scheduled_actor.hpp>
#include <caf/send.hpp>
#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <thread>
#include <vector>

using namespace coordinator;

namespace {

using namespace std::chrono_literals;

constexpr auto limit = 60s;

struct config : caf::actor_system_config {
  explicit config(std::size_t threads) {
    use_local_first(*this);
    set("scheduler.max-threads", threads);
  }
};

/// An actor that hands every number to `f`. What `f` refers to is declared before the system, whose end waits for it.
template <class F>
caf::actor spawn(caf::actor_system& system, F f) {
  return system.spawn(
      [f](caf::event_based_actor* self) -> caf::behavior { return {[self, f](int x) { f(self, x); }}; });
}

/// Whether it comes to wait for a message.
bool falls_asleep(const caf::actor& x) {
  auto& mailbox = dynamic_cast<caf::scheduled_actor&>(*caf::actor_cast<caf::abstract_actor*>(x)).mailbox();
  for (auto deadline = std::chrono::steady_clock::now() + limit; std::chrono::steady_clock::now() < deadline;
       std::this_thread::sleep_for(1ms))
    if (mailbox.blocked())
      return true;
  return false;
}

}  // namespace

TEST_CASE("scheduling: the receiver goes on next on the sender's thread, though others sleep") {
  std::promise<std::thread::id> ran;
  auto ran_on = ran.get_future();
  std::promise<std::thread::id> sent;
  bool elsewhere = false;
  config with{4};
  caf::actor_system system{with};
  auto receiver = spawn(system, [&](caf::event_based_actor*, int) { ran.set_value(std::this_thread::get_id()); });
  // One that has never run is in the common queue already.
  REQUIRE(falls_asleep(receiver));
  auto sender = spawn(system, [&](caf::event_based_actor* self, int x) {
    self->send(receiver, x);
    elsewhere = ran_on.wait_for(100ms) == std::future_status::ready;
    sent.set_value(std::this_thread::get_id());
  });
  caf::anon_send(sender, 1);
  auto sent_on = sent.get_future();
  REQUIRE(sent_on.wait_for(limit) == std::future_status::ready);
  REQUIRE(ran_on.wait_for(limit) == std::future_status::ready);
  CHECK_FALSE(elsewhere);
  CHECK_EQ(ran_on.get(), sent_on.get());
}

TEST_CASE("scheduling: while one actor is busy, the others go on elsewhere") {
  std::promise<void> entered;
  std::promise<void> release;
  std::promise<int> answered;
  config with{2};
  caf::actor_system system{with};
  auto busy = spawn(system, [&](caf::event_based_actor*, int) {
    entered.set_value();
    release.get_future().wait();
  });
  auto other = spawn(system, [&](caf::event_based_actor*, int x) { answered.set_value(x); });
  caf::anon_send(busy, 1);
  REQUIRE(entered.get_future().wait_for(limit) == std::future_status::ready);
  caf::anon_send(other, 7);
  auto answer = answered.get_future();
  CHECK(answer.wait_for(limit) == std::future_status::ready);
  release.set_value();
}

TEST_CASE("scheduling: of several actors to which one sends, all but one are for other threads as well") {
  std::promise<void> reached;
  std::promise<void> over;
  config with{2};
  caf::actor_system system{with};
  auto waits = spawn(system, [&](caf::event_based_actor*, int) {
    reached.get_future().wait();
    over.set_value();
  });
  auto reaches = spawn(system, [&](caf::event_based_actor*, int) { reached.set_value(); });
  auto both = spawn(system, [&](caf::event_based_actor* self, int x) {
    self->send(waits, x);
    self->send(reaches, x);
  });
  caf::anon_send(both, 1);
  CHECK(over.get_future().wait_for(limit) == std::future_status::ready);
}

TEST_CASE("scheduling: two actors that keep each other busy let all others have their turn, on one thread, too") {
  std::atomic<bool> stop = false;
  std::atomic<caf::actor*> partner = nullptr;
  config with{1};
  caf::actor_system system{with};
  auto ping = spawn(system, [&](caf::event_based_actor* self, int x) {
    if (!stop)
      self->send(*partner.load(), x + 1);
  });
  auto pong = spawn(system, [&stop, ping](caf::event_based_actor* self, int x) {
    if (!stop)
      self->send(ping, x + 1);
  });
  partner = &pong;
  caf::anon_send(ping, 0);
  for (int i = 0; i < 100; ++i) {
    auto done = std::make_shared<std::promise<void>>();
    auto result = done->get_future();
    auto other = spawn(system, [done](caf::event_based_actor*, int) { done->set_value(); });
    caf::anon_send(other, i);
    REQUIRE(result.wait_for(limit) == std::future_status::ready);
  }
  stop = true;
}

TEST_CASE("scheduling: nothing is lost or done twice, whoever sends") {
  constexpr int senders = 4;
  constexpr int each = 5'000;
  constexpr int stations = 16;
  std::atomic<int> arrived = 0;
  std::promise<void> all;
  config with{4};
  caf::actor_system system{with};
  auto count = spawn(system, [&](caf::event_based_actor*, int) {
    if (++arrived == senders * each)
      all.set_value();
  });
  std::vector<caf::actor> relays;
  for (int i = 0; i < stations; ++i)
    relays.push_back(spawn(system, [count](caf::event_based_actor* self, int x) { self->send(count, x); }));
  std::vector<std::thread> threads;
  for (int s = 0; s < senders; ++s)
    threads.emplace_back([&, s] {
      for (int i = 0; i < each; ++i)
        caf::anon_send(relays[static_cast<std::size_t>(s + i) % stations], i);
    });
  for (auto& thread : threads)
    thread.join();
  CHECK(all.get_future().wait_for(limit) == std::future_status::ready);
  CHECK_EQ(arrived, senders * each);
}
