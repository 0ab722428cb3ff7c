#!/usr/bin/env bash
# What a large state costs one node: the time from its start to its first stale read, and writes while its log is
# compacted all the time.
#
#   tests/benchmark/large_state.sh [TASKS…]      10000 and 1000000 by default; 3 starts and 2 rounds of writes each
#
# Exits non-zero if a start takes longer than 2 s. The machine should do nothing else.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$root/build/release/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/coordinator-bench.XXXXXX")
url=http://127.0.0.1:28091
pid=

stop_node() {
  [ -n "$pid" ] || return 0
  kill -9 "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
  pid=
}
trap 'stop_node; rm -rf "$work"' EXIT

start_node() {
  "$bin/coordinator" --node-id large --host 127.0.0.1 --port 28091 --data-dir "$work/data" --quota-bytes 0 \
    --log-retention-entries 1000 --log-level warn >>"$work/log" 2>&1 &
  pid=$!
  disown "$pid"
}

# Until a task is read without asking anybody else; `ms` is how long that took from the start of the process.
start_and_read() {
  local began
  began=$(date +%s%N)
  start_node
  until curl -sf -m 5 -o /dev/null "$url/api/tasks/$1?consistency=stale"; do sleep 0.005; done
  ms=$((($(date +%s%N) - began) / 1000000))
}

slowest=0
[ $# -gt 0 ] || set -- 10000 1000000
for count in "$@"; do
  rm -rf "$work/data"
  start_node
  until curl -sf -m 1 -o /dev/null "$url/readyz"; do sleep 0.05; done
  began=$(date +%s%N)
  for ((first = 0; first < count; first += 1000)); do
    jq -nc --argjson first "$first" \
      '{tasks: [range($first; $first + 1000) | {task_id: "task-\(.)", command: ["true"]}]}' |
      curl -sf -m 60 -o /dev/null --data-binary @- "$url/api/tasks/submit"
  done
  seconds=$(awk -v ns=$(($(date +%s%N) - began)) 'BEGIN { printf "%.1f", ns / 1e9 }')
  printf '%d tasks: taken in within %s s' "$count" "$seconds"
  sleep 1
  for _ in 1 2 3; do
    stop_node
    start_and_read task-0
    printf ', start to first stale read %d ms' "$ms"
    [ "$ms" -le "$slowest" ] || slowest=$ms
  done
  printf ', resident %.0f MB\n' "$(awk '/^VmRSS/ { print $2 / 1024 }' "/proc/$pid/status")"
  for _ in 1 2; do
    printf '%d tasks: ' "$count"
    "$bin/coordinator-bench" write --clients 16 --seconds 5 --url "$url"
  done
  printf '%d tasks: the log holds %s entries, the files %s\n' "$count" \
    "$(curl -s "$url/api/status" | jq '.last_log_index - .first_log_index + 1')" \
    "$(cd "$work/data" && stat -c '%n %s bytes' raft.db raft.db-wal state.db | paste -sd, | sed 's/,/, /g')"
  stop_node
done
[ "$slowest" -le 2000 ]
