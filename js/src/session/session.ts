/**
 * The client's end of a session as a state machine without I/O: what may be said when, and what happens when not.
 *
 * It owns every rule of the protocol that outlives a frame: numbers, receipts, windows, replay, attachments and
 * candidates, liveness, closing. It reads no clock, no random source and no environment: time comes in as `now`, in
 * milliseconds that never go back. It implements `docs/PROTOCOL.md`, "Sessions".
 *
 * 1. Numbers count 1, 2, 3, … per direction and are never used again, however often transports change.
 * 2. What `send_` accepts is acknowledged, still held, or reported with the event `ended`.
 * 3. Messages are delivered in order and once.
 * 4. Any order of calls is legal. What is not drained waits.
 * 5. After `timeout_(now)`, `due_()` is later than `now`.
 */

import {
  type CloseDetail,
  type CloseFrame,
  type Frame,
  isMessage,
  limits,
  type MessageFrame,
  type MessageTag,
  type Move,
  type Packed,
  type TransportKind,
  type Welcome,
} from "../frame/frame.js";
import { ATTACHED, ATTACHING, bind, type Binding, GREETING, INTRODUCED } from "./binding.js";
import { close as makeClose, type Close, endsTransport } from "./close.js";
import type { Config } from "./config.js";
import { createInbox } from "./inbox.js";
import { createOutbox, type Held } from "./outbox.js";

/** Who ended a session: this end, the peer, or time. */
export type EndedBy = "local" | "peer" | "timeout";

/** Why a transport was given up. With `closed` there is a close. */
export type Why =
  | "ended"
  | "superseded"
  | "gap"
  | "silent"
  | "no welcome"
  | "unproved"
  | "uplink lost"
  | "malformed"
  | "closed";

export type SessionEvent =
  | readonly [type: "attached", attachment: number, transport: TransportKind, resumed: boolean]
  | readonly [type: "detached", attachment: number, why: Why, close?: Close]
  | readonly [type: "message", frame: MessageFrame]
  | readonly [type: "reply", request: Held, succeeded: boolean, body: unknown]
  | readonly [type: "auth", expiresMs: number]
  | readonly [type: "move", move: Move]
  | readonly [type: "ended", close: Close, by: EndedBy, undelivered: readonly Held[]];

/** Why a message was not accepted. */
export type Refused = "closed" | "full" | "too_large" | "too_many_requests" | "never_asked";

export type Session = ReturnType<typeof createSession>;

const OPEN = 0;
/** What was accepted is still delivered, then the close is said, until answered. */
const CLOSING = 1;
const ENDED = 2;

/** One that carries, one that takes over, two candidates. */
const MAX_BINDINGS = 4;
const MAX_PUSH_RETRY = 5_000;
const MAX_UNANSWERED_PUSHES = 3;
/** After a poll that was answered early and empty: somebody else may be polling. */
const EMPTY_POLL_PAUSE = 500;

const byNumber = (a: Binding, b: Binding) => a.attachment_ - b.attachment_;

export const createSession = (config: Config, id: string, key: string, clock: number) => {
  let now = clock;
  let epoch: string | undefined;
  let bindings: Binding[] = [];
  /** The highest attachment that was attached or tried to be, and the highest ever used. */
  let current = 0;
  let highest = 0;
  const outbox = createOutbox(config.early_);
  const inbox = createInbox(config.window_);
  /** Requests that were numbered, and how many were accepted, that have no answer. */
  const requests = new Map<number, Held>();
  let openRequests = 0;
  let phase = OPEN;
  let closing: Close | undefined;
  let closingUntil = Infinity;
  /** A message was not taken any more: if the peer closes too, it waits for a receipt in vain. */
  let refused = false;
  /** Since when a `hello` with messages is unanswered. */
  let waitingSince = Infinity;
  let heartbeat = 20_000;
  let maxMessage = limits.message_;
  let maxBatch = limits.batch_;
  let offered: readonly TransportKind[] = [];
  let auth: unknown;
  let authDue = false;
  let authSaid = false;
  const events: SessionEvent[] = [];

  const tick = (time: number) => (now = Math.max(now, time));
  const binding = (attachment: number) => bindings.find((bound) => bound.attachment_ === attachment);
  /** The binding that carries messages: also one whose `hello` attaches and is not answered yet. */
  const carrier = () =>
    bindings
      .filter(({ stage_, candidate_ }) => stage_ === ATTACHED || (stage_ === GREETING && !candidate_))
      .sort(byNumber)
      .pop();
  const isMoving = () => bindings.some(({ stage_ }) => stage_ === ATTACHING);

  const detach = (attachment: number, why: Why, close?: Close) => {
    const bound = binding(attachment);
    if (!bound) return;
    bindings = bindings.filter((other) => other !== bound);
    if (phase === ENDED) return;
    events.push(close ? ["detached", attachment, why, close] : ["detached", attachment, why]);
    // When no path carries, the best welcomed candidate attaches without waiting for its proof.
    if (!isMoving() && !carrier()) {
      const best = bindings.filter(({ stage_ }) => stage_ === INTRODUCED).sort(byNumber).pop();
      if (best) sayAttach(best);
    }
  };

  /** Gives all attachments below one up. */
  const fence = (winner: number) => {
    let lower;
    while ((lower = bindings.find(({ attachment_ }) => attachment_ < winner))) detach(lower.attachment_, "superseded");
  };

  const finish = (close: Close, by: EndedBy) => {
    if (phase === ENDED) return;
    closing = { ...close, detail: { ...close.detail, received: inbox.received_() } };
    phase = ENDED;
    requests.clear();
    for (const bound of bindings) bound.closeSaid_ = false;
    events.push(["ended", closing, by, outbox.drain_()]);
  };

  const fail = (reason: string) => finish(makeClose("protocol_error", reason), "local");

  const sayAttach = (bound: Binding) => {
    if (current > bound.attachment_) return detach(bound.attachment_, "superseded");
    current = bound.attachment_;
    bound.stage_ = ATTACHING;
    // A candidate's silence is not counted before.
    bound.heard_ = now;
    bound.until_ = now + config.attachWithin_;
    // On long-polling the first poll says it.
    bound.attachDue_ = bound.transport_ !== "long-polling";
  };

  const patience = () => heartbeat * 1.5;
  const silentAt = ({ stage_, heard_ }: Binding) => (stage_ < ATTACHING ? Infinity : heard_ + patience());

  /** Gives up waiting for an answer, if that was long enough. */
  const abandonIfDue = () => {
    if (waitingSince + config.unansweredWithin_ <= now) {
      finish(makeClose("unknown_session", "no server answered what was sent behind hello"), "timeout");
    }
  };

  // What frames of the server mean.

  /** Notes what a frame proves about the path it came by. False: it came where none may. */
  const noteHeard = (bound: Binding, push: boolean, frame: Frame): boolean => {
    const [tag] = frame;
    if (bound.stage_ === GREETING && !push && tag !== "welcome" && tag !== "close") {
      detach(bound.attachment_, "malformed");
      return false;
    }
    if (!push || bound.transport_ === "websocket") bound.heard_ = now;
    // A receipt that opens the window is as good as a message: what waits for it goes at once.
    if (!push && (frame[0] !== "ack" || outbox.isNews_(frame[1], frame[2] ?? frame[1]))) bound.fruitful_ = true;
    return true;
  };

  const handleMessage = (bound: Binding, push: boolean, frame: MessageFrame) => {
    const [tag, seq, re, body, size] = frame;
    if (phase === CLOSING) {
      // The closer takes no more: its close says what it received.
      refused ||= seq > inbox.received_();
      return;
    }
    const arrival = inbox.accept_(seq, size, re > 0);
    if (arrival === "flood") fail("messages beyond the window");
    if (arrival === "gap" && !push) detach(bound.attachment_, "gap");
    if (arrival !== "next") return;
    if (!re) events.push(["message", frame]);
    else if (re > outbox.sent_()) fail("an answer to what was never asked");
    else {
      const request = requests.get(re);
      // A second answer finds nobody who waits.
      if (request && requests.delete(re)) {
        openRequests--;
        events.push(["reply", request, tag === "res", body]);
      }
    }
  };

  const handleClose = (bound: Binding, [, code, reason = "", detail = {}]: CloseFrame) => {
    const close = makeClose(code, reason, detail);
    if (endsTransport(code)) {
      if (code === "superseded" && (detail.attachment ?? 0) > highest) {
        // Somebody else holds the same session: coming back would only take it from them, and so would a close.
        finish(close, "peer");
        for (const other of bindings) other.closeSaid_ = true;
        return;
      }
      return detach(bound.attachment_, "closed", close);
    }
    // It counts only where the session is: a refused candidate is only that; and a `hello` may have been refused for
    // its transport only.
    if (carrier() !== bound || (bound.stage_ === GREETING && code === "not_acceptable")) {
      return detach(bound.attachment_, "closed", close);
    }
    if (detail.received != null && !outbox.acknowledge_(detail.received, 0)) {
      return fail("a close that acknowledges what was never sent");
    }
    if (phase === CLOSING) {
      // The answer to our own, or one that crossed it. Where ours was said, that is our answer.
      const said = bindings.map(({ closeSaid_ }) => closeSaid_);
      finish(closing!, "local");
      bindings.forEach((other, at) => (other.closeSaid_ = said[at]!));
    } else finish(close, "peer");
  };

  const handleWelcome = (bound: Binding, welcome: Welcome) => {
    if (bound.stage_ !== GREETING) return;
    const attachment = bound.attachment_;
    if (welcome.session !== id || welcome.attachment !== attachment) return detach(attachment, "malformed");
    if (epoch && epoch !== welcome.epoch) {
      // Another life of the session: what this one had is not there.
      return finish(makeClose("unknown_session", "the server has forgotten the session"), "peer");
    }
    if (!outbox.acknowledge_(welcome.received, welcome.taken ?? welcome.received)) {
      return fail("a welcome that acknowledges what was never sent");
    }
    outbox.window_(welcome.window);
    inbox.maxMessage_((maxMessage = welcome.max_message_bytes));
    maxBatch = Math.min(limits.batch_, welcome.max_batch_bytes);
    epoch = welcome.epoch;
    offered = welcome.transports;
    if (welcome.auth_expires_ms != null) events.push(["auth", welcome.auth_expires_ms]);
    heartbeat = Math.min(Math.max(welcome.heartbeat_ms, 1), 86_400_000);
    waitingSince = Infinity;
    // The path is to be proved, and attached if that is still to be said.
    const isAlone = !carrier();
    bound.heard_ = now;
    if ((bound.proved_ = bound.transport_ === "websocket")) bound.until_ = Infinity;
    else {
      bound.until_ = now + config.proveWithin_;
      if (bound.transport_ === "sse") {
        bound.ping_ = attachment;
        bound.pingDue_ = true;
      }
    }
    if (!bound.candidate_) {
      bound.stage_ = ATTACHED;
      events.push(["attached", attachment, bound.transport_, welcome.resumed]);
    } else {
      bound.stage_ = INTRODUCED;
      if (isAlone || bound.transport_ !== "sse") sayAttach(bound);
    }
  };

  const handlePong = (bound: Binding, number: number | undefined) => {
    if (bound.proved_ || number !== bound.ping_) return;
    bound.proved_ = true;
    if (bound.stage_ === INTRODUCED) sayAttach(bound);
    else if (bound.stage_ === ATTACHED) bound.until_ = Infinity;
  };

  /** The server has answered `attach`: from here on this one carries. */
  const completeAttach = (bound: Binding) => {
    // A poll that was answered has proved itself; a stream may have been attached in need.
    bound.proved_ ||= bound.transport_ === "long-polling";
    bound.stage_ = ATTACHED;
    bound.candidate_ = false;
    bound.until_ = bound.proved_ ? Infinity : now + config.proveWithin_;
    fence(bound.attachment_);
    outbox.rewind_();
    // What the old path may have lost since `attach` was said.
    inbox.forget_();
    authDue ||= authSaid;
    events.push(["attached", bound.attachment_, bound.transport_, true]);
  };

  // What goes out.

  const receipt = () => {
    const received = inbox.received_();
    const taken = inbox.taken_();
    return taken === received ? { received } : { received, taken };
  };
  /** Only on the attachment that carries a receipt counts as told: what a candidate loses nobody repeats. */
  const tellOn = (bound: Binding) => {
    if (carrier() === bound) inbox.tell_();
    return receipt();
  };
  const ack = (): Frame => {
    inbox.tell_();
    const { received, taken } = receipt();
    return taken == null ? ["ack", received] : ["ack", received, taken];
  };

  const hello = (bound: Binding): Frame => {
    // It bears the latest token.
    if (!bound.candidate_) authDue = authSaid = false;
    return [
      "hello",
      {
        version: 1,
        session: id,
        key,
        ...(epoch && { epoch }),
        attachment: bound.attachment_,
        transport: bound.transport_,
        ...tellOn(bound),
        window: config.window_,
        ...(bound.candidate_ && { candidate: true }),
        ...(auth !== undefined && { auth }),
      },
    ];
  };

  const pushOf = (attachment: number) => ({ session: id, key, epoch: epoch!, attachment });

  /** The `poll` of an attachment that has none open. */
  const poll = (attachment: number): Frame | undefined => {
    const bound = binding(attachment);
    if (
      !bound ||
      bound.transport_ !== "long-polling" ||
      bound.stage_ === GREETING ||
      bound.pollOpen_ ||
      bound.pollAt_ < Infinity ||
      phase === ENDED
    ) {
      return undefined;
    }
    bound.pollOpen_ = true;
    bound.polled_ = now;
    // A poll that must prove something is not held; none is held beyond the heartbeat.
    const hold_ms = bound.proved_ ? Math.min(config.hold_, heartbeat) : 0;
    return ["poll", { ...pushOf(attachment), ...tellOn(bound), hold_ms }];
  };

  const control = (bound: Binding): Frame | undefined => {
    if (bound.helloDue_) {
      bound.helloDue_ = false;
      return hello(bound);
    }
    if (bound.stage_ === GREETING) return undefined;
    if (bound.attachDue_) {
      bound.attachDue_ = false;
      return ["attach", receipt()];
    }
    if (bound.pingDue_) {
      bound.pingDue_ = false;
      return ["ping", bound.ping_];
    }
    if (bound.pongDue_) {
      bound.pongSaid_ = bound.pongDue_;
      bound.pongDue_ = undefined;
      return bound.pongSaid_;
    }
    if (bound.stage_ === ATTACHED && authDue) {
      authDue = false;
      authSaid = true;
      return ["auth", auth];
    }
    return undefined;
  };

  const closeFrame = (): Frame => {
    const { code, reason, detail } = closing!;
    return ["close", code, reason, { ...detail, received: inbox.received_() }];
  };

  const transmit = (attachment: number): Frame | undefined => {
    const bound = binding(attachment);
    if (!bound) return undefined;
    if (phase === ENDED) {
      // Once on each transport; before `welcome` the server was told nothing that must be ended.
      const due = !bound.closeSaid_ && bound.stage_ !== GREETING;
      bound.closeSaid_ = true;
      return due ? closeFrame() : undefined;
    }
    const first = control(bound);
    if (first) return first;
    // While `attach` waits for its answer the server may have fenced the old path already.
    if (carrier() !== bound || (bindings.length > 1 && isMoving())) return undefined;
    const welcomed = bound.stage_ !== GREETING;
    if (bound.retryAt_ === Infinity && outbox.hasNext_(welcomed || !epoch || !config.cautious_)) {
      if (welcomed && inbox.isUntold_()) return ack();
      if (!epoch) waitingSince = Math.min(waitingSince, now);
      const [frame, held] = outbox.next_();
      if (held?.tag_ === "req") requests.set(held.seq_, held);
      return frame;
    }
    if (welcomed && inbox.isOwed_()) return ack();
    // Two ends that close at once take nothing more from each other and would wait in vain for receipts: who has seen
    // that says its close right behind its messages, and the answer says what came through.
    const through = !outbox.held_().messages || (refused && outbox.isHandedOver_());
    if (phase === CLOSING && !bound.closeSaid_ && welcomed && through) {
      bound.closeSaid_ = true;
      return closeFrame();
    }
    return undefined;
  };

  return {
    id_: id,
    /** Whether a server has ever welcomed it. */
    isKnown_: () => epoch !== undefined,
    /** The attachment that carries messages now, or 0. */
    attachment_: () => carrier()?.attachment_ ?? 0,
    isMoving_: isMoving,
    isOpen_: () => phase === OPEN,
    isEnded_: () => phase === ENDED,
    /** The highest own message that the peer has acknowledged. */
    acked_: outbox.acked_,
    /** How many messages are held, and their bytes: accepted, not acknowledged. */
    held_: outbox.held_,
    receipt_: () => ({ received: inbox.received_(), taken: inbox.taken_() }),
    /** What the server takes at most, and which transports it offers, best first. */
    maxMessage_: () => maxMessage,
    maxBatch_: () => maxBatch,
    offered_: () => offered,
    /** What a push begins with; only after `welcome`. */
    push_: pushOf,

    /** Accepts a message: from here on it is delivered once and in order, or reported. */
    send_(tag: MessageTag, re: number, body: Packed, size: number): Held | Refused {
      if (phase !== OPEN) return "closed";
      // The request of a session before, say: the peer would end this one for it.
      if (re > inbox.received_()) return "never_asked";
      if (size > maxMessage) return "too_large";
      if (!outbox.fits_(size, config.outbox_)) return "full";
      if (tag === "req" && openRequests++ >= config.requests_) {
        openRequests--;
        return "too_many_requests";
      }
      const held: Held = { seq_: 0, tag_: tag, re_: re, body_: body, size_: size };
      outbox.push_(held);
      return held;
    },

    /** Ends the session in order: what was accepted is delivered first. */
    close_(time: number, close: Close) {
      tick(time);
      if (phase !== OPEN) return;
      if (!epoch && !bindings.length) return finish(close, "local");
      phase = CLOSING;
      closing = close;
      closingUntil = now + config.closeTimeout_;
    },
    /** Ends the session at once: what is not acknowledged is reported. */
    abort_(time: number, close: Close) {
      tick(time);
      finish(close, "local");
    },

    /** Counts messages as taken by the application, in the order of their events. */
    take_(time: number, count: number) {
      tick(time);
      inbox.take_(count);
      inbox.arm_(now, config.ackDelay_);
    },

    /** Binds a new transport: `hello` is the first frame for it. 0 when the session is over. */
    introduce_(time: number, transport: TransportKind, candidate: boolean, token: unknown): number {
      tick(time);
      // After a sleep this may come before the timer: an id that the server may have forgotten is not used again.
      abandonIfDue();
      if (phase === ENDED) return 0;
      const attachment = ++highest;
      auth = token ?? auth;
      if (!candidate) {
        current = attachment;
        fence(attachment);
        outbox.rewind_();
      }
      if (bindings.length >= MAX_BINDINGS) {
        const oldest = bindings.filter((bound) => bound.candidate_ && bound.stage_ !== ATTACHING).sort(byNumber)[0];
        if (oldest) detach(oldest.attachment_, "superseded");
      }
      bindings.push(bind(attachment, transport, candidate, now, now + config.welcomeWithin_));
      return attachment;
    },

    /** Sends a fresh token: now if something carries the session, and in every later `hello`. */
    refreshAuth_(token: unknown) {
      auth = token;
      authDue = epoch !== undefined;
      authSaid = false;
    },

    /** Asks whether the path that carries still does, now: after a sleep, or when the network has changed. */
    probe_(time: number) {
      tick(time);
      const bound = carrier();
      if (!bound?.proved_ || phase === ENDED) return;
      bound.proved_ = false;
      bound.probed_ = true;
      bound.until_ = now + config.proveWithin_;
      if (bound.transport_ === "long-polling") {
        // A newer poll takes the place of the one that may hang.
        bound.pollOpen_ = false;
        bound.pollAt_ = Infinity;
      } else {
        bound.ping_ = Math.max(bound.ping_, bound.attachment_) + 1;
        bound.pingDue_ = true;
      }
    },

    /** Takes a frame that a transport brought: on the path by which it is judged alive, or in the answer to a push. */
    frame_(time: number, attachment: number, push: boolean, frame: Frame) {
      tick(time);
      const bound = binding(attachment);
      if (!bound) return;
      if (phase === ENDED) {
        // Only the peer's own close matters: it needs no further answer.
        if (frame[0] === "close") bound.closeSaid_ = true;
        return;
      }
      if (!noteHeard(bound, push, frame)) return;
      if (isMessage(frame)) handleMessage(bound, push, frame);
      else {
        switch (frame[0]) {
          case "ack":
            if (!outbox.acknowledge_(frame[1], frame[2] ?? frame[1])) fail("a receipt for what was never sent");
            else if (!push && bound.stage_ === ATTACHING) completeAttach(bound);
            break;
          case "close":
            handleClose(bound, frame);
            break;
          case "ping":
            bound.pongDue_ = frame[1] === undefined ? ["pong"] : ["pong", frame[1]];
            break;
          case "pong":
            if (!push) handlePong(bound, frame[1]);
            break;
          case "welcome":
            handleWelcome(bound, frame[1]);
            break;
          case "auth_ok":
            authSaid = false;
            events.push(["auth", frame[1]]);
            break;
          case "move":
            events.push(["move", frame[1]]);
            break;
          default:
            fail("a frame out of its place");
        }
      }
      inbox.arm_(now, config.ackDelay_);
    },

    /** Notes that the push in flight has ended. What the server did not take is sent again: at once if it took
     * something, otherwise after a pause that grows. */
    pushEnded_(time: number, attachment: number, answered: boolean) {
      tick(time);
      const bound = binding(attachment);
      const repeats = carrier() === bound && outbox.isAdvanced_();
      if (!bound) return;
      if (answered) bound.unanswered_ = 0;
      else {
        bound.unanswered_++;
        // What else the push may have brought is said again.
        bound.closeSaid_ = false;
        bound.attachDue_ = bound.stage_ === ATTACHING && bound.transport_ === "sse";
        bound.pingDue_ = !bound.proved_ && bound.ping_ > 0;
        bound.pongDue_ ??= bound.pongSaid_;
      }
      if (bound.unanswered_ >= MAX_UNANSWERED_PUSHES) return detach(attachment, "uplink lost");
      const acked = outbox.acked_();
      if (acked > bound.pushAcked_ || !repeats) {
        bound.fruitless_ = 0;
        bound.retryAt_ = Infinity;
      } else {
        bound.retryAt_ = now + Math.min(config.pushRetry_ * 2 ** Math.min(bound.fruitless_++, 8), MAX_PUSH_RETRY);
      }
      bound.pushAcked_ = acked;
      if (repeats) outbox.rewind_();
      if (!answered) {
        inbox.forget_();
        authDue ||= authSaid;
      }
    },

    /** Notes that the open poll was answered and all its frames were handed over. */
    pollEnded_(time: number, attachment: number) {
      tick(time);
      const bound = binding(attachment);
      if (!bound?.pollOpen_) return;
      const hold = Math.min(config.hold_, heartbeat);
      const early = now - bound.polled_ < Math.max(hold / 2, EMPTY_POLL_PAUSE);
      if (early && bound.proved_ && !bound.fruitful_) bound.pollAt_ = now + EMPTY_POLL_PAUSE;
      bound.pollOpen_ = bound.fruitful_ = false;
      bound.heard_ = now;
      if (bound.stage_ === ATTACHED && !bound.proved_) {
        bound.proved_ = true;
        bound.until_ = Infinity;
      }
    },

    /** Notes that an attachment's transport has ended; or that it brought what is not of the protocol: a middlebox may
     * have answered. */
    detach_(time: number, attachment: number, why: "ended" | "malformed" = "ended") {
      tick(time);
      detach(attachment, why);
    },

    /** The `poll` that may go now: it need not wait for a push in flight. */
    poll_: poll,
    /** The next frame for an attachment's transport, if there is one to write now. */
    transmit_: transmit,
    /** For a page that goes: what the server may not have yet, and the close behind it. */
    *unsaid_(): Generator<Frame> {
      outbox.rewind_();
      while (outbox.hasNext_()) yield outbox.next_()[0];
    },
    farewell_: closeFrame,
    event_: () => events.shift(),

    /** When to call `timeout_` at the latest. */
    due_(): number {
      if (phase === ENDED) return Infinity;
      return Math.min(
        inbox.due_(),
        closingUntil,
        waitingSince + config.unansweredWithin_,
        ...bindings.flatMap((bound) => [bound.until_, bound.pollAt_, bound.retryAt_, silentAt(bound)]),
      );
    },
    /** Acts on what is due. */
    timeout_(time: number) {
      tick(time);
      if (phase === ENDED) return;
      inbox.timeout_(now);
      const lost: [number, Why][] = [];
      for (const bound of bindings) {
        const { attachment_, stage_ } = bound;
        if (bound.until_ <= now) {
          lost.push([attachment_, stage_ === GREETING ? "no welcome" : bound.probed_ ? "silent" : "unproved"]);
        } else if (silentAt(bound) <= now) lost.push([attachment_, "silent"]);
        if (bound.pollAt_ <= now) bound.pollAt_ = Infinity;
        if (bound.retryAt_ <= now) bound.retryAt_ = Infinity;
      }
      for (const [attachment, why] of lost) detach(attachment, why);
      abandonIfDue();
      if (closingUntil <= now) finish(closing!, "timeout");
    },
  };
};

export type { Close, CloseDetail };
