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
    local chromium=${CHROMIUM:-/usr/bin/chromium} missing="" root=""
    [ -x "$chromium" ] || missing=chromium
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$missing nginx"
    if [ -n "$missing" ]; then
        if [ "$(id -u)" != 0 ]; then
            command -v sudo >/dev/null || { echo "missing: $missing, and there is neither root nor sudo to install it" >&2; return 1; }
            root=sudo
        fi
        $root apt-get update && $root apt-get install -y --no-install-recommends $missing || { echo "could not be installed: $missing" >&2; return 1; }
    fi
    "$chromium" --version
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
    node build.mjs
    node build.mjs --documents
    local examples=(--example chat --example documents --example echo_hyper --example presence --example rough)
    (cd .. && cargo build --quiet --features testing "${examples[@]}")
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
