/**
 * Watches one client's end of a session: all that it says and hears, and when. It knows the rules of `docs/PROTOCOL.md`, and
 * nothing of how the session keeps them; a breach fails the run though nothing may be lost by it.
 */

import assert from "node:assert/strict";
import { type Frame, isMessage, type Window } from "../../src/frame/frame.js";
import type { Binding } from "../../src/session/binding.js";
import type { Config } from "../../src/session/config.js";
import type { Why } from "../../src/session/events.js";
import type { Session } from "../../src/session/session.js";

/** The most that the answer time may be where round trips take long. */
const LONGEST_ANSWER = 15_000;
/** Clocks are read out of order by so much. */
const SKEW = 101;

interface Seen {
  readonly attachment: number;
  readonly kind: string;
  readonly candidate: boolean;
  stage: "greeting" | "welcomed" | "attaching" | "attached";
  /** The message that is next here. */
  next: number | undefined;
  heard: number;
  /** When its `hello` was said. */
  asked: number;
  told: number;
  toldTaken: number;
  ping: number | undefined;
  proved: boolean;
  /** Since when it is to be proved, and since when nothing speaks for it; until when what was asked is not sent. */
  doubted: number;
  unproved: number;
  pausedUntil: number;
  pongOwed: number | undefined;
  closingSaid: boolean;
  closeSaid: boolean;
  /** Since when messages have passed and it was not asked, how often it was asked on trial, and since when it is. */
  eventful: number;
  questions: number;
  trialSince: number;
  /** What is on its way in a push. */
  flight: readonly Frame[];
  unanswered: number;
  pushAcked: number;
  notBefore: number;
  polledAt: number;
  pollHold: number;
  pollOpen: boolean;
  makesRoom: boolean;
  fruitful: boolean;
  pollNotBefore: number;
}

export class Referee {
  private readonly seen = new Map<Binding, Seen>();
  private epoch: string | undefined;
  private window: Window;
  private highest = 0;
  private tried = 0;
  private sent: number;
  private acked: number;
  private peerTook: number;
  private readonly sizes = new Map<number, number>();
  private received: number;
  private taken: number;
  private untoldSince = Infinity;
  private pressedSince = Infinity;
  private repeated = false;
  private blind: boolean;
  private heartbeat = 0;
  private closingSince = Infinity;
  private refused = false;
  private peerCloses = false;
  /** Until when polls are not held for long, because a push waited behind one. */
  private shortUntil = 0;
  /** The last two round trips, and the most that the answer time has been. */
  private trips: readonly number[] = [];
  private answerTime: number;
  /** Up to which message receipts may go. */
  safe = Infinity;

  constructor(
    private readonly session: Session,
    private readonly config: Config,
    private readonly now: () => number,
    saved?: { readonly received_: number; readonly acked_: number; readonly epoch_: string | undefined; readonly highest_: number },
    /** What may have been sent before. */
    sent?: number,
  ) {
    this.window = config.early_;
    this.answerTime = config.proveWithin_;
    this.received = this.taken = saved?.received_ ?? 0;
    this.acked = this.peerTook = saved?.acked_ ?? 0;
    this.sent = sent ?? this.acked;
    this.epoch = saved?.epoch_;
    this.blind = !!saved;
    this.highest = saved ? saved.highest_ - 1000 : 0;
  }

  private breach(holds: unknown, rule: string): asserts holds {
    assert.ok(holds, `breach of ${rule}`);
  }
  private get live(): [Binding, Seen][] {
    return this.session.bindings_().map((bound) => [bound, this.seen.get(bound)!]);
  }
  private carrier(): Seen | undefined {
    return this.live.map(([, one]) => one).findLast(({ stage, candidate }) => stage === "attached" || (stage === "greeting" && !candidate));
  }

  introduced(bound: Binding, candidate: boolean): void {
    this.seen.set(bound, {
      attachment: bound.attachment_,
      kind: bound.kind_,
      candidate,
      stage: "greeting",
      next: undefined,
      heard: this.now(),
      asked: this.now(),
      told: 0,
      toldTaken: 0,
      ping: undefined,
      proved: false,
      doubted: Infinity,
      unproved: Infinity,
      pausedUntil: 0,
      pongOwed: undefined,
      closingSaid: false,
      closeSaid: false,
      eventful: Infinity,
      questions: 0,
      trialSince: Infinity,
      flight: [],
      unanswered: 0,
      pushAcked: 0,
      notBefore: 0,
      polledAt: 0,
      pollHold: 0,
      pollOpen: false,
      makesRoom: false,
      fruitful: false,
      pollNotBefore: 0,
    });
    if (!candidate) this.tried = bound.attachment_;
  }
  /** The session asks by itself whether a path lives: then it is to be proved again. */
  private doubted(bound: Binding, one: Seen): void {
    if (!one.proved || bound.proved_) return;
    one.proved = false;
    one.unproved = one.doubted = this.now();
    one.pollOpen = false;
    one.pollNotBefore = 0;
  }
  closeCalled(): void {
    this.closingSince = Math.min(this.closingSince, this.now());
  }
  took(): void {
    this.taken = this.session.receipt_()[1];
    this.mark();
  }

  // What it says.

  private receipt(one: Seen, received: number, taken: number | null | undefined): void {
    this.breach(received <= Math.min(this.received, this.safe) && (taken ?? received) <= Math.min(this.taken, received), "W3: a receipt says too much");
    this.breach(received >= one.told, "W3: a receipt goes back");
    one.told = received;
    one.toldTaken = taken ?? received;
    this.repeated = false;
    this.mark();
  }
  private attachSaid(one: Seen): void {
    this.breach(one.attachment >= this.tried, "C4: a lower number attaches");
    const carried = this.live.some(([, other]) => other !== one && (other.stage === "attached" || (other.stage === "greeting" && !other.candidate)));
    this.breach(one.kind !== "sse" || one.proved || !carried, "P1: it attaches before its proof");
    this.tried = one.attachment;
    one.stage = "attaching";
    // A candidate's silence does not count.
    one.heard = this.now();
  }
  said(bound: Binding, frame: Frame): void {
    const one = this.seen.get(bound)!;
    const [tag, value] = frame;
    if (isMessage(frame)) return this.message(one, frame[1], frame[4]);
    switch (tag) {
      case "hello":
        one.asked = this.now();
        this.breach(value.attachment > this.highest && value.attachment === one.attachment, "A1: a number is used twice");
        this.breach(!!value.candidate === one.candidate, "C1");
        this.highest = value.attachment;
        this.receipt(one, value.received, value.taken);
        break;
      case "attach":
        this.attachSaid(one);
        this.receipt(one, value.received, value.taken);
        break;
      case "ack":
        this.receipt(one, value, frame[2]);
        break;
      case "ping":
        // A number that it has not said is a question; without one it asks for a receipt.
        if (value !== undefined && value !== one.ping) {
          if (one.eventful < Infinity) one.questions++;
          one.eventful = Infinity;
        }
        one.ping = value;
        break;
      case "pong":
        one.pongOwed = undefined;
        break;
      case "closing":
        one.closingSaid = true;
        break;
      case "close":
        one.closeSaid = true;
        this.breach(frame[3]?.received === undefined || frame[3].received === null || frame[3].received <= this.received, "X2: a close says too much");
    }
  }
  private message(one: Seen, seq: number, size: number): void {
    const now = this.now();
    if (one.kind === "sse") one.eventful = Math.min(one.eventful, now);
    this.breach(!this.live.some(([, other]) => other.stage === "attaching"), "C3: messages before attach is answered");
    this.breach(this.carrier() === one, "C1: messages on what does not carry");
    this.breach(!this.peerCloses, "X4: messages behind closing");
    const oldest = this.acked + 1;
    const next = Math.max(one.next ?? oldest, oldest);
    this.breach(seq === next || (one.kind !== "websocket" && seq === oldest), `M1: ${seq} goes instead of ${next}`);
    if (seq === oldest) this.breach(now >= one.notBefore, "Q4: a push without progress is repeated at once");
    one.next = seq + 1;
    if (seq <= this.sent) return;
    this.breach(!(this.config.cautious_ && this.epoch && one.stage === "greeting"), "what was never sent does not wait for welcome");
    let bytes = size;
    for (let other = this.peerTook + 1; other < seq; other++) bytes += this.sizes.get(other) ?? 0;
    const count = seq - this.peerTook - 1;
    this.breach(!count || (count < this.window.messages && bytes <= this.window.bytes), "W2: beyond the window");
    this.sizes.set(seq, size);
    this.sent = seq;
  }
  polled(bound: Binding, poll: { received: number; taken?: number | null; hold_ms: number }): void {
    const one = this.seen.get(bound)!;
    const now = this.now();
    this.doubted(bound, one);
    this.breach(!one.pollOpen || !one.proved || one.makesRoom, "G2: two polls at once");
    this.breach(now >= this.shortUntil - SKEW || poll.hold_ms <= 500, "Q5: polls are held for long where requests are made one at a time");
    this.breach(now >= one.pollNotBefore, "G4: an empty poll is repeated at once");
    if (one.stage === "welcomed") this.attachSaid(one);
    this.receipt(one, poll.received, poll.taken);
    Object.assign(one, { pollOpen: true, makesRoom: false, polledAt: now, pollHold: poll.hold_ms, fruitful: !bound.proved_ });
  }
  pushed(bound: Binding, frames: readonly Frame[]): void {
    this.seen.get(bound)!.flight = frames;
  }
  pushEnded(bound: Binding, answered: boolean): void {
    const one = this.seen.get(bound)!;
    const { flight } = one;
    one.flight = [];
    const acked = this.session.acked_();
    if (answered) one.unanswered = 0;
    else {
      const now = this.now();
      const stuck = this.session.bindings_().includes(bound) && one.pollOpen && bound.proved_ && now - one.polledAt >= 1000 - SKEW && now >= this.shortUntil - SKEW;
      // The session may have read its clock a little earlier.
      if (stuck && now - one.polledAt >= 1000 + SKEW && now >= this.shortUntil + SKEW) this.shortUntil = now + 600_000 - SKEW;
      // Then the open one makes room.
      if (stuck) one.makesRoom = true;
      else one.unanswered++;
      for (const [tag, value] of flight) {
        if (tag === "pong") one.pongOwed ??= value ?? 0;
      }
    }
    const unacked = this.session.queue_().length && this.sent > acked;
    if (flight.some(isMessage) && acked <= one.pushAcked && unacked && this.carrier() === one) {
      one.notBefore = this.now() + Math.min(this.config.pushRetry_, 5000) - SKEW;
    } else one.notBefore = 0;
    one.pushAcked = acked;
  }
  pollEnded(bound: Binding): void {
    const one = this.seen.get(bound)!;
    const now = this.now();
    if (one.pollOpen && !one.fruitful && now - one.polledAt < 500 - SKEW) one.pollNotBefore = now + 500 - SKEW;
    if (one.stage === "attached") one.proved = true;
    one.pollOpen = false;
    one.heard = now;
  }

  /** A box has turned a request down, which is made again after a pause. */
  putOff(bound: Binding, pause: number): void {
    const one = this.seen.get(bound)!;
    one.pausedUntil = Math.max(one.pausedUntil, this.now() + pause);
  }
  gaveUp(bound: Binding, why: Why): void {
    const one = this.seen.get(bound)!;
    const silent = why === "silent" && this.now() - one.heard < this.heartbeat * 1.5 - SKEW;
    this.breach(!(silent || why === "unproved") || this.now() >= one.pausedUntil, "Q8: a pause counts as silence");
  }

  // What it hears, of a transport that it has.

  heard(bound: Binding, push: boolean, frame: Frame): void {
    const one = this.seen.get(bound)!;
    const now = this.now();
    if (!this.session.bindings_().includes(bound)) return;
    if (!push || one.kind === "websocket") one.heard = now;
    if (!push && one.stage === "attached" && !one.proved && isMessage(frame) && now - one.doubted < 30_000 + SKEW) one.unproved = now;
    const [tag, value] = frame;
    // Out of its place: the transport is given up, and nothing is taken from it.
    if (!push && one.stage === "greeting" && tag !== "welcome" && tag !== "close") return;
    if (!push) one.fruitful ||= tag !== "ack" || value > this.acked || (frame[2] ?? value) > this.peerTook;
    if (isMessage(frame)) {
      const seq = frame[1];
      one.eventful = Math.min(one.eventful, now);
      if (this.closingSince < Infinity) this.refused ||= seq > this.received;
      else if (seq <= this.received) this.repeated = true;
      return;
    }
    switch (tag) {
      case "welcome":
        if (one.stage !== "greeting" || value.session !== this.session.id_ || value.attachment !== one.attachment) return;
        one.stage = one.candidate ? "welcomed" : "attached";
        one.proved = one.kind === "websocket";
        one.unproved = one.doubted = now;
        if (one.proved) one.trialSince = now;
        this.trips = [now - one.asked, ...this.trips].slice(0, 2);
        this.answerTime = Math.max(this.answerTime, Math.min(3 * Math.min(...this.trips), LONGEST_ANSWER));
        this.epoch = value.epoch;
        this.heartbeat = value.heartbeat_ms;
        this.window = value.window;
        this.sent = Math.max(this.sent, value.received);
        // Brought back, only the server knows what it had taken.
        if (this.blind) this.peerTook = Math.min(this.peerTook, value.taken ?? value.received);
        this.blind = false;
        this.acknowledged(value.received, value.taken);
        break;
      case "ack":
        this.acknowledged(value, frame[2]);
        if (!push && one.stage === "attaching") {
          one.stage = "attached";
          one.proved ||= one.kind === "long-polling";
          one.unproved = one.doubted = now;
        }
        break;
      case "pong":
        if (push || value !== one.ping) break;
        one.proved = true;
        one.trialSince = Math.min(one.trialSince, now);
        break;
      case "ping":
        one.pongOwed = value ?? 0;
        // Who asks is told what was received.
        if (this.carrier() === one && this.received > one.told) this.repeated = true;
        break;
      case "closing":
        this.peerCloses = true;
    }
  }
  private acknowledged(received: number, taken: number | null | undefined): void {
    this.acked = Math.max(this.acked, received);
    this.peerTook = Math.max(this.peerTook, taken ?? received);
  }

  /** Notes what is to be told, and since when. */
  private mark(): void {
    const one = this.carrier();
    const half = Math.max(this.config.window_.messages >> 1, 1);
    this.untoldSince = one && this.received > one.told ? Math.min(this.untoldSince, this.now()) : Infinity;
    this.pressedSince = one && this.taken > one.toldTaken && this.received - one.toldTaken >= half ? Math.min(this.pressedSince, this.now()) : Infinity;
  }
  /** What it has received was handed over. */
  listened(): void {
    [this.received, this.taken] = this.session.receipt_();
    this.mark();
  }

  /** All that could be said was said: what is due must not be open. */
  settled(): void {
    const { session, config } = this;
    const now = this.now();
    if (session.end_() || session.due_() <= now) return;
    this.breach(now <= this.closingSince + config.closeTimeout_ + SKEW, "X2: a close without an end");
    const moving = this.session.isMoving_();
    const carrier = this.carrier();
    for (const [bound, one] of this.live) {
      this.doubted(bound, one);
      const { stage, kind, candidate } = one;
      this.breach(stage !== "welcomed" || carrier || moving, "P3: a welcomed candidate and no carrier");
      if (stage === "attached" || stage === "attaching") {
        this.breach(now - one.heard <= this.heartbeat * 1.5 + SKEW, "L2: a silent transport is kept");
      }
      this.breach(one.unanswered < 2, "Q5: pushes without answers");
      if (stage === "attached" && !one.proved && kind !== "long-polling") {
        this.breach(now - Math.max(one.unproved, one.pausedUntil) <= this.answerTime + 1000 + SKEW, "P2: a path that is not proved is kept");
      }
      const silence = 1000 * 2 ** one.questions;
      const asks = Math.max(one.heard, one.eventful) + silence;
      if (one === carrier && one.proved && kind !== "long-polling" && one.questions < 5) {
        this.breach(now <= asks + SKEW || asks > one.trialSince + config.trial_ - SKEW, "P6: a path on trial is not asked");
      }
      if (kind === "long-polling" || stage === "greeting" || (kind === "sse" && one.flight.length)) continue;
      this.breach(one.pongOwed === undefined, "L1: a ping is not answered");
      if (one !== carrier || moving || kind !== "websocket" || candidate !== one.candidate) continue;
      this.receipts(one, now);
      if (this.closingSince < Infinity) this.closing(one);
    }
  }
  private receipts(one: Seen, now: number): void {
    const { config } = this;
    const half = Math.max(config.window_.messages >> 1, 1);
    if (this.received > this.safe) return;
    this.breach(!this.repeated, "W5: a repeat without a receipt");
    this.breach(this.received - one.told < half, "W5: half the window was received, and not told");
    this.breach(this.taken - one.toldTaken < half, "W5: half the window was taken, and not told");
    // Where the window is narrow, one message is more than a little.
    const delay = config.window_.messages >> 4 > 1 ? Math.max(config.ackDelay_, config.lightAckDelay_) : config.ackDelay_;
    this.breach(now - this.untoldSince <= delay + SKEW, "W5: a message without a receipt");
    this.breach(now - this.pressedSince <= config.ackDelay_ + SKEW, "W5: the peer is held back");
  }
  private closing(one: Seen): void {
    const unsent = this.session.queue_().length - (this.sent - this.acked);
    const unacked = this.session.queue_().length;
    const mayClose = !unacked || this.peerCloses || (this.refused && !unsent && one.next === this.sent + 1);
    this.breach(!mayClose || one.closeSaid, "X4: a close is not said");
    this.breach(!unsent || mayClose || one.closingSaid, "X4: closing is not said");
  }
}
