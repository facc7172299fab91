/** What a tab has said and does not know to be done. It keeps that until it was stored, and says it again to each new leader. */

import { ThroughlineError } from "../error.js";
import { type Kind, MOST, type Plain, type Told, unplain } from "./words.js";

interface Pending<Out> {
  readonly kind: Kind;
  readonly body: Out;
  stored?: boolean;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export interface Said<Out> {
  size_(): number;
  /** Gives it the next number, and says it; settles when it is done: for what is only sent that is when it was stored. */
  accept_(kind: Kind, body: Out): Promise<unknown>;
  /** It was done, or has failed. */
  settle_(no: number, error: Plain | undefined, value?: unknown): void;
  /** So much of each tab was stored. */
  stored_(told: Told): void;
  /** The number of the first that is not done, or of what will be said next. */
  from_(): number;
  /** Says to a new leader what was not stored. Who waited for more than that waits in vain. */
  again_(): void;
  /** The tab has left: what is not done fails with `closed`. */
  end_(): void;
}

export const createSaid = <Out>(me: string, say: (no: number, kind: Kind, body: Out) => void): Said<Out> => {
  /** By their numbers, in order. */
  const pending = new Map<number, Pending<Out>>();
  let count = 0;
  const settle = (no: number, error: Plain | undefined, value?: unknown) => {
    const one = pending.get(no);
    pending.delete(no);
    if (error) one?.reject(unplain(error));
    else one?.resolve(value);
  };
  return {
    size_: () => pending.size,
    accept_: (kind, body) =>
      new Promise((resolve, reject) => {
        if (pending.size >= MOST) throw new ThroughlineError("full");
        // What changes later is not what was said.
        const copy = structuredClone(body);
        pending.set(++count, { kind, body: copy, resolve, reject });
        say(count, kind, copy);
      }),
    settle_: settle,
    stored_(told) {
      for (const [no, one] of [...pending]) {
        if (no > (told[me] ?? 0)) break;
        one.stored = true;
        if (one.kind === "send") settle(no, undefined);
      }
    },
    from_() {
      const [from = count + 1] = pending.keys();
      return from;
    },
    again_() {
      for (const [no, { kind, body, stored }] of [...pending]) {
        if (stored) settle(no, ["unanswered", ""]);
        else say(no, kind, body);
      }
    },
    end_() {
      for (const no of [...pending.keys()]) settle(no, ["closed", ""]);
    },
  };
};
