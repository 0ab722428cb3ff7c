#include "persistence/snapshot_file.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <vector>

#include "persistence/database.hpp"

namespace coordinator {

namespace {

// SQLite's own VFS writes less than 128 KiB at once, and takes a longer write for one that a full disk cut short.
constexpr std::size_t piece = 64 << 10;

sqlite3_vfs* find_vfs(const std::string& vfs) {
  // Registers SQLite's own ones when nobody opened a database yet.
  sqlite3_initialize();
  auto found = sqlite3_vfs_find(vfs.empty() ? nullptr : vfs.c_str());
  if (!found)
    throw database_error(SQLITE_ERROR, "no SQLite VFS is called '" + vfs + "'");
  return found;
}

[[noreturn]] void fail(int code, const std::string& path, const char* doing) {
  throw database_error(
      code, path + ": cannot " + doing + ": " + sqlite3_errstr(code) + " (SQLite code " + std::to_string(code) + ")");
}

}  // namespace

class snapshot_file::implementation {
 public:
  implementation(const std::string& path, const std::string& vfs, int flags)
      : path_(path), memory_(static_cast<std::size_t>(find_vfs(vfs)->szOsFile)) {
    // A VFS syncs the directory with the first sync of a journal that may have been created.
    flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_SUPER_JOURNAL;
    check(find_vfs(vfs)->xOpen(find_vfs(vfs), path_.c_str(), file(), flags, nullptr), "open");
  }
  ~implementation() {
    if (file()->pMethods)
      file()->pMethods->xClose(file());
  }
  implementation(const implementation&) = delete;
  implementation& operator=(const implementation&) = delete;

  sqlite3_file* file() { return reinterpret_cast<sqlite3_file*>(memory_.data()); }
  const sqlite3_io_methods& methods() { return *file()->pMethods; }
  void check(int code, const char* doing) {
    if (code != SQLITE_OK)
      fail(code, path_, doing);
  }

 private:
  std::string path_;  // The VFS keeps a pointer to it while the file is open.
  std::vector<char> memory_;
};

snapshot_file::snapshot_file(std::unique_ptr<implementation> impl) : impl_(std::move(impl)) {}

snapshot_file::~snapshot_file() = default;

std::unique_ptr<snapshot_file> snapshot_file::create(const std::string& path, const std::string& vfs) {
  if (exists(path, vfs))
    throw database_error(SQLITE_CANTOPEN, path + ": is there already");
  return std::unique_ptr<snapshot_file>{new snapshot_file(std::make_unique<implementation>(path, vfs, 0))};
}

std::unique_ptr<snapshot_file> snapshot_file::open(const std::string& path, const std::string& vfs) {
  if (!exists(path, vfs))
    throw database_error(SQLITE_CANTOPEN, path + ": is not there");
  return std::unique_ptr<snapshot_file>{new snapshot_file(std::make_unique<implementation>(path, vfs, 0))};
}

bool snapshot_file::exists(const std::string& path, const std::string& vfs) {
  auto v = find_vfs(vfs);
  int found = 0;
  // Not SQLITE_ACCESS_EXISTS, for which an empty file counts as none.
  auto code = v->xAccess(v, path.c_str(), SQLITE_ACCESS_READWRITE, &found);
  if (code != SQLITE_OK)
    fail(code, path, "look for it");
  return found != 0;
}

void snapshot_file::remove(const std::string& path, const std::string& vfs) {
  auto v = find_vfs(vfs);
  auto code = v->xDelete(v, path.c_str(), 1);
  if (code != SQLITE_OK && code != SQLITE_IOERR_DELETE_NOENT)
    fail(code, path, "remove it");
}

void snapshot_file::write(std::uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    auto part = bytes.substr(0, piece);
    impl_->check(impl_->methods().xWrite(impl_->file(), part.data(), static_cast<int>(part.size()),
                                         static_cast<sqlite3_int64>(offset)),
                 "write it");
    offset += part.size();
    bytes.remove_prefix(part.size());
  }
}

std::string snapshot_file::read(std::uint64_t offset, std::size_t max_bytes) {
  auto length = size();
  std::string bytes(static_cast<std::size_t>(offset < length ? std::min<std::uint64_t>(max_bytes, length - offset) : 0),
                    '\0');
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    auto n = static_cast<int>(std::min(piece, bytes.size() - at));
    impl_->check(impl_->methods().xRead(impl_->file(), bytes.data() + at, n, static_cast<sqlite3_int64>(offset + at)),
                 "read it");
  }
  return bytes;
}

std::uint64_t snapshot_file::size() {
  sqlite3_int64 size = 0;
  impl_->check(impl_->methods().xFileSize(impl_->file(), &size), "read its size");
  return static_cast<std::uint64_t>(size);
}

void snapshot_file::truncate(std::uint64_t size) {
  impl_->check(impl_->methods().xTruncate(impl_->file(), static_cast<sqlite3_int64>(size)), "truncate it");
}

void snapshot_file::sync() {
  impl_->check(impl_->methods().xSync(impl_->file(), SQLITE_SYNC_NORMAL), "sync it");
}

}  // namespace coordinator
