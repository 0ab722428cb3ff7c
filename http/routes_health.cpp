#include <dirent.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "http/api.hpp"
#include "http/render.hpp"
#include "http/wait.hpp"

namespace coordinator {
namespace {

using json = nlohmann::ordered_json;

struct check {
  std::string name;
  bool ok;
  std::string why;  ///< When it is not.
};

/// The plain text of /livez and /readyz: "ok", or under ?verbose and on failure a line a check.
http_response report(const routed_request& r, const std::vector<check>& checks) {
  http_response response;
  response.content_type = "text/plain; charset=utf-8";
  std::string lines;
  for (auto& c : checks) {
    lines += (c.ok ? "[+]" : "[-]") + c.name + (c.ok ? " ok" : " failed: " + c.why) + "\n";
    if (!c.ok)
      response.status = 503;
  }
  if (response.status == 503)
    response.set("Retry-After", "1");
  response.body = r.parameter("verbose") || response.status != 200 ? lines : "ok\n";
  return response;
}

/// A probe does not wait: an actor that works answers in microseconds, and one that has not for this long hangs.
constexpr std::chrono::milliseconds probe_patience{1'000};

/// How far applying may be behind what this node knows to be committed, in entries, before reads here would wait long.
constexpr std::uint64_t longest_lag = 10'000;

std::uint64_t apply_lag(const node_view& node) {
  return node.raft.commit_index > node.last_applied ? node.raft.commit_index - node.last_applied : 0;
}

/// Why a node that hears its leader has still to catch up with it; empty if it has not.
std::string why_behind(const node_view& node) {
  auto& raft = node.raft;
  if (raft.snapshot_size > 0)
    return "receives the state of the leader, " + std::to_string(raft.snapshot_offset) + " of " +
           std::to_string(raft.snapshot_size) + " bytes";
  if (auto lag = apply_lag(node); lag > longest_lag)
    return std::to_string(lag) + " committed entries are still to be applied";
  return {};
}

std::vector<check> live_checks(const std::optional<node_view>& node) {
  return {{"actors", node.has_value(), "the node did not answer"}};
}

std::vector<check> ready_checks(const std::optional<node_view>& node) {
  auto checks = live_checks(node);
  if (!node)
    return checks;
  auto& raft = node->raft;
  bool formed = raft.role != node_role::unformed;
  checks.push_back({"formed", formed, raft.waiting_for.empty() ? "no cluster yet" : raft.waiting_for});
  checks.push_back({"disk", raft.writable, raft.disk_error});
  checks.push_back({"state", raft.state_error.empty(), raft.state_error});
  auto silent = raft.leader.empty() ? std::string{"no leader is known"}
                                    : "leader " + raft.leader.value + " has not been heard for " +
                                          std::to_string(std::max<std::int64_t>(raft.leader_contact_ms, 0)) + " ms";
  checks.push_back({"leader", hears_leader(raft), std::move(silent)});
  auto behind = why_behind(*node);
  checks.push_back({"caught_up", behind.empty(), behind});
  return checks;
}

json db_health(const node_view& node) {
  json out;
  out["healthy"] = node.raft.writable && node.raft.state_error.empty();
  out["last_applied"] = node.last_applied.value;
  out["verifying"] = node.verifying;
  if (!node.raft.writable)
    out["error"] = node.raft.disk_error;
  if (!node.raft.state_error.empty())
    out["state_error"] = node.raft.state_error;
  add_incoming_snapshot(out, node.raft);
  return out;
}

json log_health(const node_view& node) {
  auto& raft = node.raft;
  json out;
  out["healthy"] = raft.writable;
  out["first_log_index"] = raft.first_log_index.value;
  out["last_log_index"] = raft.last_log_index.value;
  out["commit_index"] = raft.commit_index.value;
  out["snapshot_index"] = raft.snapshot_index.value;
  out["apply_lag"] = apply_lag(node);
  if (!raft.writable)
    out["error"] = raft.disk_error;
  return out;
}

json resources_health(const std::string& data_dir) {
  json out;
  bool healthy = true;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  std::uint64_t open = 0;
  if (auto* directory = ::opendir("/proc/self/fd")) {
    while (::readdir(directory))
      ++open;
    ::closedir(directory);
  }
  // The two names of the directory itself, and the descriptor that reads it.
  open = open > 3 ? open - 3 : 0;
  healthy = open < files.rlim_cur * 9 / 10;
  out["healthy"] = healthy;
  out["open_files"] = open;
  out["open_files_limit"] = files.rlim_cur;
  std::ifstream statm{"/proc/self/statm"};
  std::uint64_t pages = 0;
  std::uint64_t resident = 0;
  if (statm >> pages >> resident)
    out["memory_bytes"] = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  struct statvfs disk {};
  if (!data_dir.empty() && ::statvfs(data_dir.c_str(), &disk) == 0) {
    auto free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
    constexpr std::uint64_t least_free = 64 << 20;
    out["disk_free_bytes"] = free;
    out["healthy"] = healthy && free >= least_free;
  }
  return out;
}

json operations_health(const node_view& node) {
  json out;
  out["healthy"] = hears_leader(node.raft);
  out["role"] = to_string(node.raft.role);
  out["leader"] = node.raft.leader.empty() ? json{} : json(node.raft.leader.value);
  out["leader_contact_ms"] = node.raft.leader_contact_ms >= 0 ? json(node.raft.leader_contact_ms) : json{};
  out["maintenance"] = node.maintenance;
  out["storage_full"] = node.storage_full;
  out["verifying"] = node.verifying;
  if (!node.raft.waiting_for.empty())
    out["waiting_for"] = node.raft.waiting_for;
  if (!node.raft.writable)
    out["disk_error"] = node.raft.disk_error;
  if (!node.raft.state_error.empty())
    out["state_error"] = node.raft.state_error;
  add_incoming_snapshot(out, node.raft);
  return out;
}

}  // namespace

http_response api::get_livez(const routed_request& r) {
  return report(r, live_checks(view(probe_patience)));
}

http_response api::get_readyz(const routed_request& r) {
  return report(r, ready_checks(view(probe_patience)));
}

http_response api::get_health(const routed_request&) {
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", {}));
  json checks;
  checks["db"] = db_health(*node);
  checks["log"] = log_health(*node);
  checks["resources"] = resources_health(options_.data_dir);
  checks["operations"] = operations_health(*node);
  bool healthy = true;
  for (auto& part : checks)
    healthy = healthy && part["healthy"].get<bool>();
  return ok({{"healthy", healthy}, {"checks", checks}});
}

http_response api::get_health_part(const routed_request& r) {
  auto node = view();
  if (!node)
    return to_response(unavailable("timeout", {}));
  auto part = r.http.path.substr(r.http.path.rfind('/') + 1);
  if (part == "db")
    return ok(db_health(*node));
  if (part == "log")
    return ok(log_health(*node));
  if (part == "resources")
    return ok(resources_health(options_.data_dir));
  return ok(operations_health(*node));
}

http_response api::get_state_checksum(const routed_request& r) {
  std::optional<problem> failure;
  auto timeout = request_timeout(r, failure);
  auto at = number_parameter(r, "at", 0, 1, INT64_MAX, failure);
  if (failure)
    return to_response(*failure);
  auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    // Of this node's own state, without asking a leader: checksums are there to compare nodes.
    read_request request{get_checksum{static_cast<std::uint64_t>(at)}, false, timeout, -1};
    auto result = wait_for<read_result>([&](auto done) { port_.read(std::move(request), std::move(done)); },
                                        timeout + reply_margin, r.http.client);
    auto error = result && result->ok ? std::get_if<query_error>(&result->result) : nullptr;
    bool early = error && error->code == query_error::kind::not_ready;
    if (early && std::chrono::steady_clock::now() < deadline && !(r.http.client && r.http.client->stopping())) {
      // Entries come with others' writes; nothing would tell this thread of them.
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
      continue;
    }
    auto wrong = why_not_read(result, "index");
    if (wrong)
      return to_response(*wrong);
    auto& found = std::get<checksum_view>(result->result);
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(found.checksum));
    auto response = ok({{"applied_index", found.applied_index}, {"checksum", digits}});
    add_read_headers(response, *result, false);
    return response;
  }
}

}  // namespace coordinator
