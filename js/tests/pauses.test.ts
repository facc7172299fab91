/** How long to wait, and which transport to try next. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createPauses } from "../src/backoff.js";
import type { TransportKind } from "../src/frame/frame.js";
import { createPlan, SHORT_LIFE } from "../src/socket/plan.js";

const bounds = { base: 500, cap: 30_000 };
const ALL: readonly TransportKind[] = ["websocket", "sse", "long-polling"];

test("ceilings double up to the cap, and pauses are uniform below", () => {
  for (const random of [0, 0.5, 1]) {
    const pauses = createPauses(bounds, () => random);
    const waits = Array.from({ length: 9 }, () => pauses.failure_());
    assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000].map((ceiling) => ceiling * random));
  }
  const tired = createPauses(bounds, () => 1);
  for (let times = 0; times < 5000; times++) assert.ok(tired.failure_() <= 30_000);
});

test("the first loss is answered at once and the next by backoff", () => {
  const pauses = createPauses(bounds, () => 1);
  assert.deepEqual([pauses.loss_(), pauses.loss_(), pauses.loss_()], [100, 500, 1000]);
  pauses.reset_();
  assert.equal(pauses.loss_(), 100);
});

test("what the server asks for is waited, and bounded", () => {
  const pauses = createPauses(bounds, () => 0.5);
  assert.equal(pauses.failure_(7000), 7250);
  assert.equal(createPauses(bounds, () => 0).loss_(2000), 2000);
  assert.equal(createPauses(bounds, () => 0).failure_(Infinity), 600_000);
});

let now = 0;
const plannedFor = (kinds: readonly TransportKind[]) => {
  now = 0;
  return createPlan(kinds, undefined, { clock_: () => now, underWay_: () => [], dial_: () => undefined });
};

/** The order in which everything is tried when everything fails. */
const round = (plan: ReturnType<typeof createPlan>): TransportKind[] => {
  const order: TransportKind[] = [];
  plan.restart_();
  for (let kind; (kind = plan.next_()); plan.failed_(kind)) order.push(kind);
  plan.restart_();
  return order;
};

test("a round goes down the list and begins anew with the best", () => {
  const plan = plannedFor(ALL);
  assert.deepEqual(round(plan), ALL);
  assert.equal(plan.next_(), "websocket");
});

test("the server's ranking counts within what is allowed", () => {
  const plan = plannedFor(["websocket", "long-polling"]);
  plan.carried_("websocket", ["sse", "long-polling", "websocket"]);
  assert.deepEqual(round(plan), ["long-polling", "websocket"]);
  plan.carried_("websocket", ["sse"]);
  assert.deepEqual(round(plan), ["websocket", "long-polling"]);
});

test("two short lives in a row demote for a while", () => {
  const plan = plannedFor(ALL);
  plan.endedAfter_("websocket", SHORT_LIFE - 1);
  plan.endedAfter_("websocket", SHORT_LIFE);
  plan.endedAfter_("websocket", SHORT_LIFE - 1);
  assert.equal(plan.next_(), "websocket");
  plan.endedAfter_("websocket", SHORT_LIFE - 1);
  assert.deepEqual(round(plan), ["sse", "long-polling", "websocket"]);
  now = 600_000;
  assert.deepEqual(round(plan), ALL);
});

test("what failed twice where another works is tried last", () => {
  const plan = plannedFor(ALL);
  for (const expected of ["websocket", "sse"]) {
    plan.failed_("websocket");
    plan.carried_("sse", ALL);
    assert.equal(plan.next_(), expected);
  }
});

test("a transport that was asked for goes first until it is demoted", () => {
  const plan = plannedFor(ALL);
  plan.prefer_("long-polling");
  assert.equal(plan.next_(), "long-polling");
  assert.equal(plan.better_("long-polling"), undefined);
  plan.demote_("long-polling");
  assert.equal(plan.next_(), "websocket");
});

test("a better transport is one that stands above and is not demoted", () => {
  const plan = plannedFor(ALL);
  assert.equal(plan.better_("websocket"), undefined);
  assert.equal(plan.better_("long-polling"), "websocket");
  plan.demote_("websocket");
  assert.equal(plan.better_("long-polling"), "sse");
  assert.equal(plan.better_("sse"), undefined);
});
