#include <unistd.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>

#include "http/ctl/commands.hpp"
#include "http/ctl/recover_command.hpp"

namespace {

using namespace coordinator;
using namespace coordinator::ctl;

constexpr const char* description =
    "Talks to a coordinator cluster: any node will do, and the next one is tried when one does not answer.";

constexpr const char* footer =
    "Exit status: 0 done; 1 what was asked for failed (a test did not pass, a request was refused); 2 wrong usage;\n"
    "3 not found; 4 unavailable (no node answers, no quorum, or time ran out); 5 conflict with the present state.";

/// What the command line says, and the command to run with it.
struct command_line {
  std::string coordinators = "http://127.0.0.1:8080";
  std::string output = "table";
  int patience_s = 15;
  std::function<exit_status(session&, const std::vector<endpoint>&)> run;

  std::string name, value;
  monitor_options monitor;
  int monitor_interval_s = 2;
  submit_options submit;
  list_options list;
  std::vector<std::string> ids;
  wait_options wait;
  std::int64_t wait_timeout_s = 0;
  kv_condition condition;
  doctest_options doctest;
  bool no_wait = false;
  bool remove_by_force = false;
  probe_options probe;
  std::int64_t probe_interval_ms = 10, probe_time_s = 0;
  audit_options audit;
  save_options save;
  restore_options restore;
  force_options force;
  dump_options dump;
  recover_options recover;
  bool recover_for_good = false;
};

/// Makes `body` what is run when `app` is the subcommand given.
template <class Body>
void on(CLI::App* app, command_line& line, Body body) {
  app->callback([&line, body] { line.run = [body](session& s, const auto&) { return body(s); }; });
}

CLI::Option* add_data_dir(CLI::App* app, std::string& to) {
  return app->add_option("--data-dir", to, "The node's data directory")->required();
}

void add_force_command(CLI::App& cluster, command_line& line) {
  auto& o = line.force;
  auto force = cluster.add_subcommand(
      "force-new", "Make a stopped node a cluster of its own, when the majority of its cluster is lost for good");
  force->footer(
      "Works on the files of a stopped node, and needs no cluster. The node keeps its state and its log, gets a new\n"
      "cluster id, and is the only member. Writes that the lost nodes acknowledged and this one never received are\n"
      "lost, and it cannot be undone: keep a copy of the directory. What can be lost is said first, and has to be\n"
      "confirmed by typing the node's id; without a terminal by --yes-i-accept-losing-writes.");
  add_data_dir(force, o.data_dir);
  force->add_option("--http-address", o.http_address, "HOST:PORT that clients use (default: as before)");
  force->add_option("--cluster-address", o.cluster_address, "HOST:PORT that nodes use (default: as before)");
  force->add_flag("--yes-i-accept-losing-writes", o.accepted, "Do not ask");
  on(force, line, [&o](session& s) {
    if (::isatty(STDIN_FILENO) == 1)
      o.answers = &std::cin;
    return force_new_cluster(s, o);
  });
}

void add_cluster_commands(CLI::App& app, command_line& line) {
  auto status = app.add_subcommand("status", "How each node given by --coordinator sees itself");
  status->callback([&line] { line.run = [](session& s, const auto& nodes) { return show_status(s, nodes); }; });

  auto cluster = app.add_subcommand("cluster", "The leader's view of all members");
  cluster->require_subcommand(0, 1);
  auto show = cluster->add_subcommand("show", "The same");
  auto transfer = cluster->add_subcommand("transfer", "Hand leadership to another node");
  transfer->add_option("NODE", line.name, "The node to lead; without it the leader chooses");
  auto add = cluster->add_subcommand("add", "Let a node join: one with an empty disk, also in place of its lost one");
  add->add_option("NODE", line.name, "Its --node-id; it runs, and its --peers name nodes of this cluster")->required();
  auto promote = cluster->add_subcommand("promote", "Make a learner that has caught up a voter");
  promote->add_option("NODE", line.name, "The learner")->required();
  auto remove = cluster->add_subcommand("remove", "Take a node out of the cluster for good; its process ends");
  remove->add_option("NODE", line.name, "The node; it need not run")->required();
  remove->add_flag("--force", line.remove_by_force,
                   "Even if too few of the voters left can be reached: then no write commits until they are back");
  auto plan = cluster->add_subcommand("restart-plan", "The order in which to restart the nodes without a pause");
  on(add, line, [&line](session& s) { return add_member(s, line.name); });
  on(promote, line, [&line](session& s) { return promote_member(s, line.name); });
  on(remove, line, [&line](session& s) { return remove_member(s, line.name, line.remove_by_force); });
  on(plan, line, [](session& s) { return show_restart_plan(s); });
  on(cluster, line, [](session& s) { return show_cluster(s); });
  on(show, line, [](session& s) { return show_cluster(s); });
  on(transfer, line, [&line](session& s) { return transfer_leadership(s, line.name); });
  // The parent's callback comes after the child's and would replace it.
  cluster->callback([cluster, &line] {
    if (cluster->get_subcommands().empty())
      line.run = [](session& s, const auto&) { return show_cluster(s); };
  });

  add_force_command(*cluster, line);

  auto health = app.add_subcommand("health", "Whether each node given by --coordinator is ready to serve, or why not");
  health->callback([&line] { line.run = [](session& s, const auto& nodes) { return show_health(s, nodes); }; });
  auto watch = app.add_subcommand("monitor", "Nodes, links, queue and workers as one table, again and again");
  watch->add_flag("--once", line.monitor.once, "Only once");
  watch->add_option("--interval", line.monitor_interval_s, "Seconds from one look to the next")
      ->capture_default_str()
      ->check(CLI::Range(1, 3600));
  on(watch, line, [&line](session& s) {
    line.monitor.interval = std::chrono::seconds{line.monitor_interval_s};
    line.monitor.in_place = ::isatty(STDOUT_FILENO) == 1;
    return monitor(s, line.monitor);
  });

  auto worker = app.add_subcommand("worker", "Workers");
  worker->require_subcommand(1);
  on(worker->add_subcommand("list", "All workers"), line, [](session& s) { return list_workers(s); });
  auto drain = worker->add_subcommand("drain", "Let a worker finish what it has and get no more");
  drain->add_option("ID", line.name, "The worker")->required();
  on(drain, line, [&line](session& s) { return drain_worker(s, line.name); });
}

void add_submit(CLI::App& task, command_line& line) {
  auto& o = line.submit;
  auto submit_app = task.add_subcommand("submit", "Submit one task (-- COMMAND…), or many (--file); prints their ids");
  submit_app->add_option("COMMAND", o.command, "The command and its arguments, after --");
  submit_app->add_option("--file", o.file,
                         "Tasks as a JSON array, {\"tasks\":[…]}, one object, or JSON lines; - is stdin");
  submit_app->add_option("--run-id", o.run_id, "The run it belongs to (with --file: where a task names none)");
  submit_app->add_option("--task-id", o.task_id, "Its id (default: made by the cluster)");
  submit_app->add_option("--type", o.type, "A word to find it by");
  submit_app->add_option("--cwd", o.cwd, "Where it runs at the worker");
  submit_app->add_option("--priority", o.priority, "Higher goes first")->capture_default_str();
  submit_app->add_option("--timeout-ms", o.timeout_ms, "Kill it after this long (default: never)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{31'622'400'000}));
  submit_app->add_option("--max-attempts", o.max_attempts, "How often it is tried when a worker fails (default: 3)")
      ->check(CLI::Range(1, 1000));
  submit_app->add_option("--requires", o.requires_capabilities, "Capabilities a worker must have: a,b,…")
      ->delimiter(',');
  submit_app->add_option("--depends-on", o.depends_on, "Tasks that must complete first: id,id,…")->delimiter(',');
  submit_app->add_option("--env", o.env, "NAME=VALUE for its environment; may be given again")->take_all()->expected(1);
  submit_app->add_flag("--wait", o.wait, "Wait for it and tell how it went, as `task wait` does");
  on(submit_app, line, [&o](session& s) { return submit(s, o); });
}

void add_task_commands(CLI::App& app, command_line& line) {
  auto task = app.add_subcommand("task", "Tasks");
  task->require_subcommand(1);
  add_submit(*task, line);

  auto list = task->add_subcommand("list", "Tasks in the order of submission");
  list->add_option("--status", line.list.status, "Only these")
      ->check(CLI::IsMember({"pending", "blocked", "assigned", "running", "completed", "failed", "cancelled"}));
  list->add_option("--worker-id", line.list.worker_id, "Only what this worker has or had last");
  list->add_option("--run-id", line.list.run_id, "Only this run's");
  list->add_option("--type", line.list.type, "Only of this type");
  list->add_option("--limit", line.list.limit, "At most so many; 0 is all")->capture_default_str();
  on(list, line, [&line](session& s) { return list_tasks(s, line.list); });

  auto show = task->add_subcommand("show", "One task with its attempts and its result");
  show->add_option("ID", line.name, "The task")->required();
  on(show, line, [&line](session& s) { return show_task(s, line.name); });

  auto cancel = task->add_subcommand("cancel", "Cancel tasks; running ones are stopped");
  cancel->add_option("ID", line.ids, "The tasks")->required();
  on(cancel, line, [&line](session& s) { return cancel_tasks(s, line.ids); });

  auto wait =
      task->add_subcommand("wait", "Wait until tasks, or all tasks of runs, have ended; fails unless all passed");
  wait->add_option("ID", line.wait.ids, "The tasks");
  wait->add_option("--run-id", line.wait.run_ids, "The run; may be given again")->take_all()->expected(1);
  wait->add_option("--timeout", line.wait_timeout_s, "Give up after so many seconds (default: never)")
      ->check(CLI::Range(1, 31'622'400));
  wait->add_option("--until-percent", line.wait.until_percent,
                   "With --run-id: until so much has ended, however it ended")
      ->check(CLI::Range(1, 100));
  on(wait, line, [&line](session& s) {
    line.wait.timeout = std::chrono::seconds{line.wait_timeout_s};
    return wait_for_tasks(s, line.wait);
  });
}

void add_kv_commands(CLI::App& app, command_line& line) {
  auto kv = app.add_subcommand("kv", "Shared keys");
  kv->require_subcommand(1);
  auto get = kv->add_subcommand("get", "Print a value as it is");
  auto put = kv->add_subcommand("put", "Set a value");
  auto remove = kv->add_subcommand("delete", "Delete a key");
  auto list = kv->add_subcommand("list", "Keys, by name");
  for (auto command : {get, put, remove})
    command->add_option("KEY", line.name, "The key")->required();
  put->add_option("VALUE", line.value, "The value; @FILE reads a file, - reads stdin")->required();
  for (auto command : {put, remove})
    command->add_option("--if-match", line.condition.if_match, "Only if the key has this version (*: if it exists)");
  put->add_flag("--if-absent", line.condition.if_absent, "Only if the key does not exist");
  list->add_option("PREFIX", line.name, "Only keys that begin so");
  on(get, line, [&line](session& s) { return get_key(s, line.name); });
  on(put, line, [&line](session& s) { return put_key(s, line.name, line.value, line.condition); });
  on(remove, line, [&line](session& s) { return delete_key(s, line.name, line.condition); });
  on(list, line, [&line](session& s) { return list_keys(s, line.name); });
}

void add_run_commands(CLI::App& app, command_line& line) {
  auto& o = line.doctest;
  auto run = app.add_subcommand("run", "Spread a test program over the workers");
  run->require_subcommand(1);
  auto doctest = run->add_subcommand("doctest", "A doctest program, one task a test case; fails unless all passed");
  doctest->add_option("PROGRAM", o.program, "The program; workers must find it under the same absolute path")
      ->required();
  doctest->add_option("ARGUMENT", o.arguments, "Further arguments for it, after --");
  doctest->add_option("--test-case", o.filter, "Only cases that match, as doctest's own option has it");
  doctest->add_option("--run-id", o.run_id, "The run's id (default: made)");
  doctest->add_option("--priority", o.priority, "Higher goes first")->capture_default_str();
  doctest->add_option("--timeout-ms", o.timeout_ms, "Kill a case after this long")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{31'622'400'000}));
  doctest->add_option("--max-attempts", o.max_attempts, "How often a case is tried when a worker fails")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  doctest->add_option("--requires", o.requires_capabilities, "Capabilities a worker must have: a,b,…")->delimiter(',');
  doctest->add_flag("--no-wait", line.no_wait, "Only submit, and print the tasks' ids");
  on(doctest, line, [&line](session& s) {
    line.doctest.wait = !line.no_wait;
    return run_doctest(s, line.doctest);
  });
}

void add_snapshot_commands(CLI::App& app, command_line& line) {
  auto snapshot = app.add_subcommand("snapshot", "Back-ups of the whole state");
  snapshot->require_subcommand(1);
  auto save = snapshot->add_subcommand("save", "Save the state of the running cluster, from any of its nodes");
  save->footer(
      "The file is a consistent state of one moment, which holds every write that was acknowledged before. It is "
      "verified,\n"
      "and is there whole or not at all. Where no node hears a leader any more, --stale takes what a node has "
      "applied.\n"
      "A cluster with a token wants it; one without serves snapshots to the node's own machine only.");
  save->add_option("FILE", line.save.file, "The file to make")->required();
  save->add_option("--cluster-token-file", line.save.token_file, "A file with the cluster's token")
      ->envname("COORDINATOR_CLUSTER_TOKEN_FILE");
  save->add_flag("--stale", line.save.stale, "Take what a node has applied, also where it hears no leader");
  save->add_flag("--replace", line.save.replace, "Replace an older file of that name");
  save->callback(
      [&line] { line.run = [&line](session& s, const auto& nodes) { return save_snapshot(s, nodes, line.save); }; });

  auto inspect = snapshot->add_subcommand("inspect", "Verify a saved file, and tell what it holds");
  inspect->add_option("FILE", line.name, "The file")->required();
  on(inspect, line, [&line](session& s) { return inspect_snapshot(s, line.name); });

  auto& r = line.restore;
  auto restore = snapshot->add_subcommand("restore", "Make a new cluster of one node from a saved file");
  restore->footer(
      "Makes a data directory with the saved state, under a new cluster id, so that no node of the old cluster can\n"
      "join by mistake. Start a coordinator on it with the same --node-id.");
  restore->add_option("FILE", r.file, "The file")->required();
  add_data_dir(restore, r.data_dir);
  restore->add_option("--node-id", r.node_id, "The new node (default: the one that the file was saved from)");
  restore->add_option("--http-address", r.http_address, "HOST:PORT that clients will use (default: as that node's)");
  restore->add_option("--cluster-address", r.cluster_address,
                      "HOST:PORT that other nodes will use (default: as that node's)");
  on(restore, line, [&r](session& s) { return restore_snapshot(s, r); });
}

void add_log_commands(CLI::App& app, command_line& line) {
  auto log = app.add_subcommand("log", "The files of a stopped node");
  log->require_subcommand(1);
  auto dump = log->add_subcommand("dump", "Print the entries of its log");
  add_data_dir(dump, line.dump.data_dir);
  dump->add_option("--from", line.dump.from, "The first index (default: the log's first)");
  dump->add_option("--to", line.dump.to, "The last index (default: the log's last)");
  dump->add_option("--limit", line.dump.limit, "At most so many; 0 is all")->capture_default_str();
  on(dump, line, [&line](session& s) { return dump_log(s, line.dump); });
  auto verify = log->add_subcommand("verify", "Read through its log and its state; fails unless all is sound");
  add_data_dir(verify, line.name);
  on(verify, line, [&line](session& s) { return verify_files(s, line.name); });
}

void add_evidence_commands(CLI::App& app, command_line& line) {
  auto probe =
      app.add_subcommand("probe", "Write one key over and over; tells the longest gap between two accepted writes");
  probe->add_option("--key", line.probe.key, "The key")->capture_default_str();
  probe->add_option("--interval-ms", line.probe_interval_ms, "Pause after each write")
      ->capture_default_str()
      ->check(CLI::Range(0, 60'000));
  probe->add_option("--seconds", line.probe_time_s, "End after so long (default: at SIGINT or SIGTERM)")
      ->check(CLI::Range(1, 86'400));
  on(probe, line, [&line](session& s) {
    line.probe.interval = std::chrono::milliseconds{line.probe_interval_ms};
    line.probe.time = std::chrono::seconds{line.probe_time_s};
    return probe_writes(s, line.probe);
  });

  auto audit = app.add_subcommand("audit", "Hold the cluster's record of tasks against the workers' own journals");
  audit->add_option("--submitted", line.audit.submitted, "A file with the ids that were submitted, one a line")
      ->required();
  audit->add_option("--journal", line.audit.journals, "A worker's journal; may be given again")
      ->take_all()
      ->expected(1);
  on(audit, line, [&line](session& s) { return audit_submitted(s, line.audit); });
}

void add_recover_command(CLI::App& app, command_line& line) {
  auto& o = line.recover;
  auto recover = app.add_subcommand("recover", "Watch the nodes, and mend what they do not mend by themselves");
  recover->footer(
      "The file names the nodes, how each is restarted, and what the operator allows; docs/operations.md describes "
      "it.\n"
      "Several of these may run, also for the same nodes: by a lease in the cluster one at a time acts. Each look, "
      "action\n"
      "and outcome is a line of JSON in recovery.log in the file's state_dir. It never does what could lose\n"
      "acknowledged data, and touches one node at a time.");
  recover->add_option("--config", o.config, "The JSON file")->required();
  recover->add_option("--host", o.host, "The name of this machine in the file (default: its host name)");
  auto once = recover->add_flag("--once", o.once, "End as soon as all is well or mended");
  recover->add_flag("--daemon", line.recover_for_good, "Go on until SIGINT or SIGTERM (the default)")->excludes(once);
  recover->add_flag("--dry-run", o.dry_run, "Say what would be done, and change nothing");
  on(recover, line, [&o](session& s) { return coordinator::ctl::recover(s, o); });
}

void describe(CLI::App& app, command_line& line) {
  app.footer(footer);
  app.require_subcommand(1);
  // Options of the program may stand after the command too.
  app.fallthrough();
  app.failure_message([](const CLI::App*, const CLI::Error& e) {
    return std::string{"coordctl: "} + e.what() + "; --help tells more\n";
  });
  app.set_version_flag("--version", "coordctl " COORDINATOR_VERSION);
  app.add_option("--coordinator", line.coordinators, "Coordinator nodes, as URL[,URL…]")
      ->envname("COORDINATOR_URL")
      ->capture_default_str();
  app.add_option("-o,--output", line.output, "table or json")
      ->capture_default_str()
      ->check(CLI::IsMember({"table", "json"}));
  app.add_option("--patience", line.patience_s, "Seconds to go on trying while no node can answer")
      ->capture_default_str()
      ->check(CLI::Range(1, 86'400));
  add_cluster_commands(app, line);
  add_task_commands(app, line);
  add_kv_commands(app, line);
  add_run_commands(app, line);
  add_snapshot_commands(app, line);
  add_log_commands(app, line);
  add_evidence_commands(app, line);
  add_recover_command(app, line);
}

exit_status run(command_line& line) {
  auto nodes = parse_endpoints(line.coordinators);
  client_options options;
  options.give_up_after = std::chrono::seconds{line.patience_s};
  client cluster{nodes, options};
  session s{cluster, std::cout, std::cerr, line.output == "json", ::isatty(STDERR_FILENO) == 1};
  return line.run(s, nodes);
}

int complain(exit_status status, const std::exception& e) {
  std::cout.flush();
  std::cerr << "coordctl: " << e.what() << "\n";
  return static_cast<int>(status);
}

}  // namespace

int main(int argc, char** argv) {
  command_line line;
  CLI::App app{description};
  describe(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(exit_status::usage);
  }
  try {
    return static_cast<int>(run(line));
  } catch (const ctl_error& e) {
    return complain(e.status(), e);
  } catch (const std::invalid_argument& e) {
    return complain(exit_status::usage, e);
  } catch (const std::exception& e) {
    return complain(exit_status::failed, e);
  }
}
