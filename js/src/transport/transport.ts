/** One live carrier of frames, whatever it is. It knows frames, not sessions: no rule of the protocol can live here. */

import type { Codec, Frame, Packed, TransportKind } from "../frame/frame.js";
import type { Binding } from "../session/binding.js";
import type { HttpRules } from "../session/http.js";
import type { CreatePlan } from "../socket/plan.js";
import type { ThroughlineError } from "../error.js";

/** Where a session's requests go, and how. */
export interface Target {
  readonly url_: string;
  readonly codec_: Codec;
  readonly credentials_: RequestCredentials;
}

/** What a carrier tells. After `ended_`, and after `end_` was called, nothing. */
export interface Hooks {
  /** It can be introduced: its first batch is the `hello`. */
  open_(): void;
  /** A frame came, on the path itself or in the answer to a push. */
  frame_(frame: Frame, push: boolean): void;
  /** Something happened that only the rules of its kind know. */
  rules_(use: (rules: ReturnType<HttpRules>, bound: Binding) => void): void;
  /** A box on the way refused a body of so many bytes, or a message alone in it. */
  refused_(size: number, alone: boolean): void;
  ended_(error: ThroughlineError): void;
}

export interface Carrier {
  /** Whether a batch may be sent now. */
  ready_(): boolean;
  /** A push may take so long, in milliseconds. */
  send_(frames: readonly Packed[], within: number): void;
  /** Long-polling: asks for the next batch, in place of any request that still waits. */
  poll_?(poll: Packed): void;
  /** Ends it, with a last word. */
  end_(last?: readonly Packed[]): void;
}

export interface Transport {
  readonly kind_: TransportKind;
  /** Rules of the session that only this kind needs. */
  readonly rules_?: HttpRules;
  /** Chooses among several: those that are the second choice bring it along. */
  readonly plan_?: CreatePlan;
  open_(target: Target, hooks: Hooks): Carrier;
}
