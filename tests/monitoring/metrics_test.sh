#!/usr/bin/env bash
# /metrics of a real cluster against promtool, and against what the rules and the board of examples/monitoring name.
# shellcheck disable=SC1091,SC2154,SC2034
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
examples=$root/examples/monitoring

promtool check config "$examples/prometheus.yml" || die "the configuration is not valid"
promtool check rules "$examples/alerts.yml" || die "the rules are not valid"
[ "$(grep -c -- '- alert:' "$examples/alerts.yml")" -eq 7 ] || die "seven alerts are described"

descriptors_of[1]=620
start_cluster
ctl kv put key value >/dev/null || die "a key cannot be written"
# A round trip to each peer is measured twice a second.
measured() { ask 1 /metrics | grep -q 'coordinator_peer_round_trip_seconds_count{peer="node-3"}'; }
wait_until "round trips" measured
ask 1 /metrics >"$state/metrics" || die "no metrics"
promtool check metrics <"$state/metrics" || die "promtool finds fault with /metrics"

sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' "$state/metrics" | sort -u >"$state/exported"
{
  grep -v '^ *#' "$examples/alerts.yml"
  jq -r '.. | .expr? // empty' "$examples/grafana_dashboard.json"
} | grep -oE '\b(coordinator|process)_[a-z_]+' | sort -u >"$state/named"
[ "$(wc -l <"$state/named")" -gt 20 ] || die "only $(wc -l <"$state/named") metrics are named"
missing=0
while read -r name; do
  base=$(sed -E 's/_(bucket|count|sum)$//' <<<"$name")
  grep -qx -e "$name" -e "$base" "$state/exported" && continue
  printf 'named, but not exported: %s\n' "$name" >&2
  missing=1
done <"$state/named"
[ "$missing" -eq 0 ] || exit 1

shows_node() { ctl monitor --once | grep -Eq '^node-1 +(LEADER|FOLLOWER) '; }
wait_until "node-1 in coordctl monitor" shows_node
ctl monitor --once | grep -q 'membership node-1 node-2 node-3' || die "coordctl monitor does not name the members"
ctl -o json monitor --once | jq -e '(.nodes | length) == 3 and .failure_tolerance == 1' >/dev/null ||
  die "coordctl monitor as JSON is not what it should be"

# A scrape does not wait: not for long polls, not for a node that is gone.
ctl kv get key >/dev/null
curl -sf -X POST "$(url 1)/api/workers/register" -d '{"worker_id":"w","host":"h","port":1,"capabilities":[]}' >/dev/null ||
  die "a worker cannot register"
# More long polls than the node takes connections.
long_polls=300
seq "$long_polls" >"$state/numbers"
launch polls xargs -a "$state/numbers" -P "$long_polls" -I{} curl -s -o /dev/null -X POST "$(url 1)/api/tasks/claim" \
  -d '{"worker_id":"w","wait_ms":60000}'
is_full() { curl -s --max-time 20 "$(url 1)/api/status" | grep -q too_many_connections; }
wait_until "a server that is full" is_full
for path in /metrics /livez '/readyz?verbose' /api/health /api/health/db /api/health/log /api/health/operations; do
  curl -sf --max-time 20 "$(url 1)$path" >"$state/answer" || die "$path is not answered while long polls fill the server"
done
ask 1 /metrics | awk '$1 == "coordinator_http_connections" && $2 >= 200 { found = 1 } END { exit !found }' ||
  die "the server was not full"
is_full || die "the long polls ended too early"
kill "${pid_of[polls]}"

# A follower whose leader and whose quorum are gone says so, for the alert goes by that.
gauge() { ask "$1" /metrics | awk -v name="$2" '$1 == name { print $2 }'; }
has_leader() { [ "$(gauge 2 coordinator_has_leader)" = 1 ]; }
wait_until "a leader that node-2 knows" has_leader
old=$(leader)
left=$((${old#node-} % 3 + 1))
for i in 1 2 3; do [ "$i" = "$left" ] || kill -KILL "${pid_of[node-$i]}"; done
leaderless() { [ "$(gauge "$left" coordinator_has_leader)" = 0 ]; }
wait_until "word that there is no leader" leaderless
echo "metrics: $(wc -l <"$state/named") named metrics are exported"
