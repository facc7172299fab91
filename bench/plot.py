#!/usr/bin/env python3
"""plot.py OUTDIR results.jsonl... : bars of server CPU per message and of memory per idle connection, as SVG, without
any library. One file per plot; throughline's bars are dark."""
import os, sys
from report import clean, load, med

# file, title, workload, what, unit
PLOTS = [
    ("round-trip", "Round trip, 64 connections, 16 in flight", ["W4 n64 64B w16", "W1 n64 64B w16"], "srv_us_per", "µs of server CPU per message"),
    ("round-trip-single", "Round trip, 64 connections, 1 in flight", ["W4 n64 64B w1", "W1 n64 64B w1"], "srv_us_per", "µs of server CPU per message"),
    ("fan-out", "Fan-out to 1,000, saturated", ["W2 n1000 sat"], "srv_us_per", "µs of server CPU per delivery"),
    ("http", "SSE and long-polling to 500, paced", ["W5 n500 rate10"], "srv_us_per", "µs of server CPU per delivery"),
    ("idle", "10,000 idle connections", ["W3 n10000"], "kb_per_conn", "KiB of RSS per connection"),
    ("storm", "5,000 reconnects at once", ["W6 n5000", "W6 n5000 resume+10"], "cpu_us_per_conn_total", "µs of server CPU per reconnect"),
]
WORDS = {"W4": "acked", "W1": "echo", "W6 n5000": "new", "W6 n5000 resume+10": "resume, 10 missed"}

def svg(title, unit, rows):
    left, width, step = 250, 360, 24
    height = 56 + step * len(rows)
    most = max(v for _, v in rows)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{height}" font-family="sans-serif" font-size="13">',
           f'<rect width="100%" height="100%" fill="#ffffff"/>',
           f'<text x="10" y="20" font-weight="bold">{title}</text>', f'<text x="10" y="38" fill="#666666">{unit}</text>']
    for i, (name, v) in enumerate(rows):
        y = 48 + step * i
        color = "#1f4e8c" if name.startswith("throughline") else "#b8c4d0"
        w = max(1, v / most * width)
        out.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>')
        out.append(f'<rect x="{left}" y="{y}" width="{w:.1f}" height="{step - 6}" fill="{color}"/>')
        out.append(f'<text x="{left + w + 6:.1f}" y="{y + 14}">{v:.2f}</text>' if v < 100 else f'<text x="{left + w + 6:.1f}" y="{y + 14}">{v:.0f}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"

def main():
    folder, by = sys.argv[1], load(sys.argv[2:])
    os.makedirs(folder, exist_ok=True)
    for name, title, labels, key, unit in PLOTS:
        rows = []
        for label in labels:
            word = WORDS.get(label, WORDS.get(label[:2], "")) if len(labels) > 1 else ""
            for peer, rs in by.get(label, {}).items():
                ok = clean(rs)
                if ok and ok[0].get(key) is not None:
                    rows.append((f"{peer}, {word}" if word else peer, med(ok, key)))
        if rows:
            open(os.path.join(folder, f"{name}.svg"), "w").write(svg(title, unit, sorted(rows, key=lambda r: r[1])))

if __name__ == "__main__":
    main()
