#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "http/ctl/session.hpp"

namespace coordinator::ctl {

// The commands of coordctl, each with what its options gave. They write their answer to `session::out`, progress and
// remarks to `session::err`, and throw ctl_error where they cannot do what was asked.

// -- cluster ------------------------------------------------------------------

/// Asks each node that --coordinator names for its own view. Unavailable only if none of them answers.
exit_status show_status(session& s, const std::vector<endpoint>& nodes);
/// Asks each of them whether it is ready to serve, and why not. Failed if one is not.
exit_status show_health(session& s, const std::vector<endpoint>& nodes);
exit_status show_cluster(session& s);
/// An empty `to` leaves the choice to the leader.
exit_status transfer_leadership(session& s, const std::string& to);

struct monitor_options {
  std::chrono::milliseconds interval{2000};
  bool once = false;
  bool in_place = false;  ///< Write each picture over the one before: `out` is a terminal.
};
/// Nodes, links, queue and workers as the node sees them that answers, again and again until SIGINT or SIGTERM. Goes on
/// when no node answers, unless it is asked for one picture only.
exit_status monitor(session& s, const monitor_options& options);

/// Each answers once the change is committed, and tells who the members are then.
exit_status add_member(session& s, const std::string& node);
exit_status promote_member(session& s, const std::string& node);
/// `force`: also where the cluster is left without a quorum; what that means goes to `session::err`.
exit_status remove_member(session& s, const std::string& node, bool force);

/// In which order to restart the nodes, so that writers notice nothing.
exit_status show_restart_plan(session& s);

// -- tasks --------------------------------------------------------------------

struct submit_options {
  std::string file;  ///< JSON, or JSON lines; `-` is stdin; empty: the one task below.
  std::vector<std::string> command;
  std::string task_id, run_id, type, cwd;
  std::int64_t priority = 0;
  std::int64_t timeout_ms = 0;    ///< 0: none.
  std::int64_t max_attempts = 0;  ///< 0: the cluster's default.
  std::vector<std::string> requires_capabilities;
  std::vector<std::string> depends_on;
  std::vector<std::string> env;  ///< NAME=VALUE
  bool wait = false;
};
exit_status submit(session& s, const submit_options& options);

struct list_options {
  std::string status, worker_id, run_id, type;
  std::size_t limit = 100;  ///< 0: all.
};
exit_status list_tasks(session& s, const list_options& options);
exit_status show_task(session& s, const std::string& id);
exit_status cancel_tasks(session& s, const std::vector<std::string>& ids);

struct wait_options {
  std::vector<std::string> ids;
  std::vector<std::string> run_ids;
  std::chrono::seconds timeout{0};  ///< 0: none.
  int until_percent = 100;          ///< Of the runs' tasks; below 100 nothing is said of how they ended.
};
exit_status wait_for_tasks(session& s, const wait_options& options);

// -- workers ------------------------------------------------------------------

exit_status list_workers(session& s);
exit_status drain_worker(session& s, const std::string& id);

// -- shared keys --------------------------------------------------------------

struct kv_condition {
  std::string if_match;  ///< A version; empty: no condition.
  bool if_absent = false;
};
exit_status get_key(session& s, const std::string& key);
/// `value` is the value itself, `@FILE`, or `-` for stdin.
exit_status put_key(session& s, const std::string& key, const std::string& value, const kv_condition& condition);
exit_status delete_key(session& s, const std::string& key, const kv_condition& condition);
exit_status list_keys(session& s, const std::string& prefix);

// -- runs ---------------------------------------------------------------------

struct doctest_options {
  std::string program;
  std::vector<std::string> arguments;  ///< Passed on to the program, after the filter.
  std::string filter;                  ///< doctest's --test-case; empty: all.
  std::string run_id;                  ///< Empty: made.
  std::int64_t priority = 0;
  std::int64_t timeout_ms = 600'000;
  std::int64_t max_attempts = 3;
  std::vector<std::string> requires_capabilities;
  bool wait = true;
};
exit_status run_doctest(session& s, const doctest_options& options);

// -- evidence -----------------------------------------------------------------

struct probe_options {
  std::string key = "coordctl/probe";
  std::chrono::milliseconds interval{10};
  std::chrono::seconds time{0};  ///< 0: until SIGINT or SIGTERM.
};
/// Writes one key over and over and tells the longest gap between two accepted writes.
exit_status probe_writes(session& s, const probe_options& options);

struct audit_options {
  std::string submitted;  ///< A file with one task id a line.
  std::vector<std::string> journals;
};
/// Failed if anything was lost or run twice.
exit_status audit_submitted(session& s, const audit_options& options);

// -- snapshots ----------------------------------------------------------------

struct save_options {
  std::string file;
  std::string token_file;  ///< With the cluster token; empty: none is sent.
  bool replace = false;    ///< An older file of that name.
  bool stale = false;      ///< Also from a node that hears no leader: what it has applied.
};
/// Fetches a copy of the state from the first of the nodes that gives one, while all of them go on working, and
/// verifies it. Unless `stale`, it holds every write that was acknowledged before. `file` is there whole or not at all.
exit_status save_snapshot(session& s, const std::vector<endpoint>& nodes, const save_options& options);
/// Reads all of a file that `save_snapshot` made, and tells what it holds.
exit_status inspect_snapshot(session& s, const std::string& file);

struct restore_options {
  std::string file;
  std::string data_dir;  ///< Empty, or not there yet.
  /// Empty: as those of the node that the file was saved from.
  std::string node_id, http_address, cluster_address;
};
/// Makes the data directory of a new cluster of one node, with a new cluster id.
exit_status restore_snapshot(session& s, const restore_options& options);

// -- a stopped node's files ---------------------------------------------------

struct force_options {
  std::string data_dir;
  std::string http_address, cluster_address;  ///< Empty: as they were.
  bool accepted = false;                      ///< That writes may be lost; else it is asked for.
  std::istream* answers = nullptr;            ///< Where a person at a terminal confirms; null: there is none.
};
/// Makes a stopped node a cluster of its own, with a new cluster id. Tells what can be lost and asks before it changes
/// anything.
exit_status force_new_cluster(session& s, const force_options& options);

struct dump_options {
  std::string data_dir;
  std::uint64_t from = 0;   ///< 0: the first entry.
  std::uint64_t to = 0;     ///< 0: the last one.
  std::size_t limit = 100;  ///< 0: all.
};
/// Prints the log of a stopped node, damaged entries as what is wrong with them; failed if there were any.
exit_status dump_log(session& s, const dump_options& options);
/// Reads through raft.db and the state's file of a stopped node; failed if anything is wrong.
exit_status verify_files(session& s, const std::string& data_dir);

// -- shared by the commands ---------------------------------------------------

/// Submits in as few requests as the contract's limits allow and returns the ids, in order. Each request is applied
/// all or none.
std::vector<std::string> submit_all(session& s, std::vector<nlohmann::json> tasks);

/// Waits until `until_percent` of the tasks of these runs have ended. False if `timeout` came first.
bool wait_for_runs(session& s, const wait_options& options);

/// All tasks of a run as lists show them: without `attempts`, and with results without `output`.
std::vector<nlohmann::json> tasks_of_run(session& s, const std::string& run_id);

/// One task with everything.
nlohmann::json whole_task(session& s, const std::string& id);

/// `passed`, `failed`, `error`, `timeout` or `cancelled` for a task that has ended, else its status. A task that the
/// cluster gave up is an `error`.
std::string verdict_of(const nlohmann::json& task);

/// Prints how a list of ended tasks went, with the output of those that did not pass, which is fetched where the list
/// does not have it. Ok if all passed.
exit_status print_verdicts(session& s, const std::vector<nlohmann::json>& tasks);

}  // namespace coordinator::ctl
