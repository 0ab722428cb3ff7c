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
    : base_(std::move(contents.base)),
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
  if (index == base_.index)
    return base_.term;
  if (index < base_.index || index > last_)
    return {};
  auto run =
      std::upper_bound(terms_.begin(), terms_.end(), index, [](log_index i, const term_run& r) { return i < r.first; });
  return std::prev(run)->term;
}

log_index raft_log::first_of_term_at(log_index index) const {
  auto run =
      std::upper_bound(terms_.begin(), terms_.end(), index, [](log_index i, const term_run& r) { return i < r.first; });
  return run == terms_.begin() ? first_index() : std::prev(run)->first;
}

log_index raft_log::last_of_term(term_number term, log_index index) const {
  auto after =
      std::upper_bound(terms_.begin(), terms_.end(), term, [](term_number t, const term_run& r) { return t < r.term; });
  if (after == terms_.begin() || std::prev(after)->term != term || std::prev(after)->first > index)
    return base_.term == term && base_.index <= index ? base_.index : log_index{};
  return std::min(index, after == terms_.end() ? last_ : after->first - 1);
}

std::optional<std::vector<log_entry>> raft_log::entries(log_index from, log_index to, std::size_t max_bytes) const {
  COORDINATOR_INVARIANT(first_index() <= from && from <= to && to <= last_);
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
  COORDINATOR_INVARIANT(entry.term >= last_term());
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

log_base raft_log::base_at(log_index index) const {
  log_base base{index, term_at(index), base_.members_index, base_.members, 0};
  for (auto& entry : memberships_)
    if (entry.index <= index) {
      base.members_index = entry.index;
      base.members = entry.members;
    }
  return base;
}

log_index raft_log::next_members_after(log_index index) const {
  for (auto& entry : memberships_)
    if (entry.index > index)
      return entry.index;
  return last_ + 1;
}

void raft_log::compact(log_index first) {
  if (first <= first_index())
    return;
  COORDINATOR_INVARIANT(first <= last_ + 1);
  base_ = base_at(first - 1);
  drop_before(first);
}

void raft_log::install(const log_base& base, bool keep_suffix) {
  if (!keep_suffix) {
    tail_.clear();
    tail_bytes_ = 0;
    terms_.clear();
    memberships_.clear();
    last_ = base.index;
    keep_from_ = last_ + 1;
  }
  base_ = base;
  last_time_ms_ = std::max(last_time_ms_, base.time_ms);
  drop_before(base.index + 1);
}

void raft_log::drop_before(log_index first) {
  while (!tail_.empty() && tail_.front().index < first) {
    tail_bytes_ -= cost(tail_.front());
    tail_.pop_front();
  }
  std::erase_if(memberships_, [&](const membership_entry& e) { return e.index < first; });
  // A run goes on as long as the next one has not begun.
  while (terms_.size() > 1 && terms_[1].first <= first)
    terms_.erase(terms_.begin());
  if (!terms_.empty() && first > last_)
    terms_.clear();
  if (!terms_.empty())
    terms_.front().first = std::max(terms_.front().first, first);
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
