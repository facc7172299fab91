/** Rooms of several tabs over one session: a server, a channel and tabs that die, all of them in this process. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ThroughlineError } from "../src/index.js";
import { rooms } from "../src/rooms.js";
import { createSteward, type Stay } from "../src/shared/steward.js";
import type { SharedSocket } from "../src/shared.js";

const EPOCH = "q83vASNFZ4k";
type Payload = { $: string; room: string; ref?: string; since?: { offset: number }; last?: number; presence?: boolean; body?: unknown };
type Said = { id: number; payload: Payload; tab: string };

/** One room of a server, with one session in it or not. It keeps all that was said. */
const createServer = () => {
  const said: unknown[] = [];
  const asked: Payload[] = [];
  let isIn = false;
  let isLost = false;
  let watches = false;
  let refuse: string | undefined;
  let isLate = false;
  const out: unknown[] = [];
  const speak = (body: unknown) => {
    said.push(body);
    if (isIn) out.push({ $: "msg", room: "lobby", at: said.length, body });
  };
  const list = () => out.push({ $: "present", room: "lobby", members: [{ who: { principal: "ada" } }], first: true, last: true });
  return {
    asked,
    speak,
    isIn: () => isIn,
    refuse: (code: string | undefined) => (refuse = code),
    /** Its stream stays behind its answers. */
    lag: (late: boolean) => (isLate = late),
    /** What it has sent since the last time, in order. */
    take: () => (isLate ? [] : out.splice(0)),
    kick() {
      isIn = false;
      out.push({ $: "left", room: "lobby", code: "forbidden", message: "" });
    },
    /** The session goes down, and with it all that is asked until there is another. */
    lose() {
      isIn = false;
      isLost = true;
      out.length = 0;
    },
    /** Another session. */
    begin: () => void (isLost = false),
    /** Answers; what it says besides comes before the answer. */
    ask({ $: tag, ...more }: Payload): unknown {
      if (isLost) throw new ThroughlineError("lost");
      asked.push({ $: tag, ...more });
      if (tag === "join") {
        if (refuse) throw new ThroughlineError("failed", "", { body: { code: refuse, message: "" } });
        const at = more.since?.offset ?? Math.max(said.length - (more.last ?? 0), 0);
        isIn = true;
        watches = !!more.presence;
        const begun = { epoch: EPOCH, at, recovered: !!more.since, ref: more.ref };
        out.push({ $: "begin", room: "lobby", ...begun });
        if (watches) list();
        said.slice(at).forEach((body, index) => out.push({ $: "msg", room: "lobby", at: at + index + 1, body }));
        return begun;
      }
      if (tag === "leave") {
        if (!isIn) throw new ThroughlineError("failed", "", { body: { code: "no_member", message: "" } });
        isIn = false;
        out.push({ $: "left", room: "lobby", code: "asked", message: "" });
      }
      if (tag === "publish") {
        speak(more.body);
        return { epoch: EPOCH, offset: said.length };
      }
      if (tag === "presence") list();
      return {};
    },
  };
};

/** Tabs that share a session. What is said and heard moves when the test says so. */
const createTabs = () => {
  const server = createServer();
  const stays: Stay[] = [];
  const tabs = new Map<string, ReturnType<typeof open>>();
  /** On the way to the server, and answers on the way back. */
  let up: Said[] = [];
  let ids = 0;
  const hear = () => {
    for (const body of server.take()) for (const { tell } of tabs.values()) tell("message", { body });
  };
  /** A leader asks for itself as well, when a tab has gone. */
  const lead = () => createSteward(stays, async (payload) => {
    const answer = server.ask(payload as Payload);
    hear();
    return answer;
  });
  let steward = lead();
  const open = (name: string) => {
    const listeners: Record<string, Set<(event: unknown) => void>> = { message: new Set(), state: new Set(), lost: new Set() };
    const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
    const base = {
      leads: false,
      request: (payload: Payload) =>
        new Promise((resolve, reject) => {
          waiting.set(++ids, { resolve, reject });
          up.push({ id: ids, payload, tab: name });
        }),
      on(event: string, listener: (event: unknown) => void) {
        listeners[event]!.add(listener);
        return () => void listeners[event]!.delete(listener);
      },
    };
    const socket = rooms(base as unknown as SharedSocket<unknown, unknown>);
    const lobby = socket.room("lobby");
    const told: unknown[] = [];
    lobby.on("message", ({ body }) => told.push(body));
    lobby.on("missed", ({ count }) => told.push(["missed", count]));
    lobby.on("left", ({ code }) => told.push(["left", code]));
    return {
      lobby,
      told,
      waiting,
      tell: (event: string, value: unknown) => listeners[event]!.forEach((listener) => listener(value)),
    };
  };
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  /** All that was said goes to the server, and what comes back is heard. */
  const act = async () => {
    for (const { id, payload, tab } of up.splice(0)) {
      const waiter = tabs.get(tab)?.waiting;
      const end = (how: "resolve" | "reject") => (value: unknown) => {
        waiter?.get(id)?.[how](value);
        waiter?.delete(id);
      };
      await steward.ask_(tab, payload, async () => undefined).then(end("resolve"), end("reject"));
      hear();
    }
    await settle();
  };
  const flush = async () => {
    do await act();
    while (up.length);
  };
  return {
    server,
    stays,
    flush,
    tab(name: string) {
      const tab = open(name);
      tabs.set(name, tab);
      return tab;
    },
    /** A tab dies; if it led, with what was asked through it and not answered. */
    async die(name: string, led = false) {
      tabs.delete(name);
      up = up.filter(({ tab }) => tab !== name);
      if (led) {
        steward = lead();
        // What the server did is heard by all; its answers were the dead one's.
        const asked = up.splice(0);
        for (const { payload, tab } of asked) await steward.ask_(tab, payload, async () => undefined).catch(() => undefined);
        hear();
        for (const { waiting } of tabs.values()) {
          for (const { reject } of waiting.values()) reject(new ThroughlineError("unanswered"));
          waiting.clear();
        }
      }
      steward.gone_(name);
      await settle();
      await flush();
    },
    async lose() {
      server.lose();
      // What was on its way is lost with it.
      await act();
      server.begin();
      for (const { tell } of tabs.values()) tell("lost", { reason: new ThroughlineError("lost"), unknown: [], scope: "session" });
      await settle();
      await flush();
    },
    hear,
  };
};

test("each tab hears a room from where it joined, though others join it too", async () => {
  const { tab, server, flush } = createTabs();
  ["a", "b", "c"].forEach(server.speak);
  const [one, two, three] = [tab("one"), tab("two"), tab("three")];
  const joined = [one.lobby.join({ last: 1 }), two.lobby.join(), three.lobby.join({ since: { epoch: EPOCH, offset: 1 } })];
  await flush();
  assert.deepEqual((await Promise.all(joined)).map(({ position, recovered }) => [position.offset, recovered]), [[2, false], [3, false], [1, true]]);
  void one.lobby.publish("d");
  await flush();
  assert.deepEqual([one.told, two.told, three.told], [["c", "d"], ["d"], ["b", "c", "d"]]);
});

test("a stream that begins behind the answer is heard, also if the session is lost in between", async () => {
  for (const isLost of [false, true]) {
    const { tab, server, flush, hear, lose } = createTabs();
    ["a", "b"].forEach(server.speak);
    const one = tab("one");
    server.lag(true);
    const joined = one.lobby.join({ last: 1 });
    await flush();
    assert.equal((await joined).position.offset, 1);
    server.speak("c");
    server.lag(false);
    if (isLost) await lose();
    else hear();
    assert.deepEqual(one.told, ["b", "c"], "what the answer promised");
    assert.equal(one.lobby.position?.offset, 3);
  }
});

test("a tab that leaves, or dies, does not take the room from others; the last one does", async () => {
  const { tab, server, flush, die, stays } = createTabs();
  const [one, two, three] = [tab("one"), tab("two"), tab("three")];
  for (const { lobby } of [one, two, three]) void lobby.join();
  await flush();
  const left = one.lobby.leave();
  await flush();
  await left;
  void two.lobby.publish("still");
  await flush();
  assert.deepEqual([one.told, two.told, three.told], [[["left", "asked"]], ["still"], ["still"]]);
  assert.equal(one.lobby.position, undefined);
  await die("two");
  assert.ok(server.isIn());
  await die("three");
  assert.ok(!server.isIn());
  assert.deepEqual(stays, []);
});

test("who asks for presence has it whatever others ask for", async () => {
  const { tab, server, flush } = createTabs();
  const [one, two] = [tab("one"), tab("two")];
  void one.lobby.join({ presence: true });
  await flush();
  void two.lobby.join();
  await flush();
  assert.deepEqual(server.asked.map(({ presence }) => presence), [true, true]);
  assert.equal(one.lobby.members.length, 1);
  const left = two.lobby.leave();
  await flush();
  await left;
  await assert.rejects(two.lobby.presence(), { code: "no_member" });
});

test("a join whose answer died with the tab that led is asked again, and nothing comes twice", async () => {
  const { tab, server, flush, die } = createTabs();
  ["a", "b", "c"].forEach(server.speak);
  const [leader, one, two] = [tab("leader"), tab("one"), tab("two")];
  void leader.lobby.join();
  await flush();
  const joined = [one.lobby.join({ last: 3 }), two.lobby.join({ last: 1 })];
  await die("leader", true);
  await Promise.all(joined);
  server.speak("d");
  await flush();
  void one.lobby.publish("e");
  await flush();
  assert.deepEqual([one.told, two.told], [["a", "b", "c", "d", "e"], ["c", "d", "e"]]);
});

test("after a lost session each tab goes on from where it stood", async () => {
  const { tab, server, flush, lose } = createTabs();
  const [one, two, other] = [tab("one"), tab("two"), tab("other")];
  for (const { lobby } of [one, two]) void lobby.join();
  await flush();
  void one.lobby.publish("a");
  await flush();
  server.kick();
  server.take();
  server.speak("b");
  await lose();
  void two.lobby.publish("c");
  await flush();
  assert.deepEqual([one.told, two.told, other.told], [["a", "b", "c"], ["a", "b", "c"], []]);
});

test("who is refused, or taken out, is counted no more", async () => {
  const { tab, server, flush, hear, stays } = createTabs();
  const [one, two] = [tab("one"), tab("two")];
  server.refuse("forbidden");
  const refused = assert.rejects(one.lobby.join(), { code: "forbidden" });
  await flush();
  await refused;
  assert.deepEqual(stays, []);
  server.refuse(undefined);
  void one.lobby.join();
  await flush();
  server.kick();
  hear();
  await flush();
  assert.deepEqual([one.told, stays], [[["left", "forbidden"]], []]);
  // One that joins anew meanwhile is in.
  void two.lobby.join();
  await flush();
  server.kick();
  void one.lobby.join();
  await flush();
  server.speak("a");
  hear();
  assert.deepEqual([one.told.at(-1), two.told.at(-1)], ["a", ["left", "forbidden"]]);
});

test("a room may be called anything", async () => {
  const stays: Stay[] = [];
  const steward = createSteward(stays, async () => ({}));
  const kept = async () => undefined;
  await steward.ask_("one", { $: "join", room: "__proto__" }, kept);
  assert.deepEqual(stays, [["one", "__proto__", false]]);
  await steward.ask_("one", { $: "leave", room: "__proto__" }, kept);
  assert.deepEqual(stays, []);
  assert.deepEqual(await steward.ask_("one", "the application's", kept), {});
});

test("in any order of joins, leaves, deaths and losses no tab hears a message twice, misses one, or is left behind", async () => {
  for (let seed = 1; seed <= 1000; seed++) {
    let state = seed;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const { tab, server, flush, die, lose, hear, stays } = createTabs();
    const all = new Map<string, { lobby: ReturnType<typeof tab>["lobby"]; heard: number[]; isIn: boolean }>();
    let count = 0;
    const open = () => {
      const name = `tab${++count}`;
      const { lobby } = tab(name);
      const heard: number[] = [];
      lobby.on("message", ({ offset }) => heard.push(offset));
      // What was on its way when the session went down.
      lobby.on("failed", ({ code }) => assert.equal(code, "lost"));
      lobby.on("missed", () => assert.fail(`seed ${seed}: missed`));
      all.set(name, { lobby, heard, isIn: false });
    };
    for (let at = 0; at < 3; at++) open();
    for (let step = 0; step < 60; step++) {
      const names = [...all.keys()];
      const name = names[random(names.length)]!;
      const one = all.get(name)!;
      switch (random(9)) {
        case 0:
        case 1:
          if (!one.isIn) {
            one.isIn = true;
            one.heard.length = 0;
            void one.lobby.join({ last: random(3), presence: !random(2) }).catch(() => undefined);
          }
          break;
        case 2:
          one.isIn = false;
          void one.lobby.leave();
          break;
        case 3:
          one.lobby.send(step);
          break;
        case 4:
          server.speak(step);
          hear();
          break;
        case 5:
          await flush();
          break;
        case 6:
          if (names.length < 5) open();
          break;
        case 7:
          if (names.length > 1) {
            all.delete(name);
            await die(name, !random(2));
          }
          break;
        case 8:
          if (!random(5)) await lose();
      }
    }
    await flush();
    server.speak("last");
    hear();
    await flush();
    const inside = [...all].filter(([, { isIn }]) => isIn);
    assert.deepEqual(new Set(stays.map(([name]) => name)), new Set(inside.map(([name]) => name)), `seed ${seed}`);
    assert.equal(server.isIn(), inside.length > 0, `seed ${seed}`);
    for (const [name, { heard, lobby }] of inside) {
      assert.deepEqual(heard, heard.map((_, at) => heard[0]! + at), `seed ${seed}: ${name}`);
      assert.equal(heard.at(-1), lobby.position!.offset, `seed ${seed}: ${name}`);
      assert.ok(heard.length, `seed ${seed}: ${name}`);
    }
  }
});
