/**
 * One session for all tabs of an origin: `throughline/shared`.
 *
 * One tab leads (a Web Lock says which): it has the connection, and the session is in its store, as with
 * `throughline/durable`. The others talk to it over a `BroadcastChannel`. When the leader dies the lock goes to another
 * tab, which goes on with what is stored. Why nothing is lost or repeated then:
 *
 * - Nothing goes to the server before it is stored, with the number of each tab's latest message that was accepted.
 * - A tab keeps what it said until it hears that it was stored, and says it again to each new leader. A leader takes only a
 *   tab's next number: what was stored already is not taken twice, and nothing overtakes.
 * - What the server says goes to all tabs, and its number to the store, before its receipt goes to the server: a channel alone may
 *   be slower than a request, when a tab crashes. Tabs know repeats by their numbers.
 *
 * Each tab has the rooms of its own (`throughline/rooms`), of what all hear. The leader counts which tabs are in which
 * (`shared/steward.ts`), and stores that with the numbers. A tab holds a lock of its own as long as it lives, and the leader waits
 * for it: so it hears of a crash, and that of an earlier leader too.
 */

import { openStore } from "./durable.js";
import { ThroughlineError } from "./error.js";
import type { connect, Message, Part, Socket, State } from "./index.js";
import { createSteward, type Stay, type Steward } from "./shared/steward.js";
import type { Parts } from "./socket/parts.js";

type Kind = "send" | "deliver" | "request";
/** How many messages of each tab are stored, by the name of the tab; who said something last stands last. */
type Told = Record<string, number>;
/** What is stored beside the session. */
type Extra = readonly [told: Told, stays: Stay[]];
/** An error, as a channel can bear it. */
type Plain = readonly [code: string, text: string, body?: unknown];
/** What stands on the channel: arrays, so that no name changes by a build. */
type Word<Out> =
  | readonly ["hi"]
  | readonly ["bye", tab: string]
  | readonly ["lead", tab: string, told: Told]
  | readonly ["from", tab: string, no: number]
  | readonly ["send", tab: string, no: number, kind: Kind, body: Out]
  | readonly ["told", told: Told]
  | readonly ["done", tab: string, no: number, error: Plain | undefined, value: unknown]
  | readonly ["state", state: object, reason: Plain | undefined]
  | readonly ["message", session: string, seq: number, body: unknown]
  | readonly ["lost", reason: Plain, unknown: readonly Out[]];

interface Pending<Out> {
  readonly kind: Kind;
  readonly body: Out;
  stored?: boolean;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** So many messages of a tab may wait to be stored, and of so many tabs is remembered how far they are. */
const MOST = 1024;

/** A message that came to all tabs. Only the tab that leads can answer it. */
export type SharedMessage<In, Out> = Pick<Message<In, Out>, "body"> & Partial<Message<In, Out>>;

/** What a shared socket tells. */
export interface SharedEvents<In, Out> {
  message: SharedMessage<In, Out>;
  state: State;
  /**
   * The `session` was lost and another begins: `unknown` are the messages of any tab whose fate is unknown. Or one `message` of
   * this tab was not accepted.
   */
  lost: { readonly reason: ThroughlineError; readonly unknown: readonly Out[]; readonly scope: "session" | "message" };
}

/** The part of a tab in a session that it shares. */
export interface SharedSocket<In, Out> {
  readonly state: State;
  /** Whether this tab has the connection. */
  readonly leads: boolean;
  /** How many messages of this tab are not stored yet: they would be gone with it. */
  readonly waiting: number;
  /** Sends a message, once and in the order of this tab's. Throws `full` where too many wait. */
  send(body: Out): void;
  /** Resolves when the server has received it; fails with `unanswered` if the tab that leads dies meanwhile: then it goes on. */
  deliver(body: Out): Promise<void>;
  /** Resolves with the answer; fails with `unanswered` if the tab that leads dies meanwhile: then the request goes on. */
  request<Answer = In>(body: Out): Promise<Answer>;
  /** Listens; returns the way to stop. Every tab hears every message. */
  on<Name extends keyof SharedEvents<In, Out>>(name: Name, listener: (event: SharedEvents<In, Out>[Name]) => void): () => void;
  /** This tab has no part in it any more; the others go on. When the last has left, the server ends it in its time. */
  leave(): void;
}

/** Waits for a lock, and holds it until the returned function is called. */
const hold = (name: string, signal: AbortSignal): Promise<() => void> =>
  new Promise((resolve, reject) => {
    navigator.locks.request(name, { signal }, () => new Promise<void>((release) => resolve(release))).catch(reject);
  });

const plain = ({ code, message, body }: ThroughlineError): Plain => [code ?? "failed", message, body];
const unplain = ([code, text, body]: Plain) => new ThroughlineError(code, text, body === undefined ? undefined : { body });

/**
 * Shares what `open` connects with all tabs that share that name: `share("chat", (parts) => connect("/live", { parts }))`.
 * It needs a secure context, for Web Locks.
 */
export const share = <In = unknown, Out = unknown>(
  name: string,
  open: (parts: readonly Part[]) => ReturnType<typeof connect<In, Out>>,
): SharedSocket<In, Out> => {
  type Heard = SharedEvents<In, Out>;
  const channel = new BroadcastChannel(`throughline:${name}`);
  const me = Array.from(crypto.getRandomValues(new Uint32Array(3)), (word) => word.toString(36)).join("");
  const tell = (word: Word<Out>) => channel.postMessage(word);

  let socket: Socket<In, Out> | undefined;
  let leaveSession: (() => void) | undefined;
  let state: State = { status: "connecting" };
  let gone = false;
  /** Lets go what this tab holds, the latest first. */
  const held: (() => void)[] = [];
  const lockOf = (tab: string) => `throughline:${name} tab ${tab}`;
  const control = new AbortController();
  const listeners: { [Name in keyof Heard]: Set<(event: Heard[Name]) => void> } = { message: new Set(), state: new Set(), lost: new Set() };
  const emit = <Name extends keyof Heard>(what: Name, event: Heard[Name]) => {
    for (const listener of [...listeners[what]]) {
      try {
        listener(event);
      } catch (error) {
        // The listener's own affair.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  };
  const become = (next: State) => emit("state", (state = next));

  /** The latest message that this tab has heard, and of which session. */
  let heard: readonly [session: string, seq: number] = ["", 0];
  const hear = (session: string, seq: number, message: Heard["message"]) => {
    if (session === heard[0] && seq <= heard[1]) return;
    heard = [session, seq];
    emit("message", message);
  };

  /** What this tab has said that is not done, by its numbers, in order. */
  const pending = new Map<number, Pending<Out>>();
  let count = 0;
  let leader = "";

  const settle = (no: number, error: Plain | undefined, value?: unknown) => {
    const one = pending.get(no);
    pending.delete(no);
    if (error) one?.reject(unplain(error));
    else one?.resolve(value);
  };
  const stored = (told: Told) => {
    for (const [no, one] of [...pending]) {
      if (no > (told[me] ?? 0)) break;
      one.stored = true;
      if (one.kind === "send") settle(no, undefined);
    }
  };
  /** A new leader: it hears again what is not stored. Who waited for more than that waits in vain. */
  const follow = (tab: string, told: Told) => {
    if (tab === leader) return;
    leader = tab;
    stored(told);
    // What was done without a word to the server may not be stored: it is not waited for.
    const [from = count + 1] = pending.keys();
    begin(me, from);
    tell(["from", me, from]);
    for (const [no, { kind, body, stored }] of [...pending]) {
      if (stored) settle(no, ["unanswered", ""]);
      else say(no, kind, body);
    }
  };
  const say = (no: number, kind: Kind, body: Out) => {
    if (leader === me) act(me, no, kind, body);
    else tell(["send", me, no, kind, body]);
  };
  const accept = (kind: Kind, body: Out): Promise<unknown> =>
    new Promise((resolve, reject) => {
      if (gone) throw new ThroughlineError("closed");
      if (pending.size >= MOST) throw new ThroughlineError("full");
      // What changes later is not what was said.
      const copy = structuredClone(body);
      pending.set(++count, { kind, body: copy, resolve, reject });
      if (leader) say(count, kind, copy);
    });

  // The tab that leads.

  let told: Told = {};
  let stays: Stay[] = [];
  let steward: Steward | undefined;
  /** Who waits until a tab's number is stored. */
  let waits: (readonly [of: string, no: number, resolve: () => void])[] = [];
  let save = () => {};
  const begin = (of: string, no: number) => {
    if (socket && no > (told[of] ?? 0) + 1) told[of] = no - 1;
  };
  const bury = (of: string) => {
    delete told[of];
    steward?.gone_(of);
    save();
  };
  const watched = new Set([me]);
  const watch = (of: string) => {
    if (watched.has(of)) return;
    watched.add(of);
    const mourn = (release: () => void) => {
      release();
      bury(of);
    };
    hold(lockOf(of), control.signal).then(mourn, () => undefined);
  };
  const act = (of: string, no: number, kind: Kind, body: Out) => {
    if (!socket || no !== (told[of] ?? 0) + 1) return;
    delete told[of];
    told[of] = no;
    for (const old of Object.keys(told).slice(0, -MOST)) delete told[old];
    const finish = (error: Plain | undefined, value?: unknown) => {
      if (of === me) settle(no, error, value);
      else tell(["done", of, no, error, value]);
    };
    const fail = (error: unknown) => finish(plain(error as ThroughlineError));
    const kept = () =>
      new Promise<void>((resolve) => {
        waits.push([of, no, resolve]);
        save();
      });
    watch(of);
    try {
      if (kind === "send") socket.send(body);
      else (kind === "deliver" ? socket.deliver(body) : steward!.ask_(of, body, kept)).then((value) => finish(undefined, value), fail);
    } catch (error) {
      fail(error);
    }
  };
  const lead = async () => {
    let session = "";
    const store = await openStore(`${name} shared`, () => structuredClone([told, stays]), (extra) => {
      const [now] = extra as Extra;
      stored(now);
      tell(["told", now]);
      const late = waits;
      waits = [];
      for (const wait of late) {
        if ((now[wait[0]] ?? Infinity) >= wait[1]) wait[2]();
        else waits.push(wait);
      }
    });
    if (gone) return store.close();
    [told, stays] = (store.extra ?? [{}, []]) as Extra;
    const { journal } = store;
    const { saved_ } = journal;
    if (saved_ && saved_.id_ === heard[0]) Object.assign(saved_, { received_: Math.max(saved_.received_, heard[1]) });
    const parts: Parts = {
      journal_: {
        ...journal,
        start_(handle) {
          leaveSession = () => {
            handle.leave_();
            store.close();
          };
          journal.start_(handle);
          save = handle.wake_;
        },
        save_(now, ...more) {
          session = now[0];
          return journal.save_(now, ...more);
        },
        heard_(seq, message) {
          tell(["message", session, seq, message.body]);
          hear(session, seq, message as Message<In, Out>);
        },
      },
    };
    const opened = (socket = open([parts as unknown as Part]));
    steward = createSteward(stays, (payload) => opened.request(payload as Out));
    steward.tabs_().forEach(watch);
    socket.on("state", (next) => {
      become(next);
      show();
    });
    // They were heard already; this takes them.
    socket.on("message", () => undefined);
    socket.on("lost", ({ reason, unknown }) => {
      tell(["lost", plain(reason), unknown]);
      emit("lost", { reason, unknown, scope: "session" });
    });
    tell(["lead", me, told]);
    follow(me, told);
    become(socket.state);
    show();
  };
  const show = () => {
    const { reason, ...rest } = state as State & { reason?: ThroughlineError };
    tell(["state", rest, reason && plain(reason)]);
  };

  const hearOthers = ({ data }: MessageEvent<Word<Out>>) => {
    switch (data[0]) {
      case "hi":
        if (socket) {
          tell(["lead", me, told]);
          show();
        }
        break;
      case "bye":
        bury(data[1]);
        break;
      case "lead":
        follow(data[1], data[2]);
        break;
      case "from":
        begin(data[1], data[2]);
        break;
      case "send":
        act(data[1], data[2], data[3], data[4]);
        break;
      case "told":
        stored(data[1]);
        break;
      case "done":
        if (data[1] === me) settle(data[2], data[3], data[4]);
        break;
      case "state":
        become({ ...data[1], ...(data[2] && { reason: unplain(data[2]) }) } as State);
        break;
      case "message":
        hear(data[1], data[2], { body: data[3] as In });
        break;
      case "lost":
        emit("lost", { reason: unplain(data[1]), unknown: data[2], scope: "session" });
    }
  };
  const compete = async () => {
    const { signal } = control;
    // Before anybody hears of this tab, and waits for it.
    held.push(await hold(lockOf(me), signal));
    if (gone) return;
    channel.onmessage = hearOthers;
    tell(["hi"]);
    const release = await hold(`throughline:${name} shared`, signal);
    held.push(release);
    try {
      await lead();
    } catch (error) {
      release();
      throw error;
    }
  };
  const letGo = () => gone && held.splice(0).forEach((release) => release());
  compete()
    .catch((cause: unknown) => gone || become({ status: "closed", reason: new ThroughlineError("storage", "", { cause }) }))
    .finally(letGo);

  return {
    get state() {
      return state;
    },
    get leads() {
      return !!socket;
    },
    get waiting() {
      return pending.size;
    },
    send(body) {
      if (gone) throw new ThroughlineError("closed");
      if (pending.size >= MOST) throw new ThroughlineError("full");
      accept("send", body).catch((error: unknown) => emit("lost", { reason: error as ThroughlineError, unknown: [body], scope: "message" }));
    },
    deliver: (body) => accept("deliver", body) as Promise<void>,
    request: <Answer>(body: Out) => accept("request", body) as Promise<Answer>,
    on(what, listener) {
      listeners[what].add(listener);
      return () => void listeners[what].delete(listener);
    },
    leave() {
      if (gone) return;
      gone = true;
      tell(["bye", me]);
      control.abort();
      leaveSession?.();
      socket = undefined;
      channel.close();
      letGo();
      for (const no of [...pending.keys()]) settle(no, ["closed", ""]);
      state = { status: "closed", reason: new ThroughlineError("closed") };
      emit("state", state);
    },
  };
};
