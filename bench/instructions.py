#!/usr/bin/env python3
"""instructions.py [--markdown]: what a message costs in instructions, counted by callgrind. The same on any machine
of one architecture with one compiler: no clock, no sockets, no runtime. Needs valgrind and cargo.

A count is what one step costs per message of 64 bytes, in batches of 1 and of 16; the second run of a step leaves out
what happens only once (200 rounds less 100).
"""
import os, re, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("BENCH_BUILD", os.path.join(HERE, ".build")))
BINARY = os.path.join(BUILD, "instructions", "release", "bench-instructions")
# name of the row, step to run, function to count
STEPS = [
    ("encode, binary", "encode-binary", "encode"),
    ("encode, JSON", "encode-json", "encode"),
    ("decode, binary", "decode-binary", "decode"),
    ("decode, JSON, a string", "decode-json", "decode"),
    ("decode, JSON, an object", "decode-object", "decode"),
    ("send: the session accepts", "send", "send"),
    ("lend: the session numbers it and lends it to the transport", "lend", "lend"),
    ("receive: the session judges it and hands it over", "receive", "receive"),
    ("take: the application has it; the next deadline", "take", "take"),
    ("ack: a receipt for the batch; the next deadline", "ack", "ack"),
]

def build():
    env = dict(os.environ, CARGO_TARGET_DIR=os.path.join(BUILD, "instructions"))
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=os.path.join(HERE, "instructions"), env=env, check=True)

def count(step, function, batch, rounds):
    with tempfile.TemporaryDirectory() as tmp:
        cmd = ["valgrind", "--tool=callgrind", f"--toggle-collect=bench_instructions::measured::{function}*",
               f"--callgrind-out-file={tmp}/out", BINARY, step, str(batch), str(rounds)]
        p = subprocess.run(cmd, capture_output=True, text=True, check=True)
    return int(re.search(r"Collected\s*:\s*(\d+)", p.stderr).group(1))

def per_message(step, function, batch):
    return (count(step, function, batch, 200) - count(step, function, batch, 100)) / 100 / batch

def main():
    build()
    print("| step | 1 in a batch | 16 in a batch |\n|---|---|---|")
    for name, step, function in STEPS:
        print(f"| {name} | {per_message(step, function, 1):.0f} | {per_message(step, function, 16):.0f} |", flush=True)

if __name__ == "__main__":
    main()
