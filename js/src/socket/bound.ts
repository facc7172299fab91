/** A transport as its socket sees it: being opened, and introduced to the session. */

import type { Binding } from "../session/binding.js";
import type { Carrier } from "../transport/transport.js";
import type { ThroughlineError } from "../error.js";

/** What is being opened, and since when. */
export interface Attempt {
  begun_: number;
  carrier_?: Carrier;
  timer_?: ReturnType<typeof setTimeout>;
}

/** A transport that was introduced to the session. */
export interface Bound extends Binding {
  begun_: number;
  carrier_: Carrier;
  /** Whether somebody asked for it by name. */
  wished_: boolean;
  /** Since when it carries, or did. */
  openedAt_?: number;
  failure_?: ThroughlineError | undefined;
}
