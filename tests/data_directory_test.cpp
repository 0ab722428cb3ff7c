#include "persistence/data_directory.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "persistence/raft_store.hpp"
#include "persistence/raft_tables.hpp"
#include "persistence/state_store.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;

namespace {

namespace fs = std::filesystem;

const node_id self{"n1"};
const std::string cluster = "00112233445566778899aabbccddeeff";

void make_raft_file(const fs::path& directory, bool founded = true) {
  raft_store_options options;
  options.new_incarnation = 42;
  auto store = raft_store::open((directory / "raft.db").string(), self, options);
  if (founded)
    store->write({.state = hard_state{{1}, std::nullopt},
                  .entries = {{{1}, {1}, entry_kind::genesis, 1, "founders"}},
                  .formed = genesis{cluster, {}, 1}});
}

void make_state_file(const fs::path& directory) {
  state_store::open((directory / "state.db").string(), self, {42}, {});
}

std::string complaint(const fs::path& path, const node_id& node = self, std::optional<std::string> expected = {}) {
  try {
    data_directory directory{path, node, expected};
    return {};
  } catch (const data_directory_error& error) {
    return error.what();
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("data_directory: one that is absent is created with its parents, for its owner alone") {
  temporary_directory temporary;
  auto path = temporary.path() / "a" / "b" / "data";
  data_directory directory{path, self};
  CHECK(directory.condition() == directory_condition::empty);
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
  CHECK(directory.raft_path() == (path / "raft.db").string());
}

TEST_CASE("data_directory: an empty one, and one with files that are no node's, is empty") {
  temporary_directory temporary;
  CHECK(data_directory(temporary.path(), self).condition() == directory_condition::empty);
  fs::create_directory(temporary.path() / "lost+found");
  std::ofstream{temporary / "node.log"} << "text";
  CHECK(data_directory(temporary.path(), self).condition() == directory_condition::empty);
}

TEST_CASE("data_directory: a node's tells whose it is") {
  temporary_directory temporary;
  make_raft_file(temporary.path(), false);
  {
    data_directory directory{temporary.path(), self, cluster};
    CHECK(directory.condition() == directory_condition::node);
    CHECK(directory.found_node() == self);
    CHECK_FALSE(directory.found_cluster());
  }
  fs::remove(temporary / "raft.db");
  make_raft_file(temporary.path());
  make_state_file(temporary.path());
  data_directory directory{temporary.path(), self, cluster};
  CHECK(directory.condition() == directory_condition::node);
  CHECK(directory.found_cluster() == cluster);
  CHECK(directory.damage() == "");
}

TEST_CASE("data_directory: what the WAL alone holds counts too") {
  temporary_directory temporary;
  fs::create_directory(temporary.path() / "copy");
  raft_store_options options;
  options.new_incarnation = 42;
  auto store = raft_store::open(temporary / "raft.db", self, options);
  store->write({.state = hard_state{{1}, std::nullopt}, .formed = genesis{cluster, {}, 1}});
  for (auto name : {"raft.db", "raft.db-wal"})
    fs::copy_file(temporary / name, temporary.path() / "copy" / name);
  CHECK(data_directory(temporary.path() / "copy", self).found_cluster() == cluster);
}

TEST_CASE("data_directory: any file of a node without its raft.db is a lost disk (rule 11)") {
  for (std::string name : {"state.db", "state-17-a.db", "raft.db-wal", "raft.db.damaged-1", "state.db.damaged-2-wal"}) {
    temporary_directory temporary;
    std::ofstream{temporary / name} << "something";
    data_directory directory{temporary.path(), self};
    CAPTURE(name);
    CHECK(directory.condition() == directory_condition::lost_disk);
    CHECK(contains(directory.damage(), name));
  }
}

TEST_CASE("data_directory: a raft.db without a node is empty alone, and a lost disk beside a state.db") {
  temporary_directory temporary;
  std::ofstream{temporary / "raft.db"};
  CHECK(data_directory(temporary.path(), self).condition() == directory_condition::empty);
  make_state_file(temporary.path());
  data_directory directory{temporary.path(), self};
  CHECK(directory.condition() == directory_condition::lost_disk);
  CHECK(directory.found_node() == self);
}

TEST_CASE("data_directory: a raft.db that is damaged is a lost disk, and is said why") {
  temporary_directory temporary;
  make_raft_file(temporary.path());
  {
    database db{temporary / "raft.db", {}};
    db.execute("UPDATE node SET incarnation = 7");
  }
  {
    data_directory directory{temporary.path(), self};
    CHECK(directory.condition() == directory_condition::lost_disk);
    CHECK(contains(directory.damage(), "checksum"));
  }
  std::ofstream{temporary / "raft.db"} << std::string(5000, 'x');
  CHECK(data_directory(temporary.path(), self).condition() == directory_condition::lost_disk);
}

TEST_CASE("data_directory: another node's and another cluster's are refused with one line") {
  temporary_directory temporary;
  make_raft_file(temporary.path());
  auto said = complaint(temporary.path(), {"n2"});
  CHECK(contains(said, temporary.path().string()));
  CHECK(contains(said, "'n1'"));
  CHECK(contains(said, "'n2'"));
  CHECK_FALSE(contains(said, "\n"));
  CHECK(contains(complaint(temporary.path(), self, "ffff"), cluster));
  CHECK(complaint(temporary.path(), self, cluster) == "");

  temporary_directory lost;
  make_state_file(lost.path());
  CHECK(contains(complaint(lost.path(), {"n2"}), "'n1'"));
}

TEST_CASE("data_directory: a newer version's is refused") {
  temporary_directory temporary;
  make_raft_file(temporary.path());
  {
    database db{temporary / "raft.db", {}};
    db.set_format({raft_tables::format.application_id, 99});
  }
  CHECK(contains(complaint(temporary.path()), "newer version"));
}

TEST_CASE("data_directory: one that cannot be used is refused with what is wrong") {
  temporary_directory temporary;
  std::ofstream{temporary / "file"};
  CHECK(contains(complaint(temporary.path() / "file"), "is not a directory"));
  CHECK(contains(complaint(temporary.path() / "file" / "data"), "cannot be created"));
  CHECK(complaint("/proc/data") != "");
  CHECK(contains(complaint("/proc"), "not writable"));
}

TEST_CASE("data_directory: a second holder is refused and told the pid of the first") {
  temporary_directory temporary;
  int pipe_fds[2];
  REQUIRE(::pipe(pipe_fds) == 0);
  auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // Holds the directory until the parent closes its end of the pipe.
    ::close(pipe_fds[1]);
    char byte = 0;
    try {
      data_directory directory{temporary.path(), self};
      std::ofstream{temporary / "held"};
      while (::read(pipe_fds[0], &byte, 1) > 0) {
      }
    } catch (...) {
      std::ofstream{temporary / "held"};
    }
    ::_exit(0);
  }
  ::close(pipe_fds[0]);
  while (!fs::exists(temporary / "held") && ::waitpid(child, nullptr, WNOHANG) == 0)
    ::usleep(1000);
  auto said = complaint(temporary.path());
  CHECK(contains(said, "in use by process " + std::to_string(child)));
  ::close(pipe_fds[1]);
  ::waitpid(child, nullptr, 0);
  CHECK(complaint(temporary.path()) == "");
}

TEST_CASE("data_directory: nothing but the lock is written when a directory is refused") {
  temporary_directory temporary;
  make_raft_file(temporary.path());
  auto before = fs::file_size(temporary / "raft.db");
  auto time = fs::last_write_time(temporary / "raft.db");
  CHECK(complaint(temporary.path(), {"n2"}) != "");
  CHECK(fs::file_size(temporary / "raft.db") == before);
  CHECK(fs::last_write_time(temporary / "raft.db") == time);
}

TEST_CASE("data_directory: one whose node was removed from its cluster starts no node, and says what would do") {
  temporary_directory temporary;
  make_raft_file(temporary.path());
  {
    data_directory directory{temporary.path(), self};
    directory.mark_removed();
  }
  auto said = complaint(temporary.path());
  CHECK(contains(said, temporary.path().string()));
  CHECK(contains(said, "node 'n1' was removed from its cluster"));
  CHECK(contains(said, "give an empty --data-dir and run coordctl cluster add n1"));
  // To be looked at it may be opened all the same.
  data_directory anybody{temporary.path(), std::nullopt};
  CHECK(anybody.condition() == directory_condition::node);
}
