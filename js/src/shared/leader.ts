/** What the tab that leads does for all: it has the session, stores it, and takes from each tab what is its next message. */

import { openStore } from "../durable.js";
import type { ThroughlineError } from "../error.js";
import type { connect, Message, Part, Socket, State } from "../index.js";
import type { Parts } from "../socket/parts.js";
import { createSteward, type Stay, type Steward } from "./steward.js";
import { hold, type Kind, MOST, type Plain, plain, type Told, type Word } from "./words.js";

/** What is stored beside the session. */
type Extra = readonly [told: Told, stays: Stay[]];

/** The tab itself. */
export interface Tab<In, Out> {
  readonly name_: string;
  readonly me_: string;
  /** Aborted when the tab has no part in it any more. */
  readonly signal_: AbortSignal;
  readonly lockOf_: (tab: string) => string;
  /** The latest message that it has heard. */
  heard_(): readonly [session: string, seq: number];
  hear_(session: string, seq: number, message: Message<In, Out>): void;
  tell_(word: Word<Out>): void;
  stored_(told: Told): void;
  settle_(no: number, error: Plain | undefined, value?: unknown): void;
  lost_(reason: ThroughlineError, unknown: readonly Out[]): void;
  state_(state: State): void;
  /** From here on it leads. */
  leads_(told: Told): void;
}

export interface Leader<Out> {
  /** Begins to lead. */
  lead_(): Promise<void>;
  /** What was stored of each tab; none: this one does not lead. */
  told_(): Told | undefined;
  /** From which number on a tab speaks: what was done without being stored it does not say again. */
  begin_(of: string, no: number): void;
  /** Takes what a tab says, if it is the next. */
  act_(of: string, no: number, kind: Kind, body: Out): void;
  /** A tab has gone. */
  bury_(of: string): void;
  /** This one has gone; what is stored is for the next. */
  leave_(): void;
}

export const createLeader = <In, Out>(
  tab: Tab<In, Out>,
  open: (parts: readonly Part[]) => ReturnType<typeof connect<In, Out>>,
): Leader<Out> => {
  const { name_: name, me_: me, signal_: signal, tell_: tell } = tab;
  let socket: Socket<In, Out> | undefined;
  let leaveSession: (() => void) | undefined;
  let told: Told = {};
  let stays: Stay[] = [];
  let steward: Steward | undefined;
  /** Who waits until a tab's number is stored. */
  let waits: (readonly [of: string, no: number, resolve: () => void])[] = [];
  let save = () => {};

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
    hold(tab.lockOf_(of), signal).then(mourn, () => undefined);
  };

  /** More was stored. */
  const stored = (now: Told) => {
    tab.stored_(now);
    tell(["told", now]);
    const late = waits;
    waits = [];
    for (const wait of late) {
      if ((now[wait[0]] ?? Infinity) >= wait[1]) wait[2]();
      else waits.push(wait);
    }
  };

  return {
    told_: () => socket && told,
    begin_(of, no) {
      if (socket && no > (told[of] ?? 0) + 1) told[of] = no - 1;
    },
    act_(of, no, kind, body) {
      if (!socket || no !== (told[of] ?? 0) + 1) return;
      delete told[of];
      told[of] = no;
      for (const old of Object.keys(told).slice(0, -MOST)) delete told[old];
      const finish = (error: Plain | undefined, value?: unknown) => {
        if (of === me) tab.settle_(no, error, value);
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
    },
    bury_: bury,
    async lead_() {
      let session = "";
      const store = await openStore(`${name} shared`, () => structuredClone([told, stays]), (extra) => stored((extra as Extra)[0]));
      if (signal.aborted) return store.close();
      [told, stays] = (store.extra ?? [{}, []]) as Extra;
      const { journal } = store;
      const { saved_ } = journal;
      const [of, seq] = tab.heard_();
      if (saved_ && saved_.id_ === of) Object.assign(saved_, { received_: Math.max(saved_.received_, seq) });
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
            tab.hear_(session, seq, message as Message<In, Out>);
          },
        },
      };
      const opened = (socket = open([parts as unknown as Part]));
      steward = createSteward(stays, (payload) => opened.request(payload as Out));
      steward.tabs_().forEach(watch);
      socket.on("state", tab.state_);
      // They were heard already; this takes them.
      socket.on("message", () => undefined);
      socket.on("lost", ({ reason, unknown }) => {
        tell(["lost", plain(reason), unknown]);
        tab.lost_(reason, unknown);
      });
      tab.leads_(told);
      tab.state_(socket.state);
    },
    leave_() {
      leaveSession?.();
      socket = undefined;
    },
  };
};
