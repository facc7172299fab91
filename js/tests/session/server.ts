/**
 * The server's end of a session, for tests: what `src/session` of the Rust crate does, over the same two buffers as the
 * client's end.
 */

import type { CloseFrame, Frame, Hello, MessageFrame, MessageTag, Packed, Poll, TransportKind, Window } from "../../src/frame/frame.js";
import { close as makeClose, type Close, endsTransport } from "../../src/session/close.js";
import { createInbox } from "../../src/session/inbox.js";
import { createOutbox, type Held } from "../../src/session/outbox.js";

export interface ServerConfig {
  window: Window;
  outbox: Window;
  early: Window;
  requests: number;
  ackDelay: number;
  lightAckDelay: number;
  closeTimeout: number;
  heartbeat: number;
  resumeWindow: number;
  firstAttachWithin: number;
  candidateLifetime: number;
  maxHold: number;
}

export const serverDefaults: ServerConfig = {
  window: { messages: 256, bytes: 1 << 20 },
  outbox: { messages: 1024, bytes: 2 << 20 },
  early: { messages: 64, bytes: 64 << 10 },
  requests: 256,
  ackDelay: 50,
  lightAckDelay: 2_000,
  closeTimeout: 10_000,
  heartbeat: 20_000,
  resumeWindow: 120_000,
  firstAttachWithin: 10_000,
  candidateLifetime: 15_000,
  maxHold: 25_000,
};

export type ServerEvent =
  | { type: "attached"; attachment: number; transport: TransportKind; resumed: boolean }
  | { type: "detached"; attachment: number; why: string; said?: Close; close?: Close }
  | { type: "message"; frame: MessageFrame }
  | { type: "reply"; request: Held; succeeded: boolean; body: unknown }
  | { type: "auth" }
  | { type: "ended"; close: Close; by: "local" | "peer" | "timeout"; undelivered: readonly Held[] };

interface Bound {
  attachment: number;
  transport: TransportKind;
  introduced: boolean;
  until: number;
  heard: number;
  pingAt: number;
  ping: number;
  pingDue: boolean;
  ponged: number;
  pongDue: Frame | undefined;
  welcomeDue: boolean | undefined;
  ackDue: boolean;
  closingSaid?: boolean;
  closeSaid: boolean;
  pollOpen: boolean;
  pollAt: number;
}

export const superseded = (winner: number): Close => makeClose("superseded", "a newer attachment carries the session", { attachment: winner });

export class ServerSession {
  readonly events: ServerEvent[] = [];
  private bound: Bound[] = [];
  private current = 0;
  private readonly outbox;
  private readonly inbox;
  private readonly requests = new Map<number, Held>();
  private openRequests = 0;
  private phase: "open" | "closing" | "ended" = "open";
  private closing: Close | undefined;
  private closingUntil = Infinity;
  private refused = false;
  private peerCloses = false;
  /** What was told may have been lost: it is said again in company. */
  private doubt = false;
  private wasAttached = false;
  private resumed = false;
  private waitingSince: number;
  private authOkDue: number | undefined;
  private authUntil = Infinity;
  private authExpired = false;

  constructor(
    readonly config: ServerConfig,
    readonly id: string,
    readonly epoch: string,
    private now: number,
  ) {
    const { window, early } = config;
    this.outbox = createOutbox(early);
    this.inbox = createInbox(window, {
      messages: Math.max(window.messages, early.messages),
      bytes: Math.max(window.bytes, early.bytes),
    });
    this.waitingSince = now;
  }

  get attachment(): number {
    return this.carrier()?.attachment ?? 0;
  }
  get isOpen(): boolean {
    return this.phase === "open";
  }
  get isEnded(): boolean {
    return this.phase === "ended";
  }
  get end(): Close | undefined {
    return this.isEnded ? this.closing : undefined;
  }
  get acked(): number {
    return this.outbox.acked_();
  }
  get held(): Window {
    return this.outbox.held_();
  }
  get receipt(): { received: number; taken: number } {
    return { received: this.inbox.received_(), taken: this.inbox.taken_() };
  }

  private tick(now: number): void {
    this.now = Math.max(this.now, now);
  }
  private find(attachment: number): Bound | undefined {
    return this.bound.find((bound) => bound.attachment === attachment);
  }
  private carrier(): Bound | undefined {
    let highest: Bound | undefined;
    for (const bound of this.bound) {
      if (!bound.introduced && !(highest && highest.attachment > bound.attachment)) highest = bound;
    }
    return highest;
  }

  private detach(attachment: number, why: string, close?: Close, said?: Close): void {
    const bound = this.find(attachment);
    if (!bound) return;
    const carried = this.carrier() === bound;
    this.bound = this.bound.filter((other) => other !== bound);
    if (this.isEnded) return;
    this.events.push({ type: "detached", attachment, why, ...(close && { close }), ...(said && { said }) });
    if (carried) this.waitingSince = this.now;
  }
  private fence(winner: number): void {
    for (const { attachment } of this.bound.filter((bound) => bound.attachment < winner)) {
      this.detach(attachment, "superseded", superseded(winner));
    }
  }
  private finish(close: Close, by: "local" | "peer" | "timeout"): void {
    if (this.isEnded) return;
    this.closing = this.seal(close);
    this.phase = "ended";
    this.requests.clear();
    for (const bound of this.bound) bound.closeSaid = false;
    this.events.push({ type: "ended", close: this.closing, by, undelivered: this.outbox.drain_() });
  }
  private fail(reason: string): void {
    this.finish(makeClose("protocol_error", reason), "local");
  }

  send(tag: MessageTag, re: number, body: Packed, size: number): Held | string {
    if (this.phase !== "open") return "closed";
    if (re > this.inbox.received_()) return "never_asked";
    if (!this.outbox.fits_(size, this.config.outbox)) return "full";
    if (tag === "req" && this.openRequests++ >= this.config.requests) {
      this.openRequests--;
      return "too_many_requests";
    }
    const held: Held = [tag, 0, re, body, size];
    this.outbox.push_(held);
    return held;
  }
  close(now: number, close: Close): void {
    this.tick(now);
    if (this.phase !== "open") return;
    this.phase = "closing";
    this.closing = close;
    this.closingUntil = this.now + this.config.closeTimeout;
  }
  abort(now: number, close: Close): void {
    this.tick(now);
    this.finish(close, "local");
  }
  take(now: number, count: number): void {
    this.tick(now);
    this.inbox.take_(count);
    this.inbox.arm_(this.now, this.config.ackDelay, this.config.lightAckDelay);
  }
  pushAnswer(attachment: number): Frame {
    if (this.attachment === attachment) {
      this.inbox.tell_(false);
      this.inbox.arm_(this.now, this.config.ackDelay, this.config.lightAckDelay);
    }
    return this.ackFrame();
  }
  private ackFrame(): Frame {
    const { received, taken } = this.receipt;
    return received === taken ? ["ack", received] : ["ack", received, taken];
  }

  private refusal(epoch?: string): Close | undefined {
    if (epoch !== undefined && epoch !== this.epoch) return makeClose("unknown_session", "no such session");
    return this.end;
  }
  expiry(): Close | undefined {
    return this.authExpired ? makeClose("auth_expired", "the token has run out") : undefined;
  }
  grant(now: number, expires: number): void {
    this.tick(now);
    this.authUntil = expires > 0 ? this.now + expires : Infinity;
    this.authExpired = false;
  }
  acceptAuth(now: number, expires: number): void {
    this.authOkDue = expires;
    this.grant(now, expires);
  }

  /** Undefined: it is bound. */
  hello(now: number, hello: Hello): Close | undefined {
    this.tick(now);
    const refusal = this.refusal(hello.epoch);
    if (refusal) return refusal;
    const number = hello.attachment;
    if (number < this.current) return superseded(this.current);
    if (!this.outbox.acknowledge_(hello.received, hello.taken ?? hello.received)) {
      this.fail("a hello that acknowledges what was never sent");
      return this.end;
    }
    this.outbox.window_(hello.window);
    if (hello.candidate && this.current !== number) this.introduce(number, hello.transport);
    else this.attach(number, hello.transport);
    const resumed = this.current === number ? this.resumed : this.wasAttached;
    this.wasAttached ||= this.current > 0;
    const bound = this.find(number)!;
    bound.welcomeDue = resumed;
    bound.pollOpen = bound.transport === "long-polling";
    return undefined;
  }

  poll(now: number, poll: Poll): Close | undefined {
    this.tick(now);
    const refusal = this.refusal(poll.epoch) ?? this.expiry();
    if (refusal) return refusal;
    const number = poll.attachment;
    const known = this.find(number);
    if (number < this.current) return superseded(this.current);
    if (known && known.transport !== "long-polling") return makeClose("not_acceptable", "this attachment does not poll");
    if (!known && number !== this.current) return makeClose("moved", "say hello again");
    if (!this.outbox.acknowledge_(poll.received, poll.taken ?? poll.received)) {
      this.fail("a poll that acknowledges what was never sent");
      return this.end;
    }
    const attaches = !known || known.introduced;
    if (attaches) {
      this.attach(number, "long-polling");
      this.wasAttached = true;
    }
    this.outbox.rewind_();
    this.doubt = this.inbox.received_() > 0;
    const hold = Math.min(poll.hold_ms, this.config.maxHold);
    const bound = this.find(number)!;
    bound.heard = this.now;
    bound.pollOpen = true;
    bound.ackDue = attaches || hold === 0;
    bound.pollAt = this.now + hold;
    bound.closeSaid = false;
    return undefined;
  }

  private make(attachment: number, transport: TransportKind, introduced: boolean): Bound {
    return {
      attachment,
      transport,
      introduced,
      until: Infinity,
      heard: this.now,
      pingAt: Infinity,
      ping: 0,
      pingDue: false,
      ponged: 0,
      pongDue: undefined,
      welcomeDue: undefined,
      ackDue: false,
      closeSaid: false,
      pollOpen: false,
      pollAt: Infinity,
    };
  }
  private attach(attachment: number, transport: TransportKind): void {
    if (this.current !== attachment) this.resumed = this.wasAttached;
    this.current = attachment;
    this.fence(attachment);
    this.outbox.rewind_();
    const old = this.find(attachment);
    this.bound = this.bound.filter((bound) => bound !== old);
    const bound = this.make(attachment, transport, false);
    if (transport !== "long-polling") bound.pingAt = this.now + this.config.heartbeat;
    bound.ping = old?.ping ?? 0;
    bound.ponged = old?.ponged ?? 0;
    this.bound.push(bound);
    this.waitingSince = Infinity;
    this.events.push({ type: "attached", attachment, transport, resumed: this.wasAttached });
  }
  private introduce(attachment: number, transport: TransportKind): void {
    this.bound = this.bound.filter((bound) => bound.attachment !== attachment);
    const candidates = this.bound.filter((bound) => bound.introduced).map((bound) => bound.attachment);
    if (candidates.length >= 2) this.detach(Math.min(...candidates), "superseded", superseded(attachment));
    const bound = this.make(attachment, transport, true);
    bound.until = this.now + this.config.candidateLifetime;
    this.bound.push(bound);
  }

  frame(now: number, attachment: number, push: boolean, frame: Frame): void {
    this.tick(now);
    const bound = this.find(attachment);
    if (this.isEnded) {
      if (frame[0] === "close" && bound) bound.closeSaid = true;
      return;
    }
    if (bound) {
      const answers = frame[0] === "pong" && frame[1] === bound.ping && bound.ping > bound.ponged;
      if (answers) bound.ponged = bound.ping;
      if (answers || bound.transport === "websocket") bound.heard = this.now;
    }
    switch (frame[0]) {
      case "msg":
      case "req":
      case "res":
      case "err":
        this.message(attachment, push, frame);
        break;
      case "ack":
        if (!this.outbox.acknowledge_(frame[1], frame[2] ?? frame[1])) this.fail("a receipt for what was never sent");
        break;
      case "close":
        this.handleClose(attachment, frame);
        break;
      case "ping":
        if (bound) bound.pongDue = frame[1] === undefined ? ["pong"] : ["pong", frame[1]];
        if (bound && this.carrier() === bound) this.inbox.ask_();
        break;
      case "pong":
        break;
      case "closing":
        if (bound) this.peerCloses = true;
        break;
      case "attach":
        if (!bound) break;
        if (!this.outbox.acknowledge_(frame[1].received, frame[1].taken ?? frame[1].received)) {
          this.fail("an attach that acknowledges what was never sent");
          break;
        }
        if (bound.introduced) {
          this.attach(attachment, bound.transport);
          this.wasAttached = true;
        }
        this.find(attachment)!.ackDue = true;
        break;
      case "auth":
        if (bound) this.events.push({ type: "auth" });
        break;
      default:
        if (bound) this.fail(`a frame out of its place: ${frame[0]}`);
    }
    this.inbox.arm_(this.now, this.config.ackDelay, this.config.lightAckDelay);
  }

  private message(attachment: number, push: boolean, frame: MessageFrame): void {
    const [tag, seq, re, body, size] = frame;
    if (this.phase === "closing") {
      this.refused ||= seq > this.inbox.received_();
      return;
    }
    const arrival = this.inbox.accept_(seq, size, re > 0);
    if (arrival === "flood") this.fail("messages beyond the window");
    if (arrival === "gap" && !push) this.detach(attachment, "gap");
    if (arrival !== "next") return;
    if (!re) this.events.push({ type: "message", frame });
    else if (re > this.outbox.sent_()) this.fail("an answer to what was never asked");
    else {
      const request = this.requests.get(re);
      if (request && this.requests.delete(re)) {
        this.openRequests--;
        this.events.push({ type: "reply", request, succeeded: tag === "res", body });
      }
    }
  }

  private handleClose(attachment: number, [, code, reason = "", detail = {}]: CloseFrame): void {
    const close = makeClose(code, reason, detail);
    if (endsTransport(code)) return this.detach(attachment, "closed", undefined, close);
    if (detail.received != null && !this.outbox.acknowledge_(detail.received, 0)) {
      return this.fail("a close that acknowledges what was never sent");
    }
    if (this.phase === "closing") {
      const said = this.bound.map((bound) => bound.closeSaid);
      this.finish(this.closing!, "local");
      this.bound.forEach((bound, at) => (bound.closeSaid = said[at]!));
    } else this.finish(close, "peer");
  }

  /** The transport has ended; on long-polling that is one answer. */
  ended(now: number, attachment: number): void {
    this.tick(now);
    const bound = this.find(attachment);
    if (bound?.transport === "long-polling") {
      if (bound.pollOpen) {
        bound.pollOpen = false;
        bound.pollAt = Infinity;
        bound.heard = this.now;
      }
    } else this.detach(attachment, "ended");
  }

  transmit(attachment: number): Frame | undefined {
    const bound = this.find(attachment);
    if (!bound || (bound.transport === "long-polling" && !bound.pollOpen)) return undefined;
    if (this.isEnded) {
      const due = !bound.closeSaid;
      bound.closeSaid = true;
      return due ? this.closeFrame() : undefined;
    }
    if (bound.welcomeDue !== undefined) {
      const resumed = bound.welcomeDue;
      bound.welcomeDue = undefined;
      if (this.carrier() === bound) {
        this.inbox.tell_();
        this.doubt = false;
      }
      const { received, taken } = this.receipt;
      return [
        "welcome",
        {
          session: this.id,
          epoch: this.epoch,
          attachment,
          received,
          ...(taken !== received && { taken }),
          resumed,
          window: this.config.window,
          heartbeat_ms: this.config.heartbeat,
          resume_window_ms: this.config.resumeWindow,
          max_message_bytes: 512 << 10,
          max_batch_bytes: 960 << 10,
          transports: ["websocket", "sse", "long-polling"],
          ...(this.authUntil < Infinity && { auth_expires_ms: Math.max(0, this.authUntil - this.now) }),
        },
      ];
    }
    if (bound.pingDue) {
      bound.pingDue = false;
      return ["ping", bound.ping];
    }
    if (bound.pongDue) {
      const pong = bound.pongDue;
      bound.pongDue = undefined;
      return pong;
    }
    if (!bound.introduced && this.authOkDue !== undefined) {
      const expires = this.authOkDue;
      this.authOkDue = undefined;
      return ["auth_ok", expires];
    }
    if (this.carrier() !== bound) return undefined;
    if (!bound.ackDue && !this.peerCloses && this.outbox.hasNext_()) {
      if (this.inbox.isUntold_() || this.doubt) return this.tell();
      const [held, fresh] = this.outbox.next_();
      if (fresh && held[0] === "req") this.requests.set(held[1], held);
      return held;
    }
    if (bound.ackDue || this.inbox.isOwed_()) {
      bound.ackDue = false;
      return this.tell();
    }
    const last = this.goodbye(bound);
    if (last || bound.transport === "long-polling") return last;
    return this.outbox.ask_(this.phase === "closing", this.config.outbox) ? ["ping", ++bound.ping] : undefined;
  }
  private goodbye(bound: Bound): Frame | undefined {
    if (this.phase !== "closing" || bound.closeSaid) return undefined;
    if (!this.outbox.held_().messages || this.peerCloses || (this.refused && this.outbox.isHandedOver_())) {
      bound.closeSaid = true;
      return this.closeFrame();
    }
    if (bound.closingSaid || this.outbox.isHandedOver_() || this.outbox.hasNext_()) return undefined;
    bound.closingSaid = true;
    return ["closing"];
  }
  private tell(): Frame {
    this.inbox.tell_();
    this.doubt = false;
    return this.ackFrame();
  }
  private seal([, code, reason, detail]: Close): Close {
    return ["close", code, reason, { ...detail, received: this.inbox.received_() }];
  }
  private closeFrame(): Frame {
    return this.seal(this.closing!);
  }

  private silentAt(bound: Bound): number {
    if (bound.introduced || (bound.transport === "long-polling" && bound.pollOpen)) return Infinity;
    return bound.heard + this.config.heartbeat * 1.5;
  }
  private abandonedAt(): number {
    return this.waitingSince + (this.wasAttached ? this.config.resumeWindow : this.config.firstAttachWithin);
  }
  due(): number {
    if (this.isEnded) return Infinity;
    let due = Math.min(this.closingUntil, this.inbox.due_(), this.abandonedAt(), this.authUntil);
    for (const bound of this.bound) due = Math.min(due, bound.until, bound.pingAt, bound.pollAt, this.silentAt(bound));
    return due;
  }
  timeout(now: number): void {
    this.tick(now);
    if (this.isEnded) return;
    this.inbox.timeout_(this.now);
    const lost: [number, string][] = [];
    for (const bound of this.bound) {
      if (bound.until <= this.now) lost.push([bound.attachment, "unproved"]);
      else if (this.silentAt(bound) <= this.now) lost.push([bound.attachment, "silent"]);
      else {
        if (bound.pingAt <= this.now) {
          bound.pingAt = this.now + this.config.heartbeat;
          bound.ping++;
          bound.pingDue = true;
        }
        if (bound.pollAt <= this.now) {
          bound.pollAt = Infinity;
          bound.ackDue = true;
        }
      }
    }
    for (const [attachment, why] of lost) this.detach(attachment, why);
    if (this.authUntil <= this.now) {
      this.authUntil = Infinity;
      this.authExpired = true;
      for (const { attachment } of [...this.bound]) this.detach(attachment, "closed", this.expiry()!, this.expiry()!);
    }
    if (this.abandonedAt() <= this.now) {
      this.finish(makeClose("timed_out", "the client did not come back in time"), "timeout");
    }
    if (this.closingUntil <= this.now) this.finish(this.closing!, "timeout");
  }
}
