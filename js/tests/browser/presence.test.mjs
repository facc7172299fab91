/** The presence page, as people use it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { connected, serve, serveProxy, stage, tab, unharmed, until } from "./stage.mjs";

/** How long a session outlives what carried it, in seconds. */
const WINDOW = 3;

const start = (address = "127.0.0.1:0") => serve("presence", "serve", address, String(WINDOW));
const on = stage(start);

const come = (name, url = on.server.url) => tab(on.context, `${url}/?as=${name}`);
const PEOPLE = () => [...document.querySelectorAll("#people li")].map((line) => [line.children[0].textContent, line.children[1].textContent].join(": "));
/** Waits until a page shows exactly these people. */
const shows = async (page, ...expected) => {
  try {
    await page.waitForFunction(([people, expected]) => JSON.stringify(eval(people)()) === expected, [String(PEOPLE), JSON.stringify(expected)], { polling: 20 });
  } catch {
    assert.deepEqual(await page.evaluate(PEOPLE), expected);
  }
};
/** Who came and went, as a page has told it. */
const told = (page) => page.evaluate(() => [...document.querySelectorAll("#lines li")].map((line) => line.textContent));

test("one comes in by a name, and is seen with what one is doing", async () => {
  const ada = await tab(on.context, on.server.url);
  await ada.fill("#name", "ada");
  await ada.press("#name", "Enter");
  await shows(ada, "ada: here");
  const bob = await come("bob");
  await shows(bob, "ada: here", "bob: here");
  await shows(ada, "ada: here", "bob: here");
  await bob.fill("#doing", "reading <b>");
  await bob.press("#doing", "Enter");
  await shows(ada, "ada: here", "bob: reading <b>");
  assert.equal(await ada.textContent("#count"), "2 people");
  assert.equal(await ada.locator("#people .you b").textContent(), "ada");
  assert.deepEqual(await told(ada), ["bob came"]);
  unharmed(ada, bob);
});

test("tabs of one person are one member, who goes with the last of them", async () => {
  const ada = await come("ada");
  const tabs = [await come("bob"), await come("bob"), await come("bob")];
  for (const page of [ada, ...tabs]) await shows(page, "ada: here", "bob: here");
  await tabs[0].close();
  await tabs[1].close();
  await until(ada, (time) => performance.now() > time, (await ada.evaluate(() => performance.now())) + WINDOW * 1500);
  await shows(ada, "ada: here", "bob: here");
  await tabs[2].close();
  await shows(ada, "ada: here");
  assert.deepEqual(await told(ada), ["bob came", "bob left"]);
  unharmed(ada);
});

test("a reload is not a leave", async () => {
  const [ada, bob] = [await come("ada"), await come("bob")];
  await bob.fill("#doing", "reading");
  await bob.press("#doing", "Enter");
  await shows(ada, "ada: here", "bob: reading");
  for (let times = 0; times < 3; times++) {
    await bob.reload();
    await shows(bob, "ada: here", "bob: reading");
  }
  // What the earlier pages left behind has gone by then.
  await until(ada, (time) => performance.now() > time, (await ada.evaluate(() => performance.now())) + WINDOW * 1500);
  await shows(ada, "ada: here", "bob: reading");
  assert.deepEqual(await told(ada), ["bob came"]);
  unharmed(ada, bob);
});

test("a cut that is shorter than the window is not a leave, and a longer one is", async () => {
  on.proxy = await serveProxy(on.server.address);
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const ada = await come("ada");
    const bob = await come("bob", on.proxy.url);
    await connected(bob);
    await bob.evaluate((kind) => socket.moveTo(kind), kind);
    await connected(bob, kind);
    await shows(ada, "ada: here", "bob: here");
    on.proxy.cutAll();
    await bob.evaluate(() => room.update("back"));
    await shows(ada, "ada: here", "bob: back");
    assert.deepEqual(await told(ada), ["bob came"]);
    // That a poller has gone is known later than the window: it may only be slow to ask again.
    if (kind !== "long-polling") {
      on.proxy.block(/./);
      await shows(ada, "ada: here");
      on.proxy.block(/(?!)/);
      // His session was lost: the room is joined again by itself.
      for (const page of [ada, bob]) await shows(page, "ada: here", "bob: back");
      assert.deepEqual(await told(ada), ["bob came", "bob left", "bob came"]);
    }
    await bob.evaluate(() => socket.close());
    await shows(ada, "ada: here");
    unharmed(ada, bob);
    await Promise.all([ada.evaluate(() => socket.close()), bob.close()]);
    await ada.close();
  }
});

test("a server that is killed and comes back has everybody again", async () => {
  const [ada, bob] = [await come("ada"), await come("bob")];
  await shows(ada, "ada: here", "bob: here");
  await on.server.kill();
  await until(ada, () => document.body.dataset.status === "reconnecting");
  assert.match(await ada.textContent("#notice"), /may have changed/);
  on.server = await start(on.server.address);
  for (const page of [ada, bob]) {
    await connected(page);
    await shows(page, "ada: here", "bob: here");
  }
  unharmed(ada, bob);
});
