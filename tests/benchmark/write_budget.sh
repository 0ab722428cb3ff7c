#!/usr/bin/env bash
# Where the time of a write goes: starts three nodes and one client, follows every write through all processes on one
# clock, and prints the median of each step. Nothing in the nodes is changed: the kernel records system calls and
# wake-ups, and when some functions are entered (uprobes).
#
#   tests/benchmark/write_budget.sh [--writes N] [PROGRAMS]    N writes, 1,000 if not given; needs root and tracefs
#   tests/benchmark/write_budget.sh --check [PROGRAMS]         only says whether all that it looks for is there
#
# PROGRAMS is the directory of coordinator and coordinator-bench; by default that of the release build.
set -euo pipefail

writes=1000
check=no
while [ $# -gt 0 ]; do
  case $1 in
    --writes) writes=$2 && shift 2 ;;
    --check) check=yes && shift ;;
    *) break ;;
  esac
done
programs=$(realpath "${1:-$(dirname "${BASH_SOURCE[0]}")/../../build/release/bin}")
node=$programs/coordinator

# What a probe is called, and the function at whose beginning it stands.
functions=(
  push:gateway_intake::push
  drain:gateway_intake::drain
  propose:replication::on_propose
  store:raft_store::write
  append:replication::on_append_entries
  reply:replication::on_append_entries_reply
  written:replication::on_written
  apply:state_machine::apply
  answer:gateway::applied
)
calls=(
  enter_fdatasync exit_fdatasync enter_write exit_read
  enter_sendto enter_sendmsg exit_recvfrom exit_recvmsg
)

scratch=$(mktemp -d)
tracing=/sys/kernel/tracing
group=write_budget_$$
instance=$tracing/instances/$group
probes=no
clean_up() {
  if [ -d "$instance" ]; then
    for kind in "$group" syscalls sched; do
      [ ! -d "$instance/events/$kind" ] || echo 0 >"$instance/events/$kind/enable"
    done
    rmdir "$instance"
  fi
  if [ "$probes" = yes ]; then
    for function in "${functions[@]}"; do
      echo "-:$group/${function%%:*}" >>"$tracing/uprobe_events" || true
    done
  fi
  rm -rf "$scratch"
}
trap clean_up EXIT

# The offset of each function in the file: its address, less what the segment with the code is moved by.
moved=$(readelf -lW "$node" | awk '$1 == "LOAD" && / R E /{print $3 "-" $2; exit}')
nm -C --defined-only "$node" >"$scratch/symbols"
for function in "${functions[@]}"; do
  address=$(awk -v name="coordinator::${function#*:}(" \
    '$2 ~ /^[tTW]$/ && index($0, $1 " " $2 " " name) == 1 && !/\[clone/ {print $1; exit}' "$scratch/symbols")
  [ -n "$address" ] || {
    echo "write_budget.sh: there is no coordinator::${function#*:} in $node: say here what it is called now" >&2
    exit 1
  }
  printf 'p:%s/%s %s:0x%x\n' "$group" "${function%%:*}" "$node" $((0x$address - (moved))) >>"$scratch/probes"
done
[ "$check" = no ] || exit 0

[ -w "$tracing/uprobe_events" ] || mount -t tracefs tracefs "$tracing" 2>/dev/null || true
[ -w "$tracing/uprobe_events" ] || {
  echo "write_budget.sh: $tracing/uprobe_events cannot be written: this needs root, and a kernel with uprobes" >&2
  exit 1
}

# Warmed up until the WAL of raft.db has been gone through once: as long as it grows, syncs take longer.
bench() {
  "$programs/coordinator-bench" write --clients 1 --runs 1 --warm-up 3 --operations "$writes" --seconds 60 -o json 2>/dev/null
}
p50_us() { jq '.results[0].runs[0].p50_ms * 1000 | round'; }
untraced=$(bench | p50_us)

mkdir "$instance"
probes=yes
while read -r probe; do
  echo "$probe" >>"$tracing/uprobe_events"
done <"$scratch/probes"
echo mono >"$instance/trace_clock"
echo $((256 * writes / $(nproc) / 8 + 16384)) >"$instance/buffer_size_kb"
echo 1 >"$instance/options/record-tgid"
echo 1 >"$instance/options/event-fork"
echo 1 >"$instance/events/$group/enable"
echo 1 >"$instance/events/sched/sched_waking/enable"
for call in "${calls[@]}"; do
  echo 1 >"$instance/events/syscalls/sys_$call/enable"
done
# Of this shell and all its children.
echo $$ >"$instance/set_event_pid"
traced=$(bench | p50_us)
echo 0 >"$instance/tracing_on"

# Thread, process, seconds, what.
sed -nE 's/^ *(.{1,16})-([0-9]+) +\( *([0-9-]+)\) \[[0-9]+\] [^ ]+ +([0-9.]+): (.*)$/\2 \3 \4 \1 \5/p' \
  "$instance/trace" >"$scratch/trace"

cat >"$scratch/follow.awk" <<'AWK'
# The client is the thread of the load generator; a write is what lies between its request and the answer. The leader is
# the process whose front pushes. Each write gives one line of NAME=VALUE.
# A result or a size, which the kernel prints with or without 0x; -1 for an error.
function hex(text,   i, value) {
  sub(/^0x/, "", text)
  for (i = 1; i <= length(text); ++i)
    value = value * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
  return length(text) > 10 ? -1 : value
}
function length_of(what) {
  if (!match(what, /(len|count): [0-9a-fx]+/))
    return 0
  what = substr(what, RSTART, RLENGTH)
  sub(/^[a-z]+: /, "", what)
  return hex(what)
}
function step(name, from, to) { if (from && to) printf " %s=%.1f", name, (to - from) * 1e6 }
function finish(   p, best, decided, acknowledged) {
  best = ""
  for (p in synced)
    if (p != leader && stored[p] && (best == "" || synced[p] < synced[best]))
      best = p
  if (best == "" || !applied || !pushed || !sent || !synced[leader])
    return
  acknowledged = first_reply_after[best] ? first_reply_after[best] : last_reply
  decided = last_reply > last_written ? last_reply : last_written
  if (acknowledged > decided)
    acknowledged = decided
  step("01", began, read_at)
  step("02", read_at, pushed)
  step("03", pushed, drained)
  step("04", drained, proposed)
  step("05", proposed, sent)
  step("06", sent, appended[best])
  step("07", appended[best], stored[best])
  step("08", stored[best], syncing[best])
  step("09", syncing[best], synced[best])
  step("10", synced[best], replied[best])
  step("11", replied[best], acknowledged)
  step("12", acknowledged, decided)
  step("13", decided, applied)
  step("14", applied, answered)
  step("15", answered, written_out)
  step("16", written_out, ended)
  step("17", began, ended)
  step("20", proposed, stored[leader])
  step("21", stored[leader], syncing[leader])
  step("22", syncing[leader], synced[leader])
  step("23", synced[leader], own_written)
  for (p in woken)
    printf " wakes:%s=%d", p, woken[p]
  print ""
}
function forget() {
  split("", stored); split("", syncing); split("", synced); split("", replied); split("", appended_now)
  split("", appended); split("", first_reply_after); split("", woken)
  pushed = drained = proposed = sent = applied = answered = written_out = last_reply = last_written = own_written = 0
}
# First pass: who is who.
NR == FNR {
  process[$1] = $2
  if ($5 == "push:") {
    ++pushes[$2]
    kind[$1] = "HTTP"
  } else if ($5 == "store:")
    kind[$1] = "log writer"
  else if ($5 == "sys_read" && $4 !~ /^coordinator-ben/ && !($1 in kind))
    kind[$1] = "network"
  else if ($5 == "append:" || $5 == "propose:" || $5 == "apply:" || $5 == "drain:")
    kind[$1] = "worker"
  next
}
FNR == 1 {
  for (p in pushes)
    if (leader == "" || pushes[p] > pushes[leader])
      leader = p
}
{ tid = $1; pid = $2; now = $3; what = $5 }
$4 ~ /^coordinator-ben/ {
  if (what ~ /^sys_send(to|msg)\(/) {
    forget()
    client = tid
    began = now
  } else if (tid == client && what ~ /^sys_recv(from|msg)$/ && hex($7) > 0 && began) {
    ended = now
    finish()
    began = 0
  }
}
what == "sched_waking:" {
  match($0, / pid=[0-9]+/)
  target = substr($0, RSTART + 5, RLENGTH - 5)
  p = process[target]
  if (began && target in process && (p == leader || p in follower))
    ++woken[(p == leader ? "leader" : "followers") ", " (target in kind ? kind[target] : "worker")]
  next
}
!began { if (what == "store:" && pid != leader) follower[pid] = 1; next }
pid == leader {
  if (what ~ /^sys_recv(from|msg)$/ && hex($7) > 0 && !pushed) read_at = now
  else if (what == "push:" && !pushed) pushed = now
  else if (what == "drain:" && pushed && !drained) drained = now
  else if (what == "propose:" && !proposed) proposed = now
  else if (what ~ /^sys_write\(/ && proposed && !sent && length_of($0) > 256) sent = now
  else if (what == "reply:" && proposed && !applied) {
    last_reply = now
    for (p in replied)
      if (!first_reply_after[p])
        first_reply_after[p] = now
  } else if (what == "written:" && proposed && !applied) { last_written = own_written = now }
  else if (what == "apply:" && proposed && !applied) applied = now
  else if (what == "answer:" && applied && !answered) answered = now
  else if (what ~ /^sys_send(to|msg)\(/ && answered && !written_out) written_out = now
}
what == "append:" { appended_now[pid] = now }
what == "store:" && proposed && !stored[pid] {
  stored[pid] = now
  appended[pid] = appended_now[pid]
  writer[pid] = tid
  if (pid != leader)
    follower[pid] = 1
}
what ~ /^sys_fdatasync\(/ && stored[pid] && tid == writer[pid] && !syncing[pid] { syncing[pid] = now }
what == "sys_fdatasync" && syncing[pid] && tid == writer[pid] && !synced[pid] { synced[pid] = now }
what ~ /^sys_write\(/ && pid != leader && synced[pid] && !replied[pid] && length_of($0) > 8 { replied[pid] = now }
AWK
awk -f "$scratch/follow.awk" "$scratch/trace" "$scratch/trace" | tail -n "$writes" >"$scratch/steps"
followed=$(wc -l <"$scratch/steps")
[ "$followed" -gt 0 ] || {
  echo "write_budget.sh: no write could be followed from end to end" >&2
  exit 1
}

median() {
  tr ' ' '\n' <"$scratch/steps" | sed -n "s/^$1=//p" | sort -n | awk '{x[NR] = $1} END {printf "%.0f", NR ? x[int((NR + 1) / 2)] : 0}'
}
row() { printf '| %s | %s |\n' "$2" "$(median "$1")"; }

printf '%d writes of 256 bytes by one client at the leader; p50 %d µs untraced, %d µs while traced.\n\n' "$followed" "$untraced" "$traced"
printf '| step | median µs |\n| --- | --- |\n'
row 01 "the request reaches the front's loop: kernel, wake-up"
row 02 'HTTP read, parsed, routed; into the queue of the gateway'
row 03 'the gateway wakes and takes it'
row 04 'gateway; hand-over to the keeper'
row 05 'the keeper appends; encoded, handed to the network thread, sealed, written to the first follower'
row 06 'at the follower: kernel, wake-up, opened, decoded, hand-over to its keeper'
row 07 'its keeper; hand-over to its log writer'
row 08 'its log writer: the transaction up to the sync'
row 09 'its fdatasync'
row 10 'back through its keeper and network thread, written'
row 11 "at the leader: kernel, wake-up, opened, decoded, hand-over to the keeper"
row 12 "waiting for the leader's own log, where that is later"
row 13 'commit; hand-over to the state machine'
row 14 'applied; hand-over to the gateway'
row 15 "gateway, wake-up of the front's loop; the answer rendered and written"
row 16 'the answer reaches the client'
row 17 '**the whole write**'
printf "\nThe leader's own log meanwhile: %s µs until its log writer has it, %s up to the sync, %s fdatasync, %s until the keeper knows.\n" \
  "$(median 20)" "$(median 21)" "$(median 22)" "$(median 23)"
printf '\n| threads woken for a write | mean |\n| --- | --- |\n'
awk '{
  while (match($0, /wakes:[^=]*=[0-9]+/)) {
    split(substr($0, RSTART + 6, RLENGTH - 6), x, "=")
    sum[x[1]] += x[2]
    $0 = substr($0, RSTART + RLENGTH)
  }
} END { for (k in sum) { printf "| %s | %.1f |\n", k, sum[k] / NR; all += sum[k] / NR } printf "| all | %.1f |\n", all }' \
  "$scratch/steps" | sort
