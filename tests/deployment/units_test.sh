#!/usr/bin/env bash
# The units in examples/systemd hold before systemd's own check.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${COORDINATOR_BIN:-$root/build/release/bin}
command -v systemd-analyze >/dev/null || {
  echo "SKIPPED: systemd-analyze is missing"
  exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for unit in "$root"/examples/systemd/*.service; do
  name=${unit##*/}
  # A template is checked as one of its instances. The programs are where they were built.
  sed "s#/usr/local/bin/#$bin/#" "$unit" >"$work/${name/@./@a.}"
done
units=("$work"/*.service)
[ ${#units[@]} -ge 2 ]
said=$(systemd-analyze verify --man=no "${units[@]}" 2>&1) || {
  echo "$said"
  exit 1
}
# It warns of what it does not know, and ends well all the same.
if grep -F "$work" <<<"$said"; then exit 1; fi
# The check does find what is wrong.
sed -i 's/^ExecStart=.*/ExecStart=nothing/' "$work/coordctl-recover.service"
if systemd-analyze verify --man=no "$work/coordctl-recover.service" >/dev/null 2>&1; then
  echo "a unit without a program passes"
  exit 1
fi
echo "systemd-analyze verify: ${#units[@]} units"
