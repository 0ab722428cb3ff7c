#include "actors/key_table.hpp"

#include <algorithm>

#include "actors/cursor.hpp"

namespace coordinator {

namespace {

constexpr std::size_t page_bytes = 8 << 20;

command_result refuse(result_code code, std::string detail, std::uint64_t version = 0) {
  command_result result;
  result.code = code;
  result.detail = std::move(detail);
  result.version = version;
  return result;
}

}  // namespace

command_result key_table::check(const entry* present, const std::optional<std::uint64_t>& if_match, bool if_none_match,
                                bool if_exists) {
  auto version = present ? present->version : 0;
  if (if_none_match && present)
    return refuse(result_code::precondition_failed, "the key exists", version);
  if ((if_match || if_exists) && !present)
    return refuse(result_code::precondition_failed, "the key does not exist");
  if (if_match && *if_match != version)
    return refuse(result_code::precondition_failed, "the key has another version", version);
  return {};
}

command_result key_table::apply(const put_key& x, std::uint64_t index, std::int64_t now_ms) {
  auto found = keys_.find(x.key);
  auto present = found == keys_.end() ? nullptr : &found->second;
  if (auto bad = check(present, x.if_match, x.if_none_match, x.if_exists); !bad.ok())
    return bad;
  auto& target = present ? *present : keys_[x.key];
  target.value = x.value;
  target.version = index;
  target.updated_ms = now_ms;
  rows_.put(row_kind::key, x.key, to_bytes(target), target.hash);
  command_result result;
  result.version = index;
  return result;
}

command_result key_table::apply(const delete_key& x) {
  auto found = keys_.find(x.key);
  auto present = found == keys_.end() ? nullptr : &found->second;
  if (auto bad = check(present, x.if_match, false, x.if_exists); !bad.ok())
    return bad;
  if (!present)
    return refuse(result_code::not_found, "no such key");
  command_result result;
  result.version = present->version;
  rows_.erase(row_kind::key, x.key, present->hash);
  keys_.erase(found);
  return result;
}

key_view key_table::view(keys::const_iterator x) {
  return {x->first, x->second.value, x->second.version, x->second.updated_ms};
}

query_result key_table::answer(const get_key& x) const {
  auto found = keys_.find(x.key);
  if (found == keys_.end())
    return query_error{query_error::kind::not_found, "no such key", {}};
  return view(found);
}

query_result key_table::answer(const list_keys& x) const {
  auto next = keys_.lower_bound(x.prefix);
  if (!x.cursor.empty()) {
    auto last = read_cursor(x.cursor);
    if (!last)
      return query_error{query_error::kind::invalid, "not a cursor of this list", "cursor"};
    next = std::max(*last, x.prefix) == *last ? keys_.upper_bound(*last) : next;
  }
  key_page page;
  auto limit = std::clamp<std::size_t>(x.limit, 1, largest_page);
  std::size_t bytes = 0;
  for (; next != keys_.end() && next->first.starts_with(x.prefix); ++next) {
    if (page.keys.size() == limit || bytes >= page_bytes) {
      page.next_cursor = make_cursor(page.keys.back().key);
      break;
    }
    page.keys.push_back(view(next));
    bytes += next->second.value.size();
  }
  return page;
}

void key_table::append_to(std::vector<key_view>& out) const {
  for (auto i = keys_.begin(); i != keys_.end(); ++i)
    out.push_back(view(i));
}

bool key_table::load(std::string_view id, std::string_view body) {
  entry x;
  if (!from_bytes(body, x))
    return false;
  x.hash = rows_.loaded(row_kind::key, id, body);
  keys_.insert_or_assign(std::string{id}, std::move(x));
  return true;
}

}  // namespace coordinator
