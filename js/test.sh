#!/usr/bin/env bash
# All that must hold of the browser client. What it needs and this machine lacks is installed, or it fails: nothing is
# skipped. Called by ../test.sh, step by step; by itself it runs all steps.
#
#   SEEDS   how many random schedules the simulation runs (default 2000)
set -eu -o pipefail
cd "$(dirname "$0")"

tools() {
    command -v node >/dev/null || { echo "node 20 or later is needed"; return 1; }
    node -e 'if (parseInt(process.versions.node) < 20) throw "node 20 or later is needed"'
    npm ci --no-audit --no-fund --ignore-scripts
    [ -x "${CHROMIUM:-/usr/bin/chromium}" ] || { apt-get update && apt-get install -y --no-install-recommends chromium; }
    "${CHROMIUM:-/usr/bin/chromium}" --version
}

types() {
    npx tsc --noEmit && npx tsc --noEmit -p tests
}

unit() {
    node tests/run.mjs
}

simulation() {
    node tests/run.mjs sim
}

size() {
    node build.mjs --size
}

package() {
    node build.mjs && npx publint --strict
}

served() {
    node build.mjs --check
}

browser() {
    (cd .. && cargo build --quiet --example chat --example echo_hyper)
    node --test --test-reporter=spec --test-concurrency=1 tests/browser/*.test.mjs
}

if [ $# -gt 0 ]; then
    "$@"
else
    for step in tools types unit size served package browser; do
        printf '==> %s\n' "$step"
        "$step"
    done
fi
