#pragma once

#include <cstdint>

namespace coordinator::bench {

/// What this process has asked of the C library so far, on all its threads. A program that links cost_counters.cpp
/// calls its malloc, fsync and pwrite and their kin through it. **Nothing is synced**: syncs are counted, and no disk
/// is waited for.
struct cost_counts {
  std::uint64_t allocations = 0;    ///< Calls of malloc, calloc, realloc and the aligned ones, from any library.
  std::uint64_t syncs = 0;          ///< Calls of fsync and fdatasync.
  std::uint64_t file_writes = 0;    ///< Calls of pwrite; SQLite writes by no other.
  std::uint64_t written_bytes = 0;  ///< By those.

  static cost_counts now();
};

}  // namespace coordinator::bench
