/** What a session is allowed and when it loses patience. `docs/PROTOCOL.md`, "Limits and defaults". */

import type { Window } from "../frame/frame.js";

/** Times are in milliseconds. */
export interface Config {
  /** How much is held for the application here. */
  readonly window_: Window;
  /** How much may wait to be sent or acknowledged. */
  readonly outbox_: Window;
  /** What may be sent behind the first `hello`. */
  readonly early_: Window;
  /**
   * Whether what was never sent waits for `welcome` when a session is resumed. A server that has forgotten it drops what
   * stands behind `hello`; so its fate is not unknown then, at the price of a round trip.
   */
  readonly cautious_: boolean;
  /** How many requests may wait for their answer. */
  readonly requests_: number;
  /** How long a receipt waits for company: usually, and while it is about little at the most. */
  readonly ackDelay_: number;
  readonly lightAckDelay_: number;
  readonly closeTimeout_: number;
  /** How long to ask a poll to be held, at first. */
  readonly hold_: number;
  /** And at the longest. */
  readonly longestHold_: number;
  /** From `hello` to `welcome`. */
  readonly welcomeWithin_: number;
  /** The most that what takes one round trip may take: a proof, or the answer to `attach`. */
  readonly proveWithin_: number;
  /** After messages went out behind a `hello` that nobody answered. */
  readonly unansweredWithin_: number;
  /** How long a path is on trial after its proof; 0 where there is no other transport to try. */
  readonly trial_: number;
  /** The first pause before a push that made no progress is repeated. */
  readonly pushRetry_: number;
}

export const defaults: Config = {
  window_: { messages: 256, bytes: 1 << 20 },
  outbox_: { messages: 1024, bytes: 2 << 20 },
  early_: { messages: 64, bytes: 64 << 10 },
  cautious_: false,
  requests_: 256,
  ackDelay_: 50,
  lightAckDelay_: 2_000,
  closeTimeout_: 10_000,
  hold_: 2_000,
  longestHold_: 25_000,
  welcomeWithin_: 10_000,
  proveWithin_: 3_000,
  unansweredWithin_: 60_000,
  trial_: 0,
  pushRetry_: 250,
};
