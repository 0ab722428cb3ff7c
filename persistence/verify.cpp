#include "persistence/verify.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

#include "persistence/raft_tables.hpp"
#include "persistence/state_tables.hpp"

namespace coordinator {

namespace {

using clock = std::chrono::steady_clock;

// A read transaction keeps the WAL from being reset.
constexpr std::chrono::milliseconds transaction_limit{500};
constexpr std::chrono::milliseconds longest_nap{500};

// Calls `part` until it says that it was the last, and sleeps in between so that only `share` of the time is worked.
void in_parts(database& db, const std::atomic<bool>& stop, double share,
              const std::function<bool(clock::time_point)>& part) {
  statement begin{db, "BEGIN"}, end{db, "ROLLBACK"};
  for (auto more = true; more && !stop;) {
    auto from = clock::now();
    begin.run();
    more = part(from + transaction_limit);
    end.run();
    if (!more || share >= 1.0)
      continue;
    auto worked = clock::now() - from;
    auto until = clock::now() + std::chrono::duration_cast<clock::duration>(worked * (1.0 / share - 1.0));
    while (!stop && clock::now() < until)
      std::this_thread::sleep_for(std::min<clock::duration>(longest_nap, until - clock::now()));
  }
}

// The rows after (kind, id), in order, until the time is up.
class row_scan {
 public:
  row_scan(database& db, const std::atomic<bool>& stop)
      : db_(db),
        stop_(stop),
        meta_(db, state_tables::select_meta),
        rows_(db, "SELECT kind, id, body, hash FROM rows WHERE (kind, id) > (?, ?) ORDER BY kind, id") {}

  bool part(clock::time_point deadline) {
    auto meta = state_tables::read_meta(db_, meta_).meta;
    auto from_start = kind_ < 0;
    std::uint64_t sum = 0, seen = 0;
    auto after = id_;
    reset_at_end guard{rows_};
    rows_.bind(1, kind_).bind_blob(2, after);
    while (rows_.step()) {
      auto row = state_tables::read_row(db_, rows_);
      sum += row.hash;
      kind_ = row.kind;
      id_ = row.id;
      if (++seen % 100 == 0 && (stop_ || clock::now() >= deadline))
        return !stop_;
    }
    if (from_start && sum != meta.checksum)
      state_tables::throw_damaged(db_, "table rows: the rows together do not match the checksum");
    return false;
  }

 private:
  database& db_;
  const std::atomic<bool>& stop_;
  statement meta_, rows_;
  std::int64_t kind_ = -1;
  std::string id_;
};

// The entries from `next_` on. The log may meanwhile be compacted beyond that, or truncated.
class log_scan {
 public:
  log_scan(database& db, const std::atomic<bool>& stop)
      : db_(db), stop_(stop), rows_(db, std::string{raft_tables::select_log} + "WHERE idx >= ? ORDER BY idx") {}

  bool part(clock::time_point deadline) {
    auto base = raft_tables::read_node(db_).base;
    auto current_term = raft_tables::read_vote(db_).current_term;
    if (next_ <= base.index) {
      if (db_.query_number("SELECT ifnull(min(idx), 0) FROM log") != 0)
        raft_tables::require_index(db_, {static_cast<std::uint64_t>(db_.query_number("SELECT min(idx) FROM log"))},
                                   base.index + 1);
      next_ = base.index + 1;
    }
    std::uint64_t seen = 0;
    reset_at_end guard{rows_};
    rows_.bind(1, next_.value);
    while (rows_.step()) {
      auto row = raft_tables::read_log_row(db_, rows_);
      raft_tables::require_index(db_, row.index, next_);
      if (row.term > current_term)
        raft_tables::throw_damaged(db_, "table vote: the log is of a later term than the current one");
      ++next_;
      if (++seen % 100 == 0 && (stop_ || clock::now() >= deadline))
        return !stop_;
    }
    return false;
  }

 private:
  database& db_;
  const std::atomic<bool>& stop_;
  statement rows_;
  log_index next_;
};

template <class Scan>
std::optional<std::string> scan(const std::string& path, const std::string& vfs, const file_format& format,
                                const std::atomic<bool>& stop, double share) {
  try {
    database db{path, {.vfs = vfs, .read_only = true}};
    if (!db.holds(format))
      return path + ": holds nothing";
    Scan rows{db, stop};
    in_parts(db, stop, share, [&](clock::time_point deadline) { return rows.part(deadline); });
  } catch (const damaged_error& error) {
    return error.what();
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> quick_check(const std::string& path, const std::string& vfs, const std::atomic<bool>& stop) {
  try {
    database db{path, {.vfs = vfs, .read_only = true}};
    if (auto problem = state_tables::check_structure(db, &stop))
      return path + ": " + *problem;
  } catch (const damaged_error& error) {
    return error.what();
  }
  return std::nullopt;
}

std::optional<std::string> full_check_state(const std::string& path, const std::string& vfs,
                                            const std::atomic<bool>& stop, double share) {
  return scan<row_scan>(path, vfs, state_tables::format, stop, share);
}

std::optional<std::string> scan_log(const std::string& path, const std::string& vfs, const std::atomic<bool>& stop,
                                    double share) {
  return scan<log_scan>(path, vfs, raft_tables::format, stop, share);
}

}  // namespace coordinator
