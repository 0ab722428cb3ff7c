#include "actors/local_first.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

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
#include <mutex>
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

/// Two actors of which the first can end its turn only after the second had its own.
struct meeting {
  std::promise<void> reached;
  std::promise<void> over;

  std::pair<caf::actor, caf::actor> spawn_both(caf::actor_system& system) {
    return {spawn(system,
                  [this](caf::event_based_actor*, int) {
                    reached.get_future().wait();
                    over.set_value();
                  }),
            spawn(system, [this](caf::event_based_actor*, int) { reached.set_value(); })};
  }
};

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
  meeting met;
  config with{2};
  caf::actor_system system{with};
  auto [waits, reaches] = met.spawn_both(system);
  auto both = spawn(system, [waits = waits, reaches = reaches](caf::event_based_actor* self, int x) {
    self->send(waits, x);
    self->send(reaches, x);
  });
  caf::anon_send(both, 1);
  CHECK(met.over.get_future().wait_for(limit) == std::future_status::ready);
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

TEST_CASE("scheduling: every delayed message comes, and none early, whoever sends it") {
  using clock = std::chrono::steady_clock;
  constexpr int each = 200;
  for (std::size_t threads : {1, 4}) {
    std::mutex mutex;
    std::vector<clock::time_point> due(3 * each, clock::time_point::max());
    std::atomic<int> early = 0;
    std::atomic<int> arrived = 0;
    std::promise<void> all;
    auto set = [&](int x, std::chrono::milliseconds delay) {
      std::lock_guard lock{mutex};
      due[static_cast<std::size_t>(x)] = clock::now() + delay;
    };
    auto delay_of = [](int x) { return std::chrono::milliseconds{x * 37 % 101}; };
    config with{threads};
    caf::actor_system system{with};
    auto receiver = spawn(system, [&](caf::event_based_actor*, int x) {
      {
        std::lock_guard lock{mutex};
        if (clock::now() < due[static_cast<std::size_t>(x)])
          ++early;
      }
      if (++arrived == 3 * each)
        all.set_value();
    });
    auto sender = spawn(system, [&, receiver](caf::event_based_actor* self, int x) {
      set(x, delay_of(x));
      self->delayed_send(receiver, delay_of(x), x);
    });
    for (int i = 0; i < each; ++i) {
      caf::anon_send(sender, 3 * i);
      set(3 * i + 1, delay_of(i));
      caf::delayed_anon_send(receiver, delay_of(i), 3 * i + 1);
      set(3 * i + 2, delay_of(i));
      caf::delayed_anon_send(sender, delay_of(i), 3 * i + 2);
    }
    CHECK(all.get_future().wait_for(limit) == std::future_status::ready);
    CHECK_EQ(arrived, 3 * each);
    CHECK_EQ(early, 0);
  }
}

TEST_CASE("scheduling: a delayed message is seen to while the thread that saw to the one before is busy") {
  meeting met;
  config with{2};
  caf::actor_system system{with};
  auto [waits, reaches] = met.spawn_both(system);
  REQUIRE(falls_asleep(waits));
  REQUIRE(falls_asleep(reaches));
  caf::delayed_anon_send(waits, 20ms, 1);
  caf::delayed_anon_send(reaches, 60ms, 1);
  CHECK(met.over.get_future().wait_for(limit) == std::future_status::ready);
}

TEST_CASE("scheduling: of two that are due together, the second does not wait for ever for the first") {
  meeting met;
  config with{2};
  caf::actor_system system{with};
  auto [waits, reaches] = met.spawn_both(system);
  auto both = spawn(system, [&system, waits = waits, reaches = reaches](caf::event_based_actor*, int x) {
    auto when = std::chrono::steady_clock::now() + 50ms;
    for (auto& to : {waits, reaches})
      system.clock().schedule_message(when, caf::actor_cast<caf::strong_actor_ptr>(to),
                                      caf::make_mailbox_element(nullptr, caf::make_message_id(), {}, x));
  });
  caf::anon_send(both, 1);
  CHECK(met.over.get_future().wait_for(limit) == std::future_status::ready);
}

TEST_CASE("scheduling: a request that nobody answers ends after its time, and one that is answered does not") {
  std::promise<bool> silent;
  std::promise<int> answered;
  config with{2};
  caf::actor_system system{with};
  auto dumb = system.spawn([](caf::event_based_actor* self) -> caf::behavior {
    return {[self](int) { return self->make_response_promise<int>(); }};
  });
  auto twice = system.spawn([]() -> caf::behavior { return {[](int x) { return 2 * x; }}; });
  auto asks = system.spawn([&](caf::event_based_actor* self) -> caf::behavior {
    self->request(dumb, 30ms, 1)
        .then([&](int) { silent.set_value(false); }, [&](const caf::error&) { silent.set_value(true); });
    self->request(twice, 60s, 21)
        .then([&](int x) { answered.set_value(x); }, [&](const caf::error&) { answered.set_value(0); });
    return {[](int) {}};
  });
  auto x = silent.get_future();
  auto y = answered.get_future();
  REQUIRE(x.wait_for(limit) == std::future_status::ready);
  REQUIRE(y.wait_for(limit) == std::future_status::ready);
  CHECK(x.get());
  CHECK_EQ(y.get(), 42);
}

TEST_CASE("scheduling: timers that fire together cost one wake-up of one thread") {
  constexpr int rounds = 100;
  constexpr int timers = 3;
  std::atomic<int> over = 0;
  std::promise<void> all;
  config with{4};
  caf::actor_system system{with};
  const auto start = std::chrono::steady_clock::now() + 20ms;
  auto next = [start](int round) {
    return std::max(start + 5ms * round - std::chrono::steady_clock::now(), std::chrono::steady_clock::duration{0});
  };
  std::vector<caf::actor> each;
  for (int i = 0; i < timers; ++i)
    each.push_back(spawn(system, [&, next](caf::event_based_actor* self, int round) {
      if (round < rounds)
        self->delayed_send(self, next(round), round + 1);
      else if (++over == timers)
        all.set_value();
    }));
  for (auto& timer : each)
    REQUIRE(falls_asleep(timer));
  ::rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  for (auto& timer : each)
    caf::anon_send(timer, 0);
  REQUIRE(all.get_future().wait_for(limit) == std::future_status::ready);
  ::getrusage(RUSAGE_SELF, &after);
  // A thread for the clock would sleep once or twice for each of them, and the receivers' threads as often.
  CHECK_LT(after.ru_nvcsw - before.ru_nvcsw, 2 * rounds);
}
