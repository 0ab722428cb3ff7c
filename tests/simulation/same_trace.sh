#!/usr/bin/env bash
# Plays one seed of every profile with two builds of coordinator-sim, and compares all that they say, byte for byte.
#
#   tests/simulation/same_trace.sh PROGRAM OTHER-PROGRAM [VIRTUAL-SECONDS]
#
# Ends with 1 where a trace differs, and names the first line that does; with 77 where a program is missing.
set -uo pipefail

one=$1
other=$2
seconds=${3:-6}
seed=7
for program in "$one" "$other"; do
  [ -x "$program" ] || {
    printf 'there is no %s to compare with\n' "$program"
    exit 77
  }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

profiles=$("$one" --help | tr '\n' ' ' | grep -o -- '--profile TEXT:{[^}]*}' | sed 's/.*{//; s/}//; s/,/ /g')
[ -n "$profiles" ] || {
  printf '%s names no profiles\n' "$one"
  exit 1
}
differ=0
for profile in $profiles; do
  arguments=(--replay "$seed" --profile "$profile" --virtual-seconds "$seconds" --trace)
  "$one" "${arguments[@]}" >"$scratch/one" 2>"$scratch/errors"
  status=$?
  "$other" "${arguments[@]}" >"$scratch/other" 2>"$scratch/errors"
  if [ $? -ne "$status" ] || ! cmp "$scratch/one" "$scratch/other"; then
    differ=1
    printf '%s: the traces differ; first of all in\n' "$profile"
    diff "$scratch/one" "$scratch/other" | head -n 4
  elif [ "$(wc -l <"$scratch/one")" -lt 1000 ] || ! tail -n 2 "$scratch/one" | grep -q fingerprint; then
    differ=1
    printf '%s: that is no trace of a history\n' "$profile"
  else
    printf '%-12s the same %d lines\n' "$profile" "$(wc -l <"$scratch/one")"
  fi
done
exit "$differ"
