/** Both ends: their applications, and what their transports, drivers and dialling do. */

import assert from "node:assert/strict";
import type { Frame, Hello, MessageTag, Poll, Push, TransportKind } from "../../src/frame/frame.js";
import { close as makeClose, type Close } from "../../src/session/close.js";
import { type Config, defaults } from "../../src/session/config.js";
import type { Binding } from "../../src/session/binding.js";
import { httpRules } from "../../src/session/http.js";
import type { Held } from "../../src/session/outbox.js";
import { savedOf, type SavedState } from "../../src/session/saved.js";
import type { Listener } from "../../src/session/events.js";
import { createSession, type Session } from "../../src/session/session.js";
import { serverDefaults, type ServerConfig, ServerSession } from "../session/server.js";
import { body, type Ledger, type Role } from "./ledger.js";
import { Referee } from "./referee.js";
import type { Asked, Network } from "./network.js";

const KINDS: readonly TransportKind[] = ["websocket", "sse", "long-polling"];

/** What an application needs of either end. */
interface Handle {
  send(tag: MessageTag, re: number, packed: string | Uint8Array, size: number): unknown;
  take(now: number, count: number): void;
  isOpen(): boolean;
  /** How many requests may wait; 0 is for who does not know. */
  readonly requests: number;
}

/** Sends, takes slowly, answers requests. */
export class App {
  /** An application that may be reloaded asks nothing: the answer would find nobody. */
  asks = true;
  private untaken = 0;
  private toAnswer: [seq: number, count: number, again?: boolean][] = [];
  private openRequests = 0;
  constructor(
    readonly who: number,
    readonly eager: boolean,
    private readonly net: Network,
    private readonly ledger: Ledger,
  ) {}

  message(tag: MessageTag, seq: number, message: unknown): void {
    const [count] = this.ledger.delivered(this.who, message, seq);
    this.untaken++;
    if (tag === "req") this.toAnswer.push([seq, count]);
  }
  reply(request: number, message: unknown): void {
    const [, answers] = this.ledger.delivered(this.who, message);
    this.openRequests--;
    assert.equal(answers, request, "the answer to another request");
    this.ledger.totals.replies++;
  }
  private send(handle: Handle, tag: MessageTag, re: number, answers: number, again = false): boolean {
    const { rng } = this.net;
    const json = tag === "err" || rng.chance(400);
    const pad = rng.chance(100) ? 60 : rng.below(20);
    const packed = body(this.who, this.ledger.nextCount(this.who), answers, pad, json);
    const sent = handle.send(tag, re, packed, packed.length);
    if (typeof sent === "object") {
      this.ledger.accepted(this.who, this.net.now, again);
      if (tag === "req") assert.ok(++this.openRequests <= (handle.requests || Infinity), "more requests wait than may");
    } else if (sent === "closed") assert.ok(!handle.isOpen());
    else if (sent === "too_many_requests") assert.ok(this.openRequests >= handle.requests, "requests that were answered count");
    return typeof sent === "object";
  }
  /** One turn: sends some, takes some, answers some. */
  turn(handle: Handle, sends: number): void {
    const { rng, faulty } = this.net;
    if (handle.isOpen()) {
      for (; sends > 0; sends--) this.send(handle, rng.chance(200) && this.asks ? "req" : "msg", 0, 0);
    }
    this.take(handle, this.eager || !faulty ? Infinity : rng.below(4));
    while (handle.isOpen() && this.toAnswer.length && (!faulty || rng.chance(600))) {
      const [seq, count, again] = this.toAnswer.shift()!;
      const tag = rng.chance(200) ? "err" : "res";
      if (!rng.chance(900)) continue;
      // Only the first counts.
      if (this.send(handle, tag, seq, count, again) && !again && faulty && rng.chance(200)) this.toAnswer.push([seq, count, true]);
    }
  }
  /** The page is another, and has heard all that the one before it heard. */
  reload(): void {
    this.untaken = 0;
    this.toAnswer = [];
  }
  take(handle: Handle, most: number): void {
    const count = Math.min(this.untaken, most);
    if (!count) return;
    this.untaken -= count;
    handle.take(this.net.clock(), count);
  }
  takeAll(handle: Handle): void {
    if (this.eager || !this.net.faulty) this.take(handle, Infinity);
  }
}

const common = (net: Network) => {
  const { rng } = net;
  const window = {
    messages: rng.chance(500) ? rng.range(1, 4) : rng.range(4, 40),
    bytes: rng.chance(300) ? rng.range(40, 600) : 1 << 20,
  };
  const outbox = {
    messages: rng.chance(300) ? rng.range(1, 4) : rng.range(4, 64),
    bytes: rng.chance(200) ? 200 : 1 << 20,
  };
  return { window, outbox, requests: rng.range(1, 8), ackDelay: rng.range(0, 100), lightAckDelay: rng.range(0, 5_000) };
};

export const clientConfig = (net: Network): Config => {
  const { rng } = net;
  const { window, outbox, requests, ackDelay, lightAckDelay } = common(net);
  const hasty = rng.chance(200);
  return {
    ...defaults,
    window_: window,
    outbox_: outbox,
    early_: { messages: rng.range(1, 20), bytes: rng.chance(300) ? 150 : 4096 },
    cautious_: rng.chance(500),
    requests_: requests,
    ackDelay_: ackDelay,
    lightAckDelay_: lightAckDelay,
    hold_: rng.chance(100) ? 0 : rng.range(500, 10_000),
    unansweredWithin_: 15_000,
    pushRetry_: rng.range(10, 500),
    trial_: rng.chance(500) ? 60_000 : 0,
    ...(hasty && {
      welcomeWithin_: rng.range(300, 10_000),
      proveWithin_: rng.range(300, 3000),
    }),
  };
};
export const serverConfig = (net: Network, early: Config["early_"]): ServerConfig => {
  const { rng } = net;
  return {
    ...serverDefaults,
    ...common(net),
    early,
    heartbeat: rng.range(1000, 20_000),
    resumeWindow: rng.range(40_000, 90_000),
    maxHold: rng.range(1000, 25_000),
  };
};

interface Line {
  link: number;
  kind: TransportKind;
  bound: Binding;
  flushed: boolean;
  /** What pushes begin with, once welcomed. */
  push: Push | undefined;
  inFlight: number | undefined;
  open: number | undefined;
}

/** A session as a journal has it. */
interface Kept {
  state: SavedState;
  queue: Held[];
  /** Up to which message it may have been sent. */
  mark: number;
}

export class Client {
  session!: Session;
  app!: App;
  sessionsLeft = Infinity;
  private key = "";
  private lines: Line[] = [];
  /** Given up, and still bringing frames: a driver that is slow to drop them. */
  private stale: Line[] = [];
  private readonly hearsStale: boolean;
  private readonly reloads: boolean;
  private redialling = false;
  private readonly kinds: readonly TransportKind[];
  private readonly handle: Handle;
  private referee!: Referee;
  /** What is in the store, and what is on its way there. */
  private stored: Kept | undefined;
  private storing: Kept | undefined;
  private waking = false;
  private isRogue = false;

  constructor(
    private readonly config: Config,
    private readonly net: Network,
    private readonly ledger: Ledger,
  ) {
    this.reloads = net.rng.chance(400);
    this.handle = {
      send: (tag, re, packed, size) => this.session.send_(tag, re, packed, size),
      take: (now, count) => {
        this.session.tick_(now);
        this.session.take_(count);
        this.referee.took();
      },
      isOpen: () => this.session.isOpen_(),
      requests: config.requests_,
    };
    this.begin();
    this.kinds = net.rng.below(4) ? KINDS : [net.rng.pick(KINDS)];
    this.hearsStale = net.rng.chance(300);
  }
  private begin(): void {
    const { net, ledger } = this;
    const id = net.rng.word(22);
    this.key = net.rng.word(43);
    this.session = createSession(this.config, id, this.key, net.now, httpRules);
    this.referee = new Referee(this.session, this.config, () => net.now);
    this.stored = this.storing = undefined;
    this.save();
    this.app = new App(ledger.open("client", id, 0), net.rng.chance(300), net, ledger);
    this.app.asks = !this.reloads;
  }
  /** As a journal does: what it takes down now is safe at the next time. */
  private save(): void {
    const { session } = this;
    if (!this.reloads || session.end_()) return;
    this.stored = this.storing ?? this.stored;
    const state = session.state_();
    const queue = session.queue_().map((held): Held => [...held]);
    const mark = session.carrier_() ? state[5] + queue.length : Math.max(this.storing?.mark ?? this.stored?.mark ?? 0, state[5]);
    this.storing = { state, queue, mark };
    session.upTo_(this.stored?.mark ?? 0);
    session.safe_((this.referee.safe = this.stored?.state[4] ?? 0));
    if (this.waking || ((this.stored?.mark ?? 0) >= mark && (this.stored?.state[4] ?? 0) >= state[4])) return;
    this.waking = true;
    this.net.schedule(this.net.rng.range(1, 20), { type: "stored" });
  }
  /** The store has what it was given. */
  hasStored(): void {
    this.waking = false;
    this.fireIfDue();
    this.pump();
  }
  /** Another page, or tab, goes on with the session from what was kept of it. */
  reload(): void {
    const { session, net, stored } = this;
    if (!this.reloads || !stored || !session.isOpen_()) return;
    const { state, queue, mark } = stored;
    // What was sent bears its number, whatever the store has.
    queue.forEach((held, at) => (held[1] = state[5] + at < mark ? state[5] + at + 1 : 0));
    const saved = savedOf(state, queue);
    if (!saved) return;
    net.log(() => `client ${this.app.who} is reloaded: ${JSON.stringify(state.slice(3))} ${queue.length} ${mark}`);
    this.ledger.totals.reloads++;
    this.ledger.reloaded(this.app.who, state[4], state[5], state[5] + queue.length);
    for (const { link } of this.lines) {
      if (net.rng.chance(700)) net.hurt(link);
    }
    this.lines = [];
    this.stale = [];
    this.session = createSession(this.config, saved.id_, saved.key_, net.now, httpRules, saved);
    this.referee = new Referee(this.session, this.config, () => net.now, { ...saved, highest_: session.state_()[3] + 1000 }, mark);
    this.storing = undefined;
    this.app.reload();
    this.save();
    this.pump();
  }

  dial(candidate: boolean): void {
    const { net } = this;
    const kind = net.rng.pick(this.kinds);
    const token = net.rng.chance(100) ? "token" : undefined;
    this.session.tick_(net.clock());
    const bound = this.session.introduce_(kind, candidate, token);
    if (bound) {
      this.referee.introduced(bound, candidate);
      const link = net.dial();
      net.log(() => `link ${link} ${kind} is #${bound.attachment_} ${candidate ? "candidate" : ""}`);
      if (candidate) this.ledger.totals.candidates++;
      this.lines.push({ link, kind, bound, flushed: false, push: undefined, inFlight: undefined, open: undefined });
    }
    this.pump();
  }
  redial(): void {
    this.redialling = false;
    if (!this.session.carrier_()) this.dial(false);
  }
  randomLink(): number | undefined {
    return this.lines[this.net.rng.below(this.lines.length)]?.link;
  }
  private line(link: number): Line | undefined {
    return [...this.lines, ...(this.hearsStale ? this.stale : [])].find((line) => line.link === link);
  }
  private fireIfDue(): void {
    if (this.session.due_() <= this.net.now) this.fire();
    this.drain();
  }
  fire(): void {
    this.session.tick_(this.net.now);
    this.session.timeout_();
    assert.ok(this.session.due_() > this.net.now, "a deadline on which nobody can act");
  }

  private frames(link: number, frames: Frame[]): void {
    for (const frame of frames) {
      const line = this.line(link);
      if (!line) return;
      const { bound } = line;
      if (frame[0] === "welcome" && !line.push) {
        const { session, epoch } = frame[1];
        line.push = { session, key: this.key, epoch, attachment: bound.attachment_ };
      }
      this.session.tick_(this.net.clock());
      this.referee.heard(bound, false, frame);
      this.session.frame_(bound, false, frame);
      this.drain();
    }
  }
  stream(link: number, frames: Frame[]): void {
    this.fireIfDue();
    this.frames(link, frames);
    this.pump();
  }
  answer(link: number, no: number, frames: Frame[], refused: boolean): void {
    this.fireIfDue();
    const line = this.line(link);
    if (!line) return;
    this.session.tick_(this.net.clock());
    if (line.inFlight === no) {
      line.inFlight = undefined;
      for (const frame of frames) {
        this.referee.heard(line.bound, true, frame);
        this.session.frame_(line.bound, true, frame);
      }
      this.drain();
      this.referee.pushEnded(line.bound, true);
      this.session.http_!.pushEnded_(line.bound, true);
    } else if (line.open === no) {
      line.open = undefined;
      const isPoll = line.push !== undefined;
      this.frames(link, frames);
      if (refused) this.lose(link);
      else if (isPoll) {
        this.referee.pollEnded(line.bound);
        this.session.http_!.pollEnded_(line.bound);
      }
    }
    this.pump();
  }
  /** Makes a poll or push, now or again, or a box turns it down for now. */
  ask(link: number, asked: Asked, no?: number): number {
    const { net } = this;
    const line = this.line(link);
    if (no && (!line || (line.inFlight !== no && line.open !== no))) return no;
    if (net.faulty && net.rng.chance(no ? 500 : 30)) return net.turnDown(link, asked, no);
    no = net.request(link, asked, no);
    if (asked.type === "push") net.schedule(this.session.answerTime_(), { type: "push timeout", link, no });
    return no;
  }
  turnedDown(link: number, no: number, asked: Asked): void {
    const { net, session } = this;
    this.fireIfDue();
    const line = this.line(link);
    if (!line || (line.inFlight !== no && line.open !== no)) return;
    const pause = net.rng.pick([300, 700, 1500, 3000]);
    this.ledger.totals.pauses++;
    session.tick_(net.now);
    this.referee.putOff(line.bound, pause);
    session.http_!.putOff_(line.bound, pause);
    net.schedule(pause, { type: "asked again", link, no, asked });
    this.pump();
  }
  pushTimedOut(link: number, no: number): void {
    this.fireIfDue();
    const line = this.line(link);
    if (line?.inFlight === no) {
      line.inFlight = undefined;
      this.net.log(() => `link ${link} push ${no} timed out`);
      this.session.tick_(this.net.now);
      this.referee.pushEnded(line.bound, false);
      this.session.http_!.pushEnded_(line.bound, false);
    }
    this.pump();
  }
  lost(link: number): void {
    this.fireIfDue();
    this.lose(link);
    this.pump();
  }
  private lose(link: number): void {
    this.stale = this.stale.filter((line) => line.link !== link);
    const line = this.lines.find((other) => other.link === link);
    if (!line) return;
    this.lines = this.lines.filter((other) => other !== line);
    this.session.tick_(this.net.clock());
    this.session.detach_(line.bound);
  }

  private drain(): void {
    const { net, app, ledger, session } = this;
    const listener: Listener = {
      attached_: ({ attachment_, kind_ }, resumed) => {
        net.log(() => `client attached #${attachment_}`);
        ledger.attached(app.who, attachment_, kind_, resumed);
      },
      detached_: (bound, why) => {
        net.log(() => `client detached #${bound.attachment_} ${why}`);
        this.referee.gaveUp(bound, why);
        const line = this.lines.find((other) => other.bound === bound);
        if (line) {
          this.lines = this.lines.filter((other) => other !== line);
          this.stale.push(line);
        }
      },
      message_: ([tag, seq, , body]) => app.message(tag, seq, body),
      reply_: (request, _, body) => app.reply(request[1], body),
      failed_: () => undefined,
      auth_: () => undefined,
      move_: () => undefined,
      ended_: ([, code, reason], by, undelivered) => {
        net.log(() => `client ${app.who} ended ${code} ${reason} ${by}`);
        assert.ok(code !== "protocol_error" || this.isRogue, `the session found a breach where there is none: ${reason}`);
        ledger.ended(app.who, session.acked_(), by, undelivered);
        assert.equal(session.event_(), undefined, "an event after the end");
      },
    };
    for (let event; (event = session.event_()); ) event(listener);
    this.referee.listened();
    ledger.note(app.who, session.acked_());
    app.takeAll(this.handle);
  }

  /** Writes what there is, redials, and begins anew after an end. */
  pump(): void {
    const { net } = this;
    this.drain();
    this.save();
    checkMemory(this.session.held_(), this.config.outbox_, this.session.receipt_(), this.config.window_.messages);
    for (const line of [...this.lines]) this.transmit(line);
    this.drain();
    this.referee.settled();
    if (this.session.end_()) {
      this.lines = [];
      this.stale = [];
      if (this.sessionsLeft > 0) {
        this.sessionsLeft--;
        this.begin();
        net.log(() => `client begins anew as ${this.app.who}`);
      }
    }
    if (!this.redialling && !this.session.end_() && !this.session.carrier_()) {
      this.redialling = true;
      net.schedule(net.rng.range(0, 1500), { type: "redial" });
    }
  }
  private transmit(line: Line): void {
    const { net, session } = this;
    const { link, kind, bound } = line;
    for (;;) {
      const poll = session.http_!.poll_(bound);
      if (poll?.[0] === "poll") this.referee.polled(bound, poll[1]);
      if (poll?.[0] === "poll") line.open = this.ask(link, { type: "poll", poll: poll[1] });
      const ready =
        kind === "websocket"
          ? true
          : session.end_()
            ? line.push !== undefined
            : !line.flushed || (line.push !== undefined && line.inFlight === undefined);
      const batch: Frame[] = [];
      for (let frame; ready && batch.length < net.maxBatch && (frame = session.transmit_(bound)); ) {
        this.referee.said(bound, frame);
        batch.push(frame);
      }
      if (!batch.length) return;
      if (line.push && kind !== "websocket") this.referee.pushed(bound, batch);
      assert.equal(!line.flushed, batch[0]![0] === "hello", "hello comes first, once");
      line.flushed = true;
      if (kind === "websocket") net.pipeUp(link, batch);
      else if (!line.push) line.open = net.request(link, { type: "hello", frames: batch });
      else line.inFlight = this.ask(link, { type: "push", push: line.push, frames: batch });
    }
  }

  /** A peer that breaks a rule, or a box that speaks in its name: what must follow is asked for at once. */
  rogue(): void {
    const { net, session } = this;
    const { rng } = net;
    this.fireIfDue();
    const unproved = this.lines.find(({ bound }) => bound.stage_ && !bound.proved_);
    const line = unproved && rng.chance(500) ? unproved : this.lines[rng.below(this.lines.length)];
    if (!line || !session.isOpen_()) return;
    const { bound } = line;
    const [id, , epoch, highest, received, acked] = session.state_();
    const isCarrier = session.carrier_() === bound;
    const unsent = session.queue_().filter((held) => !held[1]).length;
    const sent = acked + session.queue_().length - unsent;
    this.isRogue = true;
    const hear = (...frames: Frame[]) => {
      net.log(() => `link ${line.link} rogue ${JSON.stringify(frames)}`);
      this.ledger.totals.rogues++;
      for (const frame of frames) {
        session.tick_(net.now);
        this.referee.heard(bound, false, frame);
        session.frame_(bound, false, frame);
      }
    };
    const isGone = () => assert.ok(!session.bindings_().includes(bound), "a transport is kept that brought what is not of the protocol");
    const endsWith = (code: string) => assert.equal(session.end_()?.[1], code);
    const livesOn = () => assert.ok(session.isOpen_(), "the session has ended with a transport");
    const welcome = (of: string, attachment: number, life: string): Frame => [
      "welcome",
      { session: of, epoch: life, attachment, received: acked, resumed: true, window: this.config.window_, heartbeat_ms: 1000,
        resume_window_ms: 1000, max_message_bytes: 1000, max_batch_bytes: 1000, transports: [] },
    ];
    if (line === unproved) hear(["pong", 1_000_000]);
    else if (!bound.stage_) {
      if (epoch && rng.chance(300)) {
        hear(welcome(id, bound.attachment_, "another"));
        endsWith("unknown_session");
      } else {
        const other = welcome(id, bound.attachment_ + 1, epoch ?? "epoch");
        hear(rng.pick<Frame>([["msg", received + 1, 0, 0, 1], ["ack", acked], ["ping", 1], welcome("another", bound.attachment_, epoch ?? "epoch"), other]));
        isGone();
        livesOn();
      }
    } else if (isCarrier) {
      const breaches: (() => void)[] = [
        () => {
          hear(makeClose("superseded", "", { attachment: highest + 1000 }));
          endsWith("superseded");
          assert.equal(session.transmit_(bound), undefined, "somebody else's session is closed");
        },
        () => {
          hear(makeClose(rng.pick(["draining", "overloaded", "auth_expired", "moved"])));
          isGone();
          livesOn();
        },
        () => {
          hear(["ack", sent + 1]);
          endsWith("protocol_error");
        },
        () => {
          // It would count as received: so in a session of its own.
          const other = createSession(this.config, id, this.key, net.now, httpRules);
          const path = other.introduce_("websocket", false, undefined)!;
          for (let count = rng.below(3); count > 0; count--) other.send_("req", 0, "0", 1);
          while (other.transmit_(path));
          const asked = other.queue_().filter((held) => held[1]).length;
          for (const frame of [welcome(id, path.attachment_, "epoch"), ["res", 1, asked + 1, 0, 1] as Frame]) {
            other.frame_(path, false, frame[0] === "welcome" ? ["welcome", { ...frame[1], received: 0 }] : frame);
          }
          assert.equal(other.end_()?.[1], "protocol_error");
        },
        () => {
          const [, taken] = session.receipt_();
          if (received === taken || this.reloads) return;
          hear(["msg", received + 1, 0, 0, this.config.window_.bytes + 1]);
          endsWith("protocol_error");
        },
        () => hear(["pong", 1_000_000]),
      ];
      rng.pick(breaches)();
    } else if (rng.chance(300)) hear(["pong", 1_000_000]);
    else {
      hear(makeClose("forbidden"));
      isGone();
      livesOn();
    }
    this.drain();
    this.isRogue = false;
    this.pump();
  }

  turn(sends: number): void {
    this.session.tick_(this.net.clock());
    this.app.turn(this.handle, sends);
    this.pump();
  }
  /** Accepts more than a narrow window has room for, and yet what is soon through. */
  crowd(): void {
    this.app.turn(this.handle, 7);
  }
  close(): void {
    this.session.tick_(this.net.clock());
    this.session.close_(makeClose("normal", "done"));
    this.ledger.closeCalled(this.app.who);
    this.referee.closeCalled();
    assert.equal(this.session.send_("msg", 0, "0", 1), "closed", "a message was accepted after close");
  }
  probe(): void {
    this.session.tick_(this.net.now);
    this.session.probe_();
    this.pump();
  }
  abort(): void {
    this.session.tick_(this.net.clock());
    this.session.abort_(makeClose("kicked", "enough"));
    this.ledger.closeCalled(this.app.who);
  }
}

const checkMemory = (
  held: { messages: number; bytes: number },
  outbox: { messages: number; bytes: number },
  [received, taken]: readonly [number, number],
  window: number,
) => {
  assert.ok(held.messages <= outbox.messages, `send buffer: ${held.messages} messages`);
  assert.ok(held.bytes <= outbox.bytes || held.messages <= 1, `send buffer: ${held.bytes} bytes`);
  assert.ok(received - taken <= window, "receive buffer");
};

interface Carrier {
  link: number;
  kind: TransportKind;
  no: number;
  response: number;
  /** What is written to it is lost. */
  deaf: boolean;
  attachment: number;
}

const write = (net: Network, carrier: Carrier, frames: Frame[], refused: boolean): void => {
  const polls = carrier.kind === "long-polling";
  if (carrier.deaf || (!frames.length && !polls)) return;
  if (polls) net.answer(carrier.link, carrier.no, frames, refused);
  else net.streamDown(carrier.link, carrier.response, frames);
};
/** Ends it, with a last word or without. */
const end = (net: Network, carrier: Carrier, close?: Close): void => {
  write(net, carrier, close ? [close] : [], close !== undefined);
  if (carrier.kind !== "long-polling" && !carrier.deaf) net.endDown(carrier.link, carrier.response);
};

const unknown = makeClose("unknown_session", "no such session");

export class Entry {
  carriers: Carrier[] = [];
  forgetAt = Infinity;
  private readonly handle: Handle = {
    send: (tag, re, packed, size) => this.session.send(tag, re, packed, size),
    take: (now, count) => this.session.take(now, count),
    isOpen: () => this.session.isOpen,
    requests: 0,
  };
  constructor(
    readonly session: ServerSession,
    readonly app: App,
    readonly key: string,
    private readonly net: Network,
    private readonly ledger: Ledger,
  ) {}

  /** The authenticator has said yes, for a while. */
  grant(fresh: boolean): void {
    const { net, session } = this;
    const expires = net.faulty && net.rng.chance(100) ? net.rng.range(1, 10_000) : 0;
    if (fresh) session.acceptAuth(net.now, expires);
    else session.grant(net.now, expires);
  }
  bind(carrier: Carrier): void {
    const old = this.carriers.find((other) => other.attachment === carrier.attachment);
    this.carriers = this.carriers.filter((other) => other !== old);
    if (old) end(this.net, old);
    this.carriers.push(carrier);
  }
  drain(): void {
    const { net, session, app, ledger } = this;
    for (let event; (event = session.events.shift()); ) {
      switch (event.type) {
        case "attached": {
          const { attachment, transport, resumed } = event;
          net.log(() => `                server ${app.who} attached #${attachment}`);
          ledger.attached(app.who, attachment, transport, resumed);
          break;
        }
        case "detached": {
          const { attachment, close, why } = event;
          net.log(() => `                server detached #${attachment} ${why}`);
          const carrier = this.carriers.find((other) => other.attachment === attachment);
          this.carriers = this.carriers.filter((other) => other !== carrier);
          if (carrier) end(net, carrier, close);
          break;
        }
        case "message":
          app.message(event.frame[0], event.frame[1], event.frame[3]);
          break;
        case "reply":
          app.reply(event.request[1], event.body);
          break;
        case "auth":
          this.grant(true);
          break;
        case "ended": {
          const { close, by, undelivered } = event;
          net.log(() => `                server ${app.who} ended ${close[1]} ${close[2]} ${by}`);
          ledger.ended(app.who, session.acked, by, undelivered);
          assert.equal(session.events.length, 0, "an event after the end");
          this.forgetAt = net.now + session.config.resumeWindow;
          break;
        }
      }
    }
    ledger.note(app.who, session.acked);
  }
  fire(): void {
    this.session.timeout(this.net.now);
    assert.ok(this.session.due() > this.net.now, "a deadline on which nobody can act");
  }
  pump(): void {
    const { net, session, app } = this;
    this.drain();
    app.takeAll(this.handle);
    const { outbox, window, early } = session.config;
    checkMemory(session.held, outbox, [session.receipt.received, session.receipt.taken], Math.max(window.messages, early.messages));
    if (session.due() <= net.now) this.fire();
    this.drain();
    for (let at = 0; at < this.carriers.length; ) {
      const carrier = this.carriers[at]!;
      const batch: Frame[] = [];
      for (let frame; batch.length < net.maxBatch && (frame = session.transmit(carrier.attachment)); ) batch.push(frame);
      const full = batch.length === net.maxBatch;
      if (batch.length) write(net, carrier, batch, false);
      if (carrier.kind === "long-polling" && batch.length) {
        // One answer, and the carrier is spent.
        this.carriers.splice(at, 1);
        session.ended(net.clock(), carrier.attachment);
      } else if (session.isEnded && !full) {
        this.carriers.splice(at, 1);
        end(net, carrier);
      } else if (!full) at++;
    }
    this.drain();
  }
  turn(sends: number): void {
    this.app.turn(this.handle, sends);
    this.pump();
  }
  /** Accepts more than a narrow window has room for, and yet what is soon through. */
  crowd(): void {
    this.app.turn(this.handle, 7);
  }
  close(): void {
    this.session.close(this.net.clock(), makeClose("normal", "done"));
    this.ledger.closeCalled(this.app.who);
  }
  abort(): void {
    this.session.abort(this.net.clock(), makeClose("kicked", "enough"));
    this.ledger.closeCalled(this.app.who);
  }
}

export class Server {
  life = 1;
  entries = new Map<string, Entry>();
  /** Whose WebSocket it is. */
  private readonly sockets = new Map<number, { id: string; attachment: number }>();
  private readonly hearsStale: boolean;

  constructor(
    readonly config: ServerConfig,
    private readonly net: Network,
    private readonly ledger: Ledger,
  ) {
    this.hearsStale = net.rng.chance(300);
  }
  /** Forgets everything; gives the links that it had. */
  restart(): number[] {
    this.life++;
    this.net.log(() => `server life ${this.life} begins`);
    this.sockets.clear();
    const links = [...this.entries.values()].flatMap((entry) => entry.carriers.map(({ link }) => link));
    this.entries.clear();
    return links;
  }
  private entry(id: string, key: string): Entry | undefined {
    const entry = this.entries.get(id);
    return entry?.key === key ? entry : undefined;
  }
  due(): number {
    let due = Infinity;
    for (const entry of this.entries.values()) due = Math.min(due, entry.session.due(), entry.forgetAt);
    return due;
  }
  fire(): void {
    for (const [id, entry] of this.entries) {
      if (entry.forgetAt <= this.net.now) this.entries.delete(id);
      else if (entry.session.due() <= this.net.now) {
        entry.fire();
        entry.pump();
      }
    }
  }
  request(link: number, no: number, deaf: boolean, asked: Asked): void {
    this.fire();
    if (asked.type === "hello") this.hello(link, no, deaf, asked.frames);
    else if (asked.type === "poll") this.poll(link, no, deaf, asked.poll);
    else this.push(link, no, deaf, asked.push, asked.frames);
  }
  private hello(link: number, no: number, deaf: boolean, [first, ...behind]: Frame[]): void {
    const { net, ledger } = this;
    const hello = first![1] as Hello;
    const carrier: Carrier = { link, kind: hello.transport, no, response: net.respond(), deaf, attachment: hello.attachment };
    if (!this.entries.has(hello.session) && !hello.epoch) {
      const who = ledger.open("server", hello.session, this.life);
      net.log(() => `server makes session ${who}`);
      const session = new ServerSession(this.config, hello.session, net.rng.word(11), net.now);
      const app = new App(who, net.rng.chance(300), net, ledger);
      this.entries.set(hello.session, new Entry(session, app, hello.key, net, ledger));
    }
    const entry = this.entry(hello.session, hello.key);
    if (!entry) return end(net, carrier, unknown);
    const refused = entry.session.hello(net.clock(), hello);
    entry.drain();
    if (refused) end(net, carrier, refused);
    else {
      entry.grant(false);
      entry.bind(carrier);
      for (const frame of behind) {
        entry.session.frame(net.clock(), hello.attachment, false, frame);
        entry.drain();
      }
      if (hello.transport === "websocket") this.sockets.set(link, { id: hello.session, attachment: hello.attachment });
    }
    entry.pump();
  }
  private poll(link: number, no: number, deaf: boolean, poll: Poll): void {
    const { net } = this;
    const carrier: Carrier = { link, kind: "long-polling", no, response: net.respond(), deaf, attachment: poll.attachment };
    const entry = this.entry(poll.session, poll.key);
    if (!entry) return end(net, carrier, unknown);
    const refused = entry.session.poll(net.clock(), poll);
    entry.drain();
    if (refused) end(net, carrier, refused);
    else entry.bind(carrier);
    entry.pump();
  }
  private push(link: number, no: number, deaf: boolean, push: Push, frames: Frame[]): void {
    const { net } = this;
    const carrier: Carrier = { link, kind: "long-polling", no, response: net.respond(), deaf, attachment: push.attachment };
    const entry = this.entry(push.session, push.key);
    if (!entry || entry.session.epoch !== push.epoch) return write(net, carrier, [unknown], true);
    for (const frame of frames) {
      entry.session.frame(net.clock(), push.attachment, true, frame);
      entry.drain();
    }
    const close = entry.session.end;
    write(net, carrier, [close ?? entry.session.pushAnswer(push.attachment)], false);
    entry.pump();
  }
  /** A batch on a WebSocket. */
  pipe(link: number, frames: Frame[]): void {
    this.fire();
    if (frames[0]?.[0] === "hello") return this.hello(link, 0, false, frames);
    const socket = this.sockets.get(link);
    const entry = socket && this.entries.get(socket.id);
    if (!entry) return;
    for (const frame of frames) {
      if (!this.hearsStale && entry.carriers.every((carrier) => carrier.link !== link)) break;
      entry.session.frame(this.net.clock(), socket.attachment, false, frame);
      entry.drain();
    }
    entry.pump();
  }
  /** The server learns that a link is gone. */
  lost(link: number): void {
    this.fire();
    this.sockets.delete(link);
    for (const entry of this.entries.values()) {
      const carrier = entry.carriers.find((other) => other.link === link);
      if (!carrier) continue;
      entry.carriers = entry.carriers.filter((other) => other !== carrier);
      entry.session.ended(this.net.now, carrier.attachment);
      entry.pump();
    }
  }
  /** Somebody who knows the id and not the key. */
  forge(id: string): void {
    const entry = this.entries.get(id);
    if (!entry) return;
    const hello: Hello = {
      version: 1,
      session: id,
      key: "forged",
      ...(this.net.rng.chance(500) && { epoch: entry.session.epoch }),
      attachment: 1_000_000,
      transport: "sse",
      received: entry.session.receipt.received,
      window: this.config.window,
    };
    this.hello(0, 0, true, [["hello", hello]]);
  }
}

export type { Role };
