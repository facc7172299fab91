/** One attachment's transport as the session sees it: how far its greeting is, and what it owes. */

import type { Frame, TransportKind } from "../frame/frame.js";

export const GREETING = 0;
/** A candidate that was welcomed. */
export const INTRODUCED = 1;
/** `attach` was said and not answered yet. */
export const ATTACHING = 2;
/** It carries the session. */
export const ATTACHED = 3;

/** Times are those of the session's clock; `Infinity` is none. */
export interface Binding {
  readonly attachment_: number;
  readonly kind_: TransportKind;
  stage_: 0 | 1 | 2 | 3;
  /** Whether its `hello` only introduced it. */
  candidate_: boolean;
  /** When the stage must have been left, or the path have been proved. */
  until_: number;
  /** When something last proved that the path lives, and when that was whole. */
  heard_: number;
  whole_: number;
  /** When the first thing was said that nothing has answered since; and behind how much silence something came yet. */
  spokeAt_: number;
  outlived_: number;
  /** When its `hello` went, or it was asked last whether it lives. */
  asked_: number;
  /** Until when what a box has turned down for now is not sent again. */
  pausedUntil_: number;
  helloDue_?: boolean;
  attachDue_?: boolean;
  /** The number of the latest ping. */
  ping_: number;
  pingDue_?: boolean;
  /** The answer to the latest ping; and the one that was said last, in case its push is lost. */
  pongDue_?: Frame | undefined;
  pongSaid_?: Frame;
  closingSaid_?: boolean;
  closeSaid_?: boolean;
  /** Whether the path was proved to carry both ways; and whether it is to be proved once more. */
  proved_?: boolean;
  probed_?: boolean;
  /** Until when a path that was proved is on trial; after how much silence it is asked next; whether messages have passed
   * since it was asked; whether it was asked on trial. */
  trialUntil_?: number;
  silence_: number;
  eventful_?: boolean;
  tried_?: boolean | undefined;
  /** Whether a poll is open, since when, whether it has brought anything, and when the next may go. */
  pollOpen_?: boolean;
  polled_: number;
  fruitful_?: boolean;
  pollAt_: number;
  /** What was acknowledged when it began to carry. */
  base_?: number;
  /** How long the next poll asks to be held. */
  hold_?: number | undefined;
  /** When to ask whether the path lives. */
  probeAt_: number;
  /** What was acknowledged when a push ended last; pushes in a row without progress, and without answer; and until when
   * messages wait. */
  pushAcked_: number;
  fruitless_: number;
  unanswered_: number;
  retryAt_: number;
}

/** After so much silence a path on trial is asked; it doubles, and the minute has room for five. */
const SILENCE = 1_000;

/** One of which the `hello` is to be said now, and welcomed by a time. */
export const createBinding = (attachment: number, kind: TransportKind, candidate: boolean, now: number, until: number): Binding => ({
  attachment_: attachment,
  kind_: kind,
  stage_: GREETING,
  candidate_: candidate,
  until_: until,
  heard_: now,
  whole_: now,
  asked_: now,
  polled_: now,
  helloDue_: true,
  spokeAt_: Infinity,
  outlived_: 0,
  pausedUntil_: 0,
  pollAt_: Infinity,
  probeAt_: Infinity,
  retryAt_: Infinity,
  ping_: 0,
  silence_: SILENCE,
  pushAcked_: 0,
  fruitless_: 0,
  unanswered_: 0,
});
