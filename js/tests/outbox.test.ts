/** The send buffer by itself: what a session that was brought back makes of receipts. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOutbox, type Held } from "../src/session/outbox.js";

const window = { messages: 10, bytes: 1000 };
const held = (seq: number): Held => ["msg", seq, 0, "x", 3];

test("a receipt for what the page before a reload had sent is taken, and one beyond that is not", () => {
  const outbox = createOutbox(window, 7, [held(8), held(9), held(0)]);
  outbox.renumber_(7, 7);
  // One of them was sent again; a late push of the old page has brought both.
  assert.equal(outbox.next_()[0][1], 8);
  assert.ok(outbox.acknowledge_(9, 9));
  assert.deepEqual([outbox.acked_(), outbox.held_().messages, outbox.flying_()], [9, 1, 0]);
  assert.ok(!outbox.acknowledge_(10, 9), "what bears no number was never sent");
  assert.equal(outbox.next_()[0][1], 10);
  assert.ok(outbox.acknowledge_(10, 10));
  assert.deepEqual(outbox.held_(), { messages: 0, bytes: 0 });
});
