/**
 * The client's end of a session as a state machine without I/O: what may be said when, and what happens when not.
 *
 * It owns every rule of the protocol that outlives a frame: numbers, receipts, windows, replay, attachments and
 * candidates, liveness, closing. It reads no clock, no random source and no environment: time comes in by `tick_`, in
 * milliseconds, and never goes back. It implements `docs/PROTOCOL.md`, "Sessions"; what only requests and polls need is
 * in `http.ts`.
 *
 * 1. Numbers count 1, 2, 3, … per direction and are never used again, however often transports change.
 * 2. What `send_` accepts is acknowledged, still held, or reported with the event `ended`.
 * 3. Messages are delivered in order and once.
 * 4. Any order of calls is legal. What is not drained waits.
 * 5. After `timeout_()`, `due_()` is later than now.
 */

import {
  type CloseFrame,
  type Frame,
  isMessage,
  limits,
  type MessageFrame,
  type MessageTag,
  type Packed,
  type TransportKind,
  type Welcome,
} from "../frame/frame.js";
import { ATTACHED, ATTACHING, type Binding, createBinding, INTRODUCED } from "./binding.js";
import { close as makeClose, type Close, endsTransport } from "./close.js";
import type { Config } from "./config.js";
import { type HttpRules, type Inner, SHORT_HOLD } from "./http.js";
import type { EndedBy, Listener, Why } from "./events.js";
import { createInbox } from "./inbox.js";
import { createOutbox, type Held } from "./outbox.js";
import type { Saved, SavedState } from "./saved.js";

/** Why a message was not accepted. */
export type Refused = "closed" | "full" | "too_large" | "too_many_requests" | "never_asked";

export type Session = ReturnType<typeof createSession>;

const OPEN = 0;
/** What was accepted is still delivered, then the close is said, until answered. */
const CLOSING = 1;
const ENDED = 2;

/** After so many carriers in a row that died before anything got through, little is put on one at a time. */
const CAREFUL = 2;
/** How long it counts that silence was cut off. */
const VERDICT = 600_000;
/** A network that is slow and works takes 16 bytes in a millisecond, as a shift; or half as many, so often, where carriers die
 * under them; and it has so long for them at most. */
const SLOW = 4;
const SLOWER = 4;
const MOST_FOR_BYTES = 120_000;
/** Round trips of up to so much are waited for, three times over. */
const SLOWEST = 5_000;
/** A box may forget a connection that was silent for so long or longer. */
const FORGOTTEN = 5_000;
/** The longest that a path is left unproved because messages go on coming. */
const LONGEST_PROOF = 30_000;

export const createSession = (config: Config, id: string, key: string, now: number, rules?: HttpRules, saved: Partial<Saved> = {}) => {
  let epoch = saved.epoch_;
  /** The live attachments, by their numbers. */
  let bindings: Binding[] = [];
  /** The highest attachment ever used. */
  let highest = saved.highest_ ?? 0;
  const outbox = createOutbox(config.early_, saved.acked_, saved.queue_);
  const inbox = createInbox(config.window_, undefined, saved.received_);
  /** Up to half a second shorter, by the id: many sessions hear the same thing at once. */
  const lightDelay = config.lightAckDelay_ - id.charCodeAt(0) * 4;
  /** Requests that were numbered, and how many were accepted, that have no answer. */
  const requests = new Map<number, Held>();
  let openRequests = 0;
  /** The latest message for whose receipt somebody waits. */
  let awaited: Held | undefined;
  let phase = OPEN;
  let closing: Close;
  let closingUntil = Infinity;
  /** A message was not taken any more: if the peer closes too, it waits for a receipt in vain. */
  let refused = false;
  /** The peer closes, and takes no more messages. */
  let peerCloses = false;
  /** Since when a `hello` with messages is unanswered. */
  let waitingSince = Infinity;
  let heartbeat = 0;
  /** Carriers in a row that died before anything got through. */
  let fruitless = 0;
  /** Carriers in a row on which nothing was heard until they were given up for it. */
  let mute = 0;
  /** After so much silence a path of a kind is asked, and so long a poll is held, because one did not outlive twice the time; until
   * when that counts. */
  const calms: Partial<Record<TransportKind, readonly [silence: number, until: number]>> = {};
  /** The latest round trip that was measured, and the one before it. */
  let trip = 1000;
  let tripBefore = Infinity;
  let maxMessage = limits.message_;
  let maxBatch = limits.batch_;
  let offered: readonly TransportKind[] = [];
  let auth: unknown;
  let authDue = false;
  let authSaid = false;
  const events: ((listener: Listener) => void)[] = [];

  /** The binding that carries messages: also one whose `hello` attaches and is not answered yet. */
  const carrier = () =>
    bindings.findLast(({ stage_, candidate_ }) => stage_ === ATTACHED || (!stage_ && !candidate_));
  const isMoving = () => bindings.some(({ stage_ }) => stage_ === ATTACHING);

  const detach = (bound: Binding, why: Why, close?: Close) => {
    if (!bindings.includes(bound)) return;
    const silence = now - bound.heard_;
    if (why === "ended" && bound.proved_ && silence >= 1000) learn(bound, silence / 2);
    // A box may have forgotten it in the silence before what nothing answered any more: its own word, or the server's heartbeat.
    const mortal = Math.min(bound.spokeAt_, bound.heard_ + heartbeat) - bound.heard_;
    if (why === "silent" && mortal >= FORGOTTEN && mortal > bound.outlived_) learn(bound, mortal / 2);
    if (why === "silent") mute++;
    if (carrier() === bound && outbox.isAdvanced_() && outbox.acked_() === bound.base_) fruitless++;
    bindings = bindings.filter((other) => other !== bound);
    if (phase === ENDED) return;
    events.push((on) => on.detached_(bound, why, close));
    // When no path carries, the best welcomed candidate attaches without waiting for its proof.
    if (!isMoving() && !carrier()) {
      const best = bindings.findLast(({ stage_ }) => stage_ === INTRODUCED);
      if (best) sayAttach(best);
    }
  };

  /** Gives all attachments below one up, or the candidates only. */
  const fence = ({ attachment_ }: Binding, carriers = true) => {
    for (const lower of bindings.filter((other) => other.attachment_ < attachment_ && (carriers || other.candidate_)))
      detach(lower, "superseded");
  };

  const seal = ([, code, reason, detail]: Close): Close => ["close", code, reason, { ...detail, received: inbox.received_() }];

  const finish = (close: Close, by: EndedBy) => {
    if (phase === ENDED) return;
    closing = seal(close);
    phase = ENDED;
    for (const bound of bindings) bound.closeSaid_ = false;
    const undelivered = outbox.drain_();
    events.push((on) => on.ended_(closing, by, undelivered));
  };

  const fail = (reason: string) => finish(makeClose("protocol_error", reason), "local");

  const sayAttach = (bound: Binding) => {
    bound.stage_ = ATTACHING;
    // None may attach after a higher one has tried to.
    fence(bound, false);
    // A candidate's silence is not counted before.
    bound.heard_ = now;
    bound.until_ = answerBy(bound);
    // On long-polling the first poll says it.
    bound.attachDue_ = bound.kind_ !== "long-polling";
  };

  /** A path that is slow looks dead while a large message comes, of which nothing is seen until it is whole: where two carriers in a
   * row looked so, the next has 4 s more, then 16, then 64. */
  const patience = () => (mute > 1 ? 1000 * 4 ** Math.min(mute - 1, 3) : 0);
  /** How long to wait for what takes one round trip. Of two the longer may have waited in a queue. */
  const answerTime = () =>
    Math.min(Math.max(trip * 4, 1000), Math.max(config.proveWithin_, Math.min(trip, tripBefore, SLOWEST) * 3)) +
    patience() +
    Math.min((outbox.flying_() >> SLOW) << Math.min(fruitless, SLOWER), MOST_FOR_BYTES);

  /** By when what is asked now is to be answered: what a box turns down for now is asked behind a pause. */
  const answerBy = ({ pausedUntil_ }: Binding) => Math.max(now, pausedUntil_) + answerTime();

  const silentAt = ({ stage_, heard_ }: Binding) => (stage_ < ATTACHING ? Infinity : heard_ + heartbeat * 1.5 + patience());

  const probe = () => {
    const bound = carrier();
    if (!bound?.proved_ || phase === ENDED) return;
    bound.proved_ = false;
    bound.probed_ = true;
    bound.tried_ = bound.eventful_ && now <= bound.trialUntil_!;
    if (bound.tried_) bound.silence_ *= 2;
    bound.eventful_ = false;
    bound.asked_ = now;
    bound.spokeAt_ = Math.min(bound.spokeAt_, now);
    bound.until_ = answerBy(bound);
    // A newer poll takes the place of the one that may hang.
    bound.pollOpen_ = false;
    bound.pollAt_ = Infinity;
    bound.hold_ = undefined;
    if (bound.kind_ !== "long-polling") {
      bound.ping_ = Math.max(bound.ping_, bound.attachment_) + 1;
      bound.pingDue_ = true;
    }
  };
  /** A WebSocket on which messages wait for their receipt is asked when nothing comes: not before it may be due. What may be
   * cut for its silence is asked before, and so is what may hold back the end of a burst. */
  const doubtAt = (bound: Binding) => {
    const { kind_, eventful_, silence_, trialUntil_ } = bound;
    return kind_ === "long-polling"
      ? Infinity
      : now +
        Math.min(
          calm(bound),
          kind_ === "websocket" && outbox.isAdvanced_() ? config.lightAckDelay_ + answerTime() : Infinity,
          eventful_ && now + silence_ <= trialUntil_! ? silence_ : Infinity,
        );
  };
  const calm = ({ kind_ }: Binding) => {
    const [silence, until] = calms[kind_] ?? [0, 0];
    return now < until ? silence : Infinity;
  };
  const learn = (bound: Binding, silence: number) => {
    calms[bound.kind_] = [Math.min(silence, calm(bound)), now + VERDICT];
  };

  /** Gives up waiting for an answer, if that was long enough. */
  const abandonIfDue = () => {
    if (waitingSince + config.unansweredWithin_ <= now) {
      finish(makeClose("unknown_session"), "timeout");
    }
  };

  // What frames of the server mean.

  const handleMessage = (bound: Binding, push: boolean, frame: MessageFrame) => {
    const [tag, seq, re, body, size] = frame;
    bound.eventful_ = true;
    // What stands in front of the answer takes its time; but the uplink may be dead.
    if (!push && !bound.proved_ && now - bound.asked_ < LONGEST_PROOF) bound.until_ = answerBy(bound);
    if (phase) {
      // The closer takes no more: its close says what it received.
      refused ||= seq > inbox.received_();
      return;
    }
    const arrival = inbox.accept_(seq, size, re > 0);
    if (arrival === "flood") fail("window");
    if (arrival === "gap" && !push) detach(bound, "gap");
    if (arrival !== "next") return;
    if (!re) events.push((on) => on.message_(frame));
    else if (re > outbox.sent_()) fail("re");
    else {
      const request = requests.get(re);
      // A second answer finds nobody who waits.
      if (request && requests.delete(re)) {
        openRequests--;
        events.push((on) => on.reply_(request, tag === "res", body));
      } else if (tag === "err") events.push((on) => on.failed_(re, body));
    }
  };

  const acknowledge = (received: number, taken?: number | null): boolean => {
    const legal = outbox.acknowledge_(received, taken ?? received);
    if (!outbox.held_().messages) fruitless = 0;
    return legal;
  };

  const handleClose = (bound: Binding, [, code, reason, detail = {}]: CloseFrame) => {
    const close = makeClose(code, reason, detail);
    if (code === "superseded" && (detail.attachment ?? 0) > highest) {
      // Somebody else holds the same session: coming back would only take it from them, and so would a close.
      finish(close, "peer");
      for (const other of bindings) other.closeSaid_ = true;
    } else if (
      endsTransport(code) ||
      // It counts only where the session is: a refused candidate is only that; and a `hello` may have been refused for
      // its transport only.
      carrier() !== bound ||
      (!bound.stage_ && code === "not_acceptable")
    ) {
      detach(bound, "closed", close);
    } else if (!outbox.acknowledge_(detail.received ?? 0, 0)) fail("receipt");
    else if (phase) {
      // The answer to our own, or one that crossed it. Where ours was said, that is our answer.
      const said = bindings.filter(({ closeSaid_ }) => closeSaid_);
      finish(closing, "local");
      for (const other of said) other.closeSaid_ = true;
    } else {
      finish(close, "peer");
      // A `hello` that was refused needs no answer.
      bound.closeSaid_ = !bound.stage_;
    }
  };

  const handleWelcome = (bound: Binding, welcome: Welcome) => {
    if (bound.stage_) return;
    if (welcome.session !== id || welcome.attachment !== bound.attachment_) return detach(bound, "malformed");
    if (epoch && epoch !== welcome.epoch) {
      // Another life of the session: what this one had is not there.
      return finish(makeClose("unknown_session"), "peer");
    }
    outbox.renumber_(welcome.received, welcome.taken ?? welcome.received);
    if (!acknowledge(welcome.received, welcome.taken)) return fail("receipt");
    const isAlone = !carrier();
    outbox.window_(welcome.window);
    inbox.maxMessage_((maxMessage = welcome.max_message_bytes));
    maxBatch = Math.min(limits.batch_, welcome.max_batch_bytes);
    tripBefore = epoch ? trip : Infinity;
    trip = now - bound.asked_;
    epoch = welcome.epoch;
    offered = welcome.transports;
    const expires = welcome.auth_expires_ms;
    if (expires != null) events.push((on) => on.auth_(expires));
    heartbeat = Math.min(welcome.heartbeat_ms, 86_400_000) || 86_400_000;
    waitingSince = Infinity;
    bound.heard_ = now;
    // The path is to be proved, and attached if that is still to be said.
    bound.until_ = answerBy(bound);
    if (bound.kind_ === "websocket") prove(bound);
    if (bound.kind_ === "sse") {
      bound.ping_ = bound.attachment_;
      bound.pingDue_ = true;
    }
    if (!bound.candidate_) {
      bound.stage_ = ATTACHED;
      events.push((on) => on.attached_(bound, welcome.resumed));
    } else {
      bound.stage_ = INTRODUCED;
      if (isAlone || !bound.pingDue_) sayAttach(bound);
    }
  };

  const prove = (bound: Binding) => {
    bound.proved_ = true;
    bound.trialUntil_ ??= now + config.trial_;
    if (bound.stage_ === INTRODUCED) sayAttach(bound);
    if (bound.stage_ !== ATTACHING) bound.until_ = Infinity;
  };

  /** What was told may have been lost, and what was said. */
  const doubt = () => {
    inbox.forget_();
    authDue ||= authSaid;
  };

  /** On another carrier it begins again at the oldest message. */
  const rewind = (bound: Binding) => {
    outbox.rewind_();
    bound.base_ = outbox.acked_();
  };
  const isCareful = () => fruitless >= CAREFUL;
  /** Whether a message may be put on the transport that carries. */
  const mayGive = ({ stage_ }: Binding, fresh = true) => !(isCareful() && (!stage_ || outbox.isReined_())) && (stage_ || outbox.given_(1) <= config.early_.bytes) && outbox.hasNext_(fresh);

  /** The server has answered `attach`: from here on this one carries. */
  const completeAttach = (bound: Binding) => {
    // A poll that was answered has proved itself; a stream may have been attached in need.
    bound.proved_ ||= bound.kind_ === "long-polling";
    bound.stage_ = ATTACHED;
    bound.candidate_ = false;
    bound.until_ = bound.proved_ ? Infinity : answerBy(bound);
    fence(bound);
    rewind(bound);
    doubt();
    events.push((on) => on.attached_(bound, true));
  };

  const handle = (bound: Binding, push: boolean, frame: Frame) => {
    if (isMessage(frame)) return handleMessage(bound, push, frame);
    const [tag, value] = frame;
    switch (tag) {
      case "ack":
        if (!acknowledge(value, frame[2])) fail("receipt");
        else if (!push && bound.stage_ === ATTACHING) completeAttach(bound);
        break;
      case "close":
        handleClose(bound, frame);
        break;
      case "closing":
        peerCloses = true;
        break;
      case "ping":
        bound.pongDue_ = ["pong", ...frame.slice(1)] as unknown as Frame;
        // It may be asking what came of what it sent.
        if (carrier() === bound) inbox.ask_();
        break;
      case "pong":
        if (!push && !bound.proved_ && value === bound.ping_) prove(bound);
        break;
      case "welcome":
        handleWelcome(bound, value);
        break;
      case "auth_ok":
        authSaid = false;
        events.push((on) => on.auth_(value));
        break;
      case "move":
        events.push((on) => on.move_(value));
        break;
      default:
        fail(tag);
    }
  };

  // What goes out.

  const receipt = () => {
    const [received, taken] = inbox.receipt_();
    return taken === received ? { received } : { received, taken };
  };
  /** Only on the attachment that carries a receipt counts as told: what a candidate loses nobody repeats. */
  const tellOn = (bound: Binding) => {
    if (carrier() === bound) inbox.tell_();
    return receipt();
  };
  const ack = (): Frame => {
    inbox.tell_();
    return ["ack", ...Object.values(receipt())] as unknown as Frame;
  };
  const address = ({ attachment_ }: Binding) => ({ session: id, key, epoch: epoch!, attachment: attachment_ });

  const hello = (bound: Binding): Frame => {
    const { candidate_, kind_ } = bound;
    bound.helloDue_ = false;
    bound.asked_ = now;
    // It bears the latest token.
    if (!candidate_) authDue = authSaid = false;
    return [
      "hello",
      {
        version: 1,
        ...address(bound),
        transport: kind_,
        ...tellOn(bound),
        window: config.window_,
        ...(candidate_ && { candidate: true }),
        ...(auth !== undefined && { auth }),
      },
    ];
  };

  const control = (bound: Binding): Frame | undefined => {
    if (bound.helloDue_) return hello(bound);
    if (!bound.stage_) return;
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
    return;
  };

  const transmit = (bound: Binding): Frame | undefined => {
    if (!bindings.includes(bound)) return;
    const { stage_, closeSaid_, candidate_, helloDue_ } = bound;
    if (phase === ENDED) {
      // Once on each transport. A `hello` that was said may have made the session, or come back to it.
      bound.closeSaid_ = true;
      return !closeSaid_ && (stage_ || !(candidate_ || helloDue_)) ? closing : undefined;
    }
    const first = control(bound);
    // While `attach` waits for its answer the server may have fenced the old path already.
    if (first || carrier() !== bound || (bindings[1] && isMoving())) return first;
    if (bound.retryAt_ === Infinity && !peerCloses && mayGive(bound, stage_ > 0 || !epoch || !config.cautious_)) {
      if (stage_ && inbox.isUntold_()) return ack();
      if (!epoch) waitingSince = Math.min(waitingSince, now);
      const [held, fresh] = outbox.next_();
      bound.eventful_ ||= bound.kind_ === "sse";
      bound.probeAt_ = Math.min(bound.probeAt_, doubtAt(bound));
      bound.spokeAt_ = Math.min(bound.spokeAt_, now);
      if (fresh && held[0] === "req") requests.set(held[1], held);
      return held;
    }
    if (!stage_) return;
    if (inbox.isOwed_()) return ack();
    const last = goodbye(bound);
    if (last || bound.kind_ !== "websocket" || !bound.proved_) return last;
    // Pushes are answered by receipts, and the pong to a probe is to be the latest.
    return outbox.ask_(phase === CLOSING || isCareful() || (!!awaited && (!awaited[1] || awaited[1] > outbox.acked_())), config.outbox_) ? ["ping"] : undefined;
  };
  const goodbye = (bound: Binding): Frame | undefined => {
    // Two ends that close at once take nothing more from each other and would wait in vain for receipts: who has seen
    // that says its close right behind its messages, and the answer says what came through.
    if (!phase || bound.closeSaid_) return;
    if (!outbox.held_().messages || peerCloses || (refused && outbox.isHandedOver_())) {
      bound.closeSaid_ = true;
      return seal(closing);
    }
    // Where the window, or care, holds messages back, a peer that closes as well must be told, or neither says more.
    if (bound.closingSaid_ || outbox.isHandedOver_() || mayGive(bound)) return;
    bound.closingSaid_ = true;
    return ["closing"];
  };

  const inner: Inner = {
    config_: config,
    outbox_: outbox,
    answerBy_: answerBy,
    has_: (bound) => bindings.includes(bound),
    carries_: (bound) => carrier() === bound,
    now_: () => now,
    calm_: (bound) => Math.min(calm(bound), heartbeat),
    learn_: learn,
    detach_: detach,
    doubt_: doubt,
    request_: (bound, hold_ms) => (phase === ENDED || !inbox.isSafe_() ? undefined : ["poll", { ...address(bound), ...tellOn(bound), hold_ms }]),
  };

  const http = rules?.(inner);

  return {
    /** What requests and polls need besides. */
    http_: http,
    id_: id,
    state_: (): SavedState => [id, key, epoch, highest, inbox.received_(), outbox.acked_()],
    queue_: outbox.queue_,
    /** Up to which message it may send. */
    upTo_: outbox.upTo_,
    /** Up to which message receipts may go. */
    safe_: inbox.safe_,
    /** Whether a server has ever welcomed it. */
    isKnown_: () => !!epoch,
    /** The live attachments; the one that carries messages now; whether another is about to. */
    bindings_: () => bindings,
    carrier_: carrier,
    /** How long what takes one round trip may take. */
    answerTime_: answerTime,
    isMoving_: isMoving,
    isOpen_: () => !phase,
    /** How it ended, once it has. */
    end_: () => (phase === ENDED ? closing : undefined),
    /** The highest own message that the peer has acknowledged. */
    acked_: outbox.acked_,
    /** How many messages are held, and their bytes: accepted, not acknowledged. */
    held_: outbox.held_,
    receipt_: () => [inbox.received_(), inbox.taken_()] as const,
    /** What the server takes at most, and which transports it offers, best first. */
    maxMessage_: () => maxMessage,
    maxBatch_: () => maxBatch,
    offered_: () => offered,
    /** What a push begins with; only after `welcome`. */
    push_: (bound: Binding): Frame => ["push", address(bound)],

    /** Tells the time, which never goes back. */
    tick_(time: number) {
      now = Math.max(now, time);
    },

    /** Accepts a message: from here on it is delivered once and in order, or reported. */
    send_(tag: MessageTag, re: number, body: Packed, size: number): Held | Refused {
      if (phase) return "closed";
      // The request of a session before, say: the peer would end this one for it.
      if (re > inbox.received_()) return "never_asked";
      if (size > maxMessage) return "too_large";
      if (!outbox.fits_(size, config.outbox_)) return "full";
      if (tag === "req" && openRequests >= config.requests_) return "too_many_requests";
      if (tag === "req") openRequests++;
      const held: Held = [tag, 0, re, body, size];
      outbox.push_(held);
      return held;
    },

    /** Notes that somebody waits for the receipt of a message: the server is asked for it once it was sent. */
    await_(held: Held) {
      awaited = held;
    },

    /** Ends the session in order: what was accepted is delivered first. */
    close_(close: Close) {
      if (phase) return;
      if (!epoch && !bindings[0]) return finish(close, "local");
      phase = CLOSING;
      closing = close;
      closingUntil = now + config.closeTimeout_;
    },
    /** Ends the session at once: what is not acknowledged is reported. */
    abort_: (close: Close) => finish(close, "local"),

    /** Counts messages as taken by the application, in the order of their events. */
    take_(count: number) {
      inbox.take_(count);
      inbox.arm_(now, config.ackDelay_, lightDelay);
    },

    /** Binds a new transport: `hello` is the first frame for it. Nothing when the session is over. */
    introduce_(kind: TransportKind, candidate: boolean, token: unknown): Binding | undefined {
      // After a sleep this may come before the timer: an id that the server may have forgotten is not used again.
      abandonIfDue();
      if (phase === ENDED) return;
      const bound = createBinding(++highest, kind, candidate, now, now + config.welcomeWithin_);
      auth = token ?? auth;
      if (!candidate) {
        fence(bound);
        rewind(bound);
      }
      bindings.push(bound);
      return bound;
    },

    /** Sends a fresh token: now if something carries the session, and in every later `hello`. */
    refreshAuth_(token: unknown) {
      auth = token;
      authDue = !!epoch;
      authSaid = false;
    },

    /** Asks whether the path that carries still does, now: after a sleep, or when the network has changed. */
    probe_: probe,

    /** Takes a frame that a transport brought: on the path by which it is judged alive, or in the answer to a push. */
    frame_(bound: Binding, push: boolean, frame: Frame) {
      const [tag, value] = frame;
      const { stage_ } = bound;
      if (!bindings.includes(bound)) return;
      if (phase === ENDED) {
        // Only the peer's own close matters: it needs no further answer.
        if (tag === "close") bound.closeSaid_ = true;
        return;
      }
      if (!stage_ && !push && tag !== "welcome" && tag !== "close") return detach(bound, "malformed");
      if (!push || bound.kind_ === "websocket") {
        bound.outlived_ = Math.max(bound.outlived_, now - bound.heard_);
        bound.heard_ = bound.whole_ = now;
        bound.spokeAt_ = Infinity;
        if (stage_ === ATTACHED) mute = 0;
      }
      // A receipt that opens the window is as good as a message: what waits for it goes at once.
      if (!push && (tag !== "ack" || outbox.isNews_(value, frame[2] ?? value))) bound.fruitful_ = true;
      handle(bound, push, frame);
      if (!push) bound.probeAt_ = doubtAt(bound);
      inbox.arm_(now, config.ackDelay_, lightDelay);
    },

    /** Notes that an attachment's transport has ended; or that it brought what is not of the protocol: a middlebox may
     * have answered. */
    detach_: (bound: Binding, why: "ended" | "malformed" = "ended") => detach(bound, why),

    /** The next frame for an attachment's transport, if there is one to write now. */
    transmit_: transmit,
    /** For a page that goes: what the server may not have yet. */
    unsaid_(): Held[] {
      const frames = [];
      outbox.rewind_();
      while (outbox.hasNext_()) frames.push(outbox.next_()[0]);
      return frames;
    },
    /** What happened next, in order; to be called with who is told. */
    event_: () => events.shift(),

    /** When to call `timeout_` at the latest. */
    due_(): number {
      if (phase === ENDED) return Infinity;
      let due = Math.min(inbox.due_(), closingUntil, waitingSince + config.unansweredWithin_);
      for (const bound of bindings) due = Math.min(due, bound.until_, bound.probeAt_, bound.pollAt_, bound.retryAt_, silentAt(bound));
      return due;
    },
    /** Acts on what is due, and judges what has not come, if that is not put off. */
    timeout_(judges = true) {
      if (phase === ENDED) return;
      inbox.timeout_(now);
      for (const [bound, silent] of bindings.map((bound) => [bound, silentAt(bound) <= now] as const)) {
        const { until_, stage_, probed_ } = bound;
        if (judges && until_ <= now) detach(bound, !stage_ ? "no welcome" : probed_ ? "silent" : "unproved");
        else if (judges && silent) detach(bound, "silent");
        if (bound.probeAt_ <= now) {
          bound.probeAt_ = Infinity;
          // A poll that is taken for lost.
          if (bound.pollOpen_) learn(bound, Math.max(bound.hold_! / 2, SHORT_HOLD));
          if (carrier() === bound) probe();
        }
        if (bound.pollAt_ <= now) bound.pollAt_ = Infinity;
        if (bound.retryAt_ <= now) bound.retryAt_ = Infinity;
      }
      if (!judges) return;
      abandonIfDue();
      if (closingUntil <= now) finish(closing, "timeout");
    },
  };
};
