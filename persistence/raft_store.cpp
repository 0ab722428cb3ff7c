#include "persistence/raft_store.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <utility>

#include "persistence/checksum.hpp"
#include "persistence/codec.hpp"

namespace coordinator {

namespace {

constexpr file_format raft_format{0x436f5266, 1};

// `node` changes a few times in a node's life, `vote` with every term: apart, so that a vote is one short row.
constexpr const char* schema = R"sql(
  CREATE TABLE node(one INTEGER PRIMARY KEY CHECK(one = 1), node_id TEXT, incarnation INTEGER, base_index INTEGER,
                    base_term INTEGER, founded BLOB, formation BLOB, crc INTEGER);
  CREATE TABLE vote(one INTEGER PRIMARY KEY CHECK(one = 1), current_term INTEGER, voted_for TEXT, crc INTEGER);
  CREATE TABLE log(idx INTEGER PRIMARY KEY, term INTEGER, kind INTEGER, time_ms INTEGER, payload BLOB, crc INTEGER);
)sql";

constexpr const char* log_columns = "SELECT idx, term, kind, time_ms, payload, crc FROM log ";

// The row of table `node`. The log begins after base_index.
struct node_row {
  node_id node;
  incarnation_id incarnation;
  log_index base_index;
  term_number base_term;
  std::string founded;  // The bytes of a genesis, or nothing.
  std::string formation;

  std::uint32_t crc() const {
    return row_checksum{}
        .add(node.value)
        .add(incarnation.value)
        .add(base_index.value)
        .add(base_term.value)
        .add(founded)
        .add(formation)
        .value();
  }
};

std::uint32_t vote_crc(const hard_state& x) {
  return row_checksum{}
      .add(x.current_term.value)
      .add(x.voted_for ? 1 : 0)
      .add(x.voted_for ? std::string_view{x.voted_for->value} : std::string_view{})
      .value();
}

std::uint32_t log_crc(std::uint64_t index, std::uint64_t term, std::uint64_t kind, std::uint64_t time_ms,
                      std::string_view payload) {
  return row_checksum{}.add(index).add(term).add(kind).add(time_ms).add(payload).value();
}

[[noreturn]] void throw_damaged(const database& db, const std::string& what) {
  throw damaged_error(SQLITE_CORRUPT, db.path() + ": " + what);
}

node_row read_node(database& db) {
  statement query{
      db, "SELECT node_id, incarnation, base_index, base_term, founded, formation, crc FROM node WHERE one = 1"};
  if (!query.step())
    throw_damaged(db, "table node: its row is missing");
  node_row row;
  row.node.value = query.bytes(0);
  row.incarnation = {query.number(1)};
  row.base_index = {query.number(2)};
  row.base_term = {query.number(3)};
  row.founded = query.bytes(4);
  row.formation = query.bytes(5);
  if (row.crc() != query.number(6))
    throw_damaged(db, "table node: its row does not match its checksum");
  return row;
}

hard_state read_vote(database& db) {
  statement query{db, "SELECT current_term, voted_for, crc FROM vote WHERE one = 1"};
  if (!query.step())
    throw_damaged(db, "table vote: its row is missing");
  hard_state state;
  state.current_term = {query.number(0)};
  if (!query.is_null(1))
    state.voted_for = node_id{std::string{query.bytes(1)}};
  if (vote_crc(state) != query.number(2))
    throw_damaged(db, "table vote: its row does not match its checksum");
  return state;
}

// The row that the query stands on, of which nothing is used before its checksum matched.
struct log_row {
  log_index index;
  term_number term;
  entry_kind kind = entry_kind::noop;
  std::int64_t time_ms = 0;
  std::string_view payload;

  log_entry entry() const { return {index, term, kind, time_ms, std::string{payload}}; }
};

log_row read_log_row(const database& db, const statement& query) {
  auto index = query.number(0), term = query.number(1), kind = query.number(2), time = query.number(3);
  auto payload = query.bytes(4);
  if (log_crc(index, term, kind, time, payload) != query.number(5))
    throw_damaged(db, "table log: row " + std::to_string(index) + " does not match its checksum");
  return {{index}, {term}, static_cast<entry_kind>(kind), static_cast<std::int64_t>(time), payload};
}

void require_index(const database& db, log_index found, log_index expected) {
  if (found != expected)
    throw_damaged(db, "table log: row " + std::to_string(expected.value) + " is missing");
}

std::optional<genesis> decode_founded(const database& db, const node_row& row) {
  if (row.founded.empty())
    return std::nullopt;
  genesis founded;
  if (!from_bytes(row.founded, founded))
    throw_damaged(db, "table node: the founding of the cluster cannot be read");
  return founded;
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
  log_index first_index() const { return node_.base_index + 1; }

  raft_contents contents;

 private:
  // Prepared once the tables are there.
  struct statements {
    explicit statements(database& db)
        : transactions(db),
          save_vote(db, "UPDATE vote SET current_term = ?, voted_for = ?, crc = ? WHERE one = 1"),
          save_node(db, "UPDATE node SET founded = ?, formation = ?, crc = ? WHERE one = 1"),
          truncate(db, "DELETE FROM log WHERE idx >= ?"),
          append(db, "INSERT INTO log(idx, term, kind, time_ms, payload, crc) VALUES(?, ?, ?, ?, ?, ?)"),
          read(db, std::string{log_columns} + "WHERE idx BETWEEN ? AND ? ORDER BY idx") {}

    transaction_statements transactions;
    statement save_vote, save_node, truncate, append, read;
  };

  void create(const node_id& node, incarnation_id incarnation);
  void scan_log();
  void read_tail(std::size_t budget);
  void check(const raft_write& write) const;
  void save(const raft_write& write);
  void save_vote(const hard_state& state);
  void save_node(const raft_write& write);
  void append(const log_entry& entry);
  void note_terms(const raft_write& write);

  database db_;
  node_row node_;
  std::optional<statements> statements_;
  term_number current_term_;
  log_index last_index_;
  std::vector<term_run> terms_;
  std::optional<database_error> failure_;
};

// Anything beyond the tables' creation, so that a file of another node or program is left as it is.
void raft_store::implementation::open(const node_id& node, const raft_store_options& options) {
  if (!db_.holds(raft_format)) {
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
  }
  node_ = read_node(db_);
  contents.node = node_.node;
  contents.incarnation = node_.incarnation;
  contents.founded = decode_founded(db_, node_);
  contents.formation = node_.formation;
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
  db_.set_format(raft_format);
  statement{db_, "INSERT INTO node VALUES(1, ?, ?, 0, 0, NULL, NULL, ?)"}
      .bind_text(1, node.value)
      .bind(2, incarnation.value)
      .bind(3, std::uint64_t{node_.crc()})
      .run();
  statement{db_, "INSERT INTO vote VALUES(1, 0, NULL, ?)"}.bind(1, std::uint64_t{vote_crc({})}).run();
  t.commit();
  // With the node's row in the database proper, a file that holds nothing was never acted upon.
  if (!db_.checkpoint())
    throw database_error(SQLITE_BUSY, db_.path() + ": is in use by another program");
}

void raft_store::implementation::scan_log() {
  auto expected = first_index();
  contents.first_index = expected;
  auto last_term = node_.base_term;
  statement query{db_, std::string{log_columns} + "ORDER BY idx"};
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
  statement query{db_, std::string{log_columns} + "ORDER BY idx DESC"};
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
  if (!write.state && !write.truncate_from && write.entries.empty() && !write.formation && !write.formed)
    return;
  try {
    {
      transaction t{statements_->transactions};
      save(write);
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
}

// The keeper's promises to the store. Breaking one is a mistake in this program, and saving it would spread it.
void raft_store::implementation::check(const raft_write& write) const {
  auto last = last_index_;
  if (write.truncate_from) {
    if (*write.truncate_from < first_index())
      throw std::logic_error("raft_store: truncation below the log's first index");
    last = std::min(last, *write.truncate_from - 1);
  }
  auto last_term = node_.base_term;
  for (auto run = terms_.begin(); run != terms_.end() && run->first <= last; ++run)
    last_term = run->term;
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

void raft_store::implementation::save(const raft_write& write) {
  if (write.state)
    save_vote(*write.state);
  if (write.truncate_from && *write.truncate_from <= last_index_)
    statements_->truncate.bind(1, write.truncate_from->value).run();
  for (auto& entry : write.entries)
    append(entry);
  if (write.formation || write.formed)
    save_node(write);
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

void raft_store::implementation::save_node(const raft_write& write) {
  if (write.formed)
    node_.founded = to_bytes(*write.formed);
  if (write.formation)
    node_.formation = *write.formation;
  statements_->save_node.bind_blob(1, node_.founded)
      .bind_blob(2, node_.formation)
      .bind(3, std::uint64_t{node_.crc()})
      .run();
}

void raft_store::implementation::append(const log_entry& entry) {
  auto kind = static_cast<std::uint64_t>(entry.kind);
  auto crc =
      log_crc(entry.index.value, entry.term.value, kind, static_cast<std::uint64_t>(entry.time_ms), entry.payload);
  statements_->append.bind(1, entry.index.value)
      .bind(2, entry.term.value)
      .bind(3, kind)
      .bind(4, entry.time_ms)
      .bind_blob(5, entry.payload)
      .bind(6, std::uint64_t{crc})
      .run();
}

void raft_store::implementation::note_terms(const raft_write& write) {
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

std::optional<raft_owner> inspect_raft_file(const std::string& path, const std::string& vfs) {
  try {
    database db{path, {.vfs = vfs, .read_only = true}};
    if (!db.holds(raft_format))
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
