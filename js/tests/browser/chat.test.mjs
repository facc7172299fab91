/** The chat page, as people use it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { connected, said, say, serve, serveProxy, shows, stage, tab, unharmed, until } from "./stage.mjs";

const start = (address) => serve("chat", address);
const on = stage(start);

for (const kind of ["websocket", "sse", "long-polling", "auto"]) {
  for (const encoding of ["json", "binary"]) {
    test(`two tabs talk over ${kind} in ${encoding}`, async () => {
      const query = `?${kind === "auto" ? "" : `transport=${kind}`}${encoding === "binary" ? "&binary" : ""}`;
      const [anne, bob] = [await tab(on.context, `${on.server.url}/${query}`), await tab(on.context, `${on.server.url}/${query}`)];
      for (const page of [anne, bob]) await connected(page, kind === "auto" ? "websocket" : kind);
      const lines = ["hello", "hello, Anne – 你好 👋", '<b>"quoted"</b>'];
      await say(anne, lines[0]);
      await shows(bob, lines.slice(0, 1));
      await say(bob, lines[1]);
      await shows(anne, lines.slice(0, 2));
      await say(anne, lines[2]);
      await shows(bob, lines);
      await shows(anne, lines);
      unharmed(anne, bob);
    });
  }
}

test("a switch moves the running conversation and shows it", async () => {
  const [anne, bob] = [await tab(on.context, on.server.url), await tab(on.context, on.server.url)];
  await connected(anne, "websocket");
  await connected(bob);
  const lines = [];
  for (const [kind, shown] of [["long-polling", "long-polling"], ["sse", "SSE"], ["websocket", "WebSocket"]]) {
    await anne.selectOption("#transport", kind);
    await connected(anne, kind);
    assert.equal(await anne.textContent("#words"), `connected over ${shown}`);
    lines.push(`now over ${kind}`);
    await say(anne, lines.at(-1));
    await shows(bob, lines);
  }
  // Back to the best, from another one.
  await anne.selectOption("#transport", "sse");
  await connected(anne, "sse");
  await anne.selectOption("#transport", "");
  await connected(anne, "websocket");
  await shows(anne, lines);
  unharmed(anne, bob);
});

test("a server that is killed and comes back: what waited is said once, what was lost is told", async () => {
  const anne = await tab(on.context, on.server.url);
  await connected(anne);
  await say(anne, "before");
  await shows(anne, ["before"]);
  await on.server.kill();
  await until(anne, () => socket.state.status === "reconnecting");
  await say(anne, "while it is down");
  await until(anne, () => document.querySelectorAll(".queued").length === 1);
  assert.match(await anne.textContent("#notice"), /1 waiting to be sent/);
  on.server = await start(on.server.address);
  await connected(anne);
  await shows(anne, ["before", "while it is down"]);
  await until(anne, () => document.querySelector(".lost")?.textContent.includes("a new one begins"));
  assert.equal(await anne.isHidden("#notice"), true);
  // It is there once.
  const bob = await tab(on.context, on.server.url);
  await connected(bob);
  await say(bob, "last");
  await shows(anne, ["before", "while it is down", "last"]);
  unharmed(anne, bob);
});

test("connections that are cut are resumed, and nothing is missed", async () => {
  on.proxy = await serveProxy(on.server.address);
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const [anne, bob] = [await tab(on.context, `${on.proxy.url}/?transport=${kind}`), await tab(on.context, on.server.url)];
    await connected(anne, kind);
    await connected(bob);
    on.proxy.block(/./);
    await until(anne, () => socket.state.status === "reconnecting");
    await say(anne, "from away");
    await say(bob, "to away");
    on.proxy.block(/(?!)/);
    await connected(anne, kind);
    await shows(anne, ["to away", "from away"]);
    await shows(bob, ["to away", "from away"]);
    assert.match((await anne.textContent("#lines")), /nothing was missed/);
    unharmed(anne, bob);
    await anne.close();
    await bob.close();
  }
});

test("transports that are blocked in mid-session give way to the next", async () => {
  on.proxy = await serveProxy(on.server.address);
  const [anne, bob] = [await tab(on.context, on.proxy.url), await tab(on.context, on.server.url)];
  await connected(anne);
  // On a busy machine another may have been quicker.
  await anne.evaluate(() => socket.moveTo());
  await connected(anne, "websocket");
  await connected(bob);
  on.proxy.block(/upgrade: websocket/i);
  await connected(anne, "sse");
  await say(anne, "one");
  await shows(bob, ["one"]);
  on.proxy.block(/upgrade: websocket|accept: text\/event-stream/i);
  await connected(anne, "long-polling");
  await say(anne, "two");
  await shows(bob, ["one", "two"]);
  assert.deepEqual(await said(anne), ["one", "two"]);
  unharmed(anne, bob);
});

test("a page that is left says goodbye at once", async () => {
  for (const kind of ["websocket", "sse", "long-polling"]) {
    const [anne, bob] = [await tab(on.context, on.server.url), await tab(on.context, `${on.server.url}/?transport=${kind}`)];
    await connected(anne);
    await connected(bob, kind);
    const id = (await bob.evaluate(() => socket.id)).slice(0, 4);
    await bob.close({ runBeforeUnload: true });
    await until(anne, (id) => [...document.querySelectorAll(".event")].some((line) => line.textContent === `guest-${id} left`), id);
    unharmed(anne);
    await anne.close();
  }
});
