#include "actors/state_rows.hpp"

#include <charconv>

namespace coordinator {

std::string ordered_id(std::uint64_t x) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string result(16, '0');
  for (std::size_t i = 16; i-- > 0; x >>= 4)
    result[i] = digits[x & 15];
  return result;
}

bool read_ordered_id(std::string_view id, std::uint64_t& x) {
  auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), x, 16);
  return error == std::errc{} && end == id.data() + id.size() && ordered_id(x) == id;
}

state_rows::pending_change& state_rows::change_of(row_kind kind, std::string id, bool existed) {
  std::string place;
  place.reserve(id.size() + 1);
  place.push_back(static_cast<char>(kind));
  place += id;
  auto [found, fresh] = places_.emplace(std::move(place), changes_.size());
  if (fresh)
    changes_.push_back({{static_cast<std::uint8_t>(kind), std::move(id), std::nullopt, 0}, existed});
  return changes_[found->second];
}

void state_rows::put(row_kind kind, std::string id, std::string body, std::uint64_t& hash) {
  auto fresh_hash = row_hash(static_cast<std::uint8_t>(kind), id, body);
  if (hash == fresh_hash)
    return;
  checksum_ += fresh_hash - hash;
  auto& change = change_of(kind, std::move(id), hash != 0);
  change.row.body = std::move(body);
  change.row.hash = fresh_hash;
  hash = fresh_hash;
}

void state_rows::erase(row_kind kind, std::string id, std::uint64_t hash) {
  if (hash == 0)
    return;
  checksum_ -= hash;
  auto& change = change_of(kind, std::move(id), true);
  change.row.body.reset();
  change.row.hash = 0;
}

std::uint64_t state_rows::loaded(row_kind kind, std::string_view id, std::string_view body) {
  auto hash = row_hash(static_cast<std::uint8_t>(kind), id, body);
  checksum_ += hash;
  return hash;
}

std::vector<row_change> state_rows::take() {
  std::vector<row_change> result;
  result.reserve(changes_.size());
  for (auto& change : changes_)
    // A row that came and went between two writes never was in the file.
    if (change.row.body || change.stored)
      result.push_back(std::move(change.row));
  changes_.clear();
  places_.clear();
  return result;
}

}  // namespace coordinator
