# shellcheck shell=bash
# A cluster of three nodes as processes, for the scripts beside this one, which source it. Everything that was started is
# ended by its id when the script ends, and also when the script is killed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${COORDINATOR_BIN:-$root/build/release/bin}
state=$(mktemp -d "${TMPDIR:-/tmp}/monitoring.XXXXXX")
export HOME=$state
declare -A pid_of
declare -a http_port cluster_port host_of

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

clean_up() {
  local status=$? name
  trap - EXIT
  declare -F before_clean_up >/dev/null && before_clean_up
  for name in "${!pid_of[@]}"; do kill -KILL "${pid_of[$name]}" 2>/dev/null; done
  wait 2>/dev/null
  [ "$status" -eq 0 ] || tail -n 5 "$state"/*.log >&2
  rm -rf "$state"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 143' INT TERM HUP

# launch NAME COMMAND…
launch() {
  local name=$1
  shift
  setpriv --pdeathsig KILL "$@" >>"$state/$name.log" 2>&1 </dev/null &
  pid_of[$name]=$!
}

# Seconds that a busy machine may take for anything.
patience=60

# wait_until WHAT COMMAND…
wait_until() {
  local deadline=$((SECONDS + patience)) what=$1
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || die "not in time: $what"
    sleep 0.1
  done
}

pick_ports() {
  local taken=" " i kind port
  for i in 1 2 3; do
    for kind in http_port cluster_port; do
      # Below the ports that the kernel gives to outgoing connections.
      while :; do
        port=$((12000 + RANDOM % 18000))
        case $taken in *" $port "*) continue ;; esac
        [ -n "$(ss -Hltn "sport = :$port")" ] || break
      done
      taken+="$port "
      declare -g "${kind}[$i]=$port"
    done
  done
}

# Where each node lives; a script may say otherwise.
host_of=([1]=127.0.0.1 [2]=127.0.0.1 [3]=127.0.0.1)
declare -a space_of descriptors_of

# Leaders stay for as long as the machine does not stand still for a second.
start_node() {
  local i=$1 peers='' other
  local -a within=()
  # How many descriptors the node may have, where a script says so.
  [ -z "${descriptors_of[i]:-}" ] || within=(prlimit --nofile="${descriptors_of[i]}:${descriptors_of[i]}")
  [ -z "${space_of[i]:-}" ] || within=(ip netns exec "${space_of[i]}")
  for other in 1 2 3; do
    [ "$other" = "$i" ] || peers+=${peers:+,}node-$other=${host_of[other]}:${http_port[other]}:${cluster_port[other]}
  done
  launch "node-$i" "${within[@]}" "$bin/coordinator" --node-id "node-$i" --host "${host_of[i]}" --port "${http_port[i]}" \
    --cluster-port "${cluster_port[i]}" --data-dir "$state/node-$i" --enable-redundancy --peers "$peers" \
    --cluster-secret-file "$state/secret" \
    --election-timeout-min 1000 --election-timeout-max 2000 --heartbeat-interval 100
}

url() { printf 'http://%s:%s' "${host_of[$1]}" "${http_port[$1]}"; }
urls() { printf '%s,%s,%s' "$(url 1)" "$(url 2)" "$(url 3)"; }
ctl() { "$bin/coordctl" --coordinator "$(urls)" "$@"; }
ask() { curl -sf --max-time 20 "$(url "$1")$2"; }
knows_leader() { [ -n "$(ctl -o json cluster show 2>/dev/null | jq -r '.leader // empty' | tee "$state/leader")" ]; }
leader() { wait_until "a leader" knows_leader && cat "$state/leader"; }
all_healthy() { ctl --patience 1 -o json cluster show 2>/dev/null | jq -e '.leader != null and .quorum.healthy == 3' >/dev/null; }

start_cluster() {
  local i
  (umask 077 && head -c 32 /dev/urandom | base64 >"$state/secret")
  pick_ports
  for i in 1 2 3; do start_node "$i"; done
  wait_until "a leader and three healthy nodes" all_healthy
}
