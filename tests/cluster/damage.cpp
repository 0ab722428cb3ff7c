#include "tests/cluster/damage.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "persistence/state_store.hpp"

namespace fs = std::filesystem;

namespace coordinator {

std::vector<std::string> files_with(const std::string& directory, const std::string& part) {
  std::vector<std::string> found;
  std::error_code error;
  for (auto& entry : fs::directory_iterator{directory, error})
    if (auto name = entry.path().filename().string(); name.find(part) != std::string::npos)
      found.push_back(name);
  return found;
}

std::string state_file(const std::string& directory) {
  for (auto& name : files_with(directory, "state"))
    if (name.starts_with("state") && name.ends_with(".db") && name.find("damaged") == std::string::npos)
      return directory + "/" + name;
  return {};
}

void spoil(const std::string& path, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  auto size = fs::file_size(path);
  std::fstream file{path, std::ios::in | std::ios::out | std::ios::binary};
  for (int i = 0; i < 200; ++i) {
    file.seekp(static_cast<std::streamoff>(random() % size));
    file.put(static_cast<char>(random()));
  }
}

void change_value(const cluster& nodes, int node, const std::string& key) {
  auto path = state_file(nodes.data_dir(node));
  auto incarnation = incarnation_id{};
  {
    database db{path, {.read_only = true}};
    statement query{db, "SELECT incarnation FROM meta"};
    REQUIRE(query.step());
    incarnation = {query.number(0)};
  }
  auto store = state_store::open(path, {cluster::name(node)}, incarnation, {});
  auto meta = store->meta();
  std::string body;
  std::uint8_t kind = 0;
  std::uint64_t old = 0;
  store->load([&](const row_view& row) {
    if (row.id == key)
      kind = row.kind, body = row.body, old = row.hash;
  });
  REQUIRE(old != 0);
  body.back() = static_cast<char>(body.back() ^ 1);
  auto hash = row_hash(kind, key, body);
  store->write({meta.last_applied,
                meta.last_applied_term,
                meta.applied_time_ms,
                meta.checksum - old + hash,
                {{kind, key, body, hash}}});
}

}  // namespace coordinator
