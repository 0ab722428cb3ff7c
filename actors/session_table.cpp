#include "actors/session_table.hpp"

#include <algorithm>
#include <limits>

namespace coordinator {

namespace {

command_result refuse(result_code code, std::string detail) {
  command_result result;
  result.code = code;
  result.detail = std::move(detail);
  return result;
}

}  // namespace

std::string session_table::result_id(std::uint64_t session, std::uint64_t sequence) {
  return ordered_id(session) + ordered_id(sequence);
}

command_result session_table::open(const open_session& x, std::uint64_t index, std::int64_t now_ms,
                                   std::vector<std::uint64_t>& closed) {
  command_result result;
  result.version = index;
  for (auto i = sessions_.begin(); i != sessions_.end();) {
    auto& present = i->second;
    if (present.node != x.node) {
      ++i;
    } else if (present.incarnation == x.incarnation && present.boot_id == x.boot_id) {
      // Another copy of the proposal that opened it. Closing it would cost its gateway the answers in flight.
      result.version = present.number;
      ++i;
    } else {
      i = close(i, closed);
    }
  }
  if (result.version != index)
    return result;
  auto& fresh = sessions_[index];
  fresh.number = index;
  fresh.node = x.node;
  fresh.incarnation = x.incarnation;
  fresh.boot_id = x.boot_id;
  fresh.opened_ms = now_ms;
  rows_.put(row_kind::session, ordered_id(index), to_bytes(fresh), fresh.hash);
  return result;
}

std::optional<command_result> session_table::admit(const command& x) {
  auto found = sessions_.find(x.session);
  if (found == sessions_.end()) {
    if (defects_.has(defect::forget_sessions))
      return std::nullopt;
    return refuse(result_code::closed_session, "the session is closed");
  }
  auto& session = found->second;
  if (x.lowest_unanswered > session.lowest_unanswered) {
    session.lowest_unanswered = x.lowest_unanswered;
    drop_results_below(session, x.lowest_unanswered);
    rows_.put(row_kind::session, ordered_id(session.number), to_bytes(session), session.hash);
  }
  if (x.sequence == 0 || x.sequence < session.lowest_unanswered) {
    if (!defects_.has(defect::apply_below_lowest_unanswered))
      return refuse(result_code::stale_sequence, "below the session's lowest unanswered sequence");
    return std::nullopt;
  }
  auto stored = session.results.find(x.sequence);
  if (stored == session.results.end())
    return std::nullopt;
  command_result result;
  if (!from_bytes(stored->second.bytes, result))
    return refuse(result_code::unreadable, "the stored result does not decode");
  return result;
}

void session_table::store(const command& x, const command_result& result) {
  auto found = sessions_.find(x.session);
  if (found == sessions_.end() || x.sequence < found->second.lowest_unanswered)
    return;
  auto& stored = found->second.results[x.sequence];
  stored.bytes = to_bytes(result);
  rows_.put(row_kind::session_result, result_id(x.session, x.sequence), stored.bytes, stored.hash);
}

void session_table::drop_results_below(session& x, std::uint64_t sequence) {
  auto end = x.results.lower_bound(sequence);
  for (auto i = x.results.begin(); i != end; ++i)
    rows_.erase(row_kind::session_result, result_id(x.number, i->first), i->second.hash);
  x.results.erase(x.results.begin(), end);
}

session_table::sessions::iterator session_table::close(sessions::iterator x, std::vector<std::uint64_t>& closed) {
  drop_results_below(x->second, std::numeric_limits<std::uint64_t>::max());
  rows_.erase(row_kind::session, ordered_id(x->first), x->second.hash);
  closed.push_back(x->first);
  return sessions_.erase(x);
}

void session_table::keep_only(const membership& members, std::vector<std::uint64_t>& closed) {
  for (auto i = sessions_.begin(); i != sessions_.end();) {
    auto member = members.find(i->second.node);
    i = member && member->incarnation == i->second.incarnation ? std::next(i) : close(i, closed);
  }
}

std::size_t session_table::result_count() const {
  std::size_t count = 0;
  for (auto& [number, session] : sessions_)
    count += session.results.size();
  return count;
}

bool session_table::load_session(std::string_view id, std::string_view body) {
  session x;
  if (!from_bytes(body, x) || id != ordered_id(x.number))
    return false;
  x.hash = rows_.loaded(row_kind::session, id, body);
  sessions_.insert_or_assign(x.number, std::move(x));
  return true;
}

bool session_table::load_result(std::string_view id, std::string_view body) {
  std::uint64_t session = 0;
  std::uint64_t sequence = 0;
  if (id.size() != 32 || !read_ordered_id(id.substr(0, 16), session) || !read_ordered_id(id.substr(16), sequence))
    return false;
  auto found = sessions_.find(session);
  if (found == sessions_.end())
    return false;
  found->second.results[sequence] = {std::string{body}, rows_.loaded(row_kind::session_result, id, body)};
  return true;
}

}  // namespace coordinator
