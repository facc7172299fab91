/**
 * The handle that users hold, and the driver behind it: it moves one session over successive transports, decides when to
 * dial, and hands over what comes. It knows no rule of the protocol but what a close asks of a client.
 */

import { createPauses } from "../backoff.js";
import { type Codec, type Frame, type MessageFrame, type MessageTag, type Packed, toBase64, type TransportKind } from "../frame/frame.js";
import { ATTACHING } from "../session/binding.js";
import { beginsAfresh, close as makeClose, type Close } from "../session/close.js";
import { defaults } from "../session/config.js";
import type { Held } from "../session/outbox.js";
import type { Saved } from "../session/saved.js";
import type { Listener } from "../session/events.js";
import { createSession, type Session } from "../session/session.js";
import type { Carrier, Hooks, Target, Transport } from "../transport/transport.js";
import type { Lost, Message, Options, Socket, State } from "./api.js";
import { ThroughlineError } from "../error.js";
import { pack, unpack } from "./bodies.js";
import type { Attempt, Bound } from "./bound.js";
import { createInlet } from "./inlet.js";
import type { Parts } from "./parts.js";
import { BATCH, CONNECT_TIMEOUT, createClock, HEAD_START, LATE, REFUSALS, REPRIEVE, SHORT_LIFE, TRIAL } from "./times.js";
import { createWaiters, type Waiter } from "./waiters.js";

const random = (length: number) =>
  toBase64(crypto.getRandomValues(new Uint8Array(length))).replace(/\W/g, (char) => (char === "+" ? "-" : char === "/" ? "_" : ""));

const errorOf = ([, code, reason, { retry_after_ms }]: Close) =>
  new ThroughlineError(code, reason, { retryAfter: retry_after_ms ?? 0 });

/** Opens a socket over the given transports, best first, in the given encoding. */
export const openSocket = <In, Out>(url: string, given: readonly (Transport | Parts)[], codec: Codec, options: Options = {}): Socket<In, Out> => {
  const transports = given.filter((one): one is Transport => !!(one as Transport).open_);
  const { rules_, plan_, page_, renewal_, roaming_, patience_, journal_, memory_ } = Object.assign({}, ...given) as Transport & Parts;
  if (!transports[0]) throw new TypeError("no transports");
  const pauses = createPauses(options.backoff ?? { base: 500, cap: 30_000 });
  const base = new URL(url, globalThis.location?.href).href.replace(/^ws/, "http");

  const kinds = transports.map(({ kind_ }) => kind_);
  const config = { ...defaults, cautious_: true, trial_: kinds[1] ? TRIAL : 0, ...(options.outbox && { outbox_: options.outbox }) };
  // Where there is no choice there is nothing to remember.
  const memory = kinds[1] && memory_?.(new URL(base).origin);
  const clock = createClock();
  const plan = plan_?.(kinds, kinds.find((kind) => memory && memory.kind_ === kind), {
    clock_: clock,
    underWay_: () => (state.status === "connected" ? [] : [...dials.keys(), ...bounds().map(({ kind_ }) => kind_)]),
    dial_: (kind) => void dial(kind),
  });

  const begin = (saved: Partial<Saved> = {}): Session =>
    createSession(config, saved.id_ ?? random(16), saved.key_ ?? random(32), clock(), rules_, saved);
  /** The session, at the time that it is. */
  const current = () => {
    session.tick_(clock());
    return session;
  };
  const urlOf = () => base + (base.includes("?") ? "&" : "?") + "session=" + session.id_;
  const bounds = () => session.bindings_() as Bound[];

  let session = begin(journal_?.saved_);
  let state: State = { status: "connecting" };
  /** What is being opened: not introduced yet. */
  const dials = new Map<TransportKind, Attempt>();
  let retryTimer: ReturnType<typeof setTimeout> | undefined;
  let moveTimer: ReturnType<typeof setTimeout> | undefined;
  let dueTimer: ReturnType<typeof setTimeout> | undefined;
  let dueAt = Infinity;
  /** Until when nothing is judged, because this end was held up. */
  let reprieved = 0;
  let attempts = 0;
  /** When it was connected last, or began. */
  let lostAt = clock();
  /** After `auth_expired` the next dial bears a fresh token, once. */
  let fresh: "usual" | "wanted" | "tried" = "usual";
  /** How much goes in one batch; how many messages were refused alone, and up to which all were acknowledged then. */
  let room = BATCH;
  let refusals = 0;
  let refusedAt = 0;
  let away = false;
  let pumping = false;
  let over = false;

  let resolveOver: () => void;
  const whenOver = new Promise<void>((resolve) => (resolveOver = resolve));

  const become = (next: State) => {
    if (state.status === "connected") lostAt = clock();
    state = next;
    emit_("state", state);
  };
  const adrift = (reason: ThroughlineError, retryAt?: number) =>
    become({ status: session.isKnown_() ? "reconnecting" : "connecting", reason, ...(retryAt && { retryAt }) });

  /** The next to try in this round. */
  const nextKind = () => (plan ? plan.next_() : kinds[0]);

  const { wait_, settle_, received_, lose_ } = createWaiters();
  const { emit_, deliver_, push_, on_, iterate_ } = createInlet<In, Out>({
    taken_(of) {
      if (of !== session) return;
      current().take_(1);
      wake();
    },
    closed_: () => (state.status === "closed" ? state.reason : undefined),
  });

  // Sending.

  const accept = (tag: MessageTag, re: number, packed: Packed, size: number, waiter?: Waiter): void => {
    const held = session.send_(tag, re, packed, size);
    if (typeof held === "string") {
      const error = new ThroughlineError(held);
      if (!waiter) throw error;
      return waiter.reject_(error);
    }
    if (waiter) {
      wait_(held, waiter);
      if (tag === "msg") session.await_(held);
    }
    wake();
  };
  const answerTo = (of: Session, tag: MessageTag, seq: number, body: unknown) => {
    // An answer means something only in the session that asked.
    if (of !== session) throw new ThroughlineError("lost");
    accept(tag, seq, ...pack(body));
  };

  // Dialling.

  const stopDialling = () => {
    plan?.race_();
    for (const { timer_, carrier_ } of dials.values()) {
      clearTimeout(timer_);
      carrier_?.end_();
    }
    dials.clear();
  };
  const giveUp = (close: Close) => {
    current().abort_(close);
    wake();
  };
  const stopWaiting = () => {
    clearTimeout(retryTimer);
    retryTimer = undefined;
  };
  const pause = (reason: ThroughlineError, wait: number) => {
    stopWaiting();
    retryTimer = setTimeout(retry, wait);
    adrift(reason, Date.now() + wait);
  };
  const retry = () => {
    stopWaiting();
    // Who waits has a reason, and is neither connected nor closed.
    adrift((state as { reason: ThroughlineError }).reason);
    wake();
  };
  const pauseAfterFailure = (reason: ThroughlineError) => {
    if (++attempts >= (options.maxAttempts ?? Infinity)) return giveUp(makeClose("timed_out", reason.message));
    pause(reason, pauses.failure_(reason.retryAfter, reason.code === "no_answer" ? clock() - lostAt : undefined));
  };

  /** Goes on after a transport failed to carry the session; the close says that the server does not offer it. */
  const failed = (kind: TransportKind, reason: ThroughlineError, offered?: Close) => {
    plan?.failed_(kind, offered);
    if (bounds()[0] || dials.size) return plan?.race_(0);
    // It may be a box on the way that only dislikes this transport: the round goes on afterwards.
    if (reason.retryAfter) return pauseAfterFailure(reason);
    if (plan?.next_()) return adrift(reason);
    const never = plan ? plan.restart_() : offered;
    if (never) giveUp(never);
    else pauseAfterFailure(reason);
  };
  /** Goes on after the server closed a transport in band, but not the session. */
  const closed = (kind: TransportKind, close: Close) => {
    const reason = errorOf(close);
    switch (close[1]) {
      case "not_acceptable":
        return failed(kind, reason, close);
      case "draining":
      case "overloaded":
        plan?.restart_();
        return pauseAfterFailure(reason);
      case "auth_expired":
        if (fresh !== "usual" || !options.token) return giveUp(close);
        fresh = "wanted";
    }
    pause(reason, pauses.loss_(reason.retryAfter));
  };

  const dial = async (kind: TransportKind, wished = false) => {
    if (wished) stopDialling();
    const attempt: Attempt = { begun_: clock() };
    dials.set(kind, attempt);
    const isMine = () => dials.get(kind) === attempt;
    const isOver = () => {
      clearTimeout(attempt.timer_);
      dials.delete(kind);
    };
    const isFresh = fresh !== "usual";
    if (isFresh) fresh = "tried";
    const fail = (reason: ThroughlineError) => {
      if (!isMine()) return;
      isOver();
      attempt.carrier_?.end_();
      // What carries goes on carrying, or another is about to.
      if (state.status === "connected" && bounds()[0]) return;
      if (reason.code === "token") {
        stopDialling();
        plan?.restart_();
        pauseAfterFailure(reason);
      } else failed(kind, reason);
      wake();
    };
    const limit = (code: string) => {
      clearTimeout(attempt.timer_);
      // A network may have become slow since it was measured.
      const patience = Math.max(CONNECT_TIMEOUT * Math.min(1 + attempts / 4, 3), session.answerTime_() * 1.5);
      attempt.timer_ = setTimeout(() => fail(new ThroughlineError(code, kind)), patience);
    };
    limit("token");
    let token: unknown;
    try {
      token = await options.token?.(isFresh);
    } catch (cause) {
      fail(new ThroughlineError("token", "", { cause }));
    }
    if (!isMine()) return;
    limit("no_answer");
    const begun = (attempt.begun_ = clock());
    plan?.race_(HEAD_START);
    const target: Target = {
      url_: urlOf(),
      codec_: codec,
      credentials_: options.credentials ?? "include",
    };
    let mine: Bound | undefined;
    /** Tells the session, while it is still its own. */
    const tell = (what: (session: Session, mine: Bound) => void) => {
      if (mine && bounds().includes(mine)) what(current(), mine);
      drain();
      wake();
    };
    const hooks: Hooks = {
      open_() {
        if (!isMine()) return;
        isOver();
        plan?.race_(Math.max(HEAD_START, 2 * (clock() - begun)));
        const bound = current().introduce_(kind, !!bounds()[0], token);
        if (bound) mine = Object.assign(bound, { carrier_: carrier, wished_: wished, begun_: begun });
        else carrier.end_();
        wake();
      },
      frame_: (frame, push) => tell((session, mine) => session.frame_(mine, push, frame)),
      refused_(size, alone) {
        room = Math.min(room, size) / 2;
        if (refusedAt !== session.acked_()) refusals = 0;
        refusedAt = session.acked_();
        // Nothing behind it could pass either.
        if (alone && ++refusals >= REFUSALS) giveUp(makeClose("too_large"));
      },
      rules_: (use) => tell((session, mine) => use(session.http_!, mine)),
      ended_(error) {
        if (!mine) return fail(error);
        mine.failure_ = error;
        tell((session, mine) => session.detach_(mine, error.code === "malformed" ? "malformed" : "ended"));
      },
    };
    let carrier: Carrier;
    try {
      carrier = attempt.carrier_ = transports.find(({ kind_ }) => kind_ === kind)!.open_(target, hooks);
    } catch (cause) {
      // A browser that forbids it, or has it not.
      fail(new ThroughlineError("network", kind, { cause }));
    }
  };

  // What the session tells.

  const attached = (bound: Bound, resumed: boolean) => {
    const { kind_, wished_, begun_ } = bound;
    const wasCut = state.status === "reconnecting";
    bound.openedAt_ = clock();
    if (wished_) plan?.prefer_(kind_);
    else if (memory) memory.note_(kind_);
    // What began later was quicker.
    for (const [kind, other] of dials) if (other.begun_ < begun_) plan?.failed_(kind);
    plan?.carried_(kind_, session.offered_());
    if (!wished_) {
      stopDialling();
      // What was asked to carry may have done so at the server.
      for (const other of bounds().slice())
        if (other.attachment_ > bound.attachment_ && other.stage_ < ATTACHING && !other.wished_) session.detach_(other);
    }
    fresh = "usual";
    stopWaiting();
    become({ status: "connected", transport: kind_ });
    if (wasCut && resumed) emit_("resumed", kind_);
    roaming?.carried_(kind_);
  };
  const detached = (bound: Bound, why: string, close?: Close) => {
    const { carrier_, kind_, openedAt_, heard_, failure_, proved_, probed_ } = bound;
    // Open is not usable: what was never proved is one more failure.
    const worked = openedAt_ && (proved_ || probed_);
    carrier_.end_();
    if (worked) attempts = 0;
    if (openedAt_) {
      const now = clock();
      const life = now - openedAt_;
      if (life >= SHORT_LIFE) pauses.reset_();
      // It opened and does not carry both ways.
      if (/^u/.test(why)) plan?.demote_(kind_, !worked && why === "unproved");
      // Otherwise somebody decided so.
      else if (!close && why !== "superseded") {
        plan?.endedAfter_(kind_, life);
        if (why === "ended") roaming?.died_(kind_, life < SHORT_LIFE || now - heard_ > life / 10 ? NaN : life);
      }
      plan?.restart_();
      patience?.(bound, worked);
    }
    const reason = close ? errorOf(close) : (failure_ ?? new ThroughlineError("no_answer", `${kind_}: ${why}`));
    if (!session.carrier_() && !session.isMoving_() && state.status === "connected") {
      roaming?.carried_();
      adrift(reason);
    }
    if (away) return;
    // Where another is under way, the session attaches it by itself.
    if (bounds()[0] || dials.size) {
      if (openedAt_ || state.status === "connected") return;
      // It had no welcome when one that began later had.
      if (why === "superseded") plan?.failed_(kind_);
      else failed(kind_, reason);
      return;
    }
    if (close) closed(kind_, close);
    else if (worked) pause(reason, pauses.loss_());
    else failed(kind_, reason);
  };

  const asked = (kind: TransportKind | undefined, elsewhere?: boolean) => {
    const carrier = session.carrier_();
    if (kind && !kinds.includes(kind)) return;
    if (!carrier) return plan?.prefer_(kind);
    const next = kind ?? nextKind();
    // The same kind as well: the wish may be to get off a path, or a node.
    if (next && (kind || elsewhere || next !== carrier.kind_)) void dial(next, !!kind);
  };

  /** Nothing of this session is under way any more; and nothing at all. */
  const stop = () => {
    stopDialling();
    clearTimeout(moveTimer);
    roaming?.carried_();
    renewToken?.(0);
  };
  const finish = () => {
    over = true;
    resolveOver();
    unwatch?.();
    stopWaiting();
    patience?.();
    clearTimeout(dueTimer);
  };
  const ended: Listener["ended_"] = (close, by, undelivered) => {
    received_(session.acked_());
    const [, code] = close;
    const renews = by === "peer" ? beginsAfresh(code) : by === "timeout" && code === "unknown_session";
    const reason = errorOf(close);
    stop();
    for (const bound of bounds()) {
      // A push needs the epoch, which only a `welcome` tells.
      const last = bound.kind_ === "websocket" || session.isKnown_() ? session.transmit_(bound) : undefined;
      bound.carrier_.end_(last && batch(bound, last));
    }
    if (renews) return renew(close, reason, undelivered);
    finish();
    lose_(reason, undelivered, reason);
    journal_?.end_();
    if (undelivered[0]) report(reason, undelivered);
    become({ status: "closed", reason });
    deliver_();
  };
  const report = (reason: ThroughlineError, messages: readonly Held[]) => {
    const lost: Lost<Out> = { reason, unknown: messages.map(([, , , body]) => unpack(body) as Out) };
    // Nothing is lost silently.
    if (!emit_("lost", lost)) console.warn("throughline: lost", lost);
  };
  /** Replaces a session that the server has forgotten, or ended for a reason that need not come again. */
  const renew = ([, code]: Close, reason: ThroughlineError, undelivered: readonly Held[]) => {
    const wasKnown = session.isKnown_();
    // What was never put on a transport goes to the new session, with whoever waits for it.
    const unsent = undelivered.filter(([, seq, re]) => !seq && !re);
    const unknown = undelivered.filter((held) => !unsent.includes(held));
    session = begin();
    plan?.restart_();
    lose_(reason, unsent);
    for (const held of unsent) accept(held[0], 0, held[3], held[4], settle_(held));
    become({ status: "reconnecting", reason });
    if (wasKnown || unknown[0]) report(reason, unknown);
    if (code === "going_away") pauseAfterFailure(reason);
    // Otherwise the server answers, and knows of no reason to wait.
    else if (code !== "unknown_session" || !wasKnown) pause(reason, pauses.loss_(reason.retryAfter));
    wake();
  };

  const renewToken = renewal_?.((failed) => {
    const of = session;
    const renewed = (token: unknown) => {
      if (of === session) session.refreshAuth_(token);
      wake();
    };
    // Where it fails to the end the server says `auth_expired` in time.
    void Promise.resolve(true).then(options.token).then(renewed, failed);
  });
  const roaming = roaming_?.((kind, turn) => {
    const next = turn === undefined ? kind : plan?.better_(kind, turn);
    if (next && !dials.size && !bounds()[1]) void dial(next);
  });

  const hear = (of: Session, [tag, seq, , body]: MessageFrame) => {
    const message: Message<In, Out> = {
      body: body as In,
      isRequest: tag === "req",
      reply: (answer) => answerTo(of, "res", seq, answer),
      fail: (code, text) => answerTo(of, "err", seq, { code, message: text }),
    };
    journal_?.heard_?.(seq, message);
    push_(message, of);
  };

  const listener: Listener = {
    attached_: attached as Listener["attached_"],
    detached_: detached as Listener["detached_"],
    message_: (frame) => hear(session, frame),
    reply_(request, succeeded, body) {
      const waiter = settle_(request);
      if (succeeded) waiter?.resolve_(body);
      else waiter?.reject_(new ThroughlineError("failed", "", { body }));
    },
    failed_(seq, body) {
      const misfit = body as { code: string; message: string; count?: number } | null;
      if (misfit?.code === "misfit") emit_("misfit", { seq, message: misfit.message, count: misfit.count ?? 1 });
    },
    auth_: (expires) => options.token && renewToken?.(expires),
    move_({ transport, within_ms }) {
      // Clients that were asked together do not come together.
      clearTimeout(moveTimer);
      moveTimer = setTimeout(() => asked(transport ?? undefined, true), (Math.random() * within_ms) / 2);
    },
    ended_: ended,
  };
  const drain = () => {
    for (let event; (event = session.event_()); ) event(listener);
    received_(session.acked_());
    deliver_();
  };

  // What goes out.

  const batch = (bound: Bound, frame: Frame): Packed[] => {
    const isPush = bound.kind_ !== "websocket" && frame[0] !== "hello";
    return [...(isPush ? [session.push_(bound)] : []), frame].map(codec.encode_);
  };
  const transmit = (bound: Bound) => {
    const { carrier_, kind_ } = bound;
    const poll = session.http_?.poll_(bound);
    if (poll) carrier_.poll_!(codec.encode_(poll));
    // The largest message must still fit behind what a batch holds, in base64, whatever its characters.
    const brim = Math.min(room, (session.maxBatch_() - session.maxMessage_() * 1.34 - 1024) / 3);
    while (carrier_.ready_()) {
      const frames: Packed[] = [];
      let size = 0;
      let frame;
      while ((!size || size < brim) && frames.length < 1000 && (frame = session.transmit_(bound))) {
        if (frames.length) frames.push(codec.encode_(frame));
        else frames.push(...batch(bound, frame));
        size += frames[frames.length - 1]!.length;
        // An HTTP request may reach nobody, and a browser does not tell: nothing goes behind `hello`, so that nothing is
        // of unknown fate for want of a network.
        if (frame[0] === "hello" && kind_ !== "websocket") break;
      }
      if (!frames.length) return;
      carrier_.send_(frames, session.answerTime_());
    }
  };

  /** One round of deciding and writing. */
  const pump = () => {
    pumping = false;
    if (over) return;
    const now = clock();
    session.tick_(now);
    const missed = session.due_();
    // Once: whose timers are always late still finds out what is dead.
    if (missed > reprieved && now - missed >= LATE) {
      reprieved = now + REPRIEVE;
      look();
    }
    if (missed <= now) session.timeout_(reprieved <= now);
    drain();
    if (journal_) {
      const [sent, received] = journal_.save_(session.state_(), session.queue_(), !!session.carrier_());
      session.upTo_(sent);
      session.safe_(received);
    }
    bounds().slice().forEach(transmit);
    drain();
    if (over) return;
    if (!bounds()[0] && !dials.size && !retryTimer && !away) {
      if (!nextKind()) plan?.restart_();
      void dial(nextKind()!);
    }
    const due = Math.max(session.due_(), reprieved);
    if (due !== dueAt || due === Infinity) {
      clearTimeout(dueTimer);
      dueAt = due;
      if (due < Infinity) {
        dueTimer = setTimeout(() => {
          dueAt = Infinity;
          wake();
        }, Math.max(due - now, 0));
      }
    }
  };
  /** Many sends, or many frames, go out in one batch. */
  const wake = () => {
    if (!pumping && !over) {
      pumping = true;
      queueMicrotask(pump);
    }
  };

  // The page's life.

  const look = () => {
    if (retryTimer) retry();
    else current().probe_();
    if (state.status === "connected") roaming?.carried_(state.transport, true);
    wake();
  };
  const leave = () => {
    stop();
    finish();
    for (const { carrier_ } of bounds()) carrier_.end_();
  };
  const unwatch = page_?.({
    keeps_: !!journal_,
    codec_: codec,
    url_: urlOf,
    session_: current,
    look_: look,
    away_(now) {
      away = now;
      if (now) {
        stopDialling();
        stopWaiting();
      } else wake();
    },
    drop_() {
      for (const each of bounds().slice()) session.detach_(each);
      drain();
    },
  });

  const patience = patience_?.({
    session_: () => session,
    reason_: () => (state as { reason?: ThroughlineError }).reason,
    giveUp_: giveUp,
  });

  journal_?.start_({ wake_: wake, leave_: leave, accept_: accept, report_: report });
  wake();

  const sent = (tag: MessageTag, body: Out): Promise<unknown> =>
    new Promise((resolve_, reject_) => accept(tag, 0, ...pack(body), { resolve_, reject_ }));

  return {
    get id() {
      return session.id_;
    },
    get state() {
      return state;
    },
    get waiting() {
      return session.held_();
    },
    send: (body) => accept("msg", 0, ...pack(body)),
    deliver: (body) => sent("msg", body) as Promise<void>,
    request<Answer>(body: Out, { signal }: { signal?: AbortSignal } = {}) {
      signal?.throwIfAborted();
      return new Promise<Answer>((resolve, reject) => {
        const abort = () => reject(signal!.reason as Error);
        signal?.addEventListener("abort", abort);
        void (sent("req", body) as Promise<Answer>).then(resolve, reject).finally(() => signal?.removeEventListener("abort", abort));
      });
    },
    on: on_,
    moveTo(kind) {
      if (!kind) plan?.prefer_(undefined);
      asked(kind);
    },
    close(code = "normal", reason = "") {
      current().close_(makeClose(code, reason));
      wake();
      return whenOver;
    },
    [Symbol.asyncIterator]: iterate_,
  };
};
