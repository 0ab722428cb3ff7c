#!/usr/bin/env bash
# /metrics of a real cluster against promtool, and against what the rules and the board of examples/monitoring name.
# shellcheck disable=SC1091,SC2154
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
examples=$root/examples/monitoring

promtool check config "$examples/prometheus.yml" || die "the configuration is not valid"
promtool check rules "$examples/alerts.yml" || die "the rules are not valid"
[ "$(grep -c -- '- alert:' "$examples/alerts.yml")" -eq 7 ] || die "seven alerts are described"

start_cluster
ctl kv put key value >/dev/null || die "a key cannot be written"
# A round trip to each peer is measured twice a second.
measured() { ask 1 /metrics | grep -q 'coordinator_peer_round_trip_seconds_count{peer="node-3"}'; }
wait_until 20 "round trips" measured
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

ctl monitor --once | grep -Eq '^node-1 +(LEADER|FOLLOWER) ' || die "coordctl monitor does not show node-1"
ctl -o json monitor --once | jq -e '(.nodes | length) == 3 and .failure_tolerance == 1' >/dev/null ||
  die "coordctl monitor as JSON is not what it should be"

# A scrape does not wait: not for long polls, not for a node that is gone.
ctl kv get key >/dev/null
curl -sf -X POST "$(url 1)/api/workers/register" -d '{"worker_id":"w","host":"h","port":1,"capabilities":[]}' >/dev/null ||
  die "a worker cannot register"
for i in $(seq 50); do
  launch "poll-$i" curl -s -X POST "$(url 1)/api/tasks/claim" -d '{"worker_id":"w","wait_ms":30000}'
done
polls_wait() { ask 1 /metrics | awk '$1 == "coordinator_http_connections" && $2 >= 50 { found = 1 } END { exit !found }'; }
wait_until 20 "fifty long polls" polls_wait
for path in /metrics /livez '/readyz?verbose' /api/health /api/health/db /api/health/log /api/health/operations /api/monitor; do
  curl -sf --max-time 2 "$(url 1)$path" >/dev/null || die "$path is not answered while long polls fill the server"
done
echo "metrics: $(wc -l <"$state/named") named metrics are exported"
