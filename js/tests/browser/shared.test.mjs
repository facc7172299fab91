/**
 * One session for all tabs, in a real browser: seven over HTTP/1.1, and the tab that leads dies while all talk.
 *
 * `TIMES=20` repeats each case so often.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
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

// Rooms over a shared session.

/** A server with rooms, a browser's profile, and somebody else who is in its rooms. */
const roomsWorld = async (act) => {
  const server = await serve("presence", "serve", "127.0.0.1:0", "20");
  const context = await browser.newContext();
  try {
    for (const name of ["throughline", "shared", "rooms"]) {
      const body = readFileSync(new URL(`../../dist/${name}.js`, import.meta.url), "utf8");
      await context.route(`${server.url}/${name}.js`, (route) => route.fulfill({ body, contentType: "text/javascript" }));
    }
    await act({ context, url: server.url });
  } finally {
    await context.close();
    await server.kill();
  }
};

/** A page with `socket`; `enter` joins a room, and `heard` is what was told of it. */
const inRooms = async ({ context, url }, who, transports) => {
  const page = await tab(context, url);
  await page.evaluate(
    async ([who, transports, isShared]) => {
      const { connect } = await import("/throughline.js");
      const { share } = await import("/shared.js");
      const { rooms } = await import("/rooms.js");
      const open = (parts) => connect("/live", { parts, transports, token: () => who, backoff: { base: 50, cap: 500 } });
      window.socket = rooms(isShared ? share("rooms", open) : open([]));
      window.heard = {};
      window.amiss = [];
      window.enter = async (name, options) => {
        const room = socket.room(name);
        const said = (heard[name] = []);
        room.on("message", ({ offset, body }) => said.push([offset, body]));
        for (const what of ["missed", "left", "failed"]) room.on(what, (event) => amiss.push([name, what, event]));
        await room.join(options);
      };
      window.people = (name) => socket.room(name).members.map(({ who }) => who.principal).sort().join(" ");
      window.talk = async (name, of, to) => {
        for (let number = 1; number <= to; number++) {
          socket.room(name).send(`${of} ${number}`);
          if (number % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
    },
    [who, transports, who === "ada"],
  );
  await online(page);
  return page;
};
const showsPeople = (page, room, expected) => until(page, ([room, expected]) => people(room) === expected, [room, expected]);

/** The server takes 500 operations of a session at once. */
const SAID = 60;

const roomsAmidTalk = (kind, death) =>
  roomsWorld(async (stage) => {
    const [leader, ...others] = await Promise.all(Array.from({ length: 5 }, () => inRooms(stage, "ada", [kind])));
    const bob = await inRooms(stage, "bob", [kind]);
    const pages = [leader, ...others];
    const leads = await Promise.all(pages.map((page) => page.evaluate(() => socket.leads)));
    const first = leads.indexOf(true);
    [pages[0], pages[first]] = [pages[first], pages[0]];
    // All at once, and only one of them asks who is there.
    await Promise.all([bob, ...pages].map((page, at) => page.evaluate((presence) => enter("lobby", { presence }), at === 2)));
    // One room that only the leader is in, and one of a follower.
    await bob.evaluate(() => Promise.all([enter("mine", { presence: true }), enter("yours", { presence: true })]));
    await pages[0].evaluate(() => enter("mine"));
    await pages[4].evaluate(() => enter("yours"));
    for (const room of ["mine", "yours"]) await showsPeople(bob, room, "ada bob");
    await showsPeople(pages[1], "lobby", "ada bob");

    const talks = [...pages.slice(0, 4), bob].map((page, at) => page.evaluate(([at, each]) => talk("lobby", `tab${at}`, each), [at, SAID]).catch(() => undefined));
    await until(pages[1], () => heard.lobby.length > 60);
    await dies[death](pages[0]);
    await Promise.all(talks.slice(1));
    const living = [...pages.slice(1), bob];
    for (const page of living) {
      await until(page, ([each]) => ["tab1", "tab2", "tab3", "tab4"].every((name) => heard.lobby.filter(([, text]) => text === `${name} ${each}`).length), [SAID]);
      assert.deepEqual(await page.evaluate(() => amiss), []);
      const said = await page.evaluate(() => heard.lobby);
      const texts = said.map(([, text]) => text);
      for (const name of ["tab1", "tab2", "tab3", "tab4"]) assert.deepEqual(texts.filter((text) => text.startsWith(`${name} `)), expected(name, SAID));
      // From the first that it heard no offset is missing, and none comes twice.
      assert.deepEqual(said.map(([offset]) => offset), said.map((_, at) => said[0][0] + at));
    }
    // What only the dead one was in is left; what others are in is not.
    await showsPeople(bob, "mine", "bob");
    assert.equal(await bob.evaluate(() => people("yours")), "ada bob");
    assert.equal(await pages[1].evaluate(() => people("lobby")), "ada bob");

    // Followers too.
    await dies[death](pages[4]);
    await showsPeople(bob, "yours", "bob");
    await pages[2].evaluate(() => socket.room("lobby").leave());
    await bob.evaluate(() => socket.room("lobby").publish("still"));
    for (const page of [pages[1], pages[3]]) await until(page, () => heard.lobby.at(-1)[1] === "still");
    assert.notEqual(await pages[2].evaluate(() => heard.lobby.at(-1)[1]), "still");
    unharmed(pages[1], pages[2], pages[3], bob);
  });

for (const [kind, death] of [
  ["websocket", "crash"],
  ["long-polling", "crash"],
  ["sse", "close"],
  ["websocket", "leave"],
]) {
  test(`tabs of one session over ${kind} are in rooms, each with its own; deaths (${death}) lose and repeat nothing, and leave nobody behind`, async () => {
    for (let time = 0; time < times; time++) await roomsAmidTalk(kind, death);
  });
}
