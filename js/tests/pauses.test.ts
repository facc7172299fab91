/** How long to wait, and which transport to try next. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { createPauses } from "../src/backoff.js";
import type { TransportKind } from "../src/frame/frame.js";
import { createPlan } from "../src/socket/plan.js";
import { SHORT_LIFE } from "../src/socket/times.js";

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

test("where nobody answers, no pause is longer than an eighth of what is lost already, or the first one", () => {
  const pauses = createPauses(bounds, () => 1);
  for (let failures = 0; failures < 9; failures++) pauses.failure_();
  assert.deepEqual([0, 4000, 40_000, 800_000].map((lost) => pauses.failure_(0, lost)), [500, 500, 5000, 30_000]);
  assert.equal(pauses.failure_(7000, 0), 7500, "what the server asks for comes on top");
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

test("what failed where another works is tried last, and what failed where nothing works keeps its rank", () => {
  const plan = plannedFor(ALL);
  plan.failed_("websocket");
  plan.carried_("sse", ALL);
  assert.deepEqual(round(plan), ["sse", "long-polling", "websocket"]);
  const other = plannedFor(ALL);
  round(other);
  other.carried_("websocket", ALL);
  assert.deepEqual(round(other), ALL);
});

test("where all are demoted those go first that were proved once, and the others in turn", () => {
  const plan = plannedFor(ALL);
  plan.demote_("sse", true);
  plan.demote_("long-polling");
  plan.demote_("websocket");
  assert.deepEqual(round(plan), ["websocket", "long-polling", "sse"]);
  for (const kind of ["websocket", "long-polling", "sse", "websocket"] as const) {
    now += 1000;
    plan.demote_(kind, true);
  }
  assert.deepEqual(round(plan), ["long-polling", "sse", "websocket"]);
});

test("beside one that is under way what is demoted is dialled three seconds later than others", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  now = 1;
  const dialled: TransportKind[] = [];
  const underWay_ = () => ["websocket" as const];
  const plan = createPlan(ALL, undefined, { clock_: () => now, underWay_, dial_: (kind) => dialled.push(kind) });
  for (const expected of ["sse", "long-polling"]) {
    plan.race_(250);
    mock.timers.tick(250);
    assert.deepEqual(dialled.splice(0), [expected]);
    plan.demote_("sse", true);
  }
  plan.demote_("long-polling");
  plan.race_(250);
  mock.timers.tick(250);
  mock.timers.tick(2999);
  assert.deepEqual(dialled, []);
  mock.timers.tick(1);
  assert.deepEqual(dialled, ["long-polling"]);
  plan.race_(250);
  mock.timers.tick(1000);
  plan.race_();
  mock.timers.tick(9000);
  assert.equal(dialled.length, 1, "the race is over");
  mock.timers.reset();
});

test("a transport that was asked for goes first until it is demoted", () => {
  const plan = plannedFor(ALL);
  plan.prefer_("long-polling");
  assert.equal(plan.next_(), "long-polling");
  assert.equal(plan.better_("long-polling", 0), undefined);
  plan.demote_("long-polling");
  assert.equal(plan.next_(), "websocket");
});

test("better transports are those that stand above, demoted or not, each in its turn", () => {
  const plan = plannedFor(ALL);
  plan.demote_("websocket");
  for (const [kind, expected] of [
    ["websocket", [undefined, undefined]],
    ["sse", ["websocket", "websocket"]],
    ["long-polling", ["websocket", "sse", "websocket"]],
  ] as const) {
    assert.deepEqual(expected.map((_, turn) => plan.better_(kind, turn)), expected);
  }
});
