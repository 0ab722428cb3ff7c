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

}  // namespace coordinator
