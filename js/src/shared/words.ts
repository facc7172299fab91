/** What tabs that share a session say to one another, over a `BroadcastChannel`. */

import { ThroughlineError } from "../error.js";

export type Kind = "send" | "deliver" | "request";
/** How many messages of each tab are stored, by the name of the tab; who said something last stands last. */
export type Told = Record<string, number>;
/** An error, as a channel can bear it. */
export type Plain = readonly [code: string, text: string, body?: unknown];
/** Arrays, so that no name changes by a build. */
export type Word<Out> =
  | readonly ["hi"]
  | readonly ["bye", tab: string]
  | readonly ["echo", tab: string]
  | readonly ["lead", tab: string, told: Told]
  | readonly ["from", tab: string, no: number]
  | readonly ["send", tab: string, no: number, kind: Kind, body: Out]
  | readonly ["told", told: Told]
  | readonly ["done", tab: string, no: number, error: Plain | undefined, value: unknown]
  | readonly ["state", state: object, reason: Plain | undefined]
  | readonly ["message", session: string, seq: number, body: unknown]
  | readonly ["lost", reason: Plain, unknown: readonly Out[]];

/** So many messages of a tab may wait to be stored, and of so many tabs is remembered how far they are. */
export const MOST = 1024;

export const plain = ({ code, message, body }: ThroughlineError): Plain => [code ?? "failed", message, body];
export const unplain = ([code, text, body]: Plain) => new ThroughlineError(code, text, body === undefined ? undefined : { body });

/** Waits for a lock, and holds it until the returned function is called. */
export const hold = (name: string, signal: AbortSignal): Promise<() => void> =>
  new Promise((resolve, reject) => {
    navigator.locks.request(name, { signal }, () => new Promise<void>((release) => resolve(release))).catch(reject);
  });
