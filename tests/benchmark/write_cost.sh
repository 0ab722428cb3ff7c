#!/usr/bin/env bash
# The regression guard: counts what a committed write costs where that does not depend on the machine, and fails if a
# figure has risen by more than 10 % over the one that is written down in write_cost.json.
#
#   tests/benchmark/write_cost.sh [PROGRAM]             compares
#   tests/benchmark/write_cost.sh --record [PROGRAM]    writes the figures down anew
#
# PROGRAM is the release build's write_cost. A figure that has fallen as much is told: record it, so that it stays there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pinned=$here/write_cost.json
limit=1.10

record=no
if [ "${1:-}" = --record ]; then
  record=yes
  shift
fi
program=${1:-$here/../../build/release/bin/write_cost}
[ -x "$program" ] || {
  echo "write_cost.sh: $program is not there; build it: cmake --build --preset release --target write_cost" >&2
  exit 2
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What glibc chooses by the processor is the same on all of them then.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-BMI2,-ERMS,-FSRM

# Counts of calls, bytes and messages come from a long run, for what happens only now and then; instructions from one
# that is a fifth of it, for callgrind is slow.
"$program" 5 >"$scratch/counts" 2>"$scratch/errors" || {
  cat "$scratch/errors" >&2
  exit 1
}
valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$scratch/out" "$program" 1 \
  >"$scratch/operations" 2>"$scratch/errors" || {
  cat "$scratch/errors" >&2
  exit 1
}
for dump in "$scratch"/out.*; do
  printf '%s\t%s\n' "$(sed -n 's/^desc: Trigger: Client Request: //p' "$dump")" "$(sed -n 's/^totals: //p' "$dump")"
done | jq -Rn '[inputs | split("\t") | {key: .[0], value: (.[1] | tonumber)}] | from_entries' >"$scratch/instructions"

# Four digits are plenty; what does not happen is left out.
jq -n --slurpfile counts "$scratch/counts" --slurpfile short "$scratch/operations" \
  --slurpfile instructions "$scratch/instructions" '
  def digits: if . >= 1000 then round else . * 10000 | round / 10000 end;
  $counts[0] | .figures |= with_entries(.key as $part
    | .value.instructions = $instructions[0][$part] / $short[0].figures[$part].operations
    | .value |= (del(.operations) | with_entries(select(.value != 0) | .value |= digits)))' >"$scratch/now"
jq -e '[.figures[].instructions | . > 0] | length > 0 and all' "$scratch/now" >/dev/null || {
  echo "write_cost.sh: callgrind counted no instructions" >&2
  exit 1
}

if [ "$record" = yes ]; then
  cp "$scratch/now" "$pinned"
  echo "written down in $pinned"
  exit 0
fi

# One line a figure: part, measure, pinned, now, ratio, verdict. Another compiler or library makes other code, which is
# told and not held against anybody; syncs, messages and bytes between nodes do not depend on it.
jq -rn --slurpfile pinned "$pinned" --slurpfile now "$scratch/now" --argjson limit "$limit" '
  ($pinned[0]["built with"] == $now[0]["built with"]) as $same
  | [$pinned[0].figures, $now[0].figures | keys_unsorted[]] | reduce .[] as $x ([]; if index($x) then . else . + [$x] end) | .[]
  | . as $part | ($pinned[0].figures[$part] // {}) as $was | ($now[0].figures[$part] // {}) as $is
  | ($was + $is | keys_unsorted[]) as $measure
  | $was[$measure] as $a | $is[$measure] as $b
  | (if $a and $b then $b / $a else null end) as $ratio
  | (if $a == null then "NEW"
     elif $b == null then "GONE"
     elif $ratio > $limit then
       (if $same or ($measure | IN("syncs", "messages", "bytes between nodes")) then "MORE" else "more" end)
     elif $ratio < 2 - $limit then "less"
     else "" end) as $verdict
  | [$part, $measure, $a // "-", $b // "-", (if $ratio then $ratio * 1000 | round / 1000 else "-" end), $verdict] | @tsv' \
  >"$scratch/table"
{
  printf 'what\tfor each operation\tpinned\tnow\tratio\t\n'
  cat "$scratch/table"
} | awk -F '\t' '{ printf "%-32s %-24s %10s %10s %7s  %s\n", $1, $2, $3, $4, $5, $6 }'

again="if that is meant: tests/benchmark/write_cost.sh --record"
status=0
if [ "$(jq -r '."built with"' "$pinned")" != "$(jq -r '."built with"' "$scratch/now")" ]; then
  echo "built with $(jq -r '."built with"' "$scratch/now"), pinned with $(jq -r '."built with"' "$pinned")"
fi
if grep -qE $'\t(NEW|GONE)$' "$scratch/table"; then
  echo "what is counted has changed; $again" >&2
  status=1
fi
if grep -q $'\tMORE$' "$scratch/table"; then
  echo "a write costs more than 10 % more than is written down; $again" >&2
  status=1
fi
if grep -q $'\tless$' "$scratch/table"; then
  echo "a write has become cheaper by more than 10 %: record it, so that it stays so: tests/benchmark/write_cost.sh --record"
fi
exit $status
