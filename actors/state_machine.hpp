#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "actors/commands.hpp"
#include "actors/idempotency_table.hpp"
#include "actors/key_table.hpp"
#include "actors/queries.hpp"
#include "actors/rules.hpp"
#include "actors/session_table.hpp"
#include "actors/state_events.hpp"
#include "actors/state_rows.hpp"
#include "actors/work_table.hpp"
#include "persistence/state_store.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// What came of applying one entry.
struct apply_outcome {
  log_index index;
  /// Whose command it was; session 0 for entries that are no commands, and for open_session, whose asker knows it by
  /// `opened`.
  std::uint64_t session = 0;
  std::uint64_t sequence = 0;
  /// False: nothing was applied now, and `result` is a refusal or what an earlier copy was answered.
  bool applied = false;
  command_result result;
  /// Set for open_session: who asked.
  std::optional<open_session> opened;
  state_events events;
};

/// The applied state, in memory: shared keys, workers, tasks, sessions and idempotency keys. Applying an entry is a
/// function of the state and the entry alone, so equal logs give equal states on all nodes (rule 9), and it does no
/// I/O: the shell takes the changed rows and writes them behind.
///
/// Starting: construct, `load_row` for each row of state.db in its order, `finish_loading`, then `apply` the entries
/// after `last_applied`. An empty state.db needs no calls.
class state_machine {
 public:
  /// Checksums are kept for this many applied entries.
  static constexpr std::size_t kept_checksums = 10'000;

  explicit state_machine(const defect_set& defects = {}, std::size_t most_idempotency_keys = limits::idempotency_keys);
  state_machine(const state_machine&) = delete;
  state_machine& operator=(const state_machine&) = delete;

  /// Applies the entry after `last_applied`; throws std::logic_error for any other, with nothing changed.
  /// The payload of a command entry is what `encode` made; of a membership entry `to_bytes(membership)`; of the
  /// genesis entry `to_bytes(genesis)`.
  apply_outcome apply(const log_entry& entry);

  /// Answers from the state as it is now.
  query_result answer(const query& x) const;

  /// Everything that changed since the last call, as one transaction for state.db. `rows` may be empty; last_applied
  /// may then still have moved on.
  state_write take_dirty();
  /// How many rows the next `take_dirty` gives, about.
  std::size_t dirty_count() const { return rows_.dirty_count(); }

  /// False if the row is not one of ours or does not fit to those before it: the file is damaged.
  [[nodiscard]] bool load_row(std::uint8_t kind, std::string_view id, std::string_view body);
  /// After the last row. False if the rows do not fit together or do not sum up to `meta`'s checksum; the object is
  /// then of no use.
  [[nodiscard]] bool finish_loading(const state_meta& meta);

  log_index last_applied() const { return last_applied_; }
  term_number last_applied_term() const { return last_applied_term_; }
  /// Time of the newest entry applied; never decreases.
  std::int64_t applied_time_ms() const { return applied_time_ms_; }
  /// Sum of the hashes of all rows; see state_rows.
  std::uint64_t checksum() const { return rows_.checksum(); }
  /// Rows exist that end with time: the leader is to see to an entry a second.
  bool has_timed_rows() const { return idempotency_.size() > 0; }
  bool maintenance() const { return settings_.maintenance; }
  /// New tasks are refused for want of room.
  bool storage_full() const { return settings_.storage_full; }
  fleet_conditions conditions() const;

  /// Which of these are to claim now, as indexes into `waiting`: those that would get a task if all claimed in this
  /// order, and those whose claim would be refused. Those already `promised` take their share first, wherever they
  /// stand, and are not named again.
  std::vector<std::size_t> pick_claimants(const std::vector<claimant>& waiting) const {
    return work_.pick_claimants(waiting);
  }
  fleet_view view_for_fleet() const;
  const defect_set& defects() const { return defects_; }

 private:
  struct settings {
    bool maintenance = false;
    bool storage_full = false;
    task_ordinal next_task = 0;  ///< work_table::next_ordinal when a task left last.
    std::uint64_t hash = 0;

    template <class Inspector>
    friend typename Inspector::result_type inspect(Inspector& f, settings& x) {
      return f(x.maintenance, x.storage_full, x.next_task);
    }
  };

  void apply_command(const log_entry& entry, apply_outcome& out);
  command_result execute(const command& x, std::uint64_t index, state_events& events);
  command_result execute_once(const command& x, std::uint64_t index, apply_outcome& out);
  command_result retire(const retire_tasks& x, const work_table::context& c);
  void put_settings();
  void apply_members(const membership& members, state_events& events);
  void note_checksum();
  query_result answer_checksum(const get_checksum& x) const;

  defect_set defects_;
  state_rows rows_;
  key_table keys_;
  session_table sessions_;
  idempotency_table idempotency_;
  work_table work_;
  settings settings_;

  log_index last_applied_;
  term_number last_applied_term_;
  std::int64_t applied_time_ms_ = 0;
  /// Of index i at i % kept_checksums, for the indexes from `first_checksum_` to `last_applied_`.
  std::vector<std::uint64_t> checksums_;
  std::uint64_t first_checksum_ = 0;
};

}  // namespace coordinator
