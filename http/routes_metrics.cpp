#include <dirent.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>

#include "http/api.hpp"
#include "http/render.hpp"
#include "http/wait.hpp"

namespace coordinator {
namespace {

/// A scrape shows what was known last rather than wait: neither the keeper nor the state machine waits for a disk or a
/// client, so only a node in great trouble does not answer in this time.
constexpr std::chrono::milliseconds patience{500};

/// The files of /proc are in memory: they can be read while a disk hangs.
std::uint64_t resident_bytes() {
  std::ifstream statm{"/proc/self/statm"};
  std::uint64_t pages = 0;
  std::uint64_t resident = 0;
  return statm >> pages >> resident ? resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

std::uint64_t open_files() {
  std::uint64_t count = 0;
  if (auto* directory = ::opendir("/proc/self/fd")) {
    while (::readdir(directory))
      ++count;
    ::closedir(directory);
  }
  // The two names of the directory itself, and the descriptor that reads it.
  return count > 3 ? count - 3 : 0;
}

}  // namespace

std::optional<figures_view> api::figures() {
  read_request request{get_figures{}, false, patience, -1};
  auto result = wait_for<read_result>([&](auto done) { port_.read(std::move(request), std::move(done)); }, patience);
  auto found = result && result->ok ? std::get_if<figures_view>(&result->result) : nullptr;
  return found ? std::optional{std::move(*found)} : std::nullopt;
}

http_response api::get_metrics(const routed_request&) {
  auto node = wait_for<node_view>([&](auto done) { port_.view(std::move(done)); }, patience);
  auto standing = watcher_->now();
  metrics::node_state state;
  auto leadership = port_.current_leadership();
  state.is_leader = !leadership.leader.empty() && leadership.leader == leadership.node;
  state.has_leader = !leadership.leader.empty() && (!node || hears_leader(node->raft));
  state.term = leadership.term;
  state.commit_index = std::max(standing.commit_index, node ? node->raft.commit_index : log_index{});
  state.last_applied = std::max(standing.last_applied, node ? node->last_applied : log_index{});
  state.writable = node ? node->raft.writable : standing.writable;
  auto& members = node && !node->raft.members.members.empty() ? node->raft.members : standing.members;
  state.members = members.members.size();
  auto peers = watcher_->peers();
  for (auto& member : members.members)
    state.members_healthy += member.id == watcher_->self() || std::any_of(peers.begin(), peers.end(), [&](auto& peer) {
                               return peer.up && peer.peer == member.id;
                             });
  state.storage_used = standing.storage_used;
  state.storage_quota = standing.storage_quota;
  state.connections = options_.connections ? options_.connections() : 0;
  state.event_streams = streams_;
  state.resident_bytes = resident_bytes();
  state.open_files = open_files();
  state.started_s = started_s_;
  watcher_->figures().set(state);
  watcher_->figures().set(peers);
  if (auto found = figures())
    watcher_->figures().set(*found, watcher_->now_ms());
  http_response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = watcher_->figures().text();
  return response;
}

}  // namespace coordinator
