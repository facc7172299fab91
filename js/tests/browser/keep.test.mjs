/** Sessions that outlive a page: shared by tabs, or kept over a reload. */

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

/** One of the tabs that share a session; `heard` are the echoes. */
const share = async (transports, name) => {
  const page = await tab(context, blank.url);
  await page.evaluate(
    async ([url, transports, name]) => {
      const { connect } = await import("/throughline.js");
      const { share } = await import("/shared.js");
      window.name = name;
      window.heard = [];
      window.losses = [];
      window.socket = share("tabs", (parts) => connect(url, { parts, transports, backoff: { base: 50, cap: 500 } }));
      socket.on("message", ({ body }) => heard.push(body));
      socket.on("lost", ({ reason }) => losses.push(reason.code));
      window.talk = async (from, to) => {
        for (let number = from; number <= to; number++) {
          socket.send(`${name} ${number}`);
          if (number % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
    },
    [proxy.url, transports, name],
  );
  return page;
};
const online = (page) => until(page, () => socket.state.status === "connected");
const expected = (name, count) => Array.from({ length: count }, (_, at) => `${name} ${at + 1}`);
const heardOf = (page, name) => page.evaluate((name) => heard.filter((text) => text.startsWith(`${name} `)), name);

for (const [kind, death] of [
  ["sse", "close"],
  ["websocket", "crash"],
]) {
  test(`seven tabs share a session over ${kind}; the leader's death (${death}) moves it, and nothing is lost`, async () => {
    const pages = [];
    for (let at = 0; at < 7; at++) {
      pages.push(await share([kind], `tab${at}`));
      await online(pages[at]);
    }
    const leads = await Promise.all(pages.map((page) => page.evaluate(() => socket.leads)));
    assert.deepEqual(leads, [true, false, false, false, false, false, false]);
    // One connection for seven: a request of the seventh is answered.
    assert.equal(await pages[6].evaluate(() => socket.request("ping")), "ping");
    const [leader, ...others] = pages;
    const talks = others.map((page) => page.evaluate(() => talk(1, 120)));
    await until(others[5], () => heard.length > 50);
    if (death === "close") await leader.close();
    else {
      const devtools = await context.newCDPSession(leader);
      void devtools.send("Page.crash").catch(() => undefined);
    }
    await Promise.all(talks);
    for (const page of others) await until(page, () => new Set(heard.filter((text) => text.startsWith(name))).size >= 120);
    await until(others[0], () => socket.leads);
    for (const page of others) {
      for (let at = 1; at < 7; at++) {
        await until(page, (tab) => heard.filter((text) => text.startsWith(`tab${tab} `)).length >= 120, at);
        assert.deepEqual(await heardOf(page, `tab${at}`), expected(`tab${at}`, 120));
      }
      assert.deepEqual(await page.evaluate(() => losses), []);
    }
    unharmed(...others);
  });
}

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
