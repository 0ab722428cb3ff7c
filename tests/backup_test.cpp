#include "persistence/backup.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "persistence/data_directory.hpp"
#include "persistence/offline.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

const backup_origin origin{
    "00112233445566778899aabbccddeeff", {"n2"}, {{{{"n2"}, {}, "a:1", "a:2", true}}}, 1234, "1.0"};

/// A copy of a small state, as a node makes it.
std::string make_copy(const temporary_directory& directory, const std::string& name = "copy.db") {
  auto source = directory / ("source-of-" + name);
  auto store = state_store::open(source, {"n2"}, {9}, {});
  std::string body(5000, 'b');
  auto sum = row_hash(2, "a", body) + row_hash(2, "b", "2") + row_hash(7, "t", "3");
  store->write({{70},
                {4},
                700,
                sum,
                {{2, "a", body, row_hash(2, "a", body)},
                 {2, "b", "2", row_hash(2, "b", "2")},
                 {7, "t", "3", row_hash(7, "t", "3")}}});
  auto copy = store->begin_copy(directory / name);
  while (!copy->step(10)) {
  }
  return directory / name;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

void overwrite(const std::string& path, const std::string& bytes) {
  std::ofstream{path, std::ios::binary | std::ios::trunc} << bytes;
}

std::size_t files_in(const temporary_directory& directory) {
  std::size_t count = 0;
  for ([[maybe_unused]] auto& entry : std::filesystem::directory_iterator{directory.path()})
    ++count;
  return count;
}

}  // namespace

TEST_CASE("backup: a sealed copy says where it is from and what it holds, and reading it leaves nothing beside it") {
  temporary_directory directory;
  auto path = make_copy(directory);
  seal_backup(path, origin);
  std::filesystem::permissions(path, std::filesystem::perms::owner_read);
  auto before = bytes_of(path);
  auto files = files_in(directory);
  auto found = inspect_backup(path);
  CHECK(found.origin == origin);
  CHECK(found.meta.last_applied.value == 70);
  CHECK(found.meta.last_applied_term.value == 4);
  CHECK(found.rows == std::map<std::uint8_t, std::uint64_t>{{2, 2}, {7, 1}});
  CHECK(found.bytes == before.size());
  CHECK(bytes_of(path) == before);
  CHECK(files_in(directory) == files);
}

TEST_CASE("backup: what is none is refused in words, and not touched") {
  temporary_directory directory;
  overwrite(directory / "text", "not a database, but long enough to be taken for one");
  overwrite(directory / "empty", "");
  CHECK_THROWS_AS(inspect_backup(directory / "text"), refused_error);
  CHECK_THROWS_AS(inspect_backup(directory / "empty"), refused_error);
  CHECK_THROWS_AS(inspect_backup(directory.path().string()), refused_error);
  CHECK_THROWS_AS(inspect_backup(directory / "absent"), database_error);
  // A state's file as it lies in a data directory.
  auto unsealed = make_copy(directory);
  CHECK_THROWS_AS(inspect_backup(unsealed), refused_error);
  CHECK_THROWS_AS(seal_backup(directory / "text", origin), database_error);
  seal_backup(unsealed, origin);
  overwrite(unsealed + "-wal", "of another time");
  CHECK_THROWS_AS(inspect_backup(unsealed), refused_error);
}

TEST_CASE("backup: no changed byte of it is taken for what was saved") {
  temporary_directory directory;
  auto path = make_copy(directory);
  seal_backup(path, origin);
  auto good = bytes_of(path);
  auto expected = inspect_backup(path);
  int found = 0;
  for (std::size_t at = 0; at < good.size(); at += 61) {
    CAPTURE(at);
    auto bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    overwrite(path, bad);
    try {
      auto read = inspect_backup(path);
      // Free space and what SQLite does not care for may be anything; what is said must be true.
      CHECK(read.meta == expected.meta);
      CHECK(read.origin == expected.origin);
      CHECK(read.rows == expected.rows);
    } catch (const std::runtime_error&) {
      ++found;
    }
  }
  CHECK(found > 50);
  for (auto length : {good.size() / 2, good.size() - 1, std::size_t{100}}) {
    overwrite(path, good.substr(0, length));
    CHECK_THROWS_AS(inspect_backup(path), std::runtime_error);
  }
}

TEST_CASE("backup: what is restored from one holds its rows and is no back-up itself") {
  temporary_directory directory;
  auto path = make_copy(directory);
  seal_backup(path, origin);
  auto data = directory / "data";
  {
    data_directory held{data, node_id{"n5"}};
    create_from_snapshot(held.files(), {"n5"}, {77}, path, {"ffeeddccbbaa99887766554433221100", "h:1", "h:2"}, 5);
  }
  auto state = state_store::open(data + "/state-5.db", {"n5"}, {77}, {});
  CHECK(state->meta().last_applied.value == 70);
  std::size_t rows = 0;
  state->load([&](const row_view&) { ++rows; });
  CHECK(rows == 3);
  database db{data + "/state-5.db", {.read_only = true}};
  CHECK(db.query_number("SELECT count(*) FROM sqlite_schema WHERE name = 'origin'") == 0);
}
