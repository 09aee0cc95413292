#!/usr/bin/env bash
# Checks reports in headless Chromium: check.sh OUT REPORT.html... Installs what it needs below OUT; Chromium must be there, or
# is installed with apt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
command -v "${CHROMIUM:-chromium}" > /dev/null || apt-get install -y -qq chromium fonts-dejavu-core
mkdir -p "$out/node"
[ -d "$out/node/node_modules/axe-core" ] || npm install --silent --no-fund --no-audit --prefix "$out/node" playwright-core@1 axe-core@4
reports=()
for report in "$@"; do reports+=("$(realpath "$report")"); done
out=$(realpath "$out")
cd "$out/node"
exec node "$here/report.mjs" "$out" "${reports[@]}"
