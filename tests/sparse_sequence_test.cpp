#include "actors/sparse_sequence.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace coordinator;

namespace {

template <class T>
std::vector<std::uint32_t> numbers(const sparse_sequence<T>& x, std::uint32_t from = 0) {
  std::vector<std::uint32_t> result;
  for (auto i = x.begin(from); i != x.end(); ++i)
    result.push_back(*i);
  return result;
}

}  // namespace

TEST_CASE("sparse sequence: it holds what a set of numbers would") {
  sparse_sequence<std::string> x;
  std::set<std::uint32_t> wanted;
  std::mt19937 random{7};
  std::uint32_t next = 0;
  for (int step = 0; step < 5'000; ++step) {
    if (random() % 2 == 0 || wanted.empty()) {
      next += random() % 50 == 0 ? 200 : 0;
      x.add(next) = std::to_string(next);
      wanted.insert(next++);
    } else {
      // Mostly the first, so that pages empty at the front, and at times any.
      auto gone = wanted.begin();
      if (random() % 4 == 0)
        std::advance(gone, static_cast<std::ptrdiff_t>(random() % wanted.size()));
      x.remove(*gone);
      CHECK_FALSE(x.contains(*gone));
      wanted.erase(gone);
    }
    CHECK(x.size() == wanted.size());
    if (step % 100 == 0) {
      auto from = static_cast<std::uint32_t>(random() % (next + 100));
      CHECK(numbers(x) == std::vector<std::uint32_t>(wanted.begin(), wanted.end()));
      CHECK(numbers(x, from) == std::vector<std::uint32_t>(wanted.lower_bound(from), wanted.end()));
      for (auto each : wanted)
        CHECK(x[each] == std::to_string(each));
    }
  }
}

TEST_CASE("sparse sequence: what is kept stays where it is, and all of it is destroyed once") {
  auto witness = std::make_shared<int>();
  {
    sparse_sequence<std::shared_ptr<int>> x;
    auto& first = x.add(0);
    first = witness;
    for (std::uint32_t i = 1; i < 1'000; ++i)
      x.add(i) = witness;
    CHECK(&first == x.find(0));
    for (std::uint32_t i = 1; i < 900; ++i)
      x.remove(i);
    CHECK(&first == x.find(0));
    CHECK(witness.use_count() == 102);
  }
  CHECK(witness.use_count() == 1);
}

TEST_CASE("sparse sequence: it ends before the last number there is") {
  sparse_sequence<int> x;
  auto last = x.end_number - 1;
  x.add(last) = 5;
  CHECK(numbers(x) == std::vector<std::uint32_t>{last});
  CHECK(numbers(x, last) == std::vector<std::uint32_t>{last});
  CHECK(numbers(x, x.end_number).empty());
  CHECK(x.find(last - 1) == nullptr);
  CHECK(x.find(x.end_number) == nullptr);
  x.remove(last);
  CHECK(numbers(x).empty());
}
