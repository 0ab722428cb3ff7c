#!/usr/bin/env bash
# Makes the pictures of the cluster health monitor in docs/images/: a cluster at work, one of whose leaders was killed.
# shellcheck disable=SC1091,SC2154
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
source "$(dirname "${BASH_SOURCE[0]}")/browser.sh"
images=$root/docs/images
mkdir -p "$images"

start_cluster
for i in 1 2 3 4 5 6; do
  launch "worker-$i" "$bin/coordinator-worker" --coordinator "$(urls)" --worker-id "rack$((i % 2 + 1))-0$i" \
    --capabilities "$([ "$i" -gt 4 ] && echo cpu,cuda || echo cpu)" --slots 2 --log-level warn
done
shell_tasks() {
  local run=$1 n=$2 sleep=$3 i
  for ((i = 1; i <= n; i++)); do
    printf '{"task_id":"%s-%04d","run_id":"%s","command":["sh","-c","sleep %s; %s"],"worker_requirements":{"capabilities":["%s"]}}\n' \
      "$run" "$i" "$run" "$sleep" "$([ $((i % 37)) -eq 0 ] && echo 'echo assertion failed: left == right; exit 1' || echo true)" \
      "$([ $((i % 5)) -eq 0 ] && echo cuda || echo cpu)"
  done
}
shell_tasks nightly-2041 120 0.01 | ctl task submit --file - >/dev/null
shell_tasks smoke-118 40 0.01 | ctl task submit --file - >/dev/null
# Each node measures the writes that its own clients ask for.
for i in 1 2 3; do launch "probe-$i" "$bin/coordctl" --coordinator "$(url "$i")" probe --interval-ms 50; done
sleep "${WARM_UP:-40}"
old=$(leader)
kill -KILL "${pid_of[$old]}"
sleep 8
start_node "${old#node-}"
wait_until "three healthy nodes" all_healthy
shell_tasks regression-77 2600 0.5 | ctl task submit --file - >/dev/null
ctl task submit --run-id gpu-farm --requires rocm -- true >/dev/null
sleep "${WARM_UP:-40}"

here=$(leader)
# take NAME WIDTH HEIGHT light|dark
take() {
  start_browser "$2" "$3" "$4"
  go_to "$(url "${here#node-}")/"
  wait_until "the page" says '#link-text' live
  # The window as high as the page, so that the picture is all of it.
  devtools Emulation.setDeviceMetricsOverride \
    "{\"width\":$2,\"height\":$(evaluate 'return document.documentElement.scrollHeight'),\"deviceScaleFactor\":1,\"mobile\":false}" >/dev/null
  sleep 3
  driver GET "/session/$session/screenshot" | jq -r .value | base64 -d >"$images/$1.png"
  [ -s "$images/$1.png" ] || die "no picture"
  end_browser
}
take monitor_light 1280 900 light
take monitor_dark 1280 900 dark
take monitor_narrow 390 844 light
take monitor_narrow_dark 390 844 dark
# With a node that is down.
other=$((${here#node-} % 3 + 1))
kill -KILL "${pid_of[node-$other]}"
sleep 5
take monitor_node_down 1280 900 light
ls -l "$images"
