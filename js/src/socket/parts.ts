/** What a socket can do without, so that a bundler can leave it out. `connect` has it all. */

import type { Codec, TransportKind } from "../frame/frame.js";
import type { Binding } from "../session/binding.js";
import type { Close } from "../session/close.js";
import type { Journal } from "../session/saved.js";
import type { Session } from "../session/session.js";
import type { ThroughlineError } from "../error.js";

/** What the page's part needs of a socket. */
export interface PageInner {
  readonly codec_: Codec;
  /** The session is kept, and outlives the page. */
  readonly keeps_: boolean;
  url_(): string;
  /** The session, at the time that it is. */
  session_(): Session;
  /** Looks whether the path lives, or tries to find one at once. */
  look_(): void;
  /** Stops dialling, or goes on. */
  away_(now: boolean): void;
  /** Lets all transports go. */
  drop_(): void;
}

/** What giving up needs of a socket. */
export interface PatienceInner {
  session_(): Session;
  /** Why nothing carries the session, if nothing does. */
  reason_(): ThroughlineError | undefined;
  giveUp_(close: Close): void;
}

export interface Roaming {
  /** What carries now, if anything does; `atOnce` where the network may be another. */
  carried_(kind?: TransportKind, atOnce?: boolean): void;
  /** A carrier has ended by itself, in the middle of traffic at that age; or otherwise (`NaN`). */
  died_(kind: TransportKind, life: number): void;
}

export interface Parts {
  /** What worked for an origin another time, if that is known; and a way to note it. */
  readonly memory_?: (origin: string) => { readonly kind_: TransportKind | undefined; note_(kind: TransportKind): void };
  readonly journal_?: Journal;
  /** Watches the page's life, until the returned function is called. */
  readonly page_?: (inner: PageInner) => () => void;
  /** Calls back before a token runs out that is good for so long; with 0 it does not. */
  readonly renewal_?: (renew: (failed: () => void) => void) => (expires: number) => void;
  /** Hears of each carrier that has ended, and whether it ever worked; and then of none. */
  readonly patience_?: (inner: PatienceInner) => (ended?: Binding, worked?: unknown) => void;
  /** Tries better transports beside the one that carries, in turn, until it is told of none; or another of its kind, before it ends
   * by itself at an age at which others did. */
  readonly roaming_?: (seek: (kind: TransportKind, turn?: number) => void) => Roaming;
}
