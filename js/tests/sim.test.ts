/**
 * Two ends of a session over a seeded faulty network, in virtual time, as `tests/session_sim` does with the Rust ones.
 *
 * Nothing may be lost, repeated or reordered, whatever the network does; what an end forgets is reported; and when the
 * faults stop, all that is outstanding is delivered or reported within bounded time.
 *
 * `SEEDS=n` runs so many seeds (default 2,000), `FIRST=n` begins at another one, `SEED=n` runs one and prints what
 * happens.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { totals, type Totals } from "./sim/ledger.js";
import { World } from "./sim/world.js";

interface Outcome {
  sum: Totals;
  failed?: { seed: number; text: string };
}

/** Runs every so-manieth seed. */
const run = (first: number, end: number, step: number): Outcome => {
  const sum = totals();
  for (let seed = first; seed < end; seed += step) {
    try {
      const one = new World(seed, false).run();
      for (const name of Object.keys(sum) as (keyof Totals)[]) sum[name] += one[name];
    } catch (error) {
      return { sum, failed: { seed, text: String((error as Error).stack) } };
    }
  }
  return { sum };
};

if (!isMainThread) {
  const [first, end, step] = workerData as [number, number, number];
  parentPort!.postMessage(run(first, end, step));
} else {
  const number = (name: string, otherwise: number) => Number(process.env[name] ?? otherwise);

  test("nothing is lost, repeated or reordered, whatever the network does", async () => {
    if (process.env["SEED"]) {
      console.error(new World(number("SEED", 0), true).run());
      return;
    }
    const first = number("FIRST", 0);
    const seeds = number("SEEDS", 2000);
    const threads = Math.min(availableParallelism(), 4);
    const begin = Date.now();
    const outcomes = await Promise.all(
      Array.from(
        { length: threads },
        (_, at) =>
          new Promise<Outcome>((resolve, reject) => {
            const worker = new Worker(fileURLToPath(import.meta.url), { workerData: [first + at, first + seeds, threads] });
            worker.once("message", resolve);
            worker.once("error", reject);
          }),
      ),
    );
    const sum = totals();
    for (const name of Object.keys(sum) as (keyof Totals)[]) for (const outcome of outcomes) sum[name] += outcome.sum[name];
    console.log(`${seeds} seeds from ${first} in ${((Date.now() - begin) / 1000).toFixed(1)} s: ${JSON.stringify(sum)}`);
    for (const { failed } of outcomes) assert.ok(!failed, `seed ${failed?.seed}: ${failed?.text}; SEED=n shows one`);
    if (seeds >= 500) {
      const { restarts, jumps, duels, crowds, probes, disorders, reloads, ...counts } = sum;
      for (const [name, count] of Object.entries(counts)) assert.ok(count > 100, name);
      assert.ok(Math.min(restarts, jumps, duels, crowds, probes, disorders, reloads) > 0);
    }
  });
}
