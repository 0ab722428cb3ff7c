#include "persistence/wal_check.hpp"

#include <cstdint>
#include <map>
#include <string_view>

#include "persistence/snapshot_file.hpp"

namespace coordinator {

namespace {

// See https://www.sqlite.org/fileformat2.html#walformat.
constexpr std::size_t header_size = 32, frame_header_size = 24;
constexpr std::uint32_t magic = 0x377f0682;  // The lowest bit says that checksums read the bytes as big-endian words.

std::uint32_t big_endian(std::string_view bytes, std::size_t at) {
  std::uint32_t x = 0;
  for (std::size_t i = 0; i < 4; ++i)
    x = x << 8 | static_cast<unsigned char>(bytes[at + i]);
  return x;
}

std::uint32_t little_endian(std::string_view bytes, std::size_t at) {
  return __builtin_bswap32(big_endian(bytes, at));
}

struct sums {
  std::uint32_t first = 0, second = 0;

  friend bool operator==(const sums&, const sums&) = default;

  void add(std::string_view bytes, bool big) {
    auto word = big ? big_endian : little_endian;
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      first += word(bytes, at) + second;
      second += word(bytes, at + 4) + first;
    }
  }
};

struct wal_header {
  bool valid = false;
  bool big = false;
  std::size_t page_size = 0;
  std::string salt;
  sums stored;

  explicit wal_header(std::string_view bytes) {
    if (bytes.size() < header_size)
      return;
    big = big_endian(bytes, 0) & 1;
    page_size = big_endian(bytes, 8);
    salt = bytes.substr(16, 8);
    stored = {big_endian(bytes, 24), big_endian(bytes, 28)};
    sums computed;
    computed.add(bytes.substr(0, 24), big);
    auto page_size_fits = page_size >= 512 && page_size <= 65536 && (page_size & (page_size - 1)) == 0;
    valid = (big_endian(bytes, 0) & ~1u) == magic && page_size_fits && computed == stored;
  }
};

// Whether the database holds all that the frames say, whatever the header says.
bool is_copied(snapshot_file& wal, const std::string& path, const std::string& vfs) {
  if (!snapshot_file::exists(path, vfs))
    return false;
  auto db = snapshot_file::open(path, vfs);
  auto start = db->read(0, 18);
  if (start.size() < 18)
    return false;
  // Big-endian in two bytes, of which 1 stands for 65,536.
  auto page_size = std::size_t{static_cast<unsigned char>(start[16])} << 8 | static_cast<unsigned char>(start[17]);
  page_size = page_size == 1 ? 65536 : page_size;
  auto frame_size = frame_header_size + page_size;
  auto first = wal.read(header_size, frame_header_size);
  if (first.size() < frame_header_size)
    return true;
  std::string_view salt = std::string_view{first}.substr(8, 8);
  std::map<std::uint32_t, std::uint64_t> latest, committed;  // Where the newest frame of each page is.
  auto size = wal.size();
  for (auto at = std::uint64_t{header_size}; at + frame_size <= size; at += frame_size) {
    auto frame = wal.read(at, frame_header_size);
    if (std::string_view{frame}.substr(8, 8) != salt)
      break;
    latest[big_endian(frame, 0)] = at;
    if (big_endian(frame, 4) != 0)
      committed = latest;
  }
  for (auto& [page, at] : committed)
    if (page == 0 ||
        db->read((page - std::uint64_t{1}) * page_size, page_size) != wal.read(at + frame_header_size, page_size))
      return false;
  return true;
}

struct wal_content {
  std::optional<std::string> damage;
  std::uint64_t bytes = 0;
  std::uint64_t whole_bytes = 0;  ///< Up to the end of the last transaction that SQLite takes.
};

wal_content look_at_wal(const std::string& path, const std::string& vfs) {
  wal_content found;
  auto name = path + "-wal";
  if (!snapshot_file::exists(name, vfs))
    return found;
  auto file = snapshot_file::open(name, vfs);
  found.bytes = file->size();
  wal_header header{file->read(0, header_size)};
  if (!header.valid) {
    // A header that was half written when the WAL began anew does no harm: all of the old frames were copied before.
    if (found.bytes > header_size && !is_copied(*file, path, vfs))
      found.damage = name + ": its header is damaged";
    return found;
  }

  found.whole_bytes = header_size;
  auto frame_size = frame_header_size + header.page_size;
  auto previous = header.stored;
  auto previous_commits = false;
  std::uint64_t number = 0, end = 0;  // The first frame that SQLite does not take.
  for (auto at = std::uint64_t{header_size}; at + frame_size <= found.bytes; at += frame_size) {
    ++number;
    auto bytes = file->read(at, frame_size);
    std::string_view frame{bytes};
    auto computed = previous;
    computed.add(frame.substr(0, 8), header.big);
    computed.add(frame.substr(frame_header_size), header.big);
    sums stored{big_endian(frame, 16), big_endian(frame, 20)};
    auto of_this_wal = frame.substr(8, 8) == header.salt && big_endian(frame, 0) != 0;
    auto continues = of_this_wal && computed == stored;
    if (!continues && end == 0)
      end = number;
    if (end == 0 && big_endian(frame, 4) != 0) {
      found.whole_bytes = at + frame_size;
    } else if (end != 0 && continues && previous_commits) {
      found.damage = name + ": frame " + std::to_string(end) + " is damaged, and later transactions follow it";
      return found;
    }
    previous = stored;
    previous_commits = frame.substr(8, 8) == header.salt && big_endian(frame, 4) != 0;
  }
  return found;
}

}  // namespace

std::optional<std::string> find_wal_damage(const std::string& path, const std::string& vfs) {
  return look_at_wal(path, vfs).damage;
}

void drop_wal_remains(const std::string& path, const std::string& vfs) {
  const auto found = look_at_wal(path, vfs);
  if (found.damage || found.whole_bytes == found.bytes)
    return;
  auto file = snapshot_file::open(path + "-wal", vfs);
  file->truncate(found.whole_bytes);
  file->sync();
}

}  // namespace coordinator
