#include "persistence/recover.hpp"

#include <sqlite3.h>

#include <array>
#include <optional>
#include <utility>

#include "persistence/raft_tables.hpp"
#include "persistence/snapshot_file.hpp"
#include "persistence/state_tables.hpp"
#include "persistence/verify.hpp"

namespace coordinator {

namespace {

// The copy has the first name until it is complete and synced, and the second until it is in its place.
constexpr const char* raft_name = "raft.db";
constexpr const char* unfinished_name = "raft.db.recovering";
constexpr const char* finished_name = "raft.db.recovered";
constexpr std::array<const char*, 4> parts{"-wal", "-shm", "-journal", ""};

void remove_database(node_files& files, const std::string& name) {
  for (auto part : parts)
    files.remove(name + part);
}

// What the rows of a database say of themselves and of each other, so that a copy can be held against its original.
struct row_counts {
  std::int64_t rows = 0, first = 0, last = 0;

  friend bool operator==(const row_counts&, const row_counts&) = default;
};

row_counts count_log(database& db) {
  return {db.query_number("SELECT count(*) FROM log"), db.query_number("SELECT ifnull(min(idx), 0) FROM log"),
          db.query_number("SELECT ifnull(max(idx), 0) FROM log")};
}

// Reads the original only, and writes every byte of the copy anew: none of it is a page that the kernel may have marked
// clean without having written it.
void copy_database(database& original, const std::string& to) {
  statement{original, "VACUUM INTO ?"}.bind_text(1, to).run();
}

void copy_raft(node_files& files) {
  auto to = files.path(unfinished_name);
  row_counts expected;
  {
    database original{files.path(raft_name), {.vfs = files.vfs(), .read_only = true}};
    copy_database(original, to);
    expected = count_log(original);
  }
  {
    // Into WAL mode as long as nobody takes it for raft.db: beside that name, a rollback journal that a power failure
    // brings back says that its creation was cut short.
    database copy{to, {.vfs = files.vfs()}};
    copy.start_writing();
  }
  if (files.has(std::string{unfinished_name} + "-wal"))
    throw database_error(SQLITE_IOERR, to + ": its WAL cannot be checkpointed");
  {
    database copy{to, {.vfs = files.vfs(), .read_only = true}};
    if (!copy.holds(raft_tables::format) || count_log(copy) != expected)
      raft_tables::throw_damaged(copy, "is not a whole copy");
  }
  if (auto problem = scan_log(to, files.vfs(), std::atomic<bool>{false}))
    throw damaged_error(SQLITE_CORRUPT, *problem);
  snapshot_file::open(to, files.vfs())->sync();
  files.rename(unfinished_name, finished_name);
  files.sync();
}

std::string free_state_name(node_files& files, log_index index) {
  auto number = 1;
  auto name = [&] { return "state-" + std::to_string(index.value) + "-r" + std::to_string(number) + ".db"; };
  while (files.has(name()) || files.has(name() + "-wal"))
    ++number;
  return name();
}

}  // namespace

bool is_failed_sync(int code) {
  return code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC;
}

void finish_recovery(node_files& files) {
  auto names = files.names();
  for (auto& name : names)
    if (name.starts_with(unfinished_name))
      files.remove(name);
  if (!files.has(finished_name))
    return;
  // The old -wal has to be gone for good before the new file has the name that it would be replayed into.
  remove_database(files, raft_name);
  files.sync();
  files.rename(finished_name, raft_name);
  files.sync();
}

std::unique_ptr<raft_store> recover_raft(node_files& files, const node_id& node, const raft_store_options& options,
                                         int code) {
  finish_recovery(files);
  if (is_failed_sync(code)) {
    copy_raft(files);
    finish_recovery(files);
  }
  auto reopen = options;
  reopen.create = false;
  return raft_store::open(files.path(raft_name), node, reopen);
}

std::unique_ptr<state_store> recover_state(node_files& files, std::string& file_name, const node_id& node,
                                           incarnation_id incarnation, const state_store_options& options, int code) {
  if (!is_failed_sync(code))
    return state_store::open(files.path(file_name), node, incarnation, options);
  std::string name;
  try {
    {
      database original{files.path(file_name), {.vfs = files.vfs(), .read_only = true}};
      statement query{original, state_tables::select_meta};
      name = free_state_name(files, state_tables::read_meta(original, query).meta.last_applied);
      copy_database(original, files.path(name));
    }
    auto store = state_store::adopt(files.path(name), node, incarnation, options, [](const row_view&) {});
    file_name = name;
    return store;
  } catch (...) {
    try {
      if (!name.empty())
        remove_database(files, name);
    } catch (const database_error&) {
      // The next start deletes what nothing names.
    }
    throw;
  }
}

}  // namespace coordinator
