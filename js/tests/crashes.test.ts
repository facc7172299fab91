/**
 * Tabs that share one session, and pages whose session survives a reload, by seeds: they come, speak, leave and crash, a channel
 * between tabs is slow, the store takes its time, the connection is cut and the server restarts. What they say arrives once and in
 * their order or is reported; what the server says is heard by each tab once and without a gap.
 *
 * `SEEDS=n` runs so many seeds (default 300), `SEED=n` runs one and prints what happens.
 */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { durable } from "../src/durable.js";
import { connect, type Socket, type ThroughlineError } from "../src/index.js";
import { share, type SharedSocket } from "../src/shared.js";
import { Rng } from "./sim/rng.js";
import { begin, FakeWebSocket, type Host } from "./socket/host.js";

/** A tab, and what a browser keeps of it: all that it does is in vain when it is dead. */
interface Tab {
  readonly name: string;
  isAlive: boolean;
  /** What others have told it waits. */
  isSlow: boolean;
  readonly mail: unknown[];
  hear?: (event: { data: unknown }) => void;
  /** How many messages it has sent. */
  sent: number;
}

interface Waiter {
  readonly tab: Tab;
  readonly grant: () => Promise<unknown>;
}

/** The name of the lock that the tab has that leads, and of its store. */
const LEAD = "throughline:t shared";
const isOf = (url: string, { name }: Tab) => new URL(url).pathname === `/${name}`;

/** A browser of an origin: channels, locks and a store, of which each knows whose it is. */
const createBrowser = (rng: Rng) => {
  const tabs: Tab[] = [];
  /** The tab whose script has just begun. */
  let current: Tab | undefined;
  const owners = new WeakMap<AbortSignal, Tab>();
  const holders = new Map<string, Waiter>();
  const queues = new Map<string, Waiter[]>();
  let data = new Map<number, unknown>();
  /** Transactions in their order. */
  const work: { readonly tab: Tab; readonly act: () => void; readonly done: () => void }[] = [];

  const grant = (name: string) => {
    const next = !holders.has(name) && queues.get(name)?.shift();
    if (!next) return;
    holders.set(name, next);
    queueMicrotask(() => {
      if (!next.tab.isAlive) return;
      void next.grant().finally(() => {
        if (holders.get(name) === next) holders.delete(name);
        grant(name);
      });
    });
  };
  const release = (tab: Tab) => {
    for (const queue of queues.values()) for (const waiter of [...queue]) if (waiter.tab === tab) queue.splice(queue.indexOf(waiter), 1);
    for (const [name, holder] of [...holders]) {
      if (holder.tab !== tab) continue;
      holders.delete(name);
      grant(name);
    }
  };
  class FakeChannel {
    /** A tab has one that hears; another it makes when it is to lead. */
    readonly tab = current ?? holders.get(LEAD)!.tab;
    hears = false;
    isClosed = false;
    postMessage(data: unknown) {
      if (!this.tab.isAlive || this.isClosed) return;
      for (const other of tabs) if (!(this.hears && other === this.tab) && other.isAlive && other.hear) other.mail.push(structuredClone(data));
    }
    set onmessage(hear: (event: { data: unknown }) => void) {
      this.hears = true;
      this.tab.hear = hear;
    }
    close() {
      this.isClosed = true;
      if (this.hears) delete this.tab.hear;
    }
  }
  const locks = {
    request(name: string, { signal }: { signal: AbortSignal }, hold: () => Promise<unknown>) {
      const tab = owners.get(signal) ?? current!;
      owners.set(signal, tab);
      return new Promise((resolve, reject) => {
        if (!tab.isAlive) return;
        if (signal.aborted) return reject(signal.reason as Error);
        const queue = queues.get(name) ?? [];
        const waiter = {
          tab,
          grant: async () => {
            signal.removeEventListener("abort", abort);
            await hold().then(resolve, reject);
          },
        };
        const abort = () => {
          if (!tab.isAlive) return;
          queue.splice(queue.indexOf(waiter), 1);
          reject(signal.reason as Error);
        };
        signal.addEventListener("abort", abort);
        queues.set(name, queue);
        queue.push(waiter);
        grant(name);
      });
    },
  };
  const plan = (tab: Tab, act: () => void, done: () => void) => tab.isAlive && work.push({ tab, act, done });
  /** Does what is to be stored, some time. */
  const store = () => {
    const next = work.shift();
    if (!next) return;
    next.act();
    if (next.tab.isAlive) next.done();
  };
  const database = (tab: Tab) => ({
    createObjectStore: () => undefined,
    close: () => undefined,
    transaction(_: string, mode = "readonly") {
      const acts: (() => void)[] = [];
      const transaction = { objectStore: () => objects, oncomplete: () => {}, onabort: () => {} };
      const read = <T>(what: () => T) => {
        const request: { result?: T; onsuccess?: () => void } = {};
        plan(tab, () => (request.result = structuredClone(what())), () => request.onsuccess?.());
        return request;
      };
      const write = (act: () => void) => void acts.push(act);
      const objects = {
        get: (key: number) => read(() => data.get(key)),
        getAll: () => read(() => [...data].filter(([key]) => key > 0).sort(([a], [b]) => a - b).map(([, held]) => held)),
        clear: () => write(() => data.clear()),
        delete: ([from, to]: [number, number]) => write(() => [...data.keys()].forEach((key) => key > from && key <= to && data.delete(key))),
        put(value: unknown, key: number) {
          const copy = structuredClone(value);
          write(() => data.set(key, copy));
        },
      };
      if (mode !== "readonly") plan(tab, () => acts.forEach((act) => act()), () => transaction.oncomplete());
      return transaction;
    },
  });
  Object.assign(globalThis, {
    BroadcastChannel: FakeChannel,
    IDBKeyRange: { lowerBound: (from: number) => [from, Infinity], bound: (from: number, to: number) => [from, to] },
    indexedDB: {
      open(name: string) {
        const request: { result?: unknown; onsuccess?: () => void } = {};
        const { tab } = holders.get(name)!;
        request.result = database(tab);
        queueMicrotask(() => tab.isAlive && request.onsuccess?.());
        return request;
      },
    },
    WebSocket: function (url: string, protocol: string): object {
      const tab = tabs.find((tab) => isOf(url, tab))!;
      return tab.isAlive ? new FakeWebSocket(url, protocol) : { close: (): void => undefined };
    },
  });
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  /** Lets what is ready happen. */
  const turn = async (host: Host, rounds: number) => {
    for (let round = 0; round < rounds; round++) {
      await new Promise((resolve) => setImmediate(resolve));
      mock.timers.tick(1);
      host.pump();
      for (const tab of tabs) if (tab.isAlive && !tab.isSlow) for (let data; tab.hear && (data = tab.mail.shift()); ) tab.hear({ data });
    }
  };
  return {
    tabs,
    /** A tab comes, and runs its script. */
    open<T>(name: string, script: (url: string) => T): readonly [tab: Tab, result: T] {
      const tab: Tab = { name, isAlive: true, isSlow: false, mail: [], sent: 0 };
      tabs.push(tab);
      current = tab;
      const result = script(`http://test/${name}`);
      current = undefined;
      return [tab, result];
    },
    /** A tab is gone, and what it was about to store is stored or not. */
    crash(tab: Tab, host: Host) {
      tab.isAlive = false;
      for (const one of work.splice(0)) if (one.tab !== tab) work.push(one);
      else if (rng.chance(500)) one.act();
      for (const socket of host.sockets.filter(({ url }) => isOf(url, tab))) socket.close();
      release(tab);
    },
    turn,
    async go(host: Host, time: number) {
      for (const end = Date.now() + time; Date.now() < end; ) {
        mock.timers.tick(Math.min(40, end - Date.now()));
        await turn(host, 6);
        if (rng.chance(700)) store();
      }
    },
    store,
    /** Nothing happens any more but what has to. */
    async settle(host: Host) {
      for (const tab of tabs) tab.isSlow = false;
      for (let round = 0; round < 40; round++) {
        while (work.length) store();
        await this.go(host, 1000);
      }
    },
  };
};

type Said = readonly [name: string, number: number];
/** Who of the pages said which, as the server heard it. */
const judge = ({ name, sent }: Tab, isThere: boolean, heard: readonly Said[], lost: ReadonlySet<string>) => {
  const arrived = heard.filter(([of]) => of === name).map(([, number]) => number);
  assert.deepEqual(arrived, [...new Set(arrived)].sort((a, b) => a - b), `${name} is heard twice or out of order`);
  // Who crashed, or left, may have been about to store the rest.
  const last = isThere ? sent : (arrived.at(-1) ?? 0);
  for (let number = 0; number < last; number++)
    assert.ok(arrived.includes(number) || lost.has(`${name} ${number}`), `${number} of ${name} is lost`);
};

type Steps = readonly (readonly [weight: number, act: () => unknown])[];
const take = async (rng: Rng, count: number, steps: Steps) => {
  const total = steps.reduce((sum, [weight]) => sum + weight, 0);
  for (let step = 0; step < count; step++) {
    let at = rng.below(total);
    await steps.find(([weight]) => (at -= weight) < 0)![1]();
  }
};

interface Sharing {
  readonly tab: Tab;
  readonly socket: SharedSocket<number, Said>;
  readonly heard: number[];
  hasLeft: boolean;
  /** What it waits for an answer to. */
  readonly asked: Set<number>;
}

const sharing = async (seed: number, talks: boolean) => {
  const rng = new Rng(seed);
  const host = begin();
  host.trip = 40 * rng.below(3);
  const browser = createBrowser(rng);
  const log = (...what: unknown[]) => talks && console.error(Date.now() - 1_000_000, ...what);
  const all: Sharing[] = [];
  /** In which session each number was said. */
  const said: unknown[] = [];
  const lost = new Set<string>();
  const say = () => {
    log("the server says", said.length);
    host.say(said.push(host.session()) - 1);
  };
  const open = () => {
    const name = `tab${all.length}`;
    log("opens", name);
    const [tab, socket] = browser.open(name, (url) =>
      share<number, Said>("t", (parts) => connect(url, { transports: ["websocket"], parts: [...parts] })),
    );
    const one: Sharing = { tab, socket, heard: [], hasLeft: false, asked: new Set() };
    all.push(one);
    socket.on("message", ({ body }) => {
      if (!tab.isAlive) return;
      log("  ", name, "hears", body);
      one.heard.push(body);
    });
    socket.on("lost", ({ unknown, scope, reason }) => {
      if (!tab.isAlive) return;
      log("  ", name, "loses", scope, reason.code, JSON.stringify(unknown));
      for (const [of, number] of unknown) lost.add(`${of} ${number}`);
    });
    socket.on("state", (state) => log("  ", name, "is", state.status, "reason" in state ? state.reason?.code : ""));
  };
  const alive = () => all.filter(({ tab, hasLeft }) => tab.isAlive && !hasLeft);
  const some = () => rng.pick(alive());
  open();
  await take(rng, 100, [
    [
      20,
      () => {
        const { tab, socket } = some();
        log(tab.name, "sends", tab.sent);
        socket.send([tab.name, tab.sent++]);
      },
    ],
    [
      6,
      () => {
        const { tab, socket, asked } = some();
        const number = tab.sent++;
        log(tab.name, "asks", number);
        asked.add(number);
        socket.request([tab.name, number]).then(
          () => asked.delete(number),
          ({ code }: ThroughlineError) => {
            log("  ", tab.name, "has no answer to", number, code);
            asked.delete(number);
            if (code === "lost") lost.add(`${tab.name} ${number}`);
          },
        );
      },
    ],
    [12, () => host.sessions.size && say()],
    [
      20,
      async () => {
        // A script has had its turn by then.
        await browser.turn(host, 1);
        browser.store();
      },
    ],
    [20, () => browser.turn(host, 1 + rng.below(6))],
    [8, () => browser.go(host, rng.below(400))],
    [3, () => alive().length < 4 && open()],
    [3, () => (some().tab.isSlow = rng.chance(500))],
    [
      2,
      () => {
        log("cut");
        host.cut();
      },
    ],
    [
      2,
      () => {
        if (alive().length < 2) return;
        const { tab, socket } = some();
        log("crashes", tab.name, socket.leads ? "which leads" : "");
        browser.crash(tab, host);
      },
    ],
    [
      1,
      () => {
        if (alive().length < 2) return;
        const one = some();
        log("leaves", one.tab.name);
        one.socket.leave();
        one.hasLeft = true;
      },
    ],
    [
      1,
      () => {
        if (seed % 2) return;
        log("the server restarts");
        host.restart();
      },
    ],
  ]);
  log("IN ORDER");
  await browser.settle(host);
  say();
  await browser.settle(host);
  for (const { tab, socket, heard, asked, hasLeft } of all) {
    const isThere = tab.isAlive && !hasLeft;
    judge(tab, isThere, host.heard as Said[], lost);
    heard.reduce((before, next) => {
      assert.ok(next > before, `${tab.name} hears ${next} behind ${before}`);
      // What a session had when it was forgotten is nobody's.
      for (let gap = before + 1; gap < next; gap++) assert.notEqual(said[gap], said[next], `${tab.name} does not hear ${gap}`);
      return next;
    }, heard[0]! - 1);
    if (!isThere) continue;
    assert.deepEqual([...asked], [], `${tab.name} is not answered`);
    assert.equal(heard.at(-1), said.length - 1, `${tab.name} does not hear the last`);
    assert.equal(socket.waiting, 0, `${tab.name} has something to say`);
    socket.leave();
  }
};

/** A page that is loaded again and again, and each time goes on with what the one before had stored. */
const reloading = async (seed: number, talks: boolean) => {
  const rng = new Rng(seed);
  const host = begin();
  host.trip = 40 * rng.below(3);
  const browser = createBrowser(rng);
  const log = (...what: unknown[]) => talks && console.error(Date.now() - 1_000_000, ...what);
  const lost = new Set<string>();
  let page: Tab;
  let socket: Socket<unknown, Said> | undefined;
  const load = () => {
    socket = undefined;
    const name = `page${browser.tabs.length}`;
    log("loads", name);
    const [tab] = browser.open(name, async (url) => {
      const part = await durable("t");
      if (!tab.isAlive) return;
      socket = connect(url, { transports: ["websocket"], parts: [part] });
      socket.on("message", () => undefined);
      socket.on("lost", ({ unknown, reason }) => {
        if (!tab.isAlive) return;
        log("  ", name, "loses", reason.code, JSON.stringify(unknown));
        for (const [of, number] of unknown) lost.add(`${of} ${number}`);
      });
      socket.on("state", (state) => log("  ", name, "is", state.status, "reason" in state ? state.reason?.code : ""));
    });
    page = tab;
  };
  load();
  await take(rng, 150, [
    [
      20,
      () => {
        if (!socket) return;
        log(page.name, "sends", page.sent);
        socket.send([page.name, page.sent++]);
      },
    ],
    [3, () => host.sessions.size && host.say(0)],
    [
      20,
      async () => {
        // A script has had its turn by then.
        await browser.turn(host, 1);
        browser.store();
      },
    ],
    [20, () => browser.turn(host, 1 + rng.below(6))],
    [8, () => browser.go(host, rng.below(400))],
    [2, () => host.cut()],
    [
      1,
      () => {
        if (seed % 2) return;
        log("the server restarts");
        host.restart();
      },
    ],
    [
      4,
      () => {
        log("crashes", page.name);
        browser.crash(page, host);
        load();
      },
    ],
  ]);
  log("IN ORDER");
  await browser.settle(host);
  const heard = host.heard as Said[];
  for (const tab of browser.tabs) judge(tab, tab === page!, heard, lost);
  const order = heard.map(([name]) => Number(name.slice(4)));
  assert.deepEqual(order, [...order].sort((a, b) => a - b), "one page behind the other");
  assert.equal(socket!.waiting.messages, 0, "the last has something to say");
};

for (const [name, run] of [
  ["tabs that share a session lose nothing, whoever crashes", sharing],
  ["what a page has stored arrives once, however often it crashes", reloading],
] as const)
  test(name, async () => {
    const one = process.env["SEED"];
    if (one) return run(Number(one), true);
    for (let seed = 0; seed < Number(process.env["SEEDS"] ?? 300); seed++)
      await run(seed, false).catch((error: unknown) => {
        throw new Error(`seed ${seed}`, { cause: error });
      });
  });
