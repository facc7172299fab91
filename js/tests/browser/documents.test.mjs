/** The page of a text that several people edit, as people use it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { connected, serve, serveProxy, stage, tab, unharmed, until } from "./stage.mjs";

const start = (address) => serve("documents", address);
const on = stage(start);

const open = async (url = on.server.url) => {
  const page = await tab(on.context, url);
  await until(page, () => window.room?.position);
  return page;
};
/** Writes at the beginning or the end of the text, key by key. */
const write = async (page, where, text) => {
  await page.focus("#text");
  await page.keyboard.press(`Control+${where}`);
  await page.keyboard.type(text);
};
const read = (page) => page.inputValue("#text");
/** Waits until pages show the same, of which a condition holds, and gives it. */
const agree = async (condition, ...pages) => {
  for (const page of pages) await until(page, (condition) => eval(condition)(document.getElementById("text").value), String(condition));
  const [text, ...others] = await Promise.all(pages.map(read));
  for (const other of others) assert.equal(other, text);
  return text;
};

test("what one writes the other reads, and who comes later too", async () => {
  const [ada, bob] = [await open(), await open()];
  await write(ada, "End", "Hello, Bob. – 你好 👋");
  await agree((text) => text === "Hello, Bob. – 你好 👋", ada, bob);
  await write(bob, "Home", "> ");
  await write(ada, "End", "!");
  await agree((text) => text === "> Hello, Bob. – 你好 👋!", ada, bob, await open());
  assert.equal(await ada.textContent("#count"), "3 pages");
  unharmed(ada, bob);
});

test("a cursor stays where it is in the text", async () => {
  const [ada, bob] = [await open(), await open()];
  await write(ada, "End", "middle");
  await agree((text) => text === "middle", ada, bob);
  await ada.evaluate(() => document.getElementById("text").setSelectionRange(3, 3));
  await write(bob, "Home", "before ");
  await write(bob, "End", " behind");
  await agree((text) => text === "before middle behind", ada, bob);
  await ada.keyboard.type("|");
  await agree((text) => text === "before mid|dle behind", ada, bob);
  unharmed(ada, bob);
});

test("what both write while one has no network is merged, over each transport", async () => {
  on.proxy = await serveProxy(on.server.address);
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const [ada, bob] = [await open(on.proxy.url), await open()];
    await ada.evaluate((kind) => socket.moveTo(kind), kind);
    await connected(ada, kind);
    await bob.fill("#text", "");
    await write(bob, "End", "The middle.");
    await agree((text) => text === "The middle.", ada, bob);
    on.proxy.block(/./);
    await until(ada, () => socket.state.status === "reconnecting");
    await write(ada, "Home", "Ada was away. ");
    await write(bob, "End", " Bob was not.");
    assert.equal(await read(ada), "Ada was away. The middle.");
    assert.equal(await read(bob), "The middle. Bob was not.");
    assert.equal(await ada.isVisible("#notice"), true);
    on.proxy.block(/(?!)/);
    await agree((text) => text === "Ada was away. The middle. Bob was not.", ada, bob);
    unharmed(ada, bob);
    await ada.close();
    await bob.close();
  }
});

test("a server that starts anew gets the text back from its pages, with what was written meanwhile", async () => {
  const [ada, bob] = [await open(), await open()];
  await write(ada, "End", "before");
  await agree((text) => text === "before", ada, bob);
  await on.server.kill();
  for (const page of [ada, bob]) await until(page, () => socket.state.status === "reconnecting");
  await write(ada, "Home", "[ada] ");
  await write(bob, "End", " [bob]");
  on.server = await start(on.server.address);
  await agree((text) => text === "[ada] before [bob]", ada, bob);
  await agree((text) => text === "[ada] before [bob]", await open());
  unharmed(ada, bob);
});
