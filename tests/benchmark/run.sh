#!/usr/bin/env bash
# Everything that docs/benchmarks.md reports, on a machine that should do nothing else: about 15 minutes with 2 and 3.
#
#   tests/benchmark/run.sh                the whole of it, and writes docs/benchmarks.md and docs/images/bench-*.svg
#   tests/benchmark/run.sh RUNS SECONDS   with other figures than 3 runs of 5 s, to see that it works
#
# What is measured beside etcd runs in turns with it. Figures as JSON are left in build/benchmarks/.
set -euo pipefail

runs=${1:-3}
seconds=${2:-5}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bench=$root/build/release/bin/coordinator-bench
page=$root/docs/benchmarks.md
results=$root/build/benchmarks
mkdir -p "$results"
[ -x "$bench" ] || {
  echo "there is no $bench: cmake --preset release && cmake --build --preset release" >&2
  exit 1
}

# part NAME ARGUMENTS…: one call, its tables in NAME.md; as it would be typed in NAME.command.
part() {
  local name=$1
  shift
  printf '== %s\n' "$name" >&2
  printf 'coordinator-bench %s\n' "${*//$root\//}" >"$results/$name.command"
  "$bench" "$@" >"$results/$name.md"
}

part keys write follower-write read stale-read --clients 1,16,64,256 --runs "$runs" --seconds "$seconds" --peer etcd \
  --plots "$root/docs/images"
part sizes write --cluster-sizes 1,3,5 --clients 64 --runs "$runs" --seconds "$seconds" --peer etcd
part open-loop write --clients 64 --rate 2000 --runs "$runs" --seconds "$seconds" --peer etcd
part failover failover --runs $((runs * 17)) --peer etcd
part handover handover --runs $((runs * 4))
part work claim-complete mixed --clients 16,64 --tasks 200000 --runs "$runs" --seconds "$seconds"
part submits batch-submit --runs "$runs" --seconds "$seconds"
part heartbeats heartbeats --workers 10000 --runs 1 --seconds 30
part idle idle --runs 1 --seconds 30
part hundred-thousand claim-complete --clients 16 --tasks 100000 --runs 1 --seconds "$seconds"
part large-alone restart --cluster-sizes 1 --tasks 1000000 --runs 1
part large restart catch-up --tasks 1000000 --runs 1 --seconds "$seconds"
for kept in 10000 1000000; do
  part "kept-$kept" write --clients 16 --cluster-sizes 1 --kept-tasks "$kept" --runs "$runs" --seconds "$seconds" \
    --node-flag=--log-retention-entries=1000
done

# The measured part of the page lies between two lines of it.
measured=$(mktemp)
trap 'rm -f "$measured"' EXIT
{
  printf 'Measured on %s, %s, %s cores, %s.\n' "$(date -u +%F)" \
    "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
    "$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
  for name in keys sizes open-loop failover handover work submits heartbeats idle hundred-thousand large-alone large kept-10000 kept-1000000; do
    printf '\n### %s\n\n```\n%s\n```\n\n' "$name" "$(cat "$results/$name.command")"
    cat "$results/$name.md"
  done
} >"$measured"
awk -v from="$measured" '
  /<!-- measured -->/ { print; print ""; while ((getline line < from) > 0) print line; print ""; skip = 1; next }
  /<!-- end of what was measured -->/ { skip = 0 }
  !skip { print }' "$page" >"$measured.page"
mv "$measured.page" "$page"
echo "written to docs/benchmarks.md"
