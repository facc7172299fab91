/** Sessions that outlive a page: kept over a reload. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { launch, serve, serveBlank, serveProxy, tab, unharmed, until } from "./stage.mjs";

let browser, server, blank, proxy, context;
before(async () => {
  browser = await launch();
  blank = await serveBlank();
});
after(async () => {
  await browser.close();
  blank.kill();
});
beforeEach(async () => {
  server = await serve("echo_hyper", "127.0.0.1:0", blank.url);
  proxy = await serveProxy(server.address);
  context = await browser.newContext();
});
afterEach(async () => {
  await context.close();
  await server.kill();
  proxy.kill();
});

/** A page with a store; `heard` are the echoes since it was loaded. The tab's storage has them of each page. */
const openStore = (page) =>
  page.evaluate(async (url) => {
    const { connect } = await import("/throughline.js");
    const { durable } = await import("/durable.js");
    window.heard = [];
    window.losses = [];
    const pages = JSON.parse(sessionStorage.pages ?? "[]");
    pages.push(heard);
    window.socket = connect(url, { parts: [await durable("outbox")], backoff: { base: 50, cap: 500 } });
    socket.on("message", ({ body }) => {
      heard.push(body);
      sessionStorage.pages = JSON.stringify(pages);
    });
    socket.on("lost", (lost) => losses.push(lost));
  }, proxy.url);
/** Waits until so many messages are in the store. */
const stored = (page, messages) =>
  until(
    page,
    async (messages) => {
      const done = (request) => new Promise((resolve, reject) => Object.assign(request, { onsuccess: () => resolve(request.result), onerror: reject }));
      const db = await done(indexedDB.open("throughline:outbox"));
      const count = await done(db.transaction("outbox").objectStore("outbox").count());
      db.close();
      return count === messages + 1; // one is the session
    },
    messages,
  );
const connected = (page) => until(page, () => socket.state.status === "connected");

test("what was sent without a network survives reloads, and is delivered once", async () => {
  const page = await tab(context, blank.url);
  await openStore(page);
  await connected(page);
  const id = await page.evaluate(() => socket.id);
  await page.evaluate(() => socket.deliver("said 0"));
  proxy.block(/./);
  await until(page, () => socket.state.status !== "connected");
  await page.evaluate(() => {
    for (let number = 1; number <= 50; number++) socket.send(`said ${number}`);
  });
  await stored(page, 50);
  for (let times = 0; times < 2; times++) {
    await page.reload();
    await openStore(page);
    assert.equal(await page.evaluate(() => socket.id), id);
    assert.equal(await page.evaluate(() => socket.waiting.messages), 50);
  }
  proxy.block(/^$/);
  await connected(page);
  await page.evaluate(() => socket.deliver("said 51"));
  await until(page, () => heard.includes("said 51"));
  // The first echo was heard by the page before.
  assert.deepEqual((await page.evaluate(() => heard)).filter((text) => text !== "said 0"), Array.from({ length: 51 }, (_, at) => `said ${at + 1}`));
  assert.deepEqual(await page.evaluate(() => losses), []);
  // Closed in order, nothing is kept.
  await page.evaluate(() => socket.close());
  await page.reload();
  await openStore(page);
  assert.notEqual(await page.evaluate(() => socket.id), id);
  unharmed(page);
});

test("a reload in the middle of a stream of messages repeats none and loses none that was stored", async () => {
  const page = await tab(context, blank.url);
  for (let batch = 0; batch < 4; batch++) {
    await openStore(page);
    await connected(page);
    await page.evaluate(async (batch) => {
      for (let number = 0; number < 100; number++) {
        socket.send(batch * 100 + number);
        if (number % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 3));
      }
    }, batch);
    // One is echoed when the page goes; which others are, are under way, stored or not even that is as it happens.
    await until(page, (batch) => heard.some((number) => number >= batch * 100), batch);
    await page.reload();
  }
  await openStore(page);
  await page.evaluate(() => socket.deliver("last"));
  await until(page, () => heard.includes("last"));
  const pages = await page.evaluate(() => JSON.parse(sessionStorage.pages));
  assert.equal(pages.length, 5);
  assert.equal(pages[4].pop(), "last");
  for (const heard of pages) assert.deepEqual(heard, [...new Set(heard)]);
  // A page that is left may have heard what the next one hears again: it had not told the server so.
  const numbers = [...new Set(pages.flat())];
  // Of each batch, what the page had no time to store is missing at its end, and nothing else.
  for (let batch = 0; batch < 4; batch++) {
    const mine = numbers.filter((number) => Math.floor(number / 100) === batch);
    assert.ok(mine.length > 0);
    assert.deepEqual(mine, Array.from(mine, (_, at) => batch * 100 + at));
  }
  assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
  assert.deepEqual(await page.evaluate(() => losses), []);
  unharmed(page);
});
