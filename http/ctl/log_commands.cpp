#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "http/command_json.hpp"
#include "http/ctl/commands.hpp"
#include "http/ctl/stopped_node.hpp"
#include "http/ctl/table.hpp"

namespace coordinator::ctl {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::size_t command_width = 160;

ordered_json summary(log_inspector& log) {
  auto& contents = log.contents();
  ordered_json out;
  out["node_id"] = contents.node.value;
  out["cluster_id"] = contents.founded ? ordered_json(contents.founded->cluster_id) : ordered_json{};
  out["term"] = contents.state.current_term.value;
  out["voted_for"] = contents.state.voted_for ? ordered_json(contents.state.voted_for->value) : ordered_json{};
  out["first_log_index"] = contents.first_index.value;
  out["last_log_index"] = contents.last_index.value;
  out["last_log_term"] = last_term(log).value;
  out["snapshot_index"] = contents.base.index.value;
  out["snapshot_term"] = contents.base.term.value;
  out["state_file"] = contents.state_file;
  out["members"] = to_json(last_members(log));
  return out;
}

std::string dumped(const ordered_json& value, int indent = -1) {
  return value.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

ordered_json entry_json(const log_entry& entry) {
  ordered_json one;
  one["index"] = entry.index.value;
  one["term"] = entry.term.value;
  one["time_ms"] = entry.time_ms;
  one["command"] = command_to_json(entry);
  return one;
}

struct range {
  log_index from, to;
};

range range_of(const dump_options& options, const raft_contents& contents) {
  range r{std::max(log_index{options.from}, contents.first_index), contents.last_index};
  if (options.to != 0)
    r.to = std::min(log_index{options.to}, r.to);
  if (options.limit != 0 && r.to >= r.from)
    r.to = std::min(r.to, r.from + (options.limit - 1));
  return r;
}

/// One entry a line, so that a large log is neither held in memory nor hard to search.
void print_json(session& s, log_inspector& log, const range& r, std::size_t& damaged) {
  auto head = dumped(summary(log));
  head.pop_back();
  s.out << head << ",\"entries\":[";
  const char* separator = "\n";
  auto line = [&](const ordered_json& value) {
    s.out << separator << dumped(value);
    separator = ",\n";
  };
  log.each(
      r.from, r.to, [&](const log_entry& entry) { line(entry_json(entry)); },
      [&](const log_damage& damage) {
        ++damaged;
        line({{"index", damage.index.value}, {"damage", damage.what}});
      });
  s.out << "\n]}\n";
}

void print_table(session& s, log_inspector& log, const range& r, std::size_t& damaged) {
  auto& contents = log.contents();
  s.out << "node " << for_terminal(contents.node.value) << ", cluster "
        << (contents.founded ? contents.founded->cluster_id : "none") << ", term " << contents.state.current_term.value
        << ", entries " << contents.first_index.value << " to " << contents.last_index.value << ", state in "
        << for_terminal(contents.state_file) << "\n";
  table rows{{"INDEX", "TERM", "TIME", "TYPE", "COMMAND"}};
  log.each(
      r.from, r.to,
      [&](const log_entry& entry) {
        auto command = command_to_json(entry);
        auto type = command.value("type", "");
        command.erase("type");
        rows.add({std::to_string(entry.index.value), std::to_string(entry.term.value),
                  time_at({{"time_ms", entry.time_ms}}, "time_ms"), type,
                  for_terminal(dumped(command), command_width)});
      },
      [&](const log_damage& damage) {
        ++damaged;
        rows.add({std::to_string(damage.index.value), "", "", "DAMAGED", damage.what});
      });
  rows.print(s.out);
  if (r.to < contents.last_index && r.from <= r.to)
    s.err << "coordctl: entries after " << r.to.value << " are not shown; --from " << r.to.value + 1
          << " goes on there\n";
}

struct problem_found {
  std::string file;
  std::uint64_t index = 0;  ///< Of a row of the log; 0: none in particular.
  std::string what;
};

void check_log(data_directory& directory, ordered_json& out, std::string& state_file, log_index& base,
               std::vector<problem_found>& problems) {
  try {
    log_inspector log{directory.raft_path()};
    for (auto& damage : log.verify())
      problems.push_back({"raft.db", damage.index.value, damage.what});
    out = summary(log);
    state_file = log.contents().state_file;
    base = log.contents().base.index;
  } catch (const database_error& e) {
    problems.push_back({"raft.db", 0, e.what()});
  } catch (const refused_error& e) {
    problems.push_back({"raft.db", 0, e.what()});
  }
}

}  // namespace

exit_status dump_log(session& s, const dump_options& options) {
  if (options.to != 0 && options.to < options.from)
    throw ctl_error(exit_status::usage, "--to " + std::to_string(options.to) + ": is before --from");
  auto directory = hold_stopped_node(options.data_dir);
  std::size_t damaged = 0;
  with_files([&] {
    log_inspector log{directory->raft_path()};
    for (auto& problem : log.problems()) {
      ++damaged;
      s.err << "coordctl: damaged: " << for_terminal(problem.what) << "\n";
    }
    auto r = range_of(options, log.contents());
    if (s.as_json)
      print_json(s, log, r, damaged);
    else
      print_table(s, log, r, damaged);
  });
  return damaged == 0 ? exit_status::ok : exit_status::failed;
}

exit_status verify_files(session& s, const std::string& data_dir) {
  auto directory = hold_stopped_node(data_dir);
  std::vector<problem_found> problems;
  ordered_json out = ordered_json::object();
  std::string state_file;
  log_index base;
  check_log(*directory, out, state_file, base, problems);
  if (!state_file.empty()) {
    auto state = check_state(*directory, state_file);
    // From a log that reaches back to its beginning the state is made anew.
    if (!state.problem.empty() && !(state.missing && base == log_index{}))
      problems.push_back({state_file, 0, state.problem});
    else if (!state.missing && state.meta.last_applied < base)
      problems.push_back({state_file, 0,
                          state_file + ": ends at entry " + std::to_string(state.meta.last_applied.value) +
                              ", and the log begins after entry " + std::to_string(base.value)});
    if (!state.missing)
      out["last_applied"] = state.meta.last_applied.value;
  }
  out["sound"] = problems.empty();
  out["problems"] = ordered_json::array();
  for (auto& problem : problems)
    out["problems"].push_back({{"file", problem.file}, {"index", problem.index}, {"what", problem.what}});
  if (s.as_json) {
    s.out << dumped(out, 2) << "\n";
  } else {
    for (auto& problem : problems)
      s.out << "damaged: " << for_terminal(problem.what) << "\n";
    if (problems.empty())
      s.out << "sound: node " << for_terminal(text_at(json(out), "node_id")) << ", entries "
            << out["first_log_index"].get<std::uint64_t>() << " to " << out["last_log_index"].get<std::uint64_t>()
            << " of the log, the last of term " << out["last_log_term"].get<std::uint64_t>() << "; "
            << for_terminal(state_file)
            << (out.contains("last_applied")
                    ? " as of entry " + std::to_string(out["last_applied"].get<std::uint64_t>())
                    : std::string{" not there yet"})
            << "\n";
  }
  return problems.empty() ? exit_status::ok : exit_status::failed;
}

}  // namespace coordinator::ctl
