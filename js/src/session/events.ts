/** What a session tells its driver. */

import type { MessageFrame, Move } from "../frame/frame.js";
import type { Binding } from "./binding.js";
import type { Close } from "./close.js";
import type { Held } from "./outbox.js";

/** Who ended a session: this end, the peer, or time. */
export type EndedBy = "local" | "peer" | "timeout";

/** Why a transport was given up. With `closed` there is a close. */
export type Why =
  | "ended"
  | "superseded"
  | "gap"
  | "silent"
  | "no welcome"
  | "unproved"
  | "uplink lost"
  | "malformed"
  | "closed";

/** What a session tells, by the name of what happened. */
export interface SessionEvents {
  attached_: [bound: Binding, resumed: boolean];
  detached_: [bound: Binding, why: Why, close?: Close];
  message_: [frame: MessageFrame];
  reply_: [request: Held, succeeded: boolean, body: unknown];
  /** An own message failed, of which nobody waits to hear. */
  failed_: [seq: number, body: unknown];
  auth_: [expiresMs: number];
  move_: [move: Move];
  /** Nothing comes after. */
  ended_: [close: Close, by: EndedBy, undelivered: readonly Held[]];
}
export type Listener = { [Name in keyof SessionEvents]: (...event: SessionEvents[Name]) => void };
