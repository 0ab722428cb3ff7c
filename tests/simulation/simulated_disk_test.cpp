#include <doctest/doctest.h>
#include <sqlite3.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/fault_vfs.hpp"

using namespace coordinator;

// What the disks of the simulation do to a file, below SQLite.

namespace {

/// One file on a disk, through the methods that SQLite would call.
class raw_file {
 public:
  explicit raw_file(fault_disk& disk) : vfs_(sqlite3_vfs_find(disk.vfs().c_str())) {
    memory_.resize(static_cast<std::size_t>(vfs_->szOsFile));
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_WAL;
    REQUIRE(vfs_->xOpen(vfs_, "/file", file(), flags, nullptr) == SQLITE_OK);
  }
  ~raw_file() { file()->pMethods->xClose(file()); }
  raw_file(const raw_file&) = delete;
  raw_file& operator=(const raw_file&) = delete;

  int write(std::size_t at, char c, std::size_t size) {
    std::string bytes(size, c);
    return file()->pMethods->xWrite(file(), bytes.data(), static_cast<int>(size), static_cast<sqlite3_int64>(at));
  }
  int truncate(std::size_t size) { return file()->pMethods->xTruncate(file(), static_cast<sqlite3_int64>(size)); }
  int sync() { return file()->pMethods->xSync(file(), SQLITE_SYNC_FULL); }

 private:
  sqlite3_file* file() { return reinterpret_cast<sqlite3_file*>(memory_.data()); }

  sqlite3_vfs* vfs_;
  std::vector<char> memory_;
};

constexpr std::size_t sector = 512;

/// Two sectors, the first byte of each as a letter.
std::string letters(const std::string& contents) {
  std::string out;
  for (std::size_t at = 0; at < contents.size(); at += sector)
    out += contents[at];
  return out;
}

}  // namespace

TEST_CASE("simulated disk: a power failure keeps what was synced and any part of the rest, torn and out of order") {
  std::set<std::string> seen;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    fault_disk disk{"disk-test", seed};
    raw_file file{disk};
    file.write(0, 'a', 2 * sector);
    REQUIRE(file.sync() == SQLITE_OK);
    file.write(0, 'b', 2 * sector);
    file.write(0, 'c', 2 * sector);
    disk.crash();
    auto contents = disk.read("/file");
    REQUIRE(contents.size() == 2 * sector);
    // Torn only between sectors: within one it is one write or another.
    for (std::size_t i = 0; i < contents.size(); ++i)
      REQUIRE(contents[i] == contents[i / sector * sector]);
    seen.insert(letters(contents));
  }
  // Nothing, the first write, both, and each mixture, in which a later write is there without an earlier one.
  CHECK(seen == std::set<std::string>{"aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb", "cc"});
}

TEST_CASE("simulated disk: lengths that were not synced may come or not") {
  std::set<std::size_t> lengths;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    fault_disk disk{"disk-test", seed};
    raw_file file{disk};
    file.write(0, 'a', 2 * sector);
    REQUIRE(file.sync() == SQLITE_OK);
    file.write(2 * sector, 'b', sector);
    file.truncate(sector);
    disk.crash();
    lengths.insert(disk.read("/file").size());
  }
  CHECK(lengths == std::set<std::size_t>{sector, 2 * sector, 3 * sector});
}

TEST_CASE("simulated disk: a process that dies takes nothing with it") {
  fault_disk disk{"disk-test", 1};
  raw_file file{disk};
  file.write(0, 'a', sector);
  disk.restart();
  CHECK(letters(disk.read("/file")) == "a");
}

TEST_CASE("simulated disk: a sync that fails loses its pages for good, and the next one succeeds without them") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    fault_disk disk{"disk-test", seed};
    raw_file file{disk};
    file.write(0, 'a', 2 * sector);
    REQUIRE(file.sync() == SQLITE_OK);
    disk.fail_sync(1);
    file.write(0, 'b', sector);
    CHECK(file.sync() != SQLITE_OK);
    // As long as the machine runs they are in its cache, and the kernel takes them for clean.
    CHECK(letters(disk.read("/file")) == "ba");
    file.write(sector, 'c', sector);
    CHECK(file.sync() == SQLITE_OK);
    disk.crash();
    CHECK(letters(disk.read("/file")) == "ac");
  }
}

TEST_CASE("simulated disk: a failing write leaves a part of itself, a full disk only refuses to grow") {
  fault_disk disk{"disk-test", 3};
  raw_file file{disk};
  file.write(0, 'a', 2 * sector);
  disk.fail_write(1);
  CHECK(file.write(0, 'b', 2 * sector) != SQLITE_OK);
  auto contents = disk.read("/file");
  CHECK(contents.find_first_not_of('b') < 2 * sector);
  CHECK(contents.substr(contents.find_first_not_of('b')).find_first_not_of('a') == std::string::npos);
  disk.set_full(true);
  CHECK(file.write(2 * sector, 'c', sector) == SQLITE_FULL);
  CHECK(file.write(0, 'c', sector) == SQLITE_OK);
  disk.set_full(false);
  CHECK(file.write(2 * sector, 'c', sector) == SQLITE_OK);
}
