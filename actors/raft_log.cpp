#include "actors/raft_log.hpp"

#include <algorithm>

#include "actors/invariant.hpp"
#include "persistence/codec.hpp"

namespace coordinator {
namespace {

// What an entry costs in memory, its bookkeeping included.
std::size_t cost(const log_entry& entry) {
  return entry.payload.size() + sizeof(log_entry);
}

}  // namespace

raft_log::raft_log(raft_contents&& contents, std::size_t budget_bytes)
    : first_(contents.first_index),
      last_(contents.last_index),
      terms_(std::move(contents.terms)),
      budget_bytes_(budget_bytes),
      keep_from_(last_ + 1),
      last_time_ms_(contents.last_time_ms) {
  for (auto& entry : contents.memberships)
    note_membership(entry);
  for (auto& entry : contents.tail) {
    tail_bytes_ += cost(entry);
    tail_.push_back(std::move(entry));
  }
}

term_number raft_log::term_at(log_index index) const {
  if (index < first_ || index > last_)
    return {};
  auto run =
      std::upper_bound(terms_.begin(), terms_.end(), index, [](log_index i, const term_run& r) { return i < r.first; });
  return std::prev(run)->term;
}

log_index raft_log::first_of_term_at(log_index index) const {
  auto run =
      std::upper_bound(terms_.begin(), terms_.end(), index, [](log_index i, const term_run& r) { return i < r.first; });
  return run == terms_.begin() ? first_ : std::prev(run)->first;
}

log_index raft_log::last_of_term(term_number term, log_index index) const {
  auto after =
      std::upper_bound(terms_.begin(), terms_.end(), term, [](term_number t, const term_run& r) { return t < r.term; });
  if (after == terms_.begin() || std::prev(after)->term != term || std::prev(after)->first > index)
    return {};
  return std::min(index, after == terms_.end() ? last_ : after->first - 1);
}

std::optional<std::vector<log_entry>> raft_log::entries(log_index from, log_index to, std::size_t max_bytes) const {
  COORDINATOR_INVARIANT(first_ <= from && from <= to && to <= last_);
  if (tail_.empty() || from < tail_.front().index)
    return std::nullopt;
  std::vector<log_entry> result;
  std::size_t bytes = 0;
  for (auto i = tail_.begin() + static_cast<std::ptrdiff_t>(from - tail_.front().index);
       i != tail_.end() && i->index <= to; ++i) {
    bytes += i->payload.size();
    if (!result.empty() && bytes > max_bytes)
      break;
    result.push_back(*i);
  }
  return result;
}

void raft_log::append(log_entry entry) {
  COORDINATOR_INVARIANT(entry.index == last_ + 1);
  COORDINATOR_INVARIANT(terms_.empty() || entry.term >= terms_.back().term);
  if (terms_.empty() || terms_.back().term != entry.term)
    terms_.push_back({entry.index, entry.term});
  if (entry.kind == entry_kind::genesis || entry.kind == entry_kind::membership)
    note_membership(entry);
  last_time_ms_ = std::max(last_time_ms_, entry.time_ms);
  last_ = entry.index;
  tail_bytes_ += cost(entry);
  tail_.push_back(std::move(entry));
  shrink();
}

void raft_log::truncate_from(log_index index) {
  while (!tail_.empty() && tail_.back().index >= index) {
    tail_bytes_ -= cost(tail_.back());
    tail_.pop_back();
  }
  while (!terms_.empty() && terms_.back().first >= index)
    terms_.pop_back();
  while (!memberships_.empty() && memberships_.back().index >= index)
    memberships_.pop_back();
  last_ = std::min(last_, index - 1);
  keep_from_ = std::min(keep_from_, last_ + 1);
}

void raft_log::keep_from(log_index index) {
  keep_from_ = index;
  shrink();
}

void raft_log::note_membership(const log_entry& entry) {
  membership_entry noted{entry.index, {}};
  if (entry.kind == entry_kind::genesis) {
    genesis founding;
    COORDINATOR_INVARIANT(from_bytes(entry.payload, founding));
    noted.members = std::move(founding.founders);
  } else {
    COORDINATOR_INVARIANT(from_bytes(entry.payload, noted.members));
  }
  memberships_.push_back(std::move(noted));
}

void raft_log::shrink() {
  while (tail_bytes_ > budget_bytes_ && tail_.size() > 1 && tail_.front().index < keep_from_) {
    tail_bytes_ -= cost(tail_.front());
    tail_.pop_front();
  }
}

}  // namespace coordinator
