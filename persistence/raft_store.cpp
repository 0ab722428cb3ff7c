#include "persistence/raft_store.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <utility>

#include "persistence/codec.hpp"
#include "persistence/raft_tables.hpp"
#include "persistence/wal_check.hpp"

namespace coordinator {

using namespace raft_tables;

namespace {

// A step of compaction takes this much at most, so that no append waits longer than a heartbeat interval for it. Where
// entries wait for the same transaction, it takes a few for each of them: that keeps up, and delays them little.
constexpr std::size_t compaction_rows = 1000;
constexpr std::size_t compaction_bytes = std::size_t{1} << 20;
constexpr std::size_t compaction_rows_least = 32;
constexpr std::size_t compaction_rows_an_entry = 3;

std::size_t rows_to_drop(std::size_t appended) {
  return appended == 0 ? compaction_rows
                       : std::clamp(appended * compaction_rows_an_entry, compaction_rows_least, compaction_rows);
}

void require_whole_wal(const std::string& path, const std::string& vfs) {
  if (auto problem = find_wal_damage(path, vfs))
    throw damaged_error(SQLITE_CORRUPT, *problem);
}

bool is_empty(const raft_write& write) {
  return !write.state && !write.truncate_from && write.entries.empty() && !write.formation && !write.formed &&
         !write.install && !write.state_file && !write.compact_to;
}

}  // namespace

class raft_store::implementation {
 public:
  implementation(const std::string& path, const raft_store_options& options)
      : db_(path, {.vfs = options.vfs, .create = options.create, .checkpoint_pages = options.checkpoint_pages}) {}

  void open(const node_id& node, const raft_store_options& options);
  void write(const raft_write& write);
  std::vector<log_entry> read_entries(log_index from, log_index to, std::size_t max_bytes);

  log_index last_index() const { return last_index_; }
  // A disk that fails says so where something is lost by it.
  std::uint64_t size_bytes() {
    try {
      size_ = db_.size_bytes();
    } catch (const database_error&) {
    }
    return size_;
  }
  log_index first_index() const { return node_.base.index + 1; }

  raft_contents contents;

 private:
  // Prepared once the tables are there.
  struct statements {
    explicit statements(database& db)
        : transactions(db),
          save_vote(db, "UPDATE vote SET current_term = ?, voted_for = ?, crc = ? WHERE one = 1"),
          truncate(db, "DELETE FROM log WHERE idx >= ?"),
          drop(db, "DELETE FROM log WHERE idx <= ?"),
          append(db, "INSERT INTO log(idx, term, kind, time_ms, payload, crc) VALUES(?, ?, ?, ?, ?, ?)"),
          read(db, std::string{select_log} + "WHERE idx BETWEEN ? AND ? ORDER BY idx") {}

    transaction_statements transactions;
    statement save_vote, truncate, drop, append, read;
  };

  void create(const node_id& node, incarnation_id incarnation);
  void scan_log();
  void read_tail(std::size_t budget);
  void check(const raft_write& write) const;
  void check_install(const raft_write::snapshot& install) const;
  bool keeps_suffix(const raft_write& write) const {
    return write.install && write.install->keep_suffix && write.install->base.index < last_index_;
  }
  term_number term_at(log_index index) const;
  node_row save(const raft_write& write);
  void save_vote(const hard_state& state);
  void append(const log_entry& entry);
  void compact(log_base& base, log_index to, std::size_t most);
  void note_terms(const raft_write& write);

  database db_;
  node_row node_;
  std::optional<statements> statements_;
  term_number current_term_;
  log_index last_index_;
  std::vector<term_run> terms_;
  std::optional<database_error> failure_;
  std::uint64_t size_ = 0;
};

// Anything beyond the tables' creation, so that a file of another node or program is left as it is.
void raft_store::implementation::open(const node_id& node, const raft_store_options& options) {
  if (!db_.holds(format)) {
    if (!options.create)
      throw_damaged(db_, "holds no node, though the data directory is one's");
    db_.start_writing();
    create(node, {options.new_incarnation});
  } else {
    node_ = read_node(db_);
    if (node_.node != node)
      throw refused_error(db_.path() + ": belongs to node '" + node_.node.value + "', not to '" + node.value +
                          "'; give that --node-id or another --data-dir");
    db_.start_writing();
    db_.keep_format();
  }
  node_ = read_node(db_);
  contents.node = node_.node;
  contents.incarnation = node_.incarnation;
  contents.founded = decode_founded(db_, node_);
  contents.formation = node_.formation;
  contents.base = node_.base;
  contents.last_time_ms = node_.base.time_ms;
  contents.state_file = node_.state_file;
  contents.state = read_vote(db_);
  current_term_ = contents.state.current_term;
  scan_log();
  read_tail(options.tail_bytes);
  statements_.emplace(db_);
}

void raft_store::implementation::create(const node_id& node, incarnation_id incarnation) {
  if (incarnation.value == 0)
    throw std::logic_error("raft_store: a new file needs an incarnation");
  node_.node = node;
  node_.incarnation = incarnation;
  transaction_statements transactions{db_};
  transaction t{transactions};
  db_.execute(schema);
  db_.set_format(format);
  raft_tables::save_node(db_, node_);
  raft_tables::save_vote(db_, {});
  t.commit();
  // With the node's row in the database proper, a file that holds nothing was never acted upon.
  if (!db_.checkpoint())
    throw database_error(SQLITE_BUSY, db_.path() + ": is in use by another program");
}

void raft_store::implementation::scan_log() {
  auto expected = first_index();
  contents.first_index = expected;
  auto last_term = node_.base.term;
  statement query{db_, std::string{select_log} + "ORDER BY idx"};
  while (query.step()) {
    auto row = read_log_row(db_, query);
    require_index(db_, row.index, expected);
    if (row.term < last_term || row.term.value == 0)
      throw_damaged(
          db_, "table log: row " + std::to_string(row.index.value) + " is of an earlier term than the one before it");
    if (terms_.empty() || terms_.back().term != row.term)
      terms_.push_back({row.index, row.term});
    if (row.kind == entry_kind::genesis || row.kind == entry_kind::membership)
      contents.memberships.push_back(row.entry());
    last_term = row.term;
    contents.last_time_ms = row.time_ms;
    ++expected;
  }
  last_index_ = expected - 1;
  contents.last_index = last_index_;
  contents.terms = terms_;
  if (last_term > contents.state.current_term)
    throw_damaged(db_, "table vote: the log is of a later term than the current one");
}

void raft_store::implementation::read_tail(std::size_t budget) {
  statement query{db_, std::string{select_log} + "ORDER BY idx DESC"};
  std::size_t bytes = 0;
  while (query.step()) {
    auto row = read_log_row(db_, query);
    bytes += row.payload.size();
    if (bytes > budget && !contents.tail.empty())
      break;
    contents.tail.push_back(row.entry());
  }
  std::reverse(contents.tail.begin(), contents.tail.end());
}

void raft_store::implementation::write(const raft_write& write) {
  if (failure_)
    throw *failure_;
  check(write);
  if (is_empty(write))
    return;
  auto node = node_;
  try {
    {
      transaction t{statements_->transactions};
      node = save(write);
      t.commit();
    }
    db_.checkpoint_if_due();
  } catch (const database_error& error) {
    failure_ = error;
    db_.abandon();
    throw;
  }
  if (write.state)
    current_term_ = write.state->current_term;
  note_terms(write);
  node_ = std::move(node);
  while (terms_.size() > 1 && terms_[1].first <= first_index())
    terms_.erase(terms_.begin());
  if (last_index_ < first_index())
    terms_.clear();
  if (!terms_.empty())
    terms_.front().first = std::max(terms_.front().first, first_index());
}

// The keeper's promises to the store. Breaking one is a mistake in this program, and saving it would spread it.
void raft_store::implementation::check(const raft_write& write) const {
  auto last = last_index_;
  auto base = node_.base.index;
  auto last_term = term_at(last);
  if (write.install) {
    check_install(*write.install);
    base = write.install->base.index;
    if (!keeps_suffix(write)) {
      last = base;
      last_term = write.install->base.term;
    }
  }
  if (write.truncate_from && *write.truncate_from <= base)
    throw std::logic_error("raft_store: truncation below the log's first index");
  if (write.truncate_from && *write.truncate_from <= last) {
    last = *write.truncate_from - 1;
    last_term = write.install && last == base ? write.install->base.term : term_at(last);
  }
  if (write.state_file && (write.state_file->empty() || write.state_file->find('/') != std::string::npos))
    throw std::logic_error("raft_store: the state file's name is no name within the data directory");
  for (auto& entry : write.entries) {
    if (entry.index != last + 1)
      throw std::logic_error("raft_store: entry " + std::to_string(entry.index.value) + " would leave a gap after " +
                             std::to_string(last.value));
    if (entry.term < last_term || entry.term.value == 0)
      throw std::logic_error("raft_store: the term of entry " + std::to_string(entry.index.value) + " falls");
    last = entry.index;
    last_term = entry.term;
  }
  auto current = write.state ? write.state->current_term : current_term_;
  if (current < current_term_)
    throw std::logic_error("raft_store: the current term falls");
  if (last_term > current)
    throw std::logic_error("raft_store: an entry is of a later term than the current one");
  if (write.formed && !node_.founded.empty() && node_.founded != to_bytes(*write.formed))
    throw std::logic_error("raft_store: the node already belongs to a cluster");
}

void raft_store::implementation::check_install(const raft_write::snapshot& install) const {
  auto& base = install.base;
  if (base.index < node_.base.index || (base.index == node_.base.index && base.term != node_.base.term))
    throw std::logic_error("raft_store: the log's base would go back or change its term");
  if (install.keep_suffix && base.index <= last_index_ && term_at(base.index) != base.term)
    throw std::logic_error("raft_store: what follows a snapshot is kept only where the snapshot matches the log");
}

// Of an entry in the log, or of the last one before it.
term_number raft_store::implementation::term_at(log_index index) const {
  auto term = node_.base.term;
  for (auto run = terms_.begin(); run != terms_.end() && run->first <= index; ++run)
    term = run->term;
  return term;
}

// Gives the row of table `node` as it is afterwards.
node_row raft_store::implementation::save(const raft_write& write) {
  auto node = node_;
  if (write.state)
    save_vote(*write.state);
  if (write.install) {
    // What the log drops is not read: a row that rotted on its way out harms nobody.
    statements_->drop.bind(1, keeps_suffix(write) ? write.install->base.index.value : last_index_.value).run();
    node.base = write.install->base;
  }
  if (write.truncate_from && *write.truncate_from <= last_index_)
    statements_->truncate.bind(1, write.truncate_from->value).run();
  for (auto& entry : write.entries)
    append(entry);
  if (write.formed)
    node.founded = to_bytes(*write.formed);
  if (write.formation)
    node.formation = *write.formation;
  if (write.state_file)
    node.state_file = *write.state_file;
  if (write.compact_to)
    compact(node.base, *write.compact_to, rows_to_drop(write.entries.size()));
  if (write.formed || write.formation || write.state_file || write.install || node.base.index != node_.base.index)
    raft_tables::save_node(db_, node);
  return node;
}

// The rows are read before they go: the base takes over what they say, and damage must not be taken over unseen.
void raft_store::implementation::compact(log_base& base, log_index to, std::size_t most) {
  auto& query = statements_->read;
  query.bind(1, (base.index + 1).value).bind(2, to.value);
  std::size_t rows = 0, bytes = 0;
  {
    reset_at_end guard{query};
    while (rows < most && query.step()) {
      auto row = read_log_row(db_, query);
      require_index(db_, row.index, base.index + 1);
      bytes += row.payload.size();
      if (rows > 0 && bytes > compaction_bytes)
        break;
      if (row.kind == entry_kind::genesis || row.kind == entry_kind::membership) {
        base.members = decode_members(db_, row);
        base.members_index = row.index;
      }
      base.index = row.index;
      base.term = row.term;
      base.time_ms = row.time_ms;
      ++rows;
    }
  }
  if (rows > 0)
    statements_->drop.bind(1, base.index.value).run();
}

void raft_store::implementation::save_vote(const hard_state& state) {
  auto& save = statements_->save_vote;
  save.bind(1, state.current_term.value).bind(3, std::uint64_t{vote_crc(state)});
  if (state.voted_for)
    save.bind_text(2, state.voted_for->value);
  else
    save.bind_null(2);
  save.run();
}

void raft_store::implementation::append(const log_entry& entry) {
  statements_->append.bind(1, entry.index.value)
      .bind(2, entry.term.value)
      .bind(3, static_cast<std::uint64_t>(entry.kind))
      .bind(4, entry.time_ms)
      .bind_blob(5, entry.payload)
      .bind(6, std::uint64_t{log_crc(entry)})
      .run();
}

void raft_store::implementation::note_terms(const raft_write& write) {
  if (write.install && !keeps_suffix(write)) {
    last_index_ = write.install->base.index;
    terms_.clear();
  }
  if (write.truncate_from) {
    last_index_ = std::min(last_index_, *write.truncate_from - 1);
    while (!terms_.empty() && terms_.back().first > last_index_)
      terms_.pop_back();
  }
  for (auto& entry : write.entries) {
    if (terms_.empty() || terms_.back().term != entry.term)
      terms_.push_back({entry.index, entry.term});
    last_index_ = entry.index;
  }
}

std::vector<log_entry> raft_store::implementation::read_entries(log_index from, log_index to, std::size_t max_bytes) {
  std::vector<log_entry> entries;
  to = std::min(to, last_index_);
  if (from < first_index() || from > to)
    return entries;
  auto& query = statements_->read;
  reset_at_end guard{query};
  query.bind(1, from.value).bind(2, to.value);
  std::size_t bytes = 0;
  auto expected = from;
  while (query.step()) {
    auto row = read_log_row(db_, query);
    require_index(db_, row.index, expected);
    bytes += row.payload.size();
    if (bytes > max_bytes && !entries.empty())
      return entries;
    entries.push_back(row.entry());
    ++expected;
  }
  require_index(db_, to + 1, expected);
  return entries;
}

raft_store::raft_store(std::unique_ptr<implementation> impl) : impl_(std::move(impl)) {}

raft_store::~raft_store() = default;

std::unique_ptr<raft_store> raft_store::open(const std::string& path, const node_id& node,
                                             const raft_store_options& options) {
  require_whole_wal(path, options.vfs);
  drop_wal_remains(path, options.vfs);
  auto impl = std::make_unique<implementation>(path, options);
  impl->open(node, options);
  return std::unique_ptr<raft_store>{new raft_store(std::move(impl))};
}

const raft_contents& raft_store::contents() const {
  return impl_->contents;
}

raft_contents raft_store::take_contents() {
  return std::exchange(impl_->contents, {});
}

void raft_store::write(const raft_write& write) {
  impl_->write(write);
}

std::vector<log_entry> raft_store::read_entries(log_index from, log_index to, std::size_t max_bytes) {
  return impl_->read_entries(from, to, max_bytes);
}

log_index raft_store::first_index() const {
  return impl_->first_index();
}

log_index raft_store::last_index() const {
  return impl_->last_index();
}

std::uint64_t raft_store::size_bytes() const {
  return impl_->size_bytes();
}

std::optional<raft_owner> inspect_raft_file(const std::string& path, const std::string& vfs) {
  require_whole_wal(path, vfs);
  try {
    database db{path, {.vfs = vfs, .read_only = true}};
    if (!db.holds(format))
      return std::nullopt;
    auto row = read_node(db);
    auto founded = decode_founded(db, row);
    return raft_owner{row.node, row.incarnation, founded ? std::optional{founded->cluster_id} : std::nullopt};
  } catch (const database_error& error) {
    // Only a file that is about to be put into WAL mode has a rollback journal: its creation was cut short.
    if (error.code() == SQLITE_READONLY_ROLLBACK)
      return std::nullopt;
    throw;
  }
}

}  // namespace coordinator
