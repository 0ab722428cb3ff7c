#pragma once

#include <optional>
#include <string>

namespace coordinator {

/// Whether the WAL of the database `path` has damage that SQLite takes for its end: what follows would be forgotten
/// without a word, and with it votes. Gives what was found, or nothing. For databases with `synchronous_mode::full`
/// alone, and before a connection opens them.
///
/// A frame is out of order there after a power failure too, but only in the last transaction, which was not synced: the
/// next is written once the one before it is on the disk. So a frame that continues a committed one beyond the
/// WAL's end proves damage. A header that cannot be one is damage too, unless the database holds all of the WAL
/// already: it may have been half written when the WAL began anew. What cannot be told from a power failure is damage
/// to the last transaction of all. Throws database_error when the WAL cannot be read.
std::optional<std::string> find_wal_damage(const std::string& path, const std::string& vfs = {});

/// Cuts off what the WAL holds beyond its end, unless it is damaged, and returns once that is durable. Frames of an
/// earlier WAL are told from those of the present one by the salts in its header, and SQLite takes the salts of
/// a header that was half written when the WAL began anew: what is left of the one before would then look
/// like transactions that follow damage. So would frames of a transaction that failed, where the next one fails in its
/// first frame. Before a connection opens the database. Throws database_error.
void drop_wal_remains(const std::string& path, const std::string& vfs = {});

}  // namespace coordinator
