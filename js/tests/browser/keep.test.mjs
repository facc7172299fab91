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

/** A page with a store; `heard` are the echoes since it was loaded. */
const openStore = (page) =>
  page.evaluate(async (url) => {
    const { connect } = await import("/throughline.js");
    const { durable } = await import("/durable.js");
    window.heard = [];
    window.losses = [];
    window.socket = connect(url, { parts: [await durable("outbox")], backoff: { base: 50, cap: 500 } });
    socket.on("message", ({ body }) => heard.push(body));
    socket.on("lost", (lost) => losses.push(lost));
  }, proxy.url);
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
    return new Promise((resolve) => setTimeout(resolve, 300));
  });
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
  const all = [];
  let next = 1;
  for (let times = 0; times < 4; times++) {
    await openStore(page);
    await connected(page);
    await page.evaluate(async (from) => {
      for (let number = from; number < from + 100; number++) {
        socket.send(number);
        if (number % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 3));
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }, next);
    next += 100;
    all.push(...(await page.evaluate(() => heard)));
    await page.reload();
  }
  await openStore(page);
  await page.evaluate(() => socket.deliver("last"));
  await until(page, () => heard.includes("last"));
  all.push(...(await page.evaluate(() => heard)));
  const numbers = [...new Set(all)].filter((one) => one !== "last");
  // A page that is left may have heard what the next one hears again: it had not told the server so.
  for (const number of numbers) assert.ok(number >= 1 && number < next);
  assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
  assert.deepEqual(await page.evaluate(() => losses), []);
  unharmed(page);
});
