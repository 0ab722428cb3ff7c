#include "persistence/offline.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "persistence/codec.hpp"
#include "persistence/raft_tables.hpp"
#include "persistence/recover.hpp"
#include "persistence/snapshot_file.hpp"
#include "persistence/state_tables.hpp"
#include "persistence/wal_check.hpp"

namespace coordinator {

namespace {

constexpr std::size_t copy_piece = 64 << 10;

// A stopped node's file that SQLite calls malformed in one place may be read in others.
template <class Read>
void note_damage(std::vector<log_damage>& problems, Read read) {
  try {
    read();
  } catch (const damaged_error& error) {
    problems.push_back({{}, error.what()});
  }
}

}  // namespace

class log_inspector::implementation {
 public:
  implementation(const std::string& path, const std::string& vfs)
      : wal_damage_(find_wal_damage(path, vfs)), db_(path, {.vfs = vfs, .read_only = true}) {
    if (!db_.holds(raft_tables::format))
      raft_tables::throw_damaged(db_, "holds no node");
    if (wal_damage_)
      problems.push_back({{}, *wal_damage_});
    note_damage(problems, [&] {
      auto node = raft_tables::read_node(db_);
      contents.node = node.node;
      contents.incarnation = node.incarnation;
      contents.base = node.base;
      contents.formation = node.formation;
      contents.state_file = node.state_file;
      contents.founded = raft_tables::decode_founded(db_, node);
    });
    note_damage(problems, [&] { contents.state = raft_tables::read_vote(db_); });
    // A node's row that cannot be trusted says nothing of where the log begins.
    auto first = db_.query_number("SELECT ifnull(min(idx), 0) FROM log");
    auto last = db_.query_number("SELECT ifnull(max(idx), 0) FROM log");
    contents.first_index = problems.empty() ? contents.base.index + 1 : log_index{static_cast<std::uint64_t>(first)};
    contents.last_index = last == 0 ? contents.first_index - 1 : log_index{static_cast<std::uint64_t>(last)};
  }

  void each(log_index from, log_index to, const std::function<void(const log_entry&)>& entry,
            const std::function<void(const log_damage&)>& damage) {
    statement query{db_, std::string{raft_tables::select_log} + "WHERE idx BETWEEN ? AND ? ORDER BY idx"};
    from = std::max(from, contents.first_index);
    to = std::min(to, contents.last_index);
    if (from > to)
      return;
    query.bind(1, from.value).bind(2, to.value);
    auto expected = from;
    try {
      while (query.step()) {
        log_index index{query.number(0)};
        report_missing(expected, index, damage);
        expected = index + 1;
        try {
          entry(raft_tables::read_log_row(db_, query).entry());
        } catch (const damaged_error& error) {
          damage({index, error.what()});
        }
      }
      report_missing(expected, to + 1, damage);
    } catch (const damaged_error& error) {
      damage({expected, error.what()});
    }
  }

  std::vector<log_damage> verify() {
    auto found = problems;
    note_damage(found, [&] {
      if (auto problem = state_tables::check_structure(db_, nullptr))
        found.push_back({{}, db_.path() + ": " + *problem});
    });
    term_number last_term = contents.base.term;
    each(
        contents.first_index, contents.last_index,
        [&](const log_entry& entry) {
          if (entry.term < last_term || entry.term.value == 0)
            found.push_back({entry.index, db_.path() + ": table log: row " + std::to_string(entry.index.value) +
                                              " is of an earlier term than the one before it"});
          last_term = std::max(last_term, entry.term);
        },
        [&](const log_damage& damage) { found.push_back(damage); });
    if (problems.empty() && last_term > contents.state.current_term)
      found.push_back({{}, db_.path() + ": table vote: the log is of a later term than the current one"});
    return found;
  }

  raft_contents contents;
  std::vector<log_damage> problems;

 private:
  // One line for a gap, however wide a damaged index makes it look.
  void report_missing(log_index expected, log_index found, const std::function<void(const log_damage&)>& damage) {
    if (found <= expected)
      return;
    auto what = db_.path() + ": table log: row " + std::to_string(expected.value);
    what +=
        found == expected + 1 ? " is missing" : " and those up to " + std::to_string(found.value - 1) + " are missing";
    damage({expected, what});
  }

  std::optional<std::string> wal_damage_;  // Looked for before the connection is there, whose locks it would drop.
  database db_;
};

log_inspector::log_inspector(const std::string& path, const std::string& vfs)
    : impl_(std::make_unique<implementation>(path, vfs)) {}

log_inspector::~log_inspector() = default;

const raft_contents& log_inspector::contents() const {
  return impl_->contents;
}

const std::vector<log_damage>& log_inspector::problems() const {
  return impl_->problems;
}

void log_inspector::each(log_index from, log_index to, const std::function<void(const log_entry&)>& entry,
                         const std::function<void(const log_damage&)>& damage) {
  impl_->each(from, to, entry, damage);
}

std::vector<log_damage> log_inspector::verify() {
  return impl_->verify();
}

namespace {

membership present_members(database& db, const raft_contents& contents) {
  if (contents.memberships.empty())
    return contents.base.members;
  auto& last = contents.memberships.back();
  return raft_tables::decode_members(db, {last.index, last.term, last.kind, last.time_ms, last.payload});
}

membership alone_in(const node_id& node, incarnation_id incarnation, const lone_member& alone, const member* present) {
  member self{node, incarnation, alone.http_address, alone.cluster_address, true};
  if (present && self.http_address.empty())
    self.http_address = present->http_address;
  if (present && self.cluster_address.empty())
    self.cluster_address = present->cluster_address;
  return {{self}};
}

void append_members(database& db, const log_entry& entry) {
  statement{db, "INSERT INTO log(idx, term, kind, time_ms, payload, crc) VALUES(?, ?, ?, ?, ?, ?)"}
      .bind(1, entry.index.value)
      .bind(2, entry.term.value)
      .bind(3, static_cast<std::uint64_t>(entry.kind))
      .bind(4, entry.time_ms)
      .bind_blob(5, entry.payload)
      .bind(6, std::uint64_t{raft_tables::log_crc(entry)})
      .run();
}

}  // namespace

namespace {

// The first entry founds the old cluster. A node that joins the new one writes that one's founding there, so the log is
// to begin later: whoever joins then gets the state, and not a log whose beginning differs from its own. Where the
// state does not reach that far yet the new founding names the old founders and their time, so that applying either
// comes to the same.
constexpr log_index first_kept{2};

void drop_old_founding(node_files& files, raft_store& raft, const raft_contents& contents) {
  if (contents.base.index >= first_kept)
    return;
  auto path = files.path(contents.state_file);
  auto state = state_store::open(path, contents.node, contents.incarnation, {files.vfs()});
  if (state->meta().last_applied < first_kept)
    return;
  if (!state->checkpoint())
    throw database_error(SQLITE_BUSY, path + ": is in use by another program");
  raft_write write;
  write.compact_to = first_kept;
  while (raft.first_index() <= first_kept)
    raft.write(write);
}

}  // namespace

membership force_new(node_files& files, const node_id& node, const lone_member& alone) {
  finish_recovery(files);
  auto path = files.path("raft.db");
  raft_store_options options;
  options.vfs = files.vfs();
  options.create = false;
  // Opening it as a node does reads and checks all of it, and makes durable what is read.
  auto store = raft_store::open(path, node, options);
  auto contents = store->take_contents();
  if (!contents.founded)
    throw refused_error(path + ": was never part of a cluster; start the node as a new one");
  drop_old_founding(files, *store, contents);
  store.reset();

  // The store keeps a node from changing its cluster, which is what this is for.
  database db{path, {.vfs = files.vfs()}};
  db.start_writing();
  auto row = raft_tables::read_node(db);
  auto before = present_members(db, contents);
  auto members = alone_in(node, contents.incarnation, alone, before.find(node));
  auto term = contents.state.current_term + 1;
  transaction_statements transactions{db};
  {
    transaction t{transactions};
    row.founded = to_bytes(genesis{alone.cluster_id, contents.founded->founders, contents.founded->time_ms});
    row.formation.clear();
    raft_tables::save_node(db, row);
    raft_tables::save_vote(db, {term, std::nullopt});
    append_members(db,
                   {contents.last_index + 1, term, entry_kind::membership, contents.last_time_ms, to_bytes(members)});
    t.commit();
  }
  db.checkpoint();
  return members;
}

namespace {

void copy_file(const std::string& from, const std::string& from_vfs, const std::string& to, const std::string& to_vfs) {
  auto target = snapshot_file::create(to, to_vfs);
  std::uint64_t at = 0;
  auto add = [&](const std::string& bytes) {
    target->write(at, bytes);
    at += bytes.size();
    return !bytes.empty();
  };
  if (from_vfs.empty()) {
    // A backup may well be a file that nobody may write.
    std::ifstream source{from, std::ios::binary};
    std::string piece;
    do {
      piece.resize(copy_piece);
      source.read(piece.data(), static_cast<std::streamsize>(piece.size()));
      piece.resize(static_cast<std::size_t>(source.gcount()));
    } while (add(piece) && source);
    if (source.bad() || at == 0)
      throw database_error(SQLITE_CANTOPEN, from + ": cannot be read");
  } else {
    auto source = snapshot_file::open(from, from_vfs);
    while (add(source->read(at, copy_piece))) {
    }
  }
  target->sync();
}

// Nothing, or a node that was never part of a cluster: what a restoration that was cut short leaves.
void require_new(node_files& files, const node_id& node) {
  for (auto& name : files.names())
    if (name.find(".damaged-") != std::string::npos || (!files.has("raft.db") && is_state_file(name)))
      throw refused_error(files.path(name) + ": is there already; choose an empty data directory");
  if (!files.has("raft.db"))
    return;
  auto owner = inspect_raft_file(files.path("raft.db"), files.vfs());
  if (owner && (owner->cluster_id || owner->node != node))
    throw refused_error(files.path("raft.db") + ": holds node '" + owner->node.value +
                        "' already; choose an empty data directory");
}

}  // namespace

void create_from_snapshot(node_files& files, const node_id& node, incarnation_id incarnation,
                          const std::string& snapshot, const lone_member& alone, std::uint64_t nonce,
                          const std::string& snapshot_vfs) {
  finish_recovery(files);
  require_new(files, node);
  raft_store_options options;
  options.vfs = files.vfs();
  options.new_incarnation = incarnation.value;
  // First, so that a directory with a state file always has a raft.db, which says that nothing was restored yet.
  auto raft = raft_store::open(files.path("raft.db"), node, options);
  auto self = raft->contents().incarnation;
  remove_unnamed(files, raft->contents().state_file);

  auto name = "state-" + std::to_string(nonce) + ".db";
  copy_file(snapshot, snapshot_vfs, files.path(name), files.vfs());
  state_meta meta;
  {
    auto state = state_store::adopt(files.path(name), node, self, {.vfs = files.vfs()}, [](const row_view&) {});
    meta = state->meta();
  }
  // A state of index 0 is that before the first entry; the membership has to stand somewhere.
  log_base base{std::max(meta.last_applied, log_index{1}), std::max(meta.last_applied_term, term_number{1}),
                std::max(meta.last_applied, log_index{1}), alone_in(node, self, alone, nullptr), meta.applied_time_ms};
  raft_write write;
  write.state = hard_state{base.term, std::nullopt};
  write.formation = "";
  write.formed = genesis{alone.cluster_id, base.members, base.time_ms};
  write.install = raft_write::snapshot{base, false};
  write.state_file = name;
  raft->write(write);
}

}  // namespace coordinator
