#include "actors/idempotency_table.hpp"

#include <algorithm>

namespace coordinator {

namespace {

/// Entries come at least once a second while there are keys, so this many a call keeps up with the most that an hour
/// can hold.
constexpr int expired_a_call = 1'000;

command_result refuse(result_code code, std::string detail) {
  command_result result;
  result.code = code;
  result.detail = std::move(detail);
  return result;
}

bool is_over(std::int64_t created_ms, std::int64_t now_ms) {
  return now_ms - created_ms >= limits::idempotency_ms;
}

}  // namespace

void idempotency_table::drop_oldest() {
  auto found = keys_.find(by_age_.front().key);
  rows_.erase(row_kind::idempotency, found->first, found->second.hash);
  keys_.erase(found);
  by_age_.pop_front();
}

void idempotency_table::expire(std::int64_t now_ms) {
  for (int i = 0; i < expired_a_call && !by_age_.empty() && is_over(by_age_.front().created_ms, now_ms); ++i)
    drop_oldest();
}

std::optional<command_result> idempotency_table::admit(const std::string& key, std::uint64_t request_hash,
                                                       std::int64_t now_ms) {
  auto found = keys_.find(key);
  if (found != keys_.end()) {
    // Its hour may be over although its turn to be dropped has not come; `store` then writes over it.
    if (is_over(found->second.created_ms, now_ms))
      return std::nullopt;
    if (found->second.request_hash != request_hash)
      return refuse(result_code::idempotency_key_reused, "this Idempotency-Key came with another request before");
    command_result result;
    if (!from_bytes(found->second.result, result))
      return refuse(result_code::unreadable, "the stored result does not decode");
    return result;
  }
  if (keys_.size() >= most_)
    return refuse(result_code::too_many_idempotency_keys, "too many live idempotency keys");
  return std::nullopt;
}

void idempotency_table::store(const std::string& key, std::uint64_t request_hash, std::uint64_t index,
                              std::int64_t now_ms, const command_result& result) {
  auto& x = keys_[key];
  if (x.hash != 0) {
    // Rare: an expired key used again before its turn came. It moves to the young end.
    auto old = std::find_if(by_age_.begin(), by_age_.end(), [&](const age& a) { return a.index == x.index; });
    by_age_.erase(old);
  }
  x.request_hash = request_hash;
  x.index = index;
  x.created_ms = now_ms;
  x.result = to_bytes(result);
  rows_.put(row_kind::idempotency, key, to_bytes(x), x.hash);
  by_age_.push_back({index, now_ms, key});
}

bool idempotency_table::load(std::string_view id, std::string_view body) {
  entry x;
  if (!from_bytes(body, x))
    return false;
  x.hash = rows_.loaded(row_kind::idempotency, id, body);
  by_age_.push_back({x.index, x.created_ms, std::string{id}});
  keys_.insert_or_assign(std::string{id}, std::move(x));
  return true;
}

void idempotency_table::loaded() {
  std::sort(by_age_.begin(), by_age_.end(), [](const age& x, const age& y) { return x.index < y.index; });
}

}  // namespace coordinator
