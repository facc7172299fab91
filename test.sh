#!/usr/bin/env bash
# All that must hold before a change goes in, in one command. Each step says its name and how long it took; the last
# line counts them. What a step needs and this machine lacks is installed, or the step fails: nothing is skipped.
#
#   ./test.sh                    everything
#   SEEDS=1000 FUZZ_SECONDS=5 ./test.sh    the same, with less searching
#
#   SEEDS         how many random schedules the session simulation runs (default 20000)
#   FUZZ_SECONDS  how long each fuzz target runs (default 60)
set -u -o pipefail
cd "$(dirname "$0")" || exit 1

seeds=${SEEDS:-20000}
fuzz_seconds=${FUZZ_SECONDS:-60}
# All that is off by default.
features=testing,tls,proxy,http2,postgres,ts
# `cargo test` runs the simulation too, with the few schedules that are its own default.
unset SEEDS
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

passed=0
failed=()

step() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n==> %s\n' "$name"
    if "$@"; then
        passed=$((passed + 1))
        printf '<== ok, %d s: %s\n' $((SECONDS - begin)) "$name"
    else
        failed+=("$name")
        printf '<== FAILED, %d s: %s\n' $((SECONDS - begin)) "$name"
    fi
}

tools() {
    cargo --version || return
    cargo fmt --version || rustup component add rustfmt || return
    cargo clippy --version || rustup component add clippy || return
    cargo +nightly --version || rustup toolchain install nightly --profile minimal || return
    cargo fuzz --version || cargo install --locked cargo-fuzz
}

formatted() {
    cargo fmt --check && cargo fmt --manifest-path fuzz/Cargo.toml --check
}

lints() {
    cargo clippy --quiet "$@" -- -D warnings
}

# Helpers of integration tests, examples and benches may unwrap: whoever reads the panic wrote them.
lints_of_tests() {
    cargo clippy --quiet --all-targets --test middleboxes --test postgres --features "$features" -- \
        -D warnings -A unreachable_pub -A clippy::unwrap_used -A clippy::expect_used -A clippy::panic
}

# The core is for those who bring their own runtime: it must not pull one in.
core_has_no_runtime() {
    local tree
    tree=$(cargo tree --no-default-features -e normal --prefix none) || return
    if grep -E '^(tokio|hyper|futures)[a-z-]* v' <<<"$tree"; then
        echo "the crates above are in the dependency tree of --no-default-features"
        return 1
    fi
    sort -u <<<"${tree// (\*)/}" | grep -c . | sed 's/$/ crates, no runtime/'
}

# With the compiler that Cargo.toml promises: what users of that version get builds.
oldest_compiler() {
    local oldest
    oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    [ -n "$oldest" ] || { echo "Cargo.toml names no rust-version"; return 1; }
    rustup toolchain install "$oldest" --profile minimal || return
    CARGO_TARGET_DIR=target/oldest cargo "+$oldest" check --quiet --locked --features "$features"
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --features "$features"
}

# No proxy of this machine's stands between the ends of a test.
tests() {
    NO_PROXY='*' no_proxy='*' cargo test --no-fail-fast --features "$features"
}

# In the profile of the other tests: their build is there already, and it checks arithmetic for overflow.
simulation() {
    SEEDS=$seeds cargo test --quiet --features "$features" --test session_sim
}

js_simulation() {
    SEEDS=$seeds js/test.sh simulation
}

# In a folder of its own: all is built anew under another cfg, which is our own because tokio and hyper-util take the
# usual one, `loom`, to mean that there is no network.
interleavings() {
    RUSTFLAGS="--cfg throughline_loom" CARGO_TARGET_DIR=target/loom cargo test --quiet --lib interleavings
}

# Installs those of the packages whose program (package:program) is not here.
install() {
    local root=() missing=()
    for wanted in "$@"; do
        command -v "${wanted#*:}" >/dev/null || missing+=("${wanted%:*}")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "missing, and there is neither root nor sudo: ${missing[*]}"; return 1; }
        root=(sudo)
    fi
    "${root[@]}" apt-get update &&
        "${root[@]}" apt-get install -y --no-install-recommends "${missing[@]}" ||
        { echo "could not be installed: ${missing[*]}"; return 1; }
}

# The real boxes of tests/middleboxes, as Debian packages them.
boxes() {
    local PATH=$PATH:/usr/sbin
    install nginx:nginx haproxy:haproxy squid:squid apache2-bin:apache2 lighttpd:lighttpd varnish:varnishd \
        tinyproxy-bin:tinyproxy privoxy:privoxy || return
    nginx -v && haproxy -v | sed -n 1p && squid -v | sed -n 1p && apache2 -v | sed -n 1p && lighttpd -v | sed -n 1p &&
        varnishd -V 2>&1 | sed -n 1p && tinyproxy -v && privoxy --version
}

# Debian keeps the programs of a PostgreSQL server out of the path.
path_with_postgresql() {
    local folder path=$PATH
    for folder in /usr/lib/postgresql/*/bin; do
        path=$path:$folder
    done
    printf '%s' "$path"
}

postgresql() {
    PATH=$(path_with_postgresql) install postgresql:initdb && PATH=$(path_with_postgresql) initdb --version
}

# Each test starts a server of its own.
inbox_in_postgresql() {
    cargo test --quiet --features "$features" --test postgres
}

middleboxes() {
    cargo test --quiet --features "$features" --test middleboxes -- --nocapture
}

# What the fuzzer finds goes to a folder of its own; only a seed that is worth keeping is added to fuzz/corpus.
fuzz_one() {
    local target=$1 found=fuzz/target/found/$1
    mkdir -p "$found" "fuzz/corpus/$target" || return
    cargo +nightly fuzz run "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$fuzz_seconds" -timeout=10 -print_funcs=0 -verbosity=0 -print_final_stats=1
}

step "tools" tools
step "formatting" formatted
step "lints: library" lints
step "lints: all targets" lints_of_tests
step "lints: core" lints --no-default-features
step "lints: socket" lints --no-default-features --features socket
step "lints: server" lints --no-default-features --features server
step "lints: client" lints --no-default-features --features client
step "lints: testing" lints --no-default-features --features testing
step "lints: tls" lints --no-default-features --features tls
step "lints: proxy" lints --no-default-features --features proxy
step "lints: ts" lints --no-default-features --features ts
step "lints: http2" lints --no-default-features --features client,server,http2
step "lints: postgres" lints --no-default-features --features postgres
step "core without a runtime" core_has_no_runtime
step "oldest compiler" oldest_compiler
step "documentation" docs
step "fuzz targets build" cargo +nightly fuzz build
targets=$(cargo +nightly fuzz list)
[ -n "$targets" ] || failed+=("fuzz targets: none found")
for target in $targets; do
    step "fuzz for $fuzz_seconds s: $target" fuzz_one "$target"
done
step "simulation: $seeds schedules" simulation
step "interleavings of the hand-over to a driver" interleavings
step "faults for 20 s" cargo run --quiet --features "$features" --example faults -- --seconds 20 --sessions 20
step "tests" tests
step "middleboxes: nginx, HAProxy, Squid and five more" boxes
step "middleboxes: each transport behind each of them" middleboxes
step "PostgreSQL" postgresql
step "the inbox in PostgreSQL" inbox_in_postgresql
step "browser client: tools" js/test.sh tools
step "browser client: types" js/test.sh types
step "browser client: what the service serves is built from js/" js/test.sh served
step "browser client: size" js/test.sh size
step "browser client: package" js/test.sh package
step "browser client: unit tests and vectors" js/test.sh unit
step "browser client: simulation, $seeds schedules" js_simulation
step "browser client: in Chromium" js/test.sh browser

printf '\n'
for name in "${failed[@]+"${failed[@]}"}"; do
    printf 'failed: %s\n' "$name"
done
printf 'steps: %d passed, %d failed\n' "$passed" "${#failed[@]}"
[ "${#failed[@]}" -eq 0 ]
