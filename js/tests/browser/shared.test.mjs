/**
 * One session for all tabs, in a real browser: seven over HTTP/1.1, and the tab that leads dies while all talk.
 *
 * `TIMES=20` repeats each case so often.
 */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, serve, serveBlank, serveProxy, tab, unharmed, until } from "./stage.mjs";

const TABS = 7;
const EACH = 120;

let browser, blank;
before(async () => {
  browser = await launch();
  blank = await serveBlank();
});
after(async () => {
  await browser.close();
  blank.kill();
});

/** A server, a network and a browser's profile for one test. */
const world = async (act) => {
  const server = await serve("echo_hyper", "127.0.0.1:0", blank.url);
  const proxy = await serveProxy(server.address);
  const context = await browser.newContext();
  try {
    await act({ context, proxy });
  } finally {
    await context.close();
    await server.kill();
    proxy.kill();
  }
};

/** One of the tabs that share a session; `heard` are the echoes. */
const share = async ({ context, proxy }, transports, name) => {
  const page = await tab(context, blank.url);
  await page.evaluate(
    async ([url, transports, name]) => {
      const { connect } = await import("/throughline.js");
      const { share } = await import("/shared.js");
      window.heard = [];
      window.losses = [];
      window.socket = share("tabs", (parts) => connect(url, { parts, transports, backoff: { base: 50, cap: 500 } }));
      socket.on("message", ({ body }) => heard.push(body));
      socket.on("lost", ({ reason }) => losses.push(`${reason.code} ${reason.message}`));
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
const heardOf = (page, name) => page.evaluate((name) => heard.filter((text) => text.startsWith(`${name} `)), name);
/** What each tab has, and what it lacks. */
const report = (pages) =>
  Promise.all(
    pages.map((page) =>
      page.evaluate(
        ([tabs, each]) => {
          const lacks = [];
          for (let at = 1; at < tabs; at++) {
            const has = new Set(heard);
            for (let number = 1; number <= each; number++) if (!has.has(`tab${at} ${number}`)) lacks.push(`${at}:${number}`);
          }
          return `leads ${socket.leads}, waiting ${socket.waiting}, heard ${heard.length}, lacks ${lacks.join(" ")}`;
        },
        [TABS, EACH],
      ),
    ),
  );
const expected = (name, count) => Array.from({ length: count }, (_, at) => `${name} ${at + 1}`);

const dies = {
  close: (page) => page.close(),
  async crash(page) {
    const devtools = await page.context().newCDPSession(page);
    void devtools.send("Page.crash").catch(() => undefined);
    await new Promise((resolve) => page.once("crash", resolve));
  },
  leave: (page) => page.evaluate(() => socket.leave()),
};

const deathAmidTalk = (kind, death) =>
  world(async (stage) => {
    const pages = [];
    for (let at = 0; at < TABS; at++) {
      pages.push(await share(stage, [kind], `tab${at}`));
      await online(pages[at]);
    }
    const leads = await Promise.all(pages.map((page) => page.evaluate(() => socket.leads)));
    assert.deepEqual(leads, pages.map((_, at) => at === 0));
    // One connection for seven: a request of the seventh is answered.
    assert.equal(await pages[TABS - 1].evaluate(() => socket.request("ping")), "ping");
    const [leader, ...others] = pages;
    const talks = pages.map((page) => page.evaluate((to) => talk(1, to), EACH).catch(() => undefined));
    await until(others[0], () => heard.length > 60);
    await dies[death](leader);
    await Promise.all(talks.slice(1));
    for (const page of others) {
      for (let at = 1; at < TABS; at++) {
        const name = `tab${at}`;
        await until(page, ([name, each]) => heard.filter((text) => text.startsWith(`${name} `)).length >= each, [name, EACH]).catch(
          async (cause) => assert.fail(`${cause}\n${(await report(others)).join("\n")}`),
        );
        assert.deepEqual(await heardOf(page, name), expected(name, EACH), `${name} at ${others.indexOf(page) + 1}`);
      }
      // Of the one that died, what it had said, in order.
      const last = await heardOf(page, "tab0");
      assert.deepEqual(last, expected("tab0", last.length));
      assert.deepEqual(await page.evaluate(() => losses), []);
      await until(page, () => socket.waiting === 0);
    }
    assert.equal((await Promise.all(others.map((page) => page.evaluate(() => socket.leads)))).filter(Boolean).length, 1);
    // It goes on: all hear the next ones.
    assert.equal(await others[3].evaluate(() => socket.request("still")), "still");
    unharmed(...others);
  });

const times = Number(process.env.TIMES ?? 1);
for (const [kind, death] of [
  ["long-polling", "crash"],
  ["sse", "crash"],
  ["long-polling", "close"],
  ["sse", "close"],
  ["websocket", "leave"],
]) {
  test(`seven tabs share a session over ${kind}; the leader's death (${death}) moves it, nothing lost, repeated or reordered`, async () => {
    for (let time = 0; time < times; time++) await deathAmidTalk(kind, death);
  });
}

test("each leader in turn dies, and the last tab still has all that it said", () =>
  world(async (stage) => {
    const pages = [];
    for (let at = 0; at < 5; at++) pages.push(await share(stage, ["sse"], `tab${at}`));
    const last = pages.at(-1);
    await online(last);
    const talk = last.evaluate(() => talk(1, 600));
    for (const page of pages.slice(0, -1)) {
      await until(page, () => socket.leads && socket.state.status === "connected");
      await dies[pages.indexOf(page) % 2 ? "close" : "crash"](page);
    }
    await talk;
    await until(last, () => heard.length >= 600);
    assert.deepEqual(await heardOf(last, "tab4"), expected("tab4", 600));
    assert.deepEqual(await last.evaluate(() => losses), []);
    unharmed(last);
  }));
