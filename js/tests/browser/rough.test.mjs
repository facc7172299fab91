/**
 * The rules of `tests/rough.rs` in a real browser: each rough network x all transports, or each by itself, under load both
 * ways. Nothing is lost, repeated or reordered, or there is one typed error where nothing can pass.
 *
 *   ROUGH=word    only the runs whose name has it
 */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bodies, launch, openHere, PATIENCE, serveRough, tab, unharmed, until } from "./stage.mjs";

/** Messages in a round; rounds at most; how often a rule is to act in them; how many runs go at once. */
const ROUND = 40;
const ROUNDS = 8;
const ACTS = 3;
const AT_ONCE = 4;

const ALL = ["websocket", "sse", "long-polling"];
const HTTP = ["sse", "long-polling"];
const REFUSED = "1 refuse-upgrade 403";

let browser, rough;
before(async () => {
  browser = await launch();
  rough = await serveRough();
});
after(async () => {
  await browser.close();
  await rough.kill();
});

/** A page of the network's own origin that has a socket; the rules begin before that dials. */
const open = async (context, rules, options, first) => {
  const network = await rough.network();
  const page = await tab(context, network.url);
  page.setDefaultTimeout(3 * PATIENCE);
  await openHere(page, options, first, async () => {
    for (const rule of rules) await network.add(rule);
  });
  return { page, network };
};

/** Rounds of messages that come back, until the rules have acted, and an end in order. */
const passes = async (context, rules, options) => {
  const begin = Date.now();
  const { page, network } = await open(context, rules, options, bodies(1)[0]);
  const id = await page.evaluate(() => socket.id);
  await until(page, () => heard.length > 0);
  const first = Date.now() - begin;
  const carrier = await page.evaluate(() => socket.state.transport);
  let sent = 1;
  for (let round = 0; round < ROUNDS; round++) {
    await page.evaluate((bodies) => bodies.forEach((body) => socket.send(body)), bodies(ROUND, sent));
    sent += ROUND;
    await until(page, (sent) => heard.length >= sent, sent);
    // Some rules act on silence.
    await page.waitForTimeout(40);
    if ((await network.acted()) >= ACTS || !rules.length) break;
  }
  await page.evaluate(() => socket.close());
  assert.deepEqual(await page.evaluate(() => heard), bodies(sent));
  assert.deepEqual(await page.evaluate(() => losses), []);
  assert.deepEqual(await page.evaluate(() => [socket.id, socket.state.status, socket.state.reason.code]), [id, "closed", "normal"]);
  unharmed(page);
  return `${carrier}, first message after ${first} ms, ${sent} messages, ${await network.acted()} acts`;
};

/** One typed error, and no session. */
const fails = async (context, rules, options) => {
  const { page } = await open(context, rules, { maxAttempts: 2, ...options }, "nobody hears it");
  await until(page, () => socket.state.status === "closed");
  assert.deepEqual(await page.evaluate(() => [socket.state.reason.code, heard, losses]), ["timed_out", [], ["timed_out"]]);
  unharmed(page);
  return `nothing: ${await page.evaluate(() => socket.state.reason.message)}`;
};

/** Makes the runs of cases, some at once, and names those that failed. */
const make = async (cases) => {
  const sets = [...ALL.map((kind) => [kind]), ALL];
  const runs = cases.flatMap(([rules, able]) => sets.map((transports) => ({ rules, transports, able })));
  const failed = [];
  const worker = async () => {
    for (let run; (run = runs.shift()); ) {
      const { rules, transports, able } = run;
      const name = `${rules.join(" + ") || "nothing"} by ${transports[1] ? "auto" : transports[0]}`;
      if (!name.includes(process.env.ROUGH ?? "")) continue;
      const context = await browser.newContext();
      try {
        const does = transports.some((kind) => able.includes(kind)) ? passes : fails;
        console.log(`${name}: ${await does(context, rules, { transports })}`);
      } catch (error) {
        failed.push(`${name}: ${error.stack}`);
      } finally {
        await context.close();
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  assert.deepEqual(failed, []);
};

test("a network without rules is none", () => make([[[], ALL]]));

test("where upgrades fail the rest passes", () =>
  make([
    [[REFUSED], HTTP],
    [["1 refuse-upgrade 502"], HTTP],
    [["1 strip-upgrade"], HTTP],
    [["1 swallow-upgrade"], HTTP],
  ]));

test("WebSockets that open and do not carry both ways are found out", () =>
  make([
    [["1 carry-nothing"], HTTP],
    [["1 one-way up"], HTTP],
    [["1 one-way down"], HTTP],
  ]));

test("connections that are cut lose nothing", () =>
  make([
    [["1 cut-after 120"], ALL],
    [["1 cut-after-bytes up 8001"], ALL],
    [["1 cut-after-bytes down 8001"], ALL],
    [["1 close-idle 30"], ALL],
    [["1 close-old 60"], ALL],
  ]));

test("streams that are held back leave long-polling", () =>
  make([
    [["1 hold-body all"], ["websocket", "long-polling"]],
    [[REFUSED, "1 hold-body all"], ["long-polling"]],
    [[REFUSED, "1 hold-body all head"], ["long-polling"]],
    [[REFUSED, "1 hold-body 65536"], ["long-polling"]],
  ]));

test("responses dropped and requests replayed change nothing", () =>
  make([
    [["3 drop-response"], ALL],
    [["2 replay-request"], ALL],
    [[REFUSED, "4 drop-response", "3 replay-request"], HTTP],
  ]));

test("posts that vanish are sent again", () =>
  make([
    [["1 swallow-post"], ["websocket"]],
    [[REFUSED, "5 swallow-post"], HTTP],
  ]));

test("slow networks are slow", () =>
  make([
    [["1 delay 3"], ALL],
    [["1 throttle 30000"], ALL],
  ]));

test("where nothing passes there is one typed error", () =>
  make([
    [["1 captive-portal"], []],
    [["1 refuse 407"], []],
    [["1 refuse 503"], []],
    [["1 drop-response"], []],
    [[REFUSED, "1 swallow-post"], []],
  ]));

/** The bounds of `tests/rough/places.rs`, and a second for a machine that has other things to do. */
test("where a box makes one request at a time, or lets in one a second, a conversation goes on", async () => {
  const runs = [
    ["1 one-at-a-time notices", 6000, 1000],
    ["1 one-at-a-time", 6000, 1000],
    ["1 one-each 1000 429", 9000, 4000],
    ["1 one-each 1000 503", 9000, 4000],
  ].flatMap(([rule, first, usual]) => [HTTP, ALL, ["long-polling"]].map((transports) => ({ rule, first, usual, transports })));
  const failed = [];
  const worker = async () => {
    for (let run; (run = runs.shift()); ) {
      const { rule, first, usual, transports } = run;
      const name = `${rule} by ${transports}`;
      if (!name.includes(process.env.ROUGH ?? "")) continue;
      const context = await browser.newContext();
      const { page } = await open(context, [REFUSED, rule], { transports }, 0);
      const took = [];
      for (let count = 0; count < 10; count++) {
        const said = Date.now();
        if (count) await page.evaluate((count) => socket.send(count), count);
        await until(page, (count) => heard.length > count, count);
        took.push(Date.now() - said);
        await page.waitForTimeout(1500);
      }
      console.log(`${name}: ${took.join(", ")} ms`);
      const [opening, ...later] = took;
      const quick = later.filter((time) => time <= usual + 1000).length;
      if (opening > first || Math.max(...later) > 11_000 || quick < 7) failed.push(`${name}: ${took}`);
      assert.deepEqual(await page.evaluate(() => [heard, losses]), [took.map((_, at) => at), []]);
      unharmed(page);
      await context.close();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  assert.deepEqual(failed, []);
});

test("rules that come later meet sessions that are carried", async () => {
  for (const rule of ["1 swallow-post", "1 refuse 503", "1 captive-portal"]) {
    const context = await browser.newContext();
    const { page, network } = await open(context, [], { transports: ["sse", "websocket"] });
    await page.evaluate(() => socket.moveTo("sse"));
    await until(page, () => socket.state.transport === "sse");
    await network.add(rule);
    await page.evaluate((bodies) => bodies.forEach((body) => socket.send(body)), bodies(ROUND));
    for (const end = Date.now() + PATIENCE; !(await network.acted()); ) {
      assert.ok(Date.now() < end, "it never acts");
      await page.waitForTimeout(20);
    }
    // Then whoever runs the box repairs it.
    if (!rule.includes("swallow")) await network.clear();
    await until(page, (count) => heard.length >= count, ROUND);
    assert.deepEqual(await page.evaluate(() => [heard, losses]), [bodies(ROUND), []]);
    unharmed(page);
    await context.close();
  }
});

test("where every connection is cut after 4 kB, what waits gets through", async () => {
  const cases = [
    [["websocket"], "up"],
    [["websocket"], "down"],
    [["sse"], "down"],
    [ALL, "up"],
    [ALL, "down"],
  ];
  await Promise.all(
    cases.map(async ([transports, way]) => {
      const context = await browser.newContext();
      const { page } = await open(context, [`1 cut-after-bytes ${way} 4001`], { transports });
      await page.evaluate((bodies) => bodies.forEach((body) => socket.send(body)), bodies(200));
      await until(page, () => heard.length >= 200);
      assert.deepEqual(await page.evaluate(() => [heard, losses]), [bodies(200), []], `${way} by ${transports}`);
      unharmed(page);
      await context.close();
    }),
  );
});
