#include <sys/random.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>

#include "actors/state_rows.hpp"
#include "http/ctl/commands.hpp"
#include "http/ctl/progress.hpp"
#include "http/ctl/stopped_node.hpp"
#include "http/ctl/table.hpp"
#include "persistence/backup.hpp"
#include "persistence/checksum.hpp"
#include "persistence/snapshot_file.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds longest_making{600'000};
constexpr milliseconds longest_silence{10'000};
constexpr int tries_a_piece = 3;

std::string hexadecimal(unsigned long long number, int digits) {
  char text[17];
  std::snprintf(text, sizeof text, "%0*llx", digits, number);
  return text;
}

std::string read_token(const std::string& path) {
  if (path.empty())
    return {};
  std::ifstream file{path};
  std::string token;
  if (!(file >> token))
    throw ctl_error(exit_status::usage, "--cluster-token-file " + path + ": cannot be read, or holds no token");
  return token;
}

// -- one node's snapshot ------------------------------------------------------

/// What a node said of the snapshot that it made.
struct described {
  std::string id;
  std::uint64_t size = 0;
  state_meta meta;
  backup_origin origin;
};

std::optional<described> read_description(const std::string& body) {
  auto answer = json::parse(body, nullptr, false);
  try {
    described d;
    d.id = answer.at("id").get<std::string>();
    d.size = answer.at("size").get<std::uint64_t>();
    d.meta.last_applied.value = answer.at("last_applied").get<std::uint64_t>();
    d.meta.last_applied_term.value = answer.at("last_applied_term").get<std::uint64_t>();
    d.meta.applied_time_ms = answer.at("applied_time_ms").get<std::int64_t>();
    d.meta.checksum = std::stoull(answer.at("checksum").get<std::string>(), nullptr, 16);
    d.origin.cluster_id = answer.at("cluster_id").get<std::string>();
    d.origin.node.value = answer.at("node_id").get<std::string>();
    for (auto& m : answer.at("members"))
      d.origin.members.members.push_back({{m.at("node_id").get<std::string>()},
                                          {},
                                          m.at("http_address").get<std::string>(),
                                          m.at("cluster_address").get<std::string>(),
                                          m.at("voter").get<bool>()});
    d.origin.version = COORDINATOR_VERSION;
    d.origin.saved_ms =
        std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    return d;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

/// A snapshot at one node, for as long as this object lives.
class remote_snapshot {
 public:
  /// Lets the node make it. Throws ctl_error.
  remote_snapshot(const endpoint& node, const std::string& token, bool stale)
      : node_(node), token_(token), connection_({node}, one_try(longest_silence)) {
    // A node that does not answer at all is not to be waited for as one that works.
    auto status = request("GET", "/api/status");
    require_ok(connection_.send(status), status);
    auto make = request("POST", stale ? "/api/snapshots?consistency=stale" : "/api/snapshots");
    make.answer_within = longest_making + longest_silence;
    make.election_wait = longest_making;
    client maker{{node}, one_try(longest_making + longest_silence)};
    auto made = maker.send(make);
    require_ok(made, make);
    auto read = read_description(made.body);
    if (!read)
      throw ctl_error(exit_status::failed, node.url() + " described its snapshot in a way that is not understood");
    what_ = std::move(*read);
  }
  ~remote_snapshot() {
    // Should this fail, the node forgets it by itself.
    connection_.send(request("DELETE", path()));
  }
  remote_snapshot(const remote_snapshot&) = delete;
  remote_snapshot& operator=(const remote_snapshot&) = delete;

  const described& what() const { return what_; }

  /// The bytes from `offset` on, as sound as they left the node. Throws ctl_error.
  std::string read(std::uint64_t offset) {
    auto get = request("GET", path() + "?offset=" + std::to_string(offset));
    client_reply reply;
    for (int i = 0; i < tries_a_piece; ++i) {
      reply = connection_.send(get);
      bool sound = reply.ok() && !reply.body.empty() && reply.body.size() <= what_.size - offset &&
                   reply.crc32c == hexadecimal(crc32c(reply.body), 8);
      if (sound)
        return std::move(reply.body);
      if (reply.status == 404)
        break;
    }
    require_ok(reply, get);
    throw ctl_error(exit_status::unavailable, node_.url() + ": a piece of the snapshot came damaged, again and again");
  }

 private:
  static client_options one_try(milliseconds time) {
    client_options options;
    options.retry = false;
    options.give_up_after = time;
    return options;
  }

  client_request request(const std::string& method, const std::string& path) const {
    client_request r;
    r.method = method;
    r.path = path;
    r.applied = once::by_nature;
    if (!token_.empty())
      r.headers["Authorization"] = "Bearer " + token_;
    return r;
  }
  std::string path() const { return "/api/snapshots/" + encode_component(what_.id); }

  static void require_ok(const client_reply& reply, const client_request& request) {
    if (!reply.ok())
      throw error_of(reply, request);
  }

  const endpoint node_;
  const std::string token_;
  client connection_;
  described what_;
};

// -- the file -----------------------------------------------------------------

/// The file while it is being written: removed unless it becomes the real one.
class partial_file {
 public:
  explicit partial_file(const std::string& file) : file_(file), path_(file + ".partial") {
    // What an earlier one left, its journal too: SQLite would play that into the new file.
    for (auto part : {"-wal", "-shm", "-journal", ""})
      snapshot_file::remove(path_ + part);
    open_ = snapshot_file::create(path_);
    // It holds all that the cluster does.
    std::filesystem::permissions(path_, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  }
  ~partial_file() {
    open_.reset();
    std::error_code ignored;
    if (done_)
      return;
    for (auto part : {"", "-wal", "-shm", "-journal"})
      std::filesystem::remove(path_ + part, ignored);
  }
  partial_file(const partial_file&) = delete;
  partial_file& operator=(const partial_file&) = delete;

  const std::string& path() const { return path_; }
  void write(std::uint64_t offset, const std::string& bytes) { open_->write(offset, bytes); }
  void close() {
    open_->sync();
    open_.reset();
  }
  void become_real() {
    auto parent = std::filesystem::absolute(file_).parent_path();
    real_files directory{parent.string()};
    directory.rename(std::filesystem::path{path_}.filename().string(),
                     std::filesystem::path{file_}.filename().string());
    done_ = true;
    directory.sync();
  }

 private:
  std::string file_, path_;
  std::unique_ptr<snapshot_file> open_;
  bool done_ = false;
};

void fetch(session& s, const endpoint& node, const std::string& token, const save_options& options) {
  remote_snapshot source{node, token, options.stale};
  auto& what = source.what();
  with_files([&] {
    partial_file target{options.file};
    {
      progress shown{s.err, s.terminal, "saving from " + node.url() + ", KiB"};
      for (std::uint64_t offset = 0; offset < what.size;) {
        auto bytes = source.read(offset);
        target.write(offset, bytes);
        offset += bytes.size();
        if (s.terminal)
          shown.show(static_cast<std::size_t>((offset + 1023) / 1024),
                     static_cast<std::size_t>((what.size + 1023) / 1024));
      }
    }
    target.close();
    seal_backup(target.path(), what.origin);
    if (inspect_backup(target.path()).meta != what.meta)
      throw ctl_error(exit_status::failed, node.url() + " gave another state than the one that it described");
    target.become_real();
  });
}

void require_target(const save_options& options) {
  std::error_code error;
  std::filesystem::path file{options.file};
  if (file.filename().empty() || std::filesystem::is_directory(file, error))
    throw ctl_error(exit_status::usage, options.file + ": name a file");
  if (!std::filesystem::is_directory(std::filesystem::absolute(file).parent_path(), error))
    throw ctl_error(exit_status::usage, options.file + ": its directory is not there");
  if (!options.replace && std::filesystem::exists(file, error))
    throw ctl_error(exit_status::usage, options.file + ": is there already; give another name, or --replace");
}

// -- telling ------------------------------------------------------------------

const char* name_of(std::uint8_t kind) {
  switch (static_cast<row_kind>(kind)) {
    case row_kind::settings:
      return "settings";
    case row_kind::key:
      return "keys";
    case row_kind::worker:
      return "workers";
    case row_kind::session:
      return "sessions";
    case row_kind::session_result:
      return "session_results";
    case row_kind::idempotency:
      return "idempotency_keys";
    case row_kind::task:
      return "tasks";
  }
  return nullptr;
}

json to_json(const std::string& file, const backup_contents& found) {
  json rows = json::object();
  for (auto& [kind, count] : found.rows) {
    auto name = name_of(kind);
    rows[name ? name : "kind_" + std::to_string(kind)] = count;
  }
  return {{"file", file},
          {"bytes", found.bytes},
          {"cluster_id", found.origin.cluster_id},
          {"node_id", found.origin.node.value},
          {"saved_ms", found.origin.saved_ms},
          {"version", found.origin.version},
          {"last_applied", found.meta.last_applied.value},
          {"last_applied_term", found.meta.last_applied_term.value},
          {"applied_time_ms", found.meta.applied_time_ms},
          {"checksum", hexadecimal(found.meta.checksum, 16)},
          {"sound", true},
          {"members", ctl::to_json(found.origin.members)},
          {"rows", std::move(rows)}};
}

void print(session& s, const std::string& file, const backup_contents& found) {
  auto all = to_json(file, found);
  if (s.as_json) {
    s.out << to_text(all, 2) << "\n";
    return;
  }
  std::string members, rows;
  for (auto& m : found.origin.members.members)
    members += (members.empty() ? "" : ", ") + m.id.value + (m.voter ? "" : " (learner)");
  for (auto& [name, count] : all["rows"].items())
    rows += (rows.empty() ? "" : ", ") + to_text(count) + " " + name;
  table lines{{"file", file}};
  lines.add({"size", std::to_string(found.bytes) + " bytes"});
  lines.add({"cluster", found.origin.cluster_id});
  lines.add({"members", members});
  lines.add({"saved", time_at(all, "saved_ms") + " UTC from node " + found.origin.node.value});
  lines.add({"as of", "entry " + text_at(all, "last_applied") + " of term " + text_at(all, "last_applied_term")});
  lines.add({"rows", rows});
  lines.add({"checksum", text_at(all, "checksum") + ", ok"});
  lines.print(s.out);
}

std::uint64_t random_number() {
  std::uint64_t number = 0;
  while (number == 0)
    if (::getrandom(&number, sizeof number, 0) != static_cast<ssize_t>(sizeof number))
      number = 0;
  return number;
}

/// As the coordinator's own --node-id has it.
bool is_node_id(const std::string& text) {
  constexpr auto letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  return !text.empty() && text.size() <= 64 && std::string_view{letters}.find(text[0]) != std::string_view::npos &&
         text.find_first_not_of(std::string{letters} + "._-") == std::string::npos;
}

}  // namespace

exit_status save_snapshot(session& s, const std::vector<endpoint>& nodes, const save_options& options) {
  require_target(options);
  auto token = read_token(options.token_file);
  std::optional<ctl_error> failure;
  for (auto& node : nodes) {
    try {
      fetch(s, node, token, options);
      failure.reset();
      break;
    } catch (const ctl_error& e) {
      // What another node may do better; a disk that is full here is full for all of them.
      if (e.status() != exit_status::unavailable && e.status() != exit_status::not_found)
        throw;
      s.err << "coordctl: " << node.url() << ": " << e.what() << "\n";
      failure = e;
    }
  }
  if (failure)
    throw ctl_error(exit_status::unavailable, "no node gave a snapshot");
  with_files([&] { print(s, options.file, inspect_backup(options.file)); });
  return exit_status::ok;
}

exit_status inspect_snapshot(session& s, const std::string& file) {
  with_files([&] { print(s, file, inspect_backup(file)); });
  return exit_status::ok;
}

exit_status restore_snapshot(session& s, const restore_options& options) {
  if (options.data_dir.empty())
    throw ctl_error(exit_status::usage, "--data-dir: give the path of a directory");
  node_id node;
  lone_member alone;
  with_files([&] {
    // Before anything is made: all of the file has to be good.
    auto found = inspect_backup(options.file);
    node.value = options.node_id.empty() ? found.origin.node.value : options.node_id;
    if (!is_node_id(node.value))
      throw ctl_error(exit_status::usage, "--node-id " + node.value +
                                              ": give up to 64 letters, digits, '.', '_' and '-', beginning with a "
                                              "letter or digit");
    auto before = found.origin.members.find(found.origin.node);
    alone = {random_id(), before ? before->http_address : "", before ? before->cluster_address : ""};
    if (!options.http_address.empty())
      alone.http_address = options.http_address;
    if (!options.cluster_address.empty())
      alone.cluster_address = options.cluster_address;
    require_address("--http-address", alone.http_address);
    require_address("--cluster-address", alone.cluster_address);
    data_directory directory{options.data_dir, node};
    if (directory.condition() == directory_condition::lost_disk)
      throw ctl_error(exit_status::conflict,
                      options.data_dir + ": holds files of a node already; choose an empty data directory");
    try {
      create_from_snapshot(directory.files(), node, {random_number()}, options.file, alone, random_number());
    } catch (const refused_error& e) {
      throw ctl_error(exit_status::conflict, e.what());
    }
    if (s.as_json)
      s.out << to_text(json{{"success", true},
                            {"node_id", node.value},
                            {"cluster_id", alone.cluster_id},
                            {"http_address", alone.http_address},
                            {"cluster_address", alone.cluster_address},
                            {"data_dir", options.data_dir},
                            {"last_applied", found.meta.last_applied.value}},
                       2)
            << "\n";
    else
      s.out << "node " << node.value << " is the only member of the new cluster " << alone.cluster_id
            << ", as of entry " << found.meta.last_applied.value << "; start it by\n  coordinator --node-id "
            << node.value << " --data-dir " << for_terminal(options.data_dir) << "\n";
  });
  return exit_status::ok;
}

}  // namespace coordinator::ctl
