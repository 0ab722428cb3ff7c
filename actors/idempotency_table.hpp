#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "actors/commands.hpp"
#include "actors/state_rows.hpp"

namespace coordinator {

/// Clients' idempotency keys with what the first try was answered, kept for an hour of applied time. None is dropped
/// early: at `most` keys, new ones are refused.
class idempotency_table {
 public:
  explicit idempotency_table(state_rows& rows, std::size_t most = limits::idempotency_keys)
      : rows_(rows), most_(most) {}

  /// Ends keys whose hour is over, a bounded number a call, so that no entry takes long to apply.
  void expire(std::int64_t now_ms);

  /// What is to be done with a command under this key: apply it (nothing), or answer this.
  std::optional<command_result> admit(const std::string& key, std::uint64_t request_hash, std::int64_t now_ms);

  /// Keeps what a command that `admit` let pass was answered. `index` is its entry's.
  void store(const std::string& key, std::uint64_t request_hash, std::uint64_t index, std::int64_t now_ms,
             const command_result& result);

  std::size_t size() const { return keys_.size(); }

  bool load(std::string_view id, std::string_view body);
  /// After the last `load`.
  void loaded();

 private:
  struct entry {
    std::uint64_t request_hash = 0;
    std::uint64_t index = 0;
    std::int64_t created_ms = 0;
    std::string result;
    std::uint64_t hash = 0;

    template <class Inspector>
    friend typename Inspector::result_type inspect(Inspector& f, entry& x) {
      return f(x.request_hash, x.index, x.created_ms, x.result);
    }
  };
  struct age {
    std::uint64_t index;
    std::int64_t created_ms;
    std::string key;
  };
  void drop_oldest();

  state_rows& rows_;
  std::size_t most_;
  std::unordered_map<std::string, entry> keys_;
  /// Every key of `keys_` once, oldest first.
  std::deque<age> by_age_;
};

}  // namespace coordinator
