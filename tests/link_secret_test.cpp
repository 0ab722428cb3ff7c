#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "actors/link_tls.hpp"
#include "tests/support/temporary_directory.hpp"

namespace coordinator {
namespace {

const std::string long_enough(cluster_secret::min_length, 's');

std::filesystem::path write_file(const std::filesystem::path& path, const std::string& text, mode_t mode = 0600) {
  std::ofstream{path} << text;
  REQUIRE(::chmod(path.c_str(), mode) == 0);
  return path;
}

}  // namespace

TEST_CASE("secret: white space at the ends does not count, and 32 characters are the least") {
  auto plain = cluster_secret::from_text(long_enough);
  REQUIRE(plain);
  auto padded = cluster_secret::from_text(" \t\n" + long_enough + "\r\n");
  REQUIRE(padded);
  CHECK(plain->key() == padded->key());
  CHECK(cluster_secret::from_text(long_enough + "t")->key() != plain->key());
  CHECK(!cluster_secret::from_text(long_enough.substr(1)));
  CHECK(!cluster_secret::from_text(long_enough.substr(1) + "   "));
  CHECK(!cluster_secret::from_text(""));
  CHECK(!cluster_secret::from_text(std::string(64, '\n')));
}

TEST_CASE("secret: a file that is missing, short, huge or no file is an error that names it") {
  temporary_directory directory;
  auto path = directory.path() / "secret";
  CHECK(load_cluster_secret(path).error ==
        "cannot read the cluster secret file " + path.string() + ": No such file or directory");
  CHECK(load_cluster_secret(directory.path()).error.find("not a regular file") != std::string::npos);
  CHECK(load_cluster_secret(write_file(path, "short\n")).error.find("less than 32 characters") != std::string::npos);
  CHECK(load_cluster_secret(write_file(path, std::string(100'000, 's'))).error.find("larger than 64 KiB") !=
        std::string::npos);
  auto good = load_cluster_secret(write_file(path, long_enough + "\n"));
  REQUIRE(good.secret);
  CHECK(good.error == "");
  CHECK(good.warning == "");
  CHECK(good.secret->key() == cluster_secret::from_text(long_enough)->key());
}

TEST_CASE("secret: a named file that others can read is a warning, the user's own an error") {
  temporary_directory directory;
  auto path = write_file(directory.path() / "secret", long_enough, 0640);
  auto named = load_cluster_secret(path);
  CHECK(named.secret);
  CHECK(named.warning.find("is open to others than its owner") != std::string::npos);
  auto own = load_or_make_user_secret(path);
  CHECK(!own.secret);
  CHECK(own.error.find("is open to others than its owner") != std::string::npos);
}

TEST_CASE("secret: nodes that start at the same time make one file, for its owner alone") {
  temporary_directory directory;
  auto path = directory.path() / "state" / "coordinator" / "cluster-secret";
  std::vector<loaded_secret> found(8);
  std::vector<std::thread> nodes;
  for (auto& mine : found)
    nodes.emplace_back([&mine, &path] { mine = load_or_make_user_secret(path); });
  for (auto& node : nodes)
    node.join();
  for (auto& mine : found) {
    CHECK(mine.error == "");
    REQUIRE(mine.secret);
    CHECK(mine.secret->key() == found.front().secret->key());
  }
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  // No draft is left behind.
  std::size_t files = 0;
  for ([[maybe_unused]] auto& entry : std::filesystem::directory_iterator{path.parent_path()})
    ++files;
  CHECK(files == 1);
  auto again = load_or_make_user_secret(path);
  REQUIRE(again.secret);
  CHECK(again.secret->key() == found.front().secret->key());
}

TEST_CASE("secret: a file that cannot be made is an error") {
  temporary_directory directory;
  auto in_the_way = write_file(directory.path() / "file", "x");
  CHECK(load_or_make_user_secret(in_the_way / "coordinator" / "secret").error.find("cannot make") == 0);
  CHECK(!load_or_make_user_secret({}).error.empty());
}

TEST_CASE("secret: the user's file is where XDG_STATE_HOME says") {
  auto before = std::getenv("XDG_STATE_HOME");
  std::string kept = before ? before : "";
  ::setenv("XDG_STATE_HOME", "/some/state", 1);
  CHECK(user_secret_file() == "/some/state/coordinator/cluster-secret");
  ::setenv("XDG_STATE_HOME", "relative", 1);
  CHECK(user_secret_file() != "relative/coordinator/cluster-secret");
  if (before)
    ::setenv("XDG_STATE_HOME", kept.c_str(), 1);
  else
    ::unsetenv("XDG_STATE_HOME");
}

}  // namespace coordinator
