/**
 * One session for all tabs of an origin: `throughline/shared`.
 *
 * One tab leads (a Web Lock says which) and has the connection; the others talk to it over a `BroadcastChannel`, and each
 * keeps a copy of what the session needs to go on. When the leader dies the lock goes to another tab, which resumes the
 * session under its next attachment.
 */

import { type connect, type Message, type Part, type Socket, type State, ThroughlineError, type TransportKind } from "./index.js";
import type { Held } from "./session/outbox.js";
import { type Journal, type SavedState, savedOf, strand } from "./session/saved.js";
import type { Parts } from "./socket/parts.js";

type Kind = "send" | "deliver" | "request";
/** Who said it, and its how-manieth it is. */
type Told = Readonly<Record<string, number>>;
type PlainState = { status: State["status"]; transport?: TransportKind; retryAt?: number; code?: string; text?: string };
/** What stands on the channel: arrays, so that no name changes by a build. */
type Word<Out> =
  | ["hi"]
  | ["lead"]
  | ["send", tab: string, no: number, kind: Kind, body: Out]
  | ["done", tab: string, no: number, code: string | 0, value: unknown, text: string]
  | ["state", PlainState]
  | ["message", seq: number, body: unknown]
  | ["lost", code: string, text: string, unknown: unknown[]]
  /** The whole copy, or what is new behind what is known. */
  | ["copy", state: SavedState, base: number, queue: Held[], told: Told];

interface Pending<Out> {
  readonly no: number;
  readonly kind: Kind;
  readonly body: Out;
  accepted?: boolean;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** What tabs that share a session can do. */
export interface SharedSocket<In, Out> {
  readonly state: State;
  /** Whether this tab has the connection. */
  readonly leads: boolean;
  send(body: Out): void;
  deliver(body: Out): Promise<void>;
  request<Answer = In>(body: Out): Promise<Answer>;
  /** Every tab hears every message; a request of the server only the tab that leads. */
  on(name: "message", listener: (message: Pick<Message<In, Out>, "body"> & Partial<Message<In, Out>>) => void): () => void;
  on(name: "state", listener: (state: State) => void): () => void;
  on(name: "lost", listener: (lost: { reason: ThroughlineError; unknown: readonly Out[] }) => void): () => void;
  /** This tab has no part in it any more; the others go on. When the last has left, the server ends the session in its time. */
  leave(): void;
}

const plain = (state: State): PlainState => ({
  status: state.status,
  ...("transport" in state && { transport: state.transport }),
  ...("retryAt" in state && state.retryAt !== undefined && { retryAt: state.retryAt }),
  ...("reason" in state && state.reason && { code: state.reason.code, text: state.reason.message }),
});
const unplain = ({ code, text, ...state }: PlainState): State =>
  ({ ...state, ...(code && { reason: new ThroughlineError(code, text) }) }) as State;

/**
 * Shares what `open` connects with all tabs that share that name: `share("chat", (parts) => connect("/live", { parts }))`.
 * It needs a secure context, for Web Locks.
 */
export const share = <In = unknown, Out = unknown>(
  name: string,
  open: (parts: readonly Part[]) => ReturnType<typeof connect<In, Out>>,
): SharedSocket<In, Out> => {
  const channel = new BroadcastChannel(`throughline:${name}`);
  const tab = Array.from(crypto.getRandomValues(new Uint32Array(3)), (word) => word.toString(36)).join("");
  const tell = (word: Word<Out>) => channel.postMessage(word);

  let socket: Socket<In, Out> | undefined;
  let leave: (() => void) | undefined;
  let state: State = { status: "connecting" };
  let gone = false;
  let release: (() => void) | undefined;
  const control = new AbortController();
  const listeners = { message: new Set<(event: never) => void>(), state: new Set<(event: never) => void>(), lost: new Set<(event: never) => void>() };
  const emit = (what: keyof typeof listeners, event: unknown) => {
    for (const listener of [...listeners[what]]) listener(event as never);
  };

  // The copy of the session, in every tab.
  let saved: SavedState | undefined;
  let queue: Held[] = [];
  let told: Record<string, number> = {};
  /** The highest message that this tab has heard. */
  let heard = 0;

  /** What this tab has said and the leader has not done yet. */
  const pending = new Map<number, Pending<Out>>();
  let count = 0;

  const settle = (of: string, no: number, code: string | 0, value: unknown, text: string) => {
    const one = of === tab && pending.get(no);
    if (!one) return;
    pending.delete(no);
    if (code) one.reject(new ThroughlineError(code, text, value === undefined ? undefined : { body: value }));
    else one.resolve(value);
  };
  const become = (next: State) => {
    state = next;
    emit("state", state);
  };
  const hear = (seq: number, body: unknown) => {
    if (seq <= heard) return;
    heard = seq;
    emit("message", { body });
  };

  // The leader.

  const act = (of: string, no: number, kind: Kind, body: Out) => {
    if (!socket || no <= (told[of] ?? 0)) return;
    told[of] = no;
    const finish = (code: string | 0, value?: unknown, text = "") => {
      if (of === tab) settle(of, no, code, value, text);
      else tell(["done", of, no, code, value, text]);
    };
    const fail = (error: unknown) => {
      const { code, message, body: what } = error as ThroughlineError;
      finish(code ?? "failed", what, message);
    };
    try {
      if (kind === "send") {
        socket.send(body);
        // The others know it when they have its copy.
        if (of === tab) finish(0);
      } else socket[kind](body).then((value) => finish(0, value), fail);
    } catch (error) {
      fail(error);
    }
  };
  const lead = () => {
    if (saved) saved = [saved[0], saved[1], saved[2], saved[3], Math.max(saved[4], heard), saved[5]];
    const [before, left] = [saved, queue];
    let known = new Set<Held>();
    let noted = "";
    const journal: Journal = {
      saved_: savedOf(before, left),
      start_(handle) {
        leave = handle.leave_;
        strand(before, left, handle);
      },
      save_(now, held) {
        const note = JSON.stringify([now, told]);
        const fresh = held.filter((one) => !known.has(one));
        if (note !== noted || fresh[0]) {
          if (saved?.[0] !== now[0]) heard = 0;
          saved = now;
          // What may be sent now bears its number.
          queue = held.map(([tag, , re, body, size], at) => [tag, now[5] + at + 1, re, body, size]);
          noted = note;
          known = new Set(held);
          tell(["copy", now, held.length - fresh.length, queue.slice(held.length - fresh.length), told]);
        }
        return Infinity;
      },
      heard_(seq, body) {
        heard = seq;
        tell(["message", seq, body]);
      },
      end_: () => undefined,
    };
    const parts: Parts = { journal_: journal };
    socket = open([parts as unknown as Part]);
    socket.on("state", (next) => {
      become(next);
      tell(["state", plain(next)]);
    });
    socket.on("message", (message) => emit("message", message));
    socket.on("lost", ({ reason, unknown }) => {
      emit("lost", { reason, unknown });
      tell(["lost", reason.code, reason.message, [...unknown]]);
    });
    tell(["lead"]);
    again();
  };
  /** Says what no leader is known to have accepted; what one had accepted and not done has lost its answer. */
  const again = () => {
    for (const { no, kind, body, reject } of [...pending.values()]) {
      if (no <= (told[tab] ?? 0)) {
        pending.delete(no);
        reject(new ThroughlineError("lost"));
      } else say(no, kind, body);
    }
  };
  const say = (no: number, kind: Kind, body: Out) => {
    if (socket) act(tab, no, kind, body);
    else tell(["send", tab, no, kind, body]);
  };
  const accept = (kind: Kind, body: Out): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const no = ++count;
      pending.set(no, { no, kind, body, resolve, reject });
      say(no, kind, body);
    });

  channel.onmessage = ({ data }: MessageEvent<Word<Out>>) => {
    switch (data[0]) {
      case "hi":
        if (socket && saved) {
          tell(["copy", saved, 0, queue, told]);
          tell(["state", plain(state)]);
        }
        break;
      case "lead":
        again();
        break;
      case "send":
        act(data[1], data[2], data[3], data[4]);
        break;
      case "done":
        settle(data[1], data[2], data[3], data[4], data[5]);
        break;
      case "state":
        become(unplain(data[1]));
        break;
      case "message":
        hear(data[1], data[2] as In);
        break;
      case "lost":
        emit("lost", { reason: new ThroughlineError(data[1], data[2]), unknown: data[3] });
        break;
      case "copy": {
        const [, next, base, more, by] = data;
        // Behind what is known; one that came late waits for its own whole copy.
        if (base && saved?.[0] !== next[0]) return void tell(["hi"]);
        if (!saved || saved[0] !== next[0]) heard = next[4];
        const kept = queue.filter(([, seq]) => seq > next[5] && seq <= next[5] + base);
        if (kept.length < base) return void tell(["hi"]);
        queue = [...kept, ...more];
        saved = next;
        told = { ...by };
        for (const one of [...pending.values()]) {
          if (one.no > (told[tab] ?? 0)) continue;
          one.accepted = true;
          if (one.kind === "send") settle(tab, one.no, 0, undefined, "");
        }
      }
    }
  };
  tell(["hi"]);
  navigator.locks
    .request(`throughline:${name}`, { signal: control.signal }, () => {
      if (gone) return;
      lead();
      return new Promise<void>((resolve) => (release = resolve));
    })
    .catch(() => undefined);

  return {
    get state() {
      return state;
    },
    get leads() {
      return !!socket;
    },
    send: (body) => void accept("send", body).catch((error) => emit("lost", { reason: error as ThroughlineError, unknown: [body] })),
    deliver: (body) => accept("deliver", body) as Promise<void>,
    request: <Answer>(body: Out) => accept("request", body) as Promise<Answer>,
    on(what: keyof typeof listeners, listener: (event: never) => void) {
      listeners[what].add(listener);
      return () => void listeners[what].delete(listener);
    },
    leave() {
      gone = true;
      control.abort();
      leave?.();
      socket = undefined;
      channel.close();
      release?.();
    },
  };
};
