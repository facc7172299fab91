/** What a session is brought back from: by the page after a reload, or by another tab. */

import type { MessageTag, Packed } from "../frame/frame.js";
import { ThroughlineError } from "../error.js";
import type { Message } from "../socket/api.js";
import type { Held } from "./outbox.js";

/** In this order, so that it can be stored: no names that a build changes. */
export type SavedState = readonly [
  id: string,
  key: string,
  epoch: string | undefined,
  highest: number,
  received: number,
  acked: number,
];

export interface Saved {
  readonly id_: string;
  readonly key_: string;
  readonly epoch_: string | undefined;
  readonly highest_: number;
  readonly received_: number;
  readonly acked_: number;
  /** What is not acknowledged, oldest first. What may have been sent bears its number. */
  readonly queue_: Held[];
}

/** The highest attachment that was used may not have been noted. */
const UNNOTED = 1000;

/** A session to go on with. One that was never welcomed may not exist: it cannot. */
export const savedOf = (state: SavedState | undefined, queue: readonly Held[]): Saved | undefined => {
  if (!state?.[2]) return;
  const [id_, key_, epoch_, highest, received_, acked_] = state;
  return { id_, key_, epoch_, highest_: highest + UNNOTED, received_, acked_, queue_: [...queue] };
};
/** What goes to another session then, and what is of unknown fate. */
export const strand = (state: SavedState | undefined, queue: readonly Held[], inner: Handle): void => {
  if (state?.[2]) return;
  for (const [tag, seq, re, body, size] of queue) if (!seq && !re) inner.accept_(tag, 0, body, size);
  const unknown = queue.filter(([, seq]) => seq);
  if (unknown[0]) setTimeout(() => inner.report_(new ThroughlineError("lost"), unknown), 0);
};

/** What a journal may do with a socket. */
export interface Handle {
  /** Asks it to save again. */
  wake_(): void;
  /** Lets the session go without ending it. */
  leave_(): void;
  accept_(tag: MessageTag, re: number, body: Packed, size: number): void;
  report_(reason: ThroughlineError, messages: readonly Held[]): void;
}

/** Keeps a session somewhere else than in this page's memory. */
export interface Journal {
  /** What is to go on. */
  readonly saved_?: Saved | undefined;
  start_(handle: Handle): void;
  /** Notes what changed; gives the highest message that may be sent, and the highest that may be acknowledged: up to them
   * all is safe. */
  save_(state: SavedState, queue: readonly Held[], carried: boolean): readonly [sent: number, received: number];
  /** A message was received, before anybody is told so. */
  heard_?(seq: number, message: Message<unknown, unknown>): void;
  /** The session is over. */
  end_(): void;
}
