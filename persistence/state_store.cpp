#include "persistence/state_store.hpp"

#include <sqlite3.h>
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "persistence/checksum.hpp"
#include "persistence/snapshot_file.hpp"
#include "persistence/state_tables.hpp"

namespace coordinator {

using namespace state_tables;

std::uint64_t row_hash(std::uint8_t kind, std::string_view id, std::string_view body) {
  return XXH3_64bits_withSeed(body.data(), body.size(), XXH3_64bits_withSeed(id.data(), id.size(), kind));
}

class state_copy::implementation {
 public:
  implementation(database& source, const state_meta& meta, implementation*& place, std::string path, std::string vfs)
      : path_(std::move(path)), vfs_(std::move(vfs)), meta_(meta), place_(&place) {
    if (snapshot_file::exists(path_, vfs_))
      throw database_error(SQLITE_CANTOPEN, path_ + ": is there already");
    try {
      target_.emplace(path_, database_options{.vfs = vfs_, .create = true});
      target_->execute("PRAGMA journal_mode=off");
      target_->execute("PRAGMA synchronous=off");
      // What is left to be written when the last page has been copied; the writer waits for it.
      target_->execute("PRAGMA cache_size=-1000");
      page_size_ = static_cast<std::uint64_t>(source.query_number("PRAGMA page_size"));
      backup_ = sqlite3_backup_init(target_->handle(), "main", source.handle(), "main");
      if (!backup_)
        target_->fail(sqlite3_extended_errcode(target_->handle()), "begin a copy");
    } catch (...) {
      remove();
      throw;
    }
    place = this;
  }
  ~implementation() {
    detach();
    if (!done_)
      remove();
  }
  implementation(const implementation&) = delete;
  implementation& operator=(const implementation&) = delete;

  bool step(int pages) {
    if (done_)
      return true;
    if (!backup_)
      throw database_error(SQLITE_ABORT, path_ + ": its source is gone");
    auto code = sqlite3_backup_step(backup_, pages);
    done_pages_ = static_cast<std::uint64_t>(sqlite3_backup_pagecount(backup_) - sqlite3_backup_remaining(backup_));
    total_pages_ = static_cast<std::uint64_t>(sqlite3_backup_pagecount(backup_));
    if (code == SQLITE_OK || (code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED)
      return false;
    if (code != SQLITE_DONE)
      target_->fail(code, "copy into it");
    code = sqlite3_backup_finish(std::exchange(backup_, nullptr));
    if (code != SQLITE_OK)
      target_->fail(code, "finish the copy");
    detach();
    done_ = true;
    return true;
  }

  /// The source goes away, or has failed: nothing more is read from it.
  void detach() {
    if (backup_)
      sqlite3_backup_finish(std::exchange(backup_, nullptr));
    target_.reset();
    if (place_)
      *std::exchange(place_, nullptr) = nullptr;
  }

  std::uint64_t done_pages() const { return done_pages_; }
  std::uint64_t total_pages() const { return total_pages_; }
  std::uint64_t page_size() const { return page_size_; }
  const state_meta& meta() const { return meta_; }
  void note(const state_meta& meta) { meta_ = meta; }

 private:
  void remove() {
    target_.reset();
    try {
      snapshot_file::remove(path_, vfs_);
    } catch (const database_error&) {
      // The next start deletes what nothing names.
    }
  }

  std::string path_, vfs_;
  std::optional<database> target_;
  sqlite3_backup* backup_ = nullptr;
  std::uint64_t done_pages_ = 0, total_pages_ = 0, page_size_ = 0;
  state_meta meta_;
  implementation** place_;
  bool done_ = false;
};

class state_store::implementation {
 public:
  implementation(const std::string& path, const state_store_options& options, bool create = true)
      : vfs_(options.vfs),
        db_(path, {.vfs = options.vfs,
                   .create = create,
                   .synchronous = synchronous_mode::normal,
                   .checkpoint_pages = options.checkpoint_pages}) {}

  ~implementation() {
    if (copy_)
      copy_->detach();
  }
  implementation(const implementation&) = delete;
  implementation& operator=(const implementation&) = delete;

  void open(const node_id& node, incarnation_id incarnation);
  void adopt(const node_id& node, incarnation_id incarnation, const std::function<void(const row_view&)>& each);
  void load(const std::function<void(const row_view&)>& each);
  void write(const state_write& write);
  bool checkpoint();
  const state_meta& meta() const { return row_.meta; }
  log_index checkpointed() const { return checkpointed_; }
  // A disk that fails says so where something is lost by it.
  std::uint64_t size_bytes() {
    try {
      size_ = db_.size_bytes();
    } catch (const database_error&) {
    }
    return size_;
  }
  std::unique_ptr<state_copy::implementation> begin_copy(const std::string& path);

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
  [[noreturn]] void give_up(const database_error& error);

  std::string vfs_;
  database db_;
  meta_row row_;
  log_index checkpointed_;
  state_copy::implementation* copy_ = nullptr;
  std::optional<statements> statements_;
  std::optional<database_error> failure_;
  std::uint64_t size_ = 0;
};

void state_store::implementation::open(const node_id& node, incarnation_id incarnation) {
  if (!db_.holds(format)) {
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
    db_.keep_format();
  }
  statements_.emplace(db_);
}

void state_store::implementation::create(const node_id& node, incarnation_id incarnation) {
  row_.node = node;
  row_.incarnation = incarnation;
  transaction_statements transactions{db_};
  transaction t{transactions};
  db_.execute(schema);
  db_.set_format(format);
  insert_meta(db_, row_);
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
    row_ = std::move(row);
    // What is in the file was in it before the checkpoint began; only that can be counted on from here on.
    if (db_.checkpoint_if_due())
      checkpointed_ = row_.meta.last_applied;
  } catch (const database_error& error) {
    give_up(error);
  }
  if (copy_)
    copy_->note(row_.meta);
}

bool state_store::implementation::checkpoint() {
  if (failure_)
    throw *failure_;
  auto last_applied = row_.meta.last_applied;
  try {
    if (!db_.checkpoint())
      return false;
  } catch (const database_error& error) {
    give_up(error);
  }
  checkpointed_ = last_applied;
  return true;
}

void state_store::implementation::give_up(const database_error& error) {
  failure_ = error;
  if (copy_)
    copy_->detach();
  db_.abandon();
  throw;
}

std::unique_ptr<state_copy::implementation> state_store::implementation::begin_copy(const std::string& path) {
  if (failure_)
    throw *failure_;
  if (copy_)
    throw std::logic_error("state_store: another copy is under way");
  return std::make_unique<state_copy::implementation>(db_, row_.meta, copy_, path, vfs_);
}

void state_store::implementation::adopt(const node_id& node, incarnation_id incarnation,
                                        const std::function<void(const row_view&)>& each) {
  if (!db_.holds(format))
    throw_damaged(db_, "holds no state");
  if (auto problem = check_structure(db_, nullptr))
    throw_damaged(db_, *problem);
  {
    statement query{db_, select_meta};
    row_ = read_meta(db_, query);
  }
  load(each);
  row_.node = node;
  row_.incarnation = incarnation;
  db_.start_writing();
  db_.execute("PRAGMA synchronous=full");
  db_.keep_format();
  {
    transaction_statements transactions{db_};
    transaction t{transactions};
    insert_meta(db_, row_);
    // Of a back-up; what lives on from here is no longer a copy of that moment.
    db_.execute("DROP TABLE IF EXISTS origin");
    t.commit();
  }
  if (!db_.checkpoint())
    throw database_error(SQLITE_BUSY, db_.path() + ": is in use by another program");
  db_.execute("PRAGMA synchronous=normal");
  checkpointed_ = row_.meta.last_applied;
  statements_.emplace(db_);
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

std::unique_ptr<state_store> state_store::adopt(const std::string& path, const node_id& node,
                                                incarnation_id incarnation, const state_store_options& options,
                                                const std::function<void(const row_view&)>& each) {
  for (auto part : {"-wal", "-journal"})
    if (snapshot_file::exists(path + part, options.vfs))
      throw damaged_error(SQLITE_CORRUPT, path + part + ": is not of this file, and would be replayed into it");
  // Before a connection is there, whose locks closing this one would drop.
  snapshot_file::open(path, options.vfs)->sync();
  auto impl = std::make_unique<implementation>(path, options, false);
  impl->adopt(node, incarnation, each);
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

log_index state_store::checkpointed() const {
  return impl_->checkpointed();
}

bool state_store::checkpoint() {
  return impl_->checkpoint();
}

std::uint64_t state_store::size_bytes() const {
  return impl_->size_bytes();
}

std::unique_ptr<state_copy> state_store::begin_copy(const std::string& path) {
  return std::unique_ptr<state_copy>{new state_copy(impl_->begin_copy(path))};
}

state_copy::state_copy(std::unique_ptr<implementation> impl) : impl_(std::move(impl)) {}

state_copy::~state_copy() = default;

bool state_copy::step(int pages) {
  return impl_->step(pages);
}

std::uint64_t state_copy::pages_done() const {
  return impl_->done_pages();
}

std::uint64_t state_copy::pages_total() const {
  return impl_->total_pages();
}

const state_meta& state_copy::meta() const {
  return impl_->meta();
}

std::uint64_t state_copy::bytes() const {
  return impl_->total_pages() * impl_->page_size();
}

std::optional<node_id> inspect_state_file(const std::string& path, const std::string& vfs) {
  database db{path, {.vfs = vfs, .read_only = true}};
  if (!db.holds(format))
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
