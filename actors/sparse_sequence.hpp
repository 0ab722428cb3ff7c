#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <new>
#include <utility>

#include "actors/invariant.hpp"

namespace coordinator {

/// Things numbered in ascending order, most of which leave again in about that order. Access is constant time, and what
/// is kept stays at its address. Memory follows from what is kept and, at an eighth of a byte a number, from the
/// distance between the first and the last of it.
template <class T>
class sparse_sequence {
  static constexpr std::uint32_t page_size = 64;

 public:
  /// Past every number.
  static constexpr std::uint32_t end_number = UINT32_MAX;

  class iterator {
   public:
    using value_type = std::uint32_t;
    using difference_type = std::ptrdiff_t;

    iterator() = default;
    iterator(const sparse_sequence& owner, std::uint32_t number) : owner_(&owner), number_(number) {}
    std::uint32_t operator*() const { return number_; }
    iterator& operator++() {
      number_ = owner_->next(number_ + 1);
      return *this;
    }
    iterator operator++(int) {
      auto before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const iterator& a, const iterator& b) { return a.number_ == b.number_; }

   private:
    const sparse_sequence* owner_ = nullptr;
    std::uint32_t number_ = end_number;
  };

  /// The numbers that are kept, ascending, from the first that is not below `from`.
  iterator begin(std::uint32_t from = 0) const { return {*this, next(from)}; }
  iterator end() const { return {*this, end_number}; }

  std::size_t size() const { return size_; }

  /// Adds a thing under a number above all that were ever used, and below `end_number`.
  T& add(std::uint32_t number) {
    COORDINATOR_INVARIANT(number >= used_to_ && number != end_number);
    used_to_ = number + 1;
    if (pages_.empty())
      first_page_ = number / page_size;
    while (first_page_ + pages_.size() <= number / page_size)
      pages_.emplace_back();
    auto& held = pages_[number / page_size - first_page_];
    if (!held)
      held = std::make_unique<page>();
    ++size_;
    return held->add(number % page_size);
  }

  T* find(std::uint32_t number) {
    auto held = page_of(number);
    return held && held->has(number % page_size) ? &held->at(number % page_size) : nullptr;
  }
  const T* find(std::uint32_t number) const { return const_cast<sparse_sequence*>(this)->find(number); }
  bool contains(std::uint32_t number) const { return find(number) != nullptr; }

  /// It must be there.
  T& operator[](std::uint32_t number) { return page_of(number)->at(number % page_size); }
  const T& operator[](std::uint32_t number) const { return const_cast<sparse_sequence&>(*this)[number]; }

  /// It must be there.
  void remove(std::uint32_t number) {
    auto& held = pages_[number / page_size - first_page_];
    held->remove(number % page_size);
    --size_;
    if (!held->mask)
      held.reset();
    while (!pages_.empty() && !pages_.front()) {
      pages_.pop_front();
      ++first_page_;
    }
  }

 private:
  struct page {
    std::uint64_t mask = 0;  ///< Which places are in use.
    alignas(T) std::array<std::byte, page_size * sizeof(T)> places;

    page() {}
    page(const page&) = delete;
    page& operator=(const page&) = delete;
    ~page() {
      while (mask)
        remove(static_cast<std::uint32_t>(std::countr_zero(mask)));
    }
    bool has(std::uint32_t place) const { return ((mask >> place) & 1) != 0; }
    T& at(std::uint32_t place) { return *std::launder(reinterpret_cast<T*>(places.data() + place * sizeof(T))); }
    T& add(std::uint32_t place) {
      auto made = std::construct_at(reinterpret_cast<T*>(places.data() + place * sizeof(T)));
      mask |= std::uint64_t{1} << place;
      return *made;
    }
    void remove(std::uint32_t place) {
      std::destroy_at(&at(place));
      mask &= ~(std::uint64_t{1} << place);
    }
  };

  page* page_of(std::uint32_t number) {
    auto index = number / page_size;
    return index < first_page_ || index - first_page_ >= pages_.size() ? nullptr : pages_[index - first_page_].get();
  }

  /// The first number that is kept and not below `number`.
  std::uint32_t next(std::uint32_t number) const {
    number = std::max(number, first_page_ * page_size);
    for (std::uint32_t index = number / page_size - first_page_; index < pages_.size(); ++index, number = 0) {
      auto& held = pages_[index];
      if (!held)
        continue;
      if (auto left = held->mask & (~std::uint64_t{0} << (number % page_size)))
        return (first_page_ + index) * page_size + static_cast<std::uint32_t>(std::countr_zero(left));
    }
    return end_number;
  }

  std::deque<std::unique_ptr<page>> pages_;
  std::uint32_t first_page_ = 0;  ///< Number of the first of `pages_`, in pages.
  std::uint32_t used_to_ = 0;     ///< Past the highest number that was ever used.
  std::size_t size_ = 0;
};

}  // namespace coordinator
