#!/usr/bin/env bash
# Installs what building, testing and the examples need, from Debian 12's own packages. Quick when all is there.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config git ca-certificates
  ccache mold clang-format
  libcaf-dev libcpp-httplib-dev libsqlite3-dev nlohmann-json3-dev doctest-dev
  libssl-dev libcli11-dev libspdlog-dev libisal-dev libxxhash-dev libboost-dev prometheus-cpp-dev libjs-chart.js
  curl jq iproute2 procps systemd sqlite3 etcd-server gnuplot-nox valgrind
  prometheus chromium chromium-driver fonts-dejavu-core
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root=()
elif command -v sudo >/dev/null; then
  as_root=(sudo)
else
  echo "install_dependencies.sh: not root and no sudo; missing: ${missing[*]}" >&2
  exit 1
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
