#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "tests/support/fault_vfs_disk.hpp"

namespace coordinator::fault_vfs {

namespace {

using disk_state = fault_disk::implementation;

// What SQLite holds for an open file.
struct open_file {
  sqlite3_file base;
  disk_state* disk;
  node_pointer node;
  std::string path;
  std::uint64_t generation;
  bool delete_on_close;
  bool sync_directory;  // A journal's first sync takes the directory with it.
  int lock = SQLITE_LOCK_NONE;
  std::shared_ptr<shared_index> index;

  bool dead() const { return disk->stopped || generation != disk->generation; }
};

open_file& of(sqlite3_file* file) {
  return *reinterpret_cast<open_file*>(file);
}

disk_state& of(sqlite3_vfs* vfs) {
  return *static_cast<disk_state*>(vfs->pAppData);
}

int file_unlock(sqlite3_file* file, int level) {
  auto& f = of(file);
  if (f.generation == f.disk->generation) {
    auto& node = *f.node;
    if (level < SQLITE_LOCK_SHARED)
      node.shared.erase(&f);
    for (auto* holder : {&node.reserved, &node.pending, &node.exclusive})
      if (*holder == &f)
        *holder = nullptr;
  }
  f.lock = level;
  return SQLITE_OK;
}

int file_lock(sqlite3_file* file, int level) {
  auto& f = of(file);
  if (f.dead())
    return SQLITE_IOERR_LOCK;
  auto& node = *f.node;
  if (level <= f.lock)
    return SQLITE_OK;
  if (level == SQLITE_LOCK_SHARED) {
    if (node.pending || node.exclusive)
      return SQLITE_BUSY;
    node.shared.insert(&f);
  } else if (level == SQLITE_LOCK_RESERVED) {
    if (node.reserved && node.reserved != &f)
      return SQLITE_BUSY;
    node.reserved = &f;
  } else {
    if (node.pending && node.pending != &f)
      return SQLITE_BUSY;
    node.pending = &f;
    f.lock = SQLITE_LOCK_PENDING;
    if (level == SQLITE_LOCK_EXCLUSIVE) {
      if (node.shared.size() > 1 || !node.shared.contains(&f))
        return SQLITE_BUSY;
      node.exclusive = &f;
    }
  }
  f.lock = level;
  return SQLITE_OK;
}

int file_check_reserved(sqlite3_file* file, int* out) {
  auto& f = of(file);
  if (f.dead())
    return SQLITE_IOERR_CHECKRESERVEDLOCK;
  *out = f.node->reserved || f.node->pending || f.node->exclusive;
  return SQLITE_OK;
}

int shm_map(sqlite3_file* file, int region, int size, int extend, void volatile** out) {
  auto& f = of(file);
  *out = nullptr;
  if (f.dead())
    return SQLITE_IOERR_SHMMAP;
  if (!f.index) {
    auto& index = f.disk->indexes[f.path];
    if (!index)
      index = std::make_shared<shared_index>();
    f.index = index;
  }
  auto& regions = f.index->regions;
  auto wanted = static_cast<std::size_t>(region);
  if (wanted >= regions.size() && !extend)
    return SQLITE_OK;
  while (wanted >= regions.size())
    regions.push_back(std::make_unique<char[]>(static_cast<std::size_t>(size)));
  *out = regions[wanted].get();
  return SQLITE_OK;
}

int shm_lock(sqlite3_file* file, int offset, int n, int flags) {
  auto& f = of(file);
  if (!f.index)
    return f.dead() ? SQLITE_IOERR_SHMLOCK : SQLITE_OK;
  auto& index = *f.index;
  if (flags & SQLITE_SHM_UNLOCK) {
    for (int i = offset; i < offset + n; ++i) {
      index.shared[i].erase(&f);
      if (index.exclusive[i] == &f)
        index.exclusive[i] = nullptr;
    }
    return SQLITE_OK;
  }
  if (f.dead())
    return SQLITE_IOERR_SHMLOCK;
  for (int i = offset; i < offset + n; ++i) {
    auto others = index.shared[i].size() - index.shared[i].count(&f);
    if (index.exclusive[i] && index.exclusive[i] != &f)
      return SQLITE_BUSY;
    if ((flags & SQLITE_SHM_EXCLUSIVE) && others != 0)
      return SQLITE_BUSY;
  }
  for (int i = offset; i < offset + n; ++i) {
    if (flags & SQLITE_SHM_EXCLUSIVE)
      index.exclusive[i] = &f;
    else
      index.shared[i].insert(&f);
  }
  return SQLITE_OK;
}

void shm_barrier(sqlite3_file*) {}

int shm_unmap(sqlite3_file* file, int) {
  auto& f = of(file);
  if (!f.index)
    return SQLITE_OK;
  shm_lock(file, 0, SQLITE_SHM_NLOCK, SQLITE_SHM_UNLOCK);
  f.index.reset();
  // The last one out takes the index with it: it is rebuilt from the WAL.
  auto found = f.disk->indexes.find(f.path);
  if (f.generation == f.disk->generation && found != f.disk->indexes.end() && found->second.use_count() == 1)
    f.disk->indexes.erase(found);
  return SQLITE_OK;
}

int file_close(sqlite3_file* file) {
  auto& f = of(file);
  file_unlock(file, SQLITE_LOCK_NONE);
  shm_unmap(file, 0);
  if (f.delete_on_close && !f.dead() && !f.path.empty())
    f.disk->set_name(f.path, nullptr);
  f.~open_file();
  return SQLITE_OK;
}

int file_read(sqlite3_file* file, void* out, int n, sqlite3_int64 offset) {
  auto& f = of(file);
  if (f.dead())
    return SQLITE_IOERR_READ;
  ++f.disk->reads;
  auto& contents = f.node->contents;
  auto from = std::min(contents.size(), static_cast<std::size_t>(offset));
  auto size = std::min(contents.size() - from, static_cast<std::size_t>(n));
  std::memcpy(out, contents.data() + from, size);
  std::memset(static_cast<char*>(out) + size, 0, static_cast<std::size_t>(n) - size);
  return size == static_cast<std::size_t>(n) ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

int file_write(sqlite3_file* file, const void* in, int n, sqlite3_int64 offset) {
  auto& f = of(file);
  if (f.dead() || !f.disk->begin_change())
    return SQLITE_IOERR_WRITE;
  auto& disk = *f.disk;
  auto at = static_cast<std::size_t>(offset);
  std::string_view data{static_cast<const char*>(in), static_cast<std::size_t>(n)};
  auto failing = disk.failing_write != 0 && --disk.failing_write == 0;
  if (failing)
    data = data.substr(0, disk.random.below(data.size()));
  if (disk.full && at + data.size() > f.node->contents.size())
    return SQLITE_FULL;
  if (!data.empty())
    f.node->write(at, data);
  return failing ? SQLITE_IOERR_WRITE : SQLITE_OK;
}

int file_truncate(sqlite3_file* file, sqlite3_int64 size) {
  auto& f = of(file);
  if (f.dead() || !f.disk->begin_change())
    return SQLITE_IOERR_TRUNCATE;
  f.node->truncate(static_cast<std::size_t>(size));
  return SQLITE_OK;
}

int file_sync(sqlite3_file* file, int) {
  auto& f = of(file);
  if (f.dead() || !f.disk->begin_change())
    return SQLITE_IOERR_FSYNC;
  auto& disk = *f.disk;
  if (disk.lying)
    return SQLITE_OK;
  if (disk.failing_sync != 0 && --disk.failing_sync == 0) {
    // The kernel gives up on the pages and calls them clean: readable until the power fails, never written.
    f.node->unsynced.clear();
    return SQLITE_IOERR_FSYNC;
  }
  f.node->sync();
  if (std::exchange(f.sync_directory, false))
    disk.sync_directory();
  return SQLITE_OK;
}

int file_size(sqlite3_file* file, sqlite3_int64* out) {
  auto& f = of(file);
  if (f.dead())
    return SQLITE_IOERR_FSTAT;
  *out = static_cast<sqlite3_int64>(f.node->contents.size());
  return SQLITE_OK;
}

int file_control(sqlite3_file*, int, void*) {
  return SQLITE_NOTFOUND;
}

// These two are what SQLite's VFS for Unix says.
int file_sector_size(sqlite3_file*) {
  return 4096;
}

int file_characteristics(sqlite3_file*) {
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

constexpr sqlite3_io_methods file_methods{2,
                                          file_close,
                                          file_read,
                                          file_write,
                                          file_truncate,
                                          file_sync,
                                          file_size,
                                          file_lock,
                                          file_unlock,
                                          file_check_reserved,
                                          file_control,
                                          file_sector_size,
                                          file_characteristics,
                                          shm_map,
                                          shm_lock,
                                          shm_barrier,
                                          shm_unmap,
                                          nullptr,
                                          nullptr};

int vfs_open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  auto& disk = of(vfs);
  file->pMethods = nullptr;
  if (disk.stopped)
    return SQLITE_CANTOPEN;
  std::string name = path ? path : "";
  auto node = name.empty() ? std::make_shared<file_node>() : disk.find(name);
  if (!node) {
    if (!(flags & SQLITE_OPEN_CREATE) || !disk.begin_change())
      return SQLITE_CANTOPEN;
    node = std::make_shared<file_node>();
    disk.set_name(name, node);
  }
  auto journal = (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL)) != 0;
  new (file) open_file{{&file_methods},
                       &disk,
                       std::move(node),
                       name,
                       disk.generation,
                       (flags & SQLITE_OPEN_DELETEONCLOSE) != 0,
                       journal && (flags & SQLITE_OPEN_CREATE) != 0,
                       SQLITE_LOCK_NONE,
                       nullptr};
  if (out_flags)
    *out_flags = flags;
  return SQLITE_OK;
}

int vfs_delete(sqlite3_vfs* vfs, const char* path, int sync) {
  auto& disk = of(vfs);
  if (disk.stopped)
    return SQLITE_IOERR_DELETE;
  if (!disk.find(path))
    return SQLITE_IOERR_DELETE_NOENT;
  if (!disk.begin_change())
    return SQLITE_IOERR_DELETE;
  disk.set_name(path, nullptr);
  if (sync)
    disk.sync_directory();
  return SQLITE_OK;
}

int vfs_access(sqlite3_vfs* vfs, const char* path, int flags, int* out) {
  auto& disk = of(vfs);
  if (disk.stopped)
    return SQLITE_IOERR_ACCESS;
  auto node = disk.find(path);
  // SQLite asks for a journal that is there and has something in it, as its own VFS answers it.
  *out = node && (flags != SQLITE_ACCESS_EXISTS || !node->contents.empty());
  return SQLITE_OK;
}

int vfs_full_path(sqlite3_vfs*, const char* path, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", path);
  return SQLITE_OK;
}

int vfs_randomness(sqlite3_vfs* vfs, int size, char* out) {
  for (int i = 0; i < size; ++i)
    out[i] = static_cast<char>(of(vfs).random.next());
  return size;
}

int vfs_sleep(sqlite3_vfs* vfs, int microseconds) {
  of(vfs).clock_ms += microseconds / 1000;
  return microseconds;
}

int vfs_time_ms(sqlite3_vfs* vfs, sqlite3_int64* out) {
  *out = ++of(vfs).clock_ms;
  return SQLITE_OK;
}

int vfs_time(sqlite3_vfs* vfs, double* out) {
  *out = static_cast<double>(++of(vfs).clock_ms) / 86400000.0;
  return SQLITE_OK;
}

int vfs_last_error(sqlite3_vfs*, int, char*) {
  return 0;
}

}  // namespace

void set_methods(sqlite3_vfs& vfs) {
  vfs.iVersion = 2;
  vfs.szOsFile = sizeof(open_file);
  vfs.mxPathname = 512;
  vfs.xOpen = vfs_open;
  vfs.xDelete = vfs_delete;
  vfs.xAccess = vfs_access;
  vfs.xFullPathname = vfs_full_path;
  vfs.xRandomness = vfs_randomness;
  vfs.xSleep = vfs_sleep;
  vfs.xCurrentTime = vfs_time;
  vfs.xCurrentTimeInt64 = vfs_time_ms;
  vfs.xGetLastError = vfs_last_error;
}

}  // namespace coordinator::fault_vfs
