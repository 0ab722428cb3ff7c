#include "persistence/data_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "persistence/raft_store.hpp"
#include "persistence/recover.hpp"
#include "persistence/state_store.hpp"

namespace coordinator {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, const std::string& what) {
  throw data_directory_error("data directory " + path.string() + ": " + what);
}

std::string reason(int number) {
  return std::strerror(number);
}

// A new name is durable only when the directory that holds it was synced.
void sync_directory(const fs::path& path) {
  auto fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return;
  auto result = ::fsync(fd);
  auto error = errno;
  ::close(fd);
  // Some file systems have no notion of syncing a directory, and say so by EINVAL.
  if (result != 0 && error != EINVAL)
    refuse(path, "cannot be synced: " + reason(error) + "; check the disk");
}

// The file that says that the node was taken out of its cluster.
constexpr char removed_mark[] = "removed";

std::string read_holder(int fd) {
  std::array<char, 32> text{};
  auto n = ::pread(fd, text.data(), text.size(), 0);
  std::string pid{text.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
  pid.erase(pid.find_last_not_of("\n ") + 1);
  return pid;
}

// Databases of a node but raft.db, and what was set aside of any.
bool is_remains(const std::string& name) {
  return is_state_file(name) || name.find(".damaged-") != std::string::npos;
}

}  // namespace

data_directory::data_directory(const fs::path& path, const std::optional<node_id>& node,
                               const std::optional<std::string>& cluster_id)
    : path_(path), files_(path.string()) {
  create();
  try {
    lock();
    try {
      finish_recovery(files_);
    } catch (const database_error& error) {
      refuse(path_, error.what());
    }
    judge();
    if (node && found_node_ && *found_node_ != *node)
      refuse(path_, "belongs to node '" + found_node_->value + "', not to '" + node->value +
                        "'; give that --node-id or another --data-dir");
    if (node && fs::exists(path_ / removed_mark))
      refuse(path_, "node '" + node->value +
                        "' was removed from its cluster; to let it join again, give an empty --data-dir and run "
                        "coordctl cluster add " +
                        node->value);
    if (cluster_id && found_cluster_ && *found_cluster_ != *cluster_id)
      refuse(path_, "belongs to cluster " + *found_cluster_ + ", not to " + *cluster_id + "; give another --data-dir");
  } catch (...) {
    if (lock_fd_ >= 0)
      ::close(lock_fd_);
    throw;
  }
}

void data_directory::mark_removed() {
  auto file = path_ / removed_mark;
  auto fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  constexpr char text[] = "This node was removed from its cluster. The files beside this one are of no use to it.\n";
  bool written =
      fd >= 0 && ::write(fd, text, sizeof text - 1) == static_cast<ssize_t>(sizeof text - 1) && ::fsync(fd) == 0;
  auto error = errno;
  if (fd >= 0)
    ::close(fd);
  if (!written)
    refuse(path_, "cannot be written to: " + reason(error) + "; free some space or check the disk");
  sync_directory(path_);
}

data_directory::~data_directory() {
  ::close(lock_fd_);
}

void data_directory::create() {
  std::error_code error;
  auto status = fs::status(path_, error);
  if (fs::exists(status)) {
    if (!fs::is_directory(status))
      refuse(path_, "is not a directory; give another --data-dir");
    return;
  }
  if (auto parent = fs::absolute(path_).parent_path(); !fs::exists(parent, error))
    fs::create_directories(parent, error);
  if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST)
    refuse(path_, "cannot be created: " + reason(errno) + "; give another --data-dir or change its parent's owner");
  sync_directory(fs::absolute(path_).parent_path());
}

// Writing the pid and syncing it also shows that the disk takes writes, before a database is touched.
void data_directory::lock() {
  auto file = path_ / "lock";
  if (::access(path_.c_str(), R_OK | W_OK | X_OK) != 0)
    refuse(path_, "is not writable: " + reason(errno) + "; change its owner or give another --data-dir");
  lock_fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_fd_ < 0)
    refuse(path_, "is not writable: " + reason(errno) + "; change its owner or give another --data-dir");
  if (::flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      refuse(path_, "cannot be locked: " + reason(errno) + "; give one on a local disk");
    auto pid = read_holder(lock_fd_);
    refuse(path_, "is in use by " + (pid.empty() ? "another process" : "process " + pid) +
                      "; stop that or give another --data-dir");
  }
  auto pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock_fd_, 0) != 0 ||
      ::pwrite(lock_fd_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size()) || ::fsync(lock_fd_) != 0)
    refuse(path_, "cannot be written to: " + reason(errno) + "; free some space or check the disk");
}

void data_directory::judge() {
  auto remains = find_remains();
  std::error_code error;
  if (fs::exists(raft_path(), error)) {
    judge_raft_file();
    if (condition_ == directory_condition::empty && !remains.empty()) {
      condition_ = directory_condition::lost_disk;
      damage_ = raft_path() + " holds no node, but there is " + remains;
    }
  } else if (!remains.empty()) {
    condition_ = directory_condition::lost_disk;
    damage_ = "there is no raft.db, but " + remains;
  }
  if (condition_ == directory_condition::lost_disk)
    judge_state_files();
}

void data_directory::judge_state_files() {
  for (auto& name : files_.names()) {
    if (found_node_ || !is_state_file(name) || !name.ends_with(".db"))
      continue;
    try {
      found_node_ = inspect_state_file(files_.path(name));
    } catch (const std::runtime_error&) {
      // What is lost need not tell whose it was.
    }
  }
}

void data_directory::judge_raft_file() {
  try {
    if (auto owner = inspect_raft_file(raft_path())) {
      condition_ = directory_condition::node;
      found_node_ = owner->node;
      found_cluster_ = owner->cluster_id;
    }
  } catch (const damaged_error& error) {
    condition_ = directory_condition::lost_disk;
    damage_ = error.what();
  } catch (const std::runtime_error& error) {
    refuse(path_, error.what());
  }
}

// The name of a file that only a node with a past leaves, or nothing.
std::string data_directory::find_remains() const {
  std::error_code error;
  auto has_raft = fs::exists(raft_path(), error);
  for (auto& entry : fs::directory_iterator{path_, error}) {
    auto name = entry.path().filename().string();
    if (is_remains(name) || (!has_raft && name.starts_with("raft.db-")))
      return name;
  }
  if (error)
    refuse(path_, "cannot be read: " + error.message() + "; change its owner or give another --data-dir");
  return {};
}

}  // namespace coordinator
