#include "persistence/node_files.hpp"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>

#include "persistence/database.hpp"

namespace coordinator {

namespace {

constexpr std::array<const char*, 3> side_files{"-wal", "-shm", "-journal"};

[[noreturn]] void fail(int code, const std::string& path, const char* doing, int number) {
  throw database_error(code, path + ": cannot " + doing + ": " + std::strerror(number));
}

std::string utc(std::chrono::system_clock::time_point time) {
  auto seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  auto n = std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts);
  return {text.data(), n};
}

// The database that a file is of: itself, or what it is the -wal, -shm or journal of.
std::string database_of(const std::string& name) {
  for (std::string_view part : side_files)
    if (name.ends_with(part))
      return name.substr(0, name.size() - part.size());
  return name;
}

}  // namespace

bool node_files::has(const std::string& name) const {
  auto all = names();
  return std::find(all.begin(), all.end(), name) != all.end();
}

real_files::real_files(std::string directory, std::string vfs)
    : directory_(std::move(directory)), vfs_(std::move(vfs)) {}

std::string real_files::path(const std::string& name) const {
  return (std::filesystem::path{directory_} / name).string();
}

std::vector<std::string> real_files::names() const {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry{directory_, error}, end; !error && entry != end;
       entry.increment(error))
    found.push_back(entry->path().filename().string());
  if (error)
    fail(SQLITE_IOERR, directory_, "be read", error.value());
  return found;
}

void real_files::rename(const std::string& from, const std::string& to) {
  if (::rename(path(from).c_str(), path(to).c_str()) != 0)
    fail(SQLITE_IOERR, path(from), "be renamed", errno);
}

void real_files::remove(const std::string& name) {
  if (::unlink(path(name).c_str()) != 0 && errno != ENOENT)
    fail(SQLITE_IOERR_DELETE, path(name), "be removed", errno);
}

void real_files::sync() {
  auto fd = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    fail(SQLITE_IOERR_DIR_FSYNC, directory_, "be opened", errno);
  auto result = ::fsync(fd);
  auto number = errno;
  ::close(fd);
  // Some file systems have no notion of syncing a directory, and say so by EINVAL.
  if (result != 0 && number != EINVAL)
    fail(SQLITE_IOERR_DIR_FSYNC, directory_, "be synced", number);
}

// The database goes first, and durably so: a raft.db without its -wal would look like a sound one of earlier days, and
// a -wal without its database looks like what it is.
std::string set_aside(node_files& files, const std::string& name, std::chrono::system_clock::time_point time) {
  auto names = files.names();
  auto there = [&](const std::string& x) { return std::find(names.begin(), names.end(), x) != names.end(); };
  auto base = name + ".damaged-" + utc(time);
  auto taken = [&](const std::string& x) {
    return there(x) || std::any_of(side_files.begin(), side_files.end(), [&](auto part) { return there(x + part); });
  };
  auto to = base;
  for (int number = 2; taken(to); ++number)
    to = base + "-" + std::to_string(number);
  auto moved = false;
  if (there(name)) {
    files.rename(name, to);
    files.sync();
    moved = true;
  }
  for (std::string part : side_files) {
    if (!there(name + part))
      continue;
    files.rename(name + part, to + part);
    moved = true;
  }
  if (moved)
    files.sync();
  return moved ? to : std::string{};
}

bool is_state_file(const std::string& name) {
  if (name.find(".damaged-") != std::string::npos)
    return false;
  auto database = database_of(name);
  auto numbered = database.starts_with("state-") || database.starts_with("snapshot-");
  return database == "state.db" || (numbered && database.find(".db") != std::string::npos);
}

namespace {

// Setting a database aside was cut short between it and its -wal: they belong together.
bool follow_database(node_files& files, const std::string& name) {
  auto names = files.names();
  auto there = [&](const std::string& x) { return std::find(names.begin(), names.end(), x) != names.end(); };
  std::string newest;
  for (auto& x : names)
    if (x.starts_with(name + ".damaged-") && database_of(x) == x)
      newest = std::max(newest, x);
  auto moved = false;
  for (std::string part : side_files) {
    if (newest.empty() || there(name) || !there(name + part) || there(newest + part))
      continue;
    files.rename(name + part, newest + part);
    moved = true;
  }
  return moved;
}

}  // namespace

void remove_unnamed(node_files& files, const std::string& present_state_file) {
  auto removed = follow_database(files, present_state_file);
  auto names = files.names();
  // Databases first: one without its -wal could be taken for sound, should this be cut short.
  std::sort(names.begin(), names.end());
  for (auto& name : names) {
    if (!is_state_file(name) || database_of(name) == present_state_file)
      continue;
    files.remove(name);
    removed = true;
  }
  if (removed)
    files.sync();
}

}  // namespace coordinator
