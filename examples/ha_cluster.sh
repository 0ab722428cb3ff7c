#!/usr/bin/env bash
# Three coordinator nodes and four workers on this machine.
#
#   ha_cluster.sh demo     the main job: real tests on a cluster whose leader is killed half way, and an account of it
#   ha_cluster.sh start    a cluster on ports 8080 to 8082 to play with; state under run/
#   ha_cluster.sh status   how it is
#   ha_cluster.sh stop     ends it; its state stays, and the next start goes on from it
#
# Installs what is missing and builds first. Exit status of demo: 0 if nothing was lost and nothing was run twice.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Programs that are already built elsewhere: then nothing is installed or built.
bin=${COORDINATOR_BIN:-$root/build/release/bin}
node_count=3
worker_count=4
slots=2
shell_tasks=${DEMO_SHELL_TASKS:-2000}
tests_program=$bin/unit_tests
# Longest time for each wait of the demo, in seconds.
limit=${DEMO_LIMIT:-600}

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }
die() {
  printf 'ha_cluster.sh: %s\n' "$*" >&2
  exit 1
}

prepare() {
  [ -z "${COORDINATOR_BIN:-}" ] || return 0
  local log=$root/build/ha_cluster_build.log
  mkdir -p "$root/build"
  "$root/examples/install_dependencies.sh"
  say "building (build/release)"
  if ! (cd "$root" && cmake --preset release && cmake --build --preset release --target "$@") >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    die "the build failed; all of its output is in $log"
  fi
}

# -- nodes and workers ------------------------------------------------------------------------------------------------

# Set by the caller: $state, and the ports by number of the node.
declare -a http_port cluster_port
declare -A pid_of

urls() {
  local list='' i
  for ((i = 1; i <= node_count; i++)); do list+=${list:+,}http://127.0.0.1:${http_port[i]}; done
  printf '%s' "$list"
}

ctl() { "$bin/coordctl" --coordinator "$(urls)" "$@"; }

# Runs a program in the background under a name, with its log and its process id in $state. With $bound set it dies with
# this script, however the script ends; otherwise it outlives it.
launch() {
  local name=$1
  shift
  local start=(setsid)
  [ -z "${bound:-}" ] || start=(setpriv --pdeathsig TERM)
  "${start[@]}" "$@" >>"$state/$name.log" 2>&1 </dev/null &
  pid_of[$name]=$!
  echo "$!" >"$state/$name.pid"
}

start_node() {
  local i=$1 peers='' other
  for ((other = 1; other <= node_count; other++)); do
    [ "$other" -eq "$i" ] || peers+=${peers:+,}node-$other=127.0.0.1:${http_port[other]}:${cluster_port[other]}
  done
  launch "node-$i" "$bin/coordinator" --node-id "node-$i" --host 127.0.0.1 --port "${http_port[i]}" \
    --cluster-port "${cluster_port[i]}" --data-dir "$state/node-$i" --enable-redundancy --peers "$peers" \
    --cluster-secret-file "$state/secret"
}

start_worker() {
  launch "worker-$1" "$bin/coordinator-worker" --coordinator "$(urls)" --worker-id "worker-$1" \
    --capabilities shell,doctest --slots "$slots" --journal "$state/worker-$1.journal" --log-level warn
}

make_secret() {
  [ -s "$state/secret" ] || (umask 077 && head -c 32 /dev/urandom | base64 >"$state/secret")
}

leader() { ctl --patience 1 -o json cluster show 2>/dev/null | jq -r '.leader // empty'; }

# Whether a leader is known, the named node is not it, and so many members are healthy.
cluster_is_well() {
  ctl --patience 1 -o json cluster show 2>/dev/null |
    jq -e --arg not "$1" --argjson healthy "$2" \
      '.leader != null and .leader != "" and .leader != $not and .quorum.healthy >= $healthy' >/dev/null
}

# Whether all members are healthy again; ends the script if the node that was started again did not stay.
is_back() {
  alive "${pid_of[$1]}" || die "$1 did not come back: $(tail -n 1 "$state/$1.log")"
  cluster_is_well '' "$node_count"
}

workers_are_there() {
  [ "$(ctl --patience 1 -o json worker list 2>/dev/null | jq 'map(select(.status != "offline")) | length')" = "$worker_count" ]
}

# wait_until SECONDS WHAT COMMAND…
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || die "not in time: $what"
    sleep 0.1
  done
}

alive() { kill -0 "$1" 2>/dev/null; }

# Ends processes by their ids: SIGTERM, and SIGKILL for those that are still there after the given seconds.
end_processes() {
  local patience=$1 deadline pid
  shift
  [ $# -gt 0 ] || return 0
  kill -TERM "$@" 2>/dev/null || true
  deadline=$((SECONDS + patience))
  for pid in "$@"; do
    while alive "$pid" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.05; done
    if alive "$pid"; then kill -KILL "$pid" 2>/dev/null || true; fi
  done
}

# -- demo -------------------------------------------------------------------------------------------------------------

pick_free_ports() {
  local taken=" " i port
  local -a ports=()
  # Below the ports that the kernel gives to outgoing connections.
  for ((i = 0; i < 2 * node_count; i++)); do
    while :; do
      port=$((20000 + RANDOM % 12000))
      case $taken in *" $port "*) continue ;; esac
      [ -n "$(ss -Hltn "sport = :$port")" ] || break
    done
    taken+="$port "
    ports+=("$port")
  done
  for ((i = 1; i <= node_count; i++)); do
    http_port[i]=${ports[2 * (i - 1)]}
    cluster_port[i]=${ports[2 * (i - 1) + 1]}
  done
}

demo_cleanup() {
  local status=$?
  trap - EXIT INT TERM HUP
  local -a workers=() others=()
  local name
  for name in "${!pid_of[@]}"; do
    case $name in worker-*) workers+=("${pid_of[$name]}") ;; *) others+=("${pid_of[$name]}") ;; esac
  done
  end_processes 5 "${workers[@]}"
  end_processes 10 "${others[@]}"
  wait 2>/dev/null || true
  if [ "$status" -eq 0 ] || [ "$status" -gt 128 ]; then
    rm -rf "$state"
  else
    tail -n 15 "$state"/*.log >&2 || true
    printf 'ha_cluster.sh: the demo failed; its logs and data are in %s\n' "$state" >&2
  fi
  exit "$status"
}

nodes_are_alive() {
  local i
  for ((i = 1; i <= node_count; i++)); do alive "${pid_of[node-$i]}" || return 1; done
}

start_demo_cluster() {
  local try i name
  for try in 1 2 3; do
    pick_free_ports
    for ((i = 1; i <= node_count; i++)); do start_node "$i"; done
    sleep 1
    if nodes_are_alive; then return 0; fi
    # Somebody took one of the ports in between.
    for ((i = 1; i <= node_count; i++)); do end_processes 5 "${pid_of[node-$i]}"; done
    rm -rf "$state"/node-[0-9]
  done
  for name in "$state"/node-*.log; do tail -n 5 "$name" >&2; done
  die "the nodes do not start ($try tries)"
}

shell_task_lines() {
  local i
  for ((i = $1; i <= $2; i++)); do
    printf '{"task_id":"%s-%05d","run_id":"%s","command":["sh","-c","sleep 0.0%d; echo %d"]}\n' \
      "$shell_run" "$i" "$shell_run" $((i % 5)) "$i"
  done
}

submit_all() {
  local half=$((shell_tasks / 2))
  {
    shell_task_lines 1 "$half" | ctl task submit --file -
    ctl run doctest "$tests_program" --run-id "$tests_run" --no-wait
    shell_task_lines $((half + 1)) "$shell_tasks" | ctl task submit --file -
  } >"$state/submitted"
}

wait_for_all() {
  local status=0
  ctl --patience 60 task wait --run-id "$tests_run" --run-id "$shell_run" --timeout "$limit" >"$state/verdicts" || status=$?
  # 1 tells that some test did not pass: that is for the summary to show.
  [ "$status" -le 1 ] || die "waiting for the tasks failed with status $status"
}

end_probe() {
  kill -TERM "${pid_of[probe]}" 2>/dev/null || true
  wait "${pid_of[probe]}" || die "the probe had no write accepted"
  unset 'pid_of[probe]'
}

# The workers drain, so that their journals are whole.
end_workers() {
  local i
  local -a pids=()
  for ((i = 1; i <= worker_count; i++)); do pids+=("${pid_of[worker-$i]}"); done
  end_processes 30 "${pids[@]}"
  for ((i = 1; i <= worker_count; i++)); do
    wait "${pid_of[worker-$i]}" || say "worker-$i ended with status $?"
    unset "pid_of[worker-$i]"
  done
}

figure() { jq -r "$2" "$state/$1.json"; }

summarise() {
  local killed=$1 share=$2 new=$3
  [ "$(figure audit '.passed == .submitted')" = true ] || grep -v ' tasks: ' "$state/verdicts" | head -n 60 || true
  cat <<TXT

What the cluster recorded, held against the workers' own journals:
  submitted     $(figure audit .submitted)  ($(figure audit ".submitted - $shell_tasks") test cases and $shell_tasks shell tasks)
  completed     $(figure audit .completed)  ($(figure audit .passed) passed)
  failed        $(figure audit '.failed + .cancelled')
  lost          $(figure audit '.lost | length')
  run twice     $(figure audit '.run_twice | length')
  begun again   $(figure audit .tasks_started_again)  (an attempt was given up and another one made)
  longest gap   $(figure probe '.longest_gap_ms | round') ms between two of $(figure probe .accepted) accepted writes ($(figure probe .refused) refused)
  leader        $killed until it was killed at $share %; then $new
TXT
  jq -r '(.lost[] | "  lost: " + .), (.run_twice[] | "  run twice: " + .)' "$state/audit.json"
}

demo() {
  prepare coordinator coordctl coordinator-worker unit_tests
  state=$(mktemp -d "${TMPDIR:-/tmp}/ha_cluster.XXXXXX")
  bound=yes
  trap demo_cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  shell_run=shell-$$
  tests_run=tests-$$
  make_secret

  say "starting $node_count nodes and $worker_count workers; their logs are in $state"
  start_demo_cluster
  wait_until 60 "a leader and $node_count healthy nodes" cluster_is_well '' "$node_count"
  local i
  for ((i = 1; i <= worker_count; i++)); do start_worker "$i"; done
  wait_until 30 "$worker_count registered workers" workers_are_there
  # Its report comes on stdout when it is ended.
  setpriv --pdeathsig TERM "$bin/coordctl" --coordinator "$(urls)" -o json probe >"$state/probe.json" 2>"$state/probe.log" &
  pid_of[probe]=$!

  local old new share
  old=$(leader)
  say "$old leads; submitting"
  submit_all
  say "$(wc -l <"$state/submitted") tasks submitted; $old will be killed half way"
  ctl task wait --run-id "$tests_run" --run-id "$shell_run" --until-percent 50 --timeout "$limit"
  old=$(leader)
  [ -n "$old" ] || die "there is no leader to kill"
  kill -KILL "${pid_of[$old]}"
  wait "${pid_of[$old]}" 2>/dev/null || true
  share=$(ended_share)
  say "killed $old, the leader (SIGKILL)"
  wait_until 30 "a new leader" cluster_is_well "$old" 2
  new=$(leader)
  say "$new leads"
  sleep 1
  start_node "${old#node-}"
  say "started $old again"
  wait_for_all
  wait_until 60 "$old back among the healthy nodes" is_back "$old"
  end_probe
  end_workers

  local status=0
  audit >"$state/audit.json" 2>/dev/null || status=$?
  [ "$status" -le 1 ] || die "the audit failed with status $status"
  summarise "$old" "$share" "$new"
  if [ "$status" -eq 0 ]; then say "nothing lost, nothing run twice"; else say "FAILED"; fi
  return "$status"
}

# What has ended so far, in percent: by the workers' journals, since the cluster is busy finding a leader.
ended_share() {
  local ended
  ended=$(cat "$state"/worker-*.journal | grep -c '"answer":"accepted"' || true)
  printf '%d' $((100 * ended / $(wc -l <"$state/submitted")))
}

audit() {
  local i
  local -a journals=()
  for ((i = 1; i <= worker_count; i++)); do journals+=(--journal "$state/worker-$i.journal"); done
  ctl -o json audit --submitted "$state/submitted" "${journals[@]}"
}

# -- start, status, stop ----------------------------------------------------------------------------------------------

use_fixed_ports() {
  local i
  state=$root/run
  for ((i = 1; i <= node_count; i++)); do
    http_port[i]=$((8079 + i))
    cluster_port[i]=$((18079 + i))
  done
}

# The process of a pid file, if it still is what was started and not another one with its number.
running_pid() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 1
  case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in "$bin/"coordinator*) printf '%s' "$pid" ;; *) return 1 ;; esac
}

start() {
  prepare coordinator coordctl coordinator-worker
  mkdir -p "$state"
  make_secret
  local i
  for ((i = 1; i <= node_count; i++)); do running_pid "$state/node-$i.pid" >/dev/null || start_node "$i"; done
  for ((i = 1; i <= worker_count; i++)); do running_pid "$state/worker-$i.pid" >/dev/null || start_worker "$i"; done
  sleep 0.5
  for ((i = 1; i <= node_count; i++)); do
    running_pid "$state/node-$i.pid" >/dev/null || die "node-$i did not start: $(tail -n 1 "$state/node-$i.log")"
  done
  wait_until 60 "a leader" cluster_is_well '' 2
  wait_until 30 "$worker_count registered workers" workers_are_there
  show_status
  cat <<TXT

Try:  build/release/bin/coordctl task submit --wait -- echo hello
      build/release/bin/coordctl cluster transfer
      kill -9 \$(cat run/$(leader).pid)      then: examples/ha_cluster.sh status
TXT
}

show_status() {
  [ -x "$bin/coordctl" ] || die "nothing is built yet; examples/ha_cluster.sh start does it"
  ctl status || return
  ctl --patience 3 cluster show || return
  ctl --patience 3 worker list
}

stop() {
  local file pid
  local -a workers=() nodes=()
  for file in "$state"/worker-*.pid; do if pid=$(running_pid "$file"); then workers+=("$pid"); fi; done
  for file in "$state"/node-*.pid; do if pid=$(running_pid "$file"); then nodes+=("$pid"); fi; done
  end_processes 40 "${workers[@]}"
  end_processes 10 "${nodes[@]}"
  rm -f "$state"/*.pid
  say "stopped ${#nodes[@]} nodes and ${#workers[@]} workers"
}

use_fixed_ports
case ${1:-} in
  demo) demo ;;
  start) start ;;
  status) show_status ;;
  stop) stop ;;
  *)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    [ "${1:-}" = --help ] || [ "${1:-}" = -h ] || exit 2
    ;;
esac
