#!/usr/bin/env bash
# The cluster health monitor in headless Chromium, on a real cluster: what it shows, a leader that is killed, a node that
# leaves the page behind, a narrow screen, the keyboard.
# shellcheck disable=SC1091,SC2154
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
source "$(dirname "${BASH_SOURCE[0]}")/browser.sh"

passed=0
ok() {
  passed=$((passed + 1))
  printf 'ok: %s\n' "$*"
}

start_cluster
ctl task submit --run-id waiting --requires cuda -- true >/dev/null || die "a task cannot be submitted"
curl -sf -X POST "$(url 1)/api/workers/register" -d '{"worker_id":"w-1","host":"h","port":1,"capabilities":["cpu"]}' >/dev/null ||
  die "a worker cannot register"
task=$(ctl task submit --run-id '<b>broken<b>' -- false) || die "a task cannot be submitted"
curl -sf -X POST "$(url 1)/api/tasks/claim" -d '{"worker_id":"w-1","wait_ms":5000}' >/dev/null
curl -sf -X POST "$(url 1)/api/tasks/$task/complete" \
  -d '{"worker_id":"w-1","attempt":1,"result":{"exit_code":1,"outcome":"failed","duration_ms":12,"output":"it broke <here>"}}' >/dev/null ||
  die "a result cannot be reported"

old=$(leader)
old_number=${old#node-}
# The page comes from a follower, which sees its leader die.
here=$((old_number % 3 + 1))
start_browser 1280 900 light
go_to "$(url "$here")/"
wait_until "a healthy cluster on the page" says '#verdict' 'All nodes are healthy'
says '#verdict-detail' "$old leads. 1 more node may fail." || die "the page says: $(text_of '#verdict-detail')"
wait_until "a live stream" says '#link-text' live
ok "the page is live and knows the leader"
[ "$(evaluate 'return document.querySelectorAll("#nodes tr").length')" = 3 ] || die "not three nodes"
matrix_is_whole() { [ "$(evaluate 'return [...document.querySelectorAll("#matrix td")].filter(c => / ms/.test(c.innerText)).length')" = 6 ]; }
wait_until "six round trips" matrix_is_whole
ok "nodes and round trips"
says '#queue' cuda || die "the queue says: $(text_of '#queue')"
says '#workers' w-1 || die "the workers say: $(text_of '#workers')"
says '#runs' '<b>broken<b>' || die "the runs say: $(text_of '#runs')"
evaluate 'const d = [...document.querySelectorAll("#runs details")].find(d => d.dataset.run.includes("broken")); d.querySelector("summary").focus(); d.querySelector("summary").click(); return 1' >/dev/null
wait_until "the failure's output" says '#runs' 'it broke <here>'
ok "queue, workers, and a run with its failure, as text"
charts_are_drawn() { [ "$(evaluate 'return Object.values(Chart.instances).filter(c => c.data.labels.length > 0).length')" = 3 ]; }
wait_until "three charts" charts_are_drawn
ok "charts"
[ "$(evaluate 'return performance.getEntriesByType("resource").filter(e => new URL(e.name).origin !== location.origin).length')" = 0 ] ||
  die "the page asked another host"
[ "$(evaluate 'return [...document.querySelectorAll("canvas,[role=img]")].every(e => e.getAttribute("aria-label") || e.getAttribute("aria-labelledby"))')" = true ] ||
  die "a picture has no name"
[ "$(evaluate 'return document.activeElement.tagName')" = SUMMARY ] || die "a refresh takes the focus away"
ok "no other host; pictures have names; the focus stays"

kill -KILL "${pid_of[$old]}"
killed_at=$SECONDS
new_leader() { says '#verdict' "$old is down" && says '#verdict-detail' leads && ! says '#verdict-detail' "$old leads"; }
wait_until "the new leader on the page" new_leader
new=$(text_of '#verdict-detail')
says '#verdict-detail' 'No further node may fail.' || die "the page says: $new"
[ "${new%% *}" = "$(leader)" ] || die "the page names ${new%% *}, and $(leader) leads"
wait_until "the loss on the line of time" says '#timeline' "$old was lost"
says '#timeline' "${new%% *} leads" || die "the line of time says: $(text_of '#timeline')"
says '#nodes' unreachable || die "the nodes say: $(text_of '#nodes')"
ok "$old was killed, and the page shows ${new%% *} after $((SECONDS - killed_at)) s at most"

start_node "$old_number"
wait_until "all healthy again" says '#verdict' 'All nodes are healthy'
ok "the node is back"

# The node that served the page is paused, then killed: the page says so, and offers the others.
kill -STOP "${pid_of[node-$here]}"
wait_until "a stale page that says so" says '#stale' "node-$here has not answered"
says '#verdict' 'Not known any more' || die "a stale page says: $(text_of '#verdict')"
says '#link-text' stale || die "the head says: $(text_of '#link-text')"
says '#stale' Ask || die "the banner names no other node"
kill -CONT "${pid_of[node-$here]}"
live_again() { says '#link-text' live && [ -z "$(text_of '#stale')" ]; }
wait_until "a live page again" live_again
ok "a page that is stale says so, and lives again"

for width in 390 1280; do
  devtools Emulation.setDeviceMetricsOverride "{\"width\":$width,\"height\":800,\"deviceScaleFactor\":1,\"mobile\":false}" >/dev/null
  [ "$(evaluate 'return document.documentElement.scrollWidth <= innerWidth')" = true ] ||
    die "at $width pixels it is $(evaluate 'return document.documentElement.scrollWidth') wide"
done
ok "no sideways scrolling at 390 and 1280 pixels"

# -- without a mouse, and without eyes ---------------------------------------------------------------------------------
go_to "$(url "$here")/"
wait_until "the page" says '#link-text' live
wait_until "the runs" says '#runs' broken
press Tab
[ "$(evaluate 'return document.activeElement.className')" = skip ] || die "the first stop is not the way past the head"
press Enter
[ "$(evaluate 'return document.activeElement.id')" = main ] || die "the way past the head leads to $(evaluate 'return document.activeElement.outerHTML.slice(0, 80)')"
stops=
for _ in $(seq 40); do
  press Tab
  stop=$(evaluate 'const e = document.activeElement, style = getComputedStyle(e);
    const by = e.getAttribute("aria-labelledby"), named = by ? document.getElementById(by).innerText : e.getAttribute("aria-label") || e.innerText;
    return e === document.body ? "end" : [e.tagName, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 ? "seen" : "unseen", named.split("\n")[0]].join(" ")')
  [ "$stop" = end ] && break
  [[ $stop == *" seen "?* ]] || die "where the keyboard is cannot be seen, or has no name: $stop"
  stops+="$stop"$'\n'
done
for wanted in 'DIV seen Nodes' 'DIV seen Who reaches whom' 'OL seen Elections and recoveries' 'UL seen Workers' 'SUMMARY seen' 'A seen Metrics'; do
  grep -q "^$wanted" <<<"$stops" || die "the keyboard does not reach: $wanted; it stops at: $stops"
done
evaluate 'document.querySelector("#runs details:not([open]) summary").focus(); return 1' >/dev/null
press Enter
[ "$(evaluate 'return document.activeElement.parentElement.open')" = true ] || die "a run does not open by the keyboard"
ok "the keyboard reaches all of it, visibly: $(grep -c . <<<"$stops") stops"

spoken >"$state/spoken"
for wanted in 'banner ' 'main ' 'contentinfo ' 'region Nodes' 'region Who reaches whom' 'region Elections and recoveries' \
  'region Queue' 'region Workers' 'region Runs' 'columnheader Node' 'columnheader Role' 'rowheader node-1' \
  'image Leaders over the last ten minutes'; do
  grep -q "^$wanted" "$state/spoken" || die "a screen reader is not told: $wanted"
done
! grep -Eq '^(image|img|button|link|graphics-document) *$' "$state/spoken" || die "something has no name"
[ "$(evaluate 'return document.getElementById("verdict").getAttribute("aria-live") + document.getElementById("stale").getAttribute("role")')" = politealert ] ||
  die "changes are not spoken"
ok "a screen reader is told what is where, and what changes"

# -- alone ----------------------------------------------------------------------------------------------------------------
for i in 1 2 3; do [ "$i" = "$here" ] || kill -KILL "${pid_of[node-$i]}"; done
go_to "$(url "$here")/"
wait_until "a cluster without a quorum" says '#verdict' 'No quorum'
says '#verdict-detail' '1 of 3 voters' || die "the page says: $(text_of '#verdict-detail')"
unreachable() { [ "$(evaluate 'return document.querySelectorAll("#nodes tr.down").length')" = 2 ]; }
wait_until "two nodes that cannot be reached" unreachable
says '#workers' w-1 || die "what was applied last is not shown"
wait_until "word of what may be behind" says '#stale' 'may be behind'
ok "one node that is left serves the page, and says that there is no quorum"
echo "page: $passed checks passed"
