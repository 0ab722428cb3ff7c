#include "persistence/state_store.hpp"

#include <sqlite3.h>
#include <xxhash.h>

#include <utility>

#include "persistence/checksum.hpp"

namespace coordinator {

namespace {

constexpr file_format state_format{0x436f5374, 1};

constexpr const char* schema = R"sql(
  CREATE TABLE meta(one INTEGER PRIMARY KEY CHECK(one = 1), node_id TEXT, incarnation INTEGER, last_applied INTEGER,
                    last_applied_term INTEGER, applied_time_ms INTEGER, checksum INTEGER, crc INTEGER);
  CREATE TABLE rows(kind INTEGER, id BLOB, body BLOB, hash INTEGER, PRIMARY KEY(kind, id)) WITHOUT ROWID;
)sql";

constexpr const char* select_meta =
    "SELECT node_id, incarnation, last_applied, last_applied_term, applied_time_ms, checksum, crc FROM meta "
    "WHERE one = 1";
constexpr const char* select_rows = "SELECT kind, id, body, hash FROM rows ORDER BY kind, id";

[[noreturn]] void throw_damaged(const database& db, const std::string& what) {
  throw damaged_error(SQLITE_CORRUPT, db.path() + ": " + what);
}

struct meta_row {
  node_id node;
  incarnation_id incarnation;
  state_meta meta;

  std::uint32_t crc() const {
    return row_checksum{}
        .add(node.value)
        .add(incarnation.value)
        .add(meta.last_applied.value)
        .add(meta.last_applied_term.value)
        .add(static_cast<std::uint64_t>(meta.applied_time_ms))
        .add(meta.checksum)
        .value();
  }
};

meta_row read_meta(const database& db, statement& query) {
  reset_at_end guard{query};
  if (!query.step())
    throw_damaged(db, "table meta: its row is missing");
  meta_row row;
  row.node.value = query.bytes(0);
  row.incarnation = {query.number(1)};
  row.meta.last_applied = {query.number(2)};
  row.meta.last_applied_term = {query.number(3)};
  row.meta.applied_time_ms = query.integer(4);
  row.meta.checksum = query.number(5);
  if (row.crc() != query.number(6))
    throw_damaged(db, "table meta: its row does not match its checksum");
  return row;
}

std::string printable(std::string_view id) {
  std::string text;
  for (unsigned char c : id.substr(0, 80))
    text += c < 0x20 || c == 0x7f ? '?' : static_cast<char>(c);
  return text;
}

// Streams the rows and holds them against the checksum. False when `go_on` ended it.
template <class GoOn>
bool read_rows(const database& db, statement& query, std::uint64_t checksum, GoOn go_on,
               const std::function<void(const row_view&)>& each) {
  reset_at_end guard{query};
  std::uint64_t sum = 0;
  while (query.step()) {
    if (!go_on())
      return false;
    row_view row{static_cast<std::uint8_t>(query.integer(0)), query.bytes(1), query.bytes(2), query.number(3)};
    if (query.number(0) > 0xff || row_hash(row.kind, row.id, row.body) != row.hash)
      throw_damaged(db, "table rows: row (" + std::to_string(query.number(0)) + ", '" + printable(row.id) +
                            "') does not match its hash");
    sum += row.hash;
    each(row);
  }
  if (sum != checksum)
    throw_damaged(db, "table rows: the rows together do not match the checksum; one is missing or out of date");
  return true;
}

}  // namespace

std::uint64_t row_hash(std::uint8_t kind, std::string_view id, std::string_view body) {
  return XXH3_64bits_withSeed(body.data(), body.size(), XXH3_64bits_withSeed(id.data(), id.size(), kind));
}

class state_store::implementation {
 public:
  implementation(const std::string& path, const state_store_options& options)
      : db_(path, {.vfs = options.vfs,
                   .create = true,
                   .synchronous = synchronous_mode::normal,
                   .checkpoint_pages = options.checkpoint_pages}) {}

  void open(const node_id& node, incarnation_id incarnation);
  void load(const std::function<void(const row_view&)>& each);
  void write(const state_write& write);
  const state_meta& meta() const { return row_.meta; }

 private:
  struct statements {
    explicit statements(database& db)
        : transactions(db),
          save_meta(db,
                    "UPDATE meta SET last_applied = ?, last_applied_term = ?, applied_time_ms = ?, checksum = ?, "
                    "crc = ? WHERE one = 1"),
          save_row(db,
                   "INSERT INTO rows(kind, id, body, hash) VALUES(?, ?, ?, ?) "
                   "ON CONFLICT(kind, id) DO UPDATE SET body = excluded.body, hash = excluded.hash"),
          delete_row(db, "DELETE FROM rows WHERE kind = ? AND id = ?") {}

    transaction_statements transactions;
    statement save_meta, save_row, delete_row;
  };

  void create(const node_id& node, incarnation_id incarnation);
  void save_meta(const meta_row& row);
  void save_row(const row_change& row);

  database db_;
  meta_row row_;
  std::optional<statements> statements_;
  std::optional<database_error> failure_;
};

void state_store::implementation::open(const node_id& node, incarnation_id incarnation) {
  if (!db_.holds(state_format)) {
    db_.start_writing();
    create(node, incarnation);
  } else {
    statement query{db_, select_meta};
    row_ = read_meta(db_, query);
    if (row_.node != node)
      throw refused_error(db_.path() + ": belongs to node '" + row_.node.value + "', not to '" + node.value +
                          "'; give that --node-id or another --data-dir");
    if (row_.incarnation != incarnation)
      throw refused_error(db_.path() + ": belongs to an earlier life of node '" + node.value +
                          "', whose raft.db was lost; move it out of the data directory");
    db_.start_writing();
  }
  statements_.emplace(db_);
}

void state_store::implementation::create(const node_id& node, incarnation_id incarnation) {
  row_.node = node;
  row_.incarnation = incarnation;
  transaction_statements transactions{db_};
  transaction t{transactions};
  db_.execute(schema);
  db_.set_format(state_format);
  statement{db_, "INSERT INTO meta VALUES(1, ?, ?, 0, 0, 0, 0, ?)"}
      .bind_text(1, node.value)
      .bind(2, incarnation.value)
      .bind(3, std::uint64_t{row_.crc()})
      .run();
  t.commit();
}

void state_store::implementation::load(const std::function<void(const row_view&)>& each) {
  statement query{db_, select_rows};
  read_rows(
      db_, query, row_.meta.checksum, [] { return true; }, each);
}

void state_store::implementation::write(const state_write& write) {
  if (failure_)
    throw *failure_;
  if (write.last_applied < row_.meta.last_applied)
    throw std::logic_error("state_store: last_applied would go back");
  auto row = row_;
  row.meta = {write.last_applied, write.last_applied_term, write.applied_time_ms, write.checksum};
  try {
    {
      transaction t{statements_->transactions};
      for (auto& change : write.rows)
        save_row(change);
      save_meta(row);
      t.commit();
    }
    db_.checkpoint_if_due();
  } catch (const database_error& error) {
    failure_ = error;
    db_.abandon();
    throw;
  }
  row_ = std::move(row);
}

void state_store::implementation::save_meta(const meta_row& row) {
  statements_->save_meta.bind(1, row.meta.last_applied.value)
      .bind(2, row.meta.last_applied_term.value)
      .bind(3, row.meta.applied_time_ms)
      .bind(4, row.meta.checksum)
      .bind(5, std::uint64_t{row.crc()})
      .run();
}

void state_store::implementation::save_row(const row_change& row) {
  if (row.body)
    statements_->save_row.bind(1, std::uint64_t{row.kind})
        .bind_blob(2, row.id)
        .bind_blob(3, *row.body)
        .bind(4, row.hash)
        .run();
  else
    statements_->delete_row.bind(1, std::uint64_t{row.kind}).bind_blob(2, row.id).run();
}

state_store::state_store(std::unique_ptr<implementation> impl) : impl_(std::move(impl)) {}

state_store::~state_store() = default;

std::unique_ptr<state_store> state_store::open(const std::string& path, const node_id& node, incarnation_id incarnation,
                                               const state_store_options& options) {
  auto impl = std::make_unique<implementation>(path, options);
  impl->open(node, incarnation);
  return std::unique_ptr<state_store>{new state_store(std::move(impl))};
}

const state_meta& state_store::meta() const {
  return impl_->meta();
}

void state_store::load(const std::function<void(const row_view&)>& each) {
  impl_->load(each);
}

void state_store::write(const state_write& write) {
  impl_->write(write);
}

std::optional<node_id> inspect_state_file(const std::string& path, const std::string& vfs) {
  database db{path, {.vfs = vfs, .read_only = true}};
  if (!db.holds(state_format))
    return std::nullopt;
  statement query{db, select_meta};
  return read_meta(db, query).node;
}

class state_reader::implementation {
 public:
  implementation(const std::string& path, const std::string& vfs)
      : db_(path, {.vfs = vfs, .read_only = true}),
        begin_(db_, "BEGIN"),
        end_(db_, "ROLLBACK"),
        meta_(db_, select_meta),
        rows_(db_, select_rows) {}

  bool read(std::chrono::steady_clock::time_point deadline, const std::function<void(const state_meta&)>& meta,
            const std::function<void(const row_view&)>& each) {
    begin_.run();
    struct end_guard {
      implementation& self;
      ~end_guard() {
        if (!sqlite3_get_autocommit(self.db_.handle()))
          self.end();
      }
    } guard{*this};
    auto found = read_meta(db_, meta_).meta;
    meta(found);
    return read_rows(
        db_, rows_, found.checksum, [&] { return std::chrono::steady_clock::now() < deadline; }, each);
  }

 private:
  void end() {
    try {
      end_.run();
    } catch (const database_error&) {
      // A read transaction has nothing to undo; closing the connection ends it too.
    }
  }

  database db_;
  statement begin_, end_, meta_, rows_;
};

state_reader::state_reader(const std::string& path, const std::string& vfs)
    : impl_(std::make_unique<implementation>(path, vfs)) {}

state_reader::~state_reader() = default;

bool state_reader::read(std::chrono::steady_clock::time_point deadline,
                        const std::function<void(const state_meta&)>& meta,
                        const std::function<void(const row_view&)>& each) {
  return impl_->read(deadline, meta, each);
}

}  // namespace coordinator
