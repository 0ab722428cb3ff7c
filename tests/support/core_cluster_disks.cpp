#include <algorithm>

#include "persistence/checksum.hpp"
#include "persistence/codec.hpp"
#include "tests/support/core_cluster.hpp"

/// The disks of a core_cluster: logs, states and copies of states.

namespace coordinator {
namespace {

/// What a copy of the state after `index` holds; the same bytes at every node.
std::string piece_of_state(log_index index, std::uint64_t offset, std::uint64_t bytes) {
  std::string piece;
  for (auto at = offset; at < offset + bytes; ++at)
    piece += static_cast<char>((index.value * 31 + at * 7) % 251);
  return piece;
}

}  // namespace

// -- disk -------------------------------------------------------------------------------------

void core_cluster::write(std::size_t i, raft_write write) {
  auto& n = nodes_[i];
  check_write(n, write);
  n.writing = std::move(write);
  auto begin = std::max({n.disk_free, n.disk_stalled_until, now_});
  n.disk_free = begin + up_to(milliseconds{8});
  schedule_for(i, n.disk_free - now_, [this, i] {
    auto& n = nodes_[i];
    auto done = std::move(*n.writing);
    n.writing.reset();
    if (!n.disk_fails)
      save(n, done);
    perform(i,
            n.keeper->on_written(done.number, n.disk_fails ? "disk I/O error" : "", n.files.base.index + 1, clock(n)));
  });
}

void core_cluster::save(node& n, const raft_write& write) {
  check_saved(n, write);
  if (write.state)
    n.files.state = *write.state;
  auto& files = n.files;
  auto drop = [&](log_index to) {
    auto count = std::min<std::uint64_t>(to - files.base.index, files.log.size());
    files.log.erase(files.log.begin(), files.log.begin() + static_cast<std::ptrdiff_t>(count));
  };
  if (write.install) {
    auto& base = write.install->base;
    if (base.index < files.base.index)
      return violate(n.who.id.value + " installs a state from before its log");
    if (write.install->keep_suffix)
      drop(base.index);
    else
      files.log.clear();
    files.base = base;
  }
  if (write.state_file) {
    files.state_file = *write.state_file;
    files.last_applied = files.checkpointed = n.incoming->what.base.index;
    files.spoilt = false;
  }
  if (write.truncate_from && *write.truncate_from <= files.last())
    files.log.resize(*write.truncate_from - files.base.index - 1);
  for (auto& entry : write.entries) {
    if (entry.index != files.last() + 1)
      return violate(n.who.id.value + " writes a log with a gap");
    files.log.push_back(entry);
  }
  if (write.compact_to && *write.compact_to > files.base.index) {
    ++compacted_;
    auto to = std::min(*write.compact_to, files.base.index + 1 + draw(30));
    if (to > files.last())
      return violate(n.who.id.value + " compacts more than its log");
    for (auto at = files.base.index + 1; at <= to; ++at) {
      auto& entry = files.log[at - files.base.index - 1];
      if (entry.kind == entry_kind::genesis)
        files.base.members = files.founded->founders;
      else if (entry.kind != entry_kind::membership || !from_bytes(entry.payload, files.base.members))
        continue;
      files.base.members_index = at;
    }
    files.base.term = files.log[to - files.base.index - 1].term;
    files.base.time_ms = files.log[to - files.base.index - 1].time_ms;
    drop(to);
    files.base.index = to;
  }
}

void core_cluster::load(std::size_t i, const load_request& request) {
  auto& n = nodes_[i];
  n.disk_free = std::max({n.disk_free, n.disk_stalled_until, now_}) + up_to(milliseconds{2});
  schedule_for(i, n.disk_free - now_, [this, i, request] {
    auto& n = nodes_[i];
    std::vector<log_entry> found;
    std::size_t bytes = 0;
    if (request.from > n.files.base.index)
      for (auto at = request.from; at <= request.to && at <= n.files.last(); ++at) {
        auto& entry = n.files.log[at - n.files.base.index - 1];
        bytes += entry.payload.size();
        if (!found.empty() && bytes > request.max_bytes)
          break;
        found.push_back(entry);
      }
    perform(i, n.keeper->on_loaded(request.request, std::move(found), clock(n)));
  });
}

// -- the state and its copies -----------------------------------------------------------------

void core_cluster::copy(std::size_t i) {
  schedule_for(i, up_to(milliseconds{100}), [this, i] {
    auto& n = nodes_[i];
    state_copied copied;
    copied.file = "copy-" + std::to_string(++last_file_);
    copied.last_applied = n.files.last_applied;
    if (copied.last_applied > log_index{})
      copied.last_applied_term = committed_[copied.last_applied.value - 1];
    copied.size = 900 + draw(3000);
    if (faults_ && chance(5))
      copied.error = "no space";
    n.copies[copied.file] = copied.last_applied;
    perform(i, n.keeper->on_copied(copied, clock(n)));
  });
}

void core_cluster::read_copy(std::size_t i, const copy_request& request) {
  schedule_for(i, up_to(milliseconds{3}), [this, i, request] {
    auto& n = nodes_[i];
    auto data = piece_of_state(n.copies.at(request.file), request.offset, request.bytes);
    auto crc = crc32c(data);
    // Rarely a bit flips on the way.
    if (faults_ && chance(2))
      data.front() = static_cast<char>(data.front() ^ 1);
    perform(i, n.keeper->on_copy_read(request.request, data, crc, "", clock(n)));
  });
}

void core_cluster::store(std::size_t i, incoming_piece piece) {
  auto& n = nodes_[i];
  if (piece.offset == 0)
    n.incoming = incoming_file{piece.what.number, piece.what, 0, {}};
  if (!n.incoming || n.incoming->number != piece.what.number)
    return;
  auto& file = *n.incoming;
  if (piece.data != piece_of_state(piece.what.base.index, piece.offset, piece.data.size()))
    return violate(n.who.id.value + " stores a piece that was not sent");
  if (piece.offset == file.size)
    file.size += piece.data.size();
  auto number = file.number;
  if (faults_ && chance(1)) {
    n.incoming.reset();
    perform(i, n.keeper->on_snapshot_stored(number, 0, "damaged", chance(50), clock(n)));
    return;
  }
  bool whole = file.size == file.what.size;
  if (whole) {
    file.name = "state-" + std::to_string(++last_file_);
    schedule_for(i, milliseconds{1} + up_to(milliseconds{faults_ ? 1500 : 50}), [this, i, number] {
      auto& n = nodes_[i];
      if (n.incoming && n.incoming->number == number)
        perform(i, n.keeper->on_snapshot_loaded(number, n.incoming->name, clock(n)));
    });
  }
  perform(i, n.keeper->on_snapshot_stored(number, file.size, "", false, clock(n)));
}

/// One state goes wrong while all others are well: found at once, or only by comparing it with theirs.
void core_cluster::spoil(std::size_t i) {
  auto& n = nodes_[i];
  bool others_well = std::all_of(nodes_.begin(), nodes_.end(), [](const node& other) {
    return other.running && !other.files.spoilt && !other.refuses_to_apply && other.keeper->writable();
  });
  if (!others_well || nodes_.size() < 3)
    return;
  n.files.spoilt = true;
  if (chance(50))
    perform(i, n.keeper->on_state_damaged("spoilt", clock(n)));
}

}  // namespace coordinator
