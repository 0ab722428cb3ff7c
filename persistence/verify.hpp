#pragma once

#include <atomic>
#include <optional>
#include <string>

namespace coordinator {

/// These read a database that its writer has open, each through a read-only connection of its own, and give what is
/// wrong with it, or nothing: that it is sound, or that `stop` was set. They throw database_error when it cannot be
/// read. They run on a thread of their own; `share` of that thread's time is worked, and the rest slept, between
/// transactions that are kept short so that the WAL can be reset.

/// SQLite's own check of the file's structure. One statement, in one transaction for each table.
std::optional<std::string> quick_check(const std::string& path, const std::string& vfs, const std::atomic<bool>& stop);

/// Every row of a state.db against its hash. The checksum over all is compared too when one transaction sees all rows.
std::optional<std::string> full_check_state(const std::string& path, const std::string& vfs,
                                            const std::atomic<bool>& stop, double share = 1.0);

/// Every row of a raft.db against its CRC, and that none is missing.
std::optional<std::string> scan_log(const std::string& path, const std::string& vfs, const std::atomic<bool>& stop,
                                    double share = 1.0);

}  // namespace coordinator
