#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "persistence/state_store.hpp"
#include "persistence/types.hpp"

namespace coordinator {

/// Where a back-up comes from: the row of its table `origin`.
struct backup_origin {
  std::string cluster_id;
  node_id node;               ///< The one that made the copy.
  membership members;         ///< Of its cluster, as that node knew them then.
  std::int64_t saved_ms = 0;  ///< The wall clock of whoever saved it.
  std::string version;        ///< Of the program that saved it.

  friend bool operator==(const backup_origin&, const backup_origin&) = default;
};

/// Makes a back-up of a copy of a state's file that has come in whole and is synced: notes where it comes from, and
/// leaves one file without a -wal, which can be read from wherever it is taken. Durable when it returns. Throws
/// damaged_error, refused_error for what is no state, database_error; the file is then to be removed.
void seal_backup(const std::string& path, const backup_origin& origin);

/// What a back-up holds, every byte of it checked.
struct backup_contents {
  state_meta meta;
  backup_origin origin;
  std::map<std::uint8_t, std::uint64_t> rows;  ///< How many there are of each kind.
  std::uint64_t bytes = 0;                     ///< Of the file.
};

/// Reads a back-up and checks it: SQLite's structure, every row against its hash, and all together against the
/// checksum. Changes nothing and leaves no file beside it. Throws refused_error for what no `seal_backup` made or a
/// newer version did, damaged_error, database_error when it cannot be read.
backup_contents inspect_backup(const std::string& path);

}  // namespace coordinator
