#include "http/snapshot_shelf.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <random>
#include <utility>

namespace coordinator {

namespace {

std::string draw_id() {
  std::random_device source;
  char digits[33];
  std::snprintf(digits, sizeof digits, "%08x%08x%08x%08x", source(), source(), source(), source());
  return digits;
}

/// How often a wait looks whether its client is still there.
constexpr std::chrono::milliseconds look{500};

}  // namespace

std::string snapshot_shelf::reserve() {
  std::lock_guard lock{mutex_};
  if (closed_ || entries_.size() >= settings_.most)
    return {};
  if (!sweeper_.joinable())
    sweeper_ = std::thread{[this] { sweep(); }};
  auto id = draw_id();
  entries_[id];
  return id;
}

void snapshot_shelf::put(const std::string& id, state_copied what) {
  std::lock_guard lock{mutex_};
  auto found = entries_.find(id);
  if (found == entries_.end() || !found->second.wanted) {
    unlink(what);
    if (found != entries_.end())
      entries_.erase(found);
    return;
  }
  found->second.what = std::move(what);
  found->second.last_used = clock::now();
  changed_.notify_all();
}

std::optional<state_copied> snapshot_shelf::wait(const std::string& id, std::chrono::milliseconds timeout,
                                                 const client_watch* client) {
  auto deadline = clock::now() + timeout;
  std::unique_lock lock{mutex_};
  for (;;) {
    auto found = entries_.find(id);
    if (found == entries_.end())
      return std::nullopt;
    if (found->second.what) {
      auto what = *found->second.what;
      if (!what.error.empty())
        entries_.erase(found);
      return what;
    }
    if (clock::now() >= deadline || (client && (client->gone() || client->stopping()))) {
      // Its place stays taken until it has come and was removed.
      found->second.wanted = false;
      return std::nullopt;
    }
    changed_.wait_until(lock, std::min(deadline, clock::now() + look));
  }
}

std::optional<snapshot_shelf::piece> snapshot_shelf::read(const std::string& id, std::uint64_t offset,
                                                          std::size_t most_bytes) {
  std::string path;
  piece result;
  {
    std::lock_guard lock{mutex_};
    auto found = entries_.find(id);
    if (found == entries_.end() || !found->second.what)
      return std::nullopt;
    found->second.last_used = clock::now();
    path = path_of(*found->second.what);
    result.size = found->second.what->size;
  }
  if (offset > result.size)
    return result;
  // Opened for each piece: no descriptor is kept for a client that never comes back.
  auto file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return result;
  result.bytes.resize(static_cast<std::size_t>(std::min<std::uint64_t>(most_bytes, result.size - offset)));
  std::size_t done = 0;
  while (done < result.bytes.size()) {
    auto n = ::pread(file, result.bytes.data() + done, result.bytes.size() - done, static_cast<off_t>(offset + done));
    if (n <= 0)
      break;
    done += static_cast<std::size_t>(n);
  }
  ::close(file);
  result.ok = done == result.bytes.size();
  return result;
}

bool snapshot_shelf::remove(const std::string& id) {
  std::lock_guard lock{mutex_};
  auto found = entries_.find(id);
  if (found == entries_.end() || !found->second.what)
    return false;
  unlink(*found->second.what);
  entries_.erase(found);
  return true;
}

void snapshot_shelf::close() {
  {
    std::lock_guard lock{mutex_};
    closed_ = true;
    for (auto& [id, entry] : entries_)
      if (entry.what)
        unlink(*entry.what);
    // What is still being made finds no place when it comes.
    entries_.clear();
    changed_.notify_all();
  }
  if (sweeper_.joinable())
    sweeper_.join();
}

void snapshot_shelf::sweep() {
  std::unique_lock lock{mutex_};
  while (!closed_) {
    auto now = clock::now();
    auto next = now + settings_.kept;
    for (auto i = entries_.begin(); i != entries_.end();) {
      auto& entry = i->second;
      if (entry.what && now - entry.last_used >= settings_.kept) {
        unlink(*entry.what);
        i = entries_.erase(i);
        continue;
      }
      if (entry.what)
        next = std::min(next, entry.last_used + settings_.kept);
      ++i;
    }
    changed_.wait_until(lock, next);
  }
}

std::string snapshot_shelf::path_of(const state_copied& what) const {
  return (std::filesystem::path{settings_.directory} / what.file).string();
}

/// Not synced: a file that comes back with a crash is removed by the next start.
void snapshot_shelf::unlink(const state_copied& what) const {
  if (what.error.empty() && !what.file.empty())
    ::unlink(path_of(what).c_str());
}

}  // namespace coordinator
