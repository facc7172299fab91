"""The goals, as data: what is divided by what, and what was asked. `report.py` and `plot.py` read it."""

BINARY, CURRENT = "throughline", "throughline-current"

def cpu(label, peer): return (label, peer, "srv_us_per")

# group, what, figure, divided by (None: as it is), asked at most, unit or "x"
GOALS = [
    ("acked round trip", "64 connections, 1 in flight, by the raw tokio echo", cpu("W4 n64 64B w1", BINARY), cpu("W1 n64 64B w1", "tcp-tokio"), 1.15, "x"),
    ("acked round trip", "the same, by socketioxide", cpu("W4 n64 64B w1", BINARY), cpu("W4 n64 64B w1", "socketioxide"), 0.75, "x"),
    ("acked round trip", "16 in flight, by uWebSockets' plain echo", cpu("W4 n64 64B w16", BINARY), cpu("W1 n64 64B w16", "bun-uws"), 1.3, "x"),
    ("acked round trip", "the same, by socketioxide", cpu("W4 n64 64B w16", BINARY), cpu("W4 n64 64B w16", "socketioxide"), 0.25, "x"),
    ("acked round trip", "1 KiB, 16 in flight, by uWebSockets' plain echo", cpu("W4 n64 1024B w16", BINARY), cpu("W1 n64 1024B w16", "bun-uws"), 1.1, "x"),
    ("acked round trip", "1,000 connections, 1 in flight, by uWebSockets' plain echo", cpu("W4 n1000 64B w1", BINARY), cpu("W1 n1000 64B w1", "bun-uws"), 1.1, "x"),
    ("acked round trip, JSON", "16 in flight, by the binary one", cpu("W4 n64 64B w16", "throughline-json"), cpu("W4 n64 64B w16", BINARY), 1.25, "x"),
    ("fairness", "p99/p50 at 1,000 connections, 16 in flight, current-thread", ("W4 n1000 64B w16", CURRENT, "p99_us"), ("W4 n1000 64B w16", CURRENT, "p50_us"), 1.5, "x"),
    ("fairness", "the same, multi-thread with one worker", ("W4 n1000 64B w16", BINARY, "p99_us"), ("W4 n1000 64B w16", BINARY, "p50_us"), 3, "x"),
    ("fan-out", "to 1,000, saturated, by uWebSockets", cpu("W2 n1000 sat", BINARY), cpu("W2 n1000 sat", "bun-uws"), 1.1, "x"),
    ("fan-out", "to 5,000, saturated, by uWebSockets", cpu("W2 n5000 sat", BINARY), cpu("W2 n5000 sat", "bun-uws"), 1.1, "x"),
    ("fan-out", "to 1,000, paced, by uWebSockets", cpu("W2 n1000 rate20", BINARY), cpu("W2 n1000 rate20", "bun-uws"), 1.15, "x"),
    ("fan-out", "to 5,000, paced, by uWebSockets", cpu("W2 n5000 rate4", BINARY), cpu("W2 n5000 rate4", "bun-uws"), 1.15, "x"),
    ("fan-out", "p99 to 1,000, paced, by uWebSockets", ("W2 n1000 rate20", BINARY, "p99_us"), ("W2 n1000 rate20", "bun-uws", "p99_us"), 1.05, "x"),
    ("fan-out", "p99 to 5,000, paced, by uWebSockets", ("W2 n5000 rate4", BINARY, "p99_us"), ("W2 n5000 rate4", "bun-uws", "p99_us"), 1.05, "x"),
    ("SSE", "plain events to 500, saturated, by a bare hyper loop", cpu("W5 n500 sat", "throughline-events"), cpu("W5 n500 sat", "hyper-sse"), 1.05, "x"),
    ("SSE", "plain events to 500, paced, by a bare hyper loop", cpu("W5 n500 rate10", "throughline-events"), cpu("W5 n500 rate10", "hyper-sse"), 1.05, "x"),
    ("SSE", "sessions with receipts to 500, saturated, by the same", cpu("W5 n500 sat", "throughline-sse"), cpu("W5 n500 sat", "hyper-sse"), 1.05, "x"),
    ("SSE", "sessions with receipts to 500, paced, by the same", cpu("W5 n500 rate10", "throughline-sse"), cpu("W5 n500 rate10", "hyper-sse"), 1.05, "x"),
    ("long-polling", "to 500, paced, by nchan", cpu("W5 n500 rate10", "throughline-poll"), cpu("W5 n500 rate10", "nchan-poll"), 1.0, "x"),
    ("long-polling", "to 500, paced, by socketioxide", cpu("W5 n500 rate10", "throughline-poll"), cpu("W5 n500 rate10", "socketioxide-poll"), 0.7, "x"),
    ("idle", "WebSocket at 10,000", ("W3 n10000", BINARY, "kb_per_conn"), None, 5, "KiB"),
    ("idle", "SSE at 10,000", ("W3 n10000", "throughline-sse", "kb_per_conn"), None, 12.6, "KiB"),
    ("idle", "long-polling at 10,000", ("W3 n10000", "throughline-poll", "kb_per_conn"), None, 10, "KiB"),
    ("idle", "WebSocket after a 64 KiB message, by the idle figure", ("W3 n10000", BINARY, "kb_per_conn_after_large"), ("W3 n10000", BINARY, "kb_per_conn"), 1.5, "x"),
    ("idle", "WebSocket, kept after all close, by the idle figure", ("W3 n10000", BINARY, "kb_per_conn_after_close"), ("W3 n10000", BINARY, "kb_per_conn"), 0.1, "x"),
    ("storm", "plain reconnect, by tungstenite tuned", ("W6 n5000", BINARY, "cpu_us_per_conn_total"), ("W6 n5000", "tungstenite-tuned", "cpu_us_per_conn_total"), 1.3, "x"),
    ("storm", "resume with 10 missed messages, by the plain reconnect", ("W6 n5000 resume+10", BINARY, "cpu_us_per_conn_total"), ("W6 n5000", BINARY, "cpu_us_per_conn_total"), 1.5, "x"),
    ("storm", "longest wait of others in a storm with early events (worst run)", ("W6 n5000 early event", BINARY, "witness_max_ms", max), None, 100, "ms"),
    ("storm", "messages behind hello that were lost, in all such storms", ("W6 n5000 early event", BINARY, "events_lost", sum), None, 0, ""),
    ("storm", "gaps, repeats and disorder in all storms of resumes", ("W6 n5000 resume+10", BINARY, "breaches", sum), None, 0, ""),
    ("flat cost", "100 active of 10,000 connected, by 100 of 100", cpu("W7 n100 of 10000", BINARY), cpu("W7 n100 of 100", BINARY), 1.5, "x"),
    ("flat cost", "10,000 idle with the default heartbeat", ("W3 n10000 over 42 s", BINARY, "idle_percent"), None, 2, "% of a core"),
]
