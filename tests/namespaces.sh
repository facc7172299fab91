#!/bin/bash
# Networks that drop packets and say nothing, set up with network namespaces: examples/doctor at both ends, 300 messages each
# way, by `auto` and by each transport alone. docs/NETWORKS.md has what came of it.
#
#   tests/namespaces.sh [FAULT…] [-- TRANSPORT…]
#
# The faults, all in the middle of a session: drop5, drop15 and drop40 drop every packet for so many seconds; forget drops those of
# the connections that are there, for good, as a NAT does that has forgotten them; address takes the client's address away and
# gives it another. Each run prints a line: what was lost, repeated or out of order (none may be), and how long after the network
# was back the first message passed. It needs root, iproute2 and nftables, and takes about a minute for each run; those of one
# fault go at once.
set -u
cd "$(dirname "$0")/.." || exit 1

faults=() transports=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do faults+=("$1"); shift; done
[ $# -gt 0 ] && shift
transports=("$@")
[ ${#faults[@]} -gt 0 ] || faults=(drop5 drop15 drop40 forget address)
[ ${#transports[@]} -gt 0 ] || transports=(auto websocket sse long-polling)

fail() { echo "namespaces.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "network namespaces need root"
for tool in ip nft python3; do command -v "$tool" >/dev/null || fail "there is no $tool"; done
probe=throughline-$$
ip netns add "$probe" 2>/dev/null || fail "this system does not let network namespaces be made"
ip netns del "$probe"
cargo build --quiet --example doctor || exit 1
doctor=target/debug/examples/doctor
scratch=$(mktemp -d)

# However it ends, nothing is left: neither namespaces nor what runs in them.
tidy() {
    for space in $(ip netns list | awk -v mine="tl$$-" 'index($1, mine) == 1 {print $1}'); do
        ip netns pids "$space" | xargs -r kill
        ip netns del "$space"
    done
    rm -r "$scratch"
}
trap tidy EXIT
trap 'exit 1' INT TERM

# A client's namespace and a server's with a wire between them. $1 names both.
lay() {
    ip netns add "$1c" && ip netns add "$1s" || fail "no namespaces"
    ip -n "$1c" link add wire type veth peer name wire netns "$1s" || fail "no wire"
    ip -n "$1c" addr add 10.9.0.2/24 dev wire
    ip -n "$1s" addr add 10.9.0.1/24 dev wire
    for end in c s; do ip -n "$1$end" link set wire up; ip -n "$1$end" link set lo up; done
}

# Has the namespace $1 drop what matches $2 as it comes in, and $3 as it goes out.
drop() {
    ip netns exec "$1" nft -f - <<RULES || fail "no rules"
table inet gone {
    chain coming {
        type filter hook prerouting priority -300
        $2 drop
    }
    chain going {
        type filter hook output priority -300
        $3 drop
    }
}
RULES
}

# Does to the network of $1 what $2 says. When it returns, the network is there again.
break_it() {
    case $2 in
    drop*)
        drop "$1s" 'iifname "wire"' 'oifname "wire"'
        sleep "${2#drop}"
        ip netns exec "$1s" nft delete table inet gone ;;
    forget)
        # The connections that are there now; what comes from other ports passes.
        local old
        old=$(ip netns exec "$1c" ss -Htn state established dst 10.9.0.1 | awk '{sub(/.*:/, "", $3); print $3}' | paste -sd,)
        drop "$1s" "tcp sport { $old }" "tcp dport { $old }" ;;
    address)
        ip -n "$1c" addr del 10.9.0.2/24 dev wire
        ip -n "$1c" addr add 10.9.0.3/24 dev wire ;;
    *) fail "there is no fault $2" ;;
    esac
}

# One run: $1 names it, $2 is the fault, $3 the transport.
run() {
    lay "$1"
    ip netns exec "$1s" "$doctor" serve 10.9.0.1:8080 300 30 >/dev/null 2>&1 & local server=$!
    until ip netns exec "$1s" ss -Htln | grep -q :8080; do sleep 0.05; done
    ip netns exec "$1c" "$doctor" call http://10.9.0.1:8080/live "$3" 300 30 2>&1 |
        while IFS= read -r line; do echo "$EPOCHREALTIME $line"; done > "$scratch/$1" & local client=$!
    sleep 5
    break_it "$1" "$2"
    local back=$EPOCHREALTIME
    wait "$client"
    kill "$server"
    wait "$server" 2>/dev/null
    ip netns del "$1c"; ip netns del "$1s"
    python3 - "$scratch/$1" "$back" "$2 by $3" <<'PY'
import json, sys
path, back, name = sys.argv[1:]
lines = [line.split(" ", 1) for line in open(path)]
said = [(float(at), json.loads(text)) for at, text in lines]
down = [event["n"] for _, event in said if event["ev"] == "down"]
up = sorted((event["i"], event["n"]) for _, event in said if event["ev"] == "up")
whole = down == list(range(300)) and up == [(n, n) for n in range(300)]
errors = [event["code"] for _, event in said if event["ev"] == "error"]
after = [at - float(back) for at, event in said if event["ev"] in ("down", "up") and at > float(back)]
opened = [event["transport"] for _, event in said if event["ev"] == "open"]
first = f"{after[0]:.1f} s" if after else "never"
print(f"{name}: {'whole' if whole else 'NOT WHOLE'}, {len(down)} down, {len(up)} up, after {first}, {' '.join(opened)}"
      + "".join(f", error {code}" for code in errors), flush=True)
sys.exit(not whole or bool(errors))
PY
}

status=0
for fault in "${faults[@]}"; do
    runs=()
    for at in "${!transports[@]}"; do
        run "tl$$-$at" "$fault" "${transports[$at]}" & runs+=($!)
    done
    for id in "${runs[@]}"; do wait "$id" || status=1; done
done
exit $status
