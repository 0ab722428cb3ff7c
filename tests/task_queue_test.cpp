#include "actors/task_queue.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace coordinator;

namespace {

using ordinals = std::vector<task_ordinal>;
using places = std::vector<std::size_t>;

}  // namespace

TEST_CASE("task_queue: the highest priority goes first, then the order of submission") {
  task_queue queue;
  auto any = queue.acquire({});
  queue.push(any, 0, 1);
  queue.push(any, 0, 2);
  queue.push(any, 5, 3);
  queue.push(any, -5, 0);
  CHECK(queue.size() == 4);
  CHECK(queue.pick({}, 10) == ordinals{3, 1, 2, 0});
  CHECK(queue.pick({}, 2) == ordinals{3, 1});
  CHECK(queue.pick({}, 0).empty());
  CHECK(queue.size() == 4);
}

TEST_CASE("task_queue: the lowest and the highest priority there are keep their order") {
  task_queue queue;
  auto any = queue.acquire({});
  queue.push(any, INT32_MIN, 1);
  queue.push(any, INT32_MAX, 2);
  CHECK(queue.pick({}, 2) == ordinals{2, 1});
}

TEST_CASE("task_queue: a worker gets only what it can do, in one order over all classes") {
  task_queue queue;
  auto any = queue.acquire({});
  auto gpu = queue.acquire({{"cuda", true}});
  auto big = queue.acquire({{"memory_gb", 64}});
  queue.push(any, 0, 5);
  queue.push(gpu, 0, 4);
  queue.push(big, 9, 6);
  queue.push(gpu, 1, 7);
  CHECK(queue.pick({}, 9) == ordinals{5});
  CHECK(queue.pick({{"cuda", true}}, 9) == ordinals{7, 4, 5});
  CHECK(queue.pick({{"memory_gb", 128}}, 9) == ordinals{6, 5});
  queue.remove(gpu, 1, 7);
  CHECK(queue.pick({{"cuda", true}}, 1) == ordinals{4});
  CHECK(queue.size() == 3);
}

TEST_CASE("task_queue: a class lives as long as it has users, and its number is used again") {
  task_queue queue;
  auto x = queue.acquire({{"cuda", true}});
  CHECK(queue.acquire({{"cuda", true}}) == x);
  CHECK(queue.class_count() == 1);
  queue.release(x);
  CHECK(queue.class_count() == 1);
  queue.release(x);
  CHECK(queue.class_count() == 0);
  auto y = queue.acquire({{"os", "linux"}});
  CHECK(y == x);
  CHECK(queue.requirements(y) == capability_map{{"os", "linux"}});
}

TEST_CASE("task_queue: as many of those who wait are served as there is work for") {
  task_queue queue;
  auto any = queue.acquire({});
  auto gpu = queue.acquire({{"cuda", true}});
  queue.push(any, 0, 1);
  queue.push(any, 0, 2);
  queue.push(gpu, 0, 3);
  capability_map plain;
  capability_map cuda{{"cuda", true}};
  CHECK(queue.serve({{&plain, 1}, {&plain, 1}, {&plain, 1}, {&cuda, 1}}) == places{0, 1, 3});
  CHECK(queue.serve({{&cuda, 3}, {&plain, 1}}) == places{0});
  CHECK(queue.serve({{&plain, 0}, {&plain, 5}, {&plain, 1}}) == places{1});
  CHECK(queue.serve({}).empty());
}

TEST_CASE("task_queue: what is picked does not depend on the numbers of the classes") {
  std::mt19937 random{42};
  for (int round = 0; round < 50; ++round) {
    // The second queue got its classes in another order, with holes.
    task_queue first;
    task_queue second;
    std::vector<capability_map> kinds{{}, {{"a", true}}, {{"b", 4}}, {{"a", true}, {"b", 2}}};
    auto waste = second.acquire({{"waste", true}});
    std::vector<task_queue::class_id> of_second(kinds.size());
    for (std::size_t i = kinds.size(); i-- > 0;)
      of_second[i] = second.acquire(kinds[i]);
    second.release(waste);
    for (task_ordinal t = 0; t < 40; ++t) {
      auto kind = random() % kinds.size();
      auto priority = static_cast<std::int32_t>(random() % 3);
      first.push(first.acquire(kinds[kind]), priority, t);
      second.push(of_second[kind], priority, t);
    }
    for (auto& offered : {capability_map{}, {{"a", true}}, {{"a", true}, {"b", 3}}, {{"b", 9}}})
      CHECK(first.pick(offered, 25) == second.pick(offered, 25));
  }
}
