#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "persistence/raft_store.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// The keeper's picture of its log: what came before its first entry, the term of every entry, every membership in it,
/// and the newest entries themselves within a byte budget; older ones stay in raft.db. Knows nothing of what is durable
/// or committed.
class raft_log {
 public:
  /// `contents` as raft_store found them; `budget_bytes` bounds the payload kept in memory, but for entries
  /// that `keep_from` protects.
  raft_log(raft_contents&& contents, std::size_t budget_bytes);

  /// The log begins after this: what was compacted, or came as a snapshot (Raft §7).
  const log_base& base() const { return base_; }
  log_index first_index() const { return base_.index + 1; }
  log_index last_index() const { return last_; }
  term_number last_term() const { return term_at(last_); }
  /// Time of the newest entry that this log ever held; never decreases.
  std::int64_t last_time_ms() const { return last_time_ms_; }

  /// Term 0 for index 0 and for an index that is neither in the log nor its base.
  term_number term_at(log_index index) const;
  /// First index of the run of entries of one term that holds `index`.
  log_index first_of_term_at(log_index index) const;
  /// Highest index at or below `index` whose entry, in the log or its base, has `term`; index 0 if there is none.
  log_index last_of_term(term_number term, log_index index) const;

  /// The entries from..to, as many as fit into `max_bytes` but at least one. Nothing when `from` is no longer in
  /// memory: it has to be read from raft.db. Requires first_index() <= from <= to <= last_index().
  std::optional<std::vector<log_entry>> entries(log_index from, log_index to, std::size_t max_bytes) const;

  /// Appends one entry; its index must be last_index() + 1 and its term no lower than last_term().
  void append(log_entry entry);
  /// Drops the entries at and above `index`, and the memberships in them.
  void truncate_from(log_index index);

  /// The newest membership in the log, committed or not (§4.1 of the thesis); empty before the cluster is formed.
  const membership& members() const { return memberships_.empty() ? base_.members : memberships_.back().members; }
  /// The index of the entry that holds members(); 0 before the cluster is formed.
  log_index members_index() const { return memberships_.empty() ? base_.members_index : memberships_.back().index; }
  /// What a log would begin after that had lost all up to `index`, which is in this one or its base; without the time.
  log_base base_at(log_index index) const;
  /// Where the next membership after `index` is; past the end of the log if there is none.
  log_index next_members_after(log_index index) const;

  /// The entries below `first` are gone from raft.db. They were committed.
  void compact(log_index first);
  /// The log begins after `base` from here on; what follows it stays if `keep_suffix`, and nothing else does.
  void install(const log_base& base, bool keep_suffix);

  /// Entries at and above `index` must stay in memory: they are not durable yet.
  void keep_from(log_index index);

 private:
  struct membership_entry {
    log_index index;
    membership members;
  };

  void note_membership(const log_entry& entry);
  void drop_before(log_index first);
  void shrink();

  log_base base_;
  log_index last_;
  std::vector<term_run> terms_;
  std::vector<membership_entry> memberships_;
  std::deque<log_entry> tail_;  // Contiguous, ending at last_.
  std::size_t tail_bytes_ = 0;
  std::size_t budget_bytes_;
  log_index keep_from_;
  std::int64_t last_time_ms_ = 0;
};

}  // namespace coordinator
