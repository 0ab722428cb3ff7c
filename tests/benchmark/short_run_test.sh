#!/usr/bin/env bash
# Every workload of coordinator-bench for a moment: that it runs and says what it is to say, not how fast it is.
#
#   tests/benchmark/short_run_test.sh COORDINATOR-BENCH
set -euo pipefail

bench=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "$1" >&2
  exit 1
}
holds() { jq -e "$1" <"$2" >/dev/null || fail "$2 does not hold: $1"; }

quick=(--runs 1 --seconds 0.5 --warm-up 0.1 -o json)
"$bench" write read --clients 2 --peer etcd --plots "$scratch/plots" "${quick[@]}" >"$scratch/keys"
holds '[.results[] | select(.peer == "etcd")] | length == 2' "$scratch/keys"
holds '[.results[] | select(.runs[0].operations == 0 or .runs[0].refused > 0)] == []' "$scratch/keys"
holds '[.results[] | select(.peer == "coordinator") | .to_etcd | .per_second, .p50, .p99, .resident | . > 0] | all' "$scratch/keys"
holds '.machine.cores > 0 and (.date | test("^20")) and (.command | startswith("coordinator-bench write"))' "$scratch/keys"
grep -q '</svg>' "$scratch/plots/bench-write.svg" || fail "there is no plot of the writes"

"$bench" follower-write stale-read claim-complete mixed heartbeats batch-submit --clients 2 --tasks 2000 --workers 20 \
  "${quick[@]}" >"$scratch/others"
holds '.results | length == 6' "$scratch/others"
holds '[.results[] | select(.runs[0].operations == 0 or .runs[0].refused > 0)] == []' "$scratch/others"
holds '.results[] | select(.workload == "batch-submit") | .runs[0].more.burst_tasks == 100000' "$scratch/others"

"$bench" write --clients 4 --rate 100 --runs 2 --seconds 1 --warm-up 0.1 --cluster-sizes 1 -o json >"$scratch/open"
holds '[.results[0].runs[].operations | . > 10 and . < 140] | all' "$scratch/open"
"$bench" write --clients 1 --operations 50 --runs 1 --seconds 60 --cluster-sizes 1 -o json >"$scratch/counted"
holds '.results[0].runs[0] | .operations >= 50 and .seconds < 50' "$scratch/counted"

"$bench" failover handover restart catch-up idle --tasks 20000 "${quick[@]}" >"$scratch/events"
holds '[.results[] | select(.workload == "failover" or .workload == "handover") | .runs[0].more.gap_ms > 0] == [true, true]' "$scratch/events"
holds '.results[] | select(.workload == "restart") | .runs[0].more.first_stale_read_ms > 0' "$scratch/events"
holds '.results[] | select(.workload == "catch-up") | .runs[0].more | .state_mb > 1 and .writes_kept > 0' "$scratch/events"
holds '.results[] | select(.workload == "idle") | .runs[0].more | has("leader_core_percent") and has("follower_core_percent")' "$scratch/events"

for wrong in "writes" "write --clients 0" "write --cluster-sizes 2" "write --peer zookeeper" "write -o xml" ""; do
  # shellcheck disable=SC2086
  "$bench" $wrong >"$scratch/wrong" 2>&1 && fail "coordinator-bench $wrong was taken"
done
"$bench" failover --cluster-sizes 1 --runs 1 >"$scratch/wrong" 2>&1 && fail "a failover of one node was measured"
grep -q 'at least 3 nodes' "$scratch/wrong" || fail "it does not say what a failover needs: $(cat "$scratch/wrong")"
