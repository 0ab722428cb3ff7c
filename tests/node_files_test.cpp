#include "persistence/node_files.hpp"

#include <doctest/doctest.h>
#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "persistence/checksum.hpp"
#include "persistence/database.hpp"
#include "persistence/snapshot_file.hpp"
#include "persistence/state_store.hpp"
#include "tests/support/fault_files.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

// 2026-11-23 10:15:00 UTC.
const auto then = std::chrono::system_clock::from_time_t(1795428900);
const std::string aside = "state.db.damaged-20261123T101500Z";

std::set<std::string> names_of(const node_files& files) {
  auto names = files.names();
  return {names.begin(), names.end()};
}

void put(const std::string& path, const std::string& text) {
  std::ofstream{path} << text;
}

}  // namespace

TEST_CASE("node_files: a damaged database is set aside with its WAL, each time under another name") {
  temporary_directory directory;
  real_files files{directory.path().string()};
  CHECK(set_aside(files, "state.db", then) == "");
  for (std::string suffix : {"", "-2", "-3"}) {
    put(directory / "state.db", suffix);
    put(directory / "state.db-wal", "wal");
    put(directory / "state.db-shm", "shm");
    CHECK(set_aside(files, "state.db", then) == aside + suffix);
    CHECK_FALSE(files.has("state.db"));
    CHECK_FALSE(files.has("state.db-wal"));
    std::ifstream file{directory / (aside + suffix)};
    CHECK(std::string{std::istreambuf_iterator<char>{file}, {}} == suffix);
    CHECK(files.has(aside + suffix + "-wal"));
    CHECK(files.has(aside + suffix + "-shm"));
  }
  CHECK(files.names().size() == 9);
}

TEST_CASE("node_files: the start deletes what nothing names, and nothing else") {
  temporary_directory directory;
  real_files files{directory.path().string()};
  std::set<std::string> kept{"raft.db", "raft.db-wal", "lock",           "state-7-a.db", "state-7-a.db-wal",
                             aside,     "node.log",    "statement.text", aside + "-wal", "state-3-a.db.damaged-x"};
  for (auto& name : kept)
    put(directory / name, "x");
  for (auto name : {"state.db", "state.db-wal", "state-6-b.db", "state-6-b.db-shm", "state-7-b.db", "snapshot-3-a.db"})
    put(directory / name, "x");
  remove_unnamed(files, "state-7-a.db");
  CHECK(names_of(files) == kept);
  put(directory / "state.db", "x");
  remove_unnamed(files, "state.db");
  CHECK(files.has("state.db"));
  CHECK_FALSE(files.has("state-7-a.db"));
}

TEST_CASE("node_files: errors name the file and the reason") {
  temporary_directory directory;
  real_files files{directory.path().string()};
  CHECK_THROWS_WITH_AS(files.rename("absent", "x"), doctest::Contains("absent"), database_error);
  files.remove("absent");
  real_files gone{directory / "gone"};
  CHECK_THROWS_AS(gone.names(), database_error);
  CHECK_THROWS_AS(gone.sync(), database_error);
}

TEST_CASE("node_files: setting aside that is cut short anywhere loses no file and leaves no WAL to a new database") {
  auto setup = [](fault_disk& disk) {
    disk.write("/state.db", "damaged");
    disk.write("/state.db-wal", "its wal");
  };
  for (std::uint64_t n = 0; n < 8; ++n)
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      fault_disk disk{"aside", seed * 100 + n};
      setup(disk);
      fault_files files{disk};
      disk.stop_after(n);
      try {
        set_aside(files, "state.db", then);
      } catch (const database_error&) {
      }
      seed % 2 ? disk.crash() : disk.restart();
      CAPTURE(n);
      CAPTURE(seed);
      // The next start finds the database damaged again, or gone; either way its WAL goes where it is.
      remove_unnamed(files, "state.db");
      if (files.has("state.db"))
        CHECK(set_aside(files, "state.db", then) == aside);
      CHECK(names_of(files) == std::set<std::string>{aside, aside + "-wal"});
      CHECK(disk.read("/" + aside) == "damaged");
      CHECK(disk.read("/" + aside + "-wal") == "its wal");
    }
}

TEST_CASE("node_files: a raft.db that is being set aside never looks like a sound one without its WAL") {
  for (std::uint64_t n = 0; n < 8; ++n)
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      fault_disk disk{"aside-raft", seed * 100 + n};
      disk.write("/raft.db", "raft");
      disk.write("/raft.db-wal", "wal");
      fault_files files{disk};
      disk.stop_after(n);
      try {
        set_aside(files, "raft.db", then);
      } catch (const database_error&) {
      }
      disk.crash();
      CHECK((!files.has("raft.db") || files.has("raft.db-wal")));
    }
}

TEST_CASE("snapshot_file: pieces are read as they were written, in any order") {
  temporary_directory directory;
  fault_disk disk{"pieces", 1};
  for (std::string vfs : {std::string{}, disk.vfs()}) {
    auto path = vfs.empty() ? directory / "state-7-abc.db" : "/state-7-abc.db";
    CHECK_THROWS_AS(snapshot_file::open(path, vfs), database_error);
    CHECK_FALSE(snapshot_file::exists(path, vfs));
    std::string large(200'000, 'y');
    {
      auto file = snapshot_file::create(path, vfs);
      file->write(5, large);
      file->write(0, "01234");
      CHECK(file->size() == 200'005);
      file->sync();
    }
    CHECK_THROWS_AS(snapshot_file::create(path, vfs), database_error);
    CHECK(snapshot_file::exists(path, vfs));
    auto file = snapshot_file::open(path, vfs);
    CHECK(file->read(0, 7) == "01234yy");
    CHECK(file->read(0, 1 << 20) == "01234" + large);
    CHECK(file->read(200'003, 10) == "yy");
    CHECK(file->read(200'005, 10).empty());
    CHECK(file->read(900'000, 10).empty());
    file.reset();
    snapshot_file::remove(path, vfs);
    snapshot_file::remove(path, vfs);
    CHECK_FALSE(snapshot_file::exists(path, vfs));
  }
  CHECK_THROWS_AS(snapshot_file::open("/x.db", "no-such-vfs"), database_error);
}

TEST_CASE("snapshot_file: what was synced is there after a power failure, by its name") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    fault_disk disk{"snapshot-sync", seed};
    {
      auto file = snapshot_file::create("/snapshot-1.db", disk.vfs());
      file->write(0, std::string(3000, 'x'));
      file->sync();
      file->write(3000, "not synced");
    }
    disk.crash();
    REQUIRE(snapshot_file::exists("/snapshot-1.db", disk.vfs()));
    CHECK(snapshot_file::open("/snapshot-1.db", disk.vfs())->read(0, 3000) == std::string(3000, 'x'));
  }
}

TEST_CASE("snapshot_file: errors of the disk are thrown") {
  fault_disk disk{"snapshot-errors", 1};
  auto file = snapshot_file::create("/snapshot-1.db", disk.vfs());
  disk.fail_write(1);
  CHECK_THROWS_AS(file->write(0, "x"), database_error);
  disk.set_full(true);
  CHECK_THROWS_AS(file->write(0, "x"), database_error);
  disk.set_full(false);
  disk.fail_sync(1);
  CHECK_THROWS_AS(file->sync(), database_error);
}

TEST_CASE("checksum: CRC-32C is the one of the standards, and any flipped bit of a piece changes it") {
  CHECK(crc32c("123456789") == 0xe3069283);
  CHECK(crc32c("") == 0);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aa);
  std::string piece(500, 'p');
  auto sum = crc32c(piece);
  for (std::size_t bit = 0; bit < piece.size() * 8; ++bit) {
    piece[bit / 8] = static_cast<char>(piece[bit / 8] ^ (1 << bit % 8));
    CHECK(crc32c(piece) != sum);
    piece[bit / 8] = static_cast<char>(piece[bit / 8] ^ (1 << bit % 8));
  }
}
