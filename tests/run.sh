#!/usr/bin/env bash
# Every test: installs what is missing, builds, runs, and ends with the line "N passed, N failed".
#
#   tests/run.sh              all stages
#   tests/run.sh STAGE…       only these
#
# A test case counts as one test, and so does the demo. The sanitizer stages take what is left of the time: they are
# left out, which is said, when the stages before them used it up.
# The functions of the stages are called by name.
# shellcheck disable=SC2317
set -uo pipefail

stages=(install build unit actor simulation http cluster other demo asan trace tsan)

# Seconds that all stages together may take; a stage that must not be left out does not look at it.
total_budget=${TEST_BUDGET:-2700}
# Seconds that a sanitizer's build may take.
build_budget=900
# What runs under the sanitizers: no more than two cores can build and run beside the rest.
sanitizer_targets=(unit_tests tool_tests)
# What the traces of the simulation are compared with, under AddressSanitizer.
trace_targets=(coordinator-sim)
# One test case may take so long, where it does not say otherwise.
case_limit=300

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
reports=$root/build/test-reports
jobs=$(nproc)
# Of so many failures the end of the output is told once more at the very end, of the others the names.
failures_in_full=5
passed=0
failed=0
remarks=()
# Reports of ctest's with failures in them, and logs of what failed otherwise.
failed_reports=()
failed_logs=()

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
remark() {
  printf '%s\n' "$*"
  remarks+=("$*")
}

# Names what failed, with the end of what it wrote: whoever has only the end of the output has to find it there.
tell_failures() {
  local log
  for log in "${failed_logs[@]}"; do
    printf '\n-- failed: %s\n' "$(basename "$log" .log)"
    tail -n 40 "$log" | cut -c 1-400
  done
  [ ${#failed_reports[@]} -eq 0 ] || LC_ALL=C awk -v most="$failures_in_full" '
    function plain(text) {
      gsub(/&lt;/, "<", text)
      gsub(/&gt;/, ">", text)
      gsub(/&quot;/, "\"", text)
      gsub(/&apos;/, "\047", text)
      gsub(/&amp;/, "\\&", text)
      return text
    }
    function attribute(name) {
      if (!match($0, " " name "=\"[^\"]*\""))
        return ""
      return plain(substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 4))
    }
    function tell(    i, first, told, telling) {
      if (++failures > most) {
        print "-- failed, too: " name
        return
      }
      printf "\n-- failed: %s (%s s) %s\n", name, seconds, reason
      first = lines > 40 ? lines - 39 : 1
      # What doctest says of a check comes before what the nodes logged last, which may be long.
      for (i = 1; i < first && told < 40; ++i) {
        if (line[i] ~ /ERROR: /)
          telling = 1
        else if (line[i] == "")
          telling = 0
        if (telling && ++told)
          print line[i]
      }
      if (first > 1)
        print "[...]"
      for (i = first; i <= lines; ++i)
        print line[i]
    }
    /^\t<testcase / {
      failing = /status="fail"/
      name = attribute("name")
      seconds = attribute("time")
      reason = ""
      lines = 0
      next
    }
    !failing { next }
    /^\t\t<failure / { reason = attribute("message"); next }
    /^\t<\/testcase>/ { tell(); failing = 0; next }
    {
      sub(/^\t\t<system-out>/, "")
      sub(/<\/system-out>$/, "")
      line[++lines] = substr(plain($0), 1, 400)
    }' "${failed_reports[@]}"
}

finish() {
  tell_failures
  printf '\n'
  [ ${#remarks[@]} -eq 0 ] || printf '%s\n' "${remarks[@]}"
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
}

# A step without which the rest means nothing.
must() {
  local what=$1
  shift
  "$@" && return
  remark "$what failed"
  failed=$((failed + 1))
  finish
}

# Adds up the figures of a JUnit file of ctest's: all but what was skipped.
count() {
  local head figure
  local -A of=()
  head=$(tr '\n\t' '  ' <"$1" 2>/dev/null | grep -o '<testsuite [^>]*>' | head -n 1)
  for figure in tests failures disabled skipped; do
    of[$figure]=$(sed -n "s/.* $figure=\"\([0-9]*\)\".*/\1/p" <<<"$head")
    [ -n "${of[$figure]}" ] || return 1
  done
  failed=$((failed + of[failures]))
  passed=$((passed + of[tests] - of[failures] - of[disabled] - of[skipped]))
  printf '%s: %d tests, %d failed, %d skipped\n' "$(basename "$1" .xml)" "${of[tests]}" "${of[failures]}" \
    $((of[disabled] + of[skipped]))
}

# run_tests NAME PRESET CTEST-OPTIONS…
run_tests() {
  local name=$1 preset=$2 status=0 before=$failed
  shift 2
  rm -f "$reports/$name.xml"
  ctest --preset "$preset" --no-tests=ignore --timeout "$case_limit" --output-junit "$reports/$name.xml" "$@" || status=$?
  if ! count "$reports/$name.xml"; then
    remark "$name: ctest wrote no report"
    failed=$((failed + 1))
  elif [ "$status" -ne 0 ] && [ "$failed" -eq "$before" ]; then
    remark "$name: ctest failed with status $status"
    failed=$((failed + 1))
  elif [ "$failed" -gt "$before" ]; then
    failed_reports+=("$reports/$name.xml")
    remark "$name: failures; run them again with: ctest --preset $preset --rerun-failed"
  fi
}

build() {
  local preset=$1
  shift
  cmake --preset "$preset" -Wno-dev >"$reports/configure-$preset.log" 2>&1 || {
    tail -n 30 "$reports/configure-$preset.log"
    return 1
  }
  cmake --build --preset "$preset" --parallel "$jobs" "$@" >"$reports/build-$preset.log" 2>&1 || {
    grep -A 15 -E 'FAILED|error' "$reports/build-$preset.log" | tail -n 80
    return 1
  }
}

# sanitized NAME PRESET LABELS TARGETS…: builds these and runs the tests with these labels, if there is time.
sanitized() {
  local name=$1 preset=$2 labels=$3 left=$((total_budget - SECONDS)) status=0
  shift 3
  if [ "$left" -lt 60 ]; then
    remark "$name: left out, no time is left"
    return
  fi
  export -f build
  export reports jobs
  timeout "$((left < build_budget ? left : build_budget))" bash -c 'build "$@"' - "$preset" --target "$@" || status=$?
  if [ "$status" -eq 124 ]; then
    remark "$name: left out, its build took more than the time that is left for it"
  elif [ "$status" -ne 0 ]; then
    failed_logs+=("$reports/build-$preset.log")
    remark "$name: the build failed"
    failed=$((failed + 1))
  else
    run_tests "$name" "$preset" -L "$labels" -j "$jobs"
  fi
}

stage_install() { must "installing the dependencies" ./examples/install_dependencies.sh; }
stage_build() { must "the build" build release; }
stage_unit() { run_tests unit release -L '^unit$' -j "$jobs"; }
stage_actor() { run_tests actor release -L '^actor$' -j "$jobs"; }
stage_simulation() { run_tests simulation release -L '^simulation$' -j "$jobs"; }
stage_http() { run_tests http release -L '^http$' -j "$jobs"; }
stage_cluster() { run_tests cluster release -L '^cluster$'; }
stage_other() { run_tests other release -LE '^(unit|actor|simulation|http|cluster|benchmark|trace)$' -j "$jobs"; }
stage_demo() {
  if ./examples/ha_cluster.sh demo 2>&1 | tee "$reports/demo.log"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    failed_logs+=("$reports/demo.log")
    remark "demo: failed"
  fi
}
stage_asan() { sanitized asan asan '^(unit|http)$' "${sanitizer_targets[@]}"; }
stage_trace() { sanitized trace asan '^trace$' "${trace_targets[@]}"; }
stage_tsan() { sanitized tsan tsan '^(unit|http)$' "${sanitizer_targets[@]}"; }

[ $# -eq 0 ] || stages=("$@")
for stage in "${stages[@]}"; do
  declare -F "stage_$stage" >/dev/null || {
    printf 'tests/run.sh: there is no stage %s\n' "$stage" >&2
    exit 2
  }
done
mkdir -p "$reports"
for stage in "${stages[@]}"; do
  say "$stage"
  "stage_$stage"
done </dev/null
finish
