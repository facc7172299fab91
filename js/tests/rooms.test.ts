/** Rooms over a socket that does what it is told. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { type Socket, ThroughlineError } from "../src/index.js";
import { rooms } from "../src/rooms.js";

const EPOCH = "q83vASNFZ4k";
const OTHER = "AAECAwQFBgc";
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A server's answers by hand, and what came from the page. */
const begin = () => {
  const listeners: Record<string, Set<(event: never) => void>> = { message: new Set(), state: new Set(), lost: new Set(), resumed: new Set() };
  /** Without the name of a join, which is chance. */
  const asked: { body: Record<string, unknown>; ref: string; answer: (body: unknown) => void; fail: (error: unknown) => void }[] = [];
  const sent: unknown[] = [];
  const incoming: unknown[] = [];
  const emit = (name: string, event: unknown) => [...listeners[name]!].forEach((listener) => listener(event as never));
  const deliver = () => {
    while (incoming.length && listeners["message"]!.size) emit("message", incoming.shift());
  };
  const base = {
    id: "id",
    send: (body: unknown) => void sent.push(body),
    deliver: (body: unknown) => note(body),
    request: (body: unknown) => note(body),
    on(name: string, listener: (event: never) => void) {
      listeners[name]!.add(listener);
      if (name === "message") queueMicrotask(deliver);
      return () => void listeners[name]!.delete(listener);
    },
  };
  const lost = new ThroughlineError("lost");
  const note = (body: unknown) =>
    new Promise((answer, fail) => {
      const { ref, ...rest } = body as Record<string, unknown>;
      asked.push({ body: rest, ref: ref as string, answer, fail });
    });
  return {
    socket: rooms<unknown, unknown>(base as unknown as Socket<unknown, unknown>),
    asked,
    sent,
    incoming,
    /** The server says so. */
    say(body: unknown, isRequest = false) {
      const failed: string[] = [];
      incoming.push({ body, isRequest, reply: () => undefined, fail: (code: string) => failed.push(code) });
      deliver();
      return failed;
    },
    /** The session is lost with all that was asked; another takes its place. */
    async lose(...unknown: unknown[]) {
      for (const { fail } of asked.splice(0)) fail(lost);
      emit("lost", { reason: lost, unknown });
      await settle();
    },
    close: (code: string) => emit("state", { status: "closed", reason: new ThroughlineError(code) }),
  };
};
type Stage = ReturnType<typeof begin>;

const start = (at: number, more: object = {}) => ({ $: "begin", room: "lobby", epoch: EPOCH, at, recovered: false, ...more });
const said = (at: number, body: unknown = at) => ({ $: "msg", room: "lobby", at, body });
/** Joins, from the beginning on. */
const enter = async ({ socket, asked, say }: Stage, options: object = {}) => {
  const lobby = socket.room<unknown>("lobby");
  const told: unknown[] = [];
  lobby.on("message", ({ body }) => told.push(body));
  lobby.on("missed", ({ count }) => told.push(["missed", count]));
  lobby.on("left", ({ code }) => told.push(["left", code]));
  const joined = lobby.join(options);
  say(start(0, { ref: asked[0]!.ref }));
  asked.shift()!.answer({ room: "lobby", epoch: EPOCH, at: 0, recovered: false });
  assert.deepEqual(await joined, { position: { epoch: EPOCH, offset: 0 }, recovered: false });
  return { lobby, told };
};

test("what is said in a room comes to who listens, and its position follows", async () => {
  const stage = begin();
  assert.equal(stage.socket.room("lobby").position, undefined);
  const { lobby, told } = await enter(stage);
  assert.equal(stage.socket.room("lobby"), lobby);
  const whole: unknown[] = [];
  lobby.on("message", (message) => whole.push(message));
  stage.say({ ...said(1, "hi"), by: { principal: "ada" }, key: "k" });
  assert.deepEqual(whole, [{ body: "hi", offset: 1, by: { principal: "ada" }, key: "k" }]);
  stage.say({ ...said(7), room: "another" });
  assert.deepEqual(lobby.position, { epoch: EPOCH, offset: 1 });
  assert.deepEqual(told, ["hi"]);
});

test("repeats, and what stands before a stream or behind its end, are nobody's", async () => {
  const stage = begin();
  stage.socket.room("lobby");
  stage.say(said(1));
  const { lobby, told } = await enter(stage);
  for (const at of [1, 1, 3, 2, 4]) stage.say(said(at));
  stage.say({ $: "left", room: "lobby", code: "forbidden", message: "" });
  stage.say(said(5));
  assert.deepEqual(told, [1, 3, 4, ["left", "forbidden"]]);
  assert.equal(lobby.position, undefined);
});

test("after a lost session a room is joined again from its position, and nothing is told twice", async () => {
  const stage = begin();
  const { lobby, told } = await enter(stage, { last: 5, presence: true, meta: "here" });
  stage.say(said(1));
  const updated = lobby.update("away");
  stage.asked.shift()!.answer({});
  await updated;
  const publishing = lobby.publish("x");
  const failing = assert.rejects(publishing, { code: "lost" });
  await stage.lose();
  await failing;
  assert.deepEqual(
    stage.asked.map(({ body }) => body),
    [{ $: "join", room: "lobby", since: { epoch: EPOCH, offset: 1 }, last: 5, presence: true, meta: "away" }],
  );
  // It had been heard already when the server of the old session went down, but not been in its receipts.
  stage.say(said(2));
  stage.say(start(1, { recovered: true }));
  stage.asked.shift()!.answer({ epoch: EPOCH, at: 1, recovered: true });
  for (const at of [2, 3]) stage.say(said(at));
  assert.deepEqual(told, [1, 2, 3]);
});

test("where history does not reach, it is told how many are missing", async () => {
  const stage = begin();
  const { lobby, told } = await enter(stage);
  stage.say(said(1));
  stage.say({ $: "missed", room: "lobby", count: 3, to: 4 });
  assert.deepEqual(lobby.position, { epoch: EPOCH, offset: 4 });
  await stage.lose();
  stage.say(start(10));
  stage.say(said(11));
  await stage.lose();
  // The room is another: nobody knows.
  stage.say(start(0, { epoch: OTHER }));
  stage.say(said(1, "new"));
  assert.deepEqual(told, [1, ["missed", 3], ["missed", 6], 11, ["missed", undefined], "new"]);
  assert.deepEqual(lobby.position, { epoch: OTHER, offset: 1 });
});

test("who joins from a position of an earlier page is told what is missing since", async () => {
  const stage = begin();
  const { lobby, told } = await enter(stage);
  stage.say(said(5));
  void lobby.join({ since: { epoch: EPOCH, offset: 2 } });
  stage.say(start(3, { ref: stage.asked[0]!.ref }));
  for (const at of [4, 5]) stage.say(said(at));
  assert.deepEqual(told, [5, ["missed", 1], 4, 5], "what was asked for again comes again");
});

test("a join is asked until it is answered, and no longer than it is wanted", async () => {
  const stage = begin();
  const lobby = stage.socket.room("lobby");
  const joined = lobby.join({ last: 3 });
  await stage.lose();
  await stage.lose();
  assert.equal(stage.asked.length, 1);
  assert.deepEqual(stage.asked.map(({ body }) => body), [{ $: "join", room: "lobby", last: 3 }]);
  stage.say(start(4, { ref: stage.asked[0]!.ref }));
  stage.say(said(5));
  // The stream had begun, and the answer was lost.
  await stage.lose();
  assert.deepEqual(stage.asked[0]!.body["since"], { epoch: EPOCH, offset: 5 });
  stage.asked.shift()!.answer({ epoch: EPOCH, at: 5, recovered: true });
  assert.equal((await joined).recovered, true);
  const left = lobby.leave();
  await stage.lose();
  await left;
  assert.deepEqual(stage.asked, []);
  assert.equal(lobby.position, undefined);
});

test("a second join that is refused leaves what stands as it was", async () => {
  const stage = begin();
  const { lobby, told } = await enter(stage);
  const refused = new ThroughlineError("failed", "", { body: { code: "forbidden", message: "" } });
  for (const ask of [() => lobby.join({ presence: true }), () => lobby.update({ far: "too large" })]) {
    const asked = ask();
    stage.asked.shift()!.fail(refused);
    await assert.rejects(asked, { code: "forbidden" });
  }
  await stage.lose();
  assert.deepEqual(stage.asked.map(({ body }) => body), [{ $: "join", room: "lobby", since: { epoch: EPOCH, offset: 0 } }]);
  assert.deepEqual(told, []);
});

test("a second join that is refused leaves the first as it was asked for, though it has not begun", async () => {
  const { socket, asked, say, lose } = begin();
  const lobby = socket.room("lobby");
  void lobby.join({ presence: true });
  const refused = assert.rejects(lobby.join({ last: 1 }), { code: "forbidden" });
  const [first, second] = asked.splice(0);
  first!.answer({ room: "lobby", epoch: EPOCH, at: 3, recovered: false });
  second!.fail(new ThroughlineError("failed", "", { body: { code: "forbidden", message: "" } }));
  await refused;
  say(start(3, { ref: first!.ref }));
  await lose();
  assert.deepEqual(asked.map(({ body }) => body), [{ $: "join", room: "lobby", since: { epoch: EPOCH, offset: 3 }, presence: true }]);
});

test("a room that is refused in the new session has been left", async () => {
  const stage = begin();
  const { told } = await enter(stage);
  await stage.lose();
  stage.asked.shift()!.fail(new ThroughlineError("failed", "", { body: { code: "forbidden", message: "no" } }));
  await settle();
  assert.deepEqual(told, [["left", "forbidden"]]);
  await stage.lose();
  assert.deepEqual(stage.asked, []);
});

test("many rooms are taken up again a few at a time", async () => {
  const stage = begin();
  for (let at = 0; at < 40; at++) {
    void stage.socket.room(`${at}`).join();
    stage.say({ ...start(0, { ref: stage.asked[0]!.ref }), room: `${at}` });
    stage.asked.shift()!.answer({});
  }
  await settle();
  await stage.lose();
  assert.equal(stage.asked.length, 16);
  const names = new Set<unknown>();
  while (stage.asked.length) {
    const { body, answer } = stage.asked.shift()!;
    names.add(body["room"]);
    answer({});
    await settle();
  }
  assert.equal(names.size, 40);
});

test("operations fail with the codes of rooms, and others with their own", async () => {
  const stage = begin();
  const lobby = stage.socket.room("lobby");
  const acts = [() => lobby.join(), () => lobby.publish(1), () => lobby.update(1), () => lobby.presence(), () => lobby.history(), () => lobby.leave()];
  for (const act of acts) {
    const refused = assert.rejects(act(), (error) => error instanceof ThroughlineError && error.code === "too_deep" && error.message === "why");
    stage.asked.shift()!.fail(new ThroughlineError("failed", "", { body: { code: "too_deep", message: "why" } }));
    await refused;
  }
  const full = assert.rejects(lobby.publish(1), { code: "full" });
  stage.asked.shift()!.fail(new ThroughlineError("full"));
  await full;
  const other = assert.rejects(lobby.join(), TypeError);
  stage.asked.shift()!.answer("hello?");
  await other;
});

test("what is sent without an answer is told to have failed", async () => {
  const stage = begin();
  const { lobby } = await enter(stage);
  const failed: unknown[] = [];
  lobby.on("failed", (event) => failed.push(event));
  lobby.send({ a: 1 }, { key: "k" });
  assert.deepEqual(stage.asked[0]!.body, { $: "publish", room: "lobby", key: "k", body: { a: 1 } });
  stage.say({ $: "failed", room: "lobby", code: "forbidden", message: "no" });
  const lost: unknown[] = [];
  stage.socket.on("lost", ({ unknown }) => lost.push(unknown));
  await stage.lose(stage.asked[0]!.body, "the application's", { $: "app", body: { $: "mine" } });
  assert.deepEqual(failed, [
    { code: "forbidden", message: "no" },
    { code: "lost", message: "lost", body: { a: 1 } },
  ]);
  assert.deepEqual(lost, [["the application's", { $: "mine" }]]);
});

test("publishing resolves with the place, or with none where nobody is", async () => {
  const stage = begin();
  const lobby = stage.socket.room("lobby");
  const published = [lobby.publish(1), lobby.publish(2)];
  stage.asked.shift()!.answer({ epoch: EPOCH, offset: 8 });
  stage.asked.shift()!.answer({});
  assert.deepEqual(await Promise.all(published), [{ epoch: EPOCH, offset: 8 }, undefined]);
});

const ada = { who: { principal: "ada" } };
const bob = { who: { principal: "bob" }, meta: "typing" };
const present = (members: unknown[], first: boolean, last: boolean) => ({ $: "present", room: "lobby", members, first, last });

test("who is there is told as a list, and then by differences", async () => {
  const stage = begin();
  const { lobby } = await enter(stage, { presence: true });
  const told: unknown[] = [];
  lobby.on("presence", (event) => told.push(event));
  stage.say(present([ada], true, false));
  assert.deepEqual(lobby.members, [], "a part is no list");
  stage.say(present([bob], false, true));
  assert.deepEqual(told.pop(), { members: [ada, bob] });
  assert.equal(lobby.members, lobby.members);
  stage.say({ $: "updated", room: "lobby", member: { ...ada, meta: "away" } });
  assert.deepEqual(told.pop(), { members: [{ ...ada, meta: "away" }, bob], updated: { ...ada, meta: "away" } });
  stage.say({ $: "gone", room: "lobby", who: { principal: "ada" } });
  assert.deepEqual(told.pop(), { members: [bob], gone: { principal: "ada" } });
  stage.say({ $: "joined", room: "lobby", member: ada });
  assert.deepEqual(told.pop(), { members: [bob, ada], joined: ada });
  // A list that a lost session has cut short is not mixed with the next.
  stage.say(present([], true, false));
  await stage.lose();
  assert.deepEqual(lobby.members, [bob, ada]);
  stage.say(start(0, { recovered: true }));
  stage.say(present([bob], true, true));
  assert.deepEqual(lobby.members, [bob]);
  stage.say({ $: "left", room: "lobby", code: "asked", message: "" });
  assert.deepEqual(told.pop(), { members: [] });
});

test("who asks who is there gets the list, though it comes before the answer", async () => {
  const stage = begin();
  const { lobby } = await enter(stage);
  const listed = lobby.presence();
  stage.say(present([ada], true, true));
  stage.asked.shift()!.answer({});
  assert.deepEqual(await listed, [ada]);
});

test("a list that does not come with its session is not waited for", async () => {
  const stage = begin();
  const { lobby } = await enter(stage);
  for (const [code, over] of [
    ["lost", () => stage.lose()],
    ["closed", () => stage.close("going_away")],
  ] as const) {
    const listed = lobby.presence();
    stage.asked.pop()!.answer({});
    await settle();
    const failed = assert.rejects(listed, { code });
    await over();
    await failed;
  }
});

test("who leaves and joins again at once is in", async () => {
  const stage = begin();
  const lobby = stage.socket.room("lobby");
  const told: unknown[] = [];
  lobby.on("message", ({ body }) => told.push(body));
  void lobby.join();
  void lobby.leave();
  void lobby.join({ last: 2 });
  const [first, , second] = stage.asked;
  stage.say(start(0, { ref: first!.ref }));
  stage.say({ $: "left", room: "lobby", code: "asked", message: "" });
  stage.say(start(3, { ref: second!.ref }));
  stage.say(said(4));
  for (const { answer } of stage.asked.splice(0)) answer({});
  await settle();
  assert.deepEqual(told, [4]);
  await stage.lose();
  assert.deepEqual(stage.asked[0]!.body, { $: "join", room: "lobby", since: { epoch: EPOCH, offset: 4 }, last: 2 });
});

test("messages of the application are its own, wrapped where they look like a room's", async () => {
  const stage = begin();
  const told: unknown[] = [];
  stage.say({ early: 1 });
  stage.socket.on("message", ({ body }) => told.push(body));
  await settle();
  stage.say({ $: "app", body: { $: "mine" } });
  stage.say({ $: "dance", room: "lobby" });
  stage.say({ $: "begin" });
  assert.deepEqual(stage.say({ $: "app", body: 7 }, true), []);
  assert.deepEqual(stage.say({ $: "dance" }, true), ["unknown"]);
  assert.deepEqual(stage.say(start(1), true), ["unknown"]);
  assert.deepEqual(stage.say({ $: "begin" }, true), ["malformed"]);
  assert.deepEqual(told, [{ early: 1 }, { $: "mine" }, 7]);
  stage.socket.send({ $: "mine" });
  stage.socket.send({ a: 1, $: "mine" });
  assert.deepEqual(stage.sent, [{ $: "app", body: { $: "mine" } }, { a: 1, $: "mine" }]);
});

test("what was kept comes once", () => {
  const stage = begin();
  const kept: unknown[] = [];
  stage.socket.on("kept", ({ body }) => kept.push(body));
  const say = (offset: number, epoch = EPOCH) => stage.say({ $: "kept", epoch, offset, body: offset });
  [1, 2, 2, 1, 3].forEach((offset) => say(offset));
  say(1, OTHER);
  assert.deepEqual(kept, [1, 2, 3, 1]);
});

test("where nobody takes messages, the server is held back", async () => {
  const stage = begin();
  const { lobby } = await enter(stage);
  for (let at = 0; at < 300; at++) stage.say({ at });
  assert.equal(stage.incoming.length, 300 - 256);
  const told: unknown[] = [];
  stage.socket.on("message", ({ body }) => told.push((body as { at: number }).at));
  await settle();
  assert.deepEqual(told, Array.from({ length: 300 }, (_, at) => at));
  const reader = lobby[Symbol.asyncIterator]();
  const first = reader.next();
  for (let at = 1; at <= 300; at++) stage.say(said(at));
  assert.ok(stage.incoming.length > 0);
  assert.equal((await first).value!.body, 1);
  for (let at = 2; at <= 300; at++) assert.equal((await reader.next()).value!.body, at);
  assert.equal(stage.incoming.length, 0);
  const last = reader.next();
  stage.say({ $: "left", room: "lobby", code: "asked", message: "" });
  assert.equal((await last).done, true);
});

test("what a lost session brought is heard before its rooms are joined again, however much waits", async () => {
  const stage = begin();
  const { lobby } = await enter(stage);
  const read = lobby[Symbol.asyncIterator]();
  void read.next();
  for (let at = 1; at <= 300; at++) stage.say(said(at));
  assert.ok(stage.incoming.length > 0);
  await stage.lose();
  assert.deepEqual(stage.asked[0]!.body["since"], { epoch: EPOCH, offset: 300 });
  stage.say(start(300, { recovered: true }));
  assert.equal(stage.incoming.length, 1, "the next session is held back");
});

test("who stops iterating holds nobody back", async () => {
  const stage = begin();
  const { lobby } = await enter(stage);
  const read = (async () => {
    for await (const { body } of lobby) if (body === 1) break;
  })();
  for (let at = 1; at <= 300; at++) stage.say(said(at));
  await read;
  await settle();
  assert.equal(stage.incoming.length, 0);
});

test("iterations end with the socket, and say why", async () => {
  const stage = begin();
  const { lobby } = await enter(stage);
  const ended = Promise.all([lobby, stage.socket].map((of) => assert.rejects(async () => void (await of[Symbol.asyncIterator]().next()), { code: "overloaded" })));
  stage.close("overloaded");
  await ended;
});

test("a listener that throws harms nobody else", async () => {
  const stage = begin();
  const { lobby, told } = await enter(stage);
  lobby.on("message", () => {
    throw new Error("its own affair");
  });
  const later: unknown[] = [];
  lobby.on("message", ({ body }) => later.push(body));
  const thrown: (() => void)[] = [];
  const mocked = mock.method(globalThis, "queueMicrotask", (act: () => void) => thrown.push(act));
  stage.say(said(1));
  mocked.mock.restore();
  assert.deepEqual([told, later], [[1], [1]]);
  assert.throws(thrown[0]!, /its own affair/);
});
