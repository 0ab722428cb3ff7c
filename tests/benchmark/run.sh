#!/usr/bin/env bash
# Speed of three nodes on this machine beside three of etcd, in turns, with the same load generator: writes of 256
# bytes by 64 clients at the leader, and the gap in writes after SIGKILL of the leader.
#
#   tests/benchmark/run.sh [ROUNDS [SECONDS]]      5 rounds of 5 s by default
#
# Ends with the medians and their ratio, and exits non-zero if ours are slower. The machine should do nothing else.
set -euo pipefail

rounds=${1:-5}
seconds=${2:-5}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$root/build/release/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/coordinator-bench.XXXXXX")
pids=()

stop_all() {
  local pid
  for pid in "${pids[@]}"; do
    kill -9 "$pid" 2>/dev/null || continue
    while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
  done
  pids=()
}
trap 'stop_all; rm -rf "$work"' EXIT

median() { sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
field() { jq -r ".$1"; }

# Fixed ports below the ephemeral range, apart from those of the examples.
our_http=(28081 28082 28083)
our_cluster=(29081 29082 29083)
etcd_client=(28379 28380 28381)
etcd_peer=(29379 29380 29381)

start_node() {
  local i=$1 peers=() j
  for j in 0 1 2; do
    [ "$j" = "$i" ] || peers+=("node-$j=127.0.0.1:${our_http[j]}:${our_cluster[j]}")
  done
  "$bin/coordinator" --node-id "node-$i" --host 127.0.0.1 --port "${our_http[i]}" --cluster-port "${our_cluster[i]}" \
    --data-dir "$work/node-$i" --enable-redundancy --peers "$(IFS=,; echo "${peers[*]}")" \
    --log-level warn >>"$work/node-$i.log" 2>&1 &
  node_pid[i]=$!
  pids+=("$!")
  disown "$!"
}

start_ours() {
  node_pid=()
  for i in 0 1 2; do start_node "$i"; done
  for _ in $(seq 200); do
    leader=$(curl -s -m 1 "http://127.0.0.1:${our_http[0]}/api/status" | field current_leader 2>/dev/null || true)
    case $leader in node-?) return ;; esac
    sleep 0.05
  done
  echo "the nodes elected no leader; see $work" >&2
  return 1
}

start_etcd() {
  local cluster="e0=http://127.0.0.1:${etcd_peer[0]},e1=http://127.0.0.1:${etcd_peer[1]},e2=http://127.0.0.1:${etcd_peer[2]}" i
  for i in 0 1 2; do
    etcd --name "e$i" --data-dir "$work/etcd-$i" --initial-cluster "$cluster" --initial-cluster-state new \
      --listen-client-urls "http://127.0.0.1:${etcd_client[i]}" --advertise-client-urls "http://127.0.0.1:${etcd_client[i]}" \
      --listen-peer-urls "http://127.0.0.1:${etcd_peer[i]}" --initial-advertise-peer-urls "http://127.0.0.1:${etcd_peer[i]}" \
      --logger zap --log-level error >>"$work/etcd-$i.log" 2>&1 &
    pids+=("$!")
    disown "$!"
  done
  for _ in $(seq 200); do
    for i in 0 1 2; do
      local status
      status=$(curl -s -m 1 -X POST -d '{}' "http://127.0.0.1:${etcd_client[i]}/v3/maintenance/status" || true)
      if [ "$(jq -r '.header.member_id // "x"' <<<"$status" 2>/dev/null)" = "$(jq -r '.leader // "y"' <<<"$status" 2>/dev/null)" ]; then
        etcd_leader=$i
        return
      fi
    done
    sleep 0.05
  done
  echo "etcd elected no leader; see $work" >&2
  return 1
}

for round in $(seq "$rounds"); do
  start_ours
  ours=$("$bin/coordinator-bench" write --clients 64 --seconds "$seconds" --json \
    --url "http://127.0.0.1:${our_http[${leader#node-}]}")
  stop_all
  rm -rf "$work"/node-*
  start_etcd
  theirs=$("$bin/coordinator-bench" write --clients 64 --seconds "$seconds" --json --etcd \
    --url "http://127.0.0.1:${etcd_client[etcd_leader]}")
  stop_all
  rm -rf "$work"/etcd-*
  field per_second <<<"$ours" >>"$work/ours"
  field per_second <<<"$theirs" >>"$work/theirs"
  printf 'round %d: ours %.0f/s p50 %.2f p99 %.2f ms, etcd %.0f/s p50 %.2f p99 %.2f ms\n' "$round" \
    "$(field per_second <<<"$ours")" "$(field p50_ms <<<"$ours")" "$(field p99_ms <<<"$ours")" \
    "$(field per_second <<<"$theirs")" "$(field p50_ms <<<"$theirs")" "$(field p99_ms <<<"$theirs")"
done

start_ours
for round in $(seq $((rounds * 2))); do
  leader=$(curl -s -m 1 "http://127.0.0.1:${our_http[0]}/api/status" | field current_leader)
  i=${leader#node-}
  urls=()
  for j in 0 1 2; do [ "$j" = "$i" ] || urls+=("http://127.0.0.1:${our_http[j]}"); done
  "$bin/coordinator-bench" gap --seconds 2 --json --url "$(IFS=,; echo "${urls[*]}")" >"$work/gap" &
  gap=$!
  sleep 0.7
  kill -9 "${node_pid[i]}"
  wait "$gap"
  field longest_ms <"$work/gap" >>"$work/gaps"
  start_node "$i"
  for _ in $(seq 100); do
    [ "$(curl -s -m 1 "http://127.0.0.1:${our_http[i]}/api/status" | field current_leader 2>/dev/null || true)" != "" ] && break
    sleep 0.05
  done
done
stop_all

ours=$(median <"$work/ours")
theirs=$(median <"$work/theirs")
printf 'writes, 64 clients, medians of %d: ours %.0f/s, etcd %.0f/s, ratio %.2f\n' "$rounds" "$ours" "$theirs" \
  "$(awk -v a="$ours" -v b="$theirs" 'BEGIN { print a / b }')"
printf 'gap in writes after SIGKILL of the leader, %d times: median %.0f ms, longest %.0f ms\n' $((rounds * 2)) \
  "$(median <"$work/gaps")" "$(sort -g "$work/gaps" | tail -n 1)"
awk -v a="$ours" -v b="$theirs" 'BEGIN { exit !(a >= b) }'
