/**
 * A room of a page beside a server's, over a session that is lost now and then, by seeds. Whatever is joined, left, lost,
 * refused or taken away: what the page hears is one order without gaps that it is not told of, all that a join promised
 * comes, and in the end both agree on whether it is a member, and of what.
 *
 * `SEEDS=n` runs so many seeds (default 3,000), `SEED=n` runs one and prints what happens.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Socket, ThroughlineError } from "../src/index.js";
import { rooms } from "../src/rooms.js";
import type { JoinOptions, Position, Room } from "../src/rooms.js";
import { Rng } from "./sim/rng.js";

const EPOCHS = ["q83vASNFZ4k", "AAECAwQFBgc", "q83vASNFZ4w", "AAECAwQFBgk"];
/** So many messages a room keeps. */
const KEPT = 6;

interface Asked {
  readonly body: { $: string; ref?: string; since?: Position; last?: number };
  answer(body: object): void;
  fail(error: unknown): void;
}
/** On its way down: what is said in the stream, or an answer. */
type Item = readonly [notice: object] | readonly [undefined, asked: Asked, answer: () => void];

/** The server's room, as `docs/PROTOCOL.md` has it. */
class Server {
  epoch = 0;
  head = 0;
  isMember = false;
  refuses = false;
  readonly up: Asked[] = [];
  readonly down: Item[] = [];
  /** What a slow member has not been told. */
  #left = 0;
  readonly #rng: Rng;

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  #notice($: string, more: object) {
    this.down.push([{ $, room: "r", ...more }]);
  }

  #catchUp() {
    if (this.#left) this.#notice("missed", { count: this.#left, to: this.head });
    this.#left = 0;
  }

  say(drops: boolean) {
    if (this.isMember && !drops) this.#catchUp();
    this.head++;
    if (!this.isMember) return;
    if (drops) this.#left++;
    else this.#notice("msg", { at: this.head, body: `${this.epoch}:${this.head}` });
  }

  enter({ since, last = 0, ref }: Partial<Asked["body"]>) {
    const oldest = Math.max(this.head - KEPT, 0);
    const recovered = !!since && since.epoch === EPOCHS[this.epoch] && since.offset >= oldest && since.offset <= this.head;
    const at = recovered ? since.offset : Math.max(this.head - last, oldest);
    this.isMember = true;
    this.#left = 0;
    const begun = { epoch: EPOCHS[this.epoch]!, at, recovered, ...(ref !== undefined && { ref }) };
    this.#notice("begin", begun);
    for (let offset = at + 1; offset <= this.head; offset++) this.#notice("msg", { at: offset, body: `${this.epoch}:${offset}` });
    return { room: "r", ...begun };
  }

  exit(code: string) {
    if (!this.isMember) return false;
    this.#catchUp();
    this.isMember = false;
    this.#notice("left", { code, message: "" });
    return true;
  }

  /** Does the next that was asked. */
  act() {
    const asked = this.up.shift();
    if (!asked) return;
    const before = this.down.length;
    let item: Item;
    const refuse = (code: string) => {
      const error = new ThroughlineError("failed", "", { body: { code, message: "" } });
      item = [undefined, asked, () => asked.fail(error)];
    };
    const answer = (body: object) => (item = [undefined, asked, () => asked.answer(body)]);
    if (asked.body.$ === "join") {
      if (this.refuses) refuse("forbidden");
      else answer(this.enter(asked.body));
    } else if (this.exit("asked")) answer({});
    else refuse("no_member");
    // What is said may wait for a member that lags, and the answer does not.
    this.down.splice(this.#rng.chance(100) ? before : this.down.length, 0, item!);
  }

  /** The session is gone, and the room too, if it has no other life. */
  drop(restarts: boolean) {
    this.isMember = false;
    this.#left = 0;
    const asked = [...this.down.splice(0).flatMap(([, asked]) => asked ?? []), ...this.up.splice(0)];
    for (const { fail } of asked) fail(new ThroughlineError("lost"));
    if (!restarts || this.epoch + 1 === EPOCHS.length) return;
    this.epoch++;
    this.head = 0;
  }
}

/** What a page has heard, held against what it asked for. */
const observe = (room: Room<string>, asked: readonly Asked[], log: (...what: unknown[]) => void) => {
  let cursor: Position | undefined;
  /** What `begin` replaced, until something follows. */
  let begun: { readonly before: Position | undefined; readonly at: Position } | undefined;
  /** Joins that were called: their streams may begin earlier than what was heard. */
  let joins = 0;
  /** What was told since the latest join; and from where on that is promised, once it is answered. */
  let told = new Set<string>();
  let promised: Position | undefined;
  /** What the latest join is named. */
  let latest: string | undefined;
  /** It has left, and nobody has made it a member since. */
  let isOut = true;
  const note = (from: number, to: number, epoch: string) => {
    for (let offset = from + 1; offset <= to; offset++) told.add(`${epoch} ${offset}`);
  };
  /** No gap that was not told, where the page goes on by itself. */
  const settle = () => {
    if (begun && !joins && begun.before?.epoch === begun.at.epoch) assert.equal(begun.at.offset, begun.before.offset, "a gap that was not told");
    begun = undefined;
  };
  room.on("begin", ({ position, recovered }) => {
    log("  begin", position, recovered);
    settle();
    begun = { before: cursor, at: position };
    cursor = position;
  });
  room.on("missed", ({ count, to }) => {
    log("  missed", count, to);
    // That of a `begin` is told with it.
    if (to === begun?.at) {
      note(count === undefined ? 0 : to.offset - count, to.offset, to.epoch);
      begun = undefined;
      return;
    }
    settle();
    assert.ok(cursor, "missed outside a stream");
    assert.equal(to.offset, cursor.offset + count!, "so many are missing");
    note(cursor.offset, to.offset, to.epoch);
    cursor = to;
  });
  room.on("message", ({ body, offset }) => {
    log("  message", offset, body);
    settle();
    assert.ok(cursor, "a message outside a stream");
    assert.equal(offset, cursor.offset + 1, "one after the other");
    assert.equal(body, `${EPOCHS.indexOf(cursor.epoch)}:${offset}`);
    cursor = { epoch: cursor.epoch, offset };
    note(offset - 1, offset, cursor.epoch);
  });
  room.on("left", ({ code }) => {
    log("  left", code);
    assert.ok(cursor, "a stream ends twice");
    cursor = begun = promised = undefined;
  });
  return {
    async join(options: JoinOptions) {
      log("join", options);
      joins++;
      told = new Set();
      promised = undefined;
      const joined = room.join(options);
      latest = asked.at(-1)!.body.ref;
      isOut = false;
      await joined.then(
        ({ position }) => log("  joined", position),
        (error: ThroughlineError) => log("  not joined", error.code),
      );
    },
    /** The server has made it a member. */
    added: () => (isOut = false),
    /** A join was answered. */
    answered(ref: string | undefined, position: Position) {
      if (ref === latest) promised = position;
    },
    async leave() {
      log("leave");
      latest = promised = undefined;
      isOut = true;
      await room.leave();
    },
    /** All is quiet: what was promised has come. */
    judge({ isMember, head, epoch }: Server) {
      settle();
      assert.equal(!!room.position, isMember, "both know whether it is a member");
      assert.ok(!isOut || !isMember, "it had left");
      if (!isMember) return;
      assert.deepEqual(room.position, { epoch: EPOCHS[epoch], offset: head });
      assert.deepEqual(cursor, room.position);
      if (!promised || promised.epoch !== EPOCHS[epoch]) return;
      const of = promised.epoch;
      for (let at = promised.offset + 1; at <= head; at++) assert.ok(told.has(`${of} ${at}`), `${at} was promised`);
    },
  };
};

const run = async (seed: number, talks: boolean) => {
  const rng = new Rng(seed);
  const server = new Server(rng);
  const log = (...what: unknown[]) => talks && console.error(...what);
  type Hear = (event: never) => void;
  const listeners: Record<string, Set<Hear>> = { message: new Set(), state: new Set(), lost: new Set() };
  const emit = (name: string, event: unknown) => [...listeners[name]!].forEach((listener) => listener(event as never));
  const base = {
    request: (body: Asked["body"]) => {
      log("  asks", JSON.stringify(body));
      return new Promise((resolve, fail) => {
        const answer = (answer: { epoch?: string; at?: number }) => {
          if (answer.epoch) page.answered(body.ref, { epoch: answer.epoch, offset: answer.at! });
          resolve(answer);
        };
        server.up.push({ body, answer, fail });
      });
    },
    on(name: string, listener: Hear) {
      listeners[name]!.add(listener);
      return () => void listeners[name]!.delete(listener);
    },
  };
  const page = observe(rooms(base as unknown as Socket<unknown, unknown>).room<string>("r"), server.up, log);
  /** What has come of the stream and was not heard yet: answers overtake it. */
  const inlet: object[] = [];
  const hear = () => {
    const body = inlet.shift();
    if (!body) return;
    log("hears", JSON.stringify(body));
    emit("message", { body, isRequest: false });
  };
  const receive = () => {
    const [notice, , answer] = server.down.shift() ?? [];
    if (notice) inlet.push(notice);
    answer?.();
  };
  /** What was said before is done. */
  const lull = async () => {
    for (let turns = 0; turns < 12; turns++) await undefined;
  };
  const open = new Set<Promise<void>>();
  const watch = (promise: Promise<void>) => {
    open.add(promise);
    void promise.finally(() => open.delete(promise));
  };
  const lose = async (restarts: boolean) => {
    log("LOST", restarts);
    server.drop(restarts);
    emit("lost", { reason: new ThroughlineError("lost"), unknown: [] });
    while (inlet.length) hear();
    await lull();
  };
  const steps: readonly (readonly [weight: number, act: () => unknown])[] = [
    [6, () => server.say(false)],
    [1, () => server.say(true)],
    [8, () => server.act()],
    [14, receive],
    [12, hear],
    [
      3,
      () => {
        const last = rng.chance(400) && { last: rng.below(KEPT * 2) };
        const since = rng.chance(400) && { since: { epoch: EPOCHS[rng.below(server.epoch + 1)]!, offset: rng.below(server.head + 1) } };
        watch(page.join({ ...last, ...since }));
      },
    ],
    [2, () => watch(page.leave())],
    [1, () => lose(false)],
    [1, () => lose(true)],
    [1, () => server.exit("kicked")],
    [1, () => !server.isMember && server.enter({}) && page.added()],
    [1, () => (server.refuses = rng.chance(300))],
  ];
  const total = steps.reduce((sum, [weight]) => sum + weight, 0);
  for (let step = 0; step < 120; step++) {
    let at = rng.below(total);
    await steps.find(([weight]) => (at -= weight) < 0)![1]();
    if (rng.chance(700)) await lull();
  }
  log("IN ORDER");
  server.refuses = false;
  for (let round = 0; round < 10; round++) {
    while (server.up.length) server.act();
    while (server.down.length) receive();
    while (inlet.length) hear();
    server.say(false);
    await lull();
  }
  while (server.down.length) receive();
  while (inlet.length) hear();
  assert.equal(open.size, 0, "something is never answered");
  page.judge(server);
};

test("a page and its server agree on what was said in a room", async () => {
  const one = process.env["SEED"];
  if (one) return run(Number(one), true);
  for (let seed = 0; seed < Number(process.env["SEEDS"] ?? 3000); seed++)
    await run(seed, false).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
});
