# shellcheck shell=bash disable=SC2154
# Headless Chromium by WebDriver's own HTTP, for the scripts beside this one, which source it after cluster.sh.

session=

driver() {
  local method=$1 path=$2
  shift 2
  curl -sS --max-time 60 -X "$method" -H 'Content-Type: application/json' "http://127.0.0.1:$driver_port$path" "$@"
}
driver_is_ready() { driver GET /status 2>/dev/null | jq -e '.value.ready' >/dev/null 2>&1; }

# start_browser WIDTH HEIGHT light|dark
start_browser() {
  local answer
  if [ -z "${driver_port:-}" ]; then
    driver_port=$((31000 + RANDOM % 1500))
    launch chromedriver chromedriver --port="$driver_port"
    wait_until "chromedriver" driver_is_ready
  fi
  # Root has no sandbox, and a container often no /dev/shm worth the name.
  answer=$(driver POST /session -d "$(jq -n --arg size "--window-size=$1,$2" --arg profile "--user-data-dir=$state/profile-$RANDOM" \
    --arg dark "$([ "$3" = dark ] && echo --force-dark-mode || echo --lang=en)" \
    '{capabilities: {alwaysMatch: {browserName: "chrome", "goog:chromeOptions": {args:
       ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", $size, $profile, $dark]}}}}')")
  session=$(jq -r '.value.sessionId // empty' <<<"$answer")
  [ -n "$session" ] || die "no browser: $answer"
  # A phone's width is less than a window's least.
  devtools Emulation.setDeviceMetricsOverride "{\"width\":$1,\"height\":$2,\"deviceScaleFactor\":1,\"mobile\":false}" >/dev/null
  devtools Emulation.setEmulatedMedia "{\"features\":[{\"name\":\"prefers-color-scheme\",\"value\":\"$3\"}]}" >/dev/null
}
end_browser() {
  [ -z "$session" ] || driver DELETE "/session/$session" >/dev/null 2>&1
  session=
}
before_clean_up() { end_browser; }

devtools() {
  driver POST "/session/$session/goog/cdp/execute" -d "{\"cmd\":\"$1\",\"params\":${2:-{\}}}" | jq -c '.value'
}
go_to() { driver POST "/session/$session/url" -d "{\"url\":\"$1\"}" >/dev/null; }
# What a script's `return …` gives, as text.
evaluate() {
  driver POST "/session/$session/execute/sync" -d "$(jq -n --arg script "$1" '{script: $script, args: []}')" |
    jq -r '.value | if type == "string" then . else tojson end'
}
text_of() { evaluate "return document.querySelector('$1').innerText"; }
# says SELECTOR TEXT
says() { [[ $(text_of "$1" 2>/dev/null) == *"$2"* ]]; }
# press KEY…: each is a character, or Tab or Enter.
press() {
  local key value
  for key in "$@"; do
    case $key in
      Tab) value='\uE004' ;;
      Enter) value='\uE007' ;;
      *) value=$key ;;
    esac
    driver POST "/session/$session/actions" -d "{\"actions\":[{\"type\":\"key\",\"id\":\"keys\",\"actions\":[
      {\"type\":\"keyDown\",\"value\":\"$value\"},{\"type\":\"keyUp\",\"value\":\"$value\"}]}]}" >/dev/null
  done
}
# What a screen reader is told, a line each: the role, and the name.
spoken() {
  devtools Accessibility.getFullAXTree |
    jq -r '.nodes[] | select(.ignored | not) | "\(.role.value // "") \(.name.value // "")"'
}
