/** Who waits for an answer, or for a receipt. */

import type { Held } from "../session/outbox.js";
import { ThroughlineError } from "../error.js";

export interface Waiter {
  resolve_(value: unknown): void;
  reject_(error: unknown): void;
}

export const createWaiters = () => {
  const waiters = new Map<Held, Waiter>();
  /** Lets one wait no longer. */
  const settle = (held: Held): Waiter | undefined => {
    const waiter = waiters.get(held);
    waiters.delete(held);
    return waiter;
  };
  return {
    wait_: (held: Held, waiter: Waiter) => void waiters.set(held, waiter),
    settle_: settle,
    /** The server has received what it was told up to a number. */
    received_(acked: number) {
      for (const [held] of waiters) if (held[0] === "msg" && held[1] && held[1] <= acked) settle(held)!.resolve_(undefined);
    },
    /** Tells those who wait for what is lost; `unsent` is why what was never sent is not going to be. */
    lose_(cause: ThroughlineError, undelivered: readonly Held[], unsent?: ThroughlineError) {
      for (const [held] of waiters) {
        if (unsent || !undelivered.includes(held)) {
          settle(held)!.reject_(held[1] || !unsent ? new ThroughlineError("lost", cause.message, { cause }) : unsent);
        }
      }
    },
  };
};
