#!/usr/bin/env bash
# /api/events of a real cluster: how soon a lost peer is reported, where a stream goes on, and what a reader that does not
# read costs.
# shellcheck disable=SC1091,SC2154
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"

start_cluster
now_ms() { date +%s%3N; }

# stream NAME NODE [HEADER…]: the events of a node into the file $state/NAME.
stream() {
  local name=$1 node=$2
  shift 2
  launch "stream-$name" curl -sN -o "$state/$name" "$@" "$(url "$node")/api/events"
}
# events_of FILE EVENT: the data of all events of that name.
events_of() { awk -v name="$2" '/^event: / { event = $2 } /^data: / && event == name { print substr($0, 7) }' "$state/$1" 2>/dev/null; }
has_event() { [ -n "$(events_of "$1" "$2")" ]; }

# -- a lost peer --------------------------------------------------------------------------------------------------------
# A process that hangs is the harder case: nothing tells the others but its silence.
stream health 1
wait_until "the present state" has_event health state
slowest=2000
for signal in STOP KILL; do
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    lost_at=$(now_ms)
    kill "-$signal" "${pid_of[node-3]}"
    lost() { events_of health node_health | jq -es --argjson t "$lost_at" 'any(.[]; .node_id == "node-3" and (.healthy | not) and .at_ms >= $t)' >/dev/null; }
    wait_until "word of the loss of node-3" lost
    took=$(($(events_of health node_health | jq -s --argjson t "$lost_at" '[.[] | select((.healthy | not) and .at_ms >= $t)][0].at_ms') - lost_at))
    if [ "$signal" = STOP ]; then kill -CONT "${pid_of[node-3]}"; else start_node 3; fi
    wait_until "node-3 again" all_healthy
    echo "node-3 was lost by SIG$signal, and node-1 said so after $took ms"
    [ "$took" -gt "$slowest" ] || break
  done
  [ "$took" -le "$slowest" ] || die "the loss was told after $took ms"
done

# -- where a stream goes on ----------------------------------------------------------------------------------------------
ctl task submit --task-id first -- true >/dev/null || die "a task cannot be submitted"
told() { events_of health task | grep -q first; }
wait_until "the first task" told
last=$(grep '^id: ' "$state/health" | tail -n 1 | cut -d ' ' -f 2)
stream again 1 -H "Last-Event-ID: $last"
ctl task submit --task-id second -- true >/dev/null || die "a task cannot be submitted"
second() { events_of again task | grep -q second; }
wait_until "the event after the last one" second
! events_of again task | grep -q first || die "an event came twice"
! has_event again state || die "a stream that goes on began anew"
for id in nonsense "${last%-*}-999999" 0000000000000001-1; do
  rm -f "$state/unknown"
  stream unknown 1 -H "Last-Event-ID: $id"
  wait_until "the present state after reset" has_event unknown state
  [ "$(events_of unknown reset | jq -r .reason)" = unknown_id ] || die "to $id it answers: $(cat "$state/unknown")"
  [ "$(grep -m 1 '^event: ' "$state/unknown")" = "event: reset" ] || die "the first event is not reset"
  kill "${pid_of[stream-unknown]}"
done
echo "a stream goes on after its last event, and an unknown id is answered by reset and the present state"

# -- readers that do not read -----------------------------------------------------------------------------------------------
# Those above do read, and might be cut off all the same when so much comes at once.
streams() { [ "$(ask 1 /metrics | awk '$1 == "coordinator_event_streams" { print $2 }')" = "$1" ]; }
kill "${pid_of[stream-health]}" "${pid_of[stream-again]}"
wait_until "no stream to be open" streams 0
resident_kb() { awk '$1 == "VmRSS:" { print $2 }' "/proc/${pid_of[node-1]}/status"; }
many_tasks() {
  local from=$1 to=$2
  seq "$from" "$to" | awk -v pad="$(printf 'n%.0s' $(seq 100))" '{ printf "{\"task_id\":\"%s-%d\",\"command\":[\"true\"]}\n", pad, $1 }' |
    ctl task submit --file - >/dev/null || die "tasks cannot be submitted"
}
many_tasks 1 20000
before=$(resident_kb)
many_tasks 20001 40000
usual=$(($(resident_kb) - before))
readers=60
for ((i = 0; i < readers; i++)); do
  exec {fd}<>"/dev/tcp/127.0.0.1/${http_port[1]}" || die "reader $i cannot connect"
  printf 'GET /api/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >&"$fd"
  fds[i]=$fd
done
wait_until "$readers readers" streams "$readers"
before=$(resident_kb)
many_tasks 40001 60000
cost=$((($(resident_kb) - before - usual) / readers))
[ "$cost" -lt 512 ] || die "a reader that does not read costs $cost KiB"
wait_until "readers that do not read to be cut off" streams 0
for ((i = 0; i < readers; i++)); do
  fd=${fds[i]}
  timeout "$patience" cat <&"$fd" >"$state/slow" || die "the stream of a slow reader does not end"
  exec {fd}>&-
  [ "$(events_of slow cut_off | jq -r .reason)" = too_slow ] || die "a slow reader was cut off without a word"
done
echo "$readers readers that did not read were cut off by an event that says so, and cost $((cost > 0 ? cost : 0)) KiB each beside what the load itself takes"
