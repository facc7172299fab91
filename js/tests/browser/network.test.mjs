/** Sockets under load, across origins, in tabs that sleep. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { connected, launch, openEcho, serve, serveBlank, serveTrap, tab, unharmed, until } from "./stage.mjs";

let browser, context, blank, server;
before(async () => (browser = await launch()));
after(() => browser.close());
beforeEach(async () => {
  blank = await serveBlank();
  server = await serve("echo_hyper", "127.0.0.1:0", blank.url, blank.url.replace("127.0.0.1", "plain.test"));
  context = await browser.newContext();
});
afterEach(async () => {
  await context.close();
  await server.kill();
  blank.kill();
});

/** Sends so many numbers, waiting where the outbox is full, and goes on while `during` runs. */
const load = (page, count) =>
  page.evaluate(async (count) => {
    const pause = () => new Promise((resolve) => setTimeout(resolve));
    for (let number = 1; number <= count; number++) {
      for (;;) {
        try {
          socket.send(number);
          break;
        } catch (error) {
          if (error.code !== "full") throw error;
          await pause();
        }
      }
      if (number % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }, count);

const upTo = (count) => Array.from({ length: count }, (_, at) => at + 1);

for (const encoding of ["json", "binary"]) {
  test(`1,000 messages each way while the transport is switched, in ${encoding}: none lost, repeated or reordered`, async () => {
    const page = await tab(context, blank.url);
    await openEcho(page, server.url, { encoding });
    await connected(page);
    const switches = page.evaluate(async () => {
      const kinds = ["sse", "long-polling", "websocket", "long-polling", "sse", "websocket"];
      let moved = 0;
      for (let at = 0; heard.length < 1000 && at < 1000; at++) {
        const kind = kinds[at % kinds.length];
        socket.moveTo(kind);
        for (let waits = 0; waits < 100 && socket.state.transport !== kind; waits++) {
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        if (socket.state.transport === kind) moved++;
      }
      return moved;
    });
    await load(page, 1000);
    await until(page, () => heard.length >= 1000);
    assert.ok((await switches) >= 3, "it was not switched");
    await page.evaluate(() => socket.close());
    assert.deepEqual(await page.evaluate(() => heard), upTo(1000));
    assert.deepEqual(await page.evaluate(() => losses), []);
    unharmed(page);
  });
}

test("a page of an allowed origin needs no preflight, on any transport", async () => {
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const page = await tab(context, blank.url);
    const devtools = await context.newCDPSession(page);
    const preflights = [];
    await devtools.send("Network.enable");
    devtools.on("Network.requestWillBeSent", ({ type, request }) => type === "Preflight" && preflights.push(request.url));
    await openEcho(page, server.url, { transports: [kind] });
    await connected(page, kind);
    assert.equal(await page.evaluate(() => socket.request("ping")), "ping");
    assert.deepEqual(preflights, []);
    unharmed(page);
    await page.close();
  }
});

test("a page of another origin is refused", async () => {
  const stranger = await serveBlank();
  try {
    const page = await tab(context, stranger.url);
    await openEcho(page, server.url, {});
    await until(page, () => socket.state.retryAt);
    const state = await page.evaluate(() => [socket.state.status, socket.state.reason.code]);
    assert.deepEqual(state, ["connecting", "network"]);
    assert.ok(!(await page.evaluate(() => states.some(({ status }) => status === "connected"))));
  } finally {
    stranger.kill();
  }
});

test("a page without a secure context works", async () => {
  const page = await tab(context, blank.url.replace("127.0.0.1", "plain.test"));
  assert.equal(await page.evaluate(() => isSecureContext), false);
  await openEcho(page, server.url, {});
  await connected(page);
  assert.equal(await page.evaluate(() => socket.request("ping")), "ping");
  unharmed(page);
});

test("bytes go as they are", async () => {
  for (const encoding of ["json", "binary"]) {
    const page = await tab(context, blank.url);
    await openEcho(page, server.url, { encoding });
    const same = await page.evaluate(async () => {
      const bytes = Uint8Array.from({ length: 70_000 }, (_, at) => at * 7);
      const back = await socket.request(bytes);
      return back instanceof Uint8Array && back.length === bytes.length && back.every((byte, at) => byte === bytes[at]);
    });
    assert.equal(same, true);
    await page.close();
  }
});

test("offline and online again: the session goes on", async () => {
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const page = await tab(context, blank.url);
    await openEcho(page, server.url, { transports: [kind] });
    await connected(page, kind);
    await context.setOffline(true);
    await until(page, () => socket.state.status === "reconnecting");
    await page.evaluate(() => socket.send("kept"));
    assert.equal(await page.evaluate(() => socket.waiting.messages), 1);
    await context.setOffline(false);
    await connected(page, kind);
    await until(page, () => heard.length > 0);
    assert.deepEqual(await page.evaluate(() => [heard, losses]), [["kept"], []]);
    unharmed(page);
    await page.close();
  }
});

test("a page from the back-forward cache goes on with its session", async () => {
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const page = await tab(context, blank.url);
    await openEcho(page, server.url, { transports: [kind] });
    await connected(page, kind);
    await page.evaluate(() => {
      window.kept = socket.id;
      addEventListener("pageshow", (event) => (window.persisted = event.persisted));
      socket.send("just before");
    });
    await page.goto(`${blank.url}/elsewhere`);
    await page.goBack({ waitUntil: "commit" });
    await until(page, () => window.kept);
    assert.equal(await page.evaluate(() => persisted), true, "it did not come from the cache");
    await connected(page, kind);
    await page.evaluate(() => socket.send("after"));
    await until(page, () => heard.length >= 2);
    assert.deepEqual(await page.evaluate(() => [heard, losses, kept === socket.id]), [["just before", "after"], [], true]);
    unharmed(page);
    await page.close();
  }
});

test("a frozen tab hears what was said meanwhile, once", async () => {
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const page = await tab(context, blank.url);
    await openEcho(page, server.url, { transports: [kind] });
    await connected(page, kind);
    const devtools = await context.newCDPSession(page);
    await page.evaluate(() => [1, 2, 3].forEach((number) => socket.send(number)));
    await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
    await devtools.send("Page.setWebLifecycleState", { state: "active" });
    await page.evaluate(() => socket.send(4));
    await until(page, () => heard.length >= 4);
    assert.deepEqual(await page.evaluate(() => [heard, losses]), [[1, 2, 3, 4], []]);
    unharmed(page);
    await page.close();
  }
});

test("after close nothing is left to do", async () => {
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const page = await tab(context, blank.url);
    const requests = new Set();
    page.on("request", (request) => requests.add(request));
    for (const over of ["requestfinished", "requestfailed"]) page.on(over, (request) => requests.delete(request));
    await page.evaluate(() => {
      window.timers = new Set();
      const { setTimeout: set, clearTimeout: clear } = window;
      window.setTimeout = (run, wait) => {
        const timer = set(() => {
          timers.delete(timer);
          run();
        }, wait);
        timers.add(timer);
        return timer;
      };
      window.clearTimeout = (timer) => {
        timers.delete(timer);
        clear(timer);
      };
      window.listening = 0;
      for (const target of [window, document]) {
        const { addEventListener: add, removeEventListener: remove } = target;
        // Those of the library: who drives the browser has some too.
        const ours = /^(online|offline|pagehide|pageshow|visibilitychange|resume)$/;
        target.addEventListener = (...all) => {
          const counts = ours.test(all[0]);
          listening += counts;
          // It is removed with others, by a signal.
          all[2]?.signal?.addEventListener("abort", () => (listening -= counts));
          return add.apply(target, all);
        };
        target.removeEventListener = (...all) => ((listening -= ours.test(all[0])), remove.apply(target, all));
      }
    });
    await openEcho(page, server.url, { transports: [kind] });
    await connected(page, kind);
    assert.ok((await page.evaluate(() => listening)) > 0);
    await page.evaluate(() => {
      socket.send("last");
      return socket.close();
    });
    assert.deepEqual(await page.evaluate(() => [socket.state.status, socket.state.reason.code]), ["closed", "normal"]);
    assert.deepEqual(await page.evaluate(() => [timers.size, listening]), [0, 0]);
    await until(page, () => true);
    for (const request of requests) assert.ok(request.isNavigationRequest() || request.resourceType() === "script", request.url());
    unharmed(page);
    await page.close();
  }
});

for (const [silent, expected, within] of [
  ["websocket", "sse", 2500],
  ["sse", "long-polling", 2500],
  // The hold has to pass before it shows that a held poll does not come back.
  ["poll", "long-polling", 8000],
]) {
  test(`where WebSockets open and carry nothing, and ${silent} hangs, ${expected} brings what is sent within ${within / 1000} s`, async () => {
    const trap = await serveTrap(server.address, silent);
    try {
      const page = await tab(context, blank.url);
      const begin = Date.now();
      await openEcho(page, trap.url);
      await page.evaluate(() => socket.send("early"));
      await until(page, () => heard.includes("early"));
      const took = Date.now() - begin;
      assert.equal(await page.evaluate(() => socket.state.transport), expected);
      // 250 ms for each that is silent, and room for a busy machine.
      assert.ok(took < within, `${took} ms`);
      if (silent !== "poll") {
        await page.evaluate(() => socket.send("later"));
        await until(page, () => heard.includes("later"));
      }
      assert.deepEqual(await page.evaluate(() => losses), []);
      unharmed(page);
    } finally {
      trap.kill();
    }
  });
}
