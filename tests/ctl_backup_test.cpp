#include <doctest/doctest.h>
#include <httplib.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>

#include "http/ctl/commands.hpp"
#include "persistence/checksum.hpp"
#include "persistence/codec.hpp"
#include "persistence/data_directory.hpp"
#include "persistence/raft_store.hpp"
#include "persistence/state_store.hpp"
#include "tests/support/fake_coordinator.hpp"
#include "tests/support/temporary_directory.hpp"

using namespace coordinator;
using namespace coordinator::ctl;
using nlohmann::json;

namespace {

/// A command's surroundings, with what it wrote.
struct desk {
  client cluster{{{"127.0.0.1", 1}}, {}};
  std::ostringstream out, err;
  session s{cluster, out, err, true, false};

  json answer() const { return json::parse(out.str(), nullptr, false); }
};

struct ending {
  exit_status status = exit_status::ok;
  std::string why;
};

template <class Command>
ending ending_of(Command command) {
  try {
    return {command(), {}};
  } catch (const ctl_error& e) {
    return {e.status(), e.what()};
  }
}

std::string bytes_of(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

state_write some_rows() {
  state_write write{{70}, {4}, 700, 0, {}};
  for (int i = 0; i < 300; ++i) {
    row_change row{2, "key" + std::to_string(i), std::string(8000, 'b'), 0};
    row.hash = row_hash(row.kind, row.id, *row.body);
    write.checksum += row.hash;
    write.rows.push_back(std::move(row));
  }
  return write;
}

/// A node that gives one snapshot, of more than two pieces, and can spoil it.
struct source {
  source() {
    auto store = state_store::open(directory / "state.db", {"n2"}, {9}, {});
    store->write(some_rows());
    auto copy = store->begin_copy(directory / "copy.db");
    while (!copy->step(100)) {
    }
    meta = copy->meta();
    bytes = bytes_of(directory / "copy.db");
    REQUIRE(bytes.size() > 2u << 20);
    node.set_hook(
        [this](const httplib::Request& request, httplib::Response& response) { return answer(request, response); });
  }

  bool answer(const httplib::Request& request, httplib::Response& response) {
    if (request.path.rfind("/api/snapshots", 0) != 0)
      return false;
    // A client that was killed may still be being answered.
    std::lock_guard lock{mutex};
    authorization = request.get_header_value("Authorization");
    if (request.method == "DELETE") {
      ++deleted;
      response.set_content("{}", "application/json");
    } else if (request.method == "POST") {
      char checksum[17];
      std::snprintf(checksum, sizeof checksum, "%016llx", static_cast<unsigned long long>(meta.checksum));
      json described{
          {"id", "s1"},
          {"size", bytes.size()},
          {"last_applied", meta.last_applied.value},
          {"last_applied_term", 4},
          {"applied_time_ms", 700},
          {"checksum", checksum},
          {"cluster_id", "00112233445566778899aabbccddeeff"},
          {"node_id", "n2"},
          {"members",
           {{{"node_id", "n2"}, {"http_address", "h:8080"}, {"cluster_address", "h:18080"}, {"voter", true}}}}};
      response.set_content(described.dump(), "application/json");
    } else {
      auto piece = bytes.substr(std::stoull(request.get_param_value("offset")), 1 << 20);
      char crc[9];
      std::snprintf(crc, sizeof crc, "%08x", crc32c(piece));
      response.set_header("Content-CRC32C", crc);
      if (spoil > 0) {
        --spoil;
        piece[piece.size() / 2] = static_cast<char>(piece[piece.size() / 2] ^ 1);
      }
      response.set_content(piece, "application/octet-stream");
    }
    return true;
  }

  std::vector<endpoint> nodes() const { return {{"127.0.0.1", node.port()}}; }

  std::string last_authorization() {
    std::lock_guard lock{mutex};
    return authorization;
  }

  temporary_directory directory;
  state_meta meta;
  std::string bytes;
  std::atomic<int> spoil{0};  ///< So many pieces still come damaged.
  std::atomic<int> deleted{0};
  std::mutex mutex;
  std::string authorization;
  fake_coordinator node;
};

/// A back-up, and how it is to be restored.
struct saved_backup {
  saved_backup() {
    save_options options;
    options.file = file();
    REQUIRE(save_snapshot(d.s, from.nodes(), options) == exit_status::ok);
    restore.file = file();
    restore.data_dir = from.directory / "data";
  }
  std::string file() const { return from.directory / "backup"; }

  source from;
  desk d;
  restore_options restore;
};

/// The journal of a transaction that was under way in another database when its process was killed.
std::string hot_journal(const temporary_directory& directory) {
  auto path = directory / "other.db";
  database db{path, {.create = true}};
  db.execute("CREATE TABLE t(x)");
  db.execute(
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) "
      "INSERT INTO t SELECT zeroblob(8000) FROM n");
  // So few that pages go to the file, and so the journal to the disk, before the end.
  db.execute("PRAGMA cache_size=10");
  db.execute("BEGIN");
  db.execute("UPDATE t SET x = 'y'");
  auto journal = bytes_of(path + "-journal");
  db.execute("ROLLBACK");
  REQUIRE(!journal.empty());
  return journal;
}

const membership three{{{{"n1"}, {42}, "a:8080", "a:18080", true},
                        {{"n2"}, {7}, "b:8080", "b:18080", true},
                        {{"n3"}, {8}, "c:8080", "c:18080", true}}};

/// A stopped node of a cluster of three, with a log of ten entries.
void make_node(const std::string& path) {
  data_directory held{path, node_id{"n1"}};
  raft_store_options options;
  options.new_incarnation = 42;
  auto raft = raft_store::open(held.raft_path(), {"n1"}, options);
  genesis founded{"00112233445566778899aabbccddeeff", three, 1001};
  raft_write write{.state = hard_state{{3}, node_id{"n2"}},
                   .entries = {{{1}, {1}, entry_kind::genesis, 1001, to_bytes(founded)}},
                   .formed = founded};
  for (std::uint64_t i = 2; i <= 10; ++i)
    write.entries.push_back({{i}, {2}, entry_kind::noop, static_cast<std::int64_t>(1000 + i), ""});
  raft->write(write);
  state_store::open(held.state_path(), {"n1"}, {42}, {});
}

/// Every file of a directory but its lock, which names the last process that held it, and what SQLite needs to read.
std::map<std::string, std::string> files_of(const std::string& path) {
  std::map<std::string, std::string> files;
  for (auto& entry : std::filesystem::directory_iterator{path})
    if (auto name = entry.path().filename().string();
        name != "lock" && !name.ends_with("-shm") &&
        !(name.ends_with("-wal") && std::filesystem::file_size(entry.path()) == 0))
      files[name] = bytes_of(entry.path());
  return files;
}

}  // namespace

TEST_CASE("coordctl snapshot save: a file that is verified, and is not kept at the node") {
  source from;
  desk d;
  from.spoil = 2;  // A piece that comes damaged is asked for again.
  save_options options;
  options.file = from.directory / "backup";
  options.token_file = from.directory / "token";
  std::ofstream{options.token_file} << "secret\n";
  // Left by one that was killed.
  std::ofstream{options.file + ".partial"} << "of another time";
  std::ofstream{options.file + ".partial-journal", std::ios::binary} << hot_journal(from.directory);
  auto saved = ending_of([&] { return save_snapshot(d.s, from.nodes(), options); });
  REQUIRE_MESSAGE(saved.status == exit_status::ok, saved.why);
  CHECK(from.deleted == 1);
  CHECK(from.last_authorization() == "Bearer secret");
  for (auto part : {"", "-wal", "-shm", "-journal"})
    CHECK_FALSE(std::filesystem::exists(options.file + ".partial" + part));
  auto perms = std::filesystem::status(options.file).permissions();
  CHECK((perms & std::filesystem::perms::others_all) == std::filesystem::perms::none);
  desk reader;
  CHECK(inspect_snapshot(reader.s, options.file) == exit_status::ok);
  CHECK(reader.answer() == d.answer());
  CHECK(reader.answer()["rows"] == json{{"keys", 300}});
  CHECK(reader.answer()["last_applied"] == 70);
  CHECK(reader.answer()["members"].size() == 1);
  // An older file is replaced only where that is asked for.
  CHECK(ending_of([&] { return save_snapshot(d.s, from.nodes(), options); }).status == exit_status::usage);
}

TEST_CASE("coordctl snapshot save: what cannot be verified leaves no file") {
  source from;
  desk d;
  save_options options;
  options.file = from.directory / "backup";
  from.spoil = 1000;
  CHECK(ending_of([&] { return save_snapshot(d.s, from.nodes(), options); }).status == exit_status::unavailable);
  CHECK(from.deleted == 1);
  from.spoil = 0;
  // The node describes another state than it gives.
  from.meta.checksum += 1;
  CHECK(ending_of([&] { return save_snapshot(d.s, from.nodes(), options); }).status == exit_status::failed);
  from.meta.checksum -= 1;
  // The bytes were damaged before the node read them.
  from.bytes[from.bytes.size() / 2] = static_cast<char>(from.bytes[from.bytes.size() / 2] ^ 1);
  CHECK(ending_of([&] { return save_snapshot(d.s, from.nodes(), options); }).status != exit_status::ok);
  for (auto name : {"backup", "backup.partial", "backup.partial-wal"})
    CHECK_FALSE(std::filesystem::exists(from.directory / name));
  options.file = from.directory / "no/such/directory";
  CHECK(ending_of([&] { return save_snapshot(d.s, from.nodes(), options); }).status == exit_status::usage);
  options.file = from.directory / "backup";
  CHECK(ending_of([&] { return save_snapshot(d.s, {{"127.0.0.1", 1}}, options); }).status == exit_status::unavailable);
}

TEST_CASE("coordctl snapshot save: killed at any moment it leaves the whole file or none, and the next one works") {
  source from;
  save_options options;
  options.file = from.directory / "backup";
  int killed = 0;
  for (useconds_t after = 0;; after += 400) {
    REQUIRE(killed < 2000);
    const auto child = ::fork();
    if (child == 0) {
      desk d;
      auto saved = ending_of([&] { return save_snapshot(d.s, from.nodes(), options); });
      ::_exit(saved.status == exit_status::ok ? 0 : 1);
    }
    ::usleep(after);
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (std::filesystem::exists(options.file)) {
      desk reader;
      CHECK(inspect_snapshot(reader.s, options.file) == exit_status::ok);
      std::filesystem::remove(options.file);
    }
    if (WIFEXITED(status)) {
      CHECK(WEXITSTATUS(status) == 0);
      break;
    }
    ++killed;
  }
  CHECK(killed > 2);
  desk d;
  CHECK(save_snapshot(d.s, from.nodes(), options) == exit_status::ok);
}

TEST_CASE("coordctl snapshot restore: a new cluster of one node, and nothing at all for a bad file") {
  saved_backup saved;
  auto& [from, d, restore] = saved;
  auto spoilt = from.directory / "spoilt";
  auto bytes = bytes_of(saved.file());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  std::ofstream{spoilt, std::ios::binary} << bytes;
  restore.file = spoilt;
  auto refused = ending_of([&] { return restore_snapshot(d.s, restore); });
  CHECK(refused.status == exit_status::usage);
  CHECK_MESSAGE(refused.why.find("spoilt") != std::string::npos, refused.why);
  restore.file = from.directory / "absent";
  CHECK(ending_of([&] { return restore_snapshot(d.s, restore); }).status == exit_status::usage);
  restore.file = saved.file();
  restore.node_id = "no id";
  CHECK(ending_of([&] { return restore_snapshot(d.s, restore); }).status == exit_status::usage);
  restore.node_id = "";
  restore.http_address = "nowhere";
  CHECK(ending_of([&] { return restore_snapshot(d.s, restore); }).status == exit_status::usage);
  CHECK_FALSE(std::filesystem::exists(restore.data_dir));

  restore.http_address = "10.0.0.9:9000";
  desk maker;
  auto made = ending_of([&] { return restore_snapshot(maker.s, restore); });
  REQUIRE_MESSAGE(made.status == exit_status::ok, made.why);
  CHECK(maker.answer()["node_id"] == "n2");
  CHECK(maker.answer()["http_address"] == "10.0.0.9:9000");
  CHECK(maker.answer()["cluster_address"] == "h:18080");
  data_directory held{restore.data_dir, node_id{"n2"}};
  CHECK(held.condition() == directory_condition::node);
  CHECK(held.found_cluster() == maker.answer()["cluster_id"].get<std::string>());
  CHECK(held.found_cluster() != "00112233445566778899aabbccddeeff");
}

TEST_CASE("coordctl snapshot restore: a directory that holds a node stays as it is") {
  saved_backup saved;
  auto& [from, d, restore] = saved;
  restore.node_id = "n1";
  make_node(restore.data_dir);
  auto before = files_of(restore.data_dir);
  CHECK(ending_of([&] { return restore_snapshot(d.s, restore); }).status == exit_status::conflict);
  CHECK(files_of(restore.data_dir) == before);
}

TEST_CASE("coordctl force-new: says what can be lost, asks, and changes nothing without a yes") {
  temporary_directory directory;
  force_options options;
  options.data_dir = directory / "data";
  make_node(options.data_dir);
  auto before = files_of(options.data_dir);
  {
    desk d;
    CHECK(ending_of([&] { return force_new_cluster(d.s, options); }).status == exit_status::usage);
    for (auto part : {"n1", "n2, n3", "entry 10", "00112233445566778899aabbccddeeff"})
      CHECK_MESSAGE(d.err.str().find(part) != std::string::npos, d.err.str());
  }
  for (auto line : {"yes\n", "n2\n", "\n", ""}) {
    desk d;
    std::istringstream answers{line};
    options.answers = &answers;
    CHECK(ending_of([&] { return force_new_cluster(d.s, options); }).status == exit_status::usage);
  }
  CHECK(files_of(options.data_dir) == before);
  desk d;
  std::istringstream answers{"n1\n"};
  options.answers = &answers;
  options.http_address = "z:1";
  auto forced = ending_of([&] { return force_new_cluster(d.s, options); });
  REQUIRE_MESSAGE(forced.status == exit_status::ok, forced.why);
  CHECK(d.answer()["cluster_id"] != "00112233445566778899aabbccddeeff");
  CHECK(d.answer()["members"] ==
        json{{{"node_id", "n1"}, {"http_address", "z:1"}, {"cluster_address", "a:18080"}, {"voter", true}}});
  desk reader;
  CHECK(verify_files(reader.s, options.data_dir) == exit_status::ok);
  CHECK(reader.answer()["cluster_id"] == d.answer()["cluster_id"]);
  CHECK(reader.answer()["last_log_index"] == 11);
}

TEST_CASE("coordctl force-new: a node whose state is damaged is refused, for no peer could give it one") {
  temporary_directory directory;
  force_options options;
  options.data_dir = directory / "data";
  options.accepted = true;
  make_node(options.data_dir);
  auto state = options.data_dir + "/state.db";
  std::filesystem::remove(state + "-wal");
  std::ofstream{state, std::ios::binary | std::ios::trunc} << std::string(8192, 'x');
  desk d;
  auto refused = ending_of([&] { return force_new_cluster(d.s, options); });
  CHECK(refused.status == exit_status::usage);
  CHECK_MESSAGE(refused.why.find("state") != std::string::npos, refused.why);
  desk reader;
  CHECK(verify_files(reader.s, options.data_dir) == exit_status::failed);
  CHECK(reader.answer()["problems"][0]["file"] == "state.db");
}

TEST_CASE("coordctl log: what is no stopped node's directory is refused, and nothing is made there") {
  temporary_directory directory;
  desk d;
  dump_options dump;
  force_options force;
  force.accepted = true;
  auto data = directory / "data";
  make_node(data);
  std::filesystem::create_directory(directory / "empty");
  std::ofstream{directory / "file"} << "x";
  for (auto& path : {directory / "empty", directory / "file", directory / "absent"}) {
    dump.data_dir = force.data_dir = path;
    CHECK(ending_of([&] { return dump_log(d.s, dump); }).status == exit_status::usage);
    CHECK(ending_of([&] { return verify_files(d.s, path); }).status == exit_status::usage);
    CHECK(ending_of([&] { return force_new_cluster(d.s, force); }).status == exit_status::usage);
  }
  CHECK(std::filesystem::is_empty(directory / "empty"));
  CHECK_FALSE(std::filesystem::exists(directory / "absent"));
  data_directory running{data, node_id{"n1"}};
  dump.data_dir = force.data_dir = data;
  CHECK(ending_of([&] { return dump_log(d.s, dump); }).status == exit_status::conflict);
  CHECK(ending_of([&] { return verify_files(d.s, data); }).status == exit_status::conflict);
  CHECK(ending_of([&] { return force_new_cluster(d.s, force); }).status == exit_status::conflict);
}

TEST_CASE("coordctl log dump: the entries asked for, and damaged ones as what is wrong with them") {
  temporary_directory directory;
  dump_options options;
  options.data_dir = directory / "data";
  make_node(options.data_dir);
  auto dump = [&](exit_status expected) {
    desk d;
    CHECK(ending_of([&] { return dump_log(d.s, options); }).status == expected);
    return d.answer();
  };
  auto all = dump(exit_status::ok);
  REQUIRE(all.is_object());
  CHECK(all["entries"].size() == 10);
  CHECK(all["entries"][0]["command"]["type"] == "genesis");
  CHECK(all["members"].size() == 3);
  CHECK(all["voted_for"] == "n2");
  options.from = 3;
  options.limit = 2;
  auto some = dump(exit_status::ok);
  REQUIRE(some["entries"].size() == 2);
  CHECK(some["entries"][1]["index"] == 4);
  options.to = 2;
  dump(exit_status::usage);
  options.to = 3;
  CHECK(dump(exit_status::ok)["entries"].size() == 1);
  options.from = 50;
  options.to = 0;
  CHECK(dump(exit_status::ok)["entries"].empty());
  {
    database db{options.data_dir + "/raft.db", {}};
    db.execute("UPDATE log SET payload = 'x' WHERE idx = 4");
  }
  options.from = 4;
  auto damaged = dump(exit_status::failed);
  CHECK(damaged["entries"][0].contains("damage"));
  CHECK(damaged["entries"][1]["index"] == 5);
  desk table;
  table.s.as_json = false;
  CHECK(dump_log(table.s, options) == exit_status::failed);
  CHECK(table.out.str().find("DAMAGED") != std::string::npos);
  desk reader;
  CHECK(verify_files(reader.s, options.data_dir) == exit_status::failed);
  CHECK(reader.answer()["problems"][0]["index"] == 4);
}

TEST_CASE("coordctl health: a node that is not ready says why") {
  fake_coordinator ready, sick;
  ready.set_hook([](const httplib::Request& request, httplib::Response& response) {
    if (request.path != "/readyz" && request.path != "/api/health")
      return false;
    response.set_content(request.path == "/readyz" ? "[+]disk ok\n" : "{\"healthy\":true}", "text/plain");
    return true;
  });
  sick.set_hook([](const httplib::Request& request, httplib::Response& response) {
    if (request.path != "/readyz")
      return false;
    response.status = 503;
    response.set_content("[+]actors ok\n[-]disk failed: no space left\n", "text/plain");
    return true;
  });
  desk d;
  CHECK(show_health(d.s, {{"127.0.0.1", ready.port()}}) == exit_status::ok);
  CHECK(d.answer()[0]["health"]["healthy"] == true);
  desk other;
  other.s.as_json = false;
  CHECK(show_health(other.s, {{"127.0.0.1", ready.port()}, {"127.0.0.1", sick.port()}, {"127.0.0.1", 1}}) ==
        exit_status::failed);
  CHECK(other.out.str().find("disk failed: no space left") != std::string::npos);
  CHECK(other.out.str().find("unreachable") != std::string::npos);
}
