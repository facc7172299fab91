/**
 * A socket on a network that does what it likes, by seeds: WebSockets do not open or carry nothing, requests fail, boxes answer in
 * the server's name, connections are cut, round trips take seconds, the server forgets. Then all works again: soon after, the socket
 * is connected, what it was given has arrived once and in order or is reported, and nothing waits.
 *
 * `SEEDS=n` runs so many seeds (default 300), `SEED=n` runs one and prints what happens.
 */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { connect, type ThroughlineError, type TransportKind } from "../src/index.js";
import { close } from "../src/session/close.js";
import { begin, type Page, pass } from "./socket/host.js";
import { Rng } from "./sim/rng.js";

/** What boxes answer. */
const PAGES: readonly Page[] = [
  { status: 200, type: "text/html", body: "<html>sign in</html>" },
  { status: 502, type: "text/html", body: "<html>bad gateway</html>" },
  { status: 503, type: "text/plain", body: "later", retryAfter: 2 },
  { status: 429, type: "text/plain", body: "slow down" },
  { status: 403, type: "text/html", body: "<html>no</html>", only: /"push"/ },
  { status: 502, type: "text/html", body: "<html>no</html>", only: /"poll"/, times: 3 },
];

const run = async (seed: number, talks: boolean) => {
  const rng = new Rng(seed);
  const host = begin();
  mock.method(Math, "random", () => rng.below(1000) / 1000);
  const log = (...what: unknown[]) => talks && console.error(Date.now() - 1_000_000, ...what);
  const lost = new Set<number>();
  const heard: number[] = [];
  const asked = new Set<number>();
  /** What the server heard, and in which session. */
  const told: (readonly [of: unknown, number: number])[] = [];
  const { handle } = host;
  host.handle = (session, frame) => {
    told.push([session, frame[3] as number]);
    handle(session, frame);
  };
  /** In which session each number was said. */
  const said: unknown[] = [];
  let sent = 0;
  const transports = rng.pick<readonly TransportKind[]>([["websocket", "long-polling"], ["long-polling"], ["websocket"]]);
  const socket = connect<number, number>("http://test/live", { transports });
  socket.on("message", ({ body }) => heard.push(body));
  socket.on("lost", ({ unknown, reason }) => {
    log("  loses", reason.code, JSON.stringify(unknown));
    for (const number of unknown) lost.add(number);
  });
  socket.on("state", (state) => log("  is", state.status, "reason" in state ? `${state.reason?.code} ${state.reason?.message}` : ""));
  const say = () => host.sessions.size && host.say(said.push(host.session()) - 1);
  const steps: readonly (readonly [weight: number, what: string, act: () => unknown])[] = [
    [20, "sends", () => socket.send(sent++)],
    [
      5,
      "asks",
      () => {
        const number = sent++;
        asked.add(number);
        socket.request(number).then(
          () => asked.delete(number),
          ({ code }: ThroughlineError) => {
            asked.delete(number);
            if (code === "lost") lost.add(number);
          },
        );
      },
    ],
    [12, "the server says", say],
    [20, "a little later", () => pass(rng.below(500))],
    [6, "seconds later", () => pass(rng.below(8000))],
    [1, "half a minute later", () => pass(30_000)],
    [6, "WebSockets", () => log("   ", (host.mode = rng.pick(["accept", "accept", "refuse", "hang", "mute"] as const)))],
    [3, "a box", () => (host.portal = rng.chance(500) ? undefined : rng.pick(PAGES))],
    [2, "round trips", () => (host.trip = rng.pick([0, 20, 100, 800, 2500]))],
    [4, "cut", () => host.cut()],
    [2, "bodies", () => (host.largest = rng.chance(700) ? Infinity : 600 + rng.below(2000))],
    [2, "refuses", () => (host.judge = rng.chance(600) ? () => undefined : () => close(rng.pick(["overloaded", "draining"])))],
    [2, "holds", () => hold(rng.chance(500))],
    [seed % 2, "forgets", () => host.restart()],
    [2, "moves", () => socket.moveTo(rng.pick([undefined, ...transports]))],
  ];
  const hold = (holds: boolean) => {
    const held = host.held ?? [];
    host.held = holds ? held : undefined;
    if (!holds) for (const arrive of held.splice(0)) arrive();
  };
  const total = steps.reduce((sum, [weight]) => sum + weight, 0);
  for (let step = 0; step < 80; step++) {
    let at = rng.below(total);
    const [, what, act] = steps.find(([weight]) => (at -= weight) < 0)!;
    log(what);
    await act();
  }
  log("ALL WORKS");
  host.mode = "accept";
  host.portal = undefined;
  host.trip = Math.min(host.trip, 100);
  host.largest = Infinity;
  host.judge = () => undefined;
  hold(false);
  socket.moveTo();
  await pass(90_000);
  say();
  await pass(5_000);
  assert.equal(socket.state.status, "connected");
  assert.deepEqual([socket.waiting.messages, [...asked]], [0, []], "something waits");
  log(JSON.stringify(told.map(([, number]) => number)), "lost", JSON.stringify([...lost]));
  // Who never knew its session begins it again with all that it had said, and the server may have forgotten it meanwhile.
  for (const of of seed % 2 ? new Set(told.map(([of]) => of)) : [undefined]) {
    const mine = told.filter((one) => !of || one[0] === of).map(([, number]) => number);
    assert.deepEqual(mine, [...new Set(mine)].sort((a, b) => a - b), "repeated or out of order");
  }
  for (let number = 0; number < sent; number++) assert.ok(told.some((one) => one[1] === number) || lost.has(number), `${number} is lost`);
  assert.equal(heard.at(-1), said.length - 1, "the last is not heard");
  heard.forEach((next, at) => {
    const before = heard[at - 1] ?? -1;
    assert.ok(next > before, `${next} behind ${before}`);
    for (let gap = before + 1; gap < next; gap++) assert.notEqual(said[gap], said[next], `${gap} is not heard`);
  });
  void socket.close();
  await pass(1000);
};

test("a socket comes to itself after anything, and nothing is lost, repeated or reordered", async () => {
  const one = process.env["SEED"];
  if (one) return run(Number(one), true);
  for (let seed = 0; seed < Number(process.env["SEEDS"] ?? 300); seed++)
    await run(seed, false).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
});
