#!/usr/bin/env bash
# Runs every command of docs/deployment_guide.md as it stands there, on "machines" that are addresses and directories of
# their own, and fails for one that it does not run. Only 0.0.0.0, which is the same for all, becomes the machine's address.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${COORDINATOR_BIN:-$root/build/release/bin}

if [ "${1:-}" != inside ]; then
  if ! unshare -m -n -p --fork --kill-child --mount-proc true 2>/dev/null; then
    echo "SKIPPED: this user can make no namespaces"
    exit 77
  fi
  exec unshare -m -n -p --fork --kill-child --mount-proc "$0" inside
fi

work=$(mktemp -d)
made=()
trap 'rm -rf "$work"; [ ${#made[@]} -eq 0 ] || rmdir "${made[@]}" 2>/dev/null || true' EXIT
ip link set lo up
mkdir -p "$work/units" "$work/etc" "$work/bin" "$work/home"
# What is mounted there is seen by this test alone; only the names are made on the system, and removed again.
for directory in /etc/systemd/system /etc/coordinator /var/lib/coordinator; do
  [ -d "$directory" ] && continue
  mkdir -p "$directory"
  made+=("$directory")
done
mount --bind "$work/units" /etc/systemd/system
mount --bind "$work/etc" /etc/coordinator
{
  echo "127.0.0.1 localhost"
  echo "127.0.2.1 coordinator.example.org"
  n=0
  for name in a b c d; do echo "127.0.1.$((++n)) $name.example.org"; done
} >"$work/hosts"
mount --bind "$work/hosts" /etc/hosts
# Where no systemd runs, what is asked of it is only noted.
printf '#!/bin/sh\necho "$@" >>%s/systemctl\n' "$work" >"$work/bin/systemctl"
chmod 755 "$work/bin/systemctl"
export PATH="$work/bin:$bin:$PATH" HOME="$work/home"
unset "${!COORDINATOR_@}" XDG_STATE_HOME
cd "$root"

fail() {
  echo "guide_test.sh: $*" >&2
  for log in "$work"/*.log; do
    echo "---- ${log##*/}" >&2
    tail -n 5 "$log" >&2
  done
  exit 1
}

# The commands of the blocks without a language, one a line.
commands=$(awk '/^```/ { open = !open && $0 == "```"; inside = !inside; if (!inside) open = 0; next } open' docs/deployment_guide.md |
  sed -e ':join' -e '/\\$/ { N; s/ *\\\n */ /; b join' -e '}' | sed -e 's/  *#.*//' -e '/^#/d' -e '/^$/d')
# The backquotes are the page's own.
# shellcheck disable=SC2016
inline=$(grep -o '`coordctl [a-z][^`]*`' docs/deployment_guide.md | tr -d '\`' | sort -u)
: >"$work/ran"

# The N-th command that begins so; it counts as run.
command_of() {
  local found
  found=$(grep -e "^$1" <<<"$commands" | sed -n "${2:-1}p")
  [ -n "$found" ] || fail "the guide has no command '$1' number ${2:-1}"
  echo "$found" >>"$work/ran"
  echo "$found"
}

until_true() {
  local end=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "in vain: $*"
    sleep 0.1
  done
}

address_of() { awk -v host="$1" '$2 == host { print $1 }' /etc/hosts; }

declare -A pid
# start MACHINE COMMAND LINE: with a /var/lib/coordinator of the machine's own.
start() {
  local machine=$1 line=$2 address
  address=$(address_of "$machine.example.org")
  line=${line//0.0.0.0/$address}
  mkdir -p "$work/disk-$machine"
  unshare -m sh -c "mount --bind '$work/disk-$machine' /var/lib/coordinator && exec $line" >>"$work/$machine.log" 2>&1 &
  pid[$machine]=$!
}
stop() {
  kill "${pid[$1]}"
  wait "${pid[$1]}" || true
}
serves() { curl -sf "http://$1/readyz"; }
has_voter() {
  coordctl --coordinator "$cluster" -o json cluster | jq -e ".members[] | select(.node_id == \"$1\" and .voter)"
}

echo "one node"
start coordinator "$(command_of 'coordinator --node-id one')"
until_true serves 127.0.0.1:8080
stop coordinator
start coordinator "$(command_of 'coordinator --node-id one' 2)"
until_true serves coordinator.example.org:8080
stop coordinator

echo "three nodes on one machine"
for n in 1 2 3; do start "local-$n" "$(command_of 'coordinator --node-id [abc] --port' $n)"; done
for port in 8080 8081 8082; do until_true serves localhost:$port; done
for n in 1 2 3; do stop "local-$n"; done

echo "three nodes on three machines"
(cd "$work" && eval "$(command_of 'head -c 32')" && chmod 600 cluster-secret && cp -p cluster-secret /etc/coordinator/)
export COORDINATOR_URL=http://a.example.org:8080,http://b.example.org:8080,http://c.example.org:8080
cluster=$COORDINATOR_URL
n=0
for name in a b c; do
  n=$((n + 1))
  line=$(command_of 'coordinator --node-id [abc] --host 0.0.0.0' $n)
  declare "line_$name=$line"
  start $name "env -u COORDINATOR_URL $line"
done
for name in a b c; do until_true serves $name.example.org:8080; done

echo "the watch daemon and the units"
eval "$(command_of 'install -m 644')"
for n in 1 2 3; do eval "$(command_of 'systemctl ' $n)"; done
[ "$(wc -l <"$work/systemctl")" -eq 3 ] || fail "systemctl was not asked three times"
cp examples/systemd/cluster.json /etc/coordinator/
look=$(command_of 'coordctl recover')
until_true eval "$look"

echo "adding, replacing and removing nodes"
# shellcheck disable=SC2154
line_d=$(sed -e 's/--node-id a /--node-id d /' -e 's/--advertise a\./--advertise d./' -e 's/--peers /&a=a.example.org:8080,/' <<<"$line_a")
start d "env -u COORDINATOR_URL $line_d"
until_true curl -sf http://d.example.org:8080/livez
add=$(command_of 'coordctl cluster add d')
until_true eval "$add"
until_true has_voter d
until_true coordctl cluster promote d
echo "coordctl cluster promote d" >>"$work/ran"
stop b
rm -rf "$work/disk-b"
# shellcheck disable=SC2154
start b "env -u COORDINATOR_URL $line_b"
until_true curl -sf http://b.example.org:8080/livez
add=$(command_of 'coordctl cluster add b')
until_true eval "$add"
until_true has_voter b
remove=$(command_of 'coordctl cluster remove c')
until_true eval "$remove"
wait "${pid[c]}" || fail "the removed node does not end with status 0"

echo "restarting"
for line in "coordctl cluster" "coordctl cluster transfer" "coordctl cluster restart-plan"; do
  until_true eval "$line"
  echo "$line" >>"$work/ran"
done
for directory in /etc/systemd/system /etc/coordinator; do umount "$directory"; done
# Described on the same page, and run above under its full name.
echo "coordctl recover" >>"$work/ran"

missing=$({ echo "$commands"; echo "$inline"; } | sort -u | grep -vxF -f "$work/ran" || true)
[ -z "$missing" ] || fail "no test runs these commands of the guide:
$missing"
echo "all $(sort -u "$work/ran" | wc -l) commands of the guide ran"
