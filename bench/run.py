#!/usr/bin/env python3
"""Runs the side-by-side benchmark: starts each peer fresh, drives it with loadgen, appends JSON lines.

  run.py SUITE... [--peers a,b] [--reps 3] [--out results/x.jsonl] [--unpinned] [--quick]

Suites: echo bcast idle ack http storm early flat heartbeat smoke. Peers alternate inside each repetition.
BENCH_BUILD (default ./.build beside this file) holds the builds, see README.md.
Only processes started here are stopped, by pid. Everything is on 127.0.0.1.
"""
import argparse, json, os, signal, socket, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("BENCH_BUILD", os.path.join(HERE, ".build")))
RS = os.path.join(BUILD, "peers-rs", "release")
NODE = os.path.join(BUILD, "node")
LOADGEN = os.path.join(BUILD, "loadgen", "release", "loadgen")
SRV_CPU, GEN_CPU = os.environ.get("SRV_CPU", "0"), os.environ.get("GEN_CPU", "1")

TL_SERVER = [os.path.join(BUILD, "throughline", "release", "bench-throughline")]

def rs(b): return [os.path.join(RS, b)]
def js(f): return ["node", os.path.join(HERE, "peers-js", f)]
BUN = [os.path.join(NODE, "node_modules", "bun", "bin", "bun.exe"), os.path.join(HERE, "peers-js", "bun.js")]
GO = [os.path.join(BUILD, "peers-go", "server")]
NCHAN = ["sh", os.path.join(HERE, "nchan", "start.sh")]

WS_E = dict(proto="ws", path="/echo")
WS_B = dict(proto="ws", path="/sub", pub_path="/pub")
SIO = dict(proto="sio")
def tl(proto): return dict(cmd=TL_SERVER, echo=dict(proto=proto, path="/echo"), ack=dict(proto=proto, path="/echo"),
                           bcast=dict(proto=proto, path="/sub", pub_path="/pub"), resume=True, event=True)
def tl_http(proto, pub, **more): return dict(cmd=TL_SERVER, http=dict(proto=proto, path="/sub", pub_proto=pub, pub_path="/pub"), resume=True, event=True, witness=dict(proto="throughline", path="/echo"), **more)

# name -> command, environment, and for each job (echo, bcast, ack, http transports) how loadgen speaks to it.
# A new server is one entry here (and one codec arm in loadgen if its protocol is new).
PEERS = {
    "throughline": tl("throughline"),
    "throughline-json": tl("throughline-json"),
    "throughline-current": dict(tl("throughline"), env=dict(RT="current")),
    "tcp-epoll":   dict(cmd=rs("tcp_epoll"), echo=dict(proto="tcp"), bcast=dict(proto="tcp")),
    "tcp-tokio":   dict(cmd=rs("tcp_tokio"), echo=dict(proto="tcp"), bcast=dict(proto="tcp")),
    "tungstenite": dict(cmd=rs("ws_tungstenite"), echo=WS_E, bcast=WS_B),
    "tungstenite-tuned": dict(cmd=rs("ws_tungstenite"), env=dict(TUNED="1"), echo=WS_E, bcast=WS_B),
    "fastws":      dict(cmd=rs("ws_fastwebsockets"), echo=WS_E),
    "axum-ws":     dict(cmd=rs("axum_all"), echo=WS_E, bcast=WS_B),
    "bun-uws":     dict(cmd=BUN, echo=WS_E, bcast=WS_B),
    "node-ws":     dict(cmd=js("ws.js"), echo=WS_E, bcast=WS_B),
    "nchan-ws":    dict(cmd=NCHAN, bcast=dict(proto="ws", path="/sub", pub_proto="ws", pub_path="/pub")),
    "socketioxide": dict(cmd=rs("socketioxide"), echo=SIO, bcast=SIO, ack=SIO, event=True),
    "socket.io":   dict(cmd=js("socketio.js"), echo=SIO, bcast=SIO, ack=SIO, event=True),
    "socket.io-csr": dict(cmd=js("socketio.js"), env=dict(CSR="1"), bcast=SIO, ack=SIO, resume=True),
    "gorilla-ws":  dict(cmd=GO, echo=WS_E),
    "centrifuge":  dict(cmd=GO, echo=dict(proto="centrifuge"), ack=dict(proto="centrifuge"), bcast=dict(proto="centrifuge"), resume=True),
    # HTTP transports
    "throughline-sse": tl_http("throughline-sse", "throughline-json"),
    "throughline-stream": tl_http("throughline-stream", "throughline"),
    "throughline-events": dict(cmd=TL_SERVER, http=dict(proto="sse", path="/sub", pub_proto="throughline-json", pub_path="/pub")),
    "throughline-poll": tl_http("throughline-poll", "throughline-json"),
    "throughline-poll-binary": tl_http("throughline-poll-binary", "throughline"),
    "hyper-sse":   dict(cmd=rs("sse_hyper"), http=dict(proto="sse", path="/sse", pub_proto="post", pub_path="/post")),
    "axum-sse":    dict(cmd=rs("axum_all"), http=dict(proto="sse", path="/sse", pub_proto="post", pub_path="/post")),
    "node-sse":    dict(cmd=js("ws.js"), http=dict(proto="sse", path="/sse", pub_proto="post", pub_path="/post")),
    "nchan-sse":   dict(cmd=NCHAN, http=dict(proto="sse", path="/sub", pub_proto="post", pub_path="/post")),
    "sockjs-xhrstream": dict(cmd=js("sockjs.js"), http=dict(proto="sockjs-xhr", pub_proto="sockjs-ws")),
    "socketioxide-poll": dict(cmd=rs("socketioxide"), http=dict(proto="sio-poll", pub_proto="sio")),
    "socket.io-poll": dict(cmd=js("socketio.js"), http=dict(proto="sio-poll", pub_proto="sio")),
    "sockjs-poll": dict(cmd=js("sockjs.js"), http=dict(proto="sockjs-poll", pub_proto="sockjs-ws")),
    "nchan-poll":  dict(cmd=NCHAN, http=dict(proto="nchan-poll", path="/sub", pub_proto="post", pub_path="/post")),
}
extra = os.environ.get("BENCH_PEERS")  # JSON of more entries, e.g. the library under test
if extra:
    PEERS.update(json.loads(open(extra).read()))

port = [23000]

def free_port():
    """The next port nobody listens on, below the ephemeral range."""
    while True:
        port[0] = port[0] + 1 if port[0] < 32000 else 23000
        with socket.socket() as k:
            k.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                k.bind(("127.0.0.1", port[0]))
                return port[0]
            except OSError:
                pass

def start(name, pinned):
    p = PEERS[name]
    free_port()
    env = dict(os.environ, PORT=str(port[0]), NODE_ENV="production", NODE_PATH=os.path.join(NODE, "node_modules"),
               NCHAN_ROOT=os.environ.get("NCHAN_ROOT", os.path.join(BUILD, "nchan", "root")), **p.get("env", {}))
    cmd = prefix(SRV_CPU, pinned) + p["cmd"]
    proc = subprocess.Popen(cmd, env=env, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    t = time.time()
    while time.time() - t < 10:
        try:
            socket.create_connection(("127.0.0.1", port[0]), 1).close()
            time.sleep(0.15)
            return proc, port[0]
        except OSError:
            if proc.poll() is not None:
                raise SystemExit(f"{name}: server exited {proc.returncode}")
            time.sleep(0.03)
    proc.kill()
    raise SystemExit(f"{name}: server did not listen")

RETRY = os.environ.get("BENCH_RETRY", "1") != "0"  # a disturbed run is made once more
NICE = int(os.environ.get("BENCH_NICE", "0"))

def prefix(cpu, pinned):
    """Pinning, and (as root, BENCH_NICE=-10) priority over whatever else runs here; the same for server and generator."""
    return (["nice", "-n", str(NICE)] if NICE else []) + (["taskset", "-c", cpu] if pinned else [])

def quiet(limit=float(os.environ.get("BENCH_QUIET", "5"))):
    """Waits until other programs use less than 15% of one CPU over 0.4 s, at most `limit` seconds."""
    def busy():
        f = [int(x) for x in open("/proc/stat").readline().split()[1:]]
        return f[0] + f[1] + f[2] + f[5] + f[6]
    t = time.time()
    while time.time() - t < limit:
        a = busy()
        time.sleep(0.4)
        if (busy() - a) / 40.0 < 0.15:
            return
        time.sleep(0.4)

def stop(proc):
    proc.send_signal(signal.SIGTERM)
    try:
        proc.wait(1.0)
    except subprocess.TimeoutExpired:
        proc.kill()
        proc.wait()

def one(name, work, job, opts, pinned, prof=None):
    quiet()
    proc, prt = start(name, pinned)
    try:
        cmd = prefix(GEN_CPU, pinned) + [LOADGEN, work, "--addr", f"127.0.0.1:{prt}", "--pid", str(proc.pid)]
        for k, v in {**job, **opts}.items():
            cmd += ["--" + k.replace("_", "-"), str(v)]
        lg = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
        psum = None
        if prof:
            time.sleep(prof["after"])
            psum = prof["run"](proc.pid)
        try:
            out, _ = lg.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            lg.kill()
            out = '{"error":"runner timeout"}'
        try:
            r = json.loads(out.strip().splitlines()[-1])
        except Exception as e:
            r = dict(error=f"no result: {e} {out!r}")
        if psum is not None:
            r["prof"] = psum
        return r
    finally:
        stop(proc)

def has(peer, key): return key in PEERS[peer]

def suite(s, q):
    """Yields (label, work, key into PEERS, options, peers or None)."""
    d = dict(dur=1.5 if q else 2, warm=0.8)
    if s == "echo":
        for size in (64, 1024):
            for n in (64, 1000):
                for w in (1, 16):
                    if size == 1024 and (n, w) != (64, 16):
                        continue
                    yield f"W1 n{n} {size}B w{w}", "echo", "echo", dict(n=n, size=size, window=w, **d), None
    elif s == "ack":
        for n in (64, 1000):
            for w in (1, 16):
                yield f"W4 n{n} 64B w{w}", "ack", "ack", dict(n=n, size=64, window=w, **d), None
        yield "W4 n64 1024B w16", "ack", "ack", dict(n=64, size=1024, window=16, **d), None
    elif s == "bcast":
        for n, r in ((1000, 20), (5000, 4)):
            yield f"W2 n{n} sat", "bcast", "bcast", dict(n=n, size=128, window=4, **d), None
            yield f"W2 n{n} rate{r}", "bcast", "bcast", dict(n=n, size=128, rate=r, dur=1.5 if q else 2.5, warm=0.8), None
    elif s == "http":
        yield "W5 n500 rate10", "bcast", "http", dict(n=500, size=128, rate=10, dur=1.5 if q else 2.5, warm=0.8), None
        yield "W5 n500 sat", "bcast", "http", dict(n=500, size=128, window=2, **d), None
    elif s == "idle":
        for n in (1000, 10000) if q else (1000, 10000, 19000):
            for key in ("bcast", "http", "echo_only"):
                # over HTTP each receipt for it would open one more connection per client
                large = dict(large=65536) if key == "bcast" else {}
                yield f"W3 n{n}", "idle", key, dict(n=n, dur=1.5, warm=2, **large), None
    elif s == "flat":
        # the same activity, alone and among many who are silent
        for others in (0, 9900):
            yield f"W7 n100 of {100 + others}", "echo", "echo", dict(n=100, size=64, window=1, bystanders=others, **d), None
    elif s == "heartbeat":
        # long enough for two heartbeats of 20 s
        yield "W3 n10000 over 42 s", "idle", "bcast", dict(n=10000, dur=42, warm=2), None
    elif s == "storm":
        o = dict(n=5000, size=64, inflight=400)
        for key in ("bcast", "http", "echo_only"):
            yield "W6 n5000", "storm", key, o, None
        for key in ("resume", "http_resume"):
            yield "W6 n5000 resume+0", "storm", key, dict(o, resume=1), None
            yield "W6 n5000 resume+10", "storm", key, dict(o, resume=1, missed=10), None
    elif s == "early":
        # ten storms in which every client speaks right behind the handshake, while others go on talking
        for storm in range(1 if q else 10):
            yield "W6 n5000 early event", "storm", "early", dict(n=5000, size=64, inflight=400), None
    elif s == "smoke":
        yield "smoke echo", "echo", "echo", dict(n=8, size=64, window=2, dur=0.3, warm=0.1), None
        yield "smoke ack", "ack", "ack", dict(n=8, size=64, window=2, dur=0.3, warm=0.1), None
        yield "smoke bcast", "bcast", "bcast", dict(n=8, size=64, window=2, dur=0.3, warm=0.1), None
        yield "smoke http", "bcast", "http", dict(n=8, size=64, window=2, dur=0.3, warm=0.1), None
        yield "smoke rate", "bcast", "http", dict(n=8, size=64, rate=50, dur=0.3, warm=0.1), None
    else:
        raise SystemExit(f"no suite {s}")

def job_of(peer, key):
    p = PEERS[peer]
    if key == "echo_only":  # peers without a fan-out still show idle memory and reconnects
        return p["echo"] if "echo" in p and "bcast" not in p else None
    if key == "resume":
        return p.get("bcast") if p.get("resume") else None
    if key == "http_resume":
        return p.get("http") if p.get("resume") else None
    if key == "early":
        job = p.get("bcast") or p.get("http")
        return dict(job, event=1) if p.get("event") else None
    return p.get(key)

def witnesses(peer):
    """Others who go on talking during a storm, where the server can echo."""
    talk = PEERS[peer].get("echo") or PEERS[peer].get("witness")
    return dict(witnesses=8, witness_proto=talk["proto"], witness_path=talk.get("path", "/echo")) if talk else {}

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("suites", nargs="+")
    ap.add_argument("--peers", default="")
    ap.add_argument("--reps", type=int, default=3)
    ap.add_argument("--out", default="")
    ap.add_argument("--only", default="", help="substring of the label")
    ap.add_argument("--unpinned", action="store_true")
    ap.add_argument("--quick", action="store_true")
    a = ap.parse_args()
    want = [x for x in a.peers.split(",") if x]
    out = open(a.out, "a") if a.out else None
    for rep in range(a.reps):
        for s in a.suites:
            for label, work, key, opts, _ in suite(s, a.quick):
                if a.only and a.only not in label:
                    continue
                for peer in PEERS:
                    if want and peer not in want:
                        continue
                    job = job_of(peer, key)
                    if job is None:
                        continue
                    if work == "storm":
                        job = {**job, **witnesses(peer)}
                    try:
                        r = one(peer, work, job, opts, not a.unpinned)
                    except SystemExit as e:
                        r = dict(error=str(e))
                    if RETRY and r.get("other_util", 0) > 0.3 and "error" not in r and work != "idle":
                        # someone else was using the machine: once more, keep the quieter one
                        r2 = one(peer, work, job, opts, not a.unpinned)
                        if r2.get("other_util", 9) < r["other_util"]:
                            r = r2
                        r["retried"] = True
                    if r.get("errors") or r.get("witness_errors"):
                        r["error"] = f"{r['errors']} errors, {r.get('witness_errors', 0)} of witnesses"
                    r.update(label=label, peer=peer, rep=rep, pinned=not a.unpinned, load1=os.getloadavg()[0], t=int(time.time()))
                    line = json.dumps(r)
                    if out:
                        out.write(line + "\n")
                        out.flush()
                    print(f"{rep} {label:22s} {peer:18s} " + (r.get("error") or
                          f"{r['per_s']:>8}/s srv {r['srv_us_per']:.3f}us/msg util {r['srv_util']:.2f} gen {r['gen_util']:.2f} p50 {r['p50_us']:.0f} p99 {r['p99_us']:.0f} err {r['errors']} oth {r['other_util']:.2f}"
                          + (f" lost {r['lost']}" if r.get("lost") else "") + (f" disorder {r['disorder']}" if r.get("disorder") else "") + (f" kb/conn {r['kb_per_conn']:.2f}" if "kb_per_conn" in r else "")
                          + (f" all_ms {r['all_ms']} cpu {r['cpu_us_per_conn_total']}us replay {r['replay_got']}/{r['replay_want']} events {r['events_got']}/{r['events_want']} others {r.get('witness_max_ms', '-')}ms" if "all_ms" in r else "")), flush=True)

if __name__ == "__main__":
    main()
