#include "tests/support/fault_vfs.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <utility>

#include "persistence/database.hpp"
#include "tests/support/fault_vfs_disk.hpp"

namespace coordinator {

namespace fault_vfs {

namespace {

constexpr std::size_t sector = 512;

void put(std::string& contents, std::size_t offset, std::string_view data) {
  if (contents.size() < offset + data.size())
    contents.resize(offset + data.size());
  contents.replace(offset, data.size(), data);
}

void put(std::string& contents, const change& x) {
  if (x.data.empty())
    contents.resize(x.offset);
  else
    put(contents, x.offset, x.data);
}

}  // namespace

void file_node::write(std::size_t offset, std::string_view data) {
  put(contents, offset, data);
  unsynced.push_back({offset, std::string{data}});
}

void file_node::truncate(std::size_t size) {
  contents.resize(size);
  unsynced.push_back({size, {}});
}

void file_node::sync() {
  for (auto& x : unsynced)
    put(durable, x);
  unsynced.clear();
}

// Four kinds of power failure, because each finds other mistakes: nothing arrived; all did; the first so many
// did; any mixture of sectors, each in any of its versions, with any of the lengths that the file had.
void file_node::lose_unsynced(random_source& random) {
  auto kind = random.below(4);
  auto count = kind == 0 ? 0 : kind == 1 ? unsynced.size() : random.below(unsynced.size() + 1);
  if (kind < 3) {
    for (std::size_t i = 0; i < count; ++i)
      put(durable, unsynced[i]);
    unsynced.clear();
    contents = durable;
    return;
  }
  std::vector<change> pieces;
  std::vector<std::size_t> lengths{durable.size()};
  auto length = durable.size();
  for (auto& x : unsynced) {
    length = x.data.empty() ? x.offset : std::max(length, x.offset + x.data.size());
    lengths.push_back(length);
    for (std::size_t at = 0; at < x.data.size();) {
      auto end = std::min(x.data.size(), at + sector - (x.offset + at) % sector);
      pieces.push_back({x.offset + at, x.data.substr(at, end - at)});
      at = end;
    }
  }
  for (auto i = pieces.size(); i > 1; --i)
    std::swap(pieces[i - 1], pieces[random.below(i)]);
  for (auto& piece : pieces)
    if (random.below(2) == 0)
      put(durable, piece);
  durable.resize(lengths[random.below(lengths.size())]);
  unsynced.clear();
  contents = durable;
}

}  // namespace fault_vfs

fault_disk::implementation::implementation(std::string disk_name, std::uint64_t seed)
    : name(std::move(disk_name)), random(seed) {
  vfs.zName = name.c_str();
  vfs.pAppData = this;
  fault_vfs::set_methods(vfs);
  sqlite3_vfs_register(&vfs, 0);
  sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, static_cast<int>(seed & 0x7fffffff) | 1, nullptr);
}

void fault_disk::implementation::lose_unsynced() {
  std::map<std::string, std::size_t> arrived;
  for (auto& [path, versions] : changed_names)
    arrived[path] = random.below(versions.size() + 1);
  // A rename arrives with both its names. Bringing one along may bring another, until nothing more moves.
  for (auto moved = true; moved;) {
    moved = false;
    for (auto& x : renames) {
      if ((arrived[x.from] >= x.from_change) == (arrived[x.to] >= x.to_change))
        continue;
      arrived[x.from] = std::max(arrived[x.from], x.from_change);
      arrived[x.to] = std::max(arrived[x.to], x.to_change);
      moved = true;
    }
  }
  for (auto& [path, versions] : changed_names) {
    auto chosen = arrived[path];
    if (chosen == 0)
      continue;
    if (auto& node = versions[chosen - 1])
      durable_names[path] = node;
    else
      durable_names.erase(path);
  }
  changed_names.clear();
  renames.clear();
  names = durable_names;
  for (auto& [path, node] : names)
    node->lose_unsynced(random);
}

fault_disk::fault_disk(std::string name, std::uint64_t seed)
    : impl_(std::make_unique<implementation>(std::move(name), seed)) {}

fault_disk::~fault_disk() = default;

const std::string& fault_disk::vfs() const {
  return impl_->name;
}

std::uint64_t fault_disk::operations() const {
  return impl_->operations;
}

std::uint64_t fault_disk::reads() const {
  return impl_->reads;
}

void fault_disk::stop_after(std::uint64_t n) {
  impl_->left = n;
}

void fault_disk::stop() {
  impl_->stopped = true;
}

bool fault_disk::stopped() const {
  return impl_->stopped;
}

void fault_disk::restart() {
  impl_->end_process();
}

void fault_disk::crash() {
  impl_->lose_unsynced();
  impl_->end_process();
}

void fault_disk::fail_write(std::uint64_t n) {
  impl_->failing_write = n;
}

void fault_disk::fail_sync(std::uint64_t n) {
  impl_->failing_sync = n;
}

void fault_disk::set_full(bool full) {
  impl_->full = full;
}

void fault_disk::set_lying(bool lying) {
  impl_->lying = lying;
}

void fault_disk::rename(const std::string& from, const std::string& to) {
  if (!impl_->find(from) || !impl_->begin_change())
    throw database_error(SQLITE_IOERR, from + ": cannot be renamed");
  impl_->rename(from, to);
}

void fault_disk::remove(const std::string& path) {
  if (impl_->stopped)
    throw database_error(SQLITE_IOERR_DELETE, path + ": cannot be removed");
  if (!impl_->find(path))
    return;
  if (!impl_->begin_change())
    throw database_error(SQLITE_IOERR_DELETE, path + ": cannot be removed");
  impl_->set_name(path, nullptr);
}

void fault_disk::sync_directory() {
  if (!impl_->begin_change() || (impl_->failing_sync != 0 && --impl_->failing_sync == 0))
    throw database_error(SQLITE_IOERR_DIR_FSYNC, "the directory cannot be synced");
  if (!impl_->lying)
    impl_->sync_directory();
}

std::vector<std::string> fault_disk::files() const {
  std::vector<std::string> paths;
  for (auto& [path, node] : impl_->names)
    paths.push_back(path);
  return paths;
}

std::string fault_disk::read(const std::string& path) const {
  auto node = impl_->find(path);
  return node ? node->contents : std::string{};
}

void fault_disk::write(const std::string& path, const std::string& contents) {
  auto node = std::make_shared<fault_vfs::file_node>();
  node->contents = node->durable = contents;
  impl_->names[path] = impl_->durable_names[path] = node;
}

void fault_disk::flip_bit(const std::string& path, std::size_t byte, unsigned bit) {
  auto node = impl_->find(path);
  if (!node)
    return;
  for (auto* contents : {&node->contents, &node->durable})
    if (byte < contents->size())
      (*contents)[byte] = static_cast<char>((*contents)[byte] ^ (1 << bit));
}

}  // namespace coordinator
