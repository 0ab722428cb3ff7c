#pragma once

#include <map>
#include <string>
#include <string_view>

#include "actors/queries.hpp"
#include "actors/state_rows.hpp"

namespace coordinator {

/// The shared keys. A version is the index of the entry that wrote the key, so none is ever used twice, not even
/// after a delete, and nothing needs to be remembered of deleted keys.
class key_table {
 public:
  explicit key_table(state_rows& rows) : rows_(rows) {}

  command_result apply(const put_key& x, std::uint64_t index, std::int64_t now_ms);
  command_result apply(const delete_key& x);

  query_result answer(const get_key& x) const;
  /// A page also ends when its values come to 8 MiB.
  query_result answer(const list_keys& x) const;
  std::size_t size() const { return keys_.size(); }
  void append_to(std::vector<key_view>& out) const;

  bool load(std::string_view id, std::string_view body);

 private:
  struct entry {
    std::string value;
    std::uint64_t version = 0;
    std::int64_t updated_ms = 0;
    std::uint64_t hash = 0;

    template <class Inspector>
    friend typename Inspector::result_type inspect(Inspector& f, entry& x) {
      return f(x.value, x.version, x.updated_ms);
    }
  };
  using keys = std::map<std::string, entry, std::less<>>;
  static key_view view(keys::const_iterator x);
  /// ok, or precondition_failed with the present version.
  static command_result check(const entry* present, const std::optional<std::uint64_t>& if_match, bool if_none_match,
                              bool if_exists);

  state_rows& rows_;
  keys keys_;
};

}  // namespace coordinator
