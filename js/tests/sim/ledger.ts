/** What was promised, and whether it was kept: every message of every session, from acceptance to its fate. */

import assert from "node:assert/strict";
import type { Packed } from "../../src/frame/frame.js";
import type { Held } from "../../src/session/outbox.js";

export type Role = "client" | "server";

interface Record_ {
  role: Role;
  id: string;
  life: number;
  accepted: number[];
  acked: number;
  from: number | undefined;
  delivered: number;
  /** The latest message of this one that was delivered anywhere, and in which lives of the peer. */
  arrived: number;
  arrivedIn: [life: number, who: number][];
  handlerRuns: number;
  attachment: number;
  closeCalled: boolean;
  ended: string | undefined;
  undelivered: number;
  certainlyNot: number[];
  /** Second answers, which reach nobody. */
  silent: Set<number>;
}

/** What happened in all: a run in which nothing happens proves nothing. */
export const totals = () => ({
  steps: 0,
  accepted: 0,
  delivered: 0,
  replies: 0,
  unknown: 0,
  certain: 0,
  websocket: 0,
  sse: 0,
  "long-polling": 0,
  candidates: 0,
  sessions: 0,
  restarts: 0,
  jumps: 0,
  duels: 0,
  crowds: 0,
  probes: 0,
  disorders: 0,
  reloads: 0,
  pauses: 0,
  rogues: 0,
});
export type Totals = ReturnType<typeof totals>;

/** A message's body: who sent it, its count there, and the request that it answers. */
export const body = (from: number, count: number, answers: number, pad: number, json: boolean): Packed => {
  if (json) return JSON.stringify([from, count, answers, "x".repeat(pad)]);
  const bytes = new Uint8Array(24 + pad);
  new Float64Array(bytes.buffer, 0, 3).set([from, count, answers]);
  return bytes;
};
const read = (message: unknown): [from: number, count: number, answers: number] => {
  if (message instanceof Uint8Array) {
    const [from, count, answers] = new Float64Array(message.slice(0, 24).buffer);
    return [from!, count!, answers!];
  }
  return (typeof message === "string" ? JSON.parse(message) : message) as [number, number, number];
};

export class Ledger {
  readonly totals = totals();
  private readonly records: Record_[] = [];

  open(role: Role, id: string, life: number): number {
    if (role === "client") this.totals.sessions++;
    return (
      this.records.push({
        role,
        id,
        life,
        accepted: [],
        acked: 0,
        from: undefined,
        delivered: 0,
        arrived: 0,
        arrivedIn: [],
        handlerRuns: 0,
        attachment: 0,
        closeCalled: false,
        ended: undefined,
        undelivered: 0,
        certainlyNot: [],
        silent: new Set(),
      }) - 1
    );
  }
  nextCount(who: number): number {
    return this.records[who]!.accepted.length + 1;
  }
  accepted(who: number, now: number, silent = false): void {
    const record = this.records[who]!;
    if (silent) record.silent.add(record.accepted.length + 1);
    assert.ok(!record.closeCalled && !record.ended, "accepted after close");
    record.accepted.push(now);
    this.totals.accepted++;
  }

  /** Checks one delivery; gives its count and the request that it answers. */
  delivered(who: number, message: unknown, seq?: number): [count: number, answers: number] {
    const [from, count, answers] = read(message);
    const receiver = this.records[who]!;
    assert.ok(!receiver.closeCalled, "a message was delivered after close");
    assert.ok(!receiver.ended, "a message was delivered after the end");
    assert.equal((receiver.from ??= from), from, "one session heard two");
    const { silent } = this.records[from]!;
    assert.ok(!silent.has(count), "a second answer to a request");
    while (silent.has(receiver.delivered + 1) && count > receiver.delivered + 1) receiver.delivered++;
    assert.equal(count, receiver.delivered + 1, `lost, repeated or reordered: ${from} to ${who}`);
    receiver.delivered = count;
    const sender = this.records[from]!;
    assert.equal(sender.id, receiver.id, "delivered to another session");
    assert.notEqual(sender.role, receiver.role, "delivered to the same side");
    assert.ok(seq === undefined || seq === count, "numbers count 1, 2, 3");
    assert.ok(count <= sender.accepted.length, "delivered what was never accepted");
    if (!sender.arrivedIn.some(([, other]) => other === who)) {
      const twice = sender.arrivedIn.some(([life]) => life === receiver.life);
      assert.ok(!twice, "one life of the server delivered a message twice, in two sessions");
      sender.arrivedIn.push([receiver.life, who]);
    }
    sender.arrived = Math.max(sender.arrived, count);
    this.totals.delivered++;
    return [count, answers];
  }

  attached(who: number, attachment: number, kind: "websocket" | "sse" | "long-polling", resumed: boolean): void {
    const record = this.records[who]!;
    assert.ok(attachment >= record.attachment, "a lower attachment carries the session");
    record.attachment = attachment;
    this.totals[kind]++;
    if (record.role === "server") {
      assert.equal(resumed, record.handlerRuns > 0, "the handler runs at the first attach, once");
      if (!resumed) record.handlerRuns++;
    }
  }
  /** The page of this end is another: it has heard so much, and knows of so many that were sent. What it had not stored is gone. */
  reloaded(who: number, received: number, acked: number, accepted: number): void {
    const record = this.records[who]!;
    record.delivered = Math.min(record.delivered, received);
    record.acked = Math.min(record.acked, acked);
    assert.ok(record.arrived <= accepted, "something was sent before it was stored");
    record.accepted.length = accepted;
    for (const count of record.silent) if (count > accepted) record.silent.delete(count);
  }
  closeCalled(who: number): void {
    this.records[who]!.closeCalled = true;
  }
  ended(who: number, acked: number, by: string, undelivered: readonly Held[]): void {
    const record = this.records[who]!;
    assert.ok(!record.ended, "ended twice");
    const reported = undelivered.map((held) => read(held[3]));
    const expected = Array.from({ length: record.accepted.length - acked }, (_, at) => acked + 1 + at);
    assert.deepEqual(reported.map(([, count]) => count), expected, "accepted is acknowledged or reported, and not both");
    undelivered.forEach((held, at) => {
      const [from, count] = reported[at]!;
      assert.equal(from, who, "reported as something else");
      assert.ok(!held[1] || held[1] === count);
      if (!held[1] && !record.silent.has(count)) record.certainlyNot.push(count);
    });
    record.ended = by;
    record.undelivered = reported.length;
    this.totals.certain += record.certainlyNot.length;
    this.totals.unknown += reported.length - record.certainlyNot.length;
    this.note(who, acked);
  }
  /** Checks what must hold at any time. */
  note(who: number, acked: number): void {
    const record = this.records[who]!;
    assert.ok(acked >= record.acked, "a receipt was taken back");
    while (record.arrived < acked && record.silent.has(record.arrived + 1)) record.arrived++;
    assert.ok(acked <= record.arrived, "acknowledged and never delivered");
    record.acked = acked;
  }
  /** Everything that was accepted before `then` has met its fate. */
  checkProgress(who: number, then: number): void {
    const record = this.records[who]!;
    const old = record.accepted.filter((at) => at < then).length;
    assert.ok(
      record.acked >= old || record.ended,
      `${record.role} ${who}: ${record.acked} of ${old} were acknowledged long after the faults stopped`,
    );
  }
  hasEnded(who: number): string | undefined {
    return this.records[who]!.ended;
  }
  undelivered(who: number): number {
    return this.records[who]!.undelivered;
  }
  /** Checks what can only be known when nothing can arrive any more. A server that was restarted reports nothing. */
  finish(life: number): void {
    this.records.forEach((record, who) => {
      assert.ok(record.ended || (record.role === "server" && record.life !== life), `${record.role} ${who} never ended`);
      for (const count of record.certainlyNot) {
        assert.ok(count > record.arrived, `${who}: ${count} was reported as not sent, and was delivered`);
      }
    });
  }
}
