/**
 * One session for all tabs of an origin: `throughline/shared`.
 *
 * One tab leads (a Web Lock says which): it has the connection, and the session is in its store, as with
 * `throughline/durable` (`shared/leader.ts`). The others talk to it over a `BroadcastChannel` (`shared/words.ts`). When the
 * leader dies the lock goes to another tab, which goes on with what is stored. Why nothing is lost or repeated then:
 *
 * - Nothing goes to the server before it is stored, with the number of each tab's latest message that was accepted.
 * - A tab keeps what it said until it hears that it was stored (`shared/said.ts`), and says it again to each new leader. A leader takes only a
 *   tab's next number: what was stored already is not taken twice, and nothing overtakes.
 * - What the server says goes to all tabs, and its number to the store, before its receipt goes to the server: a channel alone may
 *   be slower than a request, when a tab crashes. Tabs know repeats by their numbers. Who is to lead hears first what the channel
 *   still had from the one before: a word of its own comes behind that.
 *
 * Each tab has the rooms of its own (`throughline/rooms`), of what all hear. The leader counts which tabs are in which
 * (`shared/steward.ts`), and stores that with the numbers. A tab holds a lock of its own as long as it lives, and the leader waits
 * for it: so it hears of a crash, and that of an earlier leader too.
 */

import { ThroughlineError } from "./error.js";
import type { connect, Message, Part, State } from "./index.js";
import { createLeader } from "./shared/leader.js";
import { createSaid } from "./shared/said.js";
import { hold, MOST, plain, type Told, unplain, type Word } from "./shared/words.js";

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

/**
 * Shares what `open` connects with all tabs that share that name: `share("chat", (parts) => connect("/live", { parts }))`.
 * It needs a secure context, for Web Locks.
 */
export const share = <In = unknown, Out = unknown>(
  name: string,
  open: (parts: readonly Part[]) => ReturnType<typeof connect<In, Out>>,
): SharedSocket<In, Out> => {
  type Heard = SharedEvents<In, Out>;
  const channelOf = `throughline:${name}`;
  const channel = new BroadcastChannel(channelOf);
  const me = Array.from(crypto.getRandomValues(new Uint32Array(3)), (word) => word.toString(36)).join("");
  const tell = (word: Word<Out>) => channel.postMessage(word);
  const lockOf = (tab: string) => `throughline:${name} tab ${tab}`;
  const control = new AbortController();
  const { signal } = control;

  let state: State = { status: "connecting" };
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
  const show = () => {
    const { reason, ...rest } = state as State & { reason?: ThroughlineError };
    tell(["state", rest, reason && plain(reason)]);
  };
  const lost = (reason: ThroughlineError, unknown: readonly Out[]) => emit("lost", { reason, unknown, scope: "session" });

  /** The latest message that this tab has heard, and of which session. */
  let heard: readonly [session: string, seq: number] = ["", 0];
  const hear = (session: string, seq: number, message: Heard["message"]) => {
    if (session === heard[0] && seq <= heard[1]) return;
    heard = [session, seq];
    emit("message", message);
  };

  /** The tab that leads, as far as is known. */
  let leader = "";
  const said = createSaid<Out>(me, (no, kind, body) => {
    if (leader === me) leading.act_(me, no, kind, body);
    else if (leader) tell(["send", me, no, kind, body]);
  });
  const follow = (tab: string, told: Told) => {
    if (tab === leader) return;
    leader = tab;
    said.stored_(told);
    const from = said.from_();
    leading.begin_(me, from);
    tell(["from", me, from]);
    said.again_();
  };
  const leading = createLeader<In, Out>(
    {
      name_: name,
      me_: me,
      signal_: signal,
      lockOf_: lockOf,
      heard_: () => heard,
      hear_: hear,
      tell_: tell,
      stored_: said.stored_,
      settle_: said.settle_,
      lost_: lost,
      state_(next) {
        become(next);
        show();
      },
      leads_(told) {
        tell(["lead", me, told]);
        follow(me, told);
      },
    },
    open,
  );

  const hearOthers = ({ data }: MessageEvent<Word<Out>>) => {
    switch (data[0]) {
      case "hi": {
        const told = leading.told_();
        if (told) {
          tell(["lead", me, told]);
          show();
        }
        break;
      }
      case "echo":
        if (data[1] === me) caughtUp();
        break;
      case "bye":
        leading.bury_(data[1]);
        break;
      case "lead":
        follow(data[1], data[2]);
        break;
      case "from":
        leading.begin_(data[1], data[2]);
        break;
      case "send":
        leading.act_(data[1], data[2], data[3], data[4]);
        break;
      case "told":
        said.stored_(data[1]);
        break;
      case "done":
        if (data[1] === me) said.settle_(data[2], data[3], data[4]);
        break;
      case "state":
        become({ ...data[1], ...(data[2] && { reason: unplain(data[2]) }) } as State);
        break;
      case "message":
        hear(data[1], data[2], { body: data[3] as In });
        break;
      case "lost":
        lost(unplain(data[1]), data[2]);
    }
  };

  let caughtUp: () => void;
  /** Resolves when this tab has heard what was said before. */
  const catchUp = () =>
    new Promise<void>((resolve) => {
      caughtUp = resolve;
      // A channel does not hear itself, and another one does.
      const other = new BroadcastChannel(channelOf);
      other.postMessage(["echo", me] satisfies Word<Out>);
      other.close();
    });

  /** Lets go what this tab holds, the latest first. */
  const held: (() => void)[] = [];
  const letGo = () => signal.aborted && held.splice(0).forEach((release) => release());
  const compete = async () => {
    // Before anybody hears of this tab, and waits for it.
    held.push(await hold(lockOf(me), signal));
    if (signal.aborted) return;
    channel.onmessage = hearOthers;
    tell(["hi"]);
    const release = await hold(`throughline:${name} shared`, signal);
    held.push(release);
    if (signal.aborted) return;
    try {
      await catchUp();
      await leading.lead_();
    } catch (error) {
      release();
      throw error;
    }
  };
  compete()
    .catch((cause: unknown) => signal.aborted || become({ status: "closed", reason: new ThroughlineError("storage", "", { cause }) }))
    .finally(letGo);

  const accept: typeof said.accept_ = async (kind, body) => {
    if (signal.aborted) throw new ThroughlineError("closed");
    return said.accept_(kind, body);
  };
  return {
    get state() {
      return state;
    },
    get leads() {
      return !!leading.told_();
    },
    get waiting() {
      return said.size_();
    },
    send(body) {
      if (signal.aborted) throw new ThroughlineError("closed");
      if (said.size_() >= MOST) throw new ThroughlineError("full");
      accept("send", body).catch((error: unknown) => emit("lost", { reason: error as ThroughlineError, unknown: [body], scope: "message" }));
    },
    deliver: (body) => accept("deliver", body) as Promise<void>,
    request: <Answer>(body: Out) => accept("request", body) as Promise<Answer>,
    on(what, listener) {
      listeners[what].add(listener);
      return () => void listeners[what].delete(listener);
    },
    leave() {
      if (signal.aborted) return;
      tell(["bye", me]);
      control.abort();
      leading.leave_();
      channel.close();
      letGo();
      said.end_();
      become({ status: "closed", reason: new ThroughlineError("closed") });
    },
  };
};
