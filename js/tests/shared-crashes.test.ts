/**
 * Tabs that share one session, by seeds: they come, speak, leave and crash, a channel between them is slow, the store takes its
 * time, the connection is cut and the server restarts. What tabs say arrives once and in their order or is reported, what the
 * server says is heard by each tab once and without a gap.
 *
 * `SEEDS=n` runs so many seeds (default 600), `SEED=n` runs one and prints what happens.
 */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { connect, type ThroughlineError } from "../src/index.js";
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
  socket?: SharedSocket<number, readonly [string, number]>;
  sent: number;
  readonly heard: number[];
  readonly asked: Set<number>;
}

interface Waiter {
  readonly tab: Tab;
  readonly grant: () => Promise<unknown>;
}

const STORE = "throughline:t shared";
const isOf = (url: string, { name }: Tab) => new URL(url).pathname === `/${name}`;

/** A browser of an origin: channels, locks and a store, of which each knows whose it is. */
const createBrowser = (rng: Rng) => {
  const tabs: Tab[] = [];
  /** The tab whose script runs. */
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
    readonly tab = current ?? holders.get(STORE)!.tab;
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
        work.push({ tab, act: () => (request.result = structuredClone(what())), done: () => request.onsuccess?.() });
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
      if (mode !== "readonly") work.push({ tab, act: () => acts.forEach((act) => act()), done: () => transaction.oncomplete() });
      return transaction;
    },
  });
  Object.assign(globalThis, {
    BroadcastChannel: FakeChannel,
    IDBKeyRange: { lowerBound: (from: number) => [from, Infinity], bound: (from: number, to: number) => [from, to] },
    indexedDB: {
      open() {
        const request: { result?: unknown; onsuccess?: () => void } = {};
        const { tab } = holders.get(STORE)!;
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
  return {
    tabs,
    alive: () => tabs.filter(({ isAlive }) => isAlive),
    open(name: string) {
      const tab: Tab = { name, isAlive: true, isSlow: false, mail: [], sent: 0, heard: [], asked: new Set() };
      tabs.push(tab);
      current = tab;
      tab.socket = share("t", (parts) => connect(`http://test/${name}`, { transports: ["websocket"], parts: [...parts] }));
      current = undefined;
      return tab;
    },
    /** A tab is gone, and what it was about to store is stored or not. */
    crash(tab: Tab, host: Host) {
      tab.isAlive = false;
      for (const one of work.splice(0)) if (one.tab !== tab) work.push(one);
      else if (rng.chance(500)) one.act();
      for (const socket of host.sockets.filter(({ url }) => isOf(url, tab))) socket.close();
      release(tab);
    },
    /** Lets what is ready happen. */
    async turn(host: Host, rounds: number) {
      for (let round = 0; round < rounds; round++) {
        await new Promise((resolve) => setImmediate(resolve));
        host.pump();
        for (const tab of tabs) if (tab.isAlive && !tab.isSlow) for (let data; tab.hear && (data = tab.mail.shift()); ) tab.hear({ data });
      }
    },
    store,
    pending: () => work.length,
    forget: () => (data = new Map()),
  };
};

const run = async (seed: number, talks: boolean) => {
  const rng = new Rng(seed);
  const host = begin();
  const browser = createBrowser(rng);
  const log = (...what: unknown[]) => talks && console.error(Date.now() - 1_000_000, ...what);
  /** In which session each number was said. */
  const said: unknown[] = [];
  const say = () => {
    log("the server says", said.length);
    host.say(said.push(host.session()) - 1);
  };
  let count = 0;
  const lost = new Set<string>();
  const open = () => {
    const tab = browser.open(`tab${++count}`);
    log("opens", tab.name);
    tab.socket!.on("message", ({ body }) => {
      if (!tab.isAlive) return;
      log("  ", tab.name, "hears", body);
      tab.heard.push(body);
    });
    tab.socket!.on("lost", ({ unknown, scope, reason }) => {
      if (!tab.isAlive) return;
      log("  ", tab.name, "loses", scope, reason.code, JSON.stringify(unknown));
      for (const [name, number] of unknown) lost.add(`${name} ${number}`);
    });
    tab.socket!.on("state", (state) => log("  ", tab.name, "is", state.status, "reason" in state ? state.reason?.code : ""));
  };
  const some = () => {
    const all = browser.alive();
    return all[rng.below(all.length)]!;
  };
  const go = async (time: number) => {
    for (const end = Date.now() + time; Date.now() < end; ) {
      mock.timers.tick(Math.min(50, end - Date.now()));
      await browser.turn(host, 6);
      if (rng.chance(700)) browser.store();
    }
  };
  open();
  const steps: readonly (readonly [weight: number, act: () => unknown])[] = [
    [
      20,
      () => {
        const tab = some();
        log(tab.name, "sends", tab.sent);
        tab.socket!.send([tab.name, tab.sent++]);
      },
    ],
    [
      6,
      () => {
        const tab = some();
        const number = tab.sent++;
        log(tab.name, "asks", number);
        tab.asked.add(number);
        tab.socket!.request([tab.name, number]).then(
          () => tab.asked.delete(number),
          ({ code }: ThroughlineError) => {
            log("  ", tab.name, "has no answer to", number, code);
            tab.asked.delete(number);
            if (code === "lost") lost.add(`${tab.name} ${number}`);
          },
        );
      },
    ],
    [
      12,
      () => {
        if (host.sessions.size) say();
      },
    ],
    [20, () => browser.store()],
    [20, () => browser.turn(host, 1 + rng.below(6))],
    [8, () => go(rng.below(400))],
    [3, () => (browser.alive().length < 4 ? open() : undefined)],
    [3, () => (some().isSlow = rng.chance(500))],
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
        if (browser.alive().length < 2) return;
        const tab = some();
        log("crashes", tab.name, tab.socket!.leads ? "which leads" : "");
        browser.crash(tab, host);
      },
    ],
    [
      1,
      () => {
        if (browser.alive().length < 2) return;
        const tab = some();
        log("leaves", tab.name);
        tab.socket!.leave();
        tab.isAlive = false;
      },
    ],
    [
      1,
      () => {
        if (seed % 2 || !host.sessions.size) return;
        log("the server restarts");
        host.restart();
      },
    ],
  ];
  const total = steps.reduce((sum, [weight]) => sum + weight, 0);
  for (let step = 0; step < 100; step++) {
    let at = rng.below(total);
    await steps.find(([weight]) => (at -= weight) < 0)![1]();
  }
  log("IN ORDER");
  for (const tab of browser.tabs) tab.isSlow = false;
  for (let round = 0; round < 40; round++) {
    while (browser.pending()) browser.store();
    await go(1000);
  }
  say();
  for (let round = 0; round < 5; round++) await go(1000);
  for (const tab of browser.alive()) {
    assert.deepEqual([...tab.asked], [], `${tab.name} is not answered`);
    assert.equal(tab.heard.at(-1), said.length - 1, `${tab.name} does not hear the last`);
    assert.equal(tab.socket!.waiting, 0, `${tab.name} has something to say`);
  }
  for (const { name, sent, isAlive, heard } of browser.tabs) {
    heard.reduce((before, next) => {
      assert.ok(next > before, `${name} hears ${next} behind ${before}`);
      // What a session had when it was forgotten is nobody's.
      for (let gap = before + 1; gap < next; gap++) assert.notEqual(said[gap], said[next], `${name} does not hear ${gap}`);
      return next;
    }, heard[0]! - 1);
    const arrived = (host.heard as [string, number][]).filter(([of]) => of === name).map(([, number]) => number);
    assert.deepEqual(arrived, [...new Set(arrived)].sort((a, b) => a - b), `${name} is heard twice or out of order`);
    const last = isAlive ? sent : (arrived.at(-1) ?? 0);
    for (let number = 0; number < last; number++)
      assert.ok(arrived.includes(number) || lost.has(`${name} ${number}`), `${number} of ${name} is lost`);
  }
  for (const tab of browser.alive()) tab.socket!.leave();
};

test("tabs that share a session lose nothing, whoever crashes", async () => {
  const one = process.env["SEED"];
  if (one) return run(Number(one), true);
  for (let seed = 0; seed < Number(process.env["SEEDS"] ?? 600); seed++)
    await run(seed, false).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
});
