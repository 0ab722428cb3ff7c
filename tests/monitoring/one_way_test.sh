#!/usr/bin/env bash
# A network that carries packets between two nodes in one direction only: the page says which direction fails. Each node
# lives in a network namespace of its own, and this script in the one that routes between them.
# shellcheck disable=SC1091,SC2154,SC2034
set -uo pipefail
if [ "${1:-}" != inside ]; then
  unshare -n true 2>/dev/null || {
    echo "skipped: this machine allows no network namespaces"
    exit 77
  }
  exec unshare -n "$0" inside
fi
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
source "$(dirname "${BASH_SOURCE[0]}")/browser.sh"

before_clean_up() {
  local i
  end_browser
  for i in 1 2 3; do ip netns delete "${space_of[i]}" 2>/dev/null; done
}

ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
for i in 1 2 3; do
  space_of[i]=one-way-$$-$i
  host_of[i]=10.77.$i.2
  ip netns add "${space_of[i]}" || die "no network namespace"
  ip link add "to$i" type veth peer name eth0 netns "${space_of[i]}"
  ip address add "10.77.$i.1/24" dev "to$i"
  ip link set "to$i" up
  ip -n "${space_of[i]}" address add "10.77.$i.2/24" dev eth0
  ip -n "${space_of[i]}" link set eth0 up
  ip -n "${space_of[i]}" link set lo up
  ip -n "${space_of[i]}" route add default via "10.77.$i.1"
done
# Or the way back of a packet would be judged by the rule that drops the way there.
for file in /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >"$file"; done

start_cluster
start_browser 1280 900 light
go_to "$(url 3)/"
wait_until "a healthy cluster on the page" says '#verdict' 'All nodes are healthy'
whole() { [ "$(evaluate 'return [...document.querySelectorAll("#matrix td")].filter(c => / ms/.test(c.innerText)).length')" = 6 ]; }
wait_until "six round trips" whole
cell() { evaluate "return document.querySelectorAll('#matrix tbody tr')[$1 - 1].querySelectorAll('td')[$2 - 1].innerText"; }

ip rule add from 10.77.1.2 to 10.77.2.2 blackhole
one_way() { says '#matrix-note' 'what node-1 sends does not arrive at node-2, while node-2 can send to node-1'; }
wait_until "the one-way fault on the page" one_way
[[ $(cell 1 2) == *'does not arrive'* ]] || die "from node-1 to node-2 it says: $(cell 1 2)"
ctl monitor --once | grep -Eq '^node-1 .* DOES NOT ARRIVE' || die "coordctl monitor shows no such fault"
[[ $(cell 2 1) == *arrives* ]] || die "from node-2 to node-1 it says: $(cell 2 1)"
# The link is closed after some seconds; what failed is still told.
closed() { grep -q 'the link to node-2 is down' "$state/node-1.log"; }
wait_until "the link to be closed" closed
sleep 3
one_way || die "once the link was closed the page says: $(text_of '#matrix-note')"
between() { says '#verdict' 'The network between node-1 and node-2 fails'; }
wait_until "a verdict that names the two" between
devtools Emulation.setDeviceMetricsOverride '{"width":390,"height":800,"deviceScaleFactor":1,"mobile":false}' >/dev/null
[ "$(evaluate 'return document.documentElement.scrollWidth <= innerWidth')" = true ] || die "on a narrow screen words stick out"
[ "$(evaluate 'return [...document.querySelectorAll("#matrix td")].every(c => c.scrollWidth <= c.clientWidth)')" = true ] ||
  die "on a narrow screen words stick out of the cells"

ip rule del from 10.77.1.2 to 10.77.2.2 blackhole
wait_until "six round trips again" whole
wait_until "a healthy cluster again" says '#verdict' 'All nodes are healthy'
[ -z "$(text_of '#matrix-note')" ] || die "after healing the page says: $(text_of '#matrix-note')"
echo "one way: the page shows which direction fails, and that it works again"
