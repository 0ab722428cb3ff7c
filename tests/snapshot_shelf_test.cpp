#include "http/snapshot_shelf.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "http/api.hpp"
#include "persistence/checksum.hpp"
#include "tests/support/fake_port.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

state_copied copy_of(const temporary_directory& directory, const std::string& name, const std::string& bytes) {
  std::ofstream{directory / name, std::ios::binary} << bytes;
  state_copied copy;
  copy.file = name;
  copy.size = bytes.size();
  copy.last_applied = {70};
  copy.last_applied_term = {4};
  copy.checksum = 0xabcdef;
  return copy;
}

snapshot_shelf::settings settings_for(const temporary_directory& directory) {
  snapshot_shelf::settings settings;
  settings.directory = directory.path();
  return settings;
}

bool gone(const temporary_directory& directory, const std::string& name) {
  for (int i = 0; i < 500 && std::filesystem::exists(directory / name); ++i)
    std::this_thread::sleep_for(10ms);
  return !std::filesystem::exists(directory / name);
}

struct gone_client : client_watch {
  bool gone() const override { return true; }
  bool stopping() const override { return false; }
};

/// The routes over a port that makes copies in a directory of the test's.
struct front {
  front() : routes(port, options()) {
    port.read_answer.result = checksum_view{};
    port.on_copy = [this](auto done) { done(copy_of(directory, "snapshot-70-1.db", content)); };
  }
  api_options options() {
    api_options o;
    o.data_dir = directory.path();
    return o;
  }
  http_response ask(const std::string& method, const std::string& path, const std::string& query = {},
                    header_list headers = {}) {
    http_request request;
    request.method = method;
    request.path = path;
    request.query = query;
    request.headers = std::move(headers);
    request.from_loopback = loopback;
    return routes.answer(request);
  }

  temporary_directory directory;
  std::string content = std::string((1 << 20) + 5, 'x') + "end";
  test::fake_port port;
  api routes;
  bool loopback = true;
};

std::string header(const http_response& response, const std::string& name) {
  for (auto& [key, value] : response.headers)
    if (key == name)
      return value;
  return {};
}

}  // namespace

TEST_CASE("snapshot shelf: two places, also for copies that are still being made") {
  temporary_directory directory;
  snapshot_shelf shelf{settings_for(directory)};
  auto first = shelf.reserve();
  auto second = shelf.reserve();
  CHECK(first != second);
  CHECK(shelf.reserve().empty());
  shelf.put(first, copy_of(directory, "a", "bytes"));
  CHECK(shelf.wait(first, 1s, nullptr)->size == 5);
  CHECK(shelf.reserve().empty());
  CHECK(shelf.remove(first));
  CHECK_FALSE(shelf.remove(first));
  CHECK_FALSE(std::filesystem::exists(directory / "a"));
  CHECK_FALSE(shelf.reserve().empty());
  state_copied failed;
  failed.error = "no room";
  shelf.put(second, failed);
  CHECK(shelf.wait(second, 1s, nullptr)->error == "no room");
  CHECK_FALSE(shelf.reserve().empty());
}

TEST_CASE("snapshot shelf: a copy that comes too late is removed, and only then is its place free") {
  temporary_directory directory;
  snapshot_shelf shelf{settings_for(directory)};
  auto late = shelf.reserve();
  CHECK_FALSE(shelf.wait(late, 1ms, nullptr));
  auto left = shelf.reserve();
  gone_client nobody;
  CHECK_FALSE(shelf.wait(left, 1h, &nobody));
  CHECK(shelf.reserve().empty());
  shelf.put(late, copy_of(directory, "late", "x"));
  shelf.put(left, copy_of(directory, "left", "x"));
  CHECK_FALSE(std::filesystem::exists(directory / "late"));
  CHECK_FALSE(std::filesystem::exists(directory / "left"));
  CHECK_FALSE(shelf.reserve().empty());
}

TEST_CASE("snapshot shelf: what nobody reads is forgotten, and closing leaves nothing") {
  temporary_directory directory;
  {
    auto settings = settings_for(directory);
    settings.kept = 30ms;
    snapshot_shelf shelf{settings};
    auto id = shelf.reserve();
    shelf.put(id, copy_of(directory, "a", "x"));
    CHECK(gone(directory, "a"));
    CHECK_FALSE(shelf.read(id, 0, 1));
  }
  snapshot_shelf shelf{settings_for(directory)};
  auto id = shelf.reserve();
  auto made_later = shelf.reserve();
  shelf.put(id, copy_of(directory, "b", "x"));
  shelf.close();
  CHECK_FALSE(std::filesystem::exists(directory / "b"));
  shelf.put(made_later, copy_of(directory, "c", "x"));
  CHECK_FALSE(std::filesystem::exists(directory / "c"));
  CHECK(shelf.reserve().empty());
}

TEST_CASE("api: a snapshot is made, read piece by piece with its checksums, and deleted") {
  front f;
  auto made = f.ask("POST", "/api/snapshots");
  REQUIRE(made.status == 200);
  auto described = json::parse(made.body);
  CHECK(described["size"] == f.content.size());
  CHECK(described["last_applied"] == 70);
  CHECK(described["last_applied_term"] == 4);
  CHECK(described["checksum"] == "0000000000abcdef");
  CHECK(described["members"].size() == 2);
  CHECK(described["node_id"] == "node-1");
  auto path = "/api/snapshots/" + described["id"].get<std::string>();
  std::string bytes;
  for (int pieces = 0; pieces < 2; ++pieces) {
    auto piece = f.ask("GET", path, "offset=" + std::to_string(bytes.size()));
    REQUIRE(piece.status == 200);
    CHECK(piece.content_type == "application/octet-stream");
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08x", crc32c(piece.body));
    CHECK(header(piece, "Content-CRC32C") == digits);
    bytes += piece.body;
  }
  CHECK(bytes == f.content);
  CHECK(f.ask("GET", path, "offset=" + std::to_string(bytes.size())).body.empty());
  CHECK(f.ask("GET", path, "offset=" + std::to_string(bytes.size() + 1)).status == 422);
  CHECK(f.ask("GET", path, "offset=x").status == 400);
  CHECK(f.ask("DELETE", path).status == 200);
  CHECK(f.ask("DELETE", path).status == 404);
  CHECK(f.ask("GET", path).status == 404);
  CHECK_FALSE(std::filesystem::exists(f.directory / "snapshot-70-1.db"));
}

TEST_CASE("api: a snapshot is made only once the node has applied and written what was acknowledged") {
  front f;
  std::string order;
  f.port.on_read = [&](const read_request& request) {
    order += request.linearizable ? "read " : "stale ";
    return f.port.read_answer;
  };
  f.port.on_flush = [&](auto done) {
    order += "flush ";
    done({});
  };
  auto copy = f.port.on_copy;
  f.port.on_copy = [&](auto done) {
    order += "copy ";
    copy(std::move(done));
  };
  CHECK(f.ask("POST", "/api/snapshots").status == 200);
  CHECK(f.ask("POST", "/api/snapshots", "consistency=stale").status == 200);
  CHECK(order == "read flush copy stale flush copy ");
  front cut_off;
  cut_off.port.read_answer.ok = false;
  cut_off.port.read_answer.reason = "no_leader";
  auto refused = cut_off.ask("POST", "/api/snapshots");
  CHECK(refused.status == 503);
  CHECK(json::parse(refused.body)["code"] == "no_leader");
  cut_off.port.read_answer.ok = true;
  cut_off.port.on_flush = [](auto done) { done({{}, {}, {}, "the disk is full"}); };
  CHECK(json::parse(cut_off.ask("POST", "/api/snapshots").body)["code"] == "no_snapshot");
}

TEST_CASE("api: a third snapshot gets 429, a failed one 503, and strangers none") {
  front f;
  CHECK(f.ask("POST", "/api/snapshots").status == 200);
  CHECK(f.ask("POST", "/api/snapshots").status == 200);
  auto third = f.ask("POST", "/api/snapshots");
  CHECK(third.status == 429);
  CHECK(json::parse(third.body)["code"] == "too_many_snapshots");
  front failing;
  failing.port.on_copy = [](auto done) {
    state_copied none;
    none.error = "the disk is full";
    done(none);
  };
  auto failed = failing.ask("POST", "/api/snapshots");
  CHECK(failed.status == 503);
  CHECK(json::parse(failed.body)["detail"].get<std::string>().find("disk is full") != std::string::npos);
  failing.port.on_copy = nullptr;
  CHECK(failing.ask("POST", "/api/snapshots", {}, {{"x-request-timeout-ms", "1"}}).status == 503);
  failing.loopback = false;
  CHECK(failing.ask("POST", "/api/snapshots").status == 403);
  CHECK(failing.ask("GET", "/api/snapshots/x").status == 403);
  CHECK(failing.ask("DELETE", "/api/snapshots/x").status == 403);
}
