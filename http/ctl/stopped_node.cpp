#include "http/ctl/stopped_node.hpp"

#include <sqlite3.h>

#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "persistence/codec.hpp"
#include "persistence/state_tables.hpp"
#include "persistence/verify.hpp"

namespace coordinator::ctl {

using nlohmann::json;

std::unique_ptr<data_directory> hold_stopped_node(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error))
    throw ctl_error(exit_status::usage, path + ": is not a directory; name a node's data directory");
  // Nothing is locked, and so no lock file made, in a directory that is none of a node's.
  if (!std::filesystem::exists(std::filesystem::path{path} / "raft.db", error))
    throw ctl_error(exit_status::usage, path + ": holds no raft.db; name a node's data directory");
  try {
    return std::make_unique<data_directory>(path, std::nullopt);
  } catch (const data_directory_error& e) {
    throw ctl_error(exit_status::conflict, e.what());
  }
}

void with_files(const std::function<void()>& work) {
  try {
    work();
  } catch (const refused_error& e) {
    throw ctl_error(exit_status::usage, e.what());
  } catch (const damaged_error& e) {
    throw ctl_error(exit_status::usage, std::string{"damaged: "} + e.what());
  } catch (const data_directory_error& e) {
    throw ctl_error(exit_status::conflict, e.what());
  } catch (const database_error& e) {
    throw ctl_error((e.code() & 0xff) == SQLITE_CANTOPEN ? exit_status::usage : exit_status::failed, e.what());
  }
}

membership last_members(log_inspector& log) {
  auto& contents = log.contents();
  auto members = contents.base.members;
  log.each(
      contents.first_index, contents.last_index,
      [&](const log_entry& entry) {
        genesis founded;
        membership later;
        if (entry.kind == entry_kind::genesis && from_bytes(entry.payload, founded))
          members = std::move(founded.founders);
        else if (entry.kind == entry_kind::membership && from_bytes(entry.payload, later))
          members = std::move(later);
      },
      [](const log_damage&) {});
  return members;
}

term_number last_term(log_inspector& log) {
  auto& contents = log.contents();
  auto term = contents.base.term;
  log.each(
      contents.last_index, contents.last_index, [&](const log_entry& entry) { term = entry.term; },
      [](const log_damage&) {});
  return term;
}

state_check check_state(data_directory& directory, const std::string& name) {
  state_check found;
  auto path = directory.files().path(name);
  if (!directory.files().has(name)) {
    found.missing = true;
    found.problem = path + ": is missing";
    return found;
  }
  try {
    std::atomic<bool> never{false};
    auto problem = quick_check(path, {}, never);
    if (!problem)
      problem = full_check_state(path, {}, never);
    if (problem)
      found.problem = *problem;
    database db{path, {.read_only = true}};
    statement query{db, state_tables::select_meta};
    found.meta = state_tables::read_meta(db, query).meta;
  } catch (const std::runtime_error& e) {
    found.problem = e.what();
  }
  return found;
}

json to_json(const membership& members) {
  auto list = json::array();
  for (auto& m : members.members)
    list.push_back({{"node_id", m.id.value},
                    {"http_address", m.http_address},
                    {"cluster_address", m.cluster_address},
                    {"voter", m.voter}});
  return list;
}

void require_address(const std::string& option, const std::string& address) {
  try {
    auto nodes = parse_endpoints(address);
    auto colon = address.rfind(':');
    bool has_port =
        colon != std::string::npos && address.find_first_not_of("0123456789", colon + 1) == std::string::npos;
    if (nodes.size() == 1 && has_port && address.find('/') == std::string::npos)
      return;
  } catch (const std::invalid_argument&) {
  }
  throw ctl_error(exit_status::usage, option + " " + address + ": give HOST:PORT");
}

}  // namespace coordinator::ctl
